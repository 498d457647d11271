//! Compares what we show of an image with what a tool shows.

use std::collections::BTreeSet;

use crate::seen::{Node, View};
use crate::stack::shown;

/// Where two opinions differ, path by path.
pub(crate) fn differences(ours: &View, theirs: &View) -> Vec<String> {
    let paths: BTreeSet<&Vec<u8>> = ours.keys().chain(theirs.keys()).collect();
    let differ = |path: &&Vec<u8>| {
        let (our, their) = (ours.get(*path), theirs.get(*path));
        our != their && [our, their].iter().flatten().any(|node| matches!(node, Node::File { .. }))
    };
    let text = |node: Option<&Node>| node.map_or("nothing".to_owned(), ToString::to_string);
    paths
        .into_iter()
        .filter(differ)
        .map(|path| format!("{}: ours {}, theirs {}", shown(path), text(ours.get(path)), text(theirs.get(path))))
        .collect()
}
