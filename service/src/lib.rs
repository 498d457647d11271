//! The parts that all services share.
//!
//! * [`settings`]: settings that several services turn into the same type.
//! * [`checks`]: the results of a doctor, and their table.
//! * [`clock`]: the only module that reads the clock.
//! * [`log_limit`]: limits the log lines per minute that input can cause.
//! * [`telemetry`]: logs, Prometheus metrics, `/healthz`, `/readyz`.
//! * [`service`]: the loop around an executor: input, commits, counters.
//! * [`shutdown`]: SIGTERM and SIGINT.
//!
//! What is deliberately absent: anything that depends on the meaning of a record.

pub mod checks;
pub mod clock;
pub mod log_limit;
pub mod service;
pub mod settings;
pub mod shutdown;
pub mod telemetry;
