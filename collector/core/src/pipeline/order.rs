//! Step 5, order: the execs of a container leave in the order of their [`Moment`](crate::raw::Moment), each when it need not
//! wait any more.

use super::container_state::{ContainerState, Standing, Wait};
use super::held::HeldExec;
use crate::limits;

/// Takes the first exec of a container out of its queue, if it need not wait.
pub(super) fn next_ready(
    now_ns: i64,
    container: &mut ContainerState,
    complete_until_ns: u64,
    wait: Wait,
) -> Option<HeldExec> {
    let (moment, held) = container.held.first()?;
    let waited_ns = now_ns.saturating_sub(held.arrived_ns);
    let in_order = moment.time_ns < complete_until_ns || waited_ns >= limits::ORDER_WAIT;
    // What may belong to a container around this one waits longer for an answer. Each restart begins that wait again.
    let is_open = !held.outer.is_empty() && container.standing(now_ns) == Standing::Open;
    let described = container.is_described()
        || (container.has_waited_for_description(now_ns) && !is_open)
        || waited_ns >= limits::DIGEST_WAIT;
    let digested = !held.is_hashing || held.digest.is_some() || waited_ns >= limits::DIGEST_WAIT;
    let must_go = wait == Wait::Over || container.held.bytes() > limits::HELD_BYTES_PER_CONTAINER;
    if must_go || (in_order && described && digested) {
        return container.held.pop_first();
    }
    None
}
