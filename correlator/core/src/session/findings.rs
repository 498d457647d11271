//! The findings that a session tracks, in the order of their ids, with the memory that they take.

use driftline_schemas::FindingId;
use driftline_service_core::BrokenInvariant;
use std::sync::Arc;

use crate::finding::{Joined, Label, SessionFinding};

/// The tracked findings; see the module. Findings with equal labels share one in memory.
#[derive(Debug, Default)]
pub(super) struct SessionFindings {
    #[expect(clippy::vec_box, reason = "a finding is put in between others, and most sessions have few")]
    findings: Vec<Box<SessionFinding>>,
    /// In order, with the number of findings that have it.
    labels: Vec<(Arc<Label>, usize)>,
    bytes: usize,
}

impl SessionFindings {
    pub(super) fn len(&self) -> usize {
        self.findings.len()
    }

    /// Bytes in memory.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// The same, computed again from the findings.
    #[cfg(test)]
    pub(super) fn count_bytes(&self) -> usize {
        let labels: std::collections::BTreeSet<&Label> = self.iter().map(|finding| &*finding.label).collect();
        self.iter().map(SessionFinding::memory_bytes).sum::<usize>()
            + labels.iter().map(|label| label.memory_bytes()).sum::<usize>()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &SessionFinding> {
        self.findings.iter().map(AsRef::as_ref)
    }

    fn find(&self, id: &FindingId) -> Result<usize, usize> {
        self.findings.binary_search_by(|finding| finding.id.cmp(id))
    }

    pub(super) fn get(&self, id: &FindingId) -> Option<&SessionFinding> {
        self.find(id).ok().and_then(|at| self.findings.get(at)).map(AsRef::as_ref)
    }

    /// Adds a finding, or replaces the one with its id.
    pub(super) fn insert(&mut self, mut finding: SessionFinding) {
        self.remove(&finding.id);
        finding.label = self.share(finding.label);
        self.bytes += finding.memory_bytes();
        let at = self.find(&finding.id).unwrap_or_else(|at| at);
        self.findings.insert(at, Box::new(finding));
    }

    pub(super) fn remove(&mut self, id: &FindingId) -> Option<SessionFinding> {
        let finding = *self.findings.remove(self.find(id).ok()?);
        self.bytes -= finding.memory_bytes();
        self.release(&finding.label);
        Some(finding)
    }

    /// Joins a revision with the tracked finding.
    pub(super) fn join(&mut self, revision: SessionFinding) -> Joined {
        let Some(mut known) = self.remove(&revision.id) else { return Joined::NothingNew };
        let joined = known.join(revision);
        self.insert(known);
        joined
    }

    /// Drops the details of the findings that need none; returns the ids of those that had details.
    pub(super) fn drop_details(
        &mut self,
        is_wanted: impl Fn(&FindingId) -> bool,
    ) -> Result<Vec<FindingId>, BrokenInvariant> {
        let mut dropped = Vec::new();
        for finding in self.findings.iter_mut().filter(|finding| finding.has_detail() && !is_wanted(&finding.id)) {
            let before = finding.memory_bytes();
            finding.drop_detail()?;
            self.bytes = self.bytes - before + finding.memory_bytes();
            dropped.push(finding.id.clone());
        }
        Ok(dropped)
    }

    fn share(&mut self, label: Arc<Label>) -> Arc<Label> {
        match self.labels.binary_search_by(|(known, _)| known.cmp(&label)) {
            Ok(at) => self.labels.get_mut(at).map_or(label, |(known, users)| {
                *users += 1;
                Arc::clone(known)
            }),
            Err(at) => {
                self.bytes += label.memory_bytes();
                self.labels.insert(at, (Arc::clone(&label), 1));
                label
            }
        }
    }

    fn release(&mut self, label: &Label) {
        let Ok(at) = self.labels.binary_search_by(|(known, _)| (**known).cmp(label)) else { return };
        if let Some((_, users)) = self.labels.get_mut(at) {
            *users -= 1;
            if *users == 0 {
                self.bytes -= label.memory_bytes();
                self.labels.remove(at);
            }
        }
    }
}
