//! The clock of one process: a wall clock that may jump, made monotonic as in `driftline-service`.

/// The clock; see the module.
#[derive(Debug, Default)]
pub(crate) struct SteadyClock {
    last: Option<(i64, i64)>,
}

impl SteadyClock {
    /// The present time, if the wall clock of the node is `ahead_ns` ahead of true time.
    pub(crate) fn now_ns(&mut self, true_ns: i64, ahead_ns: i64) -> i64 {
        let wall_ns = true_ns.saturating_add(ahead_ns);
        let now_ns = self.last.map_or(wall_ns, |(last_ns, last_true_ns)| {
            wall_ns.max(last_ns.saturating_add(true_ns.saturating_sub(last_true_ns)))
        });
        self.last = Some((now_ns, true_ns));
        now_ns
    }
}
