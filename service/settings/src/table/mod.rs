//! Every setting of every program. Each family of settings has a file; each file ends with the list of its settings.
//! From this list the parser takes their names, and help and documentation are generated.
//!
//! A new setting is a `static` here, its name in the list, and one line where the program reads it; see docs/changing.md.

mod collector;
mod correlator;
mod engines;
mod enricher;
mod indexer;
mod registry;
mod shared;

pub use collector::*;
pub use correlator::*;
pub use engines::*;
pub use enricher::*;
pub use indexer::*;
pub use registry::*;
pub use shared::*;

use crate::{Described, Program};

/// The environment variable that names the configuration file. It is not a setting, because the file cannot contain it.
pub const CONFIG: &str = "DRIFTLINE_CONFIG";

/// A group of related settings.
pub struct Section {
    /// Heading in the documentation.
    pub title: &'static str,
    /// The settings, in the order of the documentation.
    pub settings: &'static [&'static dyn Described],
}

/// All settings, in the order of the documentation.
pub static SECTIONS: [Section; 7] = [
    Section { title: "Shared", settings: shared::SETTINGS },
    Section { title: "Collector", settings: collector::SETTINGS },
    Section { title: "Container engines", settings: engines::SETTINGS },
    Section { title: "Indexer", settings: indexer::SETTINGS },
    Section { title: "Indexer in registry mode", settings: registry::SETTINGS },
    Section { title: "Enricher", settings: enricher::SETTINGS },
    Section { title: "Correlator", settings: correlator::SETTINGS },
];

/// All settings.
pub fn all() -> impl Iterator<Item = &'static dyn Described> {
    SECTIONS.iter().flat_map(|section| section.settings.iter().copied())
}

/// Settings of a program.
pub fn of(program: Program) -> impl Iterator<Item = &'static dyn Described> {
    all().filter(move |setting| setting.programs().contains(&program))
}

/// Names of the settings of a program, sorted; the program's test compares them with [`crate::Settings::names_read`].
#[must_use]
pub fn names_of(program: Program) -> Vec<&'static str> {
    let mut names: Vec<&str> = of(program).map(Described::name).collect();
    names.sort_unstable();
    names
}
