//! Tests which parts are cut, and that the result fits.

use super::*;
use crate::fixtures::{T0, added_at, in_google_pod, longest_finding, with_absurd_facts};

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
