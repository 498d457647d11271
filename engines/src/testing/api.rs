//! For tests: an API server on loopback with the part of Kubernetes that the collector uses: lists and watches of a
//! node's pods with resource versions, bookmarks and expiry, single objects, refusals, reviews of access. Its objects were
//! recorded from a real one.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use serde_json::{Value, json};

const PODS: &str = include_str!("../../testdata/kubernetes-1.34-pods.json");
const NODE: &str = include_str!("../../testdata/kubernetes-1.34-node.json");
const REPLICA_SET: &str = include_str!("../../testdata/kubernetes-1.34-replicaset.json");
const JOB: &str = include_str!("../../testdata/kubernetes-1.34-job.json");
const FORBIDDEN: &str = include_str!("../../testdata/kubernetes-1.34-forbidden.json");

/// Where the recorded node is.
pub const NODE_PATH: &str = "/api/v1/nodes/node-1";
/// Where the recorded replica set is.
pub const REPLICA_SET_PATH: &str = "/apis/apps/v1/namespaces/shop/replicasets/web-7d4b9c6f5";
/// Where the recorded job is.
pub const JOB_PATH: &str = "/apis/batch/v1/namespaces/shop/jobs/report-29401140";

/// Name of a recorded pod, of a deployment.
pub const WEB: &str = "web-7d4b9c6f5-x2x7q";
/// Name of a recorded pod, of a cron job.
pub const REPORT: &str = "report-29401140-k8m2p";
/// Name of a recorded pod, of nobody.
pub const BARE: &str = "bare";

#[derive(Debug, Default)]
struct ApiState {
    version: u64,
    /// Watches from before it fail as too old.
    oldest: u64,
    pods: BTreeMap<String, Value>,
    /// Version and event.
    events: Vec<(u64, Value)>,
    objects: BTreeMap<String, Value>,
    forbidden: BTreeSet<String>,
    /// Every watch ends when it changes.
    connections: u64,
    /// Put into every list: bytes of annotations.
    padding: usize,
    requests: Vec<String>,
}

/// The server; what it serves ends with the process of the tests.
#[derive(Debug)]
pub struct ApiServer {
    directory: tempfile::TempDir,
    shared: Arc<(Mutex<ApiState>, Condvar)>,
}

fn parsed(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_default()
}

/// A recorded pod.
#[must_use]
pub fn recorded_pod(name: &str) -> Value {
    let pods = parsed(PODS);
    let mut items = pods.get("items").and_then(Value::as_array).into_iter().flatten();
    items.find(|pod| pod.pointer("/metadata/name") == Some(&name.into())).cloned().unwrap_or_default()
}

impl ApiServer {
    /// Starts it, with the recorded node and controllers, and without pods.
    ///
    /// # Errors
    /// When no port can be had.
    pub fn start() -> std::io::Result<Self> {
        let directory = tempfile::tempdir()?;
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let server = format!("http://{}", listener.local_addr()?);
        let config = json!({
            "apiVersion": "v1", "kind": "Config", "current-context": "test",
            "clusters": [{"name": "test", "cluster": {"server": server}}],
            "users": [{"name": "test", "user": {"token": "test-token"}}],
            "contexts": [{"name": "test", "context": {"cluster": "test", "user": "test"}}],
        });
        std::fs::write(directory.path().join("kubeconfig"), config.to_string())?;
        let objects = [(NODE_PATH, NODE), (REPLICA_SET_PATH, REPLICA_SET), (JOB_PATH, JOB)];
        let objects = objects.into_iter().map(|(path, text)| (path.to_owned(), parsed(text))).collect();
        let state = ApiState { version: 100, objects, ..ApiState::default() };
        let shared = Arc::new((Mutex::new(state), Condvar::new()));
        let serving = Arc::clone(&shared);
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let shared = Arc::clone(&serving);
                // The client may have gone.
                std::thread::spawn(move || drop(serve(&shared, &stream)));
            }
        });
        Ok(Self { directory, shared })
    }

    /// The kubeconfig file to reach it.
    #[must_use]
    pub fn kubeconfig(&self) -> PathBuf {
        self.directory.path().join("kubeconfig")
    }

    fn change(&self, change: impl FnOnce(&mut ApiState)) {
        change(&mut locked(&self.shared.0));
        self.shared.1.notify_all();
    }

    /// Adds or changes a pod.
    pub fn put_pod(&self, mut pod: Value) {
        self.change(|state| {
            state.version += 1;
            let version = Value::from(state.version.to_string());
            let metadata = pod.get_mut("metadata").and_then(Value::as_object_mut);
            metadata.and_then(|metadata| metadata.insert("resourceVersion".to_owned(), version));
            let name = text(&pod, "/metadata/name");
            let kind = if state.pods.contains_key(&name) { "MODIFIED" } else { "ADDED" };
            state.events.push((state.version, json!({"type": kind, "object": pod})));
            state.pods.insert(name, pod);
        });
    }

    /// Removes a pod.
    pub fn delete_pod(&self, name: &str) {
        self.change(|state| {
            state.version += 1;
            let Some(pod) = state.pods.remove(name) else { return };
            state.events.push((state.version, json!({"type": "DELETED", "object": pod})));
        });
    }

    /// Adds, changes or, with nothing, removes another object.
    pub fn put(&self, path: &str, object: Option<Value>) {
        self.change(|state| match object {
            Some(object) => drop(state.objects.insert(path.to_owned(), object)),
            None => drop(state.objects.remove(path)),
        });
    }

    /// Refuses a resource, as `pods`.
    pub fn forbid(&self, resource: &str) {
        self.change(|state| {
            state.forbidden.insert(resource.to_owned());
        });
    }

    /// Refuses nothing any more.
    pub fn permit(&self) {
        self.change(|state| state.forbidden.clear());
    }

    /// Tells watches how far they are, without an event.
    pub fn bookmark(&self) {
        self.change(|state| {
            state.version += 1;
            let metadata = json!({"resourceVersion": state.version.to_string()});
            let object = json!({"kind": "Pod", "apiVersion": "v1", "metadata": metadata});
            state.events.push((state.version, json!({"type": "BOOKMARK", "object": object})));
        });
    }

    /// Ends every watch.
    pub fn disconnect(&self) {
        self.change(|state| state.connections += 1);
    }

    /// Ends every watch, and drops what was before: a client that returns with an older version gets the error that it is gone.
    pub fn expire(&self) {
        self.change(|state| {
            state.version += 1;
            state.oldest = state.version;
            state.events.clear();
            state.connections += 1;
        });
    }

    /// Makes lists so much longer.
    pub fn pad(&self, bytes: usize) {
        self.change(|state| state.padding = bytes);
    }

    /// The requests so far: method and path with query.
    #[must_use]
    pub fn requests(&self) -> Vec<String> {
        locked(&self.shared.0).requests.clone()
    }
}

fn locked(state: &Mutex<ApiState>) -> MutexGuard<'_, ApiState> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

fn text(value: &Value, pointer: &str) -> String {
    value.pointer(pointer).and_then(Value::as_str).unwrap_or_default().to_owned()
}

/// Answers one request.
fn serve(shared: &(Mutex<ApiState>, Condvar), stream: &TcpStream) -> std::io::Result<()> {
    let mut reader = BufReader::new(stream);
    let mut lines = reader.by_ref().lines().map_while(Result::ok).take_while(|line| !line.is_empty());
    let first = lines.next().unwrap_or_default();
    let headers: Vec<String> = lines.map(|line| line.to_ascii_lowercase()).collect();
    let header = |name: &str| headers.iter().find_map(|line| line.strip_prefix(name)).map(str::trim);
    let length: usize = header("content-length:").and_then(|length| length.parse().ok()).unwrap_or(0);
    let mut body = vec![0; length];
    reader.read_exact(&mut body)?;
    let mut words = first.split(' ');
    let (method, target) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    if header("authorization:") != Some("bearer test-token") {
        return reply(
            stream,
            401,
            &json!({"kind": "Status", "code": 401, "reason": "Unauthorized", "status": "Failure"}),
        );
    }
    let mut state = locked(&shared.0);
    state.requests.push(format!("{method} {target}"));
    if path.split('/').any(|part| state.forbidden.contains(part)) {
        return reply(stream, 403, &parsed(FORBIDDEN));
    }
    let parameter = |name: &str| query.split('&').find_map(|part| part.strip_prefix(name)?.strip_prefix('='));
    let node = parameter("fieldSelector").and_then(|selector| selector.strip_prefix("spec.nodeName%3D"));
    match path {
        "/version" => reply(stream, 200, &version()),
        "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews" => {
            let mut review: Value = serde_json::from_slice(&body).unwrap_or_default();
            let resource = text(&review, "/spec/resourceAttributes/resource");
            let status = json!({"allowed": !state.forbidden.contains(&resource)});
            review.as_object_mut().and_then(|review| review.insert("status".to_owned(), status));
            reply(stream, 201, &review)
        }
        "/api/v1/pods" if parameter("watch").is_some() => {
            drop(state);
            let from = parameter("resourceVersion").and_then(|version| version.parse().ok()).unwrap_or(0);
            watch(shared, stream, from, node)
        }
        "/api/v1/pods" => {
            let of_node = |pod: &&Value| node.is_none_or(|node| text(pod, "/spec/nodeName") == node);
            let items: Vec<&Value> = state.pods.values().filter(of_node).collect();
            let metadata = json!({"resourceVersion": state.version.to_string(), "x": "x".repeat(state.padding)});
            reply(stream, 200, &json!({"kind": "PodList", "apiVersion": "v1", "metadata": metadata, "items": items}))
        }
        path => match state.objects.get(path) {
            Some(object) => reply(stream, 200, object),
            None => {
                let gone = json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": "NotFound",
                                  "message": "not found", "code": 404});
                reply(stream, 404, &gone)
            }
        },
    }
}

fn version() -> Value {
    json!({"major": "1", "minor": "34", "gitVersion": "v1.34.4", "gitCommit": "", "gitTreeState": "clean",
           "buildDate": "2026-01-01T00:00:00Z", "goVersion": "go1.24", "compiler": "gc", "platform": "linux/amd64"})
}

fn reply(mut stream: &TcpStream, status: u16, body: &Value) -> std::io::Result<()> {
    let body = body.to_string();
    let length = body.len();
    write!(
        stream,
        "HTTP/1.1 {status} Status\r\nContent-Type: application/json\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n{body}"
    )
}

/// Events after a version, until the watch is ended.
fn watch(
    (state, changed): &(Mutex<ApiState>, Condvar),
    mut stream: &TcpStream,
    from: u64,
    node: Option<&str>,
) -> std::io::Result<()> {
    write!(stream, "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n")?;
    let mut state = locked(state);
    let (connection, mut at) = (state.connections, from);
    if from < state.oldest {
        let gone = json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": "Expired",
                          "message": format!("too old resource version: {from} ({})", state.oldest), "code": 410});
        chunk(stream, &json!({"type": "ERROR", "object": gone}))?;
        return stream.write_all(b"0\r\n\r\n");
    }
    while state.connections == connection {
        let since = at;
        for (version, event) in state.events.iter().filter(|(version, _)| *version > since) {
            let is_bookmark = event.get("type") == Some(&"BOOKMARK".into());
            if is_bookmark || node.is_none_or(|node| text(event, "/object/spec/nodeName") == node) {
                chunk(stream, event)?;
            }
            at = *version;
        }
        state = changed.wait(state).unwrap_or_else(PoisonError::into_inner);
    }
    stream.write_all(b"0\r\n\r\n")
}

fn chunk(mut stream: &TcpStream, event: &Value) -> std::io::Result<()> {
    let line = format!("{event}\n");
    write!(stream, "{:x}\r\n{line}\r\n", line.len())
}
