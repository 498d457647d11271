//! Tells a hiccup from an outage. The client retries for ever by itself and reports each failure once; a service that
//! waits for ever for a Kafka that is gone helps nobody, so after [`OUTAGE_MAX`] without an answer reading ends.

use rdkafka::client::ClientContext;
use rdkafka::consumer::{BaseConsumer, Consumer as _, ConsumerContext};
use std::time::Duration;
use tokio::time::Instant;

use crate::KafkaError;

/// Brokers may be away this long before reading ends; a rolling restart of one takes less.
pub(crate) const OUTAGE_MAX: Duration = Duration::from_secs(60);
/// While brokers may be away, ask this often whether they are back.
const ASK_EVERY: Duration = Duration::from_secs(2);

/// What is known of the connection.
#[derive(Debug)]
pub(crate) struct Outage {
    bootstrap: String,
    /// When a failure was reported that may be an outage, and when to ask next.
    suspected: Option<(Instant, Instant)>,
}

impl Outage {
    pub(crate) fn new(bootstrap: &str) -> Self {
        Self { bootstrap: bootstrap.to_owned(), suspected: None }
    }

    /// The client reported a failure that it retries by itself.
    pub(crate) fn suspect(&mut self) {
        let now = Instant::now();
        self.suspected.get_or_insert((now, now + ASK_EVERY));
    }

    /// Asks the brokers, if it is time to.
    ///
    /// # Errors
    /// [`KafkaError::Unreachable`] when they have been away for [`OUTAGE_MAX`].
    pub(crate) fn check<C: ClientContext + ConsumerContext>(
        &mut self,
        consumer: &BaseConsumer<C>,
    ) -> Result<(), KafkaError> {
        let Some((since, ask_at)) = self.suspected else { return Ok(()) };
        if Instant::now() < ask_at {
            return Ok(());
        }
        match consumer.fetch_metadata(None, ASK_EVERY) {
            Ok(_) => {
                tracing::info!(seconds = since.elapsed().as_secs(), "kafka answers again");
                self.suspected = None;
                Ok(())
            }
            Err(error) if since.elapsed() > OUTAGE_MAX => Err(KafkaError::Unreachable {
                bootstrap: self.bootstrap.clone(),
                tried_s: since.elapsed().as_secs(),
                why: error.to_string(),
            }),
            Err(_) => {
                self.suspected = Some((since, Instant::now() + ASK_EVERY));
                Ok(())
            }
        }
    }
}
