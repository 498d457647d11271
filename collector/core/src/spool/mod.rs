//! Pure part of the spool, which holds the records that Kafka has not acknowledged, and reports those that it could not
//! hold.
//!
//! Every record has a sequence number, one more than the one before; sequences go on over restarts. Records wait in a
//! [`Window`] in memory until they are acknowledged. What the window cannot take, or what Kafka does not acknowledge in
//! time, is written to segments ([`frame`]), which a [`Ledger`] accounts for. Records that are given up are counted in [`Gaps`] until
//! the loss record about them is safe. A [`SafeMoment`] is the moment until which every exec is safe; it is in
//! the [`Checkpoint`], so that the next start knows what a killed collector took with it.
//!
//! What is deliberately absent: files and Kafka. They are in the shell, `spool` and `outbox` of `driftline-collector`.

mod checkpoint;
pub mod frame;
mod gaps;
mod ledger;
mod safe;
mod window;

pub use checkpoint::Checkpoint;
pub use frame::{Frame, Kind, Stamp};
pub use gaps::{Gap, Gaps};
pub use ledger::{Ledger, Segment};
pub use safe::{Progress, SafeMoment};
pub use window::{Entry, Window};
