//! Scans the running containers every few seconds, so that their images are indexed before they are requested.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use driftline_engines::{RuntimeSettings, Runtimes};
use driftline_schemas::ContainerId;
use driftline_service::log_limit::LogLimit;
use prometheus::IntGauge;
use tokio::sync::{mpsc, watch};

use crate::service::plan::Job;

/// Interval at which runtimes that did not answer are queried again.
const DETECT_AGAIN: Duration = Duration::from_secs(30);

/// Finds images of running containers until the receiver is dropped.
#[derive(Debug)]
pub(super) struct Scanner {
    pub(super) settings: RuntimeSettings,
    pub(super) pause: Duration,
    pub(super) runtimes: watch::Sender<Arc<Runtimes>>,
    pub(super) found: mpsc::Sender<Job>,
    pub(super) answering: IntGauge,
}

impl Scanner {
    pub(super) async fn run(self) {
        let mut seen = BTreeSet::new();
        let mut since_detect = Duration::ZERO;
        let mut lines = LogLimit::default();
        loop {
            lines.log_left_out("containers whose image is not indexed");
            let runtimes = Arc::clone(&self.runtimes.borrow());
            self.answering.set(i64::try_from(runtimes.answering().count()).unwrap_or(i64::MAX));
            if self.scan_once(&runtimes, &mut seen, &mut lines).await.is_err() {
                return;
            }
            tokio::time::sleep(self.pause).await;
            since_detect += self.pause;
            if since_detect >= DETECT_AGAIN && runtimes.states().iter().any(|state| state.state.is_err()) {
                since_detect = Duration::ZERO;
                self.detect_again(&runtimes).await;
            }
        }
    }

    /// Reports the images of new containers; fails when the receiver is dropped.
    async fn scan_once(
        &self,
        runtimes: &Runtimes,
        seen: &mut BTreeSet<ContainerId>,
        lines: &mut LogLimit,
    ) -> Result<(), ()> {
        let running: BTreeSet<ContainerId> = runtimes.running_ids().await.into_iter().collect();
        let mut described = BTreeSet::new();
        for id in running.difference(seen) {
            let container = match runtimes.describe(id).await {
                // A pod's sandbox runs no program of an image that anybody deployed.
                Ok(Some(found)) if found.sandbox => {
                    described.insert(id.clone());
                    continue;
                }
                Ok(Some(found)) => found.container,
                // The container is gone again.
                Ok(None) => continue,
                Err(error) => {
                    if let Some(left_out) = lines.admit() {
                        tracing::warn!(%error, container = %id, left_out, "container cannot be described");
                    }
                    continue;
                }
            };
            described.insert(id.clone());
            if !container.image_id.is_known() {
                let (image, why) = (container.image_ref, container.image_id_source);
                if let Some(left_out) = lines.admit() {
                    let message = "the image's config digest is not known; it is not indexed";
                    tracing::warn!(container = %id, image, why, left_out, "{message}");
                }
                continue;
            }
            let job = Job { image_id: container.image_id, runtime: container.runtime, reference: container.image_ref };
            self.found.send(job).await.map_err(drop)?;
        }
        // A container that could not be described is queried again at the next scan; a container that is gone is
        // forgotten.
        seen.extend(described);
        seen.retain(|id| running.contains(id));
        Ok(())
    }

    async fn detect_again(&self, before: &Runtimes) {
        let runtimes = Runtimes::detect(&self.settings).await;
        if runtimes.answering().ne(before.answering()) {
            log_states(&runtimes);
            self.runtimes.send_replace(Arc::new(runtimes));
        }
    }
}

/// Logs which runtimes answer, and why others do not.
pub(super) fn log_states(runtimes: &Runtimes) {
    for state in runtimes.states() {
        match &state.state {
            Ok(how) => tracing::info!(runtime = state.runtime, how, "runtime answers"),
            Err(why) => tracing::info!(runtime = state.runtime, %why, "runtime does not answer"),
        }
    }
}
