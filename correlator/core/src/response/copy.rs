//! How to get a copy of the program, or why no copy is possible.

use crate::text::shell::{quote, raw_path};
use driftline_schemas::{FileClass, HashState, Subject};

use super::{Scene, Workload, kubernetes};

/// What to do, and the commands for it.
pub(super) struct Copy {
    pub(super) text: String,
    pub(super) commands: Vec<String>,
}

pub(super) fn of(scene: &Scene<'_>) -> Copy {
    let Some(subject) = &scene.finding.subject else { return none("no file was judged") };
    let process = scene.finding.process.as_ref();
    let pid = process.map(|process| process.pid);
    // The target does not contain the program's name, which the attacker chooses.
    let target = format!("./driftline-{}.sample", scene.alert.alert_id.as_str().get(..12).unwrap_or("program"));
    match (reach(subject), pid) {
        (Reach::Path, pid) => by_path(scene, subject, pid, &target),
        (Reach::Process, Some(pid)) => Copy {
            text: format!(
                "the program has no path any more; while its process lives, the command copies it on {}.",
                node(scene)
            ),
            commands: vec![compared(format!("cat /proc/{pid}/exe > {target}"), subject, &target)],
        },
        (Reach::Process, None) => none("the program has no path, and its process is not known"),
        (Reach::Nothing(why), _) => none(why),
    }
}

/// The command, followed by a comparison of the copy with the program that was executed. Something else may lie at the
/// path by now, or be run by the process.
fn compared(command: String, subject: &Subject, target: &str) -> String {
    match subject.sha256 {
        Some(digest) => format!("{command} && echo '{digest}  {target}' | sha256sum --check"),
        None => command,
    }
}

/// Where a copy of the file is still available.
enum Reach {
    Path,
    /// Through the process that runs it.
    Process,
    Nothing(&'static str),
}

fn reach(subject: &Subject) -> Reach {
    let pathless = subject.deleted || subject.class == FileClass::Memfd || !subject.path.starts_with('/');
    match (subject.hash_state, pathless, subject.script) {
        (HashState::Gone, _, _) => Reach::Nothing("the file was gone when it was to be hashed"),
        (_, true, true) => Reach::Nothing("the script has no path any more, and its process runs the interpreter"),
        (_, true, false) => Reach::Process,
        (_, false, _) => Reach::Path,
    }
}

fn none(why: &str) -> Copy {
    Copy { text: format!("no copy of the program is possible: {why}."), commands: Vec::new() }
}

/// Copies with the client of the cluster or engine, and from the node for images without `tar` and clients that cannot
/// copy.
fn by_path(scene: &Scene<'_>, subject: &Subject, pid: Option<i32>, target: &str) -> Copy {
    let path = raw_path(subject);
    let with_client = match &scene.workload {
        Workload::Pod { pod, container } => Some(kubernetes::copy(pod, container, &path, target)),
        Workload::Engine { engine, container } => engine.copy(container, &path, target),
        Workload::None => None,
    };
    // The collector resolves the path in the container's root: a link must not lead to a file of the node.
    let from_node = pid.map(|pid| format!("driftline-collector copy {pid} {} > {target}", quote(&path)));
    let expected = subject.sha256.map(|digest| format!(" Its SHA-256 was {digest}.")).unwrap_or_default();
    let text = match (&with_client, &from_node) {
        (Some(_), Some(_)) => {
            format!("copy the program out; the second command does it on {} while the process lives.", node(scene))
        }
        _ => "copy the program out.".to_owned(),
    };
    let commands = with_client.into_iter().chain(from_node).map(|command| compared(command, subject, target));
    Copy { text: text + &expected, commands: commands.collect() }
}

fn node(scene: &Scene<'_>) -> String {
    match scene.alert.node.name.as_str() {
        "" => "its node".to_owned(),
        name => format!("node {name}"),
    }
}
