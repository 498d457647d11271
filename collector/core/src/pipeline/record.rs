//! Step 1, record: one reading of the rings becomes execs in the order in which they happened.

use driftline_service_core::Disposition;

use super::input::{Fx, Records};
use super::losses::{Loss, Losses};
use crate::raw::RawExec;

/// The execs of a reading, first those of programs that ran already. There are two rings, and what a process executed first
/// has to be known first: so each part is sorted. Records that could not be decoded are counted as lost.
pub(super) fn read<'a>(
    records: &'a mut Records,
    losses: &mut Losses,
    effects: &mut Fx,
) -> impl Iterator<Item = Box<RawExec>> + use<'a> {
    for _ in 0..records.undecodable {
        effects.settle(Disposition::Dropped("undecodable"));
        losses.add(Loss::Undecodable, 1);
    }
    let mut running = std::mem::take(&mut records.running);
    running.sort_by_key(|exec| exec.moment);
    running.into_iter().chain(records.execs.in_order())
}
