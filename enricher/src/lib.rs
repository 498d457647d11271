//! Parts of the enricher's shell that tests and measurements use beside its binary.

pub mod store;
