//! For tests: a socket that speaks CRI as CRI-O does, which Debian has not. Its answers about a pod and its container come
//! from files in the form in which `crictl inspect`, `inspectp` and `inspecti` print such answers, so that an answer from
//! a real node can take their place.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use bytes::{BufMut as _, Bytes, BytesMut};
use http_body_util::BodyExt as _;
use hyper::body::{Frame, Incoming};
use hyper::header::{HeaderMap, HeaderValue};
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo};
use prost::Message;
use tokio::net::UnixListener;
use tokio::sync::{broadcast, mpsc};

use super::recorded::Recorded;
use crate::cri::messages::{
    CONTAINER_CREATED, ContainerStatusRequest, ContainerStatusResponse, ImageStatusRequest, ImageStatusResponse,
    ListContainersResponse, ListPodSandboxResponse, ListedContainer, ListedSandbox, PodSandboxStatusRequest,
    PodSandboxStatusResponse, VersionResponse,
};

/// `UNIMPLEMENTED` and `NOT_FOUND` among gRPC's status codes, and the one of success.
const UNIMPLEMENTED: u8 = 12;
const NOT_FOUND: u8 = 5;
const OK: u8 = 0;

/// Whether it sends events, which CRI-O does when it is configured to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Events {
    /// `enable_pod_events = true`.
    Sent,
    /// As it is by default: the stream ends at once.
    Off,
}

/// The socket; nothing answers there any more when this is dropped.
#[derive(Debug)]
pub struct Crio {
    directory: tempfile::TempDir,
    state: Arc<CrioState>,
    server: tokio::task::JoinHandle<()>,
}

#[derive(Debug)]
struct CrioState {
    recorded: Recorded,
    running: AtomicBool,
    /// In so many more answers the container is only created.
    created: AtomicUsize,
    happens: Option<broadcast::Sender<()>>,
}

impl Crio {
    /// Where the files with its answers are.
    pub const TESTDATA: &'static str = concat!(env!("CARGO_MANIFEST_DIR"), "/testdata");

    /// Answers with what this package's `testdata` has. The pod runs, its container does not yet.
    ///
    /// # Errors
    /// See [`Self::start_with`].
    pub fn start(events: Events) -> Result<Self, String> {
        Self::start_with(Path::new(Self::TESTDATA), events)
    }

    /// The same with the files `crio-container.json`, `crio-pod.json` and `crio-image.json` of a directory.
    ///
    /// # Errors
    /// When a file cannot be read, or the socket not be made.
    pub fn start_with(testdata: &Path, events: Events) -> Result<Self, String> {
        let directory = tempfile::tempdir().map_err(super::text)?;
        let listener = UnixListener::bind(directory.path().join("crio.sock")).map_err(super::text)?;
        let happens = (events == Events::Sent).then(|| broadcast::channel(16).0);
        let state = Arc::new(CrioState {
            recorded: Recorded::read(testdata)?,
            running: AtomicBool::new(false),
            created: AtomicUsize::new(0),
            happens,
        });
        let server = tokio::spawn(serve(listener, Arc::clone(&state)));
        Ok(Self { directory, state, server })
    }

    /// Its socket.
    #[must_use]
    pub fn socket(&self) -> PathBuf {
        self.directory.path().join("crio.sock")
    }

    /// The container starts, and so many answers about it still call it created.
    pub fn start_container(&self, created: usize) {
        self.state.created.store(created, Ordering::SeqCst);
        self.state.running.store(true, Ordering::SeqCst);
        self.send_event();
    }

    /// The container ends, and is removed.
    pub fn end_container(&self) {
        self.state.running.store(false, Ordering::SeqCst);
        self.send_event();
    }

    /// How many listen to the events.
    #[must_use]
    pub fn listeners(&self) -> usize {
        self.state.happens.as_ref().map_or(0, broadcast::Sender::receiver_count)
    }

    fn send_event(&self) {
        // Fails without a listener.
        let _ = self.state.happens.as_ref().map(|happens| happens.send(()));
    }
}

impl Drop for Crio {
    fn drop(&mut self) {
        self.server.abort();
    }
}

async fn serve(listener: UnixListener, state: Arc<CrioState>) {
    // Connections end with the task that holds them.
    let mut connections = tokio::task::JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        let state = Arc::clone(&state);
        connections.spawn(async move {
            let service = service_fn(move |request| answer(Arc::clone(&state), request));
            let _ = http2::Builder::new(TokioExecutor::new()).serve_connection(TokioIo::new(stream), service).await;
        });
    }
}

type Answer = Response<Body>;

async fn answer(state: Arc<CrioState>, request: Request<Incoming>) -> Result<Answer, hyper::Error> {
    let method = request.uri().path().rsplit('/').next().unwrap_or_default().to_owned();
    let question = request.into_body().collect().await?.to_bytes();
    // Before the message stand a byte for compression and four for its length.
    let question = question.get(5..).unwrap_or_default();
    let (sender, frames) = mpsc::unbounded_channel();
    if let ("GetContainerEvents", Some(happens)) = (method.as_str(), &state.happens) {
        let mut happens = happens.subscribe();
        // Like grpc-go's, the answer begins with the first event; until then there are not even headers.
        if happens.recv().await.is_ok() {
            let _ = sender.send(message(&Empty {}));
            tokio::spawn(
                async move { while happens.recv().await.is_ok() && sender.send(message(&Empty {})).is_ok() {} },
            );
        }
        return Ok(response(frames));
    }
    let message = match method.as_str() {
        // The stream of a CRI-O that sends no events.
        "GetContainerEvents" => Ok(None),
        method => state.answer(method, question).map(Some),
    };
    let status = match message {
        Ok(message) => {
            message.into_iter().for_each(|message| drop(sender.send(message)));
            OK
        }
        Err(status) => status,
    };
    let _ = sender.send(trailers(status));
    Ok(response(frames))
}

impl CrioState {
    fn answer(&self, method: &str, question: &[u8]) -> Result<Frame<Bytes>, u8> {
        let Recorded { container, sandbox, image, .. } = &self.recorded;
        match method {
            "Version" => Ok(message(&VersionResponse {
                runtime_name: "cri-o".to_owned(),
                runtime_version: self.recorded.version.clone(),
            })),
            "ListContainers" => {
                let status = container.status.as_ref().filter(|_| self.runs());
                let listed = status.map(|status| ListedContainer { id: status.id.clone(), state: status.state });
                Ok(message(&ListContainersResponse { containers: listed.into_iter().collect() }))
            }
            "ListPodSandbox" => {
                let listed = sandbox.status.as_ref().map(|status| ListedSandbox { id: status.id.clone(), state: 0 });
                Ok(message(&ListPodSandboxResponse { items: listed.into_iter().collect() }))
            }
            "ContainerStatus" => {
                let request = ContainerStatusRequest::decode(question).map_err(|_| NOT_FOUND)?;
                let is_it = |id: &str| self.runs() && id.starts_with(&request.container_id);
                let known = container.status.as_ref().is_some_and(|status| is_it(&status.id));
                if known { Ok(message(&self.container())) } else { Err(NOT_FOUND) }
            }
            "PodSandboxStatus" => {
                let request = PodSandboxStatusRequest::decode(question).map_err(|_| NOT_FOUND)?;
                let known =
                    sandbox.status.as_ref().is_some_and(|status| status.id.starts_with(&request.pod_sandbox_id));
                let info = if request.verbose { sandbox.info.clone() } else { Default::default() };
                let status = PodSandboxStatusResponse { status: sandbox.status.clone(), info };
                if known { Ok(message(&status)) } else { Err(NOT_FOUND) }
            }
            "ImageStatus" => {
                let request = ImageStatusRequest::decode(question).map_err(|_| NOT_FOUND)?;
                let name = request.image.unwrap_or_default().image;
                let known = self.recorded.image_names.contains(&name);
                Ok(message(&ImageStatusResponse { image: image.clone().filter(|_| known) }))
            }
            _ => Err(UNIMPLEMENTED),
        }
    }

    fn runs(&self) -> bool {
        self.running.load(Ordering::SeqCst)
    }

    /// The container as it is now: while it is created only, CRI-O knows no process and no time of start.
    fn container(&self) -> ContainerStatusResponse {
        let mut answer = self.recorded.container.clone();
        let left = self.created.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1));
        if let (Ok(_), Some(status)) = (left, &mut answer.status) {
            (status.state, status.started_at) = (CONTAINER_CREATED, 0);
            answer.info.values_mut().for_each(|info| *info = self.recorded.info_without_process.clone());
        }
        answer
    }
}

#[derive(Clone, PartialEq, Message)]
struct Empty {}

/// A body that is made while it is sent.
struct Body(mpsc::UnboundedReceiver<Frame<Bytes>>);

impl hyper::body::Body for Body {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(
        mut self: std::pin::Pin<&mut Self>,
        context: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        self.0.poll_recv(context).map(|frame| frame.map(Ok))
    }
}

fn response(frames: mpsc::UnboundedReceiver<Frame<Bytes>>) -> Answer {
    let mut response = Response::new(Body(frames));
    response.headers_mut().insert("content-type", HeaderValue::from_static("application/grpc"));
    response
}

fn message(message: &impl Message) -> Frame<Bytes> {
    let encoded = message.encode_to_vec();
    let mut frame = BytesMut::new();
    frame.put_u8(0);
    frame.put_u32(u32::try_from(encoded.len()).unwrap_or(u32::MAX));
    frame.put_slice(&encoded);
    Frame::data(frame.freeze())
}

fn trailers(status: u8) -> Frame<Bytes> {
    let mut trailers = HeaderMap::new();
    trailers.insert("grpc-status", HeaderValue::from(u16::from(status)));
    Frame::trailers(trailers)
}
