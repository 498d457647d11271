//! Names, words, addresses, lists, and text that the program parses.

use std::net::{Ipv4Addr, SocketAddr};

use super::{Kind, Refusal, Shape};

/// Most characters of a name: Kafka allows 249 for a topic, of which driftline's names follow a prefix.
const NAME_MAX: usize = 200;

/// A name that becomes part of a topic, group or record: letters, digits, `-`, `_`, `.`.
#[derive(Debug)]
pub struct Name {
    /// Value when nothing is set.
    pub default: NameDefault,
    /// A character that is not accepted here, and why.
    pub without: Option<(char, &'static str)>,
}

/// The name when nothing is set.
#[derive(Debug, Clone, Copy)]
pub enum NameDefault {
    /// This name.
    Is(&'static str),
    /// The host's name.
    HostName,
}

impl Kind for Name {
    type Value = String;

    fn parse(&self, text: &str) -> Result<String, Refusal> {
        let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
        let refused = |why: String| Err(Refusal { value: format!("{text:?}"), why });
        if text.is_empty() || text.len() > NAME_MAX || !text.chars().all(fits) {
            return refused(format!("is not 1 to {NAME_MAX} letters, digits, '-', '_' or '.'"));
        }
        match self.without {
            Some((character, why)) if text.contains(character) => refused(format!("contains '{character}': {why}")),
            _ => Ok(text.to_owned()),
        }
    }

    fn default(&self) -> String {
        match self.default {
            NameDefault::Is(name) => name.to_owned(),
            NameDefault::HostName => rustix::system::uname().nodename().to_string_lossy().into_owned(),
        }
    }

    fn placeholder(&self) -> String {
        String::new()
    }

    fn accepts(&self) -> String {
        let underscore = if matches!(self.without, Some(('_', _))) { "" } else { ", `_`" };
        format!("1 to {NAME_MAX} letters, digits, `-`{underscore}, `.`")
    }

    fn default_shown(&self) -> String {
        match self.default {
            NameDefault::Is(name) => name.to_owned(),
            NameDefault::HostName => "the host's name".to_owned(),
        }
    }
}

/// One of a list of words.
#[derive(Debug)]
pub struct Choice {
    /// Value when nothing is set; one of the words.
    pub default: &'static str,
    /// Values that are accepted.
    pub words: &'static [&'static str],
}

impl Kind for Choice {
    type Value = &'static str;

    fn parse(&self, text: &str) -> Result<&'static str, Refusal> {
        let chosen = self.words.iter().find(|word| **word == text).copied();
        let refusal = || Refusal { value: format!("{text:?}"), why: format!("is none of {}", self.words.join(", ")) };
        chosen.ok_or_else(refusal)
    }

    fn default(&self) -> String {
        self.default.to_owned()
    }

    fn placeholder(&self) -> &'static str {
        self.default
    }

    fn accepts(&self) -> String {
        self.words.iter().map(|word| format!("`{word}`")).collect::<Vec<_>>().join(", ")
    }
}

/// A socket address to listen on.
#[derive(Debug)]
pub struct Address {
    /// Value when nothing is set.
    pub default: &'static str,
}

impl Kind for Address {
    type Value = SocketAddr;

    fn parse(&self, text: &str) -> Result<SocketAddr, Refusal> {
        let why = format!("is not an address like {}", self.default);
        text.parse().map_err(|_| Refusal { value: format!("{text:?}"), why })
    }

    fn default(&self) -> String {
        self.default.to_owned()
    }

    fn placeholder(&self) -> SocketAddr {
        SocketAddr::from((Ipv4Addr::LOCALHOST, 0))
    }

    fn accepts(&self) -> String {
        "`address:port`".to_owned()
    }
}

/// Text that the program parses.
#[derive(Debug)]
pub struct Text {
    /// Value when nothing is set; may be empty.
    pub default: &'static str,
    /// A description of the form.
    pub form: &'static str,
}

impl Kind for Text {
    type Value = String;

    fn parse(&self, text: &str) -> Result<String, Refusal> {
        Ok(text.to_owned())
    }

    fn default(&self) -> String {
        self.default.to_owned()
    }

    fn placeholder(&self) -> String {
        self.default.to_owned()
    }

    fn accepts(&self) -> String {
        self.form.to_owned()
    }
}

/// Several values of one form.
#[derive(Debug)]
pub struct List {
    /// Values when nothing is set.
    pub default: &'static [&'static str],
    /// Separator of the values in one text.
    pub separator: char,
    /// A description of each value's form.
    pub form: &'static str,
    /// Whether a value has the form, as far as this package can tell.
    pub fits: fn(&str) -> bool,
}

impl Kind for List {
    type Value = Vec<String>;

    fn parse(&self, text: &str) -> Result<Vec<String>, Refusal> {
        let parts = text.split(self.separator).map(str::trim).filter(|part| !part.is_empty());
        let parts: Vec<String> = parts.map(str::to_owned).collect();
        match parts.iter().find(|part| !(self.fits)(part)) {
            Some(wrong) => {
                Err(Refusal { value: format!("{wrong:?}"), why: format!("is not {}", self.form.replace('`', "")) })
            }
            None => Ok(parts),
        }
    }

    fn default(&self) -> String {
        self.default.join(&self.separator.to_string())
    }

    fn placeholder(&self) -> Vec<String> {
        Vec::new()
    }

    fn accepts(&self) -> String {
        let separated = if self.separator == '\n' { "one a line" } else { "comma-separated" };
        format!("{}, {separated}", self.form)
    }

    fn shape(&self) -> Shape {
        Shape::List(self.separator)
    }
}
