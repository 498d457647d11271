//! The thread that marks what the kernel watches. It alone keeps `CAP_SYS_ADMIN`; it follows paths of containers, so it
//! may hang in one, and nothing waits for it.

use driftline_collector_core::mounts::{self, Watch, WatchedMount};
use driftline_schemas::ContainerId;
use nix::sys::fanotify::{Fanotify, MarkFlags, MaskFlags};
use rustix::fs::{AtFlags, CWD, Mode, OFlags, ResolveFlags, StatxFlags, open, openat2, statx};
use std::io;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};

use super::{ImageRoots, StrictError, StrictMode};
use crate::files::{dev_of, facts, mount_of, nanoseconds};
use crate::proc::Proc;
use crate::rights;

/// Mounts that could not be marked, until the metric counts them.
#[derive(Debug, Default)]
pub(super) struct Failed(AtomicU64);

impl Failed {
    pub(super) fn note(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn take(&self) -> u64 {
        self.0.swap(0, Ordering::Relaxed)
    }
}

pub(super) struct Marker {
    mask: MaskFlags,
    group: Arc<Fanotify>,
    proc: Proc,
    images: Arc<Mutex<ImageRoots>>,
    failed: Arc<Failed>,
}

impl Marker {
    pub(super) fn new(
        mode: StrictMode,
        group: Arc<Fanotify>,
        proc: Proc,
        images: Arc<Mutex<ImageRoots>>,
        failed: Arc<Failed>,
    ) -> Self {
        let mask = if mode == StrictMode::Permit { MaskFlags::FAN_OPEN_EXEC_PERM } else { MaskFlags::FAN_OPEN_EXEC };
        Self { mask, group, proc, images, failed }
    }

    /// Starts it, while this process still has its rights; returns once the thread has given up what it does not need.
    pub(super) fn start(self, queue: Receiver<(ContainerId, i32)>) -> Result<(), StrictError> {
        let (ready, is_ready) = sync_channel(1);
        let work = move || {
            let _ = ready.send(rights::give_up_others_but_for_strict());
            while let Ok((container, pid)) = queue.recv() {
                self.mark(&container, pid);
            }
        };
        std::thread::Builder::new().name("strict-mark".to_owned()).spawn(work)?;
        let gone = |_| io::Error::other("its thread has ended");
        Ok(is_ready.recv().map_err(gone)??)
    }

    fn mark(&self, container: &ContainerId, pid: i32) {
        let directory = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let Ok(root) = open(self.proc.path(format!("{pid}/root")), directory, Mode::empty()) else { return };
        let table = self.proc.text(format!("{pid}/mountinfo"));
        // What was opened above is this container's: process ids are used again, and the node itself is not watched.
        if self.proc.inspect(&self.proc.process_of(container, pid)).is_none() {
            return;
        }
        let watched = mounts::watched(&table);
        let marked = watched.iter().filter(|mount| self.mark_one(&root, mount)).count();
        tracing::debug!(%container, marked, of = watched.len(), "strict mode watches a container");
    }

    fn mark_one(&self, root: &OwnedFd, mount: &WatchedMount) -> bool {
        let marked = self.try_mark(root, mount);
        if let Err(error) = &marked {
            self.failed.note();
            tracing::debug!(%error, point = mount.point, "strict mode cannot watch a mount");
        }
        marked.is_ok()
    }

    fn try_mark(&self, root: &OwnedFd, mount: &WatchedMount) -> io::Result<()> {
        let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
        let handle = openat2(root, mount.point.as_str(), OFlags::PATH | OFlags::CLOEXEC, Mode::empty(), resolve)?;
        // A link of the container's leads elsewhere; another mount may hide this one.
        if facts(&handle).and_then(|facts| mount_of(&facts)).is_some_and(|id| id != mount.id) {
            return Err(io::Error::other("another mount is there"));
        }
        let kind = match mount.watch {
            Watch::FileSystem => {
                self.note_image(&handle, mount.id);
                MarkFlags::FAN_MARK_FILESYSTEM
            }
            Watch::Mount => MarkFlags::FAN_MARK_MOUNT,
        };
        // Stands for what the handle stands for.
        let path = format!("/proc/self/fd/{}", handle.as_raw_fd());
        Ok(self.group.mark(MarkFlags::FAN_MARK_ADD | kind, self.mask, CWD, Some(path.as_str()))?)
    }

    /// The root directory of an overlay is that of its upper layer, which was made with the container.
    fn note_image(&self, root: &OwnedFd, mnt_id: u32) {
        let made = statx(root, c"", AtFlags::EMPTY_PATH, StatxFlags::BASIC_STATS | StatxFlags::BTIME);
        let Ok(facts) = made else { return };
        if StatxFlags::from_bits_retain(facts.stx_mask).contains(StatxFlags::BTIME) {
            let mut images = self.images.lock().unwrap_or_else(PoisonError::into_inner);
            images.note(dev_of(&facts), mnt_id, nanoseconds(facts.stx_btime));
        }
    }
}
