//! The whole table (position × class × path × content × namespace × image), as a page for review.
//!
//! `testdata/verdicts.txt` holds the verdict of every combination. `make golden` rewrites it; a change of a rule shows
//! as the cells that it changes.
#![expect(clippy::disallowed_methods, reason = "reads and, when asked to, writes the reviewed page")]

use std::fmt::Write as _;

use super::{IMAGE, Paths, content};
use crate::Unproven;
use crate::drift::{Category, Verdict, judge};
use crate::evidence::Evidence;
use driftline_schemas::{Confidence, Exec, FileClass, FileFacts, HashState, MountNamespace, Origin};

const CLASSES: [FileClass; 9] = [
    FileClass::Image,
    FileClass::New,
    FileClass::CopiedUp,
    FileClass::RootfsPlain,
    FileClass::Volume,
    FileClass::Foreign,
    FileClass::Memfd,
    FileClass::OtherFs,
    FileClass::Unknown,
];

/// Which file of an exec is judged.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Position {
    Executed,
    /// It was given to an interpreter, which is the image's.
    Given,
}

const POSITIONS: [(&str, Position); 2] =
    [("executed", Position::Executed), ("given to an interpreter", Position::Given)];

const NAMESPACES: [MountNamespace; 3] = [MountNamespace::Own, MountNamespace::Other, MountNamespace::Host];

/// What is known of the content, with the heading of its column.
const CONTENTS: [(&str, Content); 10] = [
    ("equal", Content::Digest("/bin/ls")),
    ("of another file", Content::Digest("/bin/cp")),
    ("foreign", Content::Digest("evil")),
    ("unread, size equal", Content::Unread { size_bytes: 7, state: HashState::OverBudget }),
    ("unread, size differs", Content::Unread { size_bytes: 8, state: HashState::OverBudget }),
    ("data not copied up", Content::NotCopied),
    ("not opened", Content::NotOpened(HashState::Unreadable)),
    ("gone", Content::NotOpened(HashState::Gone)),
    ("equal, changed", Content::Changed("/bin/ls")),
    ("foreign, changed", Content::Changed("evil")),
];

#[derive(Clone, Copy)]
enum Content {
    Digest(&'static str),
    /// The file changed right before or after the exec.
    Changed(&'static str),
    Unread {
        size_bytes: i64,
        state: HashState,
    },
    NotCopied,
    NotOpened(HashState),
}

/// An exec of a file with this content, at the image's path `/bin/ls` or at a path that the image does not have.
fn exec(position: Position, class: FileClass, is_image_path: bool, known: Content, namespace: MountNamespace) -> Exec {
    let on_disk = |size_bytes| FileFacts { size_bytes, nlink: 1, ino: 7, mode: 0o100_755, ..FileFacts::default() };
    let (sha256, file, hash_state) = match known {
        Content::Digest(text) => (Some(content(text)), on_disk(7), HashState::Hashed),
        Content::Changed(text) => (Some(content(text)), on_disk(7), HashState::Changed),
        Content::Unread { size_bytes, state } => (None, on_disk(size_bytes), state),
        Content::NotCopied => (None, FileFacts { metacopy: true, ..on_disk(7) }, HashState::NotNeeded),
        Content::NotOpened(state) => (None, FileFacts::default(), state),
    };
    let path = if is_image_path { "/bin/ls" } else { "/tmp/x" };
    let (path, interpreted) = match position {
        Position::Executed => (path, None),
        Position::Given => ("/bin/sh", Some(path.into())),
    };
    Exec { path: path.into(), interpreted, class, sha256, file, hash_state, namespace, ..Exec::default() }
}

/// A combination, and the verdict of it.
struct Combination {
    class: FileClass,
    is_image_path: bool,
    content: &'static str,
    namespace: MountNamespace,
    is_image_known: bool,
    verdict: Verdict,
}

impl Combination {
    fn title(&self) -> String {
        let Self { class, is_image_path, content, namespace, is_image_known, verdict } = self;
        format!("{class:?} {is_image_path} {content} {namespace:?} {is_image_known}: {verdict:?}")
    }
}

/// Every combination of position, class, path, content, mount namespace and image. The kernel proves an executed file only.
fn combinations() -> Vec<Combination> {
    let mut all = Vec::new();
    for (_, position) in POSITIONS {
        for class in CLASSES.into_iter().filter(|class| position == Position::Executed || *class != FileClass::Image) {
            for (heading, content) in CONTENTS {
                for namespace in NAMESPACES {
                    for is_image_path in [true, false] {
                        for image in [Ok(&IMAGE), Err("no_manifest")] {
                            let exec = exec(position, class, is_image_path, content, namespace);
                            let verdict = judge(&Evidence::of(&exec, image));
                            let is_image_known = image.is_ok();
                            all.push(Combination {
                                class,
                                is_image_path,
                                content: heading,
                                namespace,
                                is_image_known,
                                verdict,
                            });
                        }
                    }
                }
            }
        }
    }
    all
}

/// `origin`, with `?` for low confidence; verdicts that are not reported are in parentheses.
fn cell(verdict: &Verdict) -> String {
    let origin = format!("{:?}", verdict.origin).to_lowercase();
    let sure = if verdict.confidence == Confidence::High { "" } else { "?" };
    match verdict.category {
        Some(Category { .. }) => format!("{origin}{sure}"),
        None => format!("({origin}{sure})"),
    }
}

fn page() -> String {
    // Equal tables are shown once, below all of their titles.
    let mut tables: Vec<(Vec<String>, String)> = Vec::new();
    for (image, known) in [(Ok(&IMAGE), "image known"), (Err("no_manifest"), "image not known")] {
        for (how, position) in POSITIONS {
            for namespace in NAMESPACES {
                for (is_image_path, at) in [(true, "a path of the image"), (false, "another path")] {
                    let title = format!("{how}, {known}, {namespace:?} mount namespace, {at}").to_lowercase();
                    let table = table(|class, content| {
                        judge(&Evidence::of(&exec(position, class, is_image_path, content, namespace), image))
                    });
                    match tables.iter_mut().find(|(_, known)| *known == table) {
                        Some((titles, _)) => titles.push(title),
                        None => tables.push((vec![title], table)),
                    }
                }
            }
        }
    }
    let mut page = String::from(
        "The verdict for each class (rows) and content (columns). A verdict in parentheses is silent; ? is low confidence.\n",
    );
    for (titles, table) in tables {
        let _ = write!(page, "\n{}\n{table}", titles.join("\n"));
    }
    page
}

fn table(verdict: impl Fn(FileClass, Content) -> Verdict) -> String {
    let mut rows = vec![(String::new(), CONTENTS.map(|(head, _)| head.to_owned()))];
    for class in CLASSES {
        let cells = CONTENTS.map(|(_, known)| cell(&verdict(class, known)));
        rows.push((format!("{class:?}").to_lowercase(), cells));
    }
    let mut table = String::new();
    for (class, cells) in rows {
        let cells = cells.map(|text| format!("{text:<22}")).concat();
        let _ = writeln!(table, "{}", format!("{class:<13}{cells}").trim_end());
    }
    table
}

#[test]
fn the_verdict_of_every_combination_is_the_reviewed_one() {
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/testdata/verdicts.txt");
    let page = page();
    if std::env::var("UPDATE_GOLDEN").is_ok_and(|value| value == "1") {
        std::fs::write(file, &page).unwrap();
    }
    let reviewed = std::fs::read_to_string(file).unwrap_or_default();
    assert!(reviewed == page, "{file} differs; look at what changed with UPDATE_GOLDEN=1 and git diff");
}

/// The property that holds for every combination, whatever the table contains.
#[test]
fn foreign_content_is_never_silent_in_the_container_s_own_namespace() {
    for combination in combinations() {
        let Combination { class, content, namespace, is_image_known, verdict, .. } = &combination;
        if *class != FileClass::Image
            && content.starts_with("foreign")
            && *namespace == MountNamespace::Own
            && *is_image_known
        {
            assert!(verdict.category.is_some(), "{}", combination.title());
        }
    }
}

#[test]
fn a_verdict_without_an_image_names_the_reason() {
    for class in CLASSES {
        let exec = exec(Position::Executed, class, true, Content::Digest("evil"), MountNamespace::Own);
        let verdict = judge(&Evidence::of(&exec, Err::<&Paths, _>("no_manifest")));
        let is_reasoned = verdict.unresolved.as_deref() == Some("no_manifest");
        let needs_image = matches!(verdict.origin, Origin::Unresolved | Origin::Unproven);
        assert_eq!(is_reasoned, needs_image, "{class:?}: {verdict:?}");
    }
}

#[test]
fn silence_is_proof() {
    for combination in combinations() {
        let Combination { class, is_image_path, content, namespace, is_image_known, verdict } = &combination;
        if verdict.category.is_some() || *namespace == MountNamespace::Host {
            continue;
        }
        let is_known = *is_image_known && *is_image_path;
        let by_kernel = *class == FileClass::Image;
        let by_content = is_known && *content == "equal";
        let by_metadata = is_known && *class == FileClass::CopiedUp && *content == "data not copied up";
        assert!(by_kernel || by_content || by_metadata, "{}", combination.title());
        assert_eq!(verdict.confidence, Confidence::High);
    }
}

#[test]
fn an_unproven_verdict_has_a_reason_and_another_has_none() {
    for combination in combinations() {
        let is_unproven = combination.verdict.origin == Origin::Unproven;
        assert_eq!(is_unproven, combination.verdict.unproven.is_some(), "{}", combination.title());
        let reason = combination.verdict.unproven;
        assert!(reason.is_none_or(|reason| Unproven::of_name(reason.name()) == Some(reason)), "{reason:?}");
    }
}
