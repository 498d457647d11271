//! Tests the services as separate processes on a real Kafka, which `make test` provides. Without `KAFKA_BOOTSTRAP` each
//! test here reports that it did not run.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

mod analyze;
mod backpressure;
mod bad_input;
mod command_line;
mod confluence;
mod delivery;
mod dev_kafka;
mod failing_store;
mod gap;
mod harness;
mod image_memory;
mod image_store;
mod images;
mod invariant;
mod latency;
mod log;
mod membership;
mod outage;
mod quiet;
mod record;
mod recording;
mod restore;
mod spool;
mod start;
mod telemetry;
mod topics;
mod unowned;
