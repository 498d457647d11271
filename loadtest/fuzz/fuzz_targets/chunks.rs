//! See `driftline_indexer::fuzzing::chunks`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| driftline_indexer::fuzzing::chunks(bytes));
