//! Tables as Avro schemas.

use std::fmt::Write as _;

use crate::table::{Enum, Field, Record, Type};

/// The schema file of a record. A type that occurs twice is defined where it occurs first.
pub(crate) fn schema(record: &Record) -> String {
    let mut writer = Writer { defined: Vec::new() };
    let body = writer.fields(record, 1);
    format!(
        "{{\"type\": \"record\", \"name\": {}, \"namespace\": \"driftline\", \"doc\": {}, \"fields\": [\n{body}]}}\n",
        quoted(record.name),
        quoted(record.doc)
    )
}

struct Writer {
    defined: Vec<&'static str>,
}

impl Writer {
    fn fields(&mut self, record: &Record, depth: usize) -> String {
        let lines: Vec<String> = record.fields.iter().filter_map(|field| self.field(field, depth)).collect();
        lines.join(",\n") + "\n" + &"  ".repeat(depth - 1)
    }

    fn field(&mut self, field: &Field, depth: usize) -> Option<String> {
        let (name, avro) = field.avro?;
        let mut line =
            format!("{}{{\"name\": {}, \"type\": {}", "  ".repeat(depth), quoted(name), self.of(avro, depth));
        if let Some(default) = field.default {
            let _ = write!(line, ", \"default\": {default}");
        }
        let _ = write!(line, ", \"doc\": {}}}", quoted(field.doc));
        Some(line)
    }

    fn of(&mut self, avro: Type, depth: usize) -> String {
        match avro {
            Type::Boolean => quoted("boolean"),
            Type::Int => quoted("int"),
            Type::Long => quoted("long"),
            Type::String => quoted("string"),
            Type::Bytes => quoted("bytes"),
            Type::Optional(inner) => format!("[\"null\", {}]", self.of(*inner, depth)),
            Type::Array(items) => format!("{{\"type\": \"array\", \"items\": {}}}", self.of(*items, depth)),
            Type::Map(values) => format!("{{\"type\": \"map\", \"values\": {}}}", self.of(*values, depth)),
            Type::As(inner, _) => self.of(*inner, depth),
            Type::Enum(it) => self.named(it.name, |_| symbols(it)),
            Type::Record(it) => self.named(it.name, |writer| {
                let (name, doc) = (quoted(it.name), quoted(it.doc));
                let fields = writer.fields(it, depth + 1);
                format!("{{\"type\": \"record\", \"name\": {name}, \"doc\": {doc}, \"fields\": [\n{fields}]}}")
            }),
        }
    }

    fn named(&mut self, name: &'static str, definition: impl FnOnce(&mut Self) -> String) -> String {
        if self.defined.contains(&name) {
            return quoted(name);
        }
        self.defined.push(name);
        definition(self)
    }
}

fn symbols(it: &Enum) -> String {
    let symbols: Vec<String> = it.symbols.iter().map(|symbol| quoted(symbol)).collect();
    format!(
        "{{\"type\": \"enum\", \"name\": {}, \"symbols\": [{}], \"doc\": {}}}",
        quoted(it.name),
        symbols.join(", "),
        quoted(it.doc)
    )
}

/// As JSON; the tables have no control characters.
fn quoted(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
}
