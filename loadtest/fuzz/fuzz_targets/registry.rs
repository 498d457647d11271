//! See `driftline_indexer::fuzzing::registry`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| driftline_indexer::fuzzing::registry(bytes));
