//! The stacks that are not random: very many layers, and very many files.

use crate::draft::whiteout;
use crate::generate::Drawn;
use crate::member::{Kind, Member};
use crate::rule::Hits;
use crate::stack::{End, Layer, Stack, Stored};
use crate::unpackers::{LeftOut, Unpackers};

/// The seeds of these stacks; no run of random stacks reaches either.
pub(crate) const SEEDS: [u64; 2] = [MANY_LAYERS, MANY_FILES];

const MANY_LAYERS: u64 = 0;
const MANY_FILES: u64 = 1_000_000_000_000;

/// Docker's own limit is 125.
const LAYERS: u32 = 120;

/// As many files as a large base image has.
const FILES: u32 = 100_000;

/// The stack of one of [`SEEDS`].
pub(crate) fn stack(seed: u64) -> Option<Drawn> {
    let stack = match seed {
        MANY_LAYERS => many_layers(),
        MANY_FILES => many_files(),
        _ => return None,
    };
    Some(Drawn { stack, unpackers: Unpackers::Both, left_out: LeftOut::new(), refused: Hits::default() })
}

/// Each layer hides the file of the layer before, adds one, and replaces one that all layers have.
fn many_layers() -> Stack {
    let layers = (0..LAYERS).map(|number| {
        let mut layer = Layer::new(Stored::Gzip, End::Mark);
        let own = format!("opt/a/{number}");
        layer.members.push(Member::new(own.as_bytes(), Kind::File(own.clone().into_bytes())));
        layer.members.push(Member::new(b"opt/a/all", Kind::File(own.into_bytes())));
        if let Some(before) = number.checked_sub(1).filter(|before| before % 3 != 0) {
            layer.members.extend(whiteout(format!("opt/a/{before}").as_bytes()));
        }
        layer
    });
    Stack { layers: layers.collect() }
}

/// One layer with many files, and one that hides a tenth of them.
fn many_files() -> Stack {
    let path = |number: u32| format!("usr/share/{}/{number}", number % 1_000).into_bytes();
    let mut lower = Layer::new(Stored::Zstd, End::Mark);
    lower.members.extend((0..FILES).map(|number| Member::new(&path(number), Kind::File(path(number / 2)))));
    let mut upper = Layer::new(Stored::Plain, End::Mark);
    upper.members.extend((0..FILES).step_by(10).filter_map(|number| whiteout(&path(number))));
    Stack { layers: vec![lower, upper] }
}
