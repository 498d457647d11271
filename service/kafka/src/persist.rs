//! Repeats a request to Kafka while its failures pass by themselves. Called for every request of a service's start, and
//! for the requests of a takeover.

use std::time::Duration;
use tokio::time::{Instant, sleep};

use crate::KafkaError;

const PAUSE: Duration = Duration::from_millis(500);
/// An answer that takes longer is logged.
const SLOW: Duration = Duration::from_secs(2);

/// Repeats a call until it succeeds, as long as its failures are [`KafkaError::Passing`] and `patience` lasts.
///
/// # Errors
/// The first failure that does not pass, or the last one when `patience` is over.
pub async fn persist<T, F: Future<Output = Result<T, KafkaError>>>(
    patience: Duration,
    what: &'static str,
    mut call: impl FnMut() -> F,
) -> Result<T, KafkaError> {
    let began = Instant::now();
    let mut is_reported = false;
    loop {
        match call().await {
            Err(error @ KafkaError::Passing(_)) if began.elapsed() < patience => {
                if !is_reported {
                    tracing::warn!(%error, what, "kafka does not answer yet; asking again");
                    is_reported = true;
                }
                sleep(PAUSE).await;
            }
            answer => {
                if answer.is_ok() && began.elapsed() > SLOW {
                    tracing::info!(what, seconds = began.elapsed().as_secs_f64(), "kafka answered late");
                }
                return answer;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rdkafka::error::{KafkaError as ClientError, RDKafkaErrorCode as Code};
    use std::cell::Cell;

    /// The result after two failures of a kind, and the number of calls.
    async fn after_two(failure: fn() -> KafkaError, patience: Duration) -> (Result<u32, KafkaError>, u32) {
        let asked = Cell::new(0_u32);
        let answer = persist(patience, "test", || {
            asked.set(asked.get() + 1);
            let answer = if asked.get() > 2 { Ok(7) } else { Err(failure()) };
            async move { answer }
        });
        (answer.await, asked.get())
    }

    #[tokio::test]
    async fn what_passes_is_asked_again_within_the_patience_and_what_does_not_is_returned_at_once() {
        let passing = || KafkaError::Passing(ClientError::MetadataFetch(Code::LeaderNotAvailable));
        let (answer, asked) = after_two(passing, Duration::from_secs(2)).await;
        assert!(matches!(answer, Ok(7)) && asked == 3, "{answer:?} after {asked}");
        let (answer, asked) = after_two(passing, Duration::from_millis(400)).await;
        assert!(matches!(answer, Err(KafkaError::Passing(_))) && asked == 2, "{answer:?} after {asked}");
        let refused = || KafkaError::Client(ClientError::MetadataFetch(Code::TopicAuthorizationFailed));
        let (answer, asked) = after_two(refused, Duration::from_secs(2)).await;
        assert!(matches!(answer, Err(KafkaError::Client(_))) && asked == 1, "{answer:?} after {asked}");
    }
}
