//! Commits, and the handling of a commit that the group refuses because of a new generation.
//!
//! Between the moment at which the group starts a rebalance and the event that reports it, a member cannot commit: its
//! membership is outdated. The member still owns its partitions, so its state is right; only the transaction is lost.
//! The executor sends the content of the transaction again, under the membership of the next event. Until then it takes
//! input and keeps the output.

use std::collections::{BTreeMap, BTreeSet};

use super::{Executor, Failed, Pending, Step};
use crate::{Committed, Log, LogError, Stage, StateChange, StateKey};

/// Outputs that are kept while a commit waits for the membership: the content of a transaction (4 MiB), and the same
/// amount from input that is read until the event arrives. With more output the transaction counts as aborted.
pub(super) const KEPT_BYTES_MAX: usize = 8 * 1024 * 1024;
/// How long a commit waits for the membership: a member that disappears during a rebalance delays it by a session
/// timeout (15 s). After as long again the transaction counts as aborted, so that a membership that never arrives ends
/// in [`super::Stop::Aborting`].
pub(super) const MEMBERSHIP_MAX_NS: i64 = 30_000_000_000;

/// Result of a commit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Commit {
    /// Everything since the last one is visible.
    Made,
    /// The commit is made when the membership is known.
    Waits,
}

impl<S: Stage, L: Log> Executor<S, L> {
    pub(super) async fn try_commit(&mut self, now_ns: i64) -> Step<Commit, L::Error> {
        if let Some(since_ns) = self.outdated_since_ns {
            if now_ns.saturating_sub(since_ns) > MEMBERSHIP_MAX_NS {
                return Err(Failed::Aborted("the group has moved on, and does not report who is in it".to_owned()));
            }
            return Ok(Commit::Waits);
        }
        if self.pending() != Pending::Nothing {
            self.send_outputs().await?;
            let state_keys = self.write_changelog().await?;
            for (partition, next) in self.log.flush().await? {
                if let Some(owned) = self.owned.get_mut(&partition) {
                    owned.state_next = owned.state_next.max(next);
                }
            }
            let offsets: BTreeMap<i32, Committed> =
                self.owned.iter().map(|(partition, owned)| (*partition, owned.to_commit())).collect();
            match self.log.send_offsets(&offsets).await {
                Err(LogError::Outdated(_)) => return self.wait_for_membership(now_ns).await,
                done => done?,
            }
            self.log.commit().await?;
            self.ledger.open.state_keys += state_keys;
            self.committed();
        }
        self.ledger.commit();
        Ok(Commit::Made)
    }

    fn committed(&mut self) {
        let written: BTreeSet<i32> = self.dirty.iter().map(|changed| changed.partition).collect();
        for (partition, owned) in &mut self.owned {
            owned.committed = Some(owned.to_commit());
            if written.contains(partition) {
                owned.schemas.extend(self.schemas.iter().map(|(key, _)| key.clone()));
            }
        }
        self.dirty.clear();
        self.forget_outputs();
        self.aborts_in_a_row = 0;
        self.ledger.open.commits += 1;
    }

    /// Undoes the transaction, but keeps its outputs and state.
    async fn wait_for_membership(&mut self, now_ns: i64) -> Step<Commit, L::Error> {
        self.log.abort().await?;
        self.outputs_sent = 0;
        self.outdated_since_ns = Some(now_ns);
        self.ledger.open.commits_repeated += 1;
        self.check_kept()?;
        Ok(Commit::Waits)
    }

    /// The membership is known: a commit may be tried.
    pub(super) fn membership_came(&mut self) {
        self.outdated_since_ns = None;
    }

    /// Sends the outputs that the open transaction does not have yet, unless they wait for the membership: a
    /// transaction must not be open for longer than necessary.
    pub(super) async fn send_outputs(&mut self) -> Step<(), L::Error> {
        if self.outdated_since_ns.is_some() {
            return self.check_kept();
        }
        while let Some(outgoing) = self.outputs.get(self.outputs_sent) {
            self.outputs_sent += 1;
            self.log.send(outgoing).await?;
        }
        Ok(())
    }

    fn check_kept(&self) -> Step<(), L::Error> {
        if self.sent_bytes > KEPT_BYTES_MAX {
            return Err(Failed::Aborted("the group has moved on, and too much waits for its answer".to_owned()));
        }
        Ok(())
    }

    pub(super) fn forget_outputs(&mut self) {
        self.outputs = Vec::new();
        (self.outputs_sent, self.sent_bytes) = (0, 0);
        self.outdated_since_ns = None;
    }

    /// Writes each changed key once, however often it changed since the last commit; before a partition's first key,
    /// the schemas. Returns the number of keys.
    async fn write_changelog(&mut self) -> Step<u64, L::Error> {
        let written: BTreeSet<i32> = self.dirty.iter().map(|changed| changed.partition).collect();
        for (partition, owned) in self.owned.iter().filter(|(partition, _)| written.contains(partition)) {
            for (key, json) in self.schemas.iter().filter(|(key, _)| !owned.schemas.contains(key)) {
                let value = Some(json.as_bytes().to_vec());
                self.log.send_state(StateChange { partition: *partition, key: key.clone(), value }).await?;
            }
        }
        let mut keys = 0;
        for StateKey { partition, key } in &self.dirty {
            if self.owned.contains_key(partition) {
                let value = self.stage.state(*partition, key)?;
                keys += 1;
                self.log.send_state(StateChange { partition: *partition, key: key.clone(), value }).await?;
            }
        }
        Ok(keys)
    }
}
