//! The log of one life: every call is an effect, before and after which anything may happen.

use std::collections::BTreeMap;
use std::future::poll_fn;
use std::task::Poll;

use driftline_schemas::topics::Topic;
use driftline_schemas::{Alert, Finding, decode};
use driftline_service_core::{Committed, InputRange, Log, LogError, Outgoing, StateChange, StateImages};

use crate::broker::{Data, Fenced, Markers, Place};
use crate::fault::Fault;
use crate::plant::{self, Plant};
use crate::world::{Directive, Effect, LifeId, MILLISECOND_NS, Moment, Shared, World};

/// How often somebody who waits for another's transaction looks again.
const WAIT_NS: i64 = 20 * MILLISECOND_NS;

/// Why a life cannot go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("fenced: another life has this name, or the transaction was open for too long")]
pub(crate) struct FencedOff;

/// See the module.
#[derive(Debug)]
pub(crate) struct SimLog {
    pub(crate) world: Shared,
    pub(crate) life: LifeId,
    /// Name of the producer, the same in every life of an instance.
    pub(crate) id: String,
    pub(crate) epoch: u32,
    pub(crate) input: Topic,
    pub(crate) state: Topic,
    /// Records that a planted bug holds back until the flush.
    pub(crate) held_back: Vec<Outgoing>,
    /// The open transaction was refused because the group has moved on.
    pub(crate) refused: bool,
    /// Outputs in the open transaction, and those of a refused one that a planted bug does not send again.
    pub(crate) sent: usize,
    pub(crate) forgotten: usize,
}

type Done<T = ()> = Result<T, LogError<FencedOff>>;

fn fatal(_: Fenced) -> LogError<FencedOff> {
    LogError::Fatal(FencedOff)
}

impl SimLog {
    /// Passes a moment of an effect, or never comes back.
    async fn pass(&self, effect: Effect, moment: Moment) -> Done {
        let mut directive = None;
        poll_fn(|_| {
            let mut world = self.world.lock();
            let now_ns = world.now_ns;
            match *directive.get_or_insert_with(|| world.decide(self.life, effect, moment)) {
                Directive::Go => Poll::Ready(Ok(())),
                Directive::At(at_ns) if at_ns <= now_ns => {
                    world.wire(self.life).frozen_until_ns = None;
                    Poll::Ready(Ok(()))
                }
                Directive::At(at_ns) => {
                    world.wire(self.life).wake_ns = at_ns;
                    Poll::Pending
                }
                Directive::Abort => Poll::Ready(Err(LogError::Aborted(format!("injected at {effect:?}")))),
                Directive::Crash => Poll::Pending,
            }
        })
        .await
    }

    /// Waits until something holds in the world.
    async fn until(&self, mut holds: impl FnMut(&World) -> bool + Send) {
        poll_fn(|_| {
            let mut world = self.world.lock();
            if holds(&world) {
                return Poll::Ready(());
            }
            let wake_ns = world.now_ns.saturating_add(WAIT_NS);
            world.wire(self.life).wake_ns = wake_ns;
            Poll::Pending
        })
        .await;
    }

    /// A transaction begins when the one before is over.
    async fn ready_to_write(&self) {
        self.until(|world| !world.broker.is_ending(&self.id)).await;
    }

    fn producer(&self) -> (&str, u32) {
        (&self.id, self.epoch)
    }

    /// Appends in the transaction.
    pub(crate) fn write(&self, place: Place, data: Data) -> Done<i64> {
        let mut world = self.world.lock();
        let now_ns = world.now_ns;
        world.broker.produce(self.producer(), place, data, now_ns).map_err(fatal)
    }

    pub(crate) fn write_outgoing(&self, outgoing: Outgoing) -> Done {
        let mut world = self.world.lock();
        let place = world.broker.place_of(outgoing.topic, &outgoing.key);
        let now_ns = world.now_ns;
        let life = self.life;
        world.note(|| format!("life {life} sends {}", told(&outgoing)));
        let data = data_of(outgoing, now_ns);
        if plant::is(&world, Plant::OutputsOutsideTheTransaction) {
            world.broker.append(place, data);
            return Ok(());
        }
        drop(world);
        self.write(place, data).map(drop)
    }

    /// Whether the group takes offsets of this life, as far as this life knows who it is in the group.
    fn check_member(&mut self) -> Done {
        let mut world = self.world.lock();
        let wire = world.wire(self.life);
        let (incarnation, generation) = (wire.incarnation, wire.generation);
        let group = world.groups.get(&self.input);
        let current = group.and_then(|group| group.incarnation(self.life));
        let is_newest = group.is_some_and(|group| group.generation() == generation);
        let late = plant::is(&world, Plant::GenerationReadLate) && current.is_some();
        if late || plant::is(&world, Plant::NoFencing) || (current == Some(incarnation) && is_newest) {
            return Ok(());
        }
        // A coordinator may still know the member that lost its partitions, or not.
        if current != Some(incarnation) && world.chance.one_in(2) {
            return Err(LogError::Aborted("the group does not know the member".to_owned()));
        }
        world.hit(Fault::Outdated);
        let life = self.life;
        world.note(|| format!("life {life} is refused: the group has moved on from {generation}"));
        self.refused = true;
        Err(LogError::Outdated("the group's generation is another".to_owned()))
    }

    fn markers(&self) -> Markers {
        let mut world = self.world.lock();
        let late_ns = world.rates.markers_max_ns;
        match late_ns {
            0 => Markers::Now,
            _ => Markers::At(world.now_ns.saturating_add(world.chance.between(0, late_ns))),
        }
    }
}

/// What a record says, in a line.
fn told(outgoing: &Outgoing) -> String {
    match outgoing.topic {
        Topic::Findings => decode::<Finding>(&outgoing.value).map_or_else(
            |error| error.to_string(),
            |said| {
                let unresolved = said.unresolved.unwrap_or_default();
                let (id, revision, origin) = (said.finding_id, said.revision, said.origin.as_str());
                format!("finding {id}:{revision} {origin} {:?} {unresolved} at {}", said.state, said.event_time_ns)
            },
        ),
        Topic::Alerts => decode::<Alert>(&outgoing.value).map_or_else(
            |error| error.to_string(),
            |said| {
                let (id, revision, count) = (said.alert_id, said.revision, said.finding_count);
                format!("alert {id}:{revision} {:?} final {} of {count} {:?}", said.activity, said.r#final, said.flags)
            },
        ),
        other => format!("{other:?}"),
    }
}

pub(crate) fn data_of(outgoing: Outgoing, now_ns: i64) -> Data {
    Data {
        timestamp_ms: now_ns / MILLISECOND_NS,
        key: Some(outgoing.key),
        value: Some(outgoing.value),
        headers: outgoing.headers,
    }
}

impl Log for SimLog {
    type Error = FencedOff;

    async fn committed(&mut self, partitions: &[i32]) -> Done<BTreeMap<i32, Committed>> {
        self.pass(Effect::Committed, Moment::Before).await?;
        let input = self.input;
        self.until(|world| {
            let pending = |partition: &i32| world.broker.is_offset_pending((input, *partition));
            plant::is(world, Plant::UnstableCommittedOffset) || !partitions.iter().any(pending)
        })
        .await;
        let found = {
            let world = self.world.lock();
            let of = |partition: &i32| Some((*partition, world.broker.offset((input, *partition))?));
            partitions.iter().filter_map(of).collect()
        };
        self.pass(Effect::Committed, Moment::After).await?;
        Ok(found)
    }

    async fn input_ranges(&mut self, partitions: &[i32]) -> Done<BTreeMap<i32, InputRange>> {
        self.pass(Effect::InputBegin, Moment::Before).await?;
        let world = self.world.lock();
        let range = |partition: i32| {
            let place = (self.input, partition);
            InputRange { begin: world.broker.begin(place), end: world.broker.high_watermark(place) }
        };
        Ok(partitions.iter().map(|partition| (*partition, range(*partition))).collect())
    }

    async fn state_marks(&mut self, partitions: &[i32]) -> Done<BTreeMap<i32, i64>> {
        self.pass(Effect::StateMarks, Moment::Before).await?;
        let marks = {
            let world = self.world.lock();
            let stable = plant::is(&world, Plant::RestoreToLastStableOffset);
            let mark =
                |place| if stable { world.broker.last_stable(place) } else { world.broker.high_watermark(place) };
            partitions.iter().map(|partition| (*partition, mark((self.state, *partition)))).collect()
        };
        self.pass(Effect::StateMarks, Moment::After).await?;
        Ok(marks)
    }

    async fn read_state(&mut self, marks: &BTreeMap<i32, i64>) -> Done<StateImages> {
        self.pass(Effect::ReadState, Moment::Before).await?;
        let mut images = StateImages::default();
        for (partition, mark) in marks {
            let place = (self.state, *partition);
            self.until(|world| world.broker.last_stable(place) >= *mark).await;
            let mut world = self.world.lock();
            let mut until = *mark;
            let rate = world.rates.torn;
            if *mark > 0 && world.chance.one_in(rate) {
                until = world.chance.between(0, *mark - 1);
                world.hit(Fault::TornRestore);
                let life = self.life;
                world.note(|| format!("life {life} reads state of {partition} to {until} of {mark}"));
                if plant::is(&world, Plant::TornRestoreAccepted) {
                    images.read_to(*partition, *mark);
                } else {
                    world.wire(self.life).torn = true;
                }
            }
            let fetched = world.broker.fetch(place, 0, usize::MAX);
            for (offset, data) in fetched.records.iter().filter(|(offset, _)| *offset < until) {
                images.take(*partition, *offset, data.key.as_deref().unwrap_or_default(), data.value.as_deref());
            }
            images.read_to(*partition, until);
        }
        self.pass(Effect::ReadState, Moment::After).await?;
        Ok(images)
    }

    async fn resume(&mut self, from: &BTreeMap<i32, i64>) -> Done {
        self.pass(Effect::Resume, Moment::Before).await?;
        let mut world = self.world.lock();
        let mut from = from.clone();
        if plant::is(&world, Plant::SkipsARecordAtResume) {
            from.values_mut().for_each(|offset| *offset += 1);
        }
        world.wire(self.life).resumes.push_back(from);
        Ok(())
    }

    async fn first_committed(&mut self, partition: i32, from: i64, to: i64) -> Done<Option<i64>> {
        let world = self.world.lock();
        let place = (self.input, partition);
        let mut found = world.broker.committed_records(place).map(|(offset, _)| offset);
        Ok(found.find(|offset| (from..to).contains(offset)))
    }

    async fn send(&mut self, outgoing: &Outgoing) -> Done {
        self.pass(Effect::Send, Moment::Before).await?;
        self.ready_to_write().await;
        self.sent += 1;
        if let Some(outgoing) = plant::sent(self, outgoing.clone()) {
            self.write_outgoing(outgoing)?;
        }
        self.pass(Effect::Send, Moment::After).await
    }

    async fn send_state(&mut self, change: StateChange) -> Done {
        self.pass(Effect::SendState, Moment::Before).await?;
        self.ready_to_write().await;
        if plant::keeps_change(self, &change) {
            let StateChange { partition, key, value } = change;
            let timestamp_ms = self.world.lock().now_ns / MILLISECOND_NS;
            let data = Data { timestamp_ms, key: Some(key.into_bytes()), value, headers: Vec::new() };
            let offset = self.write((self.state, partition), data)?;
            self.world.lock().wire(self.life).state_ends.insert(partition, offset + 1);
        }
        self.pass(Effect::SendState, Moment::After).await
    }

    async fn flush(&mut self) -> Done<BTreeMap<i32, i64>> {
        self.pass(Effect::Flush, Moment::Before).await?;
        for outgoing in std::mem::take(&mut self.held_back) {
            self.write_outgoing(outgoing)?;
        }
        let ends = self.world.lock().wire(self.life).state_ends.clone();
        self.pass(Effect::Flush, Moment::After).await?;
        Ok(ends)
    }

    async fn send_offsets(&mut self, offsets: &BTreeMap<i32, Committed>) -> Done {
        self.pass(Effect::SendOffsets, Moment::Before).await?;
        self.ready_to_write().await;
        self.check_member()?;
        {
            let mut world = self.world.lock();
            let offsets: BTreeMap<Place, Committed> =
                offsets.iter().map(|(partition, committed)| ((self.input, *partition), *committed)).collect();
            if plant::is(&world, Plant::OffsetsCommittedEarly) {
                offsets.into_iter().for_each(|(place, committed)| world.broker.set_offset(place, committed));
            } else {
                let now_ns = world.now_ns;
                world.broker.add_offsets(self.producer(), &offsets, now_ns).map_err(fatal)?;
            }
        }
        self.pass(Effect::SendOffsets, Moment::After).await
    }

    async fn commit(&mut self) -> Done {
        self.pass(Effect::Commit, Moment::Before).await?;
        self.sent = 0;
        let markers = self.markers();
        {
            let mut world = self.world.lock();
            world.broker.commit(self.producer(), markers).map_err(fatal)?;
            world.committed(self.life, self.input);
            let life = self.life;
            world.note(|| format!("life {life} commits"));
        }
        self.pass(Effect::Commit, Moment::After).await
    }

    async fn abort(&mut self) -> Done {
        self.pass(Effect::Abort, Moment::Before).await?;
        self.held_back.clear();
        let markers = self.markers();
        let refused = std::mem::take(&mut self.refused);
        self.forgotten = if refused { plant::forgotten(self) } else { 0 };
        self.sent = 0;
        let mut world = self.world.lock();
        let wire = world.wire(self.life);
        wire.waits = refused;
        if !refused {
            wire.open = crate::world::Account::default();
        } else if plant::is(&world, Plant::RefusedTransactionCommitted) {
            return world.broker.commit(self.producer(), markers).map_err(fatal);
        }
        world.broker.abort(self.producer(), markers).map_err(fatal)
    }
}
