//! What every service needs and none should write twice.
//!
//! * [`settings`]: settings that several services turn into the same type.
//! * [`checks`]: what a doctor finds, and its table.
//! * [`clock`]: the only place that asks what time it is.
//! * [`log_limit`]: so many lines a minute about what input causes.
//! * [`telemetry`]: logs, Prometheus metrics, `/healthz`, `/readyz`.
//! * [`service`]: the loop around an executor: what comes in, when to commit, what is counted.
//! * [`shutdown`]: SIGTERM and SIGINT.
//!
//! What is deliberately absent: anything that knows what a record means.

pub mod checks;
pub mod clock;
pub mod log_limit;
pub mod service;
pub mod settings;
pub mod shutdown;
pub mod telemetry;
