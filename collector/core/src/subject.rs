//! Which file of an exec is judged: usually the one that the kernel executed; of a script the script; where a dynamic loader
//! runs a program (`ld.so PATH`), that program; and where an interpreter is given a file (`sh FILE`), that file. All but the
//! first are known by name only: the kernel has no record of them, so they are looked up from user space.
//!
//! Any program can have the name of a loader or interpreter and a file of the image as argument, and the interpreter of an
//! image's script can be replaced. So unless the kernel shows the interpreter or loader to be an untouched file of the image, it
//! is reported beside the subject, and its content shows whether it is the image's.

use driftline_schemas::{Args, FileClass};

use crate::interpreter::{self, Given};
use crate::raw::RawExec;

/// The judged file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Subject<'a> {
    /// The file that the kernel executed.
    Executable,
    /// A `#!` or binfmt script of this name, as it was typed.
    Script(&'a [u8]),
    /// A program of this name, as the loader was given it.
    Loaded(&'a [u8]),
    /// A file that an interpreter was given as its program.
    Interpreted(Given<'a>),
}

impl<'a> Subject<'a> {
    /// The subject of an exec whose executed file has this class. What lies where no file of the image can lie is no loader
    /// of the image's, and is judged itself.
    #[must_use]
    pub fn of(exec: &'a RawExec, class: FileClass) -> Self {
        if exec.is_script() {
            return Self::Script(&exec.typed_path);
        }
        if !can_be_the_image_s(class) {
            return Self::Executable;
        }
        // A name that was cut off leads to no file: the lookup fails, which is reported.
        let cut_off = exec.has_truncated_args().then_some(b"".as_slice());
        if is_loader(&exec.path) {
            return loaded_program(&exec.args, cut_off).map_or(Self::Executable, Self::Loaded);
        }
        let given = interpreter::given(&exec.path, &exec.args, cut_off);
        given.map_or(Self::Executable, Self::Interpreted)
    }

    /// Its name as it was given, where that is all that is known.
    #[must_use]
    pub fn typed(self) -> Option<&'a [u8]> {
        match self {
            Self::Executable => None,
            Self::Script(typed) | Self::Loaded(typed) | Self::Interpreted(Given { typed, .. }) => Some(typed),
        }
    }

    /// What is added to its name when there is no such file.
    #[must_use]
    pub fn extension(self) -> Option<&'static str> {
        match self {
            Self::Interpreted(given) => given.extension,
            _ => None,
        }
    }
}

/// The program that a loader of this name is about to run, if it is one.
#[must_use]
pub fn about_to_load<'a>(path: &[u8], args: &'a Args) -> Option<&'a [u8]> {
    if is_loader(path) { loaded_program(args, None) } else { None }
}

/// Whether a file of such a class can be the image's by path and content: engines copy an image's declared volumes, too.
fn can_be_the_image_s(class: FileClass) -> bool {
    use FileClass::{CopiedUp, Image, New, RootfsPlain, Volume};
    matches!(class, Image | CopiedUp | New | RootfsPlain | Volume)
}

/// The typed path, made absolute by the working directory.
#[must_use]
pub fn absolute(exec: &RawExec, typed: &[u8]) -> Vec<u8> {
    absolute_from(&exec.cwd, typed)
}

/// The same from any working directory.
#[must_use]
pub fn absolute_from(cwd: &[u8], typed: &[u8]) -> Vec<u8> {
    if typed.starts_with(b"/") {
        return typed.to_vec();
    }
    let mut path = cwd.to_vec();
    if !path.ends_with(b"/") {
        path.push(b'/');
    }
    path.extend_from_slice(typed.strip_prefix(b"./").unwrap_or(typed));
    path
}

/// Whether a file is called as the loaders of glibc (`ld-linux-x86-64.so.2`, `ld-2.31.so`, `ld64.so.2`, `ld.so.1`), musl
/// (`ld-musl-x86_64.so.1`, which may be a link to `libc.so` or `libc.musl-x86_64.so.1`) and uClibc (`ld-uClibc.so.0`) are.
/// The kernel program compares the first bytes of the same names.
#[must_use]
pub fn is_loader(path: &[u8]) -> bool {
    let name = path.rsplit(|byte| *byte == b'/').next().unwrap_or_default();
    let begins = |start: &&[u8]| name.starts_with(start);
    let starts: [&[u8]; 6] = [b"ld-", b"ld.so", b"ld32.so", b"ld64.so", b"libc.so", b"libc.musl-"];
    starts.iter().any(begins) && name.windows(3).any(|part| part == b".so")
}

/// Options of glibc's and musl's loaders that are followed by their value; musl's also take `--option=value`.
const WITH_VALUE: [&[u8]; 7] = [
    b"--library-path",
    b"--preload",
    b"--argv0",
    b"--audit",
    b"--inhibit-rpath",
    b"--glibc-hwcaps-prepend",
    b"--glibc-hwcaps-mask",
];

/// Options with which a loader runs nothing.
const RUNS_NOTHING: [&[u8]; 6] =
    [b"--list", b"--verify", b"--help", b"--version", b"--list-tunables", b"--list-diagnostics"];

/// What a loader with these arguments runs; `None` when that is nothing, `after_end` when they end before it. Only
/// arguments with two dashes are options of theirs.
fn loaded_program<'a>(args: &'a Args, after_end: Option<&'a [u8]>) -> Option<&'a [u8]> {
    let mut args = args.iter().skip(1);
    while let Some(argument) = args.next() {
        if argument == b"--" {
            return args.next().or(after_end);
        }
        if !argument.starts_with(b"--") {
            return Some(argument).filter(|path| !path.is_empty());
        }
        if RUNS_NOTHING.contains(&argument) {
            return None;
        }
        if WITH_VALUE.contains(&argument) {
            args.next();
        }
    }
    after_end
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layout;
    use crate::raw::tests::exec;

    fn loader(path: &str, args: &[&str]) -> RawExec {
        let args = args.iter().collect();
        RawExec { path: path.into(), args, ..exec() }
    }

    #[test]
    fn a_loader_of_the_image_is_judged_by_the_program_that_it_runs() {
        let check = |args: &[&str], expect: Option<&str>| {
            let raw = loader("/lib64/ld-linux-x86-64.so.2", args);
            assert_eq!(Subject::of(&raw, FileClass::Image).typed(), expect.map(str::as_bytes), "{args:?}");
        };
        check(&["ld.so", "/tmp/x", "--list"], Some("/tmp/x"));
        check(&["ld.so", "-x"], Some("-x"));
        check(&["ld.so", "--inhibit-cache", "--library-path", "/tmp", "--argv0", "sh", "./x"], Some("./x"));
        check(&["ld.so", "--library-path=/tmp", "--preload=/y", "--", "--x"], Some("--x"));
        check(&["ld.so", "--list", "/tmp/x"], None);
        check(&["ld.so", "--preload", "/tmp/x"], None);
        check(&["ld.so", ""], None);
        check(&["ld.so"], None);
        check(&[], None);
    }

    #[test]
    fn a_program_hidden_behind_too_many_arguments_is_not_the_loader() {
        let mut raw = loader("/lib64/ld-linux-x86-64.so.2", &["ld.so", "--argv0", "xxxxx"]);
        raw.flags |= layout::FLAG_ARGS_TRUNCATED;
        assert_eq!(Subject::of(&raw, FileClass::Image), Subject::Loaded(b""));
    }

    #[test]
    fn loaders_are_known_by_their_names_and_others_are_not() {
        let is = |name: &str| is_loader(format!("/usr/lib/{name}").as_bytes());
        for name in ["ld-2.31.so", "ld-musl-aarch64.so.1", "libc.musl-x86_64.so.1", "libc.so", "ld64.so.2", "ld.so.1"] {
            assert!(is(name), "{name}");
        }
        for name in ["ld", "ld.bfd", "ld-analyse", "ldconfig", "libc.a", "libcrypto.so.3", "so.ld-", "x"] {
            assert!(!is(name), "{name}");
        }
    }

    #[test]
    fn what_a_loader_runs_is_judged_wherever_the_loader_can_be_the_image_s() {
        let raw = loader("/lib/ld-linux-x86-64.so.2", &["ld.so", "/tmp/x"]);
        for class in [FileClass::RootfsPlain, FileClass::New, FileClass::CopiedUp, FileClass::Volume] {
            assert_eq!(Subject::of(&raw, class), Subject::Loaded(b"/tmp/x"));
        }
        for class in [FileClass::Foreign, FileClass::OtherFs, FileClass::Memfd] {
            assert_eq!(Subject::of(&raw, class), Subject::Executable);
        }
    }

    #[test]
    fn of_an_interpreter_the_file_that_it_is_given_is_judged() {
        let raw = |args: &[&str]| RawExec { path: b"/bin/dash".to_vec(), args: args.iter().collect(), ..exec() };
        let given = |typed| Subject::Interpreted(Given { typed, extension: None });
        assert_eq!(Subject::of(&raw(&["sh", "-e", "x"]), FileClass::Image), given(b"x"));
        assert_eq!(Subject::of(&raw(&["sh", "-c", "x"]), FileClass::Image), Subject::Executable);
        assert_eq!(Subject::of(&raw(&["sh", "x"]), FileClass::Foreign), Subject::Executable);
        let cut = raw(&["sh", "-e"]);
        assert_eq!(Subject::of(&cut, FileClass::Image), Subject::Executable);
        let cut = RawExec { flags: cut.flags | layout::FLAG_ARGS_TRUNCATED, ..cut };
        assert_eq!(Subject::of(&cut, FileClass::Image), given(b""));
    }

    #[test]
    fn a_script_stays_one_whatever_runs_it() {
        let mut raw = loader("/lib/ld-musl-x86_64.so.1", &["ld", "/tmp/s", "x"]);
        raw.flags |= layout::FLAG_SCRIPT;
        raw.typed_path = b"s".to_vec();
        assert_eq!(Subject::of(&raw, FileClass::Image), Subject::Script(b"s"));
    }
}
