//! The log of one process: every call is an effect, and a fault may occur before and after each.

use std::collections::BTreeMap;
use std::future::poll_fn;
use std::task::Poll;

use driftline_schemas::topics::Topic;
use driftline_schemas::{Alert, Finding, decode};
use driftline_service_core::{Committed, InputRange, Log, LogError, Outgoing, StateChange, StateImages};

use crate::broker::{Data, Fenced, Markers, TopicPartition};
use crate::fault::Fault;
use crate::mutant::Mutant;
use crate::planted;
use crate::world::{Directive, Effect, MILLISECOND_NS, Moment, ProcessId, Shared, World};

/// Interval of the checks of a call that waits for another's transaction.
const WAIT_NS: i64 = 20 * MILLISECOND_NS;

/// Why a process cannot continue.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("fenced: another process has this name, or the transaction was open for too long")]
pub(crate) struct FencedOff;

/// The log; see the module.
#[derive(Debug)]
pub(crate) struct SimLog {
    pub(crate) world: Shared,
    pub(crate) process: ProcessId,
    /// Name of the producer, the same in every process of an instance.
    pub(crate) id: String,
    pub(crate) epoch: u32,
    pub(crate) input: Topic,
    pub(crate) state: Topic,
    /// The open transaction was refused because of a new generation.
    pub(crate) refused: bool,
    /// Applies planted bugs to outputs.
    pub(crate) outputs: planted::Outputs,
}

type Done<T = ()> = Result<T, LogError<FencedOff>>;

fn fatal(_: Fenced) -> LogError<FencedOff> {
    LogError::Fatal(FencedOff)
}

impl SimLog {
    /// Passes a moment of an effect, or never returns.
    async fn pass(&self, effect: Effect, moment: Moment) -> Done {
        let mut directive = None;
        poll_fn(|_| {
            let mut world = self.world.lock();
            let now_ns = world.now_ns;
            match *directive.get_or_insert_with(|| world.decide(self.process, effect, moment)) {
                Directive::Go => Poll::Ready(Ok(())),
                Directive::At(at_ns) if at_ns <= now_ns => {
                    world.wire(self.process).frozen_until_ns = None;
                    Poll::Ready(Ok(()))
                }
                Directive::At(at_ns) => {
                    world.wire(self.process).wake_ns = at_ns;
                    Poll::Pending
                }
                Directive::Abort => Poll::Ready(Err(LogError::Aborted(format!("injected at {effect:?}")))),
                Directive::Crash => Poll::Pending,
            }
        })
        .await
    }

    /// Waits until a condition holds.
    async fn until(&self, mut holds: impl FnMut(&World) -> bool + Send) {
        poll_fn(|_| {
            let mut world = self.world.lock();
            if holds(&world) {
                return Poll::Ready(());
            }
            let wake_ns = world.now_ns.saturating_add(WAIT_NS);
            world.wire(self.process).wake_ns = wake_ns;
            Poll::Pending
        })
        .await;
    }

    /// Waits until the previous transaction has ended.
    async fn ready_to_write(&self) {
        self.until(|world| !world.broker.is_ending(&self.id)).await;
    }

    fn producer(&self) -> (&str, u32) {
        (&self.id, self.epoch)
    }

    /// Appends in the transaction.
    pub(crate) fn write(&self, topic_partition: TopicPartition, data: Data) -> Done<i64> {
        let mut world = self.world.lock();
        let now_ns = world.now_ns;
        world.broker.produce(self.producer(), topic_partition, data, now_ns).map_err(fatal)
    }

    pub(crate) fn write_outgoing(&self, outgoing: Outgoing) -> Done {
        let mut world = self.world.lock();
        let topic_partition = world.broker.topic_partition_of(outgoing.topic, &outgoing.key);
        let now_ns = world.now_ns;
        let process = self.process;
        world.note(|| format!("process {process} sends {}", describe(&outgoing)));
        let data = data_of(outgoing, now_ns);
        if world.has(Mutant::OutputsOutsideTheTransaction) {
            world.broker.append(topic_partition, data);
            return Ok(());
        }
        drop(world);
        self.write(topic_partition, data).map(drop)
    }

    /// Whether the group accepts offsets under the membership that this process knows.
    fn check_member(&mut self) -> Done {
        let mut world = self.world.lock();
        let wire = world.wire(self.process);
        let (incarnation, generation) = (wire.incarnation, wire.generation);
        let group = world.groups.get(&self.input);
        let current = group.and_then(|group| group.incarnation(self.process));
        let is_newest = group.is_some_and(|group| group.generation() == generation);
        let late = world.has(Mutant::GenerationReadLate) && current.is_some();
        if late || world.has(Mutant::NoFencing) || (current == Some(incarnation) && is_newest) {
            return Ok(());
        }
        // A coordinator may or may not still know the member that lost its partitions.
        if current != Some(incarnation) && world.chance.one_in(2) {
            return Err(LogError::Aborted("the group does not know the member".to_owned()));
        }
        world.hit(Fault::Outdated);
        let process = self.process;
        world.note(|| format!("process {process} is refused: the group has moved on from {generation}"));
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

/// A record in one line.
fn describe(outgoing: &Outgoing) -> String {
    match outgoing.topic {
        Topic::Findings => decode::<Finding>(&outgoing.value).map_or_else(
            |error| error.to_string(),
            |finding| {
                let unresolved = finding.unresolved.unwrap_or_default();
                let (id, revision, origin) = (finding.finding_id, finding.revision, finding.origin.as_str());
                format!(
                    "finding {id}:{revision} {origin} {:?} {unresolved} at {}",
                    finding.state, finding.event_time_ns
                )
            },
        ),
        Topic::Alerts => decode::<Alert>(&outgoing.value).map_or_else(
            |error| error.to_string(),
            |alert| {
                let (id, revision, count) = (alert.alert_id, alert.revision, alert.finding_count);
                format!(
                    "alert {id}:{revision} {:?} final {} of {count} {:?}",
                    alert.activity, alert.r#final, alert.flags
                )
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
            world.has(Mutant::UnstableCommittedOffset) || !partitions.iter().any(pending)
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
            let topic_partition = (self.input, partition);
            InputRange { begin: world.broker.begin(topic_partition), end: world.broker.high_watermark(topic_partition) }
        };
        Ok(partitions.iter().map(|partition| (*partition, range(*partition))).collect())
    }

    async fn state_marks(&mut self, partitions: &[i32]) -> Done<BTreeMap<i32, i64>> {
        self.pass(Effect::StateMarks, Moment::Before).await?;
        let marks = {
            let world = self.world.lock();
            let stable = world.has(Mutant::RestoreToLastStableOffset);
            let mark = |topic_partition| {
                if stable {
                    world.broker.last_stable(topic_partition)
                } else {
                    world.broker.high_watermark(topic_partition)
                }
            };
            partitions.iter().map(|partition| (*partition, mark((self.state, *partition)))).collect()
        };
        self.pass(Effect::StateMarks, Moment::After).await?;
        Ok(marks)
    }

    async fn read_state(&mut self, marks: &BTreeMap<i32, i64>) -> Done<StateImages> {
        self.pass(Effect::ReadState, Moment::Before).await?;
        let mut images = StateImages::default();
        for (partition, mark) in marks {
            let topic_partition = (self.state, *partition);
            self.until(|world| world.broker.last_stable(topic_partition) >= *mark).await;
            let mut world = self.world.lock();
            let mut until = *mark;
            let rate = world.rates.torn;
            if *mark > 0 && world.chance.one_in(rate) && world.injects(Fault::TornRestore.name()) {
                until = world.chance.between(0, *mark - 1);
                world.hit(Fault::TornRestore);
                let process = self.process;
                world.note(|| format!("process {process} reads state of {partition} to {until} of {mark}"));
                if world.has(Mutant::TornRestoreAccepted) {
                    images.read_to(*partition, *mark);
                } else {
                    world.wire(self.process).torn = true;
                }
            }
            let fetched = world.broker.fetch(topic_partition, 0, usize::MAX);
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
        if world.has(Mutant::SkipsARecordAtResume) {
            from.values_mut().for_each(|offset| *offset += 1);
        }
        world.wire(self.process).resumes.push_back(from);
        Ok(())
    }

    async fn first_committed(&mut self, partition: i32, from: i64, to: i64) -> Done<Option<i64>> {
        let world = self.world.lock();
        let topic_partition = (self.input, partition);
        let mut found = world.broker.committed_records(topic_partition).map(|(offset, _)| offset);
        Ok(found.find(|offset| (from..to).contains(offset)))
    }

    async fn send(&mut self, outgoing: &Outgoing) -> Done {
        self.pass(Effect::Send, Moment::Before).await?;
        self.ready_to_write().await;
        let mutant = self.world.lock().mutant;
        if let Some(outgoing) = self.outputs.send(mutant, outgoing.clone()) {
            self.write_outgoing(outgoing)?;
        }
        self.pass(Effect::Send, Moment::After).await
    }

    async fn send_state(&mut self, change: StateChange) -> Done {
        self.pass(Effect::SendState, Moment::Before).await?;
        self.ready_to_write().await;
        let is_written = planted::writes_change(&mut self.world.lock(), &change);
        if is_written {
            let StateChange { partition, key, value } = change;
            let timestamp_ms = self.world.lock().now_ns / MILLISECOND_NS;
            let data = Data { timestamp_ms, key: Some(key.into_bytes()), value, headers: Vec::new() };
            let offset = self.write((self.state, partition), data)?;
            self.world.lock().wire(self.process).state_ends.insert(partition, offset + 1);
        }
        self.pass(Effect::SendState, Moment::After).await
    }

    async fn flush(&mut self) -> Done<BTreeMap<i32, i64>> {
        self.pass(Effect::Flush, Moment::Before).await?;
        for outgoing in self.outputs.flush() {
            self.write_outgoing(outgoing)?;
        }
        let ends = self.world.lock().wire(self.process).state_ends.clone();
        self.pass(Effect::Flush, Moment::After).await?;
        Ok(ends)
    }

    async fn send_offsets(&mut self, offsets: &BTreeMap<i32, Committed>) -> Done {
        self.pass(Effect::SendOffsets, Moment::Before).await?;
        self.ready_to_write().await;
        self.check_member()?;
        {
            let mut world = self.world.lock();
            let offsets: BTreeMap<TopicPartition, Committed> =
                offsets.iter().map(|(partition, committed)| ((self.input, *partition), *committed)).collect();
            if world.has(Mutant::OffsetsCommittedEarly) {
                offsets
                    .into_iter()
                    .for_each(|(topic_partition, committed)| world.broker.set_offset(topic_partition, committed));
            } else {
                let now_ns = world.now_ns;
                world.broker.add_offsets(self.producer(), &offsets, now_ns).map_err(fatal)?;
            }
        }
        self.pass(Effect::SendOffsets, Moment::After).await
    }

    async fn commit(&mut self) -> Done {
        self.pass(Effect::Commit, Moment::Before).await?;
        self.outputs.commit();
        let markers = self.markers();
        {
            let mut world = self.world.lock();
            world.broker.commit(self.producer(), markers).map_err(fatal)?;
            world.committed(self.process, self.input);
            let process = self.process;
            world.note(|| format!("process {process} commits"));
        }
        self.pass(Effect::Commit, Moment::After).await
    }

    async fn abort(&mut self) -> Done {
        self.pass(Effect::Abort, Moment::Before).await?;
        let markers = self.markers();
        let refused = std::mem::take(&mut self.refused);
        let mut world = self.world.lock();
        self.outputs.abort(world.mutant, refused);
        let wire = world.wire(self.process);
        wire.waits = refused;
        if !refused {
            wire.open = crate::world::Account::default();
        } else if world.has(Mutant::RefusedTransactionCommitted) {
            return world.broker.commit(self.producer(), markers).map_err(fatal);
        }
        world.broker.abort(self.producer(), markers).map_err(fatal)
    }
}
