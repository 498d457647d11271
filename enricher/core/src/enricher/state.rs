//! The changelog of the enricher: its keys and values, and how a partition is rebuilt from it.
//!
//! | key | value |
//! | --- | --- |
//! | `container/<id>` | [`ContainerState`]; every container has one, and the keys below exist only beside it |
//! | `parked/<id>/<offset>` | the parked [`Exec`] |
//! | `throttled/<id>/<offset>` | the parked [`ContainerThrottled`] |
//! | `reported/<id>/<offset>` | [`ReportedExec`] |
//! | `unresolved/<id>/<offset>` | [`UnresolvedFinding`] |
//!
//! The offset, in 20 digits, is that of the exec. It is unique in a partition and gives the order. Because it is last
//! and of fixed length, an id may contain any character without making two keys equal.

use std::collections::BTreeMap;

use driftline_schemas::enricher_state::{ContainerState, ReportedExec, UnresolvedFinding};
use driftline_schemas::{
    ContainerId, ContainerSeen, ContainerThrottled, Exec, WriterSchema, WriterSchemas, encode, writer_schema,
};
use driftline_service_core::BrokenInvariant;

use super::{Enricher, Fx};
use crate::container::{Parked, Queued, Reported, TrackedContainer};
use crate::trust::Trust;
use crate::unproven::UnprovenFolds;
use crate::unresolved::Unresolved;
use driftline_detection::Flaw;

const CONTAINER: &str = "container";
const PARKED: &str = "parked";
const THROTTLED: &str = "throttled";
const REPORTED: &str = "reported";
const UNRESOLVED: &str = "unresolved";

/// Kinds of state per exec of a container.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Parked,
    Throttled,
    Reported,
    Unresolved,
}

/// A parsed key.
enum Key {
    Container(ContainerId),
    Exec(Kind, ContainerId, i64),
}

pub(super) fn container_key(id: &ContainerId) -> String {
    format!("{CONTAINER}/{id}")
}

impl Kind {
    /// The kind under which an event is parked.
    pub(super) fn parked(event: &Queued) -> Self {
        match event {
            Queued::Exec(_) => Self::Parked,
            Queued::Throttled(_) => Self::Throttled,
        }
    }

    pub(super) fn key(self, id: &ContainerId, offset: i64) -> String {
        let name = match self {
            Self::Parked => PARKED,
            Self::Throttled => THROTTLED,
            Self::Reported => REPORTED,
            Self::Unresolved => UNRESOLVED,
        };
        format!("{name}/{id}/{offset:020}")
    }
}

impl Key {
    fn parse(text: &str) -> Option<Self> {
        let (name, rest) = text.split_once('/')?;
        let kind = match name {
            CONTAINER => return Some(Self::Container(ContainerId::from(rest))),
            PARKED => Kind::Parked,
            THROTTLED => Kind::Throttled,
            REPORTED => Kind::Reported,
            UNRESOLVED => Kind::Unresolved,
            _ => return None,
        };
        let (id, offset) = rest.rsplit_once('/')?;
        Some(Self::Exec(kind, ContainerId::from(id), offset.parse().ok()?))
    }
}

pub(super) fn schemas() -> Vec<WriterSchema> {
    vec![
        writer_schema::<ContainerState>(),
        writer_schema::<ContainerSeen>(),
        writer_schema::<Exec>(),
        writer_schema::<ContainerThrottled>(),
        writer_schema::<ReportedExec>(),
        writer_schema::<UnresolvedFinding>(),
    ]
}

impl TrackedContainer {
    fn to_state(&self) -> Result<Vec<u8>, BrokenInvariant> {
        let state = ContainerState {
            heard_ns: self.heard_ns,
            seen: self.seen.as_deref().map(encode).transpose()?,
            ended: self.ended,
            deadline_ns: self.deadline_ns,
            given_up: self.given_up.clone(),
            mismatched_paths: self.mismatched.iter().cloned().map(Into::into).collect(),
            image_flaws: self.flaws.iter().map(|flaw| flaw.name().to_owned()).collect(),
            unproven: self.unproven.to_state(),
        };
        Ok(encode(&state)?)
    }

    fn of_state(partition: i32, value: &[u8], schemas: &WriterSchemas, trust: Trust) -> Result<Self, BrokenInvariant> {
        let state: ContainerState = schemas.decode(value)?;
        let seen = state.seen.map(|seen| schemas.decode::<ContainerSeen>(&seen)).transpose()?;
        let mut tracked = Self::new(partition, state.heard_ns);
        seen.into_iter().for_each(|seen| tracked.set_seen(Box::new(seen), trust));
        tracked.ended = state.ended;
        tracked.deadline_ns = state.deadline_ns;
        tracked.given_up = state.given_up;
        tracked.mismatched = state.mismatched_paths.into_iter().map(serde_bytes::ByteBuf::into_vec).collect();
        tracked.flaws = state.image_flaws.iter().filter_map(|name| Flaw::of_name(name)).collect();
        tracked.unproven = UnprovenFolds::of_state(state.unproven);
        Ok(tracked)
    }

    fn exec_to_state(&self, kind: Kind, offset: i64) -> Result<Option<Vec<u8>>, BrokenInvariant> {
        let value = match kind {
            Kind::Parked | Kind::Throttled => {
                self.parked.get(&offset).filter(|parked| Kind::parked(&parked.event) == kind).map(
                    |parked| match &parked.event {
                        Queued::Exec(exec) => encode(&**exec),
                        Queued::Throttled(throttled) => encode(&**throttled),
                    },
                )
            }
            Kind::Reported => self.reported().get(&offset).map(|reported| {
                let Reported { event, revision, amend_until_ns } = reported.clone();
                encode(&ReportedExec { event_id: event, revision, amend_until_ns })
            }),
            Kind::Unresolved => self.unresolved.get(offset).map(|unresolved| {
                encode(&UnresolvedFinding {
                    exec: encode(&*unresolved.exec)?,
                    amend_until_ns: unresolved.amend_until_ns,
                    revision: unresolved.revision,
                })
            }),
        };
        Ok(value.transpose()?)
    }

    fn restore_parked(&mut self, offset: i64, event: Queued) {
        self.park(offset, Parked::new(event, true));
        self.make_durable(offset);
    }

    fn take_exec_state(
        &mut self,
        kind: Kind,
        offset: i64,
        value: &[u8],
        schemas: &WriterSchemas,
    ) -> Result<(), BrokenInvariant> {
        match kind {
            Kind::Parked => self.restore_parked(offset, Queued::Exec(Box::new(schemas.decode(value)?))),
            Kind::Throttled => self.restore_parked(offset, Queued::Throttled(Box::new(schemas.decode(value)?))),
            Kind::Reported => {
                let ReportedExec { event_id: event, revision, amend_until_ns } = schemas.decode(value)?;
                self.remember_reported(offset, Reported { event, revision, amend_until_ns });
            }
            Kind::Unresolved => {
                let UnresolvedFinding { exec, amend_until_ns, revision } = schemas.decode(value)?;
                let exec = Box::new(schemas.decode(&exec)?);
                self.unresolved.insert(offset, Unresolved { exec, revision, amend_until_ns });
            }
        }
        Ok(())
    }
}

impl Enricher {
    pub(super) fn keys_of(&self, partition: i32) -> Vec<String> {
        let own = self.containers.iter().filter(|(_, tracked)| tracked.partition == partition);
        own.flat_map(|(id, tracked)| {
            let parked = tracked.parked.iter().map(|(offset, it)| Kind::parked(&it.event).key(id, *offset));
            let reported = tracked.reported().keys().map(|offset| Kind::Reported.key(id, *offset));
            let unresolved = tracked.unresolved.offsets().map(|offset| Kind::Unresolved.key(id, offset));
            std::iter::once(container_key(id)).chain(parked).chain(reported).chain(unresolved)
        })
        .collect()
    }

    pub(super) fn state_of(&self, partition: i32, key: &str) -> Result<Option<Vec<u8>>, BrokenInvariant> {
        let tracked = |id: &ContainerId| self.containers.get(id).filter(|tracked| tracked.partition == partition);
        match Key::parse(key) {
            Some(Key::Container(id)) => tracked(&id).map(TrackedContainer::to_state).transpose(),
            Some(Key::Exec(kind, id, offset)) => {
                tracked(&id).map_or(Ok(None), |tracked| tracked.exec_to_state(kind, offset))
            }
            None => Err(BrokenInvariant(format!("{key} is no key of the enricher's state"))),
        }
    }

    pub(super) fn restore_partition(
        &mut self,
        partition: i32,
        state: &BTreeMap<String, Vec<u8>>,
        schemas: &WriterSchemas,
        effects: &mut Fx,
    ) -> Result<(), BrokenInvariant> {
        // Restoring takes two passes: an exec's state needs its container's.
        let mut restored: BTreeMap<ContainerId, TrackedContainer> = BTreeMap::new();
        for (key, value) in state {
            if let Some(Key::Container(id)) = Key::parse(key) {
                restored.insert(id, TrackedContainer::of_state(partition, value, schemas, self.settings.trust)?);
            }
        }
        for (key, value) in state {
            match Key::parse(key) {
                Some(Key::Container(_)) => {}
                Some(Key::Exec(kind, id, offset)) => {
                    let tracked = restored.get_mut(&id);
                    let tracked = tracked.ok_or_else(|| BrokenInvariant(format!("{key} without its container")))?;
                    tracked.take_exec_state(kind, offset, value, schemas)?;
                }
                // A newer version wrote the key and was then rolled back.
                None => effects.count("state_key_unknown"),
            }
        }
        for (id, tracked) in restored {
            self.adopt(partition, id, tracked, effects);
        }
        Ok(())
    }

    fn adopt(&mut self, partition: i32, id: ContainerId, tracked: TrackedContainer, effects: &mut Fx) {
        let owner = self.partitions.entry(partition).or_default();
        owner.parked += tracked.parked.len();
        owner.parked_bytes += tracked.parked_bytes;
        if let Some(image) = tracked.image().cloned() {
            self.use_image(&image, &id, effects);
        }
        self.containers.insert(id.clone(), tracked);
        if self.is_concerned(&id) {
            // The container may have been in the backlog, or a container of another partition may have its image
            // already.
            self.backlog.insert(id.clone());
        }
        self.index(&id);
    }
}
