//! The limits of a collector's records, field by field. What keeps them leads to a finding of some 100 KiB at most:
//! escaped and in base64 a path or argument vector is at most six times as long as its bytes.

use super::{
    CollectorLoss, Container, ContainerEnded, ContainerSeen, ContainerThrottled, Exec, ExecEvent, Mount, Node,
};
use crate::codec::DecodeError;
use crate::limits::{
    ANCESTORS_MAX, ARGS_BYTES_MAX, ENVIRONMENT_NAMES_MAX, FDS_MAX, FOLDED_EXAMPLES_MAX, ID_BYTES_MAX, LABELS_BYTES_MAX,
    MOUNTS_MAX, PATH_BYTES_MAX, TEXT_BYTES_MAX,
};

/// A record's name, to say whose field is over its limit.
#[derive(Clone, Copy)]
struct Of(&'static str);

impl Of {
    fn at_most(self, limit: usize, fields: &[(&'static str, usize)]) -> Result<(), DecodeError> {
        let over = fields.iter().find(|(_, length)| *length > limit);
        over.map_or(Ok(()), |(field, _)| Err(DecodeError::OverLimit { record: self.0, field, limit }))
    }
}

pub(super) fn check(event: &ExecEvent) -> Result<(), DecodeError> {
    match event {
        ExecEvent::Exec(exec) => check_exec(exec),
        ExecEvent::Seen(seen) => check_seen(seen),
        ExecEvent::Ended(ended) => check_ended(ended),
        ExecEvent::Loss(loss) => check_loss(loss),
        ExecEvent::Throttled(throttled) => check_throttled(throttled),
    }
}

fn check_exec(exec: &Exec) -> Result<(), DecodeError> {
    let of = Of("Exec");
    let args = exec.args.iter().map(|arg| arg.len() + 1).sum();
    of.at_most(ARGS_BYTES_MAX + 1, &[("args", args)])?;
    of.at_most(
        PATH_BYTES_MAX,
        &[
            ("path", exec.path.len()),
            ("typed_path", exec.typed_path.len()),
            ("script", exec.script.as_ref().map_or(0, Vec::len)),
            ("loaded", exec.loaded.as_ref().map_or(0, Vec::len)),
            ("cwd", exec.cwd.len()),
        ],
    )?;
    of.at_most(
        ID_BYTES_MAX,
        &[
            ("event_id", exec.event_id.as_str().len()),
            ("container_id", exec.container_id.as_str().len()),
            ("inner_container_id", exec.inner_container_id.as_ref().map_or(0, |id| id.as_str().len())),
            ("boot_id", exec.boot_id.len()),
            ("collector_start", exec.collector_start.len()),
            ("parent_comm", exec.parent_comm.len()),
            ("tty", exec.tty.as_ref().map_or(0, String::len)),
        ],
    )?;
    of.at_most(TEXT_BYTES_MAX, &[("cluster", exec.cluster.len()), ("node", exec.node.len())])?;
    check_surroundings(of, exec)?;
    let of_loader = exec.loader.as_ref().and_then(|loader| loader.mount.as_ref());
    exec.mount.iter().chain(of_loader).try_for_each(|mount| check_mount(of, mount))
}

/// What a record says beside the program itself.
fn check_surroundings(of: Of, exec: &Exec) -> Result<(), DecodeError> {
    of.at_most(FDS_MAX, &[("fds", exec.fds.len())])?;
    of.at_most(ANCESTORS_MAX, &[("ancestors", exec.ancestors.len())])?;
    of.at_most(ENVIRONMENT_NAMES_MAX, &[("environment", exec.environment.len())])?;
    let longest = |lengths: &mut dyn Iterator<Item = usize>| lengths.max().unwrap_or(0);
    of.at_most(
        ID_BYTES_MAX,
        &[
            ("environment", longest(&mut exec.environment.iter().map(String::len))),
            ("fds.peer", longest(&mut exec.fds.iter().map(|fd| fd.peer.as_ref().map_or(0, String::len)))),
            ("ancestors.comm", longest(&mut exec.ancestors.iter().map(|ancestor| ancestor.comm.len()))),
        ],
    )?;
    let path = longest(&mut exec.ancestors.iter().map(|ancestor| ancestor.path.as_ref().map_or(0, Vec::len)));
    of.at_most(PATH_BYTES_MAX, &[("ancestors.path", path)])
}

fn check_seen(seen: &ContainerSeen) -> Result<(), DecodeError> {
    let of = Of("ContainerSeen");
    check_node(of, &seen.node)?;
    check_container(of, &seen.container)?;
    of.at_most(MOUNTS_MAX, &[("mounts", seen.mounts.len())])?;
    let annotations = seen.annotations.iter().map(|(name, value)| name.len() + value.len()).sum();
    of.at_most(LABELS_BYTES_MAX, &[("annotations", annotations)])?;
    of.at_most(TEXT_BYTES_MAX, &[("runtime_handler", seen.runtime_handler.len())])?;
    seen.mounts.iter().try_for_each(|mount| check_mount(of, mount))
}

fn check_ended(ended: &ContainerEnded) -> Result<(), DecodeError> {
    let of = Of("ContainerEnded");
    of.at_most(ID_BYTES_MAX, &[("container_id", ended.container_id.as_str().len())])
}

fn check_loss(loss: &CollectorLoss) -> Result<(), DecodeError> {
    let of = Of("CollectorLoss");
    check_node(of, &loss.node)?;
    of.at_most(ID_BYTES_MAX, &[("collector_start", loss.collector_start.len()), ("reason", loss.reason.len())])
}

fn check_throttled(throttled: &ContainerThrottled) -> Result<(), DecodeError> {
    let of = Of("ContainerThrottled");
    check_node(of, &throttled.node)?;
    of.at_most(
        ID_BYTES_MAX,
        &[
            ("container_id", throttled.container_id.as_str().len()),
            ("collector_start", throttled.collector_start.len()),
        ],
    )?;
    of.at_most(FOLDED_EXAMPLES_MAX, &[("examples", throttled.examples.len())])?;
    throttled.examples.iter().try_for_each(|file| of.at_most(PATH_BYTES_MAX, &[("examples.path", file.path.len())]))
}

fn check_node(of: Of, node: &Node) -> Result<(), DecodeError> {
    of.at_most(
        TEXT_BYTES_MAX,
        &[
            ("node.cluster", node.cluster.len()),
            ("node.name", node.name.len()),
            ("node.provider_id", node.provider_id.len()),
            ("node.zone", node.zone.len()),
            ("node.project", node.project.len()),
            ("node.location", node.location.len()),
        ],
    )
}

fn check_container(of: Of, container: &Container) -> Result<(), DecodeError> {
    of.at_most(
        ID_BYTES_MAX,
        &[
            ("container.id", container.id.as_str().len()),
            ("container.image_id", container.image_id.as_str().len()),
            ("container.host_namespaces", container.host_namespaces.len()),
        ],
    )?;
    of.at_most(
        TEXT_BYTES_MAX,
        &[
            ("container.name", container.name.len()),
            ("container.runtime", container.runtime.len()),
            ("container.image_ref", container.image_ref.len()),
            ("container.image_id_source", container.image_id_source.len()),
            ("container.service_account", container.service_account.len()),
            ("container.rootfs", container.rootfs.len()),
            ("container.host_namespaces", container.host_namespaces.iter().map(String::len).sum()),
            ("container.owner", container.owner.as_ref().map_or(0, |owner| owner.kind.len() + owner.name.len())),
        ],
    )?;
    let Some(pod) = &container.pod else { return Ok(()) };
    of.at_most(
        TEXT_BYTES_MAX,
        &[("pod.namespace", pod.namespace.len()), ("pod.name", pod.name.len()), ("pod.uid", pod.uid.len())],
    )?;
    let labels = pod.labels.iter().map(|(name, value)| name.len() + value.len()).sum();
    of.at_most(LABELS_BYTES_MAX, &[("pod.labels", labels)])
}

fn check_mount(of: Of, mount: &Mount) -> Result<(), DecodeError> {
    of.at_most(
        PATH_BYTES_MAX,
        &[
            ("mount.point", mount.point.len()),
            ("mount.source", mount.source.len()),
            ("mount.fs_type", mount.fs_type.len()),
        ],
    )
}
