//! See `driftline_indexer::fuzzing::documents`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| driftline_indexer::fuzzing::documents(bytes));
