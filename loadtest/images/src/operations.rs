//! The operations of a layer, each for one rule or a few.

use crate::draft::{Draft, whiteout};
use crate::member::{Form, Kind, Member};
use crate::rule::Rule;
use crate::view::ViewNode;

type Operation = fn(&mut Draft);

/// The operations with their weights.
const OPERATIONS: &[(u64, Operation)] = &[
    (8, plain_file),
    (4, directory),
    (4, symlink),
    (8, dressed),
    (6, odd_name),
    (4, long_name),
    (6, sparse),
    (4, special),
    (3, content_again),
    (3, missing_parents),
    (8, hidden),
    (6, hidden_with_sibling),
    (3, hidden_and_own),
    (6, hidden_and_own_directory),
    (3, hidden_below_symlink),
    (9, opaque),
    (8, hard_link),
    (10, hard_link_lower),
    (4, own_symlinked_parent),
    (5, lower_symlinked_parent),
    (16, twice),
    (8, other_kind),
    (2, dot_dot),
];

/// Draws an operation and executes it.
pub(crate) fn one(draft: &mut Draft) {
    let mut drawn = draft.rng.below(OPERATIONS.iter().map(|(weight, _)| weight).sum());
    for (weight, operation) in OPERATIONS {
        match drawn.checked_sub(*weight) {
            Some(left) => drawn = left,
            None => return operation(draft),
        }
    }
}

fn is_file(node: &ViewNode) -> bool {
    matches!(node, ViewNode::File { .. })
}

fn is_directory(node: &ViewNode) -> bool {
    matches!(node, ViewNode::Directory { .. })
}

fn is_symlink(node: &ViewNode) -> bool {
    matches!(node, ViewNode::Symlink(_))
}

fn join(directory: &[u8], name: &[u8]) -> Vec<u8> {
    [directory, b"/", name].concat()
}

fn parent(path: &[u8]) -> Vec<u8> {
    path.rsplitn(2, |byte| *byte == b'/').nth(1).unwrap_or_default().to_vec()
}

fn plain_file(draft: &mut Draft) {
    let path = draft.path();
    let mut file = draft.file(&path);
    match draft.rng.below(4) {
        0 => file = Member::new(&path, Kind::File(Vec::new())).rule(Rule::EmptyFile),
        1 => file = file.form(Form::PaxSize).rule(Rule::PaxSize),
        2 => {
            let mode = draft.rng.one_of([0o4755, 0o2755, 0o1755, 0o6711]);
            file = file.mode(mode).rule(Rule::SpecialModes);
        }
        _ => {}
    }
    draft.push(file);
}

fn directory(draft: &mut Draft) {
    let lower = draft.lower(is_directory);
    let path = match lower {
        Some(lower) if draft.rng.one_in(2) => lower,
        _ => parent(&draft.path()),
    };
    let mode = draft.rng.one_of([0o755, 0o700, 0o1777, 0o2755]);
    let mut member = Member::new(&path, Kind::Directory).mode(mode).rule(Rule::DirectoryOverDirectory);
    if draft.rng.one_in(2) {
        member = member.form(Form::OldDirectory).rule(Rule::OldDirectory);
    } else if draft.rng.one_in(2) {
        member.path.push(b'/');
    }
    draft.push(member);
}

fn symlink(draft: &mut Draft) {
    let path = draft.path();
    let (target, rule) = match draft.rng.below(4) {
        0 => (b"../missing/target".to_vec(), Rule::SymlinkDangling),
        1 => (join(b"", &draft.path()), Rule::SymlinkAbsolute),
        2 => (b"../lib/./a".to_vec(), Rule::SymlinkRelative),
        _ => (b"b".to_vec(), Rule::SymlinkRelative),
    };
    draft.push(Member::new(&path, Kind::Symlink(target)).rule(rule));
}

/// A path that must be normalised first.
fn dressed(draft: &mut Draft) {
    let path = draft.path();
    let (written, rule) = match draft.rng.below(4) {
        0 => ([b"./", path.as_slice()].concat(), Rule::DotPrefix),
        1 => ([b"/", path.as_slice()].concat(), Rule::AbsolutePrefix),
        2 => ([b"./././/", path.as_slice()].concat(), Rule::DotPrefix),
        _ => {
            let doubled: Vec<u8> =
                path.iter().flat_map(|byte| if *byte == b'/' { vec![b'/', b'/'] } else { vec![*byte] }).collect();
            (doubled, Rule::DoubledSlash)
        }
    };
    let file = draft.file(&written).rule(rule);
    draft.push(file);
}

fn odd_name(draft: &mut Draft) {
    let directory = parent(&draft.path());
    let (name, rule): (&[u8], Rule) = match draft.rng.below(6) {
        0 => (b"\xff\xfe", Rule::NotUtf8),
        1 => (b"latin-\xe9", Rule::NotUtf8),
        2 => (b"cut \xe2\x82", Rule::NotUtf8),
        3 => (b"two\nlines", Rule::ControlCharacters),
        4 => (b"\x1b[31mred\x07", Rule::ControlCharacters),
        _ => (b" \t\r\x7f", Rule::ControlCharacters),
    };
    let mut member = draft.file(&join(&directory, name)).rule(rule);
    if draft.rng.one_in(3) {
        member = member.form(Form::Pax).rule(Rule::PaxPath);
    }
    draft.push(member);
}

/// Names and targets that do not fit into a header, or are stored elsewhere.
fn long_name(draft: &mut Draft) {
    let long = [b"n".repeat(90), b"m".repeat(70)].join(&b'/');
    let path = join(&parent(&draft.path()), &long);
    let short = draft.path();
    let member = match draft.rng.below(5) {
        0 => draft.file(&path).rule(Rule::GnuLongName),
        1 => Member::new(&short, Kind::Symlink(join(b"", &path))).rule(Rule::GnuLongLink),
        2 => draft.file(&path).form(Form::Pax).rule(Rule::PaxPath),
        3 => Member::new(&short, Kind::Symlink(join(b"", &path))).form(Form::Pax).rule(Rule::PaxLinkPath),
        _ => draft.file(&join(b"usr/share/with/a/prefix", b"name")).form(Form::UstarPrefix).rule(Rule::UstarPrefix),
    };
    draft.push(member);
}

fn sparse(draft: &mut Draft) {
    let path = draft.path();
    let mut content = Vec::new();
    for _ in 0..draft.rng.between(1, 7) {
        content.resize(content.len() + 512 * draft.rng.one_of([1_usize, 2, 9]), 0);
        let data = draft.content();
        content.extend(data.iter().cycle().take(data.len().next_multiple_of(512)));
    }
    if draft.rng.one_in(2) {
        content.resize(content.len() + 700, 0);
    }
    let (form, rule) = match draft.rng.below(3) {
        0 => (Form::SparsePax00, Rule::SparsePax00),
        1 => (Form::SparsePax01, Rule::SparsePax01),
        _ => (Form::SparsePax10, Rule::SparsePax10),
    };
    draft.push(Member::new(&path, Kind::File(content)).form(form).rule(rule));
}

fn special(draft: &mut Draft) {
    let path = draft.path();
    let (kind, rule) = match draft.rng.below(4) {
        0 => (Kind::CharDevice, Rule::Device),
        1 => (Kind::BlockDevice, Rule::Device),
        _ => (Kind::Fifo, Rule::Fifo),
    };
    draft.push(Member::new(&path, kind).rule(rule));
}

fn content_again(draft: &mut Draft) {
    for _ in 0..2 {
        let path = draft.path();
        draft.push(Member::new(&path, Kind::File(b"the same everywhere".to_vec())).rule(Rule::SameContent));
    }
}

fn missing_parents(draft: &mut Draft) {
    let path = format!("new{}/without/parents/f", draft.number());
    let file = draft.file(path.as_bytes()).rule(Rule::MissingParents);
    draft.push(file);
}

/// Hides an entry of a lower layer.
fn hidden(draft: &mut Draft) {
    let (found, rule) = match draft.rng.below(5) {
        0 | 3 => (draft.lower(is_directory), Rule::WhiteoutOfDirectory),
        1 => (draft.lower(is_symlink), Rule::WhiteoutOfSymlink),
        _ => (draft.lower(is_file), Rule::WhiteoutOfFile),
    };
    if let Some(mark) = found.and_then(|path| whiteout(&path)) {
        draft.push(mark.rule(rule));
    }
}

fn hidden_with_sibling(draft: &mut Draft) {
    let Some(path) = draft.lower(is_file) else { return };
    let Some(mark) = whiteout(&path) else { return };
    let name = format!("sibling{}", draft.number());
    let sibling = draft.file(&join(&parent(&path), name.as_bytes()));
    if draft.rng.one_in(2) {
        draft.push(mark.rule(Rule::WhiteoutBeforeSibling));
        draft.push(sibling);
    } else {
        draft.push(sibling);
        draft.push(mark.rule(Rule::WhiteoutAfterSibling));
    }
}

/// A mark never applies to entries of its own layer.
fn hidden_and_own(draft: &mut Draft) {
    let found = if draft.rng.one_in(2) { draft.lower(is_file) } else { draft.lower(is_directory) };
    let Some(path) = found else { return };
    let Some(mark) = whiteout(&path) else { return };
    let mut own = draft.file(&path);
    if draft.rng.one_in(3) {
        own = draft.file(&join(&path, b"own"));
    }
    draft.push(mark);
    draft.push(own.rule(Rule::WhiteoutAndOwnFile));
}

/// A directory of the same layer replaces the mark, and nothing is hidden.
fn hidden_and_own_directory(draft: &mut Draft) {
    let Some(path) = draft.lower(is_directory) else { return };
    let Some(mark) = whiteout(&path) else { return };
    if !draft.push(mark) {
        return;
    }
    let directory = Member::new(&path, Kind::Directory).mode(0o750);
    draft.push(directory.rule(Rule::WhiteoutAndOwnDirectory));
    let own = draft.file(&join(&path, b"own"));
    draft.push(own);
}

fn hidden_below_symlink(draft: &mut Draft) {
    let Some(path) = draft.lower(is_file).filter(|path| path.contains(&b'/')) else { return };
    let Some(name) = path.rsplit(|byte| *byte == b'/').next().map(<[u8]>::to_vec) else { return };
    let link = format!("link{}", draft.number()).into_bytes();
    if !draft.push(Member::new(&parent(&path), Kind::Directory)) {
        return;
    }
    draft.push(Member::new(&link, Kind::Symlink(join(b"", &parent(&path)))));
    if let Some(mark) = whiteout(&join(&link, &name)) {
        draft.push(mark.rule(Rule::WhiteoutBelowSymlink));
    }
}

fn opaque(draft: &mut Draft) {
    let Some(path) = draft.lower(is_directory) else { return };
    let mark = Member::new(&join(&path, b".wh..wh..opq"), Kind::File(Vec::new()));
    let own = draft.file(&join(&path, b"own"));
    match draft.rng.below(3) {
        0 => {
            draft.push(Member::new(&path, Kind::Directory));
            draft.push(mark.rule(Rule::OpaqueFirst));
            draft.push(own);
        }
        1 => {
            draft.push(Member::new(&path, Kind::Directory));
            draft.push(own);
            draft.push(mark.rule(Rule::OpaqueLast));
        }
        _ => {
            draft.push(mark.rule(Rule::OpaqueAlone));
        }
    }
}

fn hard_link(draft: &mut Draft) {
    let (target, link) = (draft.path(), draft.path());
    let mut file = draft.file(&target);
    let rule = draft.rng.below(5);
    if rule == 0 {
        file = Member::new(&target, Kind::Symlink(b"../lib/a".to_vec()));
    }
    let mode = if draft.rng.one_in(6) { 0o711 } else { file.mode };
    if !draft.push(file) {
        return;
    }
    let linked = |to: &[u8], from: &[u8]| Member::new(from, Kind::HardLink(to.to_vec())).mode(mode);
    let first = linked(&target, &link);
    match rule {
        0 => {
            draft.push(first.rule(Rule::HardLinkSymlink));
        }
        1 => {
            let second = join(&parent(&draft.path()), b"chained");
            draft.push(first.rule(Rule::HardLinkOwn));
            draft.push(linked(&link, &second).rule(Rule::HardLinkChain));
        }
        2 => {
            draft.push(first);
            let again = draft.file(&target);
            draft.push(again.rule(Rule::HardLinkReplaced));
        }
        3 => {
            let form = draft.rng.pick(&[Form::Pax, Form::Gnu]).unwrap_or(Form::Gnu);
            let absolute = Member::new(&link, Kind::HardLink(join(b"", &target))).mode(mode);
            draft.push(absolute.form(form).rule(Rule::HardLinkOwn));
        }
        _ => {
            draft.push(first.rule(Rule::HardLinkOwn));
        }
    }
}

fn hard_link_lower(draft: &mut Draft) {
    let Some(target) = draft.lower(is_file) else { return };
    let link = format!("linked{}", draft.number()).into_bytes();
    let mode = match draft.below.get(&join(b"", &target)) {
        Some(ViewNode::File { mode, .. }) => u32::from(*mode),
        _ => return,
    };
    let member = Member::new(&link, Kind::HardLink(target.clone())).mode(mode);
    let end = draft.rng.below(3);
    let is_there = draft.push(member.rule(if end == 0 { Rule::HardLinkLowerHidden } else { Rule::HardLinkLower }));
    if let Some(mark) = whiteout(&target).filter(|_| end == 0) {
        draft.push(mark);
    }
    if is_there && end == 1 {
        let again = draft.file(&target);
        draft.refuse(again, Rule::HardLinkLowerReplaced);
    }
}

/// Merged `/usr`: an entry is written through a symlink of the same layer.
fn own_symlinked_parent(draft: &mut Draft) {
    let (link, target, directory): (&[u8], &[u8], &[u8]) = match draft.rng.below(3) {
        0 => (b"lib", b"usr/lib", b"usr/lib"),
        1 => (b"bin", b"/usr/bin", b"usr/bin"),
        _ => (b"opt/up", b"../usr/./lib", b"usr/lib"),
    };
    if !draft.push(Member::new(directory, Kind::Directory))
        || !draft.push(Member::new(link, Kind::Symlink(target.to_vec())))
    {
        return;
    }
    let name = format!("through{}", draft.number());
    let file = draft.file(&join(link, name.as_bytes())).rule(Rule::OwnSymlinkedParent);
    draft.push(file);
}

fn lower_symlinked_parent(draft: &mut Draft) {
    let Some(link) = draft.lower(is_symlink) else { return };
    let name = format!("over{}", draft.number());
    let file = draft.file(&join(&link, name.as_bytes())).rule(Rule::LowerSymlinkedParent);
    draft.push(file);
}

/// A path twice in one layer; the last one counts.
fn twice(draft: &mut Draft) {
    let path = draft.path();
    let symlink = || Member::new(&path, Kind::Symlink(b"../usr/lib".to_vec()));
    let directory = || Member::new(&path, Kind::Directory);
    let (first, second) = (draft.file(&path), draft.file(&path));
    // Operations that seldom decide anything are drawn twice as often.
    match draft.rng.below(8) {
        0 => {
            draft.push(first);
            draft.push(second.rule(Rule::FileFile));
        }
        1 => {
            let child = draft.file(&join(&path, b"gone"));
            draft.push(directory());
            draft.push(child);
            draft.push(second.rule(Rule::DirectoryFile));
        }
        2 => {
            let child = draft.file(&join(&path, b"there"));
            draft.push(first);
            draft.push(directory().rule(Rule::FileDirectory));
            draft.push(child);
        }
        3 => {
            let child = draft.file(&join(&path, b"there"));
            draft.push(symlink());
            draft.push(directory().rule(Rule::SymlinkDirectory));
            draft.push(child);
        }
        4 | 5 => {
            draft.push(symlink());
            draft.push(second.rule(Rule::SymlinkFile));
        }
        _ => {
            draft.push(first);
            draft.push(symlink().rule(Rule::FileSymlink));
        }
    }
}

/// An entry of another kind than in the layers below.
fn other_kind(draft: &mut Draft) {
    match draft.rng.below(4) {
        0 => {
            let Some(path) = draft.lower(is_directory) else { return };
            let file = draft.file(&path).rule(Rule::FileOverDirectory);
            draft.push(file);
        }
        1 => {
            let Some(path) = draft.lower(is_directory) else { return };
            draft.push(Member::new(&path, Kind::Symlink(b"/usr/lib".to_vec())).rule(Rule::SymlinkOverDirectory));
        }
        2 => {
            let Some(path) = draft.lower(is_file) else { return };
            draft.push(Member::new(&path, Kind::Directory).mode(0o750).rule(Rule::DirectoryOverFile));
            let child = draft.file(&join(&path, b"inside"));
            draft.push(child);
        }
        _ => {
            let Some(path) = draft.lower(is_symlink) else { return };
            draft.push(Member::new(&path, Kind::Directory).mode(0o750).rule(Rule::DirectoryOverSymlink));
            let child = draft.file(&join(&path, b"inside"));
            draft.push(child);
        }
    }
}

/// Unpackers disagree about these members, so nobody should unpack them.
fn dot_dot(draft: &mut Draft) {
    let path = match draft.rng.below(3) {
        0 => b"../outside".to_vec(),
        1 => b"usr/../../outside".to_vec(),
        _ => join(&draft.path(), b"../x"),
    };
    let file = draft.file(&path);
    draft.refuse(file, Rule::DotDot);
}
