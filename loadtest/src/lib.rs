//! Real workloads and what must come of them.
//!
//! * [`demo`]: builds a fresh image, runs programs in a container, and compares findings and alerts with what it did.
//! * [`expected`]: the oracle: what a workload must lead to, and every way in which it did not.
//! * [`bench_collector`]: what an exec costs under the node collector and under other observers.
//! * [`chaos`]: faults against the services on three brokers, and whether anything was lost or came twice.
//! * [`collect`]: reads whole topics for comparison.
//! * [`memory`]: memory of a process.
//! * [`own_kafka`]: a broker of its own, for tests that ill-treat it.
//! * [`services`]: the service binaries as child processes, for tests.
//! * [`workload`]: as many synthetic containers and execs as a test likes, with what must be found of them.
//!
//! What is deliberately absent: any decision that the services make. The oracle knows what was done, not how it is
//! detected.

pub mod bench_collector;
pub mod chaos;
pub mod collect;
pub mod demo;
pub mod expected;
pub mod memory;
pub mod own_kafka;
pub mod services;
pub mod workload;
