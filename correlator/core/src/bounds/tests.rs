//! What is cut, and that it is enough.

use driftline_schemas::{Owner, Pod, text};

use super::*;
use crate::fixtures::{S, T0, added_at, in_google_pod};

/// A path of the greatest length, every byte of which is escaped twice on its way into JSON.
fn nasty_path(at: usize) -> Vec<u8> {
    let mut path = format!("/{at:04}").into_bytes();
    path.resize(PATH_BYTES_MAX, 1);
    path
}

/// The longest paths and arguments that a collector reports, none of them printable.
pub(crate) fn longest_finding(at: usize) -> Finding {
    let mut finding = in_google_pod(added_at(&format!("f{at:031}"), T0 + S, "/x"));
    let path = text::printable(&nasty_path(at));
    let process = finding.process.as_mut().unwrap();
    process.executable.clone_from(&path.text);
    process.typed_path.clone_from(&path.text);
    process.cwd.clone_from(&path.text);
    process.args = vec!["\\x01".into(); ARGS_BYTES_MAX / 2];
    process.args_base64 = Some(vec![text::base64(b"\x01"); ARGS_BYTES_MAX / 2]);
    let subject = finding.subject.as_mut().unwrap();
    (subject.path, subject.path_base64) = (path.text.clone(), path.base64);
    subject.image_path = Some(path.text);
    finding.category = format!("Added Binary Executed {at}");
    finding
}

/// Facts that no runtime would give, but somebody with a stolen credential might.
pub(crate) fn with_absurd_facts(finding: &mut Finding) {
    let fact = |prefix: &str| format!("{prefix}{}", "\"\\".repeat(400));
    let container = finding.container.as_mut().unwrap();
    (container.name, container.image_ref, container.service_account) = (fact("n"), fact("i"), fact("s"));
    container.owner = Some(Owner { kind: fact("k"), name: fact("o") });
    container.pod = Some(Pod {
        namespace: fact("ns"),
        name: fact("p"),
        uid: fact("u"),
        labels: (0..500).map(|at| (format!("{at:03}{}", fact("l")), fact("v"))).collect(),
    });
    finding.node.name = fact("node");
    finding.note = fact("note");
}

#[test]
fn texts_are_cut_at_characters_and_marked() {
    for (text, max, expected) in [("abcdef", 6, "abcdef"), ("abcdefg", 6, "abc…"), ("äöüß", 7, "äö…"), ("äöüß", 2, "…")]
    {
        assert_eq!(clip(text, max), expected);
    }
}

#[test]
fn an_ordinary_finding_is_not_touched() {
    let finding = in_google_pod(added_at("f", T0, "/tmp/x"));
    let mut limited = finding.clone();
    assert_eq!(limit_finding(&mut limited), Cut::Nothing);
    assert_eq!(limited, finding);
}

#[test]
fn the_longest_paths_and_arguments_are_kept_when_a_finding_arrives() {
    let mut finding = longest_finding(0);
    with_absurd_facts(&mut finding);
    let (path, args) = (finding.subject.clone().unwrap(), finding.process.clone().unwrap().args);
    assert_eq!(limit_finding(&mut finding), Cut::Some, "facts and labels are cut");
    assert_eq!(finding.subject.unwrap(), path);
    assert_eq!(finding.process.unwrap().args, args);
    let container = finding.container.unwrap();
    assert_eq!((container.name.len(), container.pod.unwrap().labels.len()), (FACT_BYTES_MAX, 0), "keys of 803 bytes");
}

#[test]
fn arguments_are_cut_from_the_end_and_the_raw_form_goes_with_them() {
    let mut process = crate::fixtures::process("/x");
    process.args = vec!["a".repeat(10), "b".repeat(10), "c".repeat(10)];
    process.args_base64 = Some(vec![String::new(); 3]);
    assert_eq!(limit_args(&mut process, 42), Cut::Nothing);
    assert!(process.args_base64.is_some() && !process.args_truncated);
    assert_eq!(limit_args(&mut process, 26), Cut::Some);
    assert_eq!(process.args, ["a".repeat(10), format!("{}…", "b".repeat(5))]);
    assert!(process.args_base64.is_none() && process.args_truncated);
}

#[test]
fn a_forged_finding_of_a_megabyte_is_cut_to_what_an_honest_one_can_hold() {
    let mut finding = longest_finding(0);
    let long = "x".repeat(900_000);
    let process = finding.process.as_mut().unwrap();
    process.executable.clone_from(&long);
    process.args = vec![long.clone()];
    process.tty = Some(long.clone());
    let subject = finding.subject.as_mut().unwrap();
    subject.path.clone_from(&long);
    finding.techniques = vec![long.clone(); 100];
    finding.unresolved = Some(long);
    assert_eq!(limit_finding(&mut finding), Cut::Some);
    assert!(encode(&finding).unwrap().len() < 200_000);
}
