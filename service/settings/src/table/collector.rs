//! Settings of the collector.

use crate::kind::{Choice, List, PowerOfTwo, Size, SizeUnit, Text, Time, TimeUnit};
use crate::{Described, Program, Setting};

const COLLECTOR: &[Program] = &[Program::Collector];

/// Ring for ordinary execs. The kernel takes powers of two that are whole pages.
pub static RING_KIB: Setting<PowerOfTwo> = Setting {
    name: "DRIFTLINE_RING_KIB",
    programs: COLLECTOR,
    kind: PowerOfTwo(Size { default: 4_096, range: 64..=1 << 20, unit: SizeUnit::Kibibytes }),
    about: "ring for ordinary execs",
};

/// Ring for all other execs.
pub static SUSPICIOUS_RING_KIB: Setting<PowerOfTwo> = Setting {
    name: "DRIFTLINE_SUSPICIOUS_RING_KIB",
    programs: COLLECTOR,
    kind: PowerOfTwo(Size { default: 2_048, range: 64..=1 << 20, unit: SizeUnit::Kibibytes }),
    about: "ring for all other execs",
};

/// Largest hashed file.
pub static HASH_FILE_MIB_MAX: Setting<Size> = Setting {
    name: "DRIFTLINE_HASH_FILE_MIB_MAX",
    programs: COLLECTOR,
    kind: Size { default: 512, range: 1..=1 << 20, unit: SizeUnit::Mebibytes },
    about: "largest file that is hashed",
};

/// Strict mode.
pub static STRICT: Setting<Choice> = Setting {
    name: "DRIFTLINE_STRICT",
    programs: COLLECTOR,
    kind: Choice { default: "off", words: &["off", "notify", "permit"] },
    about: "`notify`: files are hashed when they are opened for execution; `permit`: the exec also waits for the hash; both \
        need `CAP_SYS_ADMIN`",
};

/// Longest wait of an exec. In a quarter of a second one slow core hashes 250 MB.
pub static STRICT_WAIT_MS: Setting<Time> = Setting {
    name: "DRIFTLINE_STRICT_WAIT_MS",
    programs: COLLECTOR,
    kind: Time { default: 250, range: 1..=10_000, unit: TimeUnit::Milliseconds },
    about: "longest time that an exec waits for its hash",
};

/// Redacted parts of arguments.
pub static REDACT_ARGS: Setting<List> = Setting {
    name: "DRIFTLINE_REDACT_ARGS",
    programs: COLLECTOR,
    kind: List { default: &[], separator: '\n', form: "regular expressions", fits: |_| true },
    about: "parts of arguments that must not leave the node; matched against the whole argument vector, in which each \
        argument ends with `\\x00`; the groups are replaced, or the whole match when there is no group",
};

/// Directory of the spool.
pub static SPOOL_DIR: Setting<Text> = Setting {
    name: "DRIFTLINE_SPOOL_DIR",
    programs: COLLECTOR,
    kind: Text { default: "/var/lib/driftline/collector", form: "a path" },
    about: "directory for records that Kafka has not acknowledged, one for each collector",
};

/// Bound of the spool; a segment must fit several times.
pub static SPOOL_MIB_MAX: Setting<Size> = Setting {
    name: "DRIFTLINE_SPOOL_MIB_MAX",
    programs: COLLECTOR,
    kind: Size { default: 256, range: 16..=1 << 20, unit: SizeUnit::Mebibytes },
    about: "maximum size of that directory",
};

/// Cloud project.
pub static PROJECT: Setting<Text> = Setting {
    name: "DRIFTLINE_PROJECT",
    programs: COLLECTOR,
    kind: Text { default: "", form: "text" },
    about: "cloud project of the node, for the response steps",
};

/// Cloud location.
pub static LOCATION: Setting<Text> = Setting {
    name: "DRIFTLINE_LOCATION",
    programs: COLLECTOR,
    kind: Text { default: "", form: "text" },
    about: "location of the cluster, for the response steps",
};

/// Cloud zone.
pub static ZONE: Setting<Text> = Setting {
    name: "DRIFTLINE_ZONE",
    programs: COLLECTOR,
    kind: Text { default: "", form: "text" },
    about: "zone of the node; overrides the cluster's value",
};

/// The provider's id of the node.
pub static PROVIDER_ID: Setting<Text> = Setting {
    name: "DRIFTLINE_PROVIDER_ID",
    programs: COLLECTOR,
    kind: Text { default: "", form: "text" },
    about: "the cloud provider's id of the node; overrides the cluster's value",
};

pub(super) static SETTINGS: &[&dyn Described] = &[
    &RING_KIB,
    &SUSPICIOUS_RING_KIB,
    &HASH_FILE_MIB_MAX,
    &STRICT,
    &STRICT_WAIT_MS,
    &REDACT_ARGS,
    &SPOOL_DIR,
    &SPOOL_MIB_MAX,
    &PROJECT,
    &LOCATION,
    &ZONE,
    &PROVIDER_ID,
];
