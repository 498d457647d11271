//! The signal to end, and the limit for open work after it.

use std::pin::Pin;
use std::time::Duration;
use tokio::time::{Instant, sleep_until};

/// After the signal a step, a commit included, may take this long: below the 30 s that supervisors commonly give, with
/// [`super::CLOSE_MAX`] added. A healthy cluster commits within 100 ms. A step that waits for an unreachable broker is
/// dropped, and the next instance reads its input again.
const GRACE: Duration = Duration::from_secs(10);

/// The signal and its deadline; see the module.
pub(super) struct Stopping<'a, F> {
    signal: Pin<&'a mut F>,
    since: Option<Instant>,
}

impl<'a, F: Future<Output = &'static str>> Stopping<'a, F> {
    pub(super) fn new(signal: Pin<&'a mut F>) -> Self {
        Self { signal, since: None }
    }

    /// Resolves when the service is to end. Safe to drop and call again.
    pub(super) async fn asked(&mut self) {
        if self.since.is_none() {
            let signal = self.signal.as_mut().await;
            tracing::info!(signal, "stopping");
            self.since = Some(Instant::now());
        }
    }

    /// The step's result; `None` when the step took too long after the signal, and was dropped.
    pub(super) async fn bound<T>(&mut self, step: impl Future<Output = T>) -> Option<T> {
        let over = async {
            self.asked().await;
            sleep_until(self.since.unwrap_or_else(Instant::now) + GRACE).await;
        };
        tokio::select! {
            biased;
            done = step => Some(done),
            () = over => None,
        }
    }
}
