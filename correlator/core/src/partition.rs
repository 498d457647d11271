//! The sessions of one input partition: which session a finding joins, and how long each is kept.

mod state;

use driftline_schemas::{AlertId, Finding, FindingId};
use driftline_service_core::{BrokenInvariant, Disposition};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::bounds::{self, Cut};
use crate::emitter::Emitter;
use crate::limits::{EVICTED_PER_FINDING_MAX, FACT_BYTES_MAX, FINDING_ID_BYTES_MAX};
use crate::session::{Session, Taken, flag};
use crate::settings::Settings;
use crate::state_key::StateKey;
use crate::subject::Subject;
use crate::telemetry;
use crate::window::Belongs;

pub(crate) use state::schemas;

/// The sessions of one partition; see the module.
#[derive(Debug, Default)]
pub(crate) struct Partition {
    sessions: BTreeMap<Arc<AlertId>, Box<Session>>,
    subjects: BTreeMap<Arc<Subject>, Known>,
    /// Subjects in the order in which they are evicted when there is no room for another.
    ages: BTreeSet<(Age, Arc<Subject>)>,
    /// Time and session of everything that depends on the clock, so that a tick visits only these sessions.
    deadlines: BTreeSet<(i64, Arc<AlertId>)>,
    /// Estimated memory of all sessions.
    bytes: usize,
    /// Latest event time that a forgotten session could have taken.
    forgotten_until_ns: Option<i64>,
    /// Latest event of a forgotten session whose subject had no other, as far as the clock had come.
    forgotten_event_ns: Option<i64>,
    /// Number of sessions opened by a finding that may have opened a forgotten one.
    reopened: i64,
}

/// The state of a subject.
#[derive(Debug, Default)]
struct Known {
    /// Its sessions, in the order in which they opened.
    sessions: Vec<Arc<AlertId>>,
    age: Age,
}

/// Order of eviction: first a subject whose sessions are all final, then the one that is quiet the longest.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Age {
    any_open: bool,
    last_event_ns: Option<i64>,
}

impl Partition {
    /// Takes one finding.
    pub(crate) fn take(
        &mut self,
        mut finding: Finding,
        emitter: &mut Emitter<'_>,
    ) -> Result<Disposition, BrokenInvariant> {
        let subject = Arc::new(Subject::of(&finding));
        if finding.finding_id.as_str().len() > FINDING_ID_BYTES_MAX || subject.id.len() > FACT_BYTES_MAX {
            return Ok(Disposition::Dropped("malformed_id"));
        }
        let cut = bounds::limit_finding(&mut finding);
        let said_before = emitter.revisions;
        self.make_room(&subject, emitter)?;
        let (id, taken) = self.place(subject, &finding, emitter)?;
        count_taken(emitter, taken);
        if taken == Taken::NothingNew {
            return Ok(Disposition::Duplicate);
        }
        self.change(&id, emitter, |session, emitter| {
            if cut == Cut::Some {
                emitter.effects.count(telemetry::FINDING_SHORTENED);
                session.set_flag(flag::SHORTENED);
            }
            match session.after_change(emitter.now_ns, emitter.settings) {
                Some(due) => emitter.emit_revision(session, due),
                None => Ok(()),
            }
        })?;
        Ok(if emitter.revisions > said_before { Disposition::Reported } else { Disposition::Clean })
    }

    /// Changes a session, and updates the values that depend on it.
    fn change<T>(
        &mut self,
        id: &AlertId,
        emitter: &mut Emitter<'_>,
        change: impl FnOnce(&mut Session, &mut Emitter<'_>) -> Result<T, BrokenInvariant>,
    ) -> Result<T, BrokenInvariant> {
        let vanished = || BrokenInvariant(format!("session {id} vanished"));
        let session = self.sessions.get_mut(id).ok_or_else(vanished)?;
        let before_ns = session.deadline_ns(emitter.settings);
        let before_bytes = session.memory_bytes();
        let result = change(session, emitter)?;
        let after_ns = session.deadline_ns(emitter.settings);
        if after_ns != before_ns {
            self.deadlines.remove(&(before_ns, Arc::clone(&session.alert_id)));
            self.deadlines.insert((after_ns, Arc::clone(&session.alert_id)));
        }
        self.bytes = self.bytes.saturating_sub(before_bytes).saturating_add(session.memory_bytes());
        emitter.touch(session.take_changes());
        let subject = Arc::clone(&session.subject);
        self.update_age(subject);
        Ok(result)
    }

    /// Updates a subject's age from its sessions.
    fn update_age(&mut self, subject: Arc<Subject>) {
        let age = self.of(&subject).fold(Age::default(), |age, session| Age {
            any_open: age.any_open || session.is_open(),
            last_event_ns: age.last_event_ns.max(Some(session.last_event_ns())),
        });
        let Some(known) = self.subjects.get_mut(&subject).filter(|known| known.age != age) else { return };
        let before = std::mem::replace(&mut known.age, age);
        let entry = (before, subject);
        self.ages.remove(&entry);
        self.ages.insert((age, entry.1));
    }

    /// Finds the session of a finding, or opens one. Returns its id.
    fn place(
        &mut self,
        subject: Arc<Subject>,
        finding: &Finding,
        emitter: &mut Emitter<'_>,
    ) -> Result<(Arc<AlertId>, Taken), BrokenInvariant> {
        let first_id = AlertId::of(&subject.cluster, &subject.id, &finding.finding_id);
        let own_id = opening_id(&subject, finding);
        if let Some(id) = self.find(&subject, finding, [&first_id, &own_id], emitter.settings) {
            let taken =
                self.change(&id, emitter, |session, emitter| session.take(finding, emitter.now_ns, emitter.settings))?;
            return Ok((id, taken));
        }
        let may_be_again = self.may_be_again(&subject, finding.event_time_ns);
        let own_id = Arc::new(if may_be_again { self.reopening_id(&subject, finding, emitter) } else { own_id });
        let mut session = Session::open(Arc::clone(&own_id), subject, finding, emitter.now_ns, emitter.settings)?;
        emitter.effects.count(telemetry::SESSION_OPENED);
        self.flag_capped(&mut session, finding.event_time_ns, emitter)?;
        if may_be_again || self.is_late(finding.event_time_ns, emitter) {
            session.set_flag(flag::LATE);
            emitter.effects.count(telemetry::FINDING_LATE);
        }
        self.make_room_for_session(&session.subject, emitter)?;
        emitter.touch(session.take_changes());
        let last = self.of(&session.subject).last().map(|session| session.opened);
        session.opened = last.map_or(0, |last| last.saturating_add(1));
        self.add(session, emitter.settings);
        Ok((own_id, Taken::New))
    }

    /// The session that has the finding, or that one of the finding's revisions opened; else the first opened to which
    /// the finding belongs.
    fn find(
        &self,
        subject: &Subject,
        finding: &Finding,
        own_ids: [&AlertId; 2],
        settings: &Settings,
    ) -> Option<Arc<AlertId>> {
        let holding = self.of(subject).find(|session| session.holds(&finding.finding_id));
        let own = || own_ids.into_iter().find_map(|id| self.sessions.get(id)).map(AsRef::as_ref);
        let fits = |session: &&Session| session.belongs(finding.event_time_ns, settings) == Belongs::Yes;
        let found = holding.or_else(own).or_else(|| self.of(subject).find(fits));
        found.map(|session| Arc::clone(&session.alert_id))
    }

    /// Sessions of a subject, in the order in which they opened.
    fn of(&self, subject: &Subject) -> impl Iterator<Item = &Session> {
        let ids = self.subjects.get(subject).into_iter().flat_map(|known| &known.sessions);
        ids.filter_map(|id| self.sessions.get(id)).map(AsRef::as_ref)
    }

    fn add(&mut self, session: Session, settings: &Settings) {
        let (id, subject) = (Arc::clone(&session.alert_id), Arc::clone(&session.subject));
        self.subjects.entry(Arc::clone(&subject)).or_default().sessions.push(Arc::clone(&id));
        self.deadlines.insert((session.deadline_ns(settings), Arc::clone(&id)));
        self.bytes = self.bytes.saturating_add(session.memory_bytes());
        self.sessions.insert(id, Box::new(session));
        self.update_age(subject);
    }

    /// Flags the sessions that a finding would have joined but for the cap on their length, and the session that it
    /// opens.
    fn flag_capped(
        &mut self,
        opening: &mut Session,
        time_ns: i64,
        emitter: &mut Emitter<'_>,
    ) -> Result<(), BrokenInvariant> {
        let capped = |session: &&Session| session.belongs(time_ns, emitter.settings) == Belongs::CapReached;
        let capped: Vec<_> =
            self.of(&opening.subject).filter(capped).map(|session| Arc::clone(&session.alert_id)).collect();
        for id in capped {
            opening.set_flag(flag::LENGTH_CAPPED);
            emitter.effects.count(telemetry::SESSION_LENGTH_CAPPED);
            self.change(&id, emitter, |session, _| {
                session.set_flag(flag::LENGTH_CAPPED);
                Ok(())
            })?;
        }
        Ok(())
    }

    /// Whether the session of a finding that opens one may have been forgotten. A session is kept for the retention
    /// after it was quiet, so only a finding that arrives later than that can miss its session.
    fn is_late(&self, event_time_ns: i64, emitter: &Emitter<'_>) -> bool {
        emitter.now_ns.saturating_sub(event_time_ns) >= emitter.settings.retention_ns
            && self.forgotten_until_ns.is_some_and(|until_ns| event_time_ns <= until_ns)
    }

    /// Whether a finding that opens a session may have opened one that was forgotten. Its event time is not after the
    /// last event of that session.
    fn may_be_again(&self, subject: &Subject, event_time_ns: i64) -> bool {
        let of_subject = self.of(subject).filter_map(Session::forgotten_event_ns);
        of_subject.chain(self.forgotten_event_ns).any(|forgotten_ns| event_time_ns <= forgotten_ns)
    }

    /// Id of the alert of a session that a finding opens perhaps again. An alert with the id of [`opening_id`] may have
    /// been emitted, and an alert's revisions are numbered once.
    fn reopening_id(&mut self, subject: &Subject, finding: &Finding, emitter: &mut Emitter<'_>) -> AlertId {
        self.reopened = self.reopened.saturating_add(1);
        emitter.touch([StateKey::Partition]);
        let opening = format!("{}/{}/again/{}", finding.finding_id, finding.revision, self.reopened);
        AlertId::of(&subject.cluster, &subject.id, &FindingId::from(opening.as_str()))
    }

    /// Makes room for a session of a subject: evicts the first that is final, or else the first opened. More than one
    /// session is evicted only after the setting was lowered, and then not all at once ([`EVICTED_PER_FINDING_MAX`]).
    fn make_room_for_session(&mut self, subject: &Subject, emitter: &mut Emitter<'_>) -> Result<(), BrokenInvariant> {
        let max = emitter.settings.sessions_per_container;
        for _ in 0..EVICTED_PER_FINDING_MAX {
            if self.subjects.get(subject).is_none_or(|known| known.sessions.len() < max) {
                break;
            }
            let oldest = self.of(subject).find(|session| !session.is_open()).or_else(|| self.of(subject).next());
            let Some(oldest) = oldest.map(|session| Arc::clone(&session.alert_id)) else { return Ok(()) };
            self.evict(&oldest, telemetry::SESSION_EVICTED_CONTAINER, emitter)?;
        }
        Ok(())
    }

    /// Makes room for a new subject. More than one session is evicted only after the setting was lowered, and then not
    /// all at once: at most as many sessions as one container may have, or [`EVICTED_PER_FINDING_MAX`].
    fn make_room(&mut self, subject: &Subject, emitter: &mut Emitter<'_>) -> Result<(), BrokenInvariant> {
        if self.subjects.contains_key(subject) {
            return Ok(());
        }
        for _ in 0..EVICTED_PER_FINDING_MAX.max(emitter.settings.sessions_per_container) {
            if self.subjects.len() < emitter.settings.containers_per_partition {
                break;
            }
            // The age of a subject does not decrease when one of its sessions is evicted, so it stays the first.
            let oldest = self.ages.first().and_then(|(_, oldest)| self.of(oldest).next());
            let none = || BrokenInvariant("a full partition has no session".to_owned());
            let id = oldest.map(|session| Arc::clone(&session.alert_id)).ok_or_else(none)?;
            self.evict(&id, telemetry::SESSION_EVICTED_PARTITION, emitter)?;
        }
        Ok(())
    }

    fn evict(&mut self, id: &AlertId, count: &'static str, emitter: &mut Emitter<'_>) -> Result<(), BrokenInvariant> {
        emitter.effects.count(count);
        self.change(id, emitter, |session, emitter| {
            session.set_flag(flag::EVICTED);
            match session.end(emitter.now_ns) {
                Some(due) => emitter.emit_revision(session, due),
                None => Ok(()),
            }
        })?;
        self.forget(id, emitter);
        Ok(())
    }

    fn forget(&mut self, id: &AlertId, emitter: &mut Emitter<'_>) {
        let Some(session) = self.sessions.remove(id) else { return };
        emitter.touch(session.state_keys());
        self.bytes = self.bytes.saturating_sub(session.memory_bytes());
        self.deadlines.remove(&(session.deadline_ns(emitter.settings), Arc::clone(&session.alert_id)));
        if let Some(known) = self.subjects.get_mut(&session.subject) {
            known.sessions.retain(|other| **other != *id);
            if known.sessions.is_empty() {
                self.ages.remove(&(known.age, Arc::clone(&session.subject)));
                self.subjects.remove(&session.subject);
            }
        }
        self.keep_forgotten_event(&session, emitter);
        let until_ns = Some(session.last_event_ns().saturating_add(emitter.settings.gap_ns));
        if until_ns > self.forgotten_until_ns {
            self.forgotten_until_ns = until_ns;
            emitter.touch([StateKey::Partition]);
        }
        self.update_age(session.subject);
    }

    /// Keeps the latest event of a forgotten session: in the subject's last session, else in the partition. Of a partition
    /// with a container whose clock is ahead, the wall clock bounds it, so that other containers are not taken for such
    /// that come again.
    fn keep_forgotten_event(&mut self, forgotten: &Session, emitter: &mut Emitter<'_>) {
        let event_ns = forgotten.last_event_ns().max(forgotten.forgotten_event_ns().unwrap_or(i64::MIN));
        let last = self.of(&forgotten.subject).last().map(|session| Arc::clone(&session.alert_id));
        if let Some(session) = last.and_then(|id| self.sessions.get_mut(&id)) {
            session.keep_forgotten_event(event_ns);
            emitter.touch(session.take_changes());
            return;
        }
        let event_ns = Some(event_ns.min(emitter.now_ns));
        if event_ns > self.forgotten_event_ns {
            self.forgotten_event_ns = event_ns;
            emitter.touch([StateKey::Partition]);
        }
    }

    /// Estimated memory of all sessions.
    pub(crate) fn memory_bytes(&self) -> usize {
        self.bytes
    }

    /// The same estimate, computed again from all sessions.
    #[cfg(test)]
    pub(crate) fn count_memory_bytes(&self) -> usize {
        self.sessions.values().map(|session| session.count_memory_bytes()).sum()
    }

    /// The subject that is evicted first when memory is full, apart from one.
    pub(crate) fn oldest(&self, apart_from: Option<&Subject>) -> Option<(Age, Arc<Subject>)> {
        self.ages.iter().find(|(_, subject)| Some(&**subject) != apart_from).cloned()
    }

    /// Ends the first session of a subject to make room in memory.
    pub(crate) fn evict_of(&mut self, subject: &Subject, emitter: &mut Emitter<'_>) -> Result<(), BrokenInvariant> {
        let Some(id) = self.of(subject).next().map(|session| Arc::clone(&session.alert_id)) else { return Ok(()) };
        self.evict(&id, telemetry::SESSION_EVICTED_MEMORY, emitter)
    }

    /// The earliest deadline of a session.
    pub(crate) fn first_deadline_ns(&self) -> Option<i64> {
        self.deadlines.first().map(|(deadline_ns, _)| *deadline_ns)
    }

    /// Handles the session with the earliest deadline: ends it if it became quiet, emits the revision that is due for news,
    /// forgets it if its retention passed.
    pub(crate) fn first_is_due(&mut self, emitter: &mut Emitter<'_>) -> Result<(), BrokenInvariant> {
        let Some((_, id)) = self.deadlines.first().cloned() else { return Ok(()) };
        let is_expired = self.change(&id, emitter, |session, emitter| {
            match session.when_due(emitter.now_ns, emitter.settings) {
                Some(due) => emitter.emit_revision(session, due)?,
                None if session.is_expired(emitter.now_ns, emitter.settings) => return Ok(true),
                None => {}
            }
            Ok(false)
        })?;
        if is_expired {
            emitter.effects.count(telemetry::SESSION_FORGOTTEN);
            self.forget(&id, emitter);
        }
        Ok(())
    }
}

/// Id of the alert of a session that a finding opens. Only the session of a finding's first revision has the id to
/// which all its revisions lead. A later revision opens a session when that one is gone, and its alert may already have
/// been emitted.
fn opening_id(subject: &Subject, finding: &Finding) -> AlertId {
    let (id, revision) = (&finding.finding_id, finding.revision);
    let later = (revision > 1).then(|| FindingId::from(format!("{id}/{revision}").as_str()));
    AlertId::of(&subject.cluster, &subject.id, later.as_ref().unwrap_or(id))
}

fn count_taken(emitter: &mut Emitter<'_>, taken: Taken) {
    match taken {
        Taken::Counted => emitter.effects.count(telemetry::FINDING_UNTRACKED),
        Taken::Amended => emitter.effects.count(telemetry::FINDING_AMENDED),
        Taken::New | Taken::NothingNew => {}
    }
}
