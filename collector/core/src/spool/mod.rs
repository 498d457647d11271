//! Pure part of the spool: what keeps the records that Kafka has not acknowledged, and what is said of those it could
//! not keep.
//!
//! Every record has a sequence number, one more than the one before; sequences go on over restarts. Records wait in a
//! [`Window`] in memory until they are acknowledged. What the window cannot take, or what Kafka does not acknowledge in
//! time, stands in segments ([`frame`]) that a [`Ledger`] knows. Records that are given up are counted in [`Gaps`] until
//! the record that says so is safe. A [`SafeMoment`] follows until when every exec has been brought to safety; it stands in
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
