//! What the shell gives to the pipeline, and what the pipeline commands the shell to do.

use driftline_schemas::{Container, ContainerId, Mount};
use driftline_service_core::Effects;
use std::collections::BTreeMap;

use super::losses::Loss;
use crate::container_root::ContainerRoot;
use crate::digest::{DigestJob, DigestOutcome};
use crate::mounts::KernelMount;
use crate::raw::{KnownFile, Moment, Packed, RawExec};
use crate::redaction::Redaction;

/// What does not change while a collector runs.
#[derive(Debug, Clone)]
pub struct NodeSettings {
    /// Node, cluster and cloud names.
    pub node: driftline_schemas::Node,
    /// Kernel boot id.
    pub boot_id: String,
    /// Id of this run.
    pub collector_start: String,
    /// The host's mount namespace; 0 when it cannot be read.
    pub host_mnt_ns: u32,
    /// What must not leave the node in arguments.
    pub redaction: Redaction,
}

/// A container as its runtime describes it.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Description {
    /// Names, image, pod.
    pub container: Container,
    /// Mounts as the runtime names them.
    pub mounts: Vec<Mount>,
    /// First process on the host.
    pub init_pid: Option<i32>,
    /// The container ran and does not run any more; no event will report its end.
    pub has_ended: bool,
    /// A pod's sandbox (pause), not a container.
    pub is_sandbox: bool,
    /// How often it was restarted in its pod.
    pub attempt: i32,
    /// Annotations of its pod that the settings allow to be reported.
    pub annotations: BTreeMap<String, String>,
    /// Name of the runtime handler that runs it.
    pub runtime_handler: String,
    /// Its programs run on another kernel: the collector sees none of its execs.
    pub is_unseen: bool,
}

/// Where the node is, as its cluster reports. Empty is unknown.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Placement {
    /// The cloud provider's id of the node.
    pub provider_id: String,
    /// The node's zone.
    pub zone: String,
}

/// What `/proc` shows of a container's first process.
#[derive(Debug, Clone, PartialEq)]
pub struct Inspection {
    /// The container's root.
    pub root: ContainerRoot,
    /// Its mounts, as the kernel names them.
    pub mounts: Vec<KernelMount>,
}

/// Everything that can happen to a node.
#[derive(Debug)]
pub enum Input {
    /// What was in the rings.
    Records(Records),
    /// A runtime's answer; `None`: no runtime knows the container, or none answered.
    Described(ContainerId, Option<Box<Description>>),
    /// What the first process shows; `None`: it is gone, or its process id belongs to something else by now.
    Inspected(ContainerId, Option<Box<Inspection>>),
    /// The outcome of a digest job.
    Digested(ContainerId, Moment, DigestOutcome),
    /// The queue of files to hash is full; the pipeline commands this job again later.
    NotHashed(Box<DigestJob>),
    /// All running containers: at start, and hourly.
    Running(Vec<Description>),
    /// The first process of a container is gone, or its runtime does not run it any more. The rings may still hold what it
    /// executed up to now.
    Ended(ContainerId),
    /// Execs were lost since the last input of this kind.
    Lost(Loss, u64),
    /// Records about containers were lost after the pipeline had emitted them.
    ContainersLost,
    /// The cluster reports where the node is.
    Placed(Placement),
    /// Time has passed.
    Tick,
    /// The collector stops: nothing more will be read, and no exec waits any longer.
    Stop,
}

/// One reading of both rings.
#[derive(Debug, Default)]
pub struct Records {
    /// Programs that ran already when the collector started, in any order.
    pub running: Vec<Box<RawExec>>,
    /// What was in the rings, in any order.
    pub execs: Packed,
    /// Records that could not be decoded.
    pub undecodable: u64,
    /// Every exec before this boot time has been read.
    pub complete_until_ns: u64,
    /// Wall clock minus boot clock.
    pub boot_offset_ns: i64,
}

impl Records {
    /// [`Self::complete_until_ns`] on the wall clock.
    #[must_use]
    pub fn complete_until(&self) -> i64 {
        i64::try_from(self.complete_until_ns).unwrap_or(i64::MAX).saturating_add(self.boot_offset_ns)
    }
}

/// What the shell must do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PipelineCommand {
    /// Describe this container from the runtimes; answer with [`Input::Described`].
    Describe(ContainerId),
    /// Hash a file; answer with [`Input::Digested`], or with [`Input::NotHashed`] when the queue is full.
    Hash(Box<DigestJob>),
    /// Read root and mounts of this container's first process; answer with [`Input::Inspected`], and send [`Input::Ended`]
    /// when the process is gone.
    Inspect(ContainerId, i32),
    /// The digest of this exec is commanded later: retain its captured file, if there is room.
    Retain(ContainerId, Moment),
    /// The digest of this exec is never commanded: release its captured file.
    Release(Moment),
    /// The digest of this file is remembered: the kernel program need not wake the reader for its execs.
    MarkKnown(KnownFile),
    /// The mount namespace with this [`RawExec::mnt_ns_id`] is no container's: until that boot time the kernel program need not record execs there that are
    /// in no container's cgroup.
    Ignore(u64, u64),
}

/// What an input causes.
pub(super) type Fx = Effects<PipelineCommand>;
