//! Why a store left its disk, and the conversion of the library's panics into errors.
//!
//! The library checks the pages of a file only when the last process that wrote it did not end well, and otherwise
//! trusts them: it panics on a file that another program wrote to while it was open. Such a panic leaves no
//! inconsistent state in this program, because the database is dropped right after.

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
    /// The bytes that images in use need exceed the store's bound.
    Limit,
    /// The file's content differs from what was written.
    Damaged,
    /// Reading or writing fails for another reason.
    Unwritable,
}

impl Failure {
    /// All failures.
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

    /// Logs the failure, once for each time that a store leaves its disk.
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
    /// Whether [`guarded`] converts a panic of this thread into an error.
    static IS_GUARDED: Cell<bool> = const { Cell::new(false) };
}

/// Runs `work` on a file with untrusted content: a panic becomes an error, and no trace of it is printed.
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
