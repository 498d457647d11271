//! What the runtimes that describe one container at a time (Docker, CRI) have in common.

use driftline_schemas::ContainerId;

use crate::RuntimeError;
use crate::inspect::Inspected;

/// A runtime that describes one container in each call.
pub(crate) trait OneByOne {
    /// Describes a container or sandbox; nothing when the runtime does not know it.
    async fn inspect(&self, id: &ContainerId) -> Result<Option<Inspected>, RuntimeError>;

    /// Ids of containers and sandboxes that run.
    async fn running_ids(&self) -> Result<Vec<ContainerId>, RuntimeError>;

    /// Describes all that run. One that cannot be described is logged and left out.
    async fn running(&self) -> Result<Vec<Inspected>, RuntimeError> {
        let mut running = Vec::new();
        for id in self.running_ids().await? {
            match self.inspect(&id).await {
                Ok(container) => running.extend(container),
                Err(error) => tracing::warn!(%error, %id, "container cannot be described"),
            }
        }
        Ok(running)
    }
}
