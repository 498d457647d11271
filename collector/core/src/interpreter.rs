//! Which file an interpreter was given as its program: `sh FILE`, `python3 FILE`. An interpreter is known by its name, and its
//! program by its arguments; the kernel has no record of either.

use driftline_schemas::Args;

/// The options of a family of interpreters that decide which argument is the program. All others have no value.
#[derive(Debug)]
struct Interpreter {
    /// Names, without a version at the end (`python3.11`).
    names: &'static [&'static str],
    /// Short options with which no file is the program: it is in the arguments, or nothing is run.
    without_file: &'static [u8],
    /// Short options whose value is the rest of the argument, or the next one when nothing is left.
    with_value: &'static [u8],
    /// Short options whose value is the next argument, and whose argument goes on with other options.
    with_next: &'static [u8],
    /// Short options whose value, if any, is the rest of the argument.
    with_rest: &'static [u8],
    /// The short option whose value is the program.
    file: Option<u8>,
    /// The same for options that are spelled out. A value may also follow `=`.
    long_without_file: &'static [&'static str],
    long_with_value: &'static [&'static str],
    /// Whether options can begin with `+`.
    has_plus: bool,
    /// Whether `-` ends the options; else it is standard input.
    dash_ends: bool,
    /// What is added to a name under which there is no file.
    extension: Option<&'static str>,
}

const NONE: Interpreter = Interpreter {
    names: &[],
    without_file: b"",
    with_value: b"",
    with_next: b"",
    with_rest: b"",
    file: None,
    long_without_file: &[],
    long_with_value: &[],
    has_plus: false,
    dash_ends: false,
    extension: None,
};

const SHELL: Interpreter = Interpreter {
    names: &["sh", "bash", "dash", "ash", "rbash", "ksh", "mksh", "oksh", "zsh", "hush"],
    without_file: b"cs",
    with_next: b"oO",
    long_without_file: &["help", "version"],
    long_with_value: &["rcfile", "init-file", "emulate"],
    has_plus: true,
    dash_ends: true,
    ..NONE
};

const OTHERS: [Interpreter; 6] = [
    Interpreter {
        names: &["python", "pypy"],
        without_file: b"cmhV?",
        with_value: b"WXQ",
        long_without_file: &["help", "help-env", "help-xoptions", "help-all", "version"],
        long_with_value: &["check-hash-based-pycs"],
        ..NONE
    },
    Interpreter {
        names: &["perl"],
        without_file: b"eEvVh",
        with_value: b"I",
        with_rest: b"MmFCDidx",
        long_without_file: &["help", "version"],
        ..NONE
    },
    Interpreter {
        names: &["node", "nodejs"],
        without_file: b"epivh",
        with_value: b"rC",
        long_without_file: &[
            "eval",
            "print",
            "interactive",
            "version",
            "help",
            "test",
            "run",
            "v8-options",
            "completion-bash",
            "build-snapshot-config",
            "build-sea",
        ],
        long_with_value: &[
            "require",
            "import",
            "loader",
            "experimental-loader",
            "conditions",
            "env-file",
            "env-file-if-exists",
            "icu-data-dir",
            "openssl-config",
            "diagnostic-dir",
            "redirect-warnings",
            "title",
            "inspect-port",
            "debug-port",
            "watch-path",
            "unhandled-rejections",
            "disable-warning",
            "dns-result-order",
            "tls-cipher-list",
            "input-type",
            "experimental-default-type",
            "disable-proto",
            "trace-event-categories",
            "trace-event-file-pattern",
            "report-dir",
            "report-directory",
            "report-filename",
            "report-signal",
            "heapsnapshot-signal",
            "cpu-prof-dir",
            "cpu-prof-name",
            "cpu-prof-interval",
            "heap-prof-dir",
            "heap-prof-name",
            "heap-prof-interval",
            "max-http-header-size",
            "secure-heap",
            "secure-heap-min",
            "tls-keylog",
            "allow-fs-read",
            "allow-fs-write",
            "localstorage-file",
            "snapshot-blob",
            "experimental-config-file",
            "stack-trace-limit",
            "trace-require-module",
            "use-largepages",
            "network-family-autoselection-attempt-timeout",
            "test-name-pattern",
            "test-skip-pattern",
            "test-reporter",
            "test-reporter-destination",
            "test-concurrency",
            "test-timeout",
            "test-shard",
            "test-global-setup",
            "experimental-sea-config",
        ],
        extension: Some(".js"),
        ..NONE
    },
    Interpreter {
        names: &["ruby", "jruby"],
        without_file: b"eh",
        with_value: b"CEIr",
        with_rest: b"0FiKTWx",
        long_without_file: &["help", "version", "copyright"],
        long_with_value: &["encoding", "external-encoding", "internal-encoding", "backtrace-limit"],
        ..NONE
    },
    Interpreter {
        names: &["php", "php-cgi"],
        without_file: b"rRBEFSahilmvt",
        with_value: b"dczg",
        file: Some(b'f'),
        long_without_file: &[
            "run",
            "process-begin",
            "process-code",
            "process-end",
            "process-file",
            "server",
            "help",
            "info",
            "modules",
            "version",
            "ini",
            "rf",
            "rc",
            "re",
            "rz",
            "ri",
        ],
        long_with_value: &["php-ini", "define", "zend-extension"],
        ..NONE
    },
    Interpreter { names: &["lua", "luajit"], with_value: b"elj", with_rest: b"Ob", ..NONE },
];

/// The programs that are many, by the name with which they were called.
const MULTI_CALL: [&[u8]; 2] = [b"busybox", b"toybox"];

/// A file that an interpreter was given as its program.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Given<'a> {
    /// Its name as it was given.
    pub typed: &'a [u8],
    /// What the interpreter adds to the name when there is no such file.
    pub extension: Option<&'static str>,
}

/// The program that a program of this path was given, if it is an interpreter. `after_end` is its name when the arguments end
/// before it.
#[must_use]
pub(crate) fn given<'a>(path: &[u8], args: &'a Args, after_end: Option<&'a [u8]>) -> Option<Given<'a>> {
    let name = name_of(path);
    let mut args = args.iter();
    let called = args.next()?;
    let interpreter = if MULTI_CALL.contains(&name) {
        let applet = name_of(called.strip_prefix(b"-").unwrap_or(called));
        by_name(if MULTI_CALL.contains(&applet) { args.next()? } else { applet })?
    } else {
        by_name(name)?
    };
    let typed = interpreter.program(args, after_end).filter(|typed| !typed.is_empty() || after_end.is_some())?;
    Some(Given { typed, extension: interpreter.extension })
}

fn name_of(path: &[u8]) -> &[u8] {
    path.rsplit(|byte| *byte == b'/').next().unwrap_or_default()
}

fn by_name(name: &[u8]) -> Option<&'static Interpreter> {
    let is_of_version = |byte: &u8| byte.is_ascii_digit() || matches!(byte, b'.' | b'-');
    let end = name.iter().rposition(|byte| !is_of_version(byte)).map_or(0, |last| last + 1);
    let name = std::str::from_utf8(name.get(..end)?).ok()?;
    std::iter::once(&SHELL).chain(&OTHERS).find(|interpreter| interpreter.names.contains(&name))
}

/// What an argument says about the program.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Meaning<'a> {
    /// Options, of which so many values follow.
    Options(usize),
    Program(&'a [u8]),
    /// The next argument is the program.
    ProgramIsNext,
    /// No file is the program.
    NoFile,
}

impl Interpreter {
    fn program<'a>(&self, mut args: impl Iterator<Item = &'a [u8]>, after_end: Option<&'a [u8]>) -> Option<&'a [u8]> {
        while let Some(argument) = args.next() {
            match self.meaning(argument) {
                Meaning::Options(values) => args.by_ref().take(values).for_each(drop),
                Meaning::Program(program) => return Some(program),
                Meaning::ProgramIsNext => return args.next().or(after_end),
                Meaning::NoFile => return None,
            }
        }
        after_end
    }

    fn meaning<'a>(&self, argument: &'a [u8]) -> Meaning<'a> {
        match argument {
            b"--" => Meaning::ProgramIsNext,
            b"-" if self.dash_ends => Meaning::ProgramIsNext,
            b"-" => Meaning::NoFile,
            [b'-', b'-', long @ ..] => self.meaning_of_long(long),
            [b'-', short @ ..] => self.meaning_of_short(short),
            [b'+', short @ ..] if self.has_plus => self.meaning_of_short(short),
            program => Meaning::Program(program),
        }
    }

    fn meaning_of_long<'a>(&self, option: &[u8]) -> Meaning<'a> {
        let mut parts = option.splitn(2, |byte| *byte == b'=');
        let name = parts.next().and_then(|name| std::str::from_utf8(name).ok()).unwrap_or_default();
        let has_value = parts.next().is_some();
        if self.long_without_file.contains(&name) {
            return Meaning::NoFile;
        }
        Meaning::Options(usize::from(!has_value && self.long_with_value.contains(&name)))
    }

    fn meaning_of_short<'a>(&self, options: &'a [u8]) -> Meaning<'a> {
        let mut values = 0;
        for (at, option) in options.iter().enumerate() {
            let rest = options.get(at + 1..).unwrap_or_default();
            if self.without_file.contains(option) {
                return Meaning::NoFile;
            }
            if self.file == Some(*option) {
                return if rest.is_empty() { Meaning::ProgramIsNext } else { Meaning::Program(rest) };
            }
            if self.with_value.contains(option) {
                return Meaning::Options(values + usize::from(rest.is_empty()));
            }
            if self.with_rest.contains(option) {
                break;
            }
            values += usize::from(self.with_next.contains(option));
        }
        Meaning::Options(values)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The program of a command line; `program args...`, separated by spaces.
    fn program(path: &str, line: &str) -> Option<String> {
        let args: Args = line.split(' ').collect();
        given(path.as_bytes(), &args, None).map(|given| String::from_utf8(given.typed.to_vec()).unwrap())
    }

    #[test]
    fn the_program_is_the_first_argument_that_is_neither_an_option_nor_its_value() {
        let cases = [
            ("/bin/sh", "sh x", Some("x")),
            ("/usr/bin/dash", "/bin/sh -e /opt/x a b", Some("/opt/x")),
            ("/bin/bash", "bash -euxo pipefail -O extglob +o posix --rcfile /r --norc x", Some("x")),
            ("/bin/bash", "bash -oo posix pipefail x", Some("x")),
            ("/bin/bash", "bash --rcfile=/r - x", Some("x")),
            ("/bin/bash", "-bash -- -x", Some("-x")),
            ("/bin/sh", "sh -c x y", None),
            ("/bin/sh", "sh -exc x", None),
            ("/bin/sh", "sh -s x", None),
            ("/bin/sh", "sh", None),
            ("/bin/sh", "sh -i", None),
            ("/bin/busybox", "sh x", Some("x")),
            ("/bin/busybox", "-ash x", Some("x")),
            ("/bin/busybox", "/bin/busybox sh -x x", Some("x")),
            ("/bin/busybox", "ls x", None),
            ("/bin/busybox", "busybox", None),
            ("/usr/bin/python3.11", "python3 -u -W ignore -Xdev -X dev x.py y", Some("x.py")),
            ("/usr/bin/python3", "python3 -Bc x y", None),
            ("/usr/bin/python3", "python3 -m http.server x", None),
            ("/usr/bin/python3", "python3 - x", None),
            ("/usr/bin/perl5.36.0", "perl -I /l -Mstrict -w x", Some("x")),
            ("/usr/bin/perl", "perl -lane x y", None),
            ("/usr/bin/perl", "perl -pi.bak x y", Some("x")),
            ("/usr/local/bin/node", "node --require /r --inspect=0 --title=t dist/main", Some("dist/main")),
            ("/usr/local/bin/node", "node -pe x", None),
            ("/usr/local/bin/node", "node -r /r x", Some("x")),
            ("/usr/bin/ruby3.1", "ruby -rjson -I /l -w x", Some("x")),
            ("/usr/bin/php8.2", "php -d a=b -f x", Some("x")),
            ("/usr/bin/php8.2", "php -r x y", None),
            ("/usr/bin/lua5.4", "lua -e x -i y", Some("y")),
            ("/usr/bin/shred", "shred x", None),
            ("/usr/bin/sh/x", "sh x", None),
            ("/opt/5", "5 x", None),
        ];
        for (path, line, expect) in cases {
            assert_eq!(program(path, line).as_deref(), expect, "{path}: {line}");
        }
    }

    #[test]
    fn the_kernel_program_records_the_working_directory_of_each() {
        let source = include_str!("../../bpf/src/exec.bpf.c");
        let names = std::iter::once(&SHELL).chain(&OTHERS).flat_map(|interpreter| interpreter.names);
        for name in names.copied().chain(MULTI_CALL.map(|name| std::str::from_utf8(name).unwrap())) {
            let mut letters = name.chars();
            let (first, second) = (letters.next().unwrap(), letters.next().unwrap());
            assert!(source.contains(&format!("case LETTERS('{first}', '{second}'):")), "{name}");
        }
    }

    #[test]
    fn a_program_behind_the_last_argument_has_the_name_that_the_caller_gives() {
        let given = |line: &str| {
            let args: Args = line.split(' ').collect();
            given(b"/bin/sh", &args, Some(b"")).map(|given| given.typed.to_vec())
        };
        assert_eq!(given("sh -e"), Some(Vec::new()));
        assert_eq!(given("sh -o"), Some(Vec::new()));
        assert_eq!(given("sh -c"), None);
        assert_eq!(given("sh x"), Some(b"x".to_vec()));
    }
}
