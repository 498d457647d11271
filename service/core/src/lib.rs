//! The contract between a pure core and the shell that feeds it, and the executor that joins them.
//!
//! A service is: a closed input enum, a synchronous [`Stage::apply`] that changes state and returns [`Effects`], and an
//! [`Executor`] that carries the effects out on a [`Log`], in transactions: outputs, state changelog and input offsets
//! become visible together or not at all. Production runs the executor over Kafka; the simulation in `loadtest/sim`
//! runs the same code over topics in memory.
//!
//! What is deliberately absent: I/O of any kind, clocks and threads. Time is an argument, results of commands are
//! inputs, and the executor accesses Kafka only through a [`Log`].

mod dead_letters;
mod effects;
mod executor;
mod log;
mod record;
mod stage;

pub use effects::{Disposition, Effects, Outgoing, StateKey};
pub use executor::{Counts, Executor, Pending, Roles, Stop};
pub use log::{Committed, InputRange, Log, LogError, PartitionImage, StateChange, StateImages};
pub use record::Record;
pub use stage::{BrokenInvariant, Gap, Position, Stage};
