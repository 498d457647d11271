//! Alerts in the formats of SIEMs, and the words both the alert and its encodings share: shell quoting, UTC times,
//! MITRE ATT&CK names.
//!
//! Every encoder is a function from an [`Alert`] to bytes: the same alert gives the same bytes. Objects are typed and
//! written in declaration order, so that no feature of the JSON library can change their order.
//!
//! What is deliberately absent: any judgement. An encoder shows what the alert says and computes nothing new.

mod headers;
pub mod mitre;
pub mod ocsf;
pub mod shell;
pub mod utc;

pub use headers::{HEADERS, headers};

use driftline_schemas::topics::Topic;
use driftline_schemas::{Alert, AlertFinding};

/// A format for SIEMs, one topic each.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum SiemFormat {
    /// OCSF 1.8.0 Detection Finding, JSON.
    Ocsf,
}

/// An alert could not be written in a format; a defect, since every alert can be.
#[derive(Debug, thiserror::Error)]
#[error("cannot write the alert as {format:?}: {why}")]
pub struct FormatError {
    format: SiemFormat,
    why: String,
}

impl SiemFormat {
    /// Every format.
    pub const ALL: [Self; 1] = [Self::Ocsf];

    /// The format's name in settings.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Ocsf => "ocsf",
        }
    }

    /// The format with this name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|format| format.name() == name)
    }

    /// The topic that carries it.
    #[must_use]
    pub fn topic(self) -> Topic {
        match self {
            Self::Ocsf => Topic::AlertsOcsf,
        }
    }

    /// What the `schema` header says of it.
    #[must_use]
    pub fn schema(self) -> String {
        match self {
            Self::Ocsf => format!("ocsf/{}/detection_finding", ocsf::VERSION),
        }
    }

    /// Writes an alert.
    ///
    /// # Errors
    /// Never for an alert that came out of the correlator.
    pub fn encode(self, alert: &Alert) -> Result<Vec<u8>, FormatError> {
        match self {
            Self::Ocsf => ocsf::encode(alert),
        }
    }
}

/// The finding that gives an alert its title: the severest, of these the first listed.
#[must_use]
pub fn strongest(findings: &[AlertFinding]) -> Option<&AlertFinding> {
    // `max_by_key` takes the last of equals, so the list is walked backwards.
    findings.iter().rev().max_by_key(|finding| finding.severity)
}

#[cfg(test)]
mod tests;
