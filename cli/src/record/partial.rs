//! The incomplete file: which part of it is valid after an interruption, and how it becomes the recording.

use anyhow::{Context as _, bail, ensure};
use rustix::fs::{CWD, RenameFlags, renameat_with};
use rustix::io::Errno;
use std::fs::{self, File, TryLockError};
use std::io::{self, BufReader, ErrorKind, Seek as _, SeekFrom};
use std::path::Path;

use driftline_schemas::recording::{Arguments, Damage, Info, Recording, RecordingError, RecordingWriter, Scan};

use super::{Existing, is_there};

/// A recording that is being written.
#[derive(Debug)]
pub(super) struct Partial {
    pub(super) info: Info,
    pub(super) writer: RecordingWriter<File>,
    /// The valid part of an interrupted run.
    pub(super) retained: Option<Scan>,
}

impl Partial {
    /// Continues the file of an interrupted run; `None` if it has no valid part. Everything after the last whole block
    /// is dropped.
    ///
    /// # Errors
    /// When the file has another format, was begun with other arguments, or is being written by another process.
    pub(super) fn resume(path: &Path, requested: &Arguments) -> anyhow::Result<Option<Self>> {
        let mut file = match File::options().read(true).write(true).open(path) {
            Ok(file) => file,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error).with_context(|| format!("cannot open {}", path.display())),
        };
        lock(&file, path)?;
        // A run that was killed before it had written the file's head left nothing.
        if file.metadata()?.len() == 0 {
            return Ok(None);
        }
        let unusable = || format!("cannot go on with {}; delete it to begin anew", path.display());
        let mut recording = match Recording::open(BufReader::new(&file)) {
            Ok(recording) => recording,
            Err(RecordingError::Damaged { .. }) => return Ok(None),
            Err(error) => return Err(error).with_context(unusable),
        };
        let info = recording.info().cloned().context("its header is missing").with_context(unusable)?;
        same(&info.arguments, requested).with_context(unusable)?;
        let scan = recording.scan(Damage::CutOff).with_context(unusable)?;
        drop(recording);
        file.set_len(scan.end)?;
        file.seek(SeekFrom::Start(scan.end))?;
        anstream::eprintln!("going on with {}: {} records are there", path.display(), scan.records());
        Ok(Some(Self { writer: RecordingWriter::resume(file, &info)?, info, retained: Some(scan) }))
    }

    /// Begins a file.
    ///
    /// # Errors
    /// When it cannot be written, or is being written by another process.
    pub(super) fn begin(path: &Path, info: Info) -> anyhow::Result<Self> {
        let failed = || format!("cannot write {}", path.display());
        let open = File::options().write(true).create(true).truncate(false).open(path);
        let file = open.with_context(failed)?;
        lock(&file, path)?;
        file.set_len(0).with_context(failed)?;
        Ok(Self { writer: RecordingWriter::begin(file, &info).with_context(failed)?, info, retained: None })
    }
}

/// Makes a whole file the recording, durably; returns its length.
///
/// # Errors
/// When the file system refuses, or an existing file must be kept; the partial file stays unchanged.
pub(super) fn publish(file: &File, partial: &Path, path: &Path, existing: Existing) -> anyhow::Result<u64> {
    let size_bytes = (|| {
        file.sync_all()?;
        match existing {
            Existing::Replaced => fs::rename(partial, path)?,
            Existing::Retained => rename_to_free(partial, path)?,
        }
        let directory = path.parent().filter(|directory| !directory.as_os_str().is_empty());
        File::open(directory.unwrap_or(Path::new(".")))?.sync_all()?;
        Ok(file.metadata()?.len())
    })();
    size_bytes.map_err(|error: std::io::Error| {
        let error = match error.kind() {
            ErrorKind::AlreadyExists => anyhow::Error::msg(is_there(path)),
            _ => anyhow::Error::new(error),
        };
        error.context(format!("{} is whole, but cannot be renamed", partial.display()))
    })
}

/// Renames a file to a name that must be free. Another run may create the name at the same moment, so the kernel
/// decides. File systems without this rename (NFS) can link.
fn rename_to_free(from: &Path, to: &Path) -> io::Result<()> {
    match renameat_with(CWD, from, CWD, to, RenameFlags::NOREPLACE) {
        Err(Errno::INVAL | Errno::NOSYS) => {
            fs::hard_link(from, to)?;
            fs::remove_file(from)
        }
        result => Ok(result?),
    }
}

/// Locks the file: two writers would destroy each other's records. The lock ends with the process.
fn lock(file: &File, path: &Path) -> anyhow::Result<()> {
    match file.try_lock() {
        Ok(()) => Ok(()),
        Err(TryLockError::WouldBlock) => bail!("another `driftline record` is writing {}", path.display()),
        Err(TryLockError::Error(error)) => Err(error).with_context(|| format!("cannot lock {}", path.display())),
    }
}

/// Fails unless the arguments are equal: a recording must not mix two selections.
fn same(begun: &Arguments, requested: &Arguments) -> anyhow::Result<()> {
    let or_nothing = |text: &str| if text.is_empty() { "nothing".to_owned() } else { text.to_owned() };
    let pairs = [
        ("Kafka cluster", begun.cluster.clone(), requested.cluster.clone()),
        ("--prefix", begun.prefix.clone(), requested.prefix.clone()),
        ("--topics", begun.topics.join(","), requested.topics.join(",")),
        ("--since", or_nothing(&begun.since), or_nothing(&requested.since)),
        ("--until", or_nothing(&begun.until), or_nothing(&requested.until)),
        ("--pre-roll", or_nothing(&begun.pre_roll), or_nothing(&requested.pre_roll)),
    ];
    let different: Vec<String> = pairs
        .into_iter()
        .filter(|(_, begun, requested)| begun != requested)
        .map(|(name, begun, requested)| format!("{name} was {begun} and is now {requested}"))
        .collect();
    ensure!(different.is_empty(), "it was begun with other arguments: {}", different.join(", "));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use driftline_schemas::recording::{FORMAT, Recorded};

    fn requested() -> Arguments {
        Arguments {
            cluster: "c".into(),
            prefix: "p".into(),
            topics: vec!["exec-events".into()],
            since: "2h".into(),
            until: String::new(),
            pre_roll: "1h".into(),
        }
    }

    fn info() -> Info {
        Info {
            format: FORMAT,
            driftline: "0.1.0".into(),
            recorded: "now".into(),
            arguments: requested(),
            since_ms: Some(1),
            until_ms: None,
            pre_roll_ms: 1,
            sections: vec![],
        }
    }

    fn record(offset: i64) -> Recorded {
        Recorded {
            topic: "exec-events".into(),
            partition: 0,
            offset,
            timestamp_ms: 1,
            key: None,
            headers: vec![],
            value: Some(vec![7; 70_000]),
        }
    }

    #[test]
    fn what_is_whole_is_kept_and_the_torn_block_is_dropped() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("f.partial");
        assert!(Partial::resume(&path, &requested()).unwrap().is_none());
        let mut partial = Partial::begin(&path, info()).unwrap();
        partial.writer.append(&record(1)).unwrap();
        partial.writer.append(&record(2)).unwrap();
        let busy = Partial::resume(&path, &requested()).unwrap_err().to_string();
        assert!(busy.contains("another `driftline record` is writing"), "{busy}");
        drop(partial);
        let bytes = fs::read(&path).unwrap();
        fs::write(&path, &bytes[..bytes.len() - 5]).unwrap();

        let mut resumed = Partial::resume(&path, &requested()).unwrap().unwrap();
        assert_eq!(resumed.retained.unwrap().lanes[0].last_offset, 1);
        resumed.writer.append(&record(2)).unwrap();
        drop(resumed.writer.finish().unwrap());
        assert_eq!(fs::read(&path).unwrap(), bytes);
    }

    #[test]
    fn other_arguments_and_other_files_are_refused_with_what_to_do() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("f.partial");
        drop(Partial::begin(&path, info()).unwrap());
        let other = Arguments { since: "3h".into(), until: "1h".into(), ..requested() };
        let error = format!("{:#}", Partial::resume(&path, &other).unwrap_err());
        for part in ["delete it to begin anew", "--since was 2h and is now 3h", "--until was nothing and is now 1h"] {
            assert!(error.contains(part), "{part} in {error}");
        }
        fs::write(&path, "something else").unwrap();
        let error = format!("{:#}", Partial::resume(&path, &requested()).unwrap_err());
        assert!(error.contains("delete it to begin anew") && error.contains("not a recording"), "{error}");
        assert_eq!(fs::read(&path).unwrap(), b"something else", "it is left as it is");
    }

    #[test]
    fn a_file_that_came_meanwhile_is_replaced_only_when_asked_to() {
        let directory = tempfile::tempdir().unwrap();
        let (partial, path) = (directory.path().join("f.partial"), directory.path().join("f"));
        let written = |text: &str| {
            fs::write(&partial, text).unwrap();
            File::open(&partial).unwrap()
        };
        assert_eq!(publish(&written("first"), &partial, &path, Existing::Retained).unwrap(), 5);
        assert_eq!((fs::read(&path).unwrap(), partial.exists()), (b"first".to_vec(), false));
        let error = format!("{:#}", publish(&written("second"), &partial, &path, Existing::Retained).unwrap_err());
        assert!(error.contains("is whole, but cannot be renamed") && error.contains("--force replaces it"), "{error}");
        assert_eq!((fs::read(&path).unwrap(), fs::read(&partial).unwrap()), (b"first".to_vec(), b"second".to_vec()));
        publish(&written("second"), &partial, &path, Existing::Replaced).unwrap();
        assert_eq!((fs::read(&path).unwrap(), partial.exists()), (b"second".to_vec(), false));
    }

    #[test]
    fn a_run_that_was_killed_within_the_head_begins_anew() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("f.partial");
        drop(Partial::begin(&path, info()).unwrap());
        let head = fs::read(&path).unwrap();
        for cut in [0, head.len() / 2, head.len() - 1] {
            fs::write(&path, &head[..cut]).unwrap();
            assert!(Partial::resume(&path, &requested()).unwrap().is_none(), "{cut}");
        }
    }
}
