//! Threads that hash. Called by the collector's task, which never waits for a file.

use driftline_collector_core::{Digest, DigestJob, DigestOutcome, DigestSubject, LoaderJob};
use driftline_service::clock;
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::mpsc;

use crate::files::{self, CapturedFile};
use crate::proc::Proc;
use crate::strict::Strict;

/// A job and its outcome.
pub type Finished = (Box<DigestJob>, DigestOutcome);

struct Task {
    job: Box<DigestJob>,
    captured: Option<CapturedFile>,
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

    /// Queues a job. Without room it comes back, with its captured file.
    pub fn submit(
        &self,
        job: Box<DigestJob>,
        captured: Option<CapturedFile>,
    ) -> Option<(Box<DigestJob>, Option<CapturedFile>)> {
        match self.queue.try_send(Task { job, captured }) {
            Ok(()) => None,
            Err(TrySendError::Full(task) | TrySendError::Disconnected(task)) => Some((task.job, task.captured)),
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
        let Ok(Task { job, captured }) = next else { return };
        let outcome = outcome(proc, &job, captured, bytes_max, clock::now_ns(), strict);
        if finished.blocking_send((job, outcome)).is_err() {
            return;
        }
    }
}

/// The outcome of a job: the digest of its subject, and of the interpreter or loader that runs it. `captured` is its executable when the reader
/// captured it; `now_ns` is the wall clock.
#[must_use]
pub fn outcome(
    proc: &Proc,
    job: &DigestJob,
    captured: Option<CapturedFile>,
    bytes_max: u64,
    now_ns: i64,
    strict: Option<&Strict>,
) -> DigestOutcome {
    let hash = |job: &DigestJob, captured| {
        let known = strict.and_then(|strict| strict.outcome(job));
        known.unwrap_or_else(|| files::digest(proc, job, captured, bytes_max, now_ns))
    };
    let (of_subject, of_loader) = match job.subject {
        DigestSubject::File(_) => (captured, None),
        DigestSubject::Named { .. } => (None, captured),
    };
    let subject = hash(job, of_subject);
    match &job.loader {
        None => subject,
        Some(LoaderJob::Known(sha256)) => DigestOutcome { loader: Some(Digest::Hashed(*sha256)), ..subject },
        Some(LoaderJob::Hash(loader)) => {
            let DigestOutcome { digest, is_settled, .. } = hash(loader, of_loader);
            DigestOutcome { loader: Some(digest), is_settled, ..subject }
        }
    }
}
