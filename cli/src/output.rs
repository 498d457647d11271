//! Standard output: colour only where somebody looks, and no complaint when nobody reads on (`driftline … | head`).

use std::io::{self, Write as _};

/// Prints a line.
///
/// # Errors
/// When it cannot be written; [`is_closed_pipe`] tells whether that is the reader's wish.
pub(crate) fn out(text: impl std::fmt::Display) -> io::Result<()> {
    writeln!(anstream::stdout(), "{text}")
}

/// Whether a command ended because nobody reads its output any more.
pub(crate) fn is_closed_pipe(error: &anyhow::Error) -> bool {
    let mut causes = error.chain().filter_map(|cause| cause.downcast_ref::<io::Error>());
    causes.any(|error| error.kind() == io::ErrorKind::BrokenPipe)
}
