//! A podman container of its own image, gone when dropped.

use driftline_schemas::{ContainerId, ImageId};
use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use tempfile::TempDir;

/// Content of every script.
pub(crate) const SCRIPT: &[u8] = b"#!/bin/sh\nexit 0\n";
const APPLETS: [&str; 16] = [
    "cat", "chmod", "chroot", "cp", "ln", "mkdir", "mount", "mv", "nc", "printf", "rm", "sh", "sleep", "touch", "true",
    "unshare",
];
/// Files of the image that cases change, each its own.
const PROGRAMS: [&str; 3] = ["plain", "args", "tty"];

pub(crate) struct Container {
    id: ContainerId,
    name: String,
    image: String,
    data: TempDir,
    added: Vec<u8>,
}

impl Container {
    /// Builds an image that nobody has seen before, and starts a container of it that does nothing.
    pub(crate) fn start() -> Self {
        Self::start_with(&[])
    }

    /// The same with more options of podman itself.
    pub(crate) fn start_with(options: &[&str]) -> Self {
        Self::start_having(options, &[])
    }

    /// The same with more files in its image.
    pub(crate) fn start_having(options: &[&str], files: &[(&str, Vec<u8>)]) -> Self {
        Self::start_running(options, files, &[], &["/bin/sleep", "600"])
    }

    /// The same with more options of `podman run`, and another program.
    pub(crate) fn start_running(
        options: &[&str],
        files: &[(&str, Vec<u8>)],
        run_options: &[&str],
        command: &[&str],
    ) -> Self {
        let nonce = fs::read_to_string("/proc/sys/kernel/random/uuid").unwrap().trim().to_owned();
        let busybox = [fs::read(busybox_path().unwrap()).unwrap(), nonce.clone().into_bytes()].concat();
        let added = [busybox.clone(), b"added".to_vec()].concat();
        let name = format!("driftline-live-{nonce}");
        let image = format!("localhost/driftline-live:{nonce}");
        build_image(&image, &busybox, files);
        let data = tempfile::tempdir().unwrap();
        write(&data.path().join("busybox-added"), &added);
        write(&data.path().join("script"), SCRIPT);
        let bind = format!("{}:/data", data.path().display());
        let mut arguments = vec!["--runtime=runc", "--cgroup-manager=cgroupfs"];
        arguments.extend(options);
        arguments.extend(["run", "-d", "--name", &name]);
        arguments.extend(["--network=none", "--ulimit=nofile=1024:1024", "--ulimit=nproc=1000:1000"]);
        // A tmpfs from which programs may run, and system calls as in clusters without a profile.
        arguments.extend(["--security-opt=seccomp=unconfined", "--tmpfs=/dev/shm:rw,exec", "-v", &bind]);
        arguments.extend(run_options);
        arguments.push(&image);
        arguments.extend(command);
        let id = podman(&arguments);
        Self { id: ContainerId::from(id.trim()), name, image, data, added }
    }

    pub(crate) fn id(&self) -> &ContainerId {
        &self.id
    }

    /// Its first process on the host.
    pub(crate) fn init_pid(&self) -> i32 {
        podman(&["inspect", &self.name, "--format", "{{.State.Pid}}"]).trim().parse().unwrap()
    }

    /// Config digest of its image.
    pub(crate) fn image_id(&self) -> ImageId {
        let id = podman(&["inspect", &self.name, "--format", "{{.Image}}"]);
        ImageId::from(format!("sha256:{}", id.trim().trim_start_matches("sha256:")).as_str())
    }

    /// Content of the program that is no part of the image.
    pub(crate) fn added(&self) -> &[u8] {
        &self.added
    }

    /// A file of `/data`, on the node.
    pub(crate) fn data(&self, name: &str) -> PathBuf {
        self.data.path().join(name)
    }

    /// Runs a command line in another container of the same image, which ends with it.
    pub(crate) fn run_another(&self, command: &str) {
        let bind = format!("{}:/data", self.data.path().display());
        let run = ["--runtime=runc", "--cgroup-manager=cgroupfs", "run", "--rm", "--network=none"];
        let limits = ["--ulimit=nofile=1024:1024", "--ulimit=nproc=1000:1000"];
        podman(&[&run[..], &limits, &["-v", &bind, &self.image, "/bin/sh", "-c", command]].concat());
    }

    /// Runs a command line in the container.
    pub(crate) fn sh(&self, command: &str) {
        podman(&["--cgroup-manager=cgroupfs", "exec", &self.name, "/bin/sh", "-c", command]);
    }

    /// The same as another user.
    pub(crate) fn sh_as(&self, user: &str, command: &str) {
        podman(&["--cgroup-manager=cgroupfs", "exec", "--user", user, &self.name, "/bin/sh", "-c", command]);
    }

    /// Inode number of a file in `/data`.
    pub(crate) fn inode_of(&self, name: &str) -> i64 {
        fs::metadata(self.data.path().join(name)).unwrap().ino().cast_signed()
    }

    /// The same with a terminal.
    pub(crate) fn sh_with_terminal(&self, command: &str) {
        podman(&["--cgroup-manager=cgroupfs", "exec", "-t", &self.name, "/bin/sh", "-c", command]);
    }
}

impl Drop for Container {
    fn drop(&mut self) {
        let _ = run(&["--cgroup-manager=cgroupfs", "rm", "-f", "-t", "0", &self.name]);
        let _ = run(&["rmi", "-f", &self.image]);
    }
}

/// A root directory with busybox in it.
pub(crate) fn fill_root(root: &Path, busybox: &[u8]) {
    for directory in ["bin", "opt", "tmp", "dev", "proc", "sys", "etc", "lib"] {
        fs::create_dir(root.join(directory)).unwrap();
    }
    write(&root.join("bin/busybox"), busybox);
    for applet in APPLETS {
        symlink("busybox", root.join("bin").join(applet)).unwrap();
    }
}

fn build_image(image: &str, busybox: &[u8], files: &[(&str, Vec<u8>)]) {
    let root = tempfile::tempdir().unwrap();
    fill_root(root.path(), busybox);
    for program in PROGRAMS {
        write(&root.path().join(format!("opt/busybox-{program}")), busybox);
    }
    write(&root.path().join("opt/script.sh"), SCRIPT);
    for (path, content) in files {
        fs::create_dir_all(root.path().join(path).parent().unwrap()).unwrap();
        write(&root.path().join(path), content);
    }
    let archive = root.path().with_extension("tar");
    let tar = Command::new("tar").arg("-C").arg(root.path()).arg("-cf").arg(&archive).arg(".").status().unwrap();
    assert!(tar.success());
    podman(&["import", &archive.to_string_lossy(), image]);
    fs::remove_file(archive).unwrap();
}

pub(crate) fn write(path: &Path, content: &[u8]) {
    fs::write(path, content).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
}

/// A busybox that needs no libraries.
pub(crate) fn busybox_path() -> Option<String> {
    let found = Command::new("sh").args(["-c", "command -v busybox"]).output().ok()?;
    let path = String::from_utf8(found.stdout).ok()?.trim().to_owned();
    let libraries = Command::new("ldd").arg(&path).output().ok()?;
    (!path.is_empty() && !String::from_utf8_lossy(&libraries.stdout).contains("=>")).then_some(path)
}

fn run(arguments: &[&str]) -> Output {
    Command::new("podman").args(arguments).output().unwrap()
}

fn podman(arguments: &[&str]) -> String {
    let output = run(arguments);
    assert!(output.status.success(), "podman {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}
