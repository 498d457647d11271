//! Converts the client's messages to records.

use rdkafka::message::{Headers as _, Message};

use driftline_schemas::topics::Topic;
use driftline_service_core::Record;

/// An owned copy of a message, bytes unchanged.
pub(crate) fn record(topic: Topic, message: &impl Message) -> Record {
    let headers = message.headers().map_or_else(Vec::new, |headers| {
        headers.iter().map(|header| (header.key.to_owned(), header.value.unwrap_or_default().to_vec())).collect()
    });
    Record {
        topic,
        partition: message.partition(),
        offset: message.offset(),
        timestamp_ms: message.timestamp().to_millis().unwrap_or(0),
        key: message.key().map(<[u8]>::to_vec),
        value: message.payload().map(<[u8]>::to_vec),
        headers,
    }
}
