//! Threads that hash files as they are opened, and then let their exec go.

use driftline_collector_core::open_exec::OpenExec;
use driftline_service::clock;
use rustix::fs::Statx;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};

use super::pending::PendingExec;
use super::{Admitted, OpenedContent, Shared, loaded};
use crate::files::{CapturedFile, facts, named_facts};
use crate::proc::Proc;
use crate::reader::boot_ns;

/// Most that wait for a thread: twice what may be hashed, for the loaders among them.
const QUEUE: usize = 2 * driftline_collector_core::limits::OPEN_EXECS_HASHED;

/// A file, and the exec that waits for it.
#[derive(Debug)]
pub(super) enum Work {
    /// It is what was opened.
    Hash { number: u64, handle: OwnedFd, before: Statx, place: Arc<()>, waiting: Arc<PendingExec> },
    /// It is what the loader that was opened is about to run.
    Loader { before: Statx, waiting: Arc<PendingExec> },
}

struct Hasher {
    shared: Arc<Shared>,
    proc: Proc,
    bytes_max: u64,
}

/// Starts so many. They end when the queue is dropped.
pub(super) fn start(threads: usize, shared: &Arc<Shared>, proc: &Proc, bytes_max: u64) -> io::Result<SyncSender<Work>> {
    let (sender, receiver) = sync_channel(QUEUE);
    let receiver = Arc::new(Mutex::new(receiver));
    for number in 0..threads {
        let hasher = Hasher { shared: Arc::clone(shared), proc: proc.clone(), bytes_max };
        let queue = Arc::clone(&receiver);
        std::thread::Builder::new().name(format!("strict-{number}")).spawn(move || hasher.run(&queue))?;
    }
    Ok(sender)
}

impl Hasher {
    fn run(&self, queue: &Mutex<Receiver<Work>>) {
        loop {
            let next = queue.lock().unwrap_or_else(PoisonError::into_inner).recv();
            match next {
                // An exec goes when its work is dropped, at the end of each arm.
                Ok(Work::Hash { number, handle, before, place, waiting: _waiting }) => {
                    self.hash(number, handle, before, place);
                }
                Ok(Work::Loader { before, waiting }) => self.loader(&before, &waiting),
                Err(_) => return,
            }
        }
    }

    fn hash(&self, number: u64, handle: OwnedFd, before: Statx, place: Arc<()>) {
        let read =
            CapturedFile::begin(handle, before, self.bytes_max, clock::now_ns(), place).map(CapturedFile::finish);
        let (digest, is_settled) =
            read.map_or_else(|refused| (refused, false), |outcome| (outcome.digest, outcome.is_settled));
        self.shared.finish(number, digest, is_settled);
    }

    /// The loader opens its program as any file is opened, which raises no event: so it is looked up before the loader runs.
    fn loader(&self, loader: &Statx, waiting: &PendingExec) {
        let thread = waiting.thread();
        let loaded = loaded::program(&self.proc, thread);
        let found = loaded.and_then(|loaded| facts(&loaded.handle).map(|before| (loaded, before)));
        // One that has gone on meanwhile may be doing something else by now.
        if waiting.is_gone() {
            return;
        }
        let Some((loaded, before)) = found else {
            return self.shared.pass(waiting.unnamed(loader, boot_ns()));
        };
        let open_exec = OpenExec {
            thread,
            noted_ns: boot_ns(),
            requested_path: Some(loaded.path),
            facts: named_facts(&loaded.handle, &before),
            content: OpenedContent::Hashing,
        };
        let admitted = self.shared.admit(open_exec, self.bytes_max, clock::now_ns());
        self.shared.pass(waiting.unnamed(loader, boot_ns()));
        if let Admitted::Hash(number, place) = admitted {
            self.hash(number, loaded.handle, before, place);
        }
    }
}
