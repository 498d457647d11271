//! The properties of a SIEM format that the core needs. The encoders are in `driftline-formats`, which depends on this
//! package.

use driftline_schemas::Alert;
use driftline_schemas::topics::Topic;

/// A format for SIEMs, one topic each.
#[derive(Debug, Clone, Copy)]
pub struct SiemFormat {
    /// The format's name in settings.
    pub name: &'static str,
    /// The topic that carries it.
    pub topic: Topic,
    /// Value of the `schema` header.
    pub schema: &'static str,
    /// Writes an alert. The same alert gives the same bytes.
    pub encode: fn(&Alert) -> Result<Vec<u8>, FormatError>,
}

/// An alert could not be encoded. This is a defect, since every alert can be encoded.
#[derive(Debug, thiserror::Error)]
#[error("cannot write the alert as {format}: {why}")]
pub struct FormatError {
    /// Name of the format.
    pub format: &'static str,
    /// The encoder's error.
    pub why: String,
}
