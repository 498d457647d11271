//! The moment until which every exec is safe: acknowledged, on the disk, or counted as lost.

use crate::limits;

/// Follows one moment at a time from "everything until then has been read" over "has been emitted" to "is safe". A moment
/// takes at most [`limits::EMITTED_AFTER`] and the time to its acknowledgement; the answer lags behind the clock by as much.
#[derive(Debug, Default)]
pub struct SafeMoment {
    safe_ns: i64,
    stage: Stage,
}

#[derive(Debug, Default)]
enum Stage {
    /// Nothing is followed.
    #[default]
    Idle,
    /// Read until `moment_ns`, when it was `at_ns`; of that some may still wait in the core.
    Read { moment_ns: i64, at_ns: i64 },
    /// Emitted until `moment_ns`, in records up to `sequence`.
    Emitted { moment_ns: i64, sequence: u64 },
}

/// The state of reading, emitting and acknowledging.
#[derive(Debug, Clone, Copy)]
pub struct Progress {
    /// Every exec until this moment has been given to the core, nanoseconds since 1970.
    pub read_ns: i64,
    /// Execs that wait in the core.
    pub held: usize,
    /// Highest sequence number given out.
    pub emitted: u64,
    /// Records up to this sequence number are acknowledged, on the disk, or counted as lost.
    pub safe: u64,
}

impl SafeMoment {
    /// Everything until `safe_ns` is safe.
    #[must_use]
    pub fn at(safe_ns: i64) -> Self {
        Self { safe_ns, stage: Stage::Idle }
    }

    /// The moment; 0 when none is known.
    #[must_use]
    pub fn safe_ns(&self) -> i64 {
        self.safe_ns
    }

    /// Takes the present state.
    pub fn advance(&mut self, now_ns: i64, progress: Progress) {
        if let Stage::Idle = self.stage
            && progress.read_ns > self.safe_ns
        {
            self.stage = Stage::Read { moment_ns: progress.read_ns, at_ns: now_ns };
        }
        if let Stage::Read { moment_ns, at_ns } = self.stage
            && (progress.held == 0 || now_ns.saturating_sub(at_ns) >= limits::EMITTED_AFTER)
        {
            self.stage = Stage::Emitted { moment_ns, sequence: progress.emitted };
        }
        if let Stage::Emitted { moment_ns, sequence } = self.stage
            && sequence <= progress.safe
        {
            self.safe_ns = self.safe_ns.max(moment_ns);
            self.stage = Stage::Idle;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_moment_is_safe_when_what_was_read_until_then_is() {
        let mut moment = SafeMoment::default();
        let at = |read_ns, held, emitted, safe| Progress { read_ns, held, emitted, safe };
        moment.advance(1_000, at(900, 2, 10, 10));
        assert_eq!(moment.safe_ns(), 0, "two of them wait in the core");
        moment.advance(1_001, at(950, 0, 12, 10));
        assert_eq!(moment.safe_ns(), 0, "they have been emitted, no more");
        moment.advance(1_002, at(960, 0, 20, 11));
        assert_eq!(moment.safe_ns(), 0);
        moment.advance(1_003, at(970, 0, 30, 12));
        assert_eq!(moment.safe_ns(), 900, "what came after does not matter");
    }

    #[test]
    fn what_waits_in_the_core_all_the_time_does_not_stop_it() {
        let mut moment = SafeMoment::default();
        let busy = Progress { read_ns: 900, held: 5, emitted: 7, safe: 7 };
        moment.advance(1_000, busy);
        moment.advance(999 + limits::EMITTED_AFTER, busy);
        assert_eq!(moment.safe_ns(), 0);
        moment.advance(1_000 + limits::EMITTED_AFTER, busy);
        assert_eq!(moment.safe_ns(), 900);
    }
}
