//! The only package that depends on the Kafka client, so that the client's behaviour is documented in one place.
//!
//! * [`Producer`]: sends to the partition of the key, and waits until everything sent is acknowledged.
//! * [`TrackedProducer`]: reports for each record whether it is acknowledged, and never gives up for lack of time.
//! * [`GroupReader`]: reads one input topic as a member of a consumer group; hands over batches and rebalances.
//! * [`KafkaLog`]: gives the executor a group, its changelog and a producer, with transactions or without.
//! * [`TopicReader`]: reads topics or ranges of offsets, assigned by hand; reports when it has caught up.
//! * [`offset_ranges`]: finds the offsets of a topic, or of a time range.
//! * [`admin`]: creates and checks the topics of the topic table.
//!
//! What is deliberately absent: decoding of values, and any decision about them.

pub mod admin;
mod blocking;
mod error;
mod group;
mod log;
mod lookback;
mod outage;
mod persist;
mod producer;
mod ranges;
mod reader;
mod record;
mod settings;
mod shares;
mod state;
mod static_member;
mod timeouts;
mod tracked;
mod transaction;
mod watch;

pub use driftline_service_core::Record;
pub use error::KafkaError;
pub use group::{Done, GroupEvent, GroupReader};
pub use log::{Delivery, KafkaLog, Sender};
pub use outage::Reach;
pub use persist::persist;
pub use producer::Producer;
pub use ranges::{OffsetRange, TimeRange, low_watermark, offset_ranges};
pub use reader::{ReadFrom, ReaderEvent, TopicReader};
pub use settings::ClientSettings;
pub use static_member::StaticMember;
pub use tracked::{Outcome, Report, TrackedProducer};
