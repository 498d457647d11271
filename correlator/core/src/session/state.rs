//! A session as stored in the changelog: written in parts, restored from them.

use driftline_schemas::correlator_state::{CountedFindings, SessionState, TrackedFinding};
use driftline_schemas::{AlertId, FindingId};
use driftline_service_core::BrokenInvariant;
use std::collections::BTreeMap;
use std::sync::Arc;

use super::background::{Background, EncodedBackground, Weight};
use super::content::Beyond;
use super::findings::SessionFindings;
use super::revision::Phase;
use super::{Changes, Session};
use crate::finding::SessionFinding;
use crate::score::{ContainerFacts, Facts};
use crate::state_key::StateKey;
use crate::subject::Subject;
use crate::window::Span;

/// All parts of a session's state.
#[derive(Debug)]
pub(crate) struct Stored {
    pub head: SessionState,
    pub findings: BTreeMap<FindingId, TrackedFinding>,
    pub beyond: Option<CountedFindings>,
}

impl Session {
    /// The session without its findings.
    pub(crate) fn head_state(&self) -> Result<SessionState, BrokenInvariant> {
        let (place_order, place_digest) = self.weight.source();
        let Background { node, container, versions } = self.background()?;
        Ok(SessionState {
            cluster: self.subject.cluster.clone(),
            kind: self.subject.kind,
            subject_id: self.subject.id.clone(),
            opened: self.opened,
            first_event_ns: self.span.first_ns,
            last_event_ns: self.span.last_ns,
            heard_ns: self.heard_ns,
            next_order: self.next_order,
            node,
            container,
            place_order,
            place_digest,
            versions,
            flags: self.flags.clone(),
            last_revision: self.last_revision,
            final_since_ns: match self.phase {
                Phase::Open => None,
                Phase::Final(since_ns) => Some(since_ns),
            },
            news_due_ns: self.news_due_ns,
            forgotten_event_ns: self.forgotten_event_ns,
        })
    }

    /// One finding, encoded.
    pub(crate) fn finding_state(&self, id: &FindingId) -> Option<&[u8]> {
        self.findings.get(id).map(SessionFinding::record)
    }

    /// Findings that are only counted.
    pub(crate) fn beyond_state(&self) -> Option<CountedFindings> {
        self.beyond.state()
    }

    /// Rebuilds a session. Everything that can be computed from its findings is computed.
    ///
    /// # Errors
    /// Fails when the session has no finding.
    pub(crate) fn restored(alert_id: AlertId, stored: Stored) -> Result<Self, BrokenInvariant> {
        let Stored { head, findings, beyond } = stored;
        if findings.is_empty() {
            return Err(BrokenInvariant(format!("state has no finding of session {alert_id}")));
        }
        let mut tracked = SessionFindings::default();
        for (id, finding) in findings {
            tracked.insert(SessionFinding::restored(id, finding)?);
        }
        let (weight, container) = {
            let (container, order, digest) = (head.container.as_ref(), head.place_order, head.place_digest);
            (Weight::new(&head.node, container, order, digest), ContainerFacts::of(container))
        };
        let background = Background { node: head.node, container: head.container, versions: head.versions };
        let mut session = Self {
            alert_id: Arc::new(alert_id),
            subject: Arc::new(Subject { cluster: head.cluster, kind: head.kind, id: head.subject_id }),
            opened: head.opened,
            span: Span { first_ns: head.first_event_ns, last_ns: head.last_event_ns },
            heard_ns: head.heard_ns,
            next_order: head.next_order,
            findings: tracked,
            beyond: beyond.map(Beyond::restored).unwrap_or_default(),
            facts: Facts { container, ..Facts::default() },
            background: EncodedBackground::of(background)?,
            weight,
            versions_taken: None,
            flags: head.flags,
            last_revision: head.last_revision,
            news_due_ns: head.news_due_ns,
            forgotten_event_ns: head.forgotten_event_ns,
            phase: head.final_since_ns.map_or(Phase::Open, Phase::Final),
            changes: Changes::default(),
        };
        session.count_facts();
        Ok(session)
    }

    /// Keys whose values changed since the last call.
    pub(crate) fn take_changes(&mut self) -> Vec<StateKey> {
        let Changes { head, beyond, findings } = std::mem::take(&mut self.changes);
        let id_of = || AlertId::clone(&self.alert_id);
        let findings = findings.into_iter().map(|id| StateKey::Finding(id_of(), id));
        let head = head.then(|| StateKey::Session(id_of()));
        let beyond = beyond.then(|| StateKey::Beyond(id_of()));
        findings.chain(head).chain(beyond).collect()
    }

    /// Keys that have a value.
    pub(crate) fn state_keys(&self) -> impl Iterator<Item = StateKey> {
        let id_of = || AlertId::clone(&self.alert_id);
        let findings = self.findings.iter().map(move |finding| StateKey::Finding(id_of(), finding.id.clone()));
        let beyond = (self.beyond.count > 0).then(|| StateKey::Beyond(id_of()));
        findings.chain([StateKey::Session(id_of())]).chain(beyond)
    }
}
