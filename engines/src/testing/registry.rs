//! For tests: a registry on loopback with one image. Needs docker-registry, skopeo, umoci and a static busybox; where one
//! is missing, starting fails with the reason.

use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use driftline_schemas::ImageId;
use serde_json::Value;

use super::{build, run, static_busybox, text};

/// Name of the image within the registry.
const NAME: &str = "shop/web:1";
/// How often it is tried whether the registry listens.
const PATIENCE_TRIES: u32 = 400;
const TRY_AGAIN: Duration = Duration::from_millis(25);

/// The registry; ends when dropped.
#[derive(Debug)]
pub struct Registry {
    _directory: tempfile::TempDir,
    process: Child,
    port: u16,
    image_id: ImageId,
}

impl Registry {
    /// Starts it, and pushes an image that is nowhere else.
    ///
    /// # Errors
    /// What is missing here, or what went wrong.
    pub fn start() -> Result<Self, String> {
        let directory = tempfile::tempdir().map_err(text)?;
        let at = |name: &str| directory.path().join(name).display().to_string();
        let port = TcpListener::bind("127.0.0.1:0").and_then(|free| free.local_addr()).map_err(text)?.port();
        let config = format!(
            "version: 0.1\nlog: {{level: error, accesslog: {{disabled: true}}}}\n\
             storage: {{filesystem: {{rootdirectory: {}}}}}\nhttp: {{addr: '127.0.0.1:{port}'}}\n",
            at("store")
        );
        std::fs::write(at("config.yml"), config).map_err(text)?;
        let mut command = Command::new("docker-registry");
        command.args(["serve", &at("config.yml")]).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let process = command.spawn().map_err(|error| format!("docker-registry: {error}"))?;
        let image_id = ImageId::default();
        let mut registry = Self { _directory: directory, process, port, image_id };
        registry.wait()?;
        registry.push()?;
        Ok(registry)
    }

    /// The image as a pod names it.
    #[must_use]
    pub fn reference(&self) -> String {
        format!("127.0.0.1:{}/{NAME}", self.port)
    }

    /// Config digest of the image.
    #[must_use]
    pub fn image_id(&self) -> &ImageId {
        &self.image_id
    }

    fn wait(&mut self) -> Result<(), String> {
        for _ in 0..PATIENCE_TRIES {
            if TcpStream::connect(("127.0.0.1", self.port)).is_ok() {
                return Ok(());
            }
            std::thread::park_timeout(TRY_AGAIN);
        }
        Err("docker-registry does not listen".to_owned())
    }

    fn push(&mut self) -> Result<(), String> {
        let work = tempfile::tempdir().map_err(text)?;
        build(work.path(), &static_busybox()?, NAME, &["/bin/sleep", "86400"])?;
        let layout = work.path().join("layout");
        let from = format!("oci:{}:1", layout.display());
        let to = format!("docker://{}", self.reference());
        run("skopeo", &["--insecure-policy", "copy", "--quiet", "--dest-tls-verify=false", &from, &to])?;
        self.image_id = config_of(&layout)?;
        Ok(())
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Config digest of the only image of a layout.
fn config_of(layout: &Path) -> Result<ImageId, String> {
    let read = |path: &Path| -> Result<Value, String> {
        let bytes = std::fs::read(path).map_err(text)?;
        serde_json::from_slice(&bytes).map_err(text)
    };
    let digest = |value: &Value, pointer: &str| {
        let digest = value.pointer(pointer).and_then(Value::as_str).map(str::to_owned);
        digest.ok_or_else(|| format!("no {pointer} in {value}"))
    };
    let manifest = digest(&read(&layout.join("index.json"))?, "/manifests/0/digest")?;
    let manifest = read(&layout.join("blobs").join(manifest.replace(':', "/")))?;
    digest(&manifest, "/config/digest").map(|config| ImageId::from(config.as_str()))
}
