//! HTTP over a unix socket, one request a connection, every answer bounded in time and size.

use std::io;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::{Buf as _, Bytes};
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper::body::{Body as _, Incoming};
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, ReadBuf};
use tokio::net::UnixStream;

use crate::RuntimeError;
use crate::limits::{ANSWER_BYTES_MAX, ANSWER_MAX, ERROR_BYTES_MAX};

/// An engine's API at a unix socket.
#[derive(Debug, Clone)]
pub(crate) struct Api {
    runtime: &'static str,
    socket: PathBuf,
}

impl Api {
    pub(crate) fn new(runtime: &'static str, socket: &Path) -> Self {
        Self { runtime, socket: socket.to_owned() }
    }

    /// The answer to a GET; nothing when there is no such object.
    pub(crate) async fn get(&self, path: &str) -> Result<Option<Bytes>, RuntimeError> {
        let answer = async {
            let Some(response) = self.request(path).await? else { return Ok(None) };
            let body = Limited::new(response.into_body(), ANSWER_BYTES_MAX).collect().await;
            body.map(|body| Some(body.to_bytes())).map_err(|error| self.failed(error))
        };
        tokio::time::timeout(ANSWER_MAX, answer).await.map_err(|_| RuntimeError::Slow(self.runtime))?
    }

    /// The body of the answer to a GET, as it comes.
    pub(crate) async fn stream(&self, path: &str) -> Result<BodyReader, RuntimeError> {
        let request = tokio::time::timeout(ANSWER_MAX, self.request(path));
        let response = request.await.map_err(|_| RuntimeError::Slow(self.runtime))??;
        let response = response.ok_or_else(|| self.failed("there is no such image"))?;
        Ok(BodyReader { body: response.into_body(), rest: Bytes::new() })
    }

    /// Calls `on_piece` with every piece of an answer that may be silent for days. Returns when the engine ends it.
    pub(crate) async fn follow(&self, path: &str, mut on_piece: impl FnMut()) -> Result<(), RuntimeError> {
        let response = self.request(path).await?.ok_or_else(|| self.failed("it sends no events"))?;
        let mut body = response.into_body();
        while let Some(piece) = body.frame().await {
            piece.map_err(|error| self.failed(error))?;
            on_piece();
        }
        Ok(())
    }

    async fn request(&self, path: &str) -> Result<Option<Response<Incoming>>, RuntimeError> {
        let stream = UnixStream::connect(&self.socket).await.map_err(|error| self.failed(error))?;
        let handshake = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await;
        let (mut sender, connection) = handshake.map_err(|error| self.failed(error))?;
        // Ends with the body it carries.
        tokio::spawn(connection);
        let request = Request::get(path).header("Host", "localhost").body(Empty::<Bytes>::new());
        let request = request.map_err(|error| self.failed(error))?;
        let response = sender.send_request(request).await.map_err(|error| self.failed(error))?;
        match response.status() {
            status if status.is_success() => Ok(Some(response)),
            StatusCode::NOT_FOUND => Ok(None),
            status => {
                let body = Limited::new(response.into_body(), ERROR_BYTES_MAX).collect().await;
                let text = body.map(|body| body.to_bytes()).unwrap_or_default();
                Err(self.failed(format_args!("{status}: {}", String::from_utf8_lossy(&text).trim())))
            }
        }
    }

    fn failed(&self, why: impl std::fmt::Display) -> RuntimeError {
        RuntimeError::failed(self.runtime, why)
    }
}

/// A body as a reader.
#[derive(Debug)]
pub(crate) struct BodyReader {
    body: Incoming,
    rest: Bytes,
}

impl AsyncRead for BodyReader {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, out: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        while self.rest.is_empty() {
            match std::task::ready!(Pin::new(&mut self.body).poll_frame(context)) {
                None => return Poll::Ready(Ok(())),
                Some(Err(error)) => return Poll::Ready(Err(io::Error::other(error))),
                Some(Ok(frame)) => self.rest = frame.into_data().unwrap_or_default(),
            }
        }
        let length = self.rest.len().min(out.remaining());
        out.put_slice(self.rest.get(..length).unwrap_or_default());
        self.rest.advance(length);
        Poll::Ready(Ok(()))
    }
}
