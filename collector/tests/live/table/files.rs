//! What containers of the table are given, and what is in their images.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use tempfile::TempDir;

use super::cases::{CHANGED_LOADER, CaseContent, LOADER, MUSL, MUSL_LINK, PROGRAMS};
use crate::container::{SCRIPT, busybox_path, write};
use crate::image::{Layer, TestImage};

const APPLETS: [&str; 20] = [
    "cat",
    "chmod",
    "chown",
    "chroot",
    "cp",
    "ln",
    "mkdir",
    "mount",
    "mv",
    "nsenter",
    "pivot_root",
    "printf",
    "rm",
    "sh",
    "sleep",
    "touch",
    "true",
    "umount",
    "unshare",
    "usleep",
];
/// Added to what is not the image's.
const NEW: &[u8] = b"# new\n";
/// Added to what is changed.
const CHANGE: &[u8] = b"true\n";
const DYNAMIC_CHANGE: &[u8] = b"x\n";
const OWN_SCRIPT: &[u8] = b"#!/opt/interpreter/sh\nusleep 100000\n";
const SHM_SCRIPT: &[u8] = b"#!/dev/shm/sh\nusleep 100000\n";
const MOUNT_SCRIPT: &[u8] = b"#!/data/sh\nusleep 100000\n";
/// Layers of the large image beside three others; with them more than a hundred.
const THIN_LAYERS: usize = 100;
const MANY_FILES: usize = 100_000;

/// The directory that containers have as `/data`, and contents by what they are.
pub(crate) struct Files {
    directory: TempDir,
    busybox: Vec<u8>,
    added: Vec<u8>,
    hidden: Vec<u8>,
    dynamic: Vec<u8>,
    loader: Vec<u8>,
    library: Vec<u8>,
    new_script: Vec<u8>,
    new_dynamic: Vec<u8>,
    changed_script: Vec<u8>,
    changed_dynamic: Vec<u8>,
    musl: Option<Musl>,
}

/// What musl's compiler makes, and musl.
struct Musl {
    program: Vec<u8>,
    library: Vec<u8>,
}

impl Files {
    /// Contents that no other run has.
    pub(crate) fn make() -> Self {
        let nonce = fs::read_to_string("/proc/sys/kernel/random/uuid").unwrap().trim().to_owned();
        let busybox = [fs::read(busybox_path().unwrap()).unwrap(), nonce.clone().into_bytes()].concat();
        let added = [busybox.as_slice(), b"added"].concat();
        let hidden = [busybox.as_slice(), b"hidden"].concat();
        let directory = tempfile::tempdir().unwrap();
        let at = |name: &str| directory.path().join(name);
        compile(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/live/table/ways.c"), &at("ways"), &["-static"]);
        fs::write(at("dynamic.c"), "#include <unistd.h>\nint main(void) { return usleep(100000); }\n").unwrap();
        compile(&at("dynamic.c").display().to_string(), &at("dynamic"), &[]);
        let dynamic = [fs::read(at("dynamic")).unwrap(), nonce.into_bytes()].concat();
        let (loader, library) = loader_and_library(&at("dynamic"));
        let musl = Musl::make(&at("dynamic.c"), &at("musl"));
        let new_dynamic = [dynamic.as_slice(), NEW].concat();
        let new_script = [SCRIPT, NEW].concat();
        write(&at("dynamic"), &new_dynamic);
        write(&at("busybox-added"), &added);
        write(&at("sh"), &added);
        write(&at("busybox-image"), &busybox);
        write(&at("hidden"), &hidden);
        write(&at("script"), &new_script);
        write(&at("given"), &new_script);
        let changed_script = [SCRIPT, CHANGE].concat();
        let changed_dynamic = [dynamic.as_slice(), DYNAMIC_CHANGE].concat();
        Self {
            directory,
            busybox,
            added,
            hidden,
            dynamic,
            loader,
            library,
            new_script,
            new_dynamic,
            changed_script,
            changed_dynamic,
            musl,
        }
    }

    /// Why a content cannot be had here.
    pub(crate) fn missing(&self, content: CaseContent) -> Option<&'static str> {
        (content == CaseContent::Musl && self.musl.is_none()).then_some("no musl-gcc; install musl-tools")
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    pub(crate) fn write(&self, name: &str, content: &[u8]) {
        write(&self.path(name), content);
    }

    pub(crate) fn content(&self, content: CaseContent) -> Option<&[u8]> {
        Some(match content {
            CaseContent::NotHashed => return None,
            CaseContent::Image => &self.busybox,
            CaseContent::Added => &self.added,
            CaseContent::Hidden => &self.hidden,
            CaseContent::Script => SCRIPT,
            CaseContent::OwnScript => OWN_SCRIPT,
            CaseContent::ShmScript => SHM_SCRIPT,
            CaseContent::MountScript => MOUNT_SCRIPT,
            CaseContent::NewScript => &self.new_script,
            CaseContent::NewDynamic => &self.new_dynamic,
            CaseContent::ChangedScript => &self.changed_script,
            CaseContent::Dynamic => &self.dynamic,
            CaseContent::ChangedDynamic => &self.changed_dynamic,
            CaseContent::Musl => &self.musl.as_ref()?.program,
        })
    }

    /// Directories, busybox and its applets.
    fn base(&self) -> Layer {
        let mut layer = Layer::new();
        for directory in ["bin", "data", "dev", "etc", "lib", "opt", "proc", "scratch", "sys", "tmp", "vol"] {
            layer = layer.directory(directory);
        }
        layer = layer.program("bin/busybox", &self.busybox);
        APPLETS.iter().fold(layer, |layer, applet| layer.symlink(&format!("bin/{applet}"), "busybox"))
    }

    /// Programs with dynamic libraries, and what they need.
    fn dynamic(&self, layer: Layer) -> Layer {
        let programs = ["dynamic", "dynamic3", "dynamic4"];
        let layer =
            programs.iter().fold(layer, |layer, program| layer.program(&format!("opt/{program}"), &self.dynamic));
        let loaders = [LOADER, CHANGED_LOADER];
        let layer = loaders.iter().fold(layer, |layer, path| layer.program(path.trim_start_matches('/'), &self.loader));
        layer.program("lib/libc.so.6", &self.library)
    }
}

impl Musl {
    fn make(source: &Path, program: &Path) -> Option<Self> {
        let compiled = Command::new("musl-gcc").args(["-O1", "-o"]).arg(program).arg(source).status();
        if !compiled.is_ok_and(|status| status.success()) {
            return None;
        }
        // The only one that is installed, by the name that programs have in them.
        let loaders = fs::read_dir("/lib").unwrap().map(|entry| entry.unwrap().path());
        let is_musl = |path: &PathBuf| path.to_string_lossy().starts_with("/lib/ld-musl-");
        let library = loaders.filter(is_musl).find_map(|path| fs::read(path).ok())?;
        Some(Self { program: fs::read(program).unwrap(), library })
    }
}

/// A name that no other image has.
fn name_of(what: &str) -> String {
    let nonce = fs::read_to_string("/proc/sys/kernel/random/uuid").unwrap();
    format!("localhost/driftline-{what}:{}", nonce.trim())
}

/// Two layers: everything that the cases want, and one that hides some of it.
pub(crate) fn image(files: &Files) -> TestImage {
    let mut lower = files.dynamic(files.base());
    for program in PROGRAMS {
        lower = lower.program(&format!("opt/{program}"), &files.busybox);
    }
    for script in ["script.sh", "chmod.sh", "changed.sh", "linked.sh", "given.sh", "given-changed.sh"] {
        lower = lower.program(&format!("opt/{script}"), SCRIPT);
    }
    lower = lower.program("opt/data/app/start.sh", SCRIPT);
    lower = lower.program("opt/interpreter/sh", &files.busybox);
    for (script, content) in [
        ("interpreted.sh", OWN_SCRIPT),
        ("interpreted2.sh", OWN_SCRIPT),
        ("shm.sh", SHM_SCRIPT),
        ("mounted.sh", MOUNT_SCRIPT),
    ] {
        lower = lower.program(&format!("opt/{script}"), content);
    }
    for directory in ["applets", "hard", "own"] {
        lower = lower.program(&format!("opt/{directory}/busybox"), &files.busybox);
    }
    if let Some(musl) = &files.musl {
        lower = lower.program(MUSL.trim_start_matches('/'), &musl.library);
        lower = lower.symlink(MUSL_LINK.trim_start_matches('/'), "libc.so");
    }
    let lower = lower
        .symlink("opt/applets/true", "busybox")
        .hard_link("opt/hard/true", "opt/hard/busybox")
        .program("vol/busybox-vol", &files.busybox)
        .program("opt/gone/busybox-gone", &files.hidden)
        .program("opt/opaque/busybox-op", &files.hidden)
        .finish();
    let upper = Layer::new().whiteout("opt/gone", "busybox-gone").opaque("opt/opaque").finish();
    TestImage::write(&name_of("cases"), &[&lower, &upper], &["/vol"])
}

/// So little that copying it for each layer and container costs nothing.
pub(crate) fn small_image(files: &Files) -> TestImage {
    let programs = ["busybox-plain", "busybox-over", "busybox-chmod"];
    let base = files.dynamic(files.base());
    let layer = programs.iter().fold(base, |layer, program| layer.program(&format!("opt/{program}"), &files.busybox));
    TestImage::write(&name_of("small"), &[&layer.finish()], &[])
}

/// More than a hundred layers, one of them twice, and one with 100,000 files.
pub(crate) fn large_image(files: &Files) -> TestImage {
    let lowest = files.base().program("opt/busybox-over", &files.busybox).finish();
    let mut many = Layer::new();
    for number in 0..MANY_FILES {
        many = many.program(&format!("many/{number}"), SCRIPT);
    }
    let many = many.finish();
    let twice = Layer::new().program("opt/twice.sh", &files.changed_script).finish();
    let between = Layer::new().program("opt/twice.sh", SCRIPT).finish();
    let topmost = Layer::new().program("opt/busybox-top", &files.busybox).finish();
    let thin: Vec<Vec<u8>> =
        (0..THIN_LAYERS).map(|number| Layer::new().program(&format!("opt/layer-{number}"), SCRIPT).finish()).collect();
    let mut layers: Vec<&[u8]> = vec![&lowest, &many, &twice, &between];
    layers.extend(thin.iter().map(Vec::as_slice));
    layers.extend([twice.as_slice(), &topmost]);
    TestImage::write(&name_of("large"), &layers, &[])
}

fn compile(source: &str, to: &Path, options: &[&str]) {
    let output = Command::new("cc").args(["-O1", "-o"]).arg(to).args(options).arg(source).output().unwrap();
    assert!(output.status.success(), "cc {source}: {}", String::from_utf8_lossy(&output.stderr));
}

/// The loader that a program asks for, and the only library.
pub(crate) fn loader_and_library(program: &Path) -> (Vec<u8>, Vec<u8>) {
    let output = Command::new("ldd").arg(program).output().unwrap();
    let listed = String::from_utf8(output.stdout).unwrap();
    let path = |name: &str| {
        let line = listed.lines().find(|line| line.contains(name)).unwrap_or_else(|| panic!("no {name} in {listed}"));
        line.split_whitespace().find(|word| word.starts_with('/')).unwrap().to_owned()
    };
    (fs::read(path("/ld-")).unwrap(), fs::read(path("libc.so")).unwrap())
}
