//! How far the rings have been read, and how the kernel's boot clock is converted to the wall clock.

use super::input::Records;
use crate::limits;
use crate::raw::Moment;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct BootClock {
    /// Every exec before this boot time has been read.
    complete_until_ns: u64,
    /// Wall clock minus boot clock; see [`limits::CLOCK_JUMP`].
    offset_ns: Option<i64>,
}

impl BootClock {
    /// Takes over both from a reading of the rings.
    pub(super) fn follow(&mut self, records: &Records) {
        self.complete_until_ns = self.complete_until_ns.max(records.complete_until_ns);
        let jump = limits::CLOCK_JUMP.unsigned_abs();
        let offset_ns = records.boot_offset_ns;
        self.offset_ns = self.offset_ns.filter(|held| held.abs_diff(offset_ns) <= jump).or(Some(offset_ns));
    }

    /// Every exec before this boot time has been read.
    pub(super) fn complete_until_ns(&self) -> u64 {
        self.complete_until_ns
    }

    /// The same on the wall clock.
    pub(super) fn complete_until_wall_ns(&self) -> i64 {
        self.wall(self.complete_until_ns)
    }

    /// Wall clock of an exec.
    pub(super) fn wall_ns(&self, moment: Moment) -> i64 {
        self.wall(moment.time_ns)
    }

    /// Wall clock minus boot clock; 0 before the first reading.
    pub(super) fn offset_ns(&self) -> i64 {
        self.offset_ns.unwrap_or(0)
    }

    fn wall(&self, boot_ns: u64) -> i64 {
        i64::try_from(boot_ns).unwrap_or(i64::MAX).saturating_add(self.offset_ns())
    }
}
