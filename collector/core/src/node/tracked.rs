//! State of one container, and when its next exec may go out.

use driftline_schemas::{ContainerId, ContainerSeen, Mount};

use crate::class::{self, ContainerRoot};
use crate::digest::{Budget, Digest, DigestJob, DigestOutcome};
use crate::limits;
use crate::mounts::Mounts;
use crate::node::held::HeldExecs;
use crate::node::throttle::Throttle;
use crate::node::{Description, NodeSettings};
use crate::raw::RawExec;

/// Whether an exec may wait for anything.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wait {
    Allowed,
    /// The collector stops, or the container is forgotten.
    Over,
}

/// What is known of a container from its runtime.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Metadata {
    Known,
    /// A question is under way; so many failed before.
    Asked {
        failures: u32,
    },
    /// Asked again at that time. Unknown containers stay so only for a while.
    Unknown {
        failures: u32,
        retry_at_ns: i64,
    },
}

impl Metadata {
    pub(super) fn fail(&mut self, now_ns: i64) {
        if let Self::Asked { failures } = *self {
            let pause = limits::DESCRIBE_RETRY.saturating_mul(1_i64.checked_shl(failures).unwrap_or(i64::MAX));
            let retry_at_ns = now_ns.saturating_add(pause.clamp(limits::DESCRIBE_RETRY, limits::DESCRIBE_RETRY_MAX));
            *self = Self::Unknown { failures: failures.saturating_add(1).min(30), retry_at_ns };
        }
    }

    pub(super) fn is_due(&self, now_ns: i64) -> bool {
        matches!(self, Self::Unknown { retry_at_ns, .. } if *retry_at_ns <= now_ns)
    }

    pub(super) fn ask_again(&mut self) {
        if let Self::Unknown { failures, .. } = *self {
            *self = Self::Asked { failures };
        }
    }
}

/// Whether a container's runtime knows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Standing {
    Known,
    /// No runtime does, and that was waited for.
    Unknown,
    /// Nobody has said.
    Open,
}

/// Who said what the container's root is; a later one overrules an earlier one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum RootSource {
    /// The first exec that was seen.
    AnyProcess,
    /// An exec of the first process of its pid namespace.
    FirstProcess,
    /// `/proc` of the container's first process.
    Inspected,
}

/// An exec that waits.
#[derive(Debug)]
pub(super) struct Held {
    pub(super) exec: Box<RawExec>,
    pub(super) arrived_ns: i64,
    /// Its process has executed something in the container before.
    pub(super) was_inside: bool,
    /// The containers that its own lies in, from it outwards.
    pub(super) outer: Vec<ContainerId>,
    /// The container in this one in which it ran, which no runtime knows.
    pub(super) inner: Option<ContainerId>,
    pub(super) is_hashing: bool,
    /// What there was no budget for.
    pub(super) postponed: Option<Box<DigestJob>>,
    pub(super) digest: Option<DigestOutcome>,
}

impl Held {
    pub(super) fn new(exec: Box<RawExec>, now_ns: i64) -> Self {
        Self {
            exec,
            arrived_ns: now_ns,
            was_inside: false,
            outer: Vec::new(),
            inner: None,
            is_hashing: false,
            postponed: None,
            digest: None,
        }
    }

    /// As one of the container around its own.
    pub(super) fn adopted_from(self, inner: &ContainerId) -> Self {
        Self { outer: Vec::new(), inner: Some(inner.clone()), ..self }
    }

    pub(super) fn needs_digest(&self, root: Option<ContainerRoot>, mounts: &Mounts) -> bool {
        let root = root.unwrap_or_else(|| ContainerRoot::of_process(&self.exec));
        let (class, _) = class::class(&self.exec, &root, mounts);
        class::needs_digest(&self.exec, class)
    }

    /// Whether its digest may come when it has gone out.
    pub(super) fn may_be_late(&self) -> bool {
        self.postponed.is_some() || (self.is_hashing && self.digest.is_none())
    }

    /// How its hashing ended; a digest that did not come in time counts as over budget.
    pub(super) fn outcome(&self) -> Option<DigestOutcome> {
        let unfinished = self.is_hashing.then(|| DigestOutcome::of(Digest::OverBudget));
        self.digest.clone().or(unfinished)
    }
}

/// A container.
#[derive(Debug)]
pub(super) struct Tracked {
    pub(super) metadata: Metadata,
    /// Waits for the inspection that completes it.
    pub(super) description: Option<Box<Description>>,
    pub(super) first_heard_ns: i64,
    pub(super) heard_ns: i64,
    pub(super) root: Option<ContainerRoot>,
    pub(super) root_source: RootSource,
    pub(super) init_pid: Option<i32>,
    pub(super) mounts: Mounts,
    pub(super) held: HeldExecs,
    pub(super) budget: Budget,
    pub(super) throttle: Throttle,
    pub(super) last_time_ns: i64,
    pub(super) is_sandbox: bool,
    /// Its cgroup was seen in another container's.
    pub(super) lies_in_another: bool,
    /// When its end was said.
    pub(super) ended_ns: Option<i64>,
    /// That none of its execs can be seen has been said.
    pub(super) is_told_unseen: bool,
}

impl Tracked {
    pub(super) fn new(now_ns: i64) -> Self {
        Self {
            metadata: Metadata::Asked { failures: 0 },
            description: None,
            first_heard_ns: now_ns,
            heard_ns: now_ns,
            root: None,
            root_source: RootSource::AnyProcess,
            init_pid: None,
            mounts: Mounts::default(),
            held: HeldExecs::default(),
            budget: Budget::new(now_ns),
            throttle: Throttle::new(now_ns),
            last_time_ns: 0,
            is_sandbox: false,
            lies_in_another: false,
            ended_ns: None,
            is_told_unseen: false,
        }
    }

    /// Takes the root from an exec when nobody better has said it. Returns the container's first process when this is it,
    /// so that it can be inspected. Processes in the host's pid namespace say nothing: they may be the runtime's.
    pub(super) fn learn_root(&mut self, exec: &RawExec) -> Option<i32> {
        if exec.is_in_host_pid_ns() {
            return None;
        }
        // Only the container's own first process has its parent outside; one made inside has not.
        let is_first = exec.ns_pid == 1 && exec.has_parent_outside() && !exec.is_chrooted();
        let pid = i32::try_from(exec.pid).ok();
        if is_first && self.init_pid.is_some() && self.init_pid != pid {
            self.begin_anew();
        }
        let source = if is_first { RootSource::FirstProcess } else { RootSource::AnyProcess };
        if self.root.is_some() && source <= self.root_source {
            return None;
        }
        self.root = Some(ContainerRoot::of_process(exec));
        self.root_source = source;
        let first = pid.filter(|_| is_first)?;
        self.init_pid = Some(first);
        Some(first)
    }

    /// The container was restarted: another first process, root and mounts. Its runtime is asked again.
    fn begin_anew(&mut self) {
        self.root = None;
        self.root_source = RootSource::AnyProcess;
        self.mounts = Mounts::default();
        self.metadata = Metadata::Unknown { failures: 0, retry_at_ns: 0 };
        self.first_heard_ns = self.heard_ns;
        self.ended_ns = None;
    }

    /// Whether a runtime knows it. Until it was asked and had the time to note a new container, that is open.
    pub(super) fn standing(&self, now_ns: i64) -> Standing {
        let has_waited = now_ns.saturating_sub(self.first_heard_ns) >= limits::DESCRIPTION_WAIT;
        match self.metadata {
            Metadata::Known => Standing::Known,
            Metadata::Asked { failures: 1.. } | Metadata::Unknown { failures: 1.., .. } if has_waited => {
                Standing::Unknown
            }
            Metadata::Asked { .. } | Metadata::Unknown { .. } => Standing::Open,
        }
    }

    /// Takes the first exec, if it need not wait.
    pub(super) fn next_ready(&mut self, now_ns: i64, complete_until_ns: u64, wait: Wait) -> Option<Held> {
        let (moment, held) = self.held.first()?;
        let waited_ns = now_ns.saturating_sub(held.arrived_ns);
        let in_order = moment.time_ns < complete_until_ns || waited_ns >= limits::ORDER_WAIT;
        // What may belong to a container around this one waits longer for an answer. Each restart begins that wait anew.
        let is_open = !held.outer.is_empty() && self.standing(now_ns) == Standing::Open;
        let has_waited = now_ns.saturating_sub(self.first_heard_ns) >= limits::DESCRIPTION_WAIT;
        let described =
            matches!(self.metadata, Metadata::Known) || (has_waited && !is_open) || waited_ns >= limits::DIGEST_WAIT;
        let digested = !held.is_hashing || held.digest.is_some() || waited_ns >= limits::DIGEST_WAIT;
        let must_go = wait == Wait::Over || self.held.bytes() > limits::HELD_BYTES_PER_CONTAINER;
        if must_go || (in_order && described && digested) {
            return self.held.pop_first();
        }
        None
    }

    /// When it ended, once nothing of it can follow: all of its execs have been read and have gone out.
    pub(super) fn over_since(&self, now_ns: i64, complete_until_ns: i64, wait: Wait) -> Option<i64> {
        let ended_ns = self.ended_ns.filter(|_| self.held.is_empty())?;
        let is_read = complete_until_ns >= ended_ns || now_ns.saturating_sub(ended_ns) >= limits::ORDER_WAIT;
        (is_read || wait == Wait::Over).then_some(ended_ns)
    }

    /// Whether anything of it went out that somebody may still keep.
    pub(super) fn is_told(&self) -> bool {
        !self.is_sandbox && (matches!(self.metadata, Metadata::Known) || self.last_time_ns > 0)
    }
}

/// The record of a container.
pub(super) fn record(
    description: Description,
    mounts: Vec<Mount>,
    settings: &NodeSettings,
    now_ns: i64,
) -> ContainerSeen {
    ContainerSeen {
        seen_ns: now_ns,
        node: settings.node.clone(),
        container: description.container,
        mounts,
        attempt: description.attempt,
        annotations: description.annotations,
        runtime_handler: description.runtime_handler,
        unseen: description.is_unseen,
    }
}
