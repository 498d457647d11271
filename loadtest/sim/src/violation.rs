//! What a check found wrong.

use std::fmt;

/// A broken rule: which check noticed it, and what it saw.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    /// Name of the invariant or of the part of the oracle.
    pub check: &'static str,
    /// What was seen.
    pub what: String,
}

impl Violation {
    pub(crate) fn new(check: &'static str, what: impl Into<String>) -> Self {
        Self { check, what: what.into() }
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.check, self.what)
    }
}

/// Of something that checks.
pub(crate) type Checked<T = ()> = Result<T, Violation>;
