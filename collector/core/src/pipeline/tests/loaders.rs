//! A loader whose content has to show whether it is the image's.

use super::*;
use crate::digest::{DigestSubject, LoaderJob};

/// `ld.so /tmp/x` with a loader that was written to.
fn loading(time_ns: u64) -> RawExec {
    let args = driftline_schemas::Args::of_terminated(b"ld.so\0/tmp/x\0");
    RawExec { path: b"/lib/ld.so.1".to_vec(), args, ..written(time_ns) }
}

fn jobs(drive: &Drive) -> Vec<&DigestJob> {
    let commands = drive.commands.iter();
    commands
        .filter_map(|command| if let PipelineCommand::Hash(job) = command { Some(job.as_ref()) } else { None })
        .collect()
}

#[test]
fn it_is_reported_beside_what_it_runs_and_its_digest_is_remembered_and_not_taken_for_that_of_the_other() {
    let mut drive = Drive::new();
    drive.give(described()).records(vec![loading(1)], 10);
    assert!(matches!(jobs(&drive)[0].loader, Some(LoaderJob::Hash(_))), "{:?}", drive.commands);
    let (of_loader, of_loaded) = (Digest::Hashed(Sha256([1; 32])), Digest::Hashed(Sha256([2; 32])));
    let outcome = DigestOutcome { loader: Some(of_loader), is_settled: true, ..DigestOutcome::of(of_loaded) };
    drive.give(Input::Digested(id(), Moment { time_ns: 1, cpu: 0, seq: 1 }, outcome));
    let exec = drive.execs()[0];
    assert_eq!((exec.loaded.as_deref(), exec.sha256), (Some(b"/tmp/x".as_slice()), Some(Sha256([2; 32]))));
    let loader = exec.loader.as_ref().unwrap();
    assert_eq!((loader.class, loader.sha256), (FileClass::New, Some(Sha256([1; 32]))));
    drive.records(vec![loading(11)], 20);
    let again = jobs(&drive)[1];
    assert!(matches!(again.subject, DigestSubject::Named { .. }), "{again:?}");
    assert_eq!(again.loader, Some(LoaderJob::Known(Sha256([1; 32]))));
    drive.records(vec![written(21)], 30);
    assert_eq!(drive.execs().len(), 1, "the first without its digest holds up the others");
    drive.give(digested(11, Digest::Gone));
    assert_eq!(drive.execs()[2].sha256, Some(Sha256([1; 32])), "the same file, executed without a program");
}
