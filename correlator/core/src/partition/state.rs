//! A partition as stored in the changelog.

use driftline_schemas::correlator_state::{CorrelatorPartition, CountedFindings, SessionState, TrackedFinding};
use driftline_schemas::{AlertId, FindingId, Record, WriterSchema, WriterSchemas, encode, writer_schema};
use driftline_service_core::BrokenInvariant;
use std::collections::BTreeMap;

use super::Partition;
use crate::session::{Session, Stored};
use crate::settings::Settings;
use crate::state_key::StateKey;

/// The schemas of the state records.
pub(crate) fn schemas() -> Vec<WriterSchema> {
    vec![
        writer_schema::<CorrelatorPartition>(),
        writer_schema::<CountedFindings>(),
        writer_schema::<SessionState>(),
        writer_schema::<TrackedFinding>(),
    ]
}

impl Partition {
    /// The current value of a key.
    pub(crate) fn state(&self, key: &StateKey) -> Result<Option<Vec<u8>>, BrokenInvariant> {
        let session = |id| self.sessions.get(id);
        match key {
            StateKey::Partition => encoded(self.partition_state()),
            StateKey::Session(id) => encoded(session(id).map(|session| session.head_state()).transpose()?),
            StateKey::Finding(id, finding) => {
                Ok(session(id).and_then(|session| session.finding_state(finding)).map(<[u8]>::to_vec))
            }
            StateKey::Beyond(id) => encoded(session(id).and_then(|session| session.beyond_state())),
        }
    }

    fn partition_state(&self) -> Option<CorrelatorPartition> {
        let forgotten_until_ns = Some(self.forgotten_until_ns?);
        Some(CorrelatorPartition {
            forgotten_until_ns,
            forgotten_event_ns: self.forgotten_event_ns,
            reopened: self.reopened,
        })
    }

    /// Keys that have a value.
    pub(crate) fn state_keys(&self) -> impl Iterator<Item = StateKey> {
        let own = self.forgotten_until_ns.map(|_| StateKey::Partition);
        self.sessions.values().flat_map(|session| session.state_keys()).chain(own)
    }

    /// Rebuilds a partition.
    pub(crate) fn restored(
        state: BTreeMap<String, Vec<u8>>,
        schemas: &WriterSchemas,
        settings: &Settings,
    ) -> Result<Self, BrokenInvariant> {
        let mut partition = Self::default();
        let mut parts = Parts::default();
        for (key, value) in state {
            match StateKey::parse(&key)? {
                StateKey::Partition => {
                    let state: CorrelatorPartition = schemas.decode(&value)?;
                    partition.forgotten_until_ns = state.forgotten_until_ns;
                    partition.forgotten_event_ns = state.forgotten_event_ns;
                    partition.reopened = state.reopened;
                }
                StateKey::Session(id) => drop(parts.heads.insert(id, schemas.decode(&value)?)),
                StateKey::Beyond(id) => drop(parts.beyond.insert(id, schemas.decode(&value)?)),
                StateKey::Finding(id, finding) => {
                    parts.findings.entry(id).or_default().insert(finding, schemas.decode(&value)?);
                }
            }
        }
        let mut sessions = parts.sessions()?;
        // The sessions of a subject are listed in the order in which they opened.
        sessions.sort_by_key(|session| session.opened);
        sessions.into_iter().for_each(|session| partition.add(session, settings));
        Ok(partition)
    }
}

fn encoded<R: Record>(record: Option<R>) -> Result<Option<Vec<u8>>, BrokenInvariant> {
    Ok(record.as_ref().map(encode).transpose()?)
}

/// The records read so far, by session.
#[derive(Default)]
struct Parts {
    heads: BTreeMap<AlertId, SessionState>,
    findings: BTreeMap<AlertId, BTreeMap<FindingId, TrackedFinding>>,
    beyond: BTreeMap<AlertId, CountedFindings>,
}

impl Parts {
    fn sessions(mut self) -> Result<Vec<Session>, BrokenInvariant> {
        let mut sessions = Vec::with_capacity(self.heads.len());
        for (id, head) in self.heads {
            let findings = self.findings.remove(&id).unwrap_or_default();
            let stored = Stored { head, findings, beyond: self.beyond.remove(&id) };
            sessions.push(Session::restored(id, stored)?);
        }
        match self.findings.keys().chain(self.beyond.keys()).next() {
            Some(id) => Err(BrokenInvariant(format!("state has findings of session {id}, but not the session"))),
            None => Ok(sessions),
        }
    }
}
