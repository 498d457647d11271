//! Pure part of the correlator: sessions, score, alerts.
//!
//! The input is findings, the output alert revisions, in Avro and in SIEM formats. Each layer knows only those below
//! it: [`Correlator`] (the stage) → `partition` (which session a finding joins, how long each session is kept) →
//! `session` (the content computed from its findings, when a revision is due) → `alert` (the record) → `score`,
//! `message`, `response`, `bounds`.
//!
//! Invariants, each with its test:
//! - Which session a finding joins depends on the order of the log and on event times, never on the wall clock. The
//!   clock decides only when a revision is emitted. What can break this (a limit reached, a finding later than sessions
//!   are kept) is flagged in the alert.
//! - The content of an alert is a function of the set of finding revisions in its session: amendments may arrive in any
//!   order and any number of times.
//! - Revision numbers have no gaps. The points shown in an alert add up to its score.
//! - No map or list grows beyond a maximum named in [`limits`] or [`Settings`].
//! - Sessions outlive the process: every change of one is written to the changelog, and a restored session continues
//!   unchanged.
//!
//! What is deliberately absent: policies. The shell must hold back [`Input::Tick`] until it has read to the end that
//! the topic had when the partition was assigned. Otherwise sessions become final while findings that belong to them
//! are still unread.

mod alert;
mod bounds;
mod command;
mod correlator;
mod emitter;
mod finding;
mod format;
mod headers;
mod lost;
mod memory;
mod message;
mod partition;
mod resource;
mod response;
mod score;
mod session;
mod settings;
mod state_key;
mod subject;
mod window;

pub mod limits;
pub mod mitre;
pub mod telemetry;
pub mod text;

pub use alert::strongest;
pub use command::Command;
pub use correlator::{Correlator, Input};
pub use format::{FormatError, SiemFormat};
pub use headers::{HEADERS, headers};
pub use score::{ROWS, ScoreRow};
pub use settings::{Options, Settings, SettingsErrors, THRESHOLDS};

#[cfg(test)]
mod fixtures;
#[cfg(test)]
mod tests;
