//! The grammars of values: the accepted values, the default, and the type that a program receives.

mod number;
mod words;

pub use number::{Number, PowerOfTwo, Size, SizeUnit, Time, TimeUnit};
pub use words::{Address, Choice, List, Name, NameDefault, Text};

/// A grammar of values.
pub trait Kind {
    /// The type that a program receives.
    type Value;

    /// Reads a value.
    ///
    /// # Errors
    /// When the grammar does not accept the text.
    fn parse(&self, text: &str) -> Result<Self::Value, Refusal>;

    /// The value when nothing is set, as text of this grammar.
    fn default(&self) -> String;

    /// Replaces a refused value. The program does not start, so the value is never used.
    fn placeholder(&self) -> Self::Value;

    /// Describes the accepted values.
    fn accepts(&self) -> String;

    /// The default as documentation shows it.
    fn default_shown(&self) -> String {
        self.default()
    }

    /// The TOML types that can hold the value.
    fn shape(&self) -> Shape {
        Shape::Text
    }

    /// An example of the form, for a setting that is required.
    fn example(&self) -> Option<&'static str> {
        None
    }

    /// Whether the value must not be printed.
    fn is_secret(&self) -> bool {
        false
    }
}

/// Why a value was refused. The two parts are separate, because the first part of a secret is not printed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// The value, or the wrong part of it.
    pub value: String,
    /// The problem, and the accepted values; continues the value.
    pub why: String,
}

/// The TOML types that can hold a setting. A string in the form of the environment is always accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shape {
    /// A string only.
    Text,
    /// An integer.
    Number,
    /// An array of strings, which are joined with this character.
    List(char),
}

/// A value that a program may need; [`crate::Settings::required`] refuses its absence.
#[derive(Debug)]
pub struct Required<K> {
    /// Grammar of the value.
    pub kind: K,
    /// An example of the form.
    pub example: &'static str,
}

impl<K: Kind> Kind for Required<K> {
    type Value = K::Value;

    fn parse(&self, text: &str) -> Result<Self::Value, Refusal> {
        self.kind.parse(text)
    }

    fn default(&self) -> String {
        self.kind.default()
    }

    fn placeholder(&self) -> Self::Value {
        self.kind.placeholder()
    }

    fn accepts(&self) -> String {
        self.kind.accepts()
    }

    fn default_shown(&self) -> String {
        self.kind.default_shown()
    }

    fn shape(&self) -> Shape {
        self.kind.shape()
    }

    fn example(&self) -> Option<&'static str> {
        Some(self.example)
    }

    fn is_secret(&self) -> bool {
        self.kind.is_secret()
    }
}

/// A value that is never printed: no error, log line, help or document contains it.
#[derive(Debug)]
pub struct Secret<K>(pub K);

impl<K: Kind> Kind for Secret<K> {
    type Value = K::Value;

    fn parse(&self, text: &str) -> Result<Self::Value, Refusal> {
        self.0.parse(text)
    }

    fn default(&self) -> String {
        self.0.default()
    }

    fn placeholder(&self) -> Self::Value {
        self.0.placeholder()
    }

    fn accepts(&self) -> String {
        self.0.accepts()
    }

    fn default_shown(&self) -> String {
        String::new()
    }

    fn shape(&self) -> Shape {
        self.0.shape()
    }

    fn example(&self) -> Option<&'static str> {
        self.0.example()
    }

    fn is_secret(&self) -> bool {
        true
    }
}
