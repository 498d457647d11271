//! Tables as the Rust structs of package `driftline-schemas`: fields, limits, and what they take of memory.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use crate::table::{Enum, Field, Limit, Record, Type};

pub(crate) const HEADER: &str = "Written by `make generate` from the tables in `schemas/generate`; edit those.";

/// A record with a schema file of its own, and the frozen versions of that, oldest first and without the newest.
#[derive(Debug)]
pub(crate) struct Root {
    pub(crate) file: &'static str,
    pub(crate) record: &'static Record,
    pub(crate) older: Vec<String>,
}

/// The module that defines `roots` and the types in them, except those that `elsewhere` defines: pairs of a module beside
/// this one, and its types.
pub(crate) fn module(about: &str, roots: &[Root], elsewhere: &[(&str, Vec<&'static str>)]) -> String {
    let mut types = Types::default();
    for root in roots {
        types.add(Type::Record(root.record));
    }
    let foreign = |name: &str| elsewhere.iter().find(|(_, names)| names.contains(&name)).map(|(module, _)| *module);
    let own = |name: &&'static str| foreign(name).is_none();
    let mut body = String::new();
    for it in types.records.iter().filter(|it| own(&it.name)) {
        body += &structure(it);
    }
    for it in types.enums.iter().filter(|it| own(&it.name)) {
        body += &enumeration(it);
    }
    for it in types.records.iter().filter(|it| own(&it.name)) {
        body += &memory(it);
        body += &bounds(it);
    }
    for root in roots {
        let name = root.record.name;
        let older: String = root.older.iter().map(|older| format!("\n    \"frozen/{older}\",")).collect();
        let _ = write!(body, "\nrecord! {{\n    {name}, \"{name}\", \"{}.avsc\",{older}\n}}\n", root.file);
    }
    format!("//! {about}\n//!\n//! {HEADER}\n\n{}{body}", uses(&types, foreign))
}

/// Names of all types that `module` would define for these records.
pub(crate) fn names(records: &[&'static Record]) -> Vec<&'static str> {
    let mut types = Types::default();
    for record in records {
        types.add(Type::Record(record));
    }
    types.records.iter().map(|it| it.name).chain(types.enums.iter().map(|it| it.name)).collect()
}

/// Every type that a record consists of, in the order of first use.
#[derive(Debug, Default)]
struct Types {
    records: Vec<&'static Record>,
    enums: Vec<&'static Enum>,
    has_map: bool,
    newtypes: BTreeSet<&'static str>,
}

impl Types {
    fn add(&mut self, avro: Type) {
        match avro {
            Type::Boolean | Type::Int | Type::Long | Type::String | Type::Bytes => {}
            Type::Optional(inner) | Type::Array(inner) => self.add(*inner),
            Type::Map(inner) => {
                self.has_map = true;
                self.add(*inner);
            }
            Type::As(_, rust) => {
                self.newtypes.insert(rust);
            }
            Type::Enum(it) => {
                if self.enums.iter().all(|other| other.name != it.name) {
                    self.enums.push(it);
                }
            }
            Type::Record(it) => {
                if self.records.iter().all(|other| other.name != it.name) {
                    self.records.push(it);
                    it.fields.iter().filter_map(|field| field.avro).for_each(|(_, avro)| self.add(avro));
                }
            }
        }
    }
}

fn uses<'a>(types: &Types, foreign: impl Fn(&str) -> Option<&'a str>) -> String {
    let mut text = "use serde::{Deserialize, Serialize};\n".to_owned();
    if types.has_map {
        text += "use std::collections::BTreeMap;\n";
    }
    text += "\nuse super::bounds::{Bounded, Of};\n";
    let names = types.records.iter().map(|it| it.name).chain(types.enums.iter().map(|it| it.name));
    let others: BTreeSet<String> =
        names.filter_map(|name| foreign(name).map(|module| format!("use super::{module}::{name};\n"))).collect();
    text.extend(others);
    if types.newtypes.contains("Args") {
        text += "use crate::args::Args;\n";
    }
    text += "use crate::codec::{DecodeError, record};\n";
    let ids: Vec<&str> = types.newtypes.iter().copied().filter(|name| !["Args", "u32"].contains(name)).collect();
    match ids.as_slice() {
        [] => {}
        [one] => {
            let _ = writeln!(text, "use crate::ids::{one};");
        }
        many => {
            let _ = writeln!(text, "use crate::ids::{{{}}};", many.join(", "));
        }
    }
    text + "use crate::limits;\nuse crate::memory::{self, HeapBytes};\n"
}

fn structure(it: &Record) -> String {
    let mut text = format!("\n{}", doc(it.doc, 0));
    let _ = writeln!(text, "#[derive({}, Serialize, Deserialize)]\npub struct {} {{", it.derives, it.name);
    for field in it.fields {
        let Some((name, avro)) = field.avro else { continue };
        text += &doc(field.doc, 4);
        text += &attribute(field, avro);
        let _ = writeln!(text, "    pub {name}: {},", rust(avro));
    }
    text + "}\n"
}

fn attribute(field: &Field, avro: Type) -> String {
    let is_bytes = matches!(avro, Type::Bytes | Type::Optional(Type::Bytes));
    match (field.default.is_some(), is_bytes) {
        (true, true) => "    #[serde(default, with = \"serde_bytes\")]\n",
        (true, false) => "    #[serde(default)]\n",
        (false, true) => "    #[serde(with = \"serde_bytes\")]\n",
        (false, false) => "",
    }
    .to_owned()
}

fn rust(avro: Type) -> String {
    match avro {
        Type::Boolean => "bool".to_owned(),
        Type::Int => "i32".to_owned(),
        Type::Long => "i64".to_owned(),
        Type::String => "String".to_owned(),
        Type::Bytes => "Vec<u8>".to_owned(),
        Type::Optional(inner) => format!("Option<{}>", rust(*inner)),
        Type::Array(inner) => format!("Vec<{}>", rust(*inner)),
        Type::Map(inner) => format!("BTreeMap<String, {}>", rust(*inner)),
        Type::Enum(it) => it.name.to_owned(),
        Type::Record(it) => it.name.to_owned(),
        Type::As(_, rust) => rust.to_owned(),
    }
}

fn enumeration(it: &Enum) -> String {
    let mut text = format!("\n{}", doc(it.doc, 0));
    let _ = writeln!(
        text,
        "#[derive({}, Serialize, Deserialize)]\n#[serde(rename_all = \"snake_case\")]\npub enum {} {{",
        it.derives, it.name
    );
    for symbol in it.symbols {
        if it.default == Some(symbol) {
            text += "    #[default]\n";
        }
        let _ = writeln!(text, "    {},", camel(symbol));
    }
    text + "}\n"
}

fn camel(symbol: &str) -> String {
    symbol.split('_').map(capitalised).collect()
}

fn memory(it: &Record) -> String {
    let owned = it.fields.iter().filter_map(|field| field.avro).filter(|(_, avro)| owns_memory(*avro));
    let line = |(name, avro)| match avro {
        Type::Array(Type::Record(_)) => format!("        bytes += memory::of_items(&self.{name});\n"),
        _ => format!("        bytes += self.{name}.heap_bytes();\n"),
    };
    let lines: String = owned.map(line).collect();
    let body = if lines.is_empty() {
        "        0\n".to_owned()
    } else {
        format!("        let mut bytes = 0;\n{lines}        bytes\n")
    };
    format!("\nimpl HeapBytes for {} {{\n    fn heap_bytes(&self) -> usize {{\n{body}    }}\n}}\n", it.name)
}

fn owns_memory(avro: Type) -> bool {
    match avro {
        Type::Boolean | Type::Int | Type::Long | Type::Enum(_) => false,
        Type::String | Type::Bytes | Type::Array(_) | Type::Map(_) => true,
        Type::Optional(inner) => owns_memory(*inner),
        Type::As(inner, rust) => rust != "Sha256" && owns_memory(*inner),
        Type::Record(it) => it.fields.iter().filter_map(|field| field.avro).any(|(_, avro)| owns_memory(avro)),
    }
}

fn bounds(it: &Record) -> String {
    let mut lines = String::new();
    for field in it.fields {
        let Some((name, avro)) = field.avro else { continue };
        for limit in field.limits {
            let (kind, constant) = match limit {
                Limit::Bytes(constant) => ("bytes", constant),
                Limit::Items(constant) => ("items", constant),
                Limit::Each(constant) => ("each", constant),
            };
            let label = it.label;
            let _ = writeln!(lines, "        of.{kind}(\"{label}{name}\", &self.{name}, limits::{constant})?;");
        }
        if has_bounds(avro) && field.limits.iter().all(|limit| !matches!(limit, Limit::Bytes(_))) {
            let _ = writeln!(lines, "        self.{name}.check(of)?;");
        }
    }
    if lines.is_empty() {
        return String::new();
    }
    format!(
        "\nimpl Bounded for {} {{\n    fn check(&self, of: Of) -> Result<(), DecodeError> {{\n{lines}        Ok(())\n    }}\n}}\n",
        it.name
    )
}

/// Whether a type consists of records with limits.
fn has_bounds(avro: Type) -> bool {
    match avro {
        Type::Optional(inner) | Type::Array(inner) => has_bounds(*inner),
        Type::Record(it) => it
            .fields
            .iter()
            .any(|field| field.avro.is_some_and(|(_, avro)| !field.limits.is_empty() || has_bounds(avro))),
        _ => false,
    }
}

/// A documentation comment of one sentence, at most 120 columns wide.
pub(crate) fn doc(sentence: &str, indent: usize) -> String {
    let margin = " ".repeat(indent);
    let sentence = capitalised(sentence).replace('[', "\\[");
    let end = if sentence.ends_with('.') { "" } else { "." };
    let (mut text, mut line) = (String::new(), format!("{margin}///"));
    for word in format!("{sentence}{end}").split(' ') {
        if line.chars().count() + 1 + word.chars().count() > 120 {
            text += &line;
            text.push('\n');
            line = format!("{margin}///");
        }
        line.push(' ');
        line += word;
    }
    text + &line + "\n"
}

pub(crate) fn capitalised(text: &str) -> String {
    let mut chars = text.chars();
    chars.next().map(|first| first.to_uppercase().chain(chars).collect()).unwrap_or_default()
}
