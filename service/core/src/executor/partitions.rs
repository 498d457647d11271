//! Assigned, revoked and lost partitions.

use std::collections::BTreeMap;

use driftline_schemas::WriterSchemas;

use super::commit::Commit;
use super::{Executor, Failed, Owned, Reading, SCHEMA_PREFIX, Step, Stop};
use crate::{BrokenInvariant, Committed, Counts, Gap, InputRange, Log, PartitionImage, Stage};

impl<S: Stage, L: Log> Executor<S, L> {
    /// Takes over partitions: commits open work, restores the state of the partitions, then starts their input.
    ///
    /// # Errors
    /// When the process has to end.
    pub async fn assign(&mut self, now_ns: i64, partitions: &[i32]) -> Result<(), Stop<L::Error>> {
        self.membership_came();
        let result = match self.try_commit(now_ns).await {
            // A commit that still waits may continue to wait: it does not concern the new partitions.
            Ok(Commit::Made | Commit::Waits) => self.take_over(now_ns, partitions).await,
            Err(failed) => Err(failed),
        };
        if let Err(Failed::Aborted(_)) = &result {
            // These partitions are owned as well, and are restored with the others.
            for partition in partitions {
                self.owned.entry(*partition).or_insert_with(Owned::unknown);
            }
        }
        self.recovered(now_ns, result).await.map(drop)
    }

    pub(super) async fn take_over(&mut self, now_ns: i64, partitions: &[i32]) -> Step<(), L::Error> {
        if partitions.is_empty() {
            return Ok(self.log.resume(&BTreeMap::new()).await?);
        }
        let committed = self.log.committed(partitions).await?;
        let ranges = self.log.input_ranges(partitions).await?;
        // Read the marks only now: a transaction that was committed since is below its mark.
        let marks = self.log.state_marks(partitions).await?;
        let mut images = self.log.read_state(&marks).await?;
        let mut from = BTreeMap::new();
        for partition in partitions {
            let image = images.remove(*partition);
            let committed = committed.get(partition).copied();
            self.check_complete(*partition, &image, marks.get(partition).copied(), committed)?;
            let range = ranges.get(partition).copied();
            let range = range.ok_or_else(|| BrokenInvariant(format!("nothing is known of partition {partition}")))?;
            let next = begin_at(committed, range);
            if let Err(error) = self.restore(now_ns, *partition, image, committed, next) {
                return Err(self.contradiction(&marks, error).await);
            }
            from.insert(*partition, next);
            if let Some(gap) = gap(*partition, committed, next) {
                self.ledger.open.gaps += 1;
                self.stage.gap(now_ns, gap, &mut self.effects)?;
            }
        }
        self.perform().await?;
        Ok(self.log.resume(&from).await?)
    }

    /// Handles contradictory state. The partition may belong to another instance already, which the group has not
    /// reported yet. In that case part of a transaction that was being written when the mark was taken is below the
    /// mark, and the changelog is longer by now.
    async fn contradiction(&mut self, marks: &BTreeMap<i32, i64>, error: BrokenInvariant) -> Failed<L::Error> {
        let partitions: Vec<i32> = marks.keys().copied().collect();
        match self.log.state_marks(&partitions).await {
            Ok(present) if present != *marks => {
                Failed::Aborted("another instance writes the state that was restored".to_owned())
            }
            Ok(_) => error.into(),
            Err(error) => error.into(),
        }
    }

    fn check_complete(
        &self,
        partition: i32,
        image: &PartitionImage,
        mark: Option<i64>,
        committed: Option<Committed>,
    ) -> Result<(), Failed<L::Error>> {
        let relied_on = committed.and_then(|committed| committed.state_next);
        let wanted = mark.unwrap_or(0).max(relied_on.unwrap_or(0));
        if image.next >= wanted {
            return Ok(());
        }
        let topic = self.roles.state.spec().stem;
        Err(Failed::Stop(Stop::StateLost { topic, partition, found: image.next, wanted }))
    }

    fn restore(
        &mut self,
        now_ns: i64,
        partition: i32,
        image: PartitionImage,
        committed: Option<Committed>,
        next: i64,
    ) -> Result<(), BrokenInvariant> {
        let mut schemas = WriterSchemas::default();
        let (own, state): (BTreeMap<_, _>, BTreeMap<_, _>) =
            image.values.into_iter().partition(|(key, _)| key.starts_with(SCHEMA_PREFIX));
        for json in own.values() {
            schemas.add(&String::from_utf8_lossy(json))?;
        }
        self.ledger.open.restored_keys += state.len() as u64;
        let held = self.stage.held();
        self.stage.restore(now_ns, partition, state, &schemas, &mut self.effects)?;
        let taken_over = self.stage.held().saturating_sub(held);
        self.open += taken_over;
        self.ledger.open.taken_over += taken_over;
        self.ledger.open.held = self.stage.held();
        let schemas = own.into_keys().collect();
        let owned = Owned { next, committed, state_next: image.next, schemas, reading: Reading::Awaited };
        self.owned.insert(partition, owned);
        Ok(())
    }

    /// Input of these partitions now starts at the offsets given to [`Log::resume`].
    pub fn resumed(&mut self, partitions: &[i32]) {
        for partition in partitions {
            if let Some(owned) = self.owned.get_mut(partition) {
                owned.reading = Reading::Begun;
            }
        }
    }

    /// Finishes work on partitions that another instance takes over as soon as this returns.
    ///
    /// # Errors
    /// When the process has to end.
    pub async fn revoke(&mut self, now_ns: i64, partitions: &[i32]) -> Result<Counts, Stop<L::Error>> {
        self.membership_came();
        let result = match self.try_commit(now_ns).await {
            // The next owner does not wait, and the kept outputs cannot be assigned to partitions.
            Ok(Commit::Waits) => {
                Err(Failed::Aborted("the group moved on before partitions were handed over".to_owned()))
            }
            done => done,
        };
        self.give_up(partitions);
        if result.is_ok() {
            self.ledger.commit();
        }
        self.recovered(now_ns, result).await?;
        Ok(self.ledger.take())
    }

    /// Handles partitions that belong to another instance already: open work cannot be committed.
    ///
    /// # Errors
    /// When the process has to end.
    pub async fn lose(&mut self, now_ns: i64, partitions: &[i32]) -> Result<(), Stop<L::Error>> {
        self.give_up(partitions);
        // No transaction failed by itself: the group may take partitions from a member any number of times.
        self.aborts_in_a_row = 0;
        let lost = Err::<(), _>(Failed::Aborted("the group gave the partitions to another instance".to_owned()));
        self.recovered(now_ns, lost).await.map(drop)
    }

    /// Ends because the log cannot continue. Everything not committed is undone as by an abort. Returns the core
    /// without partitions, to continue with another log; the log, to be dropped where blocking is allowed; and the
    /// counts.
    pub fn end(mut self, why: String) -> (S, L, Counts) {
        self.ledger.undo(why);
        for partition in self.owned.keys() {
            self.stage.drop_partition(*partition);
        }
        self.ledger.open.held = self.stage.held();
        self.ledger.commit();
        let counts = self.ledger.take();
        (self.stage, self.log, counts)
    }

    fn give_up(&mut self, partitions: &[i32]) {
        let held = self.stage.held();
        for partition in partitions {
            self.stage.drop_partition(*partition);
            self.owned.remove(partition);
            self.dirty.retain(|changed| changed.partition != *partition);
        }
        let given_up = held.saturating_sub(self.stage.held());
        self.open = self.open.saturating_sub(given_up);
        self.ledger.open.handed_over += given_up;
        self.ledger.open.held = self.stage.held();
    }
}

/// The committed offset, unless the topic no longer has it.
fn begin_at(committed: Option<Committed>, range: InputRange) -> i64 {
    let committed = committed.map(|committed| committed.offset).filter(|offset| *offset <= range.end);
    committed.map_or(range.begin, |offset| offset.max(range.begin))
}

/// The gap, if reading does not continue at the committed offset.
fn gap(partition: i32, committed: Option<Committed>, next: i64) -> Option<Gap> {
    let from = committed?.offset;
    (from != next).then_some(Gap { partition, from, to: next })
}
