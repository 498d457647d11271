//! Standard output: colour only on a terminal, and no error when the reader has closed the pipe (`driftline … | head`).

use std::io::{self, Write as _};

/// Prints a line.
///
/// # Errors
/// When it cannot be written; [`is_closed_pipe`] recognises a pipe that the reader has closed.
pub(crate) fn out(text: impl std::fmt::Display) -> io::Result<()> {
    writeln!(anstream::stdout(), "{text}")
}

/// Whether a command ended because the reader has closed its output.
pub(crate) fn is_closed_pipe(error: &anyhow::Error) -> bool {
    let mut causes = error.chain().filter_map(|cause| cause.downcast_ref::<io::Error>());
    causes.any(|error| error.kind() == io::ErrorKind::BrokenPipe)
}
