//! Calls of the client that block, run off the async runtime.

use crate::KafkaError;

/// Runs a call; a call that panicked is an error of the client.
pub(crate) async fn blocking<T: Send + 'static>(
    call: impl FnOnce() -> Result<T, KafkaError> + Send + 'static,
) -> Result<T, KafkaError> {
    tokio::task::spawn_blocking(call).await.map_err(|error| KafkaError::Client(error.to_string()))?
}
