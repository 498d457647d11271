//! The sessions of one input partition: which one a finding joins, and how long each is kept.

use driftline_runtime_core::{BrokenInvariant, Disposition, Effects, Outgoing};
use driftline_schemas::topics::Topic;
use driftline_schemas::{Activity, AlertId, Finding};
use std::collections::BTreeMap;

use crate::bounds::{self, Cut};
use crate::correlator::Ask;
use crate::limits::FACT_BYTES_MAX;
use crate::session::{Arrival, Due, Finality, Session, Taken, flag};
use crate::settings::Settings;
use crate::window::{Belongs, OffsetRanges};
use crate::{alert, telemetry};

/// Longest finding id; ours have 32 characters.
const FINDING_ID_BYTES_MAX: usize = 64;

/// What a session is about.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Subject {
    cluster: String,
    kind: Kind,
    /// Container id or node name: the key of its records.
    id: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    Container,
    /// Of a loss, which no container can be blamed for.
    Node,
}

/// See the module. Sessions of a subject stand in the order in which they opened.
#[derive(Debug, Default)]
pub(crate) struct Partition {
    subjects: BTreeMap<Subject, Vec<Session>>,
    gone: OffsetRanges,
    /// No forgotten session could have taken a finding with a later event time.
    forgotten_until_ns: Option<i64>,
}

/// Says revisions.
pub(crate) struct Speaker<'a> {
    pub settings: &'a Settings,
    pub now_ns: i64,
    pub effects: &'a mut Effects<Ask>,
    /// How many were said.
    pub said: u64,
}

impl Speaker<'_> {
    fn say(&mut self, id: &str, session: &mut Session, due: Due) -> Result<(), BrokenInvariant> {
        let revision = session.say(due)?;
        let mut alert = alert::write(session, due, revision, self.now_ns, self.settings);
        let encoded = bounds::fit(&mut alert)?;
        if alert.flags.iter().any(|flag| flag == flag::SHORTENED) {
            self.effects.count(telemetry::ALERT_SHORTENED);
        }
        self.effects.count(count_of(due));
        self.emit(id, Topic::Alerts, encoded.avro, driftline_formats::headers(&alert, None));
        for (format, value) in encoded.siem {
            if self.settings.formats.contains(&format) {
                self.emit(id, format.topic(), value, driftline_formats::headers(&alert, Some(format)));
            }
        }
        self.said += 1;
        Ok(())
    }

    fn emit(&mut self, id: &str, topic: Topic, value: Vec<u8>, headers: Vec<(&'static str, Vec<u8>)>) {
        self.effects.emit_raw(Outgoing { topic, key: id.as_bytes().to_vec(), value, headers });
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

impl Subject {
    fn of(finding: &Finding) -> Self {
        let cluster = finding.node.cluster.clone();
        match &finding.container {
            Some(container) => Self { cluster, kind: Kind::Container, id: container.id.to_string() },
            None => Self { cluster, kind: Kind::Node, id: finding.node.name.clone() },
        }
    }
}

impl Partition {
    /// Takes one finding record.
    pub(crate) fn take(
        &mut self,
        offset: i64,
        mut finding: Finding,
        speaker: &mut Speaker<'_>,
    ) -> Result<Disposition, BrokenInvariant> {
        let subject = Subject::of(&finding);
        if finding.finding_id.as_str().len() > FINDING_ID_BYTES_MAX || subject.id.len() > FACT_BYTES_MAX {
            return Ok(Disposition::Dropped("malformed_id"));
        }
        let cut = bounds::limit_finding(&mut finding);
        let said_before = speaker.said;
        self.make_room(&subject, speaker)?;
        let arrival = Arrival { offset, now_ns: speaker.now_ns };
        let (at, taken) = self.place(&subject, &finding, arrival, speaker)?;
        count_taken(speaker.effects, taken);
        let session = self.subjects.get_mut(&subject).and_then(|sessions| sessions.get_mut(at));
        let session =
            session.ok_or_else(|| BrokenInvariant("a session vanished while it took a finding".to_owned()))?;
        if taken == Taken::NothingNew {
            return Ok(Disposition::Duplicate);
        }
        if cut == Cut::Some {
            session.flags.insert(flag::SHORTENED);
        }
        if let Some(due) = session.after_change(speaker.now_ns, speaker.settings) {
            speaker.say(&subject.id, session, due)?;
        }
        Ok(if speaker.said > said_before { Disposition::Reported } else { Disposition::Clean })
    }

    /// Finds the session that has the finding, or else the first opened that it belongs to, or opens one. Returns its
    /// place among the subject's sessions.
    fn place(
        &mut self,
        subject: &Subject,
        finding: &Finding,
        arrival: Arrival,
        speaker: &mut Speaker<'_>,
    ) -> Result<(usize, Taken), BrokenInvariant> {
        let settings = speaker.settings;
        let sessions = self.subjects.entry(subject.clone()).or_default();
        let belongs = |session: &Session| session.belongs(finding.event_time_ns, settings);
        let at = sessions
            .iter()
            .position(|session| session.holds(&finding.finding_id))
            .or_else(|| sessions.iter().position(|session| belongs(session) == Belongs::Yes));
        if let Some((at, session)) = at.and_then(|at| Some((at, sessions.get_mut(at)?))) {
            return Ok((at, session.take(finding, arrival, settings)?));
        }
        let alert_id = AlertId::of(&subject.cluster, &subject.id, &finding.finding_id);
        let mut session = Session::open(alert_id, finding, arrival, settings)?;
        speaker.effects.count(telemetry::SESSION_OPENED);
        for capped in sessions.iter_mut().filter(|session| belongs(session) == Belongs::CapReached) {
            capped.flags.insert(flag::LENGTH_CAPPED);
            session.flags.insert(flag::LENGTH_CAPPED);
            speaker.effects.count(telemetry::SESSION_LENGTH_CAPPED);
        }
        if is_late(finding.event_time_ns, self.forgotten_until_ns, arrival.now_ns, settings) {
            session.flags.insert(flag::LATE);
            speaker.effects.count(telemetry::FINDING_LATE);
        }
        if sessions.len() >= settings.sessions_per_container {
            let oldest = sessions.iter().position(|session| !session.is_open()).unwrap_or(0);
            let evicted = sessions.remove(oldest);
            self.evict(&subject.id, evicted, telemetry::SESSION_EVICTED_CONTAINER, speaker)?;
        }
        let sessions = self.subjects.entry(subject.clone()).or_default();
        sessions.push(session);
        Ok((sessions.len() - 1, Taken::New))
    }

    /// Makes room for a subject that is not known: the one that is final, or else quiet the longest, goes.
    fn make_room(&mut self, subject: &Subject, speaker: &mut Speaker<'_>) -> Result<(), BrokenInvariant> {
        if self.subjects.contains_key(subject) || self.subjects.len() < speaker.settings.containers_per_partition {
            return Ok(());
        }
        let age = |sessions: &[Session]| {
            let last_event_ns = sessions.iter().map(Session::last_event_ns).max();
            (sessions.iter().any(Session::is_open), last_event_ns)
        };
        let oldest = self.subjects.iter().min_by_key(|(subject, sessions)| (age(sessions), *subject));
        let Some(oldest) = oldest.map(|(subject, _)| subject.clone()) else { return Ok(()) };
        for session in self.subjects.remove(&oldest).unwrap_or_default() {
            self.evict(&oldest.id, session, telemetry::SESSION_EVICTED_PARTITION, speaker)?;
        }
        Ok(())
    }

    fn evict(
        &mut self,
        id: &str,
        mut session: Session,
        count: &'static str,
        speaker: &mut Speaker<'_>,
    ) -> Result<(), BrokenInvariant> {
        speaker.effects.count(count);
        session.flags.insert(flag::EVICTED);
        if let Some(due) = session.end(speaker.now_ns) {
            speaker.say(id, &mut session, due)?;
        }
        self.forget(&session, speaker.settings);
        Ok(())
    }

    fn forget(&mut self, session: &Session, settings: &Settings) {
        self.gone.insert(session.offsets);
        let until_ns = session.last_event_ns().saturating_add(settings.gap_ns);
        self.forgotten_until_ns = self.forgotten_until_ns.max(Some(until_ns));
    }

    /// Says what became quiet, and forgets what was quiet long enough.
    pub(crate) fn tick(&mut self, speaker: &mut Speaker<'_>) -> Result<(), BrokenInvariant> {
        let mut expired = Vec::new();
        for (subject, sessions) in &mut self.subjects {
            for session in sessions.iter_mut() {
                if let Some(due) = session.when_quiet(speaker.now_ns, speaker.settings) {
                    speaker.say(&subject.id, session, due)?;
                }
            }
            expired.extend(sessions.extract_if(.., |session| session.is_expired(speaker.now_ns, speaker.settings)));
        }
        self.subjects.retain(|_, sessions| !sessions.is_empty());
        for session in expired {
            speaker.effects.count(telemetry::SESSION_FORGOTTEN);
            self.forget(&session, speaker.settings);
        }
        self.gone.forget_before(self.sessions().map(|session| session.offsets.first).min().unwrap_or(i64::MAX));
        Ok(())
    }

    /// Where a restart must begin: at the first finding of the oldest open session, or before it, so that no session
    /// that is final or gone is read from its middle.
    pub(crate) fn oldest_needed(&self) -> Option<i64> {
        let open = self.sessions().filter(|session| session.is_open());
        let mut begin = open.map(|session| session.offsets.first).min()?;
        loop {
            let cut_open =
                self.sessions().map(|session| session.offsets).filter(|at| at.first < begin && begin <= at.last);
            let earlier = self.gone.begin(cut_open.map(|at| at.first).min().unwrap_or(begin));
            if earlier == begin {
                return Some(begin);
            }
            begin = earlier;
        }
    }

    fn sessions(&self) -> impl Iterator<Item = &Session> {
        self.subjects.values().flatten()
    }
}

/// Whether the session of a finding that opens one may have been forgotten. A session is kept for the retention after
/// it was quiet, so only findings that come that late can miss theirs.
fn is_late(event_time_ns: i64, forgotten_until_ns: Option<i64>, now_ns: i64, settings: &Settings) -> bool {
    now_ns.saturating_sub(event_time_ns) >= settings.retention_ns
        && forgotten_until_ns.is_some_and(|until_ns| event_time_ns <= until_ns)
}

fn count_taken(effects: &mut Effects<Ask>, taken: Taken) {
    match taken {
        Taken::Counted => effects.count(telemetry::FINDING_UNTRACKED),
        Taken::Amended => effects.count(telemetry::FINDING_AMENDED),
        Taken::New | Taken::NothingNew => {}
    }
}
