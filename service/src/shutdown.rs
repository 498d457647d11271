//! How a program ends: on SIGTERM and SIGINT it finishes open work; an error is one line on standard error.

use std::fmt::Display;
use std::process::ExitCode;
use tokio::signal::unix::{SignalKind, signal};

/// Resolves at the first SIGTERM or SIGINT.
///
/// # Errors
/// When the handlers cannot be installed.
pub fn signalled() -> std::io::Result<impl Future<Output = &'static str>> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => "SIGTERM",
            _ = interrupt.recv() => "SIGINT",
        }
    })
}

/// The result of `main`: success, or a message with its causes and a code other than 0.
#[must_use]
pub fn exit_code(program: &str, ended: Result<(), impl Display>) -> ExitCode {
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // The alternate form includes the causes.
            eprintln!("{program}: {error:#}");
            ExitCode::FAILURE
        }
    }
}
