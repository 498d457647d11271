//! The exec of a file that fanotify reported. Made by the thread that takes the events, let go by it or by those that hash.

use driftline_collector_core::open_exec::OpenExec;
use nix::sys::fanotify::{Fanotify, FanotifyEvent, FanotifyResponse, Response};
use rustix::fs::Statx;
use std::os::fd::BorrowedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::{OpenedContent, StrictMode};
use crate::files::unnamed_facts;

/// An exec that may have to wait for its file. Several threads may let it go, and the first call counts; at the latest it goes
/// when the last reference to it is dropped.
#[derive(Debug)]
pub(super) struct PendingExec {
    group: Arc<Fanotify>,
    event: FanotifyEvent,
    is_gone: AtomicBool,
}

impl PendingExec {
    pub(super) fn new(group: Arc<Fanotify>, event: FanotifyEvent, mode: StrictMode) -> Self {
        Self { group, event, is_gone: AtomicBool::new(mode == StrictMode::Notify) }
    }

    pub(super) fn is_gone(&self) -> bool {
        self.is_gone.load(Ordering::Acquire)
    }

    /// Lets it go; `false` when it has gone already.
    pub(super) fn let_go(&self) -> bool {
        if self.is_gone.swap(true, Ordering::AcqRel) {
            return false;
        }
        if let Some(file) = self.event.fd()
            && let Err(error) = self.group.write_response(FanotifyResponse::new(file, Response::FAN_ALLOW))
        {
            tracing::error!(%error, "an exec cannot be let go");
        }
        true
    }

    pub(super) fn thread(&self) -> u32 {
        u32::try_from(self.event.pid()).unwrap_or(0)
    }

    pub(super) fn file(&self) -> Option<BorrowedFd<'_>> {
        self.event.fd()
    }

    /// Its file, of which only the identity matters.
    pub(super) fn unnamed(&self, facts: &Statx, noted_ns: u64) -> OpenExec<OpenedContent> {
        OpenExec {
            thread: self.thread(),
            noted_ns,
            requested_path: None,
            facts: unnamed_facts(facts),
            content: OpenedContent::Unknown,
        }
    }
}

impl Drop for PendingExec {
    fn drop(&mut self) {
        self.let_go();
    }
}
