//! Alerts in the formats of SIEMs.
//!
//! Every encoder is a function from an [`Alert`](driftline_schemas::Alert) to bytes: the same alert gives the same
//! bytes. Objects are typed and written in declaration order, so that no feature of the JSON library can change their
//! order. The topic and the name of a format are in its [`SiemFormat`].
//!
//! What is deliberately absent: any judgement. An encoder writes the content of the alert and computes nothing new.

pub mod ocsf;

use driftline_correlator_core::SiemFormat;

/// Every format.
pub static ALL: [SiemFormat; 1] = [ocsf::FORMAT];

/// The format with this name.
#[must_use]
pub fn named(name: &str) -> Option<&'static SiemFormat> {
    ALL.iter().find(|format| format.name == name)
}

#[cfg(test)]
mod tests;
