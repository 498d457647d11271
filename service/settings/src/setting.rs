//! One setting: its name, its grammar, the programs that read it, its description.

use crate::kind::{Kind, Refusal, Shape};

/// Prefix of a setting's name in the environment.
pub(crate) const PREFIX: &str = "DRIFTLINE_";

/// One setting. The tables of [`crate::table`] consist of these.
#[derive(Debug)]
pub struct Setting<K> {
    /// Name of the environment variable.
    pub name: &'static str,
    /// Programs that read it.
    pub programs: &'static [Program],
    /// Grammar, default and range of the value.
    pub kind: K,
    /// Description, in Markdown that is readable as plain text.
    pub about: &'static str,
}

/// A program that reads settings.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Program {
    /// `driftline-collector`.
    Collector,
    /// `driftline-indexer`.
    Indexer,
    /// `driftline-enricher`.
    Enricher,
    /// `driftline-correlator`.
    Correlator,
    /// `driftline`.
    CommandLine,
}

impl Program {
    /// Every program.
    pub const ALL: [Self; 5] = [Self::Collector, Self::Indexer, Self::Enricher, Self::Correlator, Self::CommandLine];

    /// Name of its table in a configuration file, and in documentation.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Collector => "collector",
            Self::Indexer => "indexer",
            Self::Enricher => "enricher",
            Self::Correlator => "correlator",
            Self::CommandLine => "driftline",
        }
    }
}

/// A setting of any kind, for lists.
pub trait Described: Sync {
    /// Name of the environment variable.
    fn name(&self) -> &'static str;
    /// Programs that read it.
    fn programs(&self) -> &'static [Program];
    /// Description.
    fn about(&self) -> &'static str;
    /// Describes the accepted values.
    fn accepts(&self) -> String;
    /// The default as documentation shows it; empty when there is none.
    fn default(&self) -> String;
    /// An example of the form, for a setting that is required.
    fn example(&self) -> Option<&'static str>;
    /// The TOML types that can hold the value.
    fn shape(&self) -> Shape;
    /// Whether its value must not be printed.
    fn is_secret(&self) -> bool;
    /// Checks a value.
    ///
    /// # Errors
    /// When the grammar does not accept the text.
    fn check(&self, text: &str) -> Result<(), Refusal>;

    /// Name in a configuration file: without the prefix, in lower case.
    fn key(&self) -> String {
        self.name().strip_prefix(PREFIX).unwrap_or(self.name()).to_ascii_lowercase()
    }
}

impl<K: Kind + Sync> Described for Setting<K> {
    fn name(&self) -> &'static str {
        self.name
    }

    fn programs(&self) -> &'static [Program] {
        self.programs
    }

    fn about(&self) -> &'static str {
        self.about
    }

    fn accepts(&self) -> String {
        self.kind.accepts()
    }

    fn default(&self) -> String {
        self.kind.default_shown()
    }

    fn example(&self) -> Option<&'static str> {
        self.kind.example()
    }

    fn shape(&self) -> Shape {
        self.kind.shape()
    }

    fn is_secret(&self) -> bool {
        self.kind.is_secret()
    }

    fn check(&self, text: &str) -> Result<(), Refusal> {
        self.kind.parse(text).map(drop)
    }
}
