//! State of one container: what its runtime and its execs showed of it, its queue of execs, its shares.

use driftline_schemas::ContainerSeen;

use super::input::{Description, Inspection, NodeSettings};
use super::membership::{Namespaces, Sign};
use super::queue::ExecQueue;
use super::reports;
use super::throttle::Throttle;
use crate::container_root::ContainerRoot;
use crate::digest::{Budget, View};
use crate::limits;
use crate::mounts::Mounts;
use crate::raw::RawExec;

/// Whether an exec may wait for anything.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wait {
    Allowed,
    /// The collector stops, or the container's state is evicted.
    Over,
}

/// What is known of a container from its runtime.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Metadata {
    Described,
    /// A description was commanded; so many commands failed before.
    Requested {
        failures: u32,
    },
    /// The next description is commanded at that time.
    Unknown {
        failures: u32,
        retry_at_ns: i64,
    },
}

/// Whether a container's runtime knows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Standing {
    Known,
    /// No runtime does, and a new container has had the time to become known.
    Unknown,
    /// No runtime has answered yet.
    Open,
}

/// Where the container's root is known from; a later source overrules an earlier one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum RootSource {
    /// The first exec that was seen.
    AnyProcess,
    /// An exec of the first process of its pid namespace.
    FirstProcess,
    /// `/proc` of the container's first process.
    Inspected,
}

/// See the module.
#[derive(Debug)]
pub(super) struct ContainerState {
    metadata: Metadata,
    /// Waits for the inspection that completes it.
    description: Option<Box<Description>>,
    /// When the container was seen first, or restarted.
    first_heard_ns: i64,
    pub(super) heard_ns: i64,
    pub(super) root: Option<ContainerRoot>,
    root_source: RootSource,
    init_pid: Option<i32>,
    namespaces: Namespaces,
    pub(super) mounts: Mounts,
    /// The queue: execs that wait, in the order in which they happened.
    pub(super) held: ExecQueue,
    pub(super) budget: Budget,
    pub(super) throttle: Throttle,
    /// The time of the last exec that went out.
    last_time_ns: i64,
    pub(super) is_sandbox: bool,
    /// Its cgroup was seen in another container's.
    pub(super) lies_in_another: bool,
    /// A process in another container has given its cgroup this name; no runtime knows it.
    pub(super) is_made_inside: bool,
    /// When its end was reported to the pipeline.
    ended_ns: Option<i64>,
    /// A record has reported that none of its execs can be seen.
    is_reported_unseen: bool,
}

impl ContainerState {
    pub(super) fn new(now_ns: i64) -> Self {
        Self {
            metadata: Metadata::Requested { failures: 0 },
            description: None,
            first_heard_ns: now_ns,
            heard_ns: now_ns,
            root: None,
            root_source: RootSource::AnyProcess,
            init_pid: None,
            namespaces: Namespaces::default(),
            mounts: Mounts::default(),
            held: ExecQueue::default(),
            budget: Budget::new(now_ns),
            throttle: Throttle::new(now_ns),
            last_time_ns: 0,
            is_sandbox: false,
            lies_in_another: false,
            is_made_inside: false,
            ended_ns: None,
            is_reported_unseen: false,
        }
    }

    /// Takes from an exec in its cgroup its root, and what else shows that a process is in it. Returns what
    /// [`Self::learn_root`] does.
    pub(super) fn learn(&mut self, exec: &RawExec, host_mnt_ns: u32) -> Option<i32> {
        let first = self.learn_root(exec);
        self.namespaces.learn(exec, host_mnt_ns);
        first
    }

    /// What shows that a process outside of its cgroup is in it.
    pub(super) fn sign(&self, exec: &RawExec) -> Option<Sign> {
        self.namespaces.sign(exec, self.root.as_ref())
    }

    /// Takes the root from an exec when no better source has shown it. Returns the container's first process when the exec
    /// is of it, so that it can be inspected. Processes in the host's pid namespace prove nothing: they may be the runtime's.
    fn learn_root(&mut self, exec: &RawExec) -> Option<i32> {
        if exec.is_in_host_pid_ns() {
            return None;
        }
        let pid = i32::try_from(exec.pid).ok();
        // A process in the container can make a pid namespace, and in it be process 1 with a parent outside of that. What a
        // runtime of the node starts is in a pid namespace of the host's, and below no program of the container; or the
        // runtime reports it.
        let is_made_inside = exec.is_in_nested_pid_ns() || self.root.is_some_and(|root| root.is_of_an_ancestor(exec));
        let may_be_first = !is_made_inside || self.init_pid == pid;
        let is_first = exec.ns_pid == 1 && exec.has_parent_outside() && !exec.is_chrooted() && may_be_first;
        if is_first && self.init_pid.is_some() && self.init_pid != pid {
            self.restart();
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

    /// The container was restarted: it has another first process, root and mounts, and needs another description.
    fn restart(&mut self) {
        self.root = None;
        self.root_source = RootSource::AnyProcess;
        self.mounts = Mounts::default();
        self.namespaces = Namespaces::default();
        self.metadata = Metadata::Unknown { failures: 0, retry_at_ns: 0 };
        self.first_heard_ns = self.heard_ns;
        self.ended_ns = None;
    }

    /// Takes a runtime's description. Returns the container's first process when that is new, so that it can be inspected.
    pub(super) fn describe(&mut self, now_ns: i64, description: Description) -> Option<i32> {
        self.heard_ns = now_ns;
        self.is_sandbox = description.is_sandbox;
        if description.has_ended {
            self.end(now_ns);
        }
        let first_process = description.init_pid.filter(|pid| self.init_pid != Some(*pid));
        self.description = Some(Box::new(description));
        self.init_pid = first_process.or(self.init_pid);
        first_process
    }

    /// Takes what the first process shows.
    pub(super) fn inspected(&mut self, inspection: Inspection) {
        self.root = Some(inspection.root);
        self.root_source = RootSource::Inspected;
        self.mounts = Mounts::of_kernel(inspection.mounts);
    }

    /// The container's record, once for each description. A sandbox has none.
    pub(super) fn take_record(&mut self, now_ns: i64, settings: &NodeSettings) -> Option<ContainerSeen> {
        let description = self.description.take()?;
        self.mounts.name(&description.mounts);
        self.metadata = Metadata::Described;
        self.is_made_inside = false;
        let is_container = !description.is_sandbox;
        is_container.then(|| reports::seen(now_ns, *description, self.mounts.as_slice().to_vec(), settings))
    }

    /// Whether it has to be reported that none of the container's execs can be seen: once.
    pub(super) fn is_newly_unseen(&mut self, seen: &ContainerSeen) -> bool {
        seen.unseen && !std::mem::replace(&mut self.is_reported_unseen, true)
    }

    /// No runtime answered, or none knows the container. The pause before the next command doubles each time.
    pub(super) fn description_failed(&mut self, now_ns: i64) {
        if let Metadata::Requested { failures } = self.metadata {
            let pause = limits::DESCRIBE_RETRY.saturating_mul(1_i64.checked_shl(failures).unwrap_or(i64::MAX));
            let retry_at_ns = now_ns.saturating_add(pause.clamp(limits::DESCRIBE_RETRY, limits::DESCRIBE_RETRY_MAX));
            self.metadata = Metadata::Unknown { failures: failures.saturating_add(1).min(30), retry_at_ns };
        }
    }

    /// Whether another description is due; then it counts as commanded.
    pub(super) fn retry_description(&mut self, now_ns: i64) -> bool {
        match self.metadata {
            Metadata::Unknown { failures, retry_at_ns } if retry_at_ns <= now_ns => {
                self.metadata = Metadata::Requested { failures };
                true
            }
            _ => false,
        }
    }

    pub(super) fn is_described(&self) -> bool {
        self.metadata == Metadata::Described
    }

    /// Whether its runtime has had the time to describe it.
    pub(super) fn has_waited_for_description(&self, now_ns: i64) -> bool {
        now_ns.saturating_sub(self.first_heard_ns) >= limits::DESCRIPTION_WAIT
    }

    /// Whether a runtime knows it. Until a runtime has answered and had the time to register a new container, that is open.
    pub(super) fn standing(&self, now_ns: i64) -> Standing {
        match self.metadata {
            Metadata::Described => Standing::Known,
            Metadata::Requested { failures: 1.. } | Metadata::Unknown { failures: 1.., .. }
                if self.has_waited_for_description(now_ns) =>
            {
                Standing::Unknown
            }
            Metadata::Requested { .. } | Metadata::Unknown { .. } => Standing::Open,
        }
    }

    /// The root by which an exec is judged: its own process's while nothing better is known.
    pub(super) fn root_of(&self, exec: &RawExec) -> ContainerRoot {
        self.root.unwrap_or_else(|| ContainerRoot::of_process(exec))
    }

    /// How its files can be reached.
    pub(super) fn view(&self) -> View<'_> {
        View { init_pid: self.init_pid, root: self.root, mounts: &self.mounts }
    }

    /// Its first process, if an exec has the root directory and mounts of it.
    pub(super) fn first_process_of(&self, exec: &RawExec) -> Option<u32> {
        let is_its_root = self.root?.mount_ns == exec.mnt_ns && !exec.is_chrooted();
        self.init_pid.filter(|_| is_its_root).and_then(|pid| u32::try_from(pid).ok())
    }

    /// The time of an exec that happened at `wall_ns`: never before that of one which went out earlier.
    pub(super) fn follow_time(&mut self, wall_ns: i64) -> i64 {
        self.last_time_ns = self.last_time_ns.max(wall_ns);
        self.last_time_ns
    }

    /// The container has ended; the first report counts.
    pub(super) fn end(&mut self, now_ns: i64) {
        self.ended_ns.get_or_insert(now_ns);
    }

    pub(super) fn has_ended(&self) -> bool {
        self.ended_ns.is_some()
    }

    /// Whether an exec or the end of the container waits to go out.
    pub(super) fn is_waiting(&self) -> bool {
        !self.held.is_empty() || self.ended_ns.is_some()
    }

    /// When the container ended, once nothing of it can follow: all of its execs have been read and have gone out.
    pub(super) fn over_since(&self, now_ns: i64, complete_until_wall_ns: i64, wait: Wait) -> Option<i64> {
        let ended_ns = self.ended_ns.filter(|_| self.held.is_empty())?;
        let is_read = complete_until_wall_ns >= ended_ns || now_ns.saturating_sub(ended_ns) >= limits::ORDER_WAIT;
        (is_read || wait == Wait::Over).then_some(ended_ns)
    }

    /// Whether a record of it went out, so that consumers may hold state of it.
    pub(super) fn is_reported(&self) -> bool {
        !self.is_sandbox && (self.is_described() || self.last_time_ns > 0)
    }

    /// Whether its state can be dropped: its end is not watched for, and the last input about it is long ago.
    pub(super) fn is_idle(&self, now_ns: i64) -> bool {
        let silent_ns = now_ns.saturating_sub(self.heard_ns);
        self.init_pid.is_none() && self.held.is_empty() && silent_ns > limits::IDLE
    }
}
