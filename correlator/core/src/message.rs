//! The sentence of an alert: what ran, where, and why that matters.

use crate::text::shell::command_line;
use driftline_schemas::{AlertFinding, Container, Node, Origin};

use crate::bounds::clip;
use crate::limits::MESSAGE_COMMAND_BYTES_MAX;

/// The sentence of an alert that still applies.
pub(crate) fn of_alert(strongest: &AlertFinding, node: &Node, container: Option<&Container>, count: i64) -> String {
    let Some(container) = container else {
        return format!("{}: {}", place_of_node(node), trimmed(&strongest.note, &strongest.category));
    };
    let others = if count > 1 { format!(" ({count} findings in all)") } else { String::new() };
    if strongest.process.is_none() && strongest.subject.is_none() {
        let (place, why) = (place(node, container), trimmed(&strongest.note, &strongest.category));
        return format!("{place}: {why}{others}.");
    }
    format!("{} ran in {}: {}{others}.", command(strongest), place(node, container), why(strongest))
}

/// The sentence of an alert that was withdrawn.
pub(crate) fn of_withdrawal(node: &Node, container: Option<&Container>, count: i64) -> String {
    let place = container.map_or_else(|| place_of_node(node), |container| place(node, container));
    match count {
        1 => format!("Withdrawn: the finding about {place} does not stand."),
        _ => format!("Withdrawn: none of the {count} findings about {place} stands."),
    }
}

fn command(finding: &AlertFinding) -> String {
    let path = finding.subject.as_ref().map_or("", |subject| subject.path.as_str());
    let line = finding.process.as_ref().map(command_line).unwrap_or_default();
    let shown = match (path, line.as_str()) {
        ("", "") => "A program".to_owned(),
        ("", line) => line.to_owned(),
        (path, "") => path.to_owned(),
        (path, line) if line.split(' ').any(|word| word == path) => line.to_owned(),
        (path, line) => format!("{path} (as {line})"),
    };
    clip(&shown, MESSAGE_COMMAND_BYTES_MAX)
}

fn place(node: &Node, container: &Container) -> String {
    let name = if container.name.is_empty() { container.id.as_str() } else { &container.name };
    let pod = container.pod.as_ref().map(|pod| format!(" of pod {}/{}", pod.namespace, pod.name)).unwrap_or_default();
    let image =
        if container.image_ref.is_empty() { String::new() } else { format!(" (image {})", container.image_ref) };
    format!("container {name}{pod}{image} on {}", place_of_node(node))
}

fn place_of_node(node: &Node) -> String {
    if node.name.is_empty() { "an unknown node".to_owned() } else { format!("node {}", node.name) }
}

/// Why the program's execution matters, by the file's origin.
fn why(finding: &AlertFinding) -> String {
    let subject = finding.subject.as_ref();
    match finding.origin {
        Origin::Added => {
            "the image has no such program, so somebody brought it in after the container was built".to_owned()
        }
        Origin::Modified => "the image has another program at this path, so somebody replaced or changed it".to_owned(),
        Origin::Relocated => {
            let original = subject.and_then(|subject| subject.image_path.as_deref()).unwrap_or("a file of the image");
            format!("it is a copy of {original}, and under another name it escapes rules that go by names")
        }
        Origin::Mounted => match subject.and_then(|subject| subject.mount.as_ref()) {
            Some(mount) => format!("it comes from the {} mount at {}, not from the image", mount.fs_type, mount.point),
            None => "it comes from a mount, not from the image".to_owned(),
        },
        Origin::Fileless => "it exists in memory only, so nothing is left on disk to examine".to_owned(),
        Origin::FilelessShm => "it ran from shared memory, so nothing is left on disk to examine".to_owned(),
        Origin::Inconsistent => {
            "it lies in a layer of the image that does not list it, so somebody tampered with one of them".to_owned()
        }
        Origin::HostNamespace => "it ran among the files of the host, outside its container".to_owned(),
        Origin::Unresolved => {
            let reason = finding.unresolved.as_deref().unwrap_or("no reason given");
            format!("it is not an untouched file of the image, which could not be consulted yet: {reason}")
        }
        Origin::Unproven | Origin::Image | Origin::Touched | Origin::None => {
            trimmed(&finding.note, &finding.category).to_owned()
        }
    }
}

/// The note without its full stop, or the category when there is none.
fn trimmed<'a>(note: &'a str, category: &'a str) -> &'a str {
    let note = note.trim_end_matches('.');
    if note.is_empty() { category } else { note }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::finding::SessionFinding;
    use crate::fixtures::{T0, added_at, container, node};

    #[test]
    fn a_command_is_shown_up_to_its_maximum() {
        for (length, cut) in [(MESSAGE_COMMAND_BYTES_MAX, false), (MESSAGE_COMMAND_BYTES_MAX + 1, true)] {
            let path = format!("/{}", "x".repeat(length - 1));
            let mut finding = added_at("f", T0, &path);
            finding.process.as_mut().unwrap().args = vec![path];
            let message =
                of_alert(&SessionFinding::new(&finding, 0).unwrap().shown().unwrap(), &node(), Some(&container()), 1);
            let command = message.split(" ran in").next().unwrap();
            assert_eq!((command.len(), command.ends_with('…')), (MESSAGE_COMMAND_BYTES_MAX, cut));
        }
    }
}
