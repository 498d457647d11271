//! Distinguishes a short failure from an outage, and reports each outage once. The client reconnects for ever by itself
//! and reports each failed attempt. The polling thread passes these reports on, and regularly checks whether the
//! brokers answer again.

use rdkafka::client::ClientContext;
use rdkafka::consumer::{BaseConsumer, Consumer as _, ConsumerContext};
use rdkafka::error::KafkaError as ClientError;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::oneshot;
use tokio::time::Instant;

use crate::{ClientSettings, KafkaError};

/// Interval of the checks while brokers may be unreachable.
const ASK_EVERY: Duration = Duration::from_secs(2);

/// Longest wait for an answer by a caller that does nothing else, and the pause before the next request.
const PAUSE: Duration = Duration::from_millis(500);

/// The state of the connection.
#[derive(Debug, Default)]
pub(crate) struct Outage {
    suspected: Option<Suspicion>,
}

#[derive(Debug)]
struct Suspicion {
    since: Instant,
    ask_at: Instant,
    /// Why no broker answered, if the last request failed.
    away: Option<String>,
}

/// A change of the connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reach {
    /// No broker answers.
    Away,
    /// A broker answers again.
    Back,
}

impl Outage {
    /// The client reported a failure that it retries by itself.
    pub(crate) fn suspect(&mut self, error: &ClientError) {
        if self.suspected.is_none() {
            tracing::warn!(%error, "kafka client goes on after an error");
            let since = Instant::now();
            self.suspected = Some(Suspicion { since, ask_at: since + ASK_EVERY, away: None });
        } else {
            tracing::debug!(%error, "kafka client goes on after an error");
        }
    }

    /// Contacts the brokers, if a check is due. Blocks for up to [`ASK_EVERY`].
    pub(crate) fn check<C: ClientContext + ConsumerContext>(&mut self, consumer: &BaseConsumer<C>) -> Option<Reach> {
        let suspicion = self.suspected.as_mut().filter(|suspicion| suspicion.ask_at <= Instant::now())?;
        let seconds = suspicion.since.elapsed().as_secs();
        match consumer.fetch_metadata(None, ASK_EVERY) {
            Ok(_) => {
                let was_away = self.suspected.take().is_some_and(|suspicion| suspicion.away.is_some());
                if was_away {
                    tracing::info!(seconds, "kafka answers again");
                }
                was_away.then_some(Reach::Back)
            }
            Err(error) => {
                suspicion.ask_at = Instant::now() + ASK_EVERY;
                let is_new = suspicion.away.is_none();
                if is_new {
                    tracing::warn!(%error, seconds, "no kafka broker answers; reconnecting until one does");
                }
                suspicion.away = Some(error.to_string());
                is_new.then_some(Reach::Away)
            }
        }
    }

    /// The error for a caller that does not wait longer than `patience`.
    pub(crate) fn longer_than(&self, patience: Duration, bootstrap: &str) -> Option<KafkaError> {
        let suspicion = self.suspected.as_ref().filter(|suspicion| suspicion.since.elapsed() > patience)?;
        let why = suspicion.away.clone()?;
        let tried_s = suspicion.since.elapsed().as_secs();
        Some(KafkaError::Unreachable { bootstrap: bootstrap.to_owned(), tried_s, why })
    }
}

/// Keeps the client's last log text about a failure: its errors are codes, its log text names the host and the cause.
#[derive(Default)]
struct LastWords(Mutex<String>);

impl ClientContext for LastWords {
    fn error(&self, _: ClientError, reason: &str) {
        reason.clone_into(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner));
    }
}

impl ConsumerContext for LastWords {}

/// Waits until a broker answers. Dropping the future ends the waiting.
///
/// # Errors
/// [`KafkaError::Unreachable`] after `patience`.
pub(crate) async fn answered(settings: &ClientSettings, patience: Duration) -> Result<(), KafkaError> {
    let consumer: BaseConsumer<LastWords> = settings.config().create_with_context(LastWords::default())?;
    let (answer, wanted) = oneshot::channel();
    let bootstrap = settings.bootstrap.clone();
    let connect = move || {
        let began = Instant::now();
        while !answer.is_closed() {
            let Err(error) = consumer.fetch_metadata(None, PAUSE) else { return drop(answer.send(Ok(()))) };
            while consumer.poll(Duration::ZERO).is_some() {}
            if began.elapsed() >= patience {
                let words = consumer.context().0.lock().unwrap_or_else(PoisonError::into_inner).clone();
                let why = if words.is_empty() { error.to_string() } else { words };
                let tried_s = began.elapsed().as_secs();
                return drop(answer.send(Err(KafkaError::Unreachable { bootstrap, tried_s, why })));
            }
            std::thread::sleep(PAUSE);
        }
    };
    std::thread::Builder::new().name("kafka-waiting".into()).spawn(connect).map_err(KafkaError::Thread)?;
    wanted.await.map_err(|_| KafkaError::Failed("the thread that waits for kafka ended".to_owned()))?
}
