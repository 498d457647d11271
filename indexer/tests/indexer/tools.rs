//! Independent tools with which some tests compare. A test whose tools are missing is recorded as skipped.

use std::ffi::OsStr;
use std::path::Path;
use std::process::Command;

use driftline_indexer::{Wanted, own_platform};
use driftline_schemas::ImageId;
use sha2::{Digest as _, Sha256};

/// Options that make podman work without systemd and in containers.
pub(crate) const PODMAN: [&str; 2] = ["--runtime=runc", "--cgroup-manager=cgroupfs"];

/// A regular file: path, mode, digest.
pub(crate) type File = (Vec<u8>, u16, String);

/// Runs a tool; returns its standard output, or its standard error on failure.
pub(crate) fn run<S: AsRef<OsStr>>(program: &str, arguments: &[S]) -> Result<Vec<u8>, String> {
    let output = Command::new(program).args(arguments).output().map_err(|error| format!("{program}: {error}"))?;
    if output.status.success() {
        Ok(output.stdout)
    } else {
        Err(format!("{program}: {}", String::from_utf8_lossy(&output.stderr).trim()))
    }
}

/// Like [`run`], for podman; returns its standard output as text.
pub(crate) fn podman(arguments: &[&str]) -> Result<String, String> {
    let output = run("podman", &[&PODMAN, arguments].concat())?;
    Ok(String::from_utf8_lossy(&output).trim().to_owned())
}

/// Checks that a tool can be started at all.
pub(crate) fn find(program: &str) -> Result<(), String> {
    run(program, &["--version"]).map(drop)
}

/// Adds the name of a test that could not run to the file that collects them.
pub(crate) fn skip(name: &str, reason: &str) {
    println!("skipped {name}: {reason}");
    let Some(list) = setting("DRIFTLINE_SKIPPED") else { return };
    let mut file = std::fs::OpenOptions::new().append(true).create(true).open(list).unwrap();
    let line = format!("{name}\t{}\n", reason.replace(['\n', '\t'], " "));
    std::io::Write::write_all(&mut file, line.as_bytes()).unwrap();
}

/// The requirement of a test; if it is not available, records the test as skipped and returns `None`.
pub(crate) fn or_skip<T>(name: &str, made: Result<T, String>) -> Option<T> {
    made.inspect_err(|reason| skip(name, reason)).ok()
}

/// A variable of the test's environment.
#[expect(clippy::disallowed_methods, reason = "tests are told by make where things are")]
pub(crate) fn setting(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|text| !text.is_empty())
}

/// Every regular file below a directory, by path.
pub(crate) fn files_below(root: &Path) -> Vec<File> {
    use std::os::unix::ffi::OsStrExt as _;
    use std::os::unix::fs::PermissionsExt as _;
    let mut files = Vec::new();
    let mut directories = vec![root.to_owned()];
    while let Some(directory) = directories.pop() {
        for entry in std::fs::read_dir(directory).unwrap() {
            let entry = entry.unwrap();
            let metadata = std::fs::symlink_metadata(entry.path()).unwrap();
            if metadata.is_dir() {
                directories.push(entry.path());
            } else if metadata.is_file() {
                let path = entry.path();
                let inside = [b"/", path.strip_prefix(root).unwrap().as_os_str().as_bytes()].concat();
                let mode = u16::try_from(metadata.permissions().mode() & 0o7777).unwrap();
                let digest = Sha256::digest(std::fs::read(&path).unwrap());
                files.push((inside, mode, driftline_schemas::Sha256(digest.into()).to_string()));
            }
        }
    }
    files.sort();
    files
}

/// Layers read at once: more than one, so that every test covers the interaction of lanes.
pub(crate) const LANES: usize = 2;

/// The image with this digest, or the only one.
pub(crate) fn wanted(image_id: Option<&ImageId>) -> Wanted {
    Wanted { image_id: image_id.cloned(), platform: own_platform() }
}
