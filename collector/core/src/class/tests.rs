use super::*;
use crate::layout;
use crate::mounts::KernelMount;
use crate::raw::tests::exec;
use crate::raw::{Comm, RawAncestor};

const HOST: u32 = 99;
const NODE_DISK: Dev = Dev { major: 8, minor: 1 };

fn root() -> ContainerRoot {
    ContainerRoot::of_process(&exec())
}

fn mounts() -> Mounts {
    let mount = |point: &str, fs_type: &str| Mount {
        point: point.into(),
        fs_type: fs_type.into(),
        source: String::new(),
        read_only: false,
    };
    let mut mounts = Mounts::default();
    mounts.name(&[mount("/data", "bind"), mount("/dev/shm", "tmpfs")]);
    mounts
}

#[test]
fn an_overlay_mounted_below_a_mount_of_the_container_is_not_that_mount() {
    let point = Mount { point: "/dev/shm".into(), fs_type: "tmpfs".into(), source: String::new(), read_only: false };
    let shm = KernelMount { mount: point, id: 650, dev: Dev { major: 0, minor: 42 }, is_refused: false };
    let mounts = Mounts::of_kernel(vec![shm]);
    let mut raw = exec();
    raw.path = b"/dev/shm/m/x".to_vec();
    raw.file.dev = Dev { major: 0, minor: 77 };
    raw.file.mnt_id = 800;
    assert_eq!(class(&raw, &root(), &mounts), (FileClass::Foreign, None));
}

fn check(name: &str, root: &ContainerRoot, change: impl FnOnce(&mut RawExec), expect: FileClass, point: Option<&str>) {
    let mut raw = exec();
    change(&mut raw);
    let mounts = mounts();
    let (class, mount) = class(&raw, root, &mounts);
    assert_eq!((class, mount.map(|mount| mount.point.as_str())), (expect, point), "{name}");
}

fn on_other_fs(raw: &mut RawExec, path: &[u8]) {
    raw.flags &= !layout::FLAG_OVERLAY;
    raw.file.dev = Dev { major: 254, minor: 0 };
    raw.file.fs_magic = 0xef53;
    raw.file.mnt_id = 700;
    raw.path = path.to_vec();
}

#[test]
fn on_the_containers_overlay_the_layers_decide() {
    let root = root();
    check("untouched", &root, |_| (), FileClass::Image, None);
    let upper = |lower| {
        move |raw: &mut RawExec| {
            raw.flags |= layout::FLAG_UPPER;
            raw.file.lower_count = lower;
        }
    };
    check("written", &root, upper(0), FileClass::New, None);
    check("copied up", &root, upper(1), FileClass::CopiedUp, None);
    check(
        "under a mount point that is no longer mounted",
        &root,
        |raw| raw.path = b"/data/x".to_vec(),
        FileClass::Image,
        None,
    );
}

#[test]
fn another_overlay_proves_nothing() {
    let other = |path: &'static [u8]| {
        move |raw: &mut RawExec| {
            raw.file.dev = Dev { major: 0, minor: 77 };
            raw.file.mnt_id = 701;
            raw.path = path.to_vec();
        }
    };
    check("mounted inside", &root(), other(b"/mnt/x"), FileClass::Foreign, None);
    check(
        "the process's own root, not the container's",
        &root(),
        |raw| {
            raw.root_dev = Dev { major: 0, minor: 77 };
            other(b"/mnt/x")(raw);
        },
        FileClass::Foreign,
        None,
    );
    check("given by the runtime", &root(), other(b"/data/x"), FileClass::Volume, Some("/data"));
}

#[test]
fn other_file_systems_are_volumes_where_the_runtime_mounted_them() {
    check("bind", &root(), |raw| on_other_fs(raw, b"/data/x"), FileClass::Volume, Some("/data"));
    check("shm", &root(), |raw| on_other_fs(raw, b"/dev/shm/x"), FileClass::Volume, Some("/dev/shm"));
    check("unknown", &root(), |raw| on_other_fs(raw, b"/mnt/x"), FileClass::OtherFs, None);
}

#[test]
fn a_memfd_lies_in_no_directory() {
    let memfd = |raw: &mut RawExec| {
        on_other_fs(raw, b"memfd:x");
        raw.file.fs_magic = magic::TMPFS;
        raw.flags = raw.flags & !layout::FLAG_PATH_COMPLETE | layout::FLAG_PATH_ANONYMOUS;
    };
    check("memfd", &root(), memfd, FileClass::Memfd, None);
    check(
        "a file of that name",
        &root(),
        |raw| {
            memfd(raw);
            raw.flags = raw.flags & !layout::FLAG_PATH_ANONYMOUS | layout::FLAG_PATH_COMPLETE;
            raw.path = b"/tmp/memfd:x".to_vec();
        },
        FileClass::OtherFs,
        None,
    );
}

#[test]
fn on_a_plain_root_the_mount_distinguishes_a_volume_of_the_same_disk() {
    let plain = ContainerRoot { dev: Dev { major: 254, minor: 0 }, mnt_id: Some(600), mount_ns: 7, overlay: false };
    let on = |mnt_id, path: &'static [u8]| {
        move |raw: &mut RawExec| {
            on_other_fs(raw, path);
            raw.file.mnt_id = mnt_id;
        }
    };
    check("root", &plain, on(600, b"/bin/x"), FileClass::RootfsPlain, None);
    check("volume", &plain, on(601, b"/data/x"), FileClass::Volume, Some("/data"));
    check("bound inside the container", &plain, on(602, b"/mnt/x"), FileClass::RootfsPlain, None);
    check("an overlay", &plain, |_| (), FileClass::Foreign, None);
}

#[test]
fn scripts_on_the_root_are_judged_by_digest() {
    let script = |mnt_id: Option<u32>, minor: u32, path: &[u8]| NamedFacts {
        path: path.to_vec(),
        dev: Dev { major: 0, minor },
        ino: 1,
        size_bytes: 1,
        mode: 0,
        nlink: 1,
        mtime_ns: 0,
        ctime_ns: 0,
        fs_magic: magic::OVERLAY,
        mnt_id,
        overlay_mount: None,
        name_changed_ns: 0,
    };
    let check = |facts: &NamedFacts, expect: FileClass| assert_eq!(class_of_named(facts, &root(), &mounts()).0, expect);
    check(&script(Some(644), 500, b"/x"), FileClass::RootfsPlain);
    check(&script(None, 41, b"/x"), FileClass::RootfsPlain);
    check(&script(Some(900), 41, b"/x"), FileClass::RootfsPlain);
    check(&script(Some(700), 500, b"/data/x"), FileClass::Volume);
    check(&script(Some(700), 500, b"/x"), FileClass::Foreign);
}

#[test]
fn only_an_ancestor_in_a_container_makes_a_host_process_one_from_inside() {
    let mut raw = exec();
    assert_eq!(mount_namespace(&raw, &root(), HOST), MountNamespace::Own);
    raw.mnt_ns = 8;
    assert_eq!(mount_namespace(&raw, &root(), HOST), MountNamespace::Other);
    raw.mnt_ns = HOST;
    raw.root_dev = NODE_DISK;
    assert_eq!(mount_namespace(&raw, &root(), HOST), MountNamespace::Host);
    assert!(is_runtime_helper(&raw, None, HOST) && is_runtime_helper(&raw, Some(&root()), HOST));
    raw.outer_mnt_ns = 7;
    assert!(!is_runtime_helper(&raw, None, HOST) && !is_runtime_helper(&raw, Some(&root()), HOST));
}

#[test]
fn a_runtime_with_a_mount_namespace_of_its_own_is_recognised_once_the_root_is_known() {
    let mut raw = exec();
    raw.mnt_ns = 50;
    raw.outer_mnt_ns = HOST;
    raw.root_dev = NODE_DISK;
    assert!(!is_runtime_helper(&raw, Some(&root()), HOST), "not in the host's pid namespace: from inside");
    raw.flags |= layout::FLAG_HOST_PID;
    assert!(is_runtime_helper(&raw, Some(&root()), HOST));
    raw.mnt_ns = 7;
    assert!(!is_runtime_helper(&raw, Some(&root()), HOST), "a container that shares the host's processes");
}

#[test]
fn a_process_on_the_root_or_below_a_program_of_it_is_no_runtime_in_any_mount_namespace() {
    let ancestor = |dev: Dev| RawAncestor { pid: 9, start_ns: 5, comm: Comm::default(), dev, ino: 3 };
    let mut raw = RawExec { mnt_ns: 50, outer_mnt_ns: HOST, root_dev: NODE_DISK, ..exec() };
    raw.flags |= layout::FLAG_HOST_PID;
    raw.ancestors = vec![ancestor(NODE_DISK)];
    assert!(is_runtime_helper(&raw, Some(&root()), HOST));
    raw.ancestors.push(ancestor(root().dev));
    assert!(!is_runtime_helper(&raw, Some(&root()), HOST), "a program of the container above it");
    raw.ancestors.clear();
    raw.root_dev = root().dev;
    assert!(!is_runtime_helper(&raw, Some(&root()), HOST), "an orphan with the container's root");
    let plain = ContainerRoot { overlay: false, ..root() };
    assert!(is_runtime_helper(&raw, Some(&plain), HOST), "the superblock of a plain root is the node's");
}
