//! The output of a partition: revisions of alerts, changed state keys, counts.

use driftline_schemas::Activity;
use driftline_schemas::topics::Topic;
use driftline_service_core::{BrokenInvariant, Effects, Outgoing};

use crate::bounds;
use crate::command::Command;
use crate::headers::headers;
use crate::session::{Due, Finality, Session, flag};
use crate::settings::Settings;
use crate::state_key::StateKey;
use crate::{alert, telemetry};

/// Flags of an alert, and the name under which alerts with each flag are counted.
const COUNTED_FLAGS: [(&str, &str); 4] = [
    (flag::SHORTENED, telemetry::ALERT_SHORTENED),
    (flag::FINDINGS_CAPPED, telemetry::ALERT_FINDINGS_CAPPED),
    (flag::LISTS_CAPPED, telemetry::ALERT_LISTS_CAPPED),
    (flag::DETAILS_DROPPED, telemetry::ALERT_DETAILS_DROPPED),
];

/// Collects the output of one partition; see the module.
pub(crate) struct Emitter<'a> {
    pub settings: &'a Settings,
    pub now_ns: i64,
    /// Partition of the sessions.
    pub partition: i32,
    pub effects: &'a mut Effects<Command>,
    /// Revisions emitted so far.
    pub revisions: u64,
    emitted: Emitted,
}

/// The size of the output so far.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Emitted {
    /// Bytes of records.
    pub output_bytes: usize,
    /// Number of state keys that were touched.
    pub touched: usize,
}

impl<'a> Emitter<'a> {
    pub(crate) fn new(settings: &'a Settings, now_ns: i64, partition: i32, effects: &'a mut Effects<Command>) -> Self {
        Self { settings, now_ns, partition, effects, revisions: 0, emitted: Emitted::default() }
    }

    /// Returns the size of the output so far.
    pub(crate) fn emitted(&self) -> Emitted {
        self.emitted
    }

    /// Emits a revision of the session's alert.
    pub(crate) fn emit_revision(&mut self, session: &mut Session, due: Due) -> Result<(), BrokenInvariant> {
        let revision = session.next_revision()?;
        let mut alert = alert::write(session, due, revision, self.now_ns, self.settings)?;
        session.record_revision(revision, due, self.now_ns, self.settings);
        let encoded = bounds::fit(&mut alert, self.settings.known_formats)?;
        for (flag, count) in COUNTED_FLAGS {
            if alert.flags.iter().any(|set| set == flag) {
                self.effects.count(count);
            }
        }
        self.effects.count(count_of(due));
        let id = &session.subject.id;
        self.emit(id, Topic::Alerts, encoded.avro, headers(&alert, None));
        for (format, value) in encoded.siem {
            if self.settings.formats.contains(format.name) {
                self.emit(id, format.topic, value, headers(&alert, Some(format)));
            }
        }
        self.revisions += 1;
        Ok(())
    }

    fn emit(&mut self, id: &str, topic: Topic, value: Vec<u8>, headers: Vec<(&'static str, Vec<u8>)>) {
        self.emitted.output_bytes = self.emitted.output_bytes.saturating_add(value.len());
        self.effects.emit_raw(Outgoing { topic, key: id.as_bytes().to_vec(), value, headers });
    }

    /// Marks the state under these keys as changed.
    pub(crate) fn touch(&mut self, keys: impl IntoIterator<Item = StateKey>) {
        for key in keys {
            self.emitted.touched += 1;
            self.effects.touch(self.partition, key.to_string());
        }
    }
}

fn count_of(due: Due) -> &'static str {
    match (due.activity, due.finality) {
        (Activity::Create, _) => telemetry::ALERT_CREATED,
        (Activity::Close, _) => telemetry::ALERT_CLOSED,
        (Activity::Update, Finality::Final) => telemetry::ALERT_FINAL,
        (Activity::Update, Finality::MoreMayCome) => telemetry::ALERT_UPDATED,
    }
}
