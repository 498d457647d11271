//! Why a store left its disk, and how the library's panics become errors.
//!
//! The library checks a page when it was written last by a process that did not end well, and otherwise trusts it: of a
//! file that something else wrote to while it was open, it panics. Nothing of this program is unsound by that, because the
//! database is dropped right after.

use std::any::Any;
use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::Once;

use super::{Rebuilt, StoreError};

/// Why a store is in memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Failure {
    /// The disk, or a quota on it, is full.
    NoRoom,
    /// What images in use need is more than the store may have.
    Limit,
    /// The file does not hold what was written.
    Damaged,
    /// Reading or writing fails for another reason.
    Unwritable,
}

impl Failure {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::NoRoom, Self::Limit, Self::Damaged, Self::Unwritable];

    /// Value of the metric's label.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::NoRoom => "no_room",
            Self::Limit => "limit",
            Self::Damaged => "damaged",
            Self::Unwritable => "unwritable",
        }
    }

    fn advice(self) -> &'static str {
        match self {
            Self::NoRoom => "make room in DRIFTLINE_STORE_DIR, then restart",
            Self::Limit => "raise DRIFTLINE_STORE_MAX_MB or lower DRIFTLINE_IMAGE_KEEP_S, then restart",
            Self::Damaged => {
                "find out what else writes to DRIFTLINE_STORE_DIR, or whether its disk fails, then restart"
            }
            Self::Unwritable => "see that DRIFTLINE_STORE_DIR can be written and its disk is sound, then restart",
        }
    }

    /// Says it, once for each time that a store leaves its disk.
    pub(super) fn log(self, directory: &Path, error: &StoreError) {
        tracing::warn!(
            path = %directory.display(),
            %error,
            reason = self.label(),
            todo = self.advice(),
            "the image store goes on in memory until the next start: images are read from the topics again"
        );
    }
}

thread_local! {
    /// Whether a panic of this thread is told as an error by [`guarded`].
    static IS_GUARDED: Cell<bool> = const { Cell::new(false) };
}

/// Does something with a file that may hold anything: a panic is an error then, and no trace of it is printed.
pub(super) fn guarded<T>(work: impl FnOnce() -> Result<T, StoreError>) -> Result<T, StoreError> {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let others = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            if IS_GUARDED.get() {
                tracing::debug!(%panic, "the image store's library gave up");
            } else {
                others(panic);
            }
        }));
    });
    let outer = IS_GUARDED.replace(true);
    let done = catch_unwind(AssertUnwindSafe(work));
    IS_GUARDED.set(outer);
    done.unwrap_or_else(|panic| Err(StoreError::unusable(Rebuilt::Damaged, message_of(panic.as_ref()))))
}

fn message_of(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str).or_else(|| panic.downcast_ref::<&str>().copied());
    format!("its content is impossible: {}", text.unwrap_or("no more is known"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_is_an_error_that_says_what_it_said() {
        let failed: Result<(), _> = guarded(|| panic!("page {}", 7));
        let error = failed.unwrap_err();
        assert_eq!(error.failure(), Failure::Damaged);
        assert!(error.to_string().contains("page 7"), "{error}");
        assert_eq!(guarded(|| Ok(1)).unwrap(), 1);
        assert!(!IS_GUARDED.get());
    }
}
