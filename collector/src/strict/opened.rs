//! The thread that takes fanotify's events. It must never wait for a file, nor for another thread: execs wait for it.

use driftline_collector_core::Digest;
use driftline_collector_core::open_exec::OpenExec;
use driftline_collector_core::subject;
use driftline_service::clock::{self, monotonic};
use driftline_service::log_limit::LogLimit;
use nix::errno::Errno;
use nix::sys::fanotify::{Fanotify, FanotifyEvent};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::Statx;
use std::collections::VecDeque;
use std::io;
use std::os::fd::BorrowedFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::SyncSender;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use super::hash::Work;
use super::mark::Failed;
use super::pending::PendingExec;
use super::{Admitted, OpenedContent, Shared, StrictMode, StrictSettings};
use crate::files::{dev_of, facts, mount_of, named_facts, nanoseconds, path_of};
use crate::reader::boot_ns;

/// How long it waits for an event before it checks whether to stop.
const POLL: Duration = Duration::from_millis(200);

pub(super) struct Events {
    settings: StrictSettings,
    group: Arc<Fanotify>,
    shared: Arc<Shared>,
    queue: SyncSender<Work>,
    bytes_max: u64,
    /// Until when each waits; all wait equally long, so they stand in order.
    waiting: VecDeque<(Instant, Weak<PendingExec>)>,
    unreadable_lines: LogLimit,
}

impl Events {
    pub(super) fn new(
        settings: StrictSettings,
        group: Arc<Fanotify>,
        queue: SyncSender<Work>,
        shared: Arc<Shared>,
        bytes_max: u64,
    ) -> Self {
        Self {
            settings,
            group,
            shared,
            queue,
            bytes_max,
            waiting: VecDeque::new(),
            unreadable_lines: LogLimit::default(),
        }
    }

    pub(super) fn start(mut self, stop: Arc<AtomicBool>, marks_failed: Arc<Failed>) -> io::Result<()> {
        let work = move || {
            while !stop.load(Ordering::Acquire) {
                self.turn();
                self.shared.counts.failed.inc_by(marks_failed.take());
            }
        };
        std::thread::Builder::new().name("strict".to_owned()).spawn(work).map(|_| ())
    }

    fn turn(&mut self) {
        let next = self.waiting.front().map(|(until, _)| until.saturating_duration_since(monotonic()));
        let pause = next.map_or(POLL, |next| next.min(POLL));
        let pause = Timespec { tv_sec: 0, tv_nsec: i64::from(pause.subsec_nanos()) };
        let polled = poll(&mut [PollFd::new(&self.group, PollFlags::IN)], Some(&pause));
        self.let_late_go();
        self.unreadable_lines.log_left_out("events that strict mode cannot read");
        if !polled.is_ok_and(|ready| ready > 0) {
            return;
        }
        match self.group.read_events() {
            Ok(events) => events.into_iter().for_each(|event| self.take(event)),
            Err(Errno::EAGAIN | Errno::EINTR) => {}
            Err(error) => {
                self.shared.counts.failed.inc();
                if let Some(left_out) = self.unreadable_lines.admit() {
                    tracing::error!(%error, left_out, "strict mode cannot read an event");
                }
            }
        }
    }

    fn let_late_go(&mut self) {
        let now = monotonic();
        while let Some((until, waiting)) = self.waiting.front()
            && (*until <= now || waiting.strong_count() == 0)
        {
            if waiting.upgrade().is_some_and(|waiting| waiting.let_go()) {
                self.shared.counts.timed_out.inc();
            }
            self.waiting.pop_front();
        }
    }

    fn take(&mut self, event: FanotifyEvent) {
        let noted_ns = boot_ns();
        let waiting = Arc::new(PendingExec::new(Arc::clone(&self.group), event, self.settings.mode));
        let Some(file) = waiting.file() else {
            self.shared.counts.overflow.inc();
            return;
        };
        self.shared.counts.opened.inc();
        let Some(before) = facts(file) else { return };
        let is_of_image = self.shared.is_of_image(dev_of(&before), mount_of(&before), nanoseconds(before.stx_ctime));
        if is_of_image && !begins_script(file) {
            self.shared.counts.image.inc();
            self.pass(&waiting, &before, noted_ns);
            return;
        }
        let facts = named_facts(file, &before);
        let open_exec = OpenExec {
            thread: waiting.thread(),
            noted_ns,
            requested_path: None,
            facts,
            content: OpenedContent::Hashing,
        };
        let Admitted::Hash(number, place) = self.shared.admit(open_exec, self.bytes_max, clock::now_ns()) else {
            return;
        };
        let handle = file.try_clone_to_owned();
        let is_queued = handle
            .is_ok_and(|handle| self.queue(&waiting, |waiting| Work::Hash { number, handle, before, place, waiting }));
        if !is_queued {
            self.shared.finish(number, Digest::OverBudget, false);
        }
    }

    /// A file of the image needs no digest; but it may be a loader that is about to run another one.
    fn pass(&mut self, waiting: &Arc<PendingExec>, before: &Statx, noted_ns: u64) {
        let Some(file) = waiting.file() else { return };
        if self.settings.mode == StrictMode::Permit && subject::is_loader(&path_of(file)) {
            let before = *before;
            self.queue(waiting, |waiting| Work::Loader { before, waiting });
            return;
        }
        self.shared.pass(waiting.unnamed(before, noted_ns));
    }

    /// Whether there was room. Without it the exec goes at once.
    fn queue(&mut self, waiting: &Arc<PendingExec>, work: impl FnOnce(Arc<PendingExec>) -> Work) -> bool {
        if self.settings.mode == StrictMode::Permit {
            self.waiting.push_back((monotonic() + self.settings.wait, Arc::downgrade(waiting)));
        }
        let is_queued = self.queue.try_send(work(Arc::clone(waiting))).is_ok();
        if !is_queued {
            self.shared.counts.busy.inc();
        }
        is_queued
    }
}

/// A script of the image is judged by its digest: the layer of a file is known only of files that the kernel executes.
fn begins_script(file: BorrowedFd<'_>) -> bool {
    let mut begin = [0; 2];
    rustix::io::pread(file, &mut begin, 0).is_ok_and(|count| count == 2) && begin == *b"#!"
}
