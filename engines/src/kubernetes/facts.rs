//! What the API has returned of this node's pods; the descriptions of their containers are completed from it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use driftline_schemas::{ContainerId, Owner};

use crate::Described;
use crate::limits::PODS_MAX;

/// What the API knows of a pod, and no runtime does.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct PodFacts {
    pub(super) owner: Option<Owner>,
    pub(super) service_account: String,
    /// Those that the settings allow.
    pub(super) annotations: BTreeMap<String, String>,
}

/// Whether facts are new.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Noted {
    New,
    AsBefore,
    /// There are more pods than a node can have.
    Full,
}

/// Facts of the pods of this node by uid. Without an API it stays empty. Clones are the same one.
#[derive(Debug, Clone, Default)]
pub struct Facts(Arc<Mutex<PodKnowledge>>);

#[derive(Debug, Default)]
struct PodKnowledge {
    pods: BTreeMap<String, PodFacts>,
    /// Containers that were described, by their pod's uid: they are described again when its facts change.
    described: BTreeMap<String, BTreeSet<ContainerId>>,
}

impl Facts {
    fn known(&self) -> MutexGuard<'_, PodKnowledge> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds to a description what is known of its pod now. Of later facts
    /// [`News::Pod`](super::News::Pod) notifies, and [`Self::containers_of`] then names the container.
    pub fn complete(&self, described: &mut Described) {
        let Some(pod) = described.container.pod.as_ref().filter(|pod| !pod.uid.is_empty()) else { return };
        let mut known = self.known();
        // Beyond that the container is described again with all others, hourly.
        if known.described.len() < PODS_MAX || known.described.contains_key(&pod.uid) {
            known.described.entry(pod.uid.clone()).or_default().insert(described.container.id.clone());
        }
        let Some(facts) = known.pods.get(&pod.uid) else { return };
        described.container.owner.clone_from(&facts.owner);
        described.container.service_account.clone_from(&facts.service_account);
        // The runtime knows those from when the pod was made.
        described.annotations.clone_from(&facts.annotations);
    }

    /// Containers of a pod that were described.
    #[must_use]
    pub fn containers_of(&self, uid: &str) -> Vec<ContainerId> {
        self.known().described.get(uid).into_iter().flatten().cloned().collect()
    }

    /// Drops containers that do not run any more.
    pub fn ended(&self, ended: &BTreeSet<ContainerId>) {
        self.retain_where(|id| !ended.contains(id));
    }

    /// Drops all containers but these.
    pub fn retain(&self, running: &BTreeSet<ContainerId>) {
        self.retain_where(|id| running.contains(id));
    }

    fn retain_where(&self, stays: impl Fn(&ContainerId) -> bool) {
        self.known().described.retain(|_, containers| {
            containers.retain(&stays);
            !containers.is_empty()
        });
    }

    pub(super) fn note(&self, uid: String, facts: PodFacts) -> Noted {
        let pods = &mut self.known().pods;
        match pods.get(&uid) {
            Some(known) if *known == facts => return Noted::AsBefore,
            None if pods.len() >= PODS_MAX => return Noted::Full,
            _ => {}
        }
        pods.insert(uid, facts);
        Noted::New
    }

    pub(super) fn forget(&self, uid: &str) {
        self.known().pods.remove(uid);
    }

    pub(super) fn retain_pods(&self, uids: &BTreeSet<String>) {
        self.known().pods.retain(|uid, _| uids.contains(uid));
    }
}
