//! See `driftline_indexer::fuzzing::tar`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| driftline_indexer::fuzzing::tar(bytes));
