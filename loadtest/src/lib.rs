//! Real workloads and their expected results.
//!
//! * [`demo`]: builds a fresh image, runs programs in a container, and compares findings and alerts with the executed
//!   steps.
//! * [`expected`]: the oracle: the expected results of a workload, and every difference from them.
//! * [`bench_collector`]: the cost of an exec under the node collector and under other observers.
//! * [`chaos`]: faults in the services and in three brokers, and a check for lost and duplicate records.
//! * [`collect`]: reads whole topics for comparison.
//! * [`memory`]: memory of a process.
//! * [`own_kafka`]: a separate broker, for tests that freeze or kill it.
//! * [`services`]: the service binaries as child processes, for tests.
//! * [`workload`]: any number of synthetic containers and execs, with the expected findings.
//!
//! What is deliberately absent: any decision that the services make. The oracle knows the executed steps, not the
//! detection.

pub mod bench_collector;
pub mod chaos;
pub mod collect;
pub mod demo;
pub mod expected;
pub mod memory;
pub mod own_kafka;
pub mod services;
pub mod workload;
