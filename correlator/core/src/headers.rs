//! Kafka headers of an alert record, so that a router need not open the value.

use driftline_schemas::text::hex;
use driftline_schemas::{Alert, Record as _, fingerprint_of};

use crate::SiemFormat;

/// Names of the headers, in order.
pub const HEADERS: [&str; 4] = ["alert-id", "revision", "severity", "schema"];

/// Headers of `alert`, in Avro when `format` is `None`.
#[must_use]
pub fn headers(alert: &Alert, format: Option<&SiemFormat>) -> Vec<(&'static str, Vec<u8>)> {
    let schema = format.map_or_else(avro_schema, |format| format.schema.to_owned());
    let values = [alert.alert_id.to_string(), alert.revision.to_string(), alert.severity.title().to_owned(), schema];
    HEADERS.into_iter().zip(values.map(String::into_bytes)).collect()
}

/// Record name, and the fingerprint that the value's header also contains, for readers that only route.
fn avro_schema() -> String {
    format!("avro/driftline.{}/{}", Alert::NAME, hex(&fingerprint_of::<Alert>()))
}
