//! Calls of the client that block, run off the async runtime. On threads of their own: a program that ends waits for the
//! blocking tasks of its runtime, and a call to a Kafka that is away may take minutes.

use tokio::sync::oneshot;

use crate::KafkaError;

/// Runs a call; a call that panicked is an error of the client.
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
