//! Deterministic simulation: the production cores and the production effect executor over topics in memory, in virtual
//! time, with faults. A seed determines the whole run, so a failing seed can be run again.
//!
//! - [`run()`] draws a workload and its expectation, lets instances of both services work on it while they crash, hang,
//!   lose partitions and find their transactions aborted, and then lets all input be processed without faults.
//! - The invariants of `docs/invariants.md` are checked throughout. In the end, the output is compared with an oracle
//!   that computes it naively, and with the same run on one instance without faults.
//! - [`shrink()`] leaves out faults of a failing run, as long as it still fails.
//! - [`Mutant`]s are bugs put around the production code on purpose: each must be caught.
//!
//! What is deliberately absent: real time, threads, sockets, and any decision of the services themselves.

mod broker;
mod checks;
mod clock;
mod consumer_group;
mod fault;
mod log;
mod mutant;
mod oracle;
mod planted;
mod process;
mod rng;
mod run;
mod service;
mod shrink;
mod violation;
mod watch;
mod workload;
mod world;

pub use fault::{Fault, Hits};
pub use mutant::Mutant;
pub use rng::Rng;
pub use run::{Options, Report, Trace, run, run_without};
pub use shrink::{Shrunk, shrink};
pub use violation::Violation;
