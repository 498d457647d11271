//! gRPC over a unix socket: single answers and streams of answers, each bounded in time and size.
//!
//! A request is a message that names its method and its answer ([`Question`]); messages are written by hand with the
//! fields that are used, see docs/adr/0006-containerd-client.md.

use std::path::Path;

use hyper::http::uri::PathAndQuery;
use tonic::client::Grpc as Client;
use tonic::metadata::MetadataValue;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Request, Status, Streaming};
use tonic_prost::ProstCodec;

use crate::RuntimeError;
use crate::limits::{ANSWER_BYTES_MAX, ANSWER_MAX, GRPC_WINDOW_BYTES};

/// A request message.
pub(crate) trait Question: prost::Message + Default + 'static {
    /// `/package.Service/Method`.
    const METHOD: &'static str;
    /// The answer, or each of them when they come as a stream.
    type Answer: prost::Message + Default + 'static;
}

/// Headers of a request, beside the message.
pub(crate) type Headers<'a> = &'a [(&'static str, &'a str)];

/// A service at a unix socket. Connects with the first request, and again when the connection broke.
#[derive(Debug, Clone)]
pub(crate) struct Grpc {
    runtime: &'static str,
    channel: Channel,
}

impl Grpc {
    pub(crate) fn new(runtime: &'static str, socket: &Path) -> Result<Self, RuntimeError> {
        let failed = |why| RuntimeError::failed(runtime, why);
        let path = socket.to_str().filter(|path| path.starts_with('/'));
        let path = path.ok_or_else(|| failed(format!("{} is not an absolute path in UTF-8", socket.display())))?;
        let endpoint = Endpoint::from_shared(format!("unix://{path}")).map_err(|error| failed(error.to_string()))?;
        let endpoint = endpoint
            .connect_timeout(ANSWER_MAX)
            .initial_stream_window_size(GRPC_WINDOW_BYTES)
            .initial_connection_window_size(GRPC_WINDOW_BYTES);
        Ok(Self { runtime, channel: endpoint.connect_lazy() })
    }

    /// The answer; nothing when the requested thing does not exist.
    pub(crate) async fn call<Q: Question>(
        &self,
        question: Q,
        headers: Headers<'_>,
    ) -> Result<Option<Q::Answer>, RuntimeError> {
        let answer = async {
            let mut client = self.ready().await?;
            let codec = ProstCodec::<Q, Q::Answer>::default();
            let request = self.request(question, headers)?;
            let answer = client.unary(request, PathAndQuery::from_static(Q::METHOD), codec).await;
            answer.map(|answer| Some(answer.into_inner())).or_else(|status| self.absent_or_failed(&status))
        };
        tokio::time::timeout(ANSWER_MAX, answer).await.map_err(|_| RuntimeError::Slow(self.runtime))?
    }

    /// The answers as they come, at least one of them; nothing when there are none, or the requested thing does not exist.
    pub(crate) async fn stream<Q: Question>(
        &self,
        question: Q,
        headers: Headers<'_>,
    ) -> Result<Option<Answers<Q::Answer>>, RuntimeError> {
        let answers = async {
            let mut client = self.ready().await?;
            let codec = ProstCodec::<Q, Q::Answer>::default();
            let request = self.request(question, headers)?;
            let path = PathAndQuery::from_static(Q::METHOD);
            // A service may answer "not found" before or instead of the first message.
            let mut stream = match client.server_streaming(request, path, codec).await {
                Ok(stream) => stream.into_inner(),
                Err(status) => return self.absent_or_failed(&status),
            };
            match stream.message().await {
                Ok(Some(first)) => Ok(Some(Answers { runtime: self.runtime, first: Some(first), stream })),
                Ok(None) => Ok(None),
                Err(status) => self.absent_or_failed(&status),
            }
        };
        tokio::time::timeout(ANSWER_MAX, answers).await.map_err(|_| RuntimeError::Slow(self.runtime))?
    }

    /// Calls `on_answer` with every answer of a stream that may be silent for days. Returns when the service ends it.
    pub(crate) async fn follow<Q: Question>(
        &self,
        question: Q,
        mut on_answer: impl FnMut(),
    ) -> Result<(), RuntimeError> {
        let failed = |status| failed(self.runtime, &status);
        let mut client = self.ready().await?;
        let codec = ProstCodec::<Q, Q::Answer>::default();
        let request = self.request(question, &[])?;
        // Go's servers send not even headers before the first answer.
        let stream = client.server_streaming(request, PathAndQuery::from_static(Q::METHOD), codec).await;
        let mut stream = stream.map_err(failed)?.into_inner();
        while stream.message().await.map_err(failed)?.is_some() {
            on_answer();
        }
        Ok(())
    }

    async fn ready(&self) -> Result<Client<Channel>, RuntimeError> {
        let mut client = Client::new(self.channel.clone()).max_decoding_message_size(ANSWER_BYTES_MAX);
        client.ready().await.map_err(|error| RuntimeError::failed(self.runtime, root_cause(&error)))?;
        Ok(client)
    }

    fn request<Q>(&self, question: Q, headers: Headers<'_>) -> Result<Request<Q>, RuntimeError> {
        let mut request = Request::new(question);
        for (name, value) in headers {
            let value = MetadataValue::try_from(*value);
            let value = value.map_err(|error| RuntimeError::failed(self.runtime, format_args!("{name}: {error}")))?;
            request.metadata_mut().insert(*name, value);
        }
        Ok(request)
    }

    fn absent_or_failed<T>(&self, status: &Status) -> Result<Option<T>, RuntimeError> {
        if status.code() == Code::NotFound { Ok(None) } else { Err(failed(self.runtime, status)) }
    }
}

/// Answers that come as a stream.
#[derive(Debug)]
pub(crate) struct Answers<A> {
    runtime: &'static str,
    first: Option<A>,
    stream: Streaming<A>,
}

impl<A> Answers<A> {
    /// The next answer; nothing after the last.
    pub(crate) async fn next(&mut self) -> Result<Option<A>, RuntimeError> {
        if let Some(first) = self.first.take() {
            return Ok(Some(first));
        }
        let next = tokio::time::timeout(ANSWER_MAX, self.stream.message()).await;
        next.map_err(|_| RuntimeError::Slow(self.runtime))?.map_err(|status| failed(self.runtime, &status))
    }
}

fn failed(runtime: &'static str, status: &Status) -> RuntimeError {
    // The transport's own text is no more than "transport error".
    match std::error::Error::source(status) {
        Some(source) => RuntimeError::failed(runtime, root_cause(source)),
        None => RuntimeError::failed(runtime, status.message()),
    }
}

fn root_cause<'a>(mut error: &'a (dyn std::error::Error + 'static)) -> &'a (dyn std::error::Error + 'static) {
    while let Some(source) = error.source() {
        error = source;
    }
    error
}
