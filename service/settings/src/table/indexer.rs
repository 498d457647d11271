//! Settings of the indexer in both modes.

use crate::kind::{Choice, Number, Time, TimeUnit};
use crate::{Described, Program, Setting};

const INDEXER: &[Program] = &[Program::Indexer];

/// Source of images.
pub static INDEXER_MODE: Setting<Choice> = Setting {
    name: "DRIFTLINE_INDEXER_MODE",
    programs: INDEXER,
    kind: Choice { default: "node", words: &["node", "registry"] },
    about: "`node`: indexes the images of the node it runs on; `registry`: a central service that indexes what registries \
        have",
};

/// Images indexed at once: with two, small images do not all wait for a large one.
pub static INDEXER_PARALLEL: Setting<Number> = Setting {
    name: "DRIFTLINE_INDEXER_PARALLEL",
    programs: INDEXER,
    kind: Number { default: 2, range: 1..=8 },
    about: "images indexed at once",
};

/// Pause of the scanner.
pub static SCAN_MS: Setting<Time> = Setting {
    name: "DRIFTLINE_SCAN_MS",
    programs: INDEXER,
    kind: Time { default: 3_000, range: 100..=600_000, unit: TimeUnit::Milliseconds },
    about: "pause between scans of the running containers, in node mode",
};

pub(super) static SETTINGS: &[&dyn Described] = &[&INDEXER_MODE, &INDEXER_PARALLEL, &SCAN_MS];
