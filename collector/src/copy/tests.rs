use super::*;
use rustix::fs::Mode;
use std::fs;
use std::os::unix::fs::symlink;

/// A directory that stands for /proc, with the root of process 7; beside it a file of the host.
struct Case {
    directory: tempfile::TempDir,
}

impl Case {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        fs::create_dir_all(directory.path().join("7/root/tmp")).unwrap();
        fs::write(directory.path().join("secret"), "of the host").unwrap();
        Self { directory }
    }

    fn inside(&self, path: &str) -> std::path::PathBuf {
        self.directory.path().join("7/root").join(path.trim_start_matches('/'))
    }

    fn copy(&self, path: &str) -> Result<String, String> {
        let mut output = Vec::new();
        let copied = copy(&Proc::at(self.directory.path()), 7, Path::new(path), &mut output);
        copied.map(|_| String::from_utf8(output).unwrap()).map_err(|error| format!("{error:#}"))
    }
}

#[test]
fn a_file_of_the_container_is_copied() {
    let case = Case::new();
    fs::write(case.inside("/tmp/x"), "program").unwrap();
    symlink("/tmp/x", case.inside("/link")).unwrap();
    assert_eq!(case.copy("/tmp/x"), Ok("program".to_owned()));
    assert_eq!(case.copy("/link"), Ok("program".to_owned()), "a link is one of the container");
}

#[test]
fn no_link_leads_out_of_the_container() {
    let case = Case::new();
    let secret = case.directory.path().join("secret");
    symlink(&secret, case.inside("/tmp/absolute")).unwrap();
    symlink("../../../secret", case.inside("/tmp/relative")).unwrap();
    symlink(case.directory.path(), case.inside("/directory")).unwrap();
    for path in ["/tmp/absolute", "/tmp/relative", "/directory/secret", "/../../secret"] {
        assert!(case.copy(path).is_err(), "{path}");
    }
    assert_eq!(fs::read_to_string(case.inside("/tmp/absolute")).unwrap(), "of the host", "as `cat` would have done");
}

#[test]
fn only_a_regular_file_is_copied() {
    let case = Case::new();
    rustix::fs::mknodat(rustix::fs::CWD, case.inside("/tmp/pipe"), FileType::Fifo, Mode::RUSR, 0).unwrap();
    for path in ["/tmp/pipe", "/tmp"] {
        assert_eq!(case.copy(path), Err("it is no regular file".to_owned()), "{path}");
    }
    for path in ["/tmp/none", "tmp/x", ""] {
        assert!(case.copy(path).is_err_and(|error| error.starts_with("no file can be opened")), "{path}");
    }
}
