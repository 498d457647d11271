//! Records about containers and about what is missing; the records of execs come from [`super::out`] and [`super::amend`].

use driftline_schemas::{CollectorLoss, ContainerEnded, ContainerId, ContainerSeen, ContainerThrottled, Mount};

use super::input::{Description, NodeSettings};
use super::losses::Loss;
use super::throttle::LeftOut;
use crate::limits;

/// A container that a runtime described.
pub(super) fn seen(
    now_ns: i64,
    description: Description,
    mounts: Vec<Mount>,
    settings: &NodeSettings,
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

/// The end of a container.
pub(super) fn ended(id: &ContainerId, ended_ns: i64, settings: &NodeSettings) -> ContainerEnded {
    ContainerEnded {
        container_id: id.clone(),
        cluster: settings.node.cluster.clone(),
        node: settings.node.name.clone(),
        ended_ns,
    }
}

/// How many execs of a container were left out.
pub(super) fn throttled(
    now_ns: i64,
    id: &ContainerId,
    left_out: LeftOut,
    settings: &NodeSettings,
) -> ContainerThrottled {
    ContainerThrottled {
        container_id: id.clone(),
        node: settings.node.clone(),
        collector_start: settings.collector_start.clone(),
        from_ns: left_out.from_ns,
        to_ns: now_ns,
        ordinary: to_i64(left_out.ordinary),
        folded: to_i64(left_out.folded),
        files: to_i64(left_out.files),
        examples: left_out.examples,
    }
}

/// How many execs were lost for a reason since `from_ns`.
pub(super) fn lost(now_ns: i64, from_ns: i64, (loss, count): (Loss, u64), settings: &NodeSettings) -> CollectorLoss {
    CollectorLoss {
        node: settings.node.clone(),
        collector_start: settings.collector_start.clone(),
        from_ns,
        to_ns: now_ns,
        lost: Some(to_i64(count)),
        reason: loss.reason().to_owned(),
    }
}

/// The collector sees no exec of this container, because of what runs it. The reason has the container's id, so that the
/// losses of two containers that are described in the same moment differ.
pub(super) fn unseen(now_ns: i64, seen: &ContainerSeen, settings: &NodeSettings) -> CollectorLoss {
    let cut = |text: &str, length: usize| text.get(..text.floor_char_boundary(length)).unwrap_or(text).to_owned();
    let handler = cut(&seen.runtime_handler, limits::HANDLER_BYTES);
    let container = cut(seen.container.id.as_str(), limits::SHORT_ID_BYTES);
    CollectorLoss {
        node: settings.node.clone(),
        collector_start: settings.collector_start.clone(),
        from_ns: now_ns,
        to_ns: now_ns,
        lost: None,
        reason: format!("unseen container {container} run by {handler}"),
    }
}

fn to_i64(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}
