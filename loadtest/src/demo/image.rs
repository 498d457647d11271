//! A fresh image: two layers of busybox programs whose names and bytes contain a random nonce, so that all their
//! digests are new.

use anyhow::{Context as _, bail};
use std::fs;
use std::io::Read as _;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};

use driftline_schemas::text::hex;

/// Where distributions put the statically linked busybox.
const BUSYBOX: [&str; 3] = ["/bin/busybox", "/usr/bin/busybox", "/bin/busybox.static"];
/// Names of busybox in the image.
const APPLETS: [&str; 6] = ["sh", "cat", "chmod", "cp", "true", "sleep"];

/// The image's content on disk, ready to build.
pub(super) struct Content {
    /// Build context; removed when dropped.
    pub(super) directory: tempfile::TempDir,
    /// Eight random hex digits.
    pub(super) nonce: String,
    /// The image's `/bin/busybox`.
    pub(super) busybox: Vec<u8>,
    /// Path of the image's own program, in a separate layer.
    pub(super) program: String,
}

impl Content {
    pub(super) fn make() -> anyhow::Result<Self> {
        let nonce = nonce()?;
        let busybox = marked(&fs::read(find_busybox()?)?, &nonce, "busybox");
        let directory = tempfile::tempdir()?;
        let base = directory.path().join("base");
        write_program(&base.join("bin/busybox"), &busybox)?;
        for applet in APPLETS {
            symlink("busybox", base.join("bin").join(applet))?;
        }
        for empty in ["tmp", "data"] {
            fs::create_dir_all(base.join(empty))?;
        }
        // busybox takes the applet from its first argument when its own name begins with "busybox".
        let program = format!("/app/busybox-{nonce}");
        let layer = directory.path().join("app");
        write_program(&layer.join(format!("busybox-{nonce}")), &marked(&busybox, &nonce, "app"))?;
        let recipe = "FROM scratch\nCOPY base /\nCOPY app /app/\nCMD [\"/bin/sleep\", \"3600\"]\n";
        // Both engines look for this name.
        fs::write(directory.path().join("Dockerfile"), recipe)?;
        Ok(Self { directory, nonce, busybox, program })
    }

    /// A new program: busybox with other bytes at its end.
    pub(super) fn new_program(&self, label: &str) -> Vec<u8> {
        marked(&self.busybox, &self.nonce, label)
    }
}

/// Appends bytes to a program: an ELF file may end in any bytes.
fn marked(program: &[u8], nonce: &str, label: &str) -> Vec<u8> {
    [program, format!("\ndriftline demo {label} {nonce}\n").as_bytes()].concat()
}

fn nonce() -> anyhow::Result<String> {
    let mut bytes = [0; 4];
    fs::File::open("/dev/urandom")?.read_exact(&mut bytes)?;
    Ok(hex(&bytes))
}

fn find_busybox() -> anyhow::Result<PathBuf> {
    let found = BUSYBOX.iter().map(Path::new).find(|path| path.exists());
    let Some(path) = found else { bail!("no statically linked busybox; run deploy/dev/needs.sh live") };
    Ok(path.to_owned())
}

fn write_program(path: &Path, bytes: &[u8]) -> anyhow::Result<()> {
    let directory = path.parent().context("a program needs a directory")?;
    fs::create_dir_all(directory)?;
    fs::write(path, bytes)?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o755))?;
    Ok(())
}
