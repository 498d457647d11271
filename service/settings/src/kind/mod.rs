//! The grammars of values: what is accepted, the default, and the type that a program gets.

mod number;
mod words;

pub use number::{Number, PowerOfTwo, Size, SizeUnit, Time, TimeUnit};
pub use words::{Address, Choice, List, Name, NameDefault, Text};

/// A grammar of values.
pub trait Kind {
    /// What a program gets.
    type Value;

    /// Reads a value.
    ///
    /// # Errors
    /// When the grammar does not accept it.
    fn parse(&self, text: &str) -> Result<Self::Value, Refusal>;

    /// The value when nothing is set, as text of this grammar.
    fn default(&self) -> String;

    /// What a program gets in place of a value that was refused. It does not start, so nothing is done with it.
    fn placeholder(&self) -> Self::Value;

    /// Which values are accepted, in words.
    fn accepts(&self) -> String;

    /// The default as documentation shows it.
    fn default_shown(&self) -> String {
        self.default()
    }

    /// Which values of TOML can stand for it.
    fn shape(&self) -> Shape {
        Shape::Text
    }

    /// A value that shows the form, for a setting that has to be set.
    fn example(&self) -> Option<&'static str> {
        None
    }

    /// Whether the value must not be printed.
    fn is_secret(&self) -> bool {
        false
    }
}

/// Why a value was refused. The two parts are kept apart, because the first of a secret is not printed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// The value, or the part of it that is wrong.
    pub value: String,
    /// What is wrong, and what is accepted; continues the value.
    pub why: String,
}

/// Which values of TOML can stand for a setting. A string of the form that the environment has always can.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shape {
    /// A string only.
    Text,
    /// An integer.
    Number,
    /// An array of strings, which this joins.
    List(char),
}

/// A value that a program may need; [`crate::Settings::required`] refuses its absence.
#[derive(Debug)]
pub struct Required<K> {
    /// Grammar of the value.
    pub kind: K,
    /// A value that shows the form.
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
