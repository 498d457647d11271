//! Threads that hash files as they are opened, and then let their exec go.

use driftline_collector_core::openings::Opening;
use driftline_service::clock;
use rustix::fs::Statx;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};

use super::opened::{Waiting, unnamed};
use super::{Admitted, Content, Shared, loaded};
use crate::files::{Caught, facts, named_facts};
use crate::proc::Proc;
use crate::reader::boot_ns;

/// Most that wait for a thread: twice what may be hashed, for the loaders among them.
const QUEUE: usize = 2 * driftline_collector_core::limits::OPENINGS_HASHED;

/// A file, and the exec that waits for it.
#[derive(Debug)]
pub(super) enum Work {
    /// It is what was opened.
    Hash { number: u64, handle: OwnedFd, before: Statx, place: Arc<()>, waiting: Arc<Waiting> },
    /// It is what the loader that was opened is about to run.
    Loader { before: Statx, waiting: Arc<Waiting> },
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
        let read = Caught::begin(handle, before, self.bytes_max, clock::now_ns(), place).map(Caught::finish);
        let (digest, is_settled) =
            read.map_or_else(|refused| (refused, false), |outcome| (outcome.digest, outcome.is_settled));
        self.shared.finish(number, digest, is_settled);
    }

    /// The loader opens its program as any file is opened, which raises no event: so it is looked up before the loader runs.
    fn loader(&self, loader: &Statx, waiting: &Waiting) {
        let thread = waiting.thread();
        let told = loaded::program(&self.proc, thread);
        let found = told.and_then(|told| facts(&told.handle).map(|before| (told, before)));
        // One that has gone on meanwhile may be doing something else by now.
        if waiting.is_gone() {
            return;
        }
        let Some((told, before)) = found else {
            return self.shared.pass(unnamed(thread, loader, boot_ns()));
        };
        let opening = Opening {
            thread,
            noted_ns: boot_ns(),
            asked: Some(told.asked),
            facts: named_facts(&told.handle, &before),
            content: Content::Hashing,
        };
        let admitted = self.shared.admit(opening, self.bytes_max, clock::now_ns());
        self.shared.pass(unnamed(thread, loader, boot_ns()));
        if let Admitted::Hash(number, place) = admitted {
            self.hash(number, told.handle, before, place);
        }
    }
}
