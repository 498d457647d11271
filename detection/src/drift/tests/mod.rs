//! Every row of the verdict table.

mod matrix;

use driftline_schemas::{ContainerId, EventId, FileFacts, Loader, Mount};

use super::*;
use crate::evidence::ImageLookup;

/// An image in which the content of each file is its path.
struct Paths([&'static str; 2]);

impl ImageLookup for Paths {
    fn file(&self, path: &[u8]) -> Option<FileContent> {
        let path = self.0.iter().find(|known| known.as_bytes() == path)?;
        Some(FileContent { sha256: content(path), size_bytes: path.len() as u64 })
    }

    fn path_of(&self, sha256: &Sha256) -> Option<&[u8]> {
        self.0.iter().find(|path| content(path) == *sha256).map(|path| path.as_bytes())
    }
}

const IMAGE: Paths = Paths(["/bin/ls", "/bin/cp"]);

fn content(text: &str) -> Sha256 {
    Sha256::of(text.as_bytes())
}

fn mount(point: &str) -> Mount {
    Mount { point: point.into(), fs_type: "tmpfs".into(), source: String::new(), read_only: false }
}

/// An exec of `path`, whose file has the content of the file named `file`.
fn exec(number: i64, class: FileClass, path: &str, file: &str) -> Exec {
    Exec {
        event_id: EventId::from(format!("event-{number}").as_str()),
        container_id: ContainerId::from("box"),
        path: path.into(),
        typed_path: path.into(),
        class,
        file: FileFacts { size_bytes: i64::try_from(file.len()).unwrap(), nlink: 1, ..FileFacts::default() },
        hash_state: HashState::Hashed,
        sha256: (class != FileClass::Image).then(|| content(file)),
        ..Exec::default()
    }
}

fn judge(exec: &Exec, image: Result<&Paths, &str>) -> Verdict {
    super::judge(&Evidence::of(exec, image))
}

struct Expect {
    origin: Origin,
    category: Option<&'static str>,
    confidence: Confidence,
}

fn expect(origin: Origin, category: Option<Category>, confidence: Confidence) -> Expect {
    Expect { origin, category: category.map(|category| category.name), confidence }
}

fn check(exec: &Exec, expected: &Expect) -> Verdict {
    let verdict = judge(exec, Ok(&IMAGE));
    let actual = (verdict.origin, verdict.category.map(|category| category.name), verdict.confidence);
    assert_eq!(actual, (expected.origin, expected.category, expected.confidence), "{exec:?}");
    verdict
}

fn unread(exec: Exec) -> Exec {
    Exec { sha256: None, hash_state: HashState::Gone, ..exec }
}

use Confidence::{High, Low};
use FileClass as C;

#[test]
fn an_untouched_image_file_is_silent_and_one_the_manifest_lacks_is_a_mismatch() {
    check(&exec(1, C::Image, "/bin/ls", "/bin/ls"), &expect(Origin::Image, None, High));
    check(&exec(1, C::Image, "/bin/other", ""), &expect(Origin::Inconsistent, Some(MISMATCH), High));
    let cut = Exec { path_truncated: true, ..exec(1, C::Image, "/long/ls", "") };
    check(&cut, &expect(Origin::Image, None, High));
    check(&exec(1, C::Image, "detached", ""), &expect(Origin::Image, None, High));
}

#[test]
fn through_a_mount_made_inside_the_container_a_file_is_judged_by_its_path_from_the_root() {
    let shown = |class, path: &str, file: &str, (source, point): (&str, &str)| {
        let mount = Mount { fs_type: "overlay".into(), source: source.into(), ..mount(point) };
        Exec { mount: Some(mount), ..exec(1, class, path, file) }
    };
    let image = expect(Origin::Image, None, High);
    check(&shown(C::Image, "/srv/r/bin/ls", "", ("/", "/srv/r")), &image);
    check(&shown(C::Image, "/mnt/ls", "", ("/bin", "/mnt")), &image);
    check(&shown(C::Image, "/mnt/x", "", ("/bin/ls", "/mnt/x")), &image);
    check(&shown(C::Image, "/ls", "", ("/bin", "/")), &image);
    check(&shown(C::Image, "/mnt/ls", "", ("/bin/\u{fffd}", "/mnt")), &image);
    check(&shown(C::Image, "/mnt/ls", "", ("/bin", "\u{fffd}")), &image);
    check(&shown(C::Image, "/mnt2/ls", "", ("/bin", "/mnt")), &image);
    check(&shown(C::CopiedUp, "/mnt/ls", "/bin/ls", ("/bin", "/mnt")), &expect(Origin::Touched, None, High));
    check(&shown(C::RootfsPlain, "/mnt/ls", "/bin/ls", ("/bin", "/mnt")), &image);
    let mismatch = expect(Origin::Inconsistent, Some(MISMATCH), High);
    check(&shown(C::Image, "/mnt/other", "", ("/bin", "/mnt")), &mismatch);
    let modified = expect(Origin::Modified, Some(ADDED), High);
    let verdict = check(&shown(C::New, "/mnt/ls", "evil", ("/bin", "/mnt")), &modified);
    assert!(verdict.note.contains("shows its /bin at /mnt"), "{}", verdict.note);
    // It hides what it covers: the path as it is seen is not looked up.
    check(&shown(C::New, "/bin/ls", "/bin/ls", ("/tmp", "/bin")), &expect(Origin::Relocated, Some(ADDED), High));
}

#[test]
fn the_host_is_not_judged_and_memory_always_is() {
    let host = Exec { namespace: MountNamespace::Host, ..exec(1, C::New, "/x", "x") };
    check(&host, &expect(Origin::HostNamespace, None, High));
    check(&exec(1, C::Memfd, "memfd:runc_cloned", "x"), &expect(Origin::Fileless, Some(FILELESS), High));
    let shm = Exec { mount: Some(mount("/dev/shm")), ..exec(1, C::Volume, "/dev/shm/ls", "/bin/ls") };
    check(&shm, &expect(Origin::FilelessShm, Some(FILELESS_SHM), High));
}

#[test]
fn the_image_s_own_content_at_its_own_path_is_silent_however_it_got_there() {
    for class in [C::New, C::RootfsPlain, C::Volume, C::Unknown] {
        check(&exec(1, class, "/bin/ls", "/bin/ls"), &expect(Origin::Image, None, High));
    }
    check(&exec(1, C::CopiedUp, "/bin/ls", "/bin/ls"), &expect(Origin::Touched, None, High));
}

#[test]
fn the_engine_s_init_program_is_silent_as_the_first_process_only() {
    let init = Mount { fs_type: ENGINE_INIT.into(), read_only: true, ..mount("/run/podman-init") };
    let first = Exec {
        mount: Some(init),
        container_pid: 1,
        namespace: MountNamespace::Own,
        ..exec(1, C::Volume, "/run/podman-init", "catatonit")
    };
    let mounted = expect(Origin::Mounted, Some(ADDED), High);
    check(&first, &expect(Origin::None, None, High));
    check(&Exec { container_pid: 7, ..first.clone() }, &mounted);
    check(&Exec { namespace: MountNamespace::Other, ..first.clone() }, &mounted);
    check(&Exec { script: Some(b"/run/podman-init".to_vec()), ..first.clone() }, &mounted);
    check(&Exec { mount: Some(mount("/run/podman-init")), ..first }, &mounted);
}

#[test]
fn what_runs_from_a_mount_is_mounted_and_names_its_twin_in_the_image() {
    for class in [C::Volume, C::Foreign, C::OtherFs] {
        let verdict = check(&exec(1, class, "/data/ls", "/bin/ls"), &expect(Origin::Mounted, Some(ADDED), High));
        assert_eq!(verdict.image_path.as_deref(), Some(b"/bin/ls".as_slice()));
    }
    // An overlay that is not the container's own proves nothing, even at an image path with image content.
    for class in [C::Foreign, C::OtherFs] {
        check(&exec(1, class, "/bin/ls", "/bin/ls"), &expect(Origin::Mounted, Some(ADDED), High));
    }
    check(&unread(exec(1, C::Volume, "/data/x", "x")), &expect(Origin::Mounted, Some(ADDED), Low));
}

#[test]
fn other_content_at_an_image_path_is_modified() {
    for class in [C::New, C::CopiedUp, C::RootfsPlain] {
        let verdict = check(&exec(1, class, "/bin/ls", "evil"), &expect(Origin::Modified, Some(ADDED), High));
        assert_eq!(verdict.image_sha256, Some(content("/bin/ls")));
    }
    let swapped = check(&exec(1, C::New, "/bin/ls", "/bin/cp"), &expect(Origin::Modified, Some(ADDED), High));
    assert_eq!(swapped.image_path.as_deref(), Some(b"/bin/cp".as_slice()));
}

#[test]
fn image_content_elsewhere_is_relocated_and_anything_else_added() {
    let verdict = check(&exec(1, C::New, "/tmp/x", "/bin/ls"), &expect(Origin::Relocated, Some(ADDED), High));
    assert_eq!(verdict.image_path.as_deref(), Some(b"/bin/ls".as_slice()));
    check(&exec(1, C::CopiedUp, "/tmp/moved", "/bin/ls"), &expect(Origin::Relocated, Some(ADDED), High));
    check(&exec(1, C::New, "/tmp/x", "evil"), &expect(Origin::Added, Some(ADDED), High));
    check(&exec(1, C::RootfsPlain, "/tmp/x", "evil"), &expect(Origin::Added, Some(ADDED), High));
}

#[test]
fn without_a_digest_class_path_and_size_decide_with_low_confidence() {
    check(&unread(exec(1, C::New, "/bin/ls", "longer than it")), &expect(Origin::Modified, Some(ADDED), High));
    check(&unread(exec(1, C::New, "/bin/ls", "/bin/ls")), &expect(Origin::Modified, Some(ADDED), Low));
    check(&unread(exec(1, C::CopiedUp, "/bin/ls", "/bin/ls")), &expect(Origin::Modified, Some(ADDED), Low));
    check(&unread(exec(1, C::RootfsPlain, "/bin/ls", "/bin/ls")), &expect(Origin::Unproven, Some(UNPROVEN), Low));
    check(&unread(exec(1, C::New, "/tmp/x", "x")), &expect(Origin::Added, Some(ADDED), Low));
}

#[test]
fn a_file_whose_data_was_never_copied_is_touched_even_without_a_digest() {
    let mut touched = unread(exec(1, C::CopiedUp, "/bin/ls", "longer than it"));
    touched.file.metacopy = true;
    check(&touched, &expect(Origin::Touched, None, High));
    let written = Exec { class: C::New, ..touched };
    check(&written, &expect(Origin::Modified, Some(ADDED), High));
}

#[test]
fn the_image_s_content_proves_nothing_of_a_file_that_may_have_been_other_when_it_ran() {
    let changed = |class, path, content| Exec { hash_state: HashState::Changed, ..exec(1, class, path, content) };
    for class in [C::New, C::CopiedUp, C::RootfsPlain, C::Volume, C::Unknown] {
        let verdict = judge(&changed(class, "/bin/ls", "/bin/ls"), Ok(&IMAGE));
        assert_eq!(verdict.unproven, Some(Unproven::NoDigest(HashState::Changed)), "{class:?}: {verdict:?}");
    }
    let mut not_copied = changed(C::CopiedUp, "/bin/ls", "/bin/ls");
    not_copied.file.metacopy = true;
    check(&not_copied, &expect(Origin::Touched, None, High));
    check(&changed(C::New, "/bin/ls", "evil"), &expect(Origin::Modified, Some(ADDED), High));
    check(&changed(C::New, "/tmp/x", "evil"), &expect(Origin::Added, Some(ADDED), High));
}

#[test]
fn of_a_file_that_could_not_be_opened_neither_size_nor_anything_else_is_held_against_it() {
    let unopened = |hash_state, path: &str| {
        let script = Exec { script: Some(path.into()), ..unread(exec(1, C::Unknown, "/bin/sh", "")) };
        Exec { file: FileFacts::default(), hash_state, ..script }
    };
    for state in [HashState::OverBudget, HashState::Unreadable, HashState::RefusedFs] {
        check(&unopened(state, "/bin/ls"), &expect(Origin::Unproven, Some(UNPROVEN), Low));
        check(&unopened(state, "/bin/other"), &expect(Origin::Added, Some(ADDED), Low));
    }
    check(&unopened(HashState::Gone, "/bin/ls"), &expect(Origin::Modified, Some(ADDED), Low));
    check(&unopened(HashState::Gone, "/bin/other"), &expect(Origin::Added, Some(ADDED), Low));
}

/// `ld.so PATH`, with a loader of this class and content.
fn loading(class: FileClass, loader: (&str, &str), file: &str, of_file: &str) -> Exec {
    let (path, content) = loader;
    let Exec { class, file: facts, mount, hash_state, sha256, .. } = exec(1, class, path, content);
    let loader = Some(Loader { class, file: facts, mount, hash_state, sha256 });
    Exec { path: path.into(), loaded: Some(file.into()), loader, ..exec(1, C::RootfsPlain, "", of_file) }
}

#[test]
fn what_a_loader_runs_is_judged_where_the_loader_is_the_image_s_by_its_content() {
    for class in [C::RootfsPlain, C::CopiedUp, C::New, C::Volume] {
        let of = |file, content| loading(class, ("/bin/ls", "/bin/ls"), file, content);
        let added = check(&of("/tmp/x", "evil"), &expect(Origin::Added, Some(ADDED), High));
        assert_eq!(added.file, Role::Subject);
        check(&of("/bin/cp", "/bin/cp"), &expect(Origin::Image, None, High));
    }
}

#[test]
fn a_loader_that_is_not_the_image_s_is_judged_whatever_it_runs() {
    for class in [C::RootfsPlain, C::CopiedUp, C::New] {
        let of = |path, content| loading(class, (path, content), "/bin/cp", "/bin/cp");
        let verdict = check(&of("/bin/ls", "evil"), &expect(Origin::Modified, Some(ADDED), High));
        assert_eq!((verdict.file, verdict.image_sha256), (Role::Interpreter, Some(content("/bin/ls"))));
        check(&of("/tmp/ld.so", "/bin/ls"), &expect(Origin::Relocated, Some(ADDED), High));
        check(&of("/tmp/ld.so", "evil"), &expect(Origin::Added, Some(ADDED), High));
    }
    let unresolved = judge(&loading(C::New, ("/tmp/ld.so", "evil"), "/bin/cp", "/bin/cp"), Err("no_manifest"));
    assert_eq!((unresolved.category, unresolved.file), (Some(ADDED), Role::Interpreter));
    let unresolved = judge(&loading(C::RootfsPlain, ("/tmp/ld.so", "evil"), "/tmp/x", ""), Err("no_manifest"));
    assert_eq!((unresolved.category, unresolved.file), (Some(UNPROVEN), Role::Subject));
    assert_eq!(unresolved.other, Some((Role::Interpreter, Origin::Unproven)));
}

/// A script of the image that an interpreter of this class, path and content runs.
fn interpreted(class: FileClass, path: &str, content: &str) -> Exec {
    let Exec { path: script, .. } = exec(1, C::RootfsPlain, "/bin/cp", "/bin/cp");
    Exec { loaded: None, script: Some(script), ..loading(class, (path, content), "/bin/cp", "/bin/cp") }
}

#[test]
fn the_interpreter_of_an_image_s_script_is_judged() {
    for (class, path, content, origin, category) in [
        (C::CopiedUp, "/bin/ls", "evil", Origin::Modified, ADDED),
        (C::New, "/tmp/sh", "evil", Origin::Added, ADDED),
        (C::New, "/tmp/sh", "/bin/ls", Origin::Relocated, ADDED),
        (C::Volume, "/data/sh", "evil", Origin::Mounted, ADDED),
        (C::Foreign, "/bin/ls", "evil", Origin::Mounted, ADDED),
        (C::Memfd, "memfd:sh", "evil", Origin::Fileless, FILELESS),
    ] {
        let verdict = check(&interpreted(class, path, content), &expect(origin, Some(category), High));
        assert_eq!((verdict.file, verdict.other), (Role::Interpreter, None));
    }
    let mut shm = interpreted(C::Volume, "/dev/shm/sh", "evil");
    shm.loader.as_mut().unwrap().mount = Some(mount(SHM));
    check(&shm, &expect(Origin::FilelessShm, Some(FILELESS_SHM), High));
    check(&interpreted(C::RootfsPlain, "/bin/ls", "/bin/ls"), &expect(Origin::Image, None, High));
}

#[test]
fn of_two_findings_the_worse_decides_and_of_equal_ones_the_script_s() {
    let dropped = |class, path| Exec {
        script: Some(b"/tmp/run".to_vec()),
        sha256: Some(content("run")),
        ..interpreted(class, path, "evil")
    };
    let verdict = check(&dropped(C::New, "/tmp/sh"), &expect(Origin::Added, Some(ADDED), High));
    assert_eq!((verdict.file, verdict.other), (Role::Subject, Some((Role::Interpreter, Origin::Added))));
    let verdict = check(&dropped(C::Memfd, "memfd:sh"), &expect(Origin::Fileless, Some(FILELESS), High));
    assert_eq!((verdict.file, verdict.other), (Role::Interpreter, Some((Role::Subject, Origin::Added))));
    // What is proven foreign is worse than what is unproven.
    let unread = Exec { sha256: None, hash_state: HashState::OverBudget, ..interpreted(C::New, "/tmp/sh", "evil") };
    let verdict = check(&unread, &expect(Origin::Added, Some(ADDED), High));
    assert_eq!(verdict.other, Some((Role::Subject, Origin::Unproven)));
}

/// `/bin/sh FILE`, of the image.
fn given(class: FileClass, path: &str, file: &str) -> Exec {
    let Exec { file: facts, .. } = exec(1, class, path, file);
    let file_facts = FileFacts { mode: 0o100_644, ..facts };
    Exec { path: b"/bin/sh".to_vec(), interpreted: Some(path.into()), file: file_facts, ..exec(1, class, path, file) }
}

#[test]
fn what_an_interpreter_is_given_is_judged_by_its_content_and_never_as_sure_as_what_is_executed() {
    let (medium, script) = (Confidence::Medium, Some(ADDED_SCRIPT));
    check(&given(C::RootfsPlain, "/bin/ls", "/bin/ls"), &expect(Origin::Image, None, High));
    check(&given(C::RootfsPlain, "/bin/ls", "evil"), &expect(Origin::Modified, script, medium));
    check(&given(C::RootfsPlain, "/tmp/x", "evil"), &expect(Origin::Added, script, medium));
    check(&given(C::RootfsPlain, "/tmp/x", "/bin/ls"), &expect(Origin::Relocated, script, medium));
    check(&given(C::Memfd, "memfd:x", "evil"), &expect(Origin::Fileless, Some(FILELESS), medium));
    let mounted = |point, read_only| Exec {
        mount: Some(Mount { read_only, ..mount(point) }),
        ..given(C::Volume, &format!("{point}/x"), "evil")
    };
    check(&mounted("/data", false), &expect(Origin::Mounted, script, medium));
    let verdict = check(&mounted("/data", true), &expect(Origin::Mounted, Some(MOUNTED_SCRIPT), medium));
    assert_eq!(verdict.category, Some(MOUNTED_SCRIPT));
    check(&mounted(SHM, false), &expect(Origin::FilelessShm, Some(FILELESS_SHM), medium));
    check(&mounted(SHM, true), &expect(Origin::FilelessShm, Some(FILELESS_SHM), medium));
}

#[test]
fn where_no_file_was_found_for_an_interpreter_nothing_is_proven() {
    let unproven = expect(Origin::Unproven, Some(UNPROVEN), Low);
    for path in ["/bin/ls", "/tmp/x"] {
        let Exec { file, .. } = given(C::RootfsPlain, path, "");
        let of = |class, file, hash_state| Exec { class, file, hash_state, sha256: None, ..given(class, path, "") };
        check(&of(C::Unknown, FileFacts::default(), HashState::Gone), &unproven);
        check(&of(C::Volume, FileFacts::default(), HashState::Gone), &unproven);
        let pipe = FileFacts { mode: 0o010_600, ..file };
        check(&of(C::OtherFs, pipe, HashState::Unreadable), &unproven);
    }
}

#[test]
fn an_interpreter_that_is_not_the_image_s_is_worse_than_what_it_is_given() {
    let Exec { class, file, mount, hash_state, sha256, .. } = exec(1, C::New, "/tmp/sh", "evil");
    let loader = Some(Loader { class, file, mount, hash_state, sha256 });
    let both = Exec { path: b"/tmp/sh".to_vec(), loader, ..given(C::RootfsPlain, "/tmp/x", "echo") };
    let verdict = check(&both, &expect(Origin::Added, Some(ADDED), High));
    assert_eq!((verdict.file, verdict.other), (Role::Interpreter, Some((Role::Subject, Origin::Added))));
}

#[test]
fn what_runs_in_a_container_in_the_container_is_mounted_and_has_no_path_of_the_image() {
    let within = |class, namespace, path, file| {
        let inner_container_id = Some(ContainerId::from("ab"));
        Exec { namespace, inner_container_id, ..exec(1, class, path, file) }
    };
    let other = |class, path, file| within(class, MountNamespace::Other, path, file);
    let verdict = check(&other(C::Foreign, "/bin/ls", "evil"), &expect(Origin::Mounted, Some(ADDED), High));
    assert_eq!(
        verdict.note,
        "it ran from an overlay that is not the container's own in container ab in this one, not from the image"
    );
    // The root of the inner container may be a directory of this container's root.
    check(&other(C::New, "/bin/ls", "evil"), &expect(Origin::Added, Some(ADDED), High));
    check(&other(C::New, "/bin/ls", "/bin/ls"), &expect(Origin::Relocated, Some(ADDED), High));
    check(&other(C::Image, "/other", ""), &expect(Origin::Image, None, High));
    // Any process may create a cgroup: in the container's own namespace a path is resolved as usual.
    let own = within(C::New, MountNamespace::Own, "/bin/ls", "evil");
    check(&own, &expect(Origin::Modified, Some(ADDED), High));
}

#[test]
fn a_script_is_judged_by_the_script_s_path() {
    let script = Exec { script: Some(b"/tmp/run".to_vec()), ..exec(1, C::New, "/bin/ls", "echo") };
    check(&script, &expect(Origin::Added, Some(ADDED), High));
}

#[test]
fn a_path_that_lost_its_beginning_matches_nothing_by_path() {
    let long = Exec { path_truncated: true, ..exec(1, C::New, "/bin/ls", "evil") };
    check(&long, &expect(Origin::Added, Some(ADDED), High));
}

#[test]
fn without_an_image_only_what_the_kernel_proves_is_silent() {
    for class in [C::New, C::CopiedUp, C::Volume, C::Foreign, C::OtherFs] {
        let verdict = judge(&exec(1, class, "/x", "x"), Err("no_manifest"));
        assert_eq!((verdict.origin, verdict.confidence), (Origin::Unresolved, Low));
        assert_eq!((verdict.category, verdict.unresolved.as_deref()), (Some(ADDED), Some("no_manifest")));
    }
    for class in [C::RootfsPlain, C::Unknown] {
        let verdict = judge(&exec(1, class, "/x", "x"), Err("no_manifest"));
        assert_eq!((verdict.origin, verdict.unproven), (Origin::Unproven, Some(Unproven::NoImage)));
        assert_eq!(verdict.unresolved.as_deref(), Some("no_manifest"));
    }
    // The kernel proves it without the image.
    let untouched = judge(&exec(1, C::Image, "/x", "x"), Err("no_manifest"));
    assert_eq!((untouched.origin, untouched.category), (Origin::Image, None));
    let memory = judge(&exec(1, C::Memfd, "memfd:", "x"), Err("no_manifest"));
    assert_eq!((memory.category, memory.unresolved), (Some(FILELESS), None));
}
