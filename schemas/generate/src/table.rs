//! What a row of a table can say. The tables are in [`crate::tables`]; the other modules read them.

/// An Avro type, with the Rust type that stands for it.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Type {
    Boolean,
    Int,
    Long,
    String,
    Bytes,
    Optional(&'static Type),
    Array(&'static Type),
    Map(&'static Type),
    Enum(&'static Enum),
    Record(&'static Record),
    /// The first in Avro, the second in Rust: a newtype, or `u32` in a `long`.
    As(&'static Type, &'static str),
}

/// A named set of symbols.
#[derive(Debug)]
pub(crate) struct Enum {
    pub(crate) name: &'static str,
    pub(crate) symbols: &'static [&'static str],
    /// The symbol of `Default`, if the enum has one.
    pub(crate) default: Option<&'static str>,
    pub(crate) derives: &'static str,
    pub(crate) doc: &'static str,
}

/// One record: a table.
#[derive(Debug)]
pub(crate) struct Record {
    pub(crate) name: &'static str,
    pub(crate) doc: &'static str,
    /// What the Rust struct derives beside `Serialize` and `Deserialize`.
    pub(crate) derives: &'static str,
    /// Under which a field of this record is named when it is over its limit, where the record stands inside another.
    pub(crate) label: &'static str,
    pub(crate) fields: &'static [Field],
}

/// The type of a fixed field in the kernel program's record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kernel {
    U64,
    S64,
    U32,
    U16,
    /// A device number in the kernel's encoding, `major << 20 | minor`.
    Dev,
    /// Seconds and nanoseconds, two fields here; one number of nanoseconds in user space.
    Time,
    /// A command name, ended by NUL.
    Comm,
    /// An IP address.
    Address,
}

/// Where the kernel program's record has a field.
#[derive(Debug, Clone, Copy)]
pub(crate) enum KernelSlot {
    /// Nowhere: user space finds it out.
    Nowhere,
    /// In the fixed part.
    Fixed(Kernel),
    /// In the fixed part; the decoder reads it, and the decoded record lacks it.
    Hidden(Kernel),
    /// Behind the fixed part, at this place among the parts there, from 1. The fixed part has its length.
    Part(u8),
    /// All fields of another table, in the fixed part.
    Embedded(&'static Record),
    /// A structure of its own, repeated; the constant has the count.
    Repeated(&'static Record, &'static str),
}

/// A limit that a field of a record from Kafka keeps. The constant is one of `driftline_schemas::limits`.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Limit {
    /// Of its bytes, or of the bytes of everything in it.
    Bytes(&'static str),
    /// Of its items.
    Items(&'static str),
    /// Of the bytes of each item.
    Each(&'static str),
}

/// A row.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Field {
    /// In the kernel program, and in the record that the collector decodes.
    pub(crate) name: &'static str,
    pub(crate) place: KernelSlot,
    /// Type in the decoded record, where a function of the decoder with the field's name makes the value.
    pub(crate) decoded: Option<&'static str>,
    /// Name and type in the Avro record.
    pub(crate) avro: Option<(&'static str, Type)>,
    /// Default in the Avro schema, as JSON.
    pub(crate) default: Option<&'static str>,
    pub(crate) limits: &'static [Limit],
    pub(crate) doc: &'static str,
    /// What only the kernel program's reader needs to know.
    pub(crate) note: Option<&'static str>,
}

/// A row of this name, which still says nothing.
pub(crate) const fn field(name: &'static str) -> Field {
    Field {
        name,
        place: KernelSlot::Nowhere,
        decoded: None,
        avro: None,
        default: None,
        limits: &[],
        note: None,
        doc: "",
    }
}

impl Field {
    pub(crate) const fn kernel(self, kernel: Kernel) -> Self {
        Self { place: KernelSlot::Fixed(kernel), ..self }
    }

    pub(crate) const fn hidden(self, kernel: Kernel) -> Self {
        Self { place: KernelSlot::Hidden(kernel), ..self }
    }

    pub(crate) const fn part(self, number: u8) -> Self {
        Self { place: KernelSlot::Part(number), ..self }
    }

    pub(crate) const fn embedded(self, record: &'static Record) -> Self {
        Self { place: KernelSlot::Embedded(record), ..self }
    }

    pub(crate) const fn repeated(self, record: &'static Record, count: &'static str) -> Self {
        Self { place: KernelSlot::Repeated(record, count), ..self }
    }

    pub(crate) const fn decoded(self, rust: &'static str) -> Self {
        Self { decoded: Some(rust), ..self }
    }

    pub(crate) const fn avro(self, avro: Type) -> Self {
        Self { avro: Some((self.name, avro)), ..self }
    }

    /// The Avro record has another name for it.
    pub(crate) const fn avro_as(self, name: &'static str, avro: Type) -> Self {
        Self { avro: Some((name, avro)), ..self }
    }

    pub(crate) const fn default(self, json: &'static str) -> Self {
        Self { default: Some(json), ..self }
    }

    pub(crate) const fn limits(self, limits: &'static [Limit]) -> Self {
        Self { limits, ..self }
    }

    pub(crate) const fn note(self, note: &'static str) -> Self {
        Self { note: Some(note), ..self }
    }

    pub(crate) const fn doc(self, doc: &'static str) -> Self {
        Self { doc, ..self }
    }
}
