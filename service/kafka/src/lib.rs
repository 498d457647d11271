//! The only package that names the Kafka client, so that its habits are written down once.
//!
//! * [`Producer`]: sends to the partition the key demands, and can say when everything sent is acknowledged.
//! * [`TrackedProducer`]: says of each record whether it is acknowledged, and never gives up for lack of time.
//! * [`GroupReader`]: one input topic shared by a consumer group; hands over batches and rebalances.
//! * [`KafkaLog`]: what the executor needs of a group, its changelog and a producer, with transactions or without.
//! * [`TopicReader`]: topics or ranges of offsets, assigned by hand; says when it has caught up.
//! * [`offset_ranges`]: which offsets a topic has, or had in a time.
//! * [`admin`]: creates and checks the topics of the one table.
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
