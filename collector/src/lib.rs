//! The shell of the collector: everything around the pure core that touches the node.
//!
//! One task ([`collector`]) owns the core and carries out its commands (`commands`). Around it are the thread that reads the
//! rings ([`reader`]), the threads that hash ([`hasher`], and [`strict`] if it is on), the task that describes containers
//! ([`describer`]), and Kafka with the spool before it ([`outbox`], [`spool`]). A library, so that the live test can assemble
//! the same parts without Kafka.
//!
//! What is deliberately absent: decisions. The class of a file, what waits for what, what is lost: `driftline-collector-core`
//! decides.

pub mod collector;
mod commands;
pub mod copy;
pub mod describer;
pub mod doctor;
pub mod files;
pub mod hasher;
pub mod metrics;
pub mod outbox;
pub mod poll_schedule;
pub mod proc;
pub mod reader;
pub mod retained;
pub mod rights;
pub mod self_test;
pub mod settings;
pub mod spool;
pub mod strict;
