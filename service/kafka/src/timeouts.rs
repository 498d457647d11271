//! How long the loss of a broker may take, and what follows from it for requests, calls and transactions. The clients'
//! settings and every limit of waiting in this package are derived from these.

use std::time::Duration;

/// The controller takes a broker that crashed for dead after `broker.session.timeout.ms`, 9 s by default.
pub(crate) const BROKER_SESSION: Duration = Duration::from_secs(9);
/// A request that is not answered for as long is given up with its connection, and repeated: the broker is gone, or a
/// network was cut in between and TCP would try again ever more seldom. The client also waits as long for a coordinator
/// that it remembers before it asks for the present one, so a commit after the loss of a broker takes
/// [`BROKER_SESSION`] and this. Brokers tell records that are repeated by their sequence.
pub(crate) const REQUEST_MAX: Duration = Duration::from_secs(5);
/// Leaders and coordinators are elected, their logs loaded and clients told within this; the next acknowledged record was
/// seen 2 s after the session.
const FAILOVER_MAX: Duration = Duration::from_secs(11);
/// What a call that a crashed broker does not answer any more has to be given: another one answers it then.
pub(crate) const BROKER_LOSS_MAX: Duration = BROKER_SESSION.saturating_add(FAILOVER_MAX);
/// A transaction that is open longer is aborted by the broker, so that a dead instance does not hold up readers. Longer
/// than the loss of a broker takes; a successor of the same name does not wait for it.
pub(crate) const TRANSACTION_TIMEOUT: Duration = BROKER_LOSS_MAX.saturating_add(Duration::from_secs(5));
