//! Runs the client's blocking calls outside the async runtime, on threads of their own. A process that ends waits for
//! the blocking tasks of its runtime, and a call to a Kafka that does not answer may take minutes.

use tokio::sync::oneshot;

use crate::KafkaError;

/// Runs a call; if the call panics, returns an error of the client.
pub(crate) async fn blocking<T: Send + 'static>(
    call: impl FnOnce() -> Result<T, KafkaError> + Send + 'static,
) -> Result<T, KafkaError> {
    let (answer, answered) = oneshot::channel();
    std::thread::Builder::new()
        .name("kafka-call".into())
        .spawn(move || drop(answer.send(call())))
        .map_err(KafkaError::Thread)?;
    answered.await.map_err(|_| KafkaError::Failed("a call of the client panicked".to_owned()))?
}
