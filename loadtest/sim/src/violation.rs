//! The result of a failed check.

use std::fmt;

/// A broken rule: the check that noticed it, and the details.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    /// Name of the invariant or of the part of the oracle.
    pub check: &'static str,
    /// The details.
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

/// The result of a check.
pub(crate) type Checked<T = ()> = Result<T, Violation>;
