//! Runs an engine's command, bounded in time and output; never through a shell.

use std::ffi::OsStr;
use std::io;
use std::pin::Pin;
use std::process::{ExitStatus, Stdio};
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncReadExt as _, ReadBuf};
use tokio::process::{Child, ChildStderr, ChildStdout, Command};

use crate::RuntimeError;
use crate::limits::{ANSWER_BYTES_MAX, ANSWER_MAX, ERROR_BYTES_MAX};

/// The output of a command.
#[derive(Debug)]
pub(crate) struct Output {
    pub(crate) status: ExitStatus,
    pub(crate) stdout: Vec<u8>,
    pub(crate) stderr: String,
}

/// Runs a command to its end.
pub(crate) async fn run<S: AsRef<OsStr>>(program: &str, arguments: &[S]) -> Result<Output, RuntimeError> {
    let (mut child, stdout, stderr) = spawn(program, arguments)?;
    let answer = async {
        let mut out = Vec::new();
        let limit = u64::try_from(ANSWER_BYTES_MAX).unwrap_or(u64::MAX);
        let mut bounded = stdout.take(limit.saturating_add(1));
        let (read, stderr) = tokio::join!(bounded.read_to_end(&mut out), error_text(stderr));
        read.map_err(failed)?;
        if out.len() > ANSWER_BYTES_MAX {
            return Err(failed("its answer is too long"));
        }
        let status = child.wait().await.map_err(failed)?;
        Ok(Output { status, stdout: out, stderr })
    };
    tokio::time::timeout(ANSWER_MAX, answer).await.map_err(|_| RuntimeError::Slow(RUNTIME))?
}

/// The only runtime that is used by its command.
const RUNTIME: &str = "podman";

fn failed(why: impl std::fmt::Display) -> RuntimeError {
    RuntimeError::failed(RUNTIME, why)
}

type Spawned = (Child, ChildStdout, ChildStderr);

fn spawn<S: AsRef<OsStr>>(program: &str, arguments: &[S]) -> Result<Spawned, RuntimeError> {
    let mut command = Command::new(program);
    command.args(arguments).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    let mut child = command.spawn().map_err(|error| failed(format_args!("cannot run {program}: {error}")))?;
    match (child.stdout.take(), child.stderr.take()) {
        (Some(stdout), Some(stderr)) => Ok((child, stdout, stderr)),
        _ => Err(failed("it has no output")),
    }
}

/// The end of what a command writes to standard error; the rest is read and dropped, so that it never blocks.
async fn error_text(mut stderr: ChildStderr) -> String {
    let mut retained = Vec::new();
    let mut buffer = vec![0; ERROR_BYTES_MAX];
    while let Ok(read @ 1..) = stderr.read(&mut buffer).await {
        retained.extend_from_slice(buffer.get(..read).unwrap_or_default());
        let excess = retained.len().saturating_sub(ERROR_BYTES_MAX);
        retained.drain(..excess);
    }
    String::from_utf8_lossy(&retained).trim().to_owned()
}

/// Standard output of a command as it comes. The end is an error when the command failed: what was read is not whole.
pub(crate) struct CommandReader {
    stdout: ChildStdout,
    ended: Pin<Box<dyn Future<Output = io::Result<()>> + Send>>,
}

/// Starts a command whose output is a stream.
pub(crate) fn stream<S: AsRef<OsStr>>(program: &str, arguments: &[S]) -> Result<CommandReader, RuntimeError> {
    let (mut child, stdout, stderr) = spawn(program, arguments)?;
    let errors = tokio::spawn(error_text(stderr));
    let ended = async move {
        let status = child.wait().await?;
        let errors = errors.await.unwrap_or_default();
        if status.success() {
            Ok(())
        } else {
            Err(io::Error::other(format!("{RUNTIME} ended with {status}: {errors}")))
        }
    };
    Ok(CommandReader { stdout, ended: Box::pin(ended) })
}

impl AsyncRead for CommandReader {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, out: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = out.filled().len();
        std::task::ready!(Pin::new(&mut self.stdout).poll_read(context, out))?;
        if out.filled().len() > before || out.remaining() == 0 {
            return Poll::Ready(Ok(()));
        }
        self.ended.as_mut().poll(context)
    }
}
