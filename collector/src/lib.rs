//! The shell of the collector: everything around the pure core that touches the node.
//!
//! One task ([`collector`]) owns the core and does what it asks; at its edges are the thread that reads the rings
//! ([`reader`]), the threads that hash ([`hasher`], and [`strict`] if it is on), the task that asks the runtimes ([`describer`]), and Kafka with the
//! spool before it ([`outbox`], [`spool`]). A library, so
//! that the live test can put the same parts together without Kafka.
//!
//! What is deliberately absent: decisions. Which file is what, what waits for what, what is lost: `driftline-collector-core`.

pub mod collector;
pub mod describer;
pub mod doctor;
pub mod files;
pub mod hasher;
pub mod kept;
pub mod metrics;
pub mod outbox;
pub mod poll_schedule;
pub mod proc;
pub mod reader;
pub mod rights;
pub mod self_test;
pub mod settings;
pub mod spool;
pub mod strict;
