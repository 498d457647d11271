//! Tables as the record that the kernel program writes: the C header, the layout in Rust, and its decoder.

use std::fmt::Write as _;

use crate::rust::{HEADER, capitalised, doc};
use crate::table::{Field, Kernel, KernelSlot, Record};
use crate::tables::exec::{ANCESTOR, EXEC, FD, FILE_FACTS, VERSION};
use crate::tables::flags::{COUNTS, FLAGS};

/// A command name or an IP address.
const ARRAY_BYTES: usize = 16;

/// A structure: its table, its name in C, and what its constants in Rust begin with. The parts of the exec record first.
const STRUCTURES: [(&Record, &str, &str); 3] =
    [(&FD, "fd", "FD_"), (&ANCESTOR, "ancestor", "ANCESTOR_"), (&EXEC, "exec", "")];

/// A decoded record: its table, its name, what it derives, what it is.
const DECODED: [(&Record, &str, &str, &str); 4] = [
    (&EXEC, "RawExec", "Debug, Clone, PartialEq, Eq", "One exec as the kernel wrote it down."),
    (
        &FILE_FACTS,
        "RawFile",
        "Debug, Clone, Copy, Default, PartialEq, Eq",
        "What the kernel knows of the executed file.",
    ),
    (&FD, "RawFd", "Debug, Clone, Copy, Default, PartialEq, Eq", "An open file of a process."),
    (&ANCESTOR, "RawAncestor", "Debug, Clone, PartialEq, Eq", "An ancestor of a process."),
];

/// A member of a C structure.
#[derive(Debug)]
struct Member {
    name: String,
    declaration: String,
    size: usize,
    /// What its offset is a multiple of.
    align: usize,
    offset: usize,
    comment: String,
}

impl Member {
    fn new(name: &str, kernel: Kernel, comment: &str) -> Vec<Self> {
        let plain = |name: String, c: &str, size: usize| Self {
            declaration: format!("{c} {name}"),
            name,
            size,
            align: size,
            offset: 0,
            comment: comment.to_owned(),
        };
        let name = name.to_owned();
        let array = |name: String| Self {
            declaration: format!("__u8 {name}[{ARRAY_BYTES}]"),
            size: ARRAY_BYTES,
            align: 8,
            ..plain(name, "", ARRAY_BYTES)
        };
        match kernel {
            Kernel::U64 => vec![plain(name, "__u64", 8)],
            Kernel::S64 => vec![plain(name, "__s64", 8)],
            Kernel::U32 | Kernel::Dev => vec![plain(name, "__u32", 4)],
            Kernel::U16 => vec![plain(name, "__u16", 2)],
            Kernel::Comm | Kernel::Address => vec![array(name)],
            Kernel::Time => {
                let [seconds, nanos] = time_names(&name);
                vec![plain(seconds, "__s64", 8), plain(nanos, "__u32", 4)]
            }
        }
    }
}

/// `mtime_ns` has two fields in the kernel.
fn time_names(name: &str) -> [String; 2] {
    let stem = name.strip_suffix("_ns").unwrap_or(name);
    [format!("{stem}_sec"), format!("{stem}_nsec")]
}

/// The members of a structure and its size. Wide ones come first, so that nothing lies between two.
fn members(record: &Record) -> (Vec<Member>, usize) {
    let mut members = scalars(record);
    for (_, field) in parts(record) {
        let name = format!("{}_bytes", field.name);
        members.extend(Member::new(&name, Kernel::U16, &format!("length of {}", field.name)));
    }
    // Stable: within a width the order is that of the table.
    members.sort_by_key(|member| std::cmp::Reverse(member.align));
    let mut offset = 0;
    for member in &mut members {
        member.offset = offset;
        offset += member.size;
    }
    let mut size = pad(&mut members, offset);
    for field in record.fields {
        let KernelSlot::Repeated(of, count) = field.place else { continue };
        let (each, c) = (members_size(of), structure_name(of));
        members.push(Member {
            name: field.name.to_owned(),
            declaration: format!("struct {c}_record {}[{count}]", field.name),
            size: each * value_of(count),
            align: 8,
            offset: size,
            comment: comment(field),
        });
        size += each * value_of(count);
    }
    (members, size)
}

/// Fills up to a multiple of eight bytes, which is where the next structure begins.
fn pad(members: &mut Vec<Member>, size: usize) -> usize {
    let padding = size.next_multiple_of(8) - size;
    if padding > 0 {
        members.push(Member {
            name: "padding".to_owned(),
            declaration: format!("__u8 padding[{padding}]"),
            size: padding,
            align: 1,
            offset: size,
            comment: String::new(),
        });
    }
    size + padding
}

fn scalars(record: &Record) -> Vec<Member> {
    let mut members = Vec::new();
    for field in record.fields {
        match field.place {
            KernelSlot::Fixed(kernel) | KernelSlot::Hidden(kernel) => {
                members.extend(Member::new(field.name, kernel, &comment(field)));
            }
            KernelSlot::Embedded(inner) => members.extend(scalars(inner)),
            KernelSlot::Nowhere | KernelSlot::Part(_) | KernelSlot::Repeated(..) => {}
        }
    }
    members
}

fn members_size(record: &Record) -> usize {
    members(record).1
}

fn structure_name(record: &Record) -> &'static str {
    STRUCTURES.iter().find(|(it, ..)| it.name == record.name).map_or("", |(_, c, _)| c)
}

fn value_of(count: &str) -> usize {
    COUNTS.iter().find(|(c, ..)| *c == count).map_or(0, |(_, _, value, _)| *value)
}

/// The parts behind the fixed one, in their order.
fn parts(record: &Record) -> Vec<(u8, &Field)> {
    let part = |field: &'static Field| match field.place {
        KernelSlot::Part(number) => Some((number, field)),
        _ => None,
    };
    let mut parts: Vec<_> = record.fields.iter().filter_map(part).collect();
    parts.sort_by_key(|(number, _)| *number);
    parts
}

/// What the C header says of a field: the note, or what there is no schema to say.
fn comment(field: &Field) -> String {
    let text = field.note.unwrap_or(if field.avro.is_none() { field.doc } else { "" });
    text.to_owned()
}

// --- C ----------------------------------------------------------------------------------------------------------

/// `exec_record.h`.
pub(crate) fn header() -> String {
    let mut text = format!(
        "/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */\n\
         /* The record that exec.bpf.c writes. {HEADER} */\n\
         #ifndef DRIFTLINE_EXEC_RECORD_H\n#define DRIFTLINE_EXEC_RECORD_H\n\n#include <linux/types.h>\n\n\
         #define DRIFTLINE_RECORD_VERSION {VERSION}\n\n"
    );
    for (c, _, value, why) in COUNTS {
        let _ = writeln!(text, "#define {c} {value} /* {why} */");
    }
    text += "\n/* Bits of `flags`. */\nenum record_flag {\n";
    for (bit, (name, _, what)) in FLAGS.iter().enumerate() {
        let _ = writeln!(text, "\tFLAG_{name} = 1 << {bit}, /* {what} */");
    }
    text += "};\n";
    for (record, c, _) in STRUCTURES {
        text += &c_structure(record, c);
    }
    text + "\n#endif\n"
}

fn c_structure(record: &Record, c: &str) -> String {
    let (members, size) = members(record);
    let names: Vec<&str> = parts(record).iter().map(|(_, field)| field.name).collect();
    let mut text = String::new();
    if names.is_empty() {
        let _ = writeln!(text, "\n/* {}; all zero when there is none. */", capitalised(record.doc));
    } else {
        let _ = writeln!(text, "\n/* The fixed part. Behind it, without gaps: {}. */", names.join(", "));
    }
    let _ = writeln!(text, "struct {c}_record {{");
    for member in &members {
        let comment = if member.comment.is_empty() { String::new() } else { format!(" /* {} */", member.comment) };
        let _ = writeln!(text, "\t{};{comment}", member.declaration);
    }
    text += "};\n";
    for member in &members {
        let (name, offset) = (&member.name, member.offset);
        let _ = writeln!(
            text,
            "_Static_assert(__builtin_offsetof(struct {c}_record, {name}) == {offset}, \"{c}.{name} moved\");"
        );
    }
    let _ =
        writeln!(text, "_Static_assert(sizeof(struct {c}_record) == {size}, \"size of struct {c}_record changed\");");
    text
}

// --- layout -----------------------------------------------------------------------------------------------------

/// `layout.rs`.
pub(crate) fn layout() -> String {
    let mut text = format!("//! Where each field of a raw record stands.\n//!\n//! {HEADER}\n\n");
    constant(&mut text, "Version of the layout that this code reads", "VERSION_NOW", "u32", &VERSION.to_string());
    constant(&mut text, "Length of a command name with its NUL", "COMM_SIZE", "usize", &ARRAY_BYTES.to_string());
    for (_, name, value, why) in COUNTS {
        constant(&mut text, &format!("Most there are: {why}"), name, "usize", &value.to_string());
    }
    for (record, c, prefix) in STRUCTURES {
        let (members, size) = members(record);
        text.push('\n');
        let name = format!("{}_SIZE", c.to_uppercase());
        constant(&mut text, &format!("Length of `struct {c}_record`"), &name, "usize", &size.to_string());
        for member in members.iter().filter(|member| member.name != "padding") {
            let name = format!("{prefix}{}", member.name.to_uppercase());
            let what = format!("Offset of `{}` in `struct {c}_record`", member.name);
            constant(&mut text, &what, &name, "usize", &member.offset.to_string());
        }
    }
    text.push('\n');
    for (bit, (name, _, what)) in FLAGS.iter().enumerate() {
        constant(&mut text, what, &format!("FLAG_{name}"), "u32", &format!("1 << {bit}"));
    }
    text
}

fn constant(text: &mut String, what: &str, name: &str, rust: &str, value: &str) {
    text.push_str(&doc(what, 0));
    let _ = writeln!(text, "pub const {name}: {rust} = {value};");
}

// --- decoder ----------------------------------------------------------------------------------------------------

/// `raw/record.rs`.
pub(crate) fn decoder() -> String {
    let mut text = format!(
        "//! The record of the kernel program, decoded.\n//!\n//! {HEADER}\n\n\
         use driftline_schemas::{{Args, HeapBytes}};\nuse std::net::SocketAddr;\n\n\
         use super::decode::{{self, array_at, i64_at, ns_at, u16_at, u32_at, u64_at}};\n\
         use super::values::{{Comm, Dev, Moment, RawError}};\nuse crate::layout;\n"
    );
    for (record, name, derives, what) in DECODED {
        let _ = write!(text, "\n{}#[derive({derives})]\npub struct {name} {{\n", doc(what, 0));
        for (field, rust) in decoded_fields(record) {
            let _ = writeln!(text, "{}    pub {}: {rust},", doc(field.doc, 4), field.name);
        }
        text += "}\n";
    }
    for (record, name, ..) in DECODED {
        text += &if record.name == EXEC.name { exec_decoder(record) } else { part_decoder(record, name) };
    }
    text += &parts_of(&EXEC);
    text += "\nimpl RawExec {\n";
    for (at, (flag, method, what)) in FLAGS.iter().filter(|(_, method, _)| method.is_some()).enumerate() {
        let gap = if at > 0 { "\n" } else { "" };
        let method = method.unwrap_or_default();
        let _ = write!(
            text,
            "{gap}{}    #[must_use]\n    pub fn {method}(&self) -> bool {{\n        self.flags & layout::FLAG_{flag} != 0\n    }}\n",
            doc(what, 4)
        );
    }
    text + "}\n"
}

/// What a record is called when it is decoded.
fn decoded_name(record: &Record) -> &'static str {
    DECODED.iter().find(|(it, ..)| it.name == record.name).map_or("", |(_, name, ..)| *name)
}

/// The fields of a decoded record with their types.
fn decoded_fields(record: &Record) -> Vec<(&Field, &'static str)> {
    let rust = |field: &Field| match (field.decoded, field.place) {
        (Some(rust), _) => Some(rust),
        (None, KernelSlot::Fixed(kernel)) => Some(rust_of(kernel)),
        (None, KernelSlot::Part(_)) => Some("Vec<u8>"),
        (None, KernelSlot::Embedded(inner)) => Some(decoded_name(inner)),

        (None, KernelSlot::Nowhere | KernelSlot::Hidden(_) | KernelSlot::Repeated(..)) => None,
    };
    record.fields.iter().filter_map(|field| Some((field, rust(field)?))).collect()
}

fn rust_of(kernel: Kernel) -> &'static str {
    match kernel {
        Kernel::U64 => "u64",
        Kernel::S64 | Kernel::Time => "i64",
        Kernel::U32 => "u32",
        Kernel::U16 => "u16",
        Kernel::Dev => "Dev",
        Kernel::Comm => "Comm",
        Kernel::Address => "[u8; 16]",
    }
}

/// The value of a field out of `from`, the fixed part of which has the constants with this prefix.
fn value(field: &Field, prefix: &str, from: &str) -> String {
    let constant = |name: &str| format!("layout::{prefix}{}", name.to_uppercase());
    let at = constant(field.name);
    match (field.decoded, field.place) {
        (Some(_), KernelSlot::Part(_)) => format!("decode::{0}({from}, parts.{0})", field.name),
        (Some(_), KernelSlot::Repeated(of, _)) => {
            format!("decode::{}({from}, {}::decode)", field.name, decoded_name(of))
        }
        (Some(_), _) => format!("decode::{}({from})", field.name),
        (None, KernelSlot::Fixed(Kernel::U64)) => format!("u64_at({from}, {at})"),
        (None, KernelSlot::Fixed(Kernel::S64)) => format!("i64_at({from}, {at})"),
        (None, KernelSlot::Fixed(Kernel::U32)) => format!("u32_at({from}, {at})"),
        (None, KernelSlot::Fixed(Kernel::U16)) => format!("u16_at({from}, {at})"),
        (None, KernelSlot::Fixed(Kernel::Dev)) => format!("Dev::from_kernel(u32_at({from}, {at}))"),
        (None, KernelSlot::Fixed(Kernel::Comm)) => format!("Comm(array_at({from}, {at}))"),
        (None, KernelSlot::Fixed(Kernel::Address)) => format!("array_at({from}, {at})"),
        (None, KernelSlot::Fixed(Kernel::Time)) => {
            let [seconds, nanos] = time_names(field.name);
            format!("ns_at({from}, {}, {})", constant(&seconds), constant(&nanos))
        }
        (None, KernelSlot::Part(_)) => format!("parts.{}.to_vec()", field.name),
        (None, KernelSlot::Embedded(_)) => format!("RawFile::decode({from})"),
        (None, KernelSlot::Nowhere | KernelSlot::Hidden(_) | KernelSlot::Repeated(..)) => String::new(),
    }
}

fn part_decoder(record: &Record, name: &str) -> String {
    let prefix = STRUCTURES.iter().find(|(it, ..)| it.name == record.name).map_or("", |(.., prefix)| prefix);
    let mut text = format!("\nimpl {name} {{\n    pub(super) fn decode(bytes: &[u8]) -> Self {{\n        Self {{\n");
    for (field, _) in decoded_fields(record) {
        let _ = writeln!(text, "            {}: {},", field.name, value(field, prefix, "bytes"));
    }
    text + "        }\n    }\n}\n"
}

fn exec_decoder(record: &Record) -> String {
    let mut text = "\nimpl RawExec {\n    \
         /// Reads one record. In a box, because it has some 600 bytes and is sorted, kept and handed on.\n    ///\n    \
         /// # Errors\n    /// When the bytes are not one whole record of this version.\n    \
         pub fn decode(bytes: &[u8]) -> Result<Box<Self>, RawError> {\n        \
         let parts = Parts::of(bytes)?;\n        let head = parts.head;\n        Ok(Box::new(Self {\n"
        .to_owned();
    for (field, _) in decoded_fields(record) {
        let _ = writeln!(text, "            {}: {},", field.name, value(field, "", "head"));
    }
    text += "        }))\n    }\n}\n\nimpl HeapBytes for RawExec {\n    fn heap_bytes(&self) -> usize {\n        let mut bytes = 0;\n";
    for (field, rust) in decoded_fields(record) {
        if rust.starts_with("Vec<Raw") {
            let _ = writeln!(text, "        bytes += size_of_val(self.{}.as_slice());", field.name);
        } else if rust.starts_with("Vec<") || rust == "Args" {
            let _ = writeln!(text, "        bytes += self.{}.heap_bytes();", field.name);
        }
    }
    text + "        bytes\n    }\n}\n"
}

/// The parts of a record, whose lengths stand in the fixed part.
fn parts_of(record: &Record) -> String {
    let parts = parts(record);
    let mut text =
        "\n/// A whole record, in its parts.\npub(super) struct Parts<'a> {\n    pub(super) head: &'a [u8],\n"
            .to_owned();
    for (_, field) in &parts {
        let _ = writeln!(text, "    pub(super) {}: &'a [u8],", field.name);
    }
    text += "}\n\nimpl<'a> Parts<'a> {\n    pub(super) fn of(bytes: &'a [u8]) -> Result<Self, RawError> {\n        \
             let mut rest = decode::Rest::of(bytes)?;\n        let parts = Self {\n            head: rest.head,\n";
    for (_, field) in &parts {
        let _ = writeln!(text, "            {}: rest.next(layout::{}_BYTES),", field.name, field.name.to_uppercase());
    }
    text + "        };\n        rest.end(bytes.len())?;\n        Ok(parts)\n    }\n}\n"
}
