//! How long the loss of a broker may take, and the resulting limits of requests, calls and transactions. The clients'
//! settings and every limit of waiting in this package are derived from these.

use std::time::Duration;

/// The controller considers a crashed broker dead after `broker.session.timeout.ms`, 9 s by default.
pub(crate) const BROKER_SESSION: Duration = Duration::from_secs(9);
/// A request without an answer for this long is given up together with its connection, and repeated: the broker is
/// gone, or a network was cut and TCP would retry ever more seldom. The client also waits this long for a remembered
/// coordinator before it looks up the present one, so a commit after the loss of a broker takes [`BROKER_SESSION`] and
/// this. Brokers recognise repeated records by their sequence.
pub(crate) const REQUEST_MAX: Duration = Duration::from_secs(5);
/// Leaders and coordinators are elected, their logs loaded and clients informed within this time; the next acknowledged
/// record was seen 2 s after the session.
const FAILOVER_MAX: Duration = Duration::from_secs(11);
/// Least time for a call that a crashed broker does not answer any more: another broker answers it then.
pub(crate) const BROKER_LOSS_MAX: Duration = BROKER_SESSION.saturating_add(FAILOVER_MAX);
/// The broker aborts a transaction that is open longer, so that a dead instance does not hold up readers. The value is
/// longer than the loss of a broker takes; a successor with the same name does not wait for it.
pub(crate) const TRANSACTION_TIMEOUT: Duration = BROKER_LOSS_MAX.saturating_add(Duration::from_secs(5));
