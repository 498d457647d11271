//! Real registries on loopback, filled by skopeo, and a server between them and the indexer that misbehaves on demand.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::tools::run;

/// How the registry authenticates clients.
pub(crate) enum Auth<'a> {
    Nobody,
    Password,
    /// Certificate of the token server, and its address.
    Token(&'a Path, u16),
}

/// Debian's docker-registry; it ends with the test.
pub(crate) struct Registry {
    process: Child,
    pub(crate) port: u16,
}

pub(crate) const USER: &str = "reader";
pub(crate) const PASSWORD: &str = "p4ss:w0rd";
pub(crate) const SERVICE: &str = "test-registry";

impl Registry {
    /// Serves the blobs of a directory, which several may share.
    pub(crate) fn start(store: &Path, auth: &Auth<'_>, tls: Option<(&Path, &Path)>) -> Result<Self, String> {
        Self::start_with(store, auth, tls, None)
    }

    /// Like [`Self::start`]; with TLS, clients may have to present a certificate of an authority.
    pub(crate) fn start_with(
        store: &Path,
        auth: &Auth<'_>,
        tls: Option<(&Path, &Path)>,
        clients: Option<&Path>,
    ) -> Result<Self, String> {
        let port = free_port();
        let configuration = store.join(format!("registry-{port}.yml"));
        let mut text = format!(
            "version: 0.1\nlog: {{level: error, accesslog: {{disabled: true}}}}\n\
             storage: {{filesystem: {{rootdirectory: {}}}}}\nhttp:\n  addr: 127.0.0.1:{port}\n",
            store.display()
        );
        if let Some((certificate, key)) = tls {
            let clients = clients.map_or_else(String::new, |path| format!(", clientcas: ['{}']", path.display()));
            text += &format!("  tls: {{certificate: {}, key: {}{clients}}}\n", certificate.display(), key.display());
        }
        match auth {
            Auth::Nobody => {}
            Auth::Password => {
                let file = store.join("htpasswd");
                std::fs::write(&file, run("htpasswd", &["-nbB", USER, PASSWORD])?).unwrap();
                text += &format!("auth: {{htpasswd: {{realm: test, path: {}}}}}\n", file.display());
            }
            Auth::Token(certificate, realm) => {
                text += &format!(
                    "auth: {{token: {{realm: 'http://127.0.0.1:{realm}/token', service: {SERVICE}, issuer: tests, \
                     rootcertbundle: {}}}}}\n",
                    certificate.display()
                );
            }
        }
        std::fs::write(&configuration, text).unwrap();
        let mut command = Command::new("docker-registry");
        command.arg("serve").arg(&configuration).stdout(Stdio::null()).stderr(Stdio::null());
        let process = command.spawn().map_err(|error| format!("docker-registry: {error}"))?;
        let registry = Self { process, port };
        // It answers as soon as it listens: there is no other sign to wait for.
        let mut tries = 0;
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            tries += 1;
            assert!(tries < 400, "the registry does not listen");
            std::thread::park_timeout(Duration::from_millis(25));
        }
        Ok(registry)
    }

    /// Copies an image of a layout into the registry.
    pub(crate) fn fill(&self, layout: &Path, name: &str, to: &str, options: &[&str]) -> Result<(), String> {
        let from = format!("oci:{}:{name}", layout.display());
        let to = format!("docker://127.0.0.1:{}/{to}", self.port);
        let copy = ["--insecure-policy", "copy", "--quiet", "--dest-tls-verify=false"];
        run("skopeo", &[&copy, options, &[from.as_str(), to.as_str()]].concat()).map(drop)
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// The head of a request: its first line, and its headers in lower case.
#[derive(Debug, Clone)]
pub(crate) struct ReceivedRequest {
    pub(crate) path: String,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

impl ReceivedRequest {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }
}

/// The response of a server to a request.
pub(crate) enum Deed {
    /// Return the response of the registry behind it.
    Forward,
    /// Return the same response with its body changed.
    Change(fn(&mut Vec<u8>)),
    /// Return the same response, cut after so many bytes of the body.
    Cut(usize),
    /// Return this status line with headers, and this body.
    Say(String, Vec<u8>),
    /// Return headers, then bytes for ever.
    Endless,
    /// Return half of the announced length, then nothing.
    Stall,
}

/// A server that misbehaves, and records the requests that it received.
pub(crate) struct Server {
    pub(crate) port: u16,
    received: Arc<Mutex<Vec<ReceivedRequest>>>,
}

impl Server {
    /// Starts a server that decides about every request; requests of the same path are numbered from 0.
    pub(crate) fn start(
        behind: Option<u16>,
        decide: impl Fn(&ReceivedRequest, usize) -> Deed + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let received: Arc<Mutex<Vec<ReceivedRequest>>> = Arc::default();
        let (seen, decide) = (Arc::clone(&received), Arc::new(decide));
        // The thread ends with the process of the tests.
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let (seen, decide, stream) = (Arc::clone(&seen), Arc::clone(&decide), stream.unwrap());
                std::thread::spawn(move || {
                    let Some((line, request)) = read_request(&stream) else { return };
                    let number = {
                        let mut seen = seen.lock().unwrap();
                        let before = seen.iter().filter(|other| other.path == request.path).count();
                        seen.push(request.clone());
                        before
                    };
                    // The client may have closed the connection.
                    let _ = answer(stream, behind, &line, &request, decide(&request, number));
                });
            }
        });
        Self { port, received }
    }

    pub(crate) fn received(&self) -> Vec<ReceivedRequest> {
        self.received.lock().unwrap().clone()
    }
}

fn read_request(stream: &TcpStream) -> Option<(String, ReceivedRequest)> {
    let mut reader = BufReader::new(stream);
    let (line, headers) = read_head(&mut reader)?;
    let path = line.split(' ').nth(1)?.to_owned();
    let mut request = ReceivedRequest { path, headers, body: Vec::new() };
    let length = request.header("content-length").and_then(|length| length.parse().ok()).unwrap_or(0);
    request.body = vec![0; length];
    reader.read_exact(&mut request.body).ok()?;
    Some((line, request))
}

fn read_head(reader: &mut impl std::io::BufRead) -> Option<(String, Vec<(String, String)>)> {
    let mut lines = reader.by_ref().lines().map_while(Result::ok).take_while(|line| !line.is_empty());
    let first = lines.next()?;
    let headers = lines.filter_map(|line| {
        let (name, value) = line.split_once(':')?;
        Some((name.to_ascii_lowercase(), value.trim().to_owned()))
    });
    Some((first, headers.collect()))
}

fn answer(
    mut to: TcpStream,
    behind: Option<u16>,
    line: &str,
    received: &ReceivedRequest,
    deed: Deed,
) -> std::io::Result<()> {
    let (head, mut body) = match &deed {
        Deed::Say(head, body) => (head.clone(), body.clone()),
        Deed::Endless => ("HTTP/1.1 200 OK\r\n".to_owned(), Vec::new()),
        _ => forward(behind.unwrap(), line, received)?,
    };
    let stated = body.len();
    match &deed {
        Deed::Change(change) => change(&mut body),
        Deed::Cut(after) => body.truncate(*after),
        Deed::Stall => body.truncate(stated / 2),
        Deed::Endless => {
            write!(to, "{head}Connection: close\r\n\r\n")?;
            loop {
                to.write_all(&[0; 65_536])?;
            }
        }
        Deed::Say(..) | Deed::Forward => {}
    }
    let promised = if matches!(deed, Deed::Change(_)) { body.len() } else { stated };
    write!(to, "{head}Connection: close\r\nContent-Length: {promised}\r\n\r\n")?;
    to.write_all(&body)?;
    if matches!(deed, Deed::Stall) {
        // Waits until the client gives up.
        let _ = to.read(&mut [0]);
    }
    Ok(())
}

/// The registry's response: status line and headers without length, and body.
fn forward(behind: u16, line: &str, received: &ReceivedRequest) -> std::io::Result<(String, Vec<u8>)> {
    let mut upstream = TcpStream::connect(("127.0.0.1", behind))?;
    write!(upstream, "{}\r\n", line.replace("HTTP/1.1", "HTTP/1.0"))?;
    for (name, value) in received.headers.iter().filter(|(name, _)| name != "connection") {
        write!(upstream, "{name}: {value}\r\n")?;
    }
    upstream.write_all(b"\r\n")?;
    let mut reader = BufReader::new(upstream);
    let (status, headers) = read_head(&mut reader).unwrap_or_default();
    let mut head = format!("{}\r\n", status.replace("HTTP/1.0", "HTTP/1.1"));
    for (name, value) in headers {
        if !matches!(name.as_str(), "content-length" | "connection" | "transfer-encoding") {
            head += &format!("{name}: {value}\r\n");
        }
    }
    let mut body = Vec::new();
    reader.read_to_end(&mut body)?;
    Ok((head, body))
}

/// Certificates of a test: of an authority, and of a server at the loopback address with its key.
pub(crate) struct Certificates {
    pub(crate) authority: PathBuf,
    pub(crate) server: PathBuf,
    pub(crate) key: PathBuf,
}

impl Certificates {
    pub(crate) fn make(directory: &Path) -> Result<Self, String> {
        let path = |name: &str| directory.join(name).to_string_lossy().into_owned();
        let (authority, authority_key, server, key) =
            (path("ca.pem"), path("ca.key"), path("server.pem"), path("server.key"));
        let fresh = ["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2"];
        let own = ["-subj", "/CN=driftline test authority", "-out", &authority, "-keyout", &authority_key];
        run("openssl", &[&fresh[..], &own].concat())?;
        let signed = ["-CA", &authority, "-CAkey", &authority_key, "-subj", "/CN=127.0.0.1"];
        let leaf = ["-addext", "subjectAltName=IP:127.0.0.1", "-addext", "basicConstraints=critical,CA:FALSE"];
        run("openssl", &[&fresh[..], &signed, &leaf, &["-out", &server, "-keyout", &key]].concat())?;
        Ok(Self { authority: authority.into(), server: server.into(), key: key.into() })
    }

    /// A token as the registry requires it: signed with the server's key, for one repository.
    pub(crate) fn token(&self, repository: &str) -> String {
        use base64::Engine as _;
        let url = |bytes: &[u8]| base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(bytes);
        let pem = std::fs::read_to_string(&self.server).unwrap();
        let x5c: String = pem.lines().filter(|line| !line.starts_with("-----")).collect();
        let now_s = driftline_service::clock::now_ns() / 1_000_000_000;
        let header = serde_json::json!({"typ": "JWT", "alg": "RS256", "x5c": [x5c]});
        let claims = serde_json::json!({
            "iss": "tests", "sub": USER, "aud": SERVICE, "exp": now_s + 300, "nbf": now_s - 10, "iat": now_s, "jti": "1",
            "access": [{"type": "repository", "name": repository, "actions": ["pull"]}],
        });
        let signed = format!("{}.{}", url(header.to_string().as_bytes()), url(claims.to_string().as_bytes()));
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), &signed).unwrap();
        let (key, text) = (self.key.to_string_lossy(), file.path().to_string_lossy());
        let signature = run("openssl", &["dgst", "-sha256", "-sign", &*key, &*text]).unwrap();
        format!("{signed}.{}", url(&signature))
    }
}
