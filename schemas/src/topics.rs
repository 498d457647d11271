//! The table of topics, and the computation of a key's partition.
//!
//! `driftline topics create` creates the topics, every service checks them at start, and `docs/architecture.md` lists
//! them.

/// Retention of old records.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cleanup {
    /// Records are deleted after the retention time.
    Delete,
    /// The newest record of each key is retained.
    Compact,
    /// The newest record of each key is retained, and older ones are deleted soon: the topic is read at every start.
    State,
}

/// Number of partitions of a topic.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Partitions {
    /// As many as the setting specifies; work is shared by container.
    AsConfigured,
    /// One: the topic is small, and every reader reads all of it.
    One,
}

/// One row of the table.
#[derive(Debug, Clone, Copy)]
pub struct TopicSpec {
    /// Middle part of the name.
    pub stem: &'static str,
    /// Meaning of the key.
    pub key: &'static str,
    /// Meaning of the value.
    pub value: &'static str,
    /// Cleanup policy.
    pub cleanup: Cleanup,
    /// Partition count.
    pub partitions: Partitions,
}

const DAY_MS: u64 = 24 * 60 * 60 * 1000;
/// Retention time of streams; tables keep at least as much history before they are compacted.
pub const RETENTION_MS: u64 = 7 * DAY_MS;

/// A changelog's segments become compactable after this time or size: a restore reads values overwritten since.
const STATE_SEGMENT_MS: u64 = 10 * 60 * 1000;
const STATE_SEGMENT_BYTES: u64 = 64 * 1024 * 1024;

/// Generates the enum, the list of its variants and the row of each from one table.
macro_rules! topics {
    ($($(#[$doc:meta])* $topic:ident {
        stem: $stem:literal,
        key: $key:literal,
        value: $value:literal,
        cleanup: $cleanup:ident,
        partitions: $partitions:ident,
    })*) => {
        /// A topic of driftline. The name on the cluster is `<prefix>.<stem>.v1`.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Topic {
            $($(#[$doc])* $topic,)*
        }

        impl Topic {
            /// Every topic, in display order.
            pub const ALL: &[Self] = &[$(Self::$topic),*];

            /// The topic's row.
            #[must_use]
            pub const fn spec(self) -> &'static TopicSpec {
                match self {
                    $(Self::$topic => &TopicSpec {
                        stem: $stem,
                        key: $key,
                        value: $value,
                        cleanup: Cleanup::$cleanup,
                        partitions: Partitions::$partitions,
                    },)*
                }
            }
        }
    };
}

topics! {
    /// Execs, container records and losses from collectors.
    ExecEvents {
        stem: "exec-events",
        key: "container id (node name for a loss)",
        value: "Exec, ContainerSeen, ContainerEnded or CollectorLoss (Avro)",
        cleanup: Delete,
        partitions: AsConfigured,
    }
    /// What is known of images.
    Images {
        stem: "images",
        key: "image id/source",
        value: "Image (Avro), or why it failed",
        cleanup: Compact,
        partitions: One,
    }
    /// Layer manifests in chunks.
    ImageLayers {
        stem: "image-layers",
        key: "diff_id/source, or manifest digest/chunk",
        value: "LayerHead or LayerChunk (Avro)",
        cleanup: Compact,
        partitions: AsConfigured,
    }
    /// Images whose content the enricher needs.
    ImageRequests {
        stem: "image-requests",
        key: "image id",
        value: "ImageRequest (Avro)",
        cleanup: Delete,
        partitions: One,
    }
    /// Findings.
    Findings {
        stem: "findings",
        key: "container id (node name for a loss)",
        value: "Finding (Avro)",
        cleanup: Delete,
        partitions: AsConfigured,
    }
    /// Alerts in Avro.
    Alerts {
        stem: "alerts",
        key: "container id (node name for a loss)",
        value: "Alert (Avro)",
        cleanup: Delete,
        partitions: AsConfigured,
    }
    /// Alerts as OCSF Detection Findings.
    AlertsOcsf {
        stem: "alerts.ocsf",
        key: "container id (node name for a loss)",
        value: "OCSF 1.8.0 Detection Finding (JSON)",
        cleanup: Delete,
        partitions: AsConfigured,
    }
    /// Records that could not be used, with origin and reason.
    DeadLetters {
        stem: "dead-letters",
        key: "key of the original record",
        value: "value of the original record",
        cleanup: Delete,
        partitions: One,
    }
    /// The enricher's changelog.
    EnricherState {
        stem: "enricher-state",
        key: "state key; partition n belongs to partition n of exec-events",
        value: "state of containers, parked execs, unresolved findings (Avro), and its schemas",
        cleanup: State,
        partitions: AsConfigured,
    }
    /// The correlator's changelog.
    CorrelatorState {
        stem: "correlator-state",
        key: "state key; partition n belongs to partition n of findings",
        value: "state of sessions (Avro), and its schemas",
        cleanup: State,
        partitions: AsConfigured,
    }
}

impl Topic {
    /// Name on the cluster.
    #[must_use]
    pub fn name(self, prefix: &str) -> String {
        format!("{prefix}.{}.v1", self.spec().stem)
    }

    /// The topic with this stem.
    #[must_use]
    pub fn from_stem(stem: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|topic| topic.spec().stem == stem)
    }
}

impl TopicSpec {
    /// Number of partitions that this topic must have when `configured` is the setting.
    #[must_use]
    pub fn partition_count(&self, configured: i32) -> i32 {
        match self.partitions {
            Partitions::AsConfigured => configured,
            Partitions::One => 1,
        }
    }

    /// Settings of the topic on a cluster with `replication` copies.
    #[must_use]
    pub fn settings(&self, replication: i32) -> Vec<(&'static str, String)> {
        let mut settings = vec![
            ("min.insync.replicas", if replication > 1 { "2" } else { "1" }.to_owned()),
            ("unclean.leader.election.enable", "false".to_owned()),
        ];
        match self.cleanup {
            Cleanup::Delete => {
                settings.push(("cleanup.policy", "delete".to_owned()));
                settings.push(("retention.ms", RETENTION_MS.to_string()));
            }
            Cleanup::Compact => {
                settings.push(("cleanup.policy", "compact".to_owned()));
                settings.push(("min.compaction.lag.ms", RETENTION_MS.to_string()));
            }
            Cleanup::State => {
                settings.push(("cleanup.policy", "compact".to_owned()));
                settings.push(("segment.ms", STATE_SEGMENT_MS.to_string()));
                settings.push(("segment.bytes", STATE_SEGMENT_BYTES.to_string()));
                settings.push(("min.cleanable.dirty.ratio", "0.1".to_owned()));
            }
        }
        settings
    }
}

/// The partition of a key, computed as Kafka's own clients do (`murmur2`, positive, modulo), so that driftline finds a
/// record produced by any of them.
#[must_use]
pub fn partition_of(key: &[u8], count: i32) -> i32 {
    let positive = murmur2(key) & 0x7fff_ffff;
    let count = u32::try_from(count).unwrap_or(1).max(1);
    i32::try_from(positive % count).unwrap_or(0)
}

/// Kafka's 32-bit murmur2 with its fixed seed.
fn murmur2(data: &[u8]) -> u32 {
    const SEED: u32 = 0x9747_b28c;
    const M: u32 = 0x5bd1_e995;
    const R: u32 = 24;
    // Kafka computes with 32-bit lengths; a key is never longer.
    let length = u32::try_from(data.len()).unwrap_or(u32::MAX);
    let (words, rest) = data.as_chunks::<4>();
    let mut hash = words.iter().fold(SEED ^ length, |hash, word| {
        let k = u32::from_le_bytes(*word).wrapping_mul(M);
        hash.wrapping_mul(M) ^ (k ^ (k >> R)).wrapping_mul(M)
    });
    if !rest.is_empty() {
        for (shift, byte) in [0, 8, 16].iter().zip(rest) {
            hash ^= u32::from(*byte) << shift;
        }
        hash = hash.wrapping_mul(M);
    }
    hash ^= hash >> 13;
    hash = hash.wrapping_mul(M);
    hash ^ (hash >> 15)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn murmur2_agrees_with_the_java_client() {
        // Values from Apache Kafka's `UtilsTest.testMurmur2`.
        let cases: [(&[u8], i32); 6] = [
            (b"21", -973_932_308),
            (b"foobar", -790_332_482),
            (b"a-little-bit-long-string", -985_981_536),
            (b"a-little-bit-longer-string", -1_486_304_829),
            (b"lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", -58_897_971),
            (b"abc", 479_470_107),
        ];
        for (key, expected) in cases {
            assert_eq!(murmur2(key).cast_signed(), expected, "{}", String::from_utf8_lossy(key));
        }
    }

    #[test]
    fn every_topic_has_its_own_row() {
        for topic in Topic::ALL {
            assert_eq!(Topic::from_stem(topic.spec().stem), Some(*topic));
        }
        assert_eq!(Topic::ExecEvents.name("driftline"), "driftline.exec-events.v1");
    }
}
