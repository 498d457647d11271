//! Threads that hash. Called by the collector's task, which never waits for a file.

use driftline_collector_core::{Digest, DigestJob, DigestOutcome, LoaderJob};
use driftline_service::clock;
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::mpsc;

use crate::files::{self, Caught};
use crate::proc::Proc;
use crate::strict::Strict;

/// A digest, and what it belongs to.
pub type Finished = (Box<DigestJob>, DigestOutcome);

struct Task {
    job: Box<DigestJob>,
    caught: Option<Caught>,
}

/// The threads' queue. They end when it is dropped.
#[derive(Debug)]
pub struct Hasher {
    queue: SyncSender<Task>,
}

impl Hasher {
    /// Starts `threads` of them; results go to `finished`. What strict mode has hashed is not hashed again.
    ///
    /// # Errors
    /// When the system gives no threads.
    pub fn start(
        proc: &Proc,
        threads: usize,
        queue: usize,
        bytes_max: u64,
        finished: &mpsc::Sender<Finished>,
        strict: Option<&Arc<Strict>>,
    ) -> std::io::Result<Self> {
        let (sender, receiver) = sync_channel(queue);
        let receiver = Arc::new(Mutex::new(receiver));
        for number in 0..threads {
            let (receiver, finished, proc, strict) =
                (Arc::clone(&receiver), finished.clone(), proc.clone(), strict.cloned());
            std::thread::Builder::new()
                .name(format!("hash-{number}"))
                .spawn(move || work(&proc, &receiver, bytes_max, &finished, strict.as_deref()))?;
        }
        Ok(Self { queue: sender })
    }

    /// Queues a job. Without room it comes back, with what was caught for it.
    pub fn submit(&self, job: Box<DigestJob>, caught: Option<Caught>) -> Option<(Box<DigestJob>, Option<Caught>)> {
        match self.queue.try_send(Task { job, caught }) {
            Ok(()) => None,
            Err(TrySendError::Full(task) | TrySendError::Disconnected(task)) => Some((task.job, task.caught)),
        }
    }
}

fn work(
    proc: &Proc,
    queue: &Mutex<Receiver<Task>>,
    bytes_max: u64,
    finished: &mpsc::Sender<Finished>,
    strict: Option<&Strict>,
) {
    loop {
        // The lock is held while waiting: one thread waits for a job, the others for the lock.
        let next = queue.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok(Task { job, caught }) = next else { return };
        let outcome = outcome(proc, &job, caught, bytes_max, clock::now_ns(), strict);
        if finished.blocking_send((job, outcome)).is_err() {
            return;
        }
    }
}

/// What a job asks for: the digest of its subject, and of the loader that was told to run it. `caught` is its executable
/// when that was caught at once; `now_ns` is the wall clock.
#[must_use]
pub fn outcome(
    proc: &Proc,
    job: &DigestJob,
    caught: Option<Caught>,
    bytes_max: u64,
    now_ns: i64,
    strict: Option<&Strict>,
) -> DigestOutcome {
    let hash = |job: &DigestJob, caught| {
        let known = strict.and_then(|strict| strict.outcome(job));
        known.unwrap_or_else(|| files::digest(proc, job, caught, bytes_max, now_ns))
    };
    let subject = hash(job, caught);
    match &job.loader {
        None => subject,
        Some(LoaderJob::Known(sha256)) => DigestOutcome { loader: Some(Digest::Hashed(*sha256)), ..subject },
        Some(LoaderJob::Hash(loader)) => {
            let DigestOutcome { digest, is_settled, .. } = hash(loader, None);
            DigestOutcome { loader: Some(digest), is_settled, ..subject }
        }
    }
}
