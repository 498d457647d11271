//! The trust setting as an argument, for the commands that see images as the enricher does.

use clap::builder::{PossibleValuesParser, TypedValueParser};

use driftline_enricher_core::Trust;

/// Reads the values of DRIFTLINE_TRUST.
pub(crate) fn trust_values() -> impl TypedValueParser<Value = Trust> {
    PossibleValuesParser::new(Trust::NAMES.map(|(name, _)| name)).map(|word| {
        let named = Trust::NAMES.into_iter().find(|(name, _)| *name == word);
        named.map_or(Trust::default(), |(_, trust)| trust)
    })
}
