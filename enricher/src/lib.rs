//! Parts of the enricher's shell that tests and benchmarks use as well as its binary.

pub mod store;
