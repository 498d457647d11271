//! The faults of a seed, in order. Pure. Called by [`super::rig`].

use serde::{Deserialize, Serialize};

/// The two services.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Role {
    /// Exec-events to findings.
    Enricher,
    /// Findings to alerts.
    Correlator,
}

impl Role {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Enricher => "enricher",
            Self::Correlator => "correlator",
        }
    }

    /// The node of an instance; brokers are nodes 1 to 3.
    pub(super) fn node(self, number: u8) -> u8 {
        match self {
            Self::Enricher => 10 + number,
            Self::Correlator => 20 + number,
        }
    }
}

/// A batch to be run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Task {
    /// Seed of its plan.
    pub seed: u64,
    /// Faults of the plan: another number gives another plan.
    pub planned: usize,
    /// Number of faults that are injected, from the first on.
    pub faults: usize,
}

/// What is done to the system.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// SIGKILL of an enricher.
    KillEnricher,
    /// SIGKILL of a correlator.
    KillCorrelator,
    /// SIGTERM of a service.
    EndService,
    /// One instance more, or one less again.
    Scale,
    /// SIGSTOP of a service for less than any limit.
    FreezeServiceShort,
    /// SIGSTOP of a service beyond every limit.
    FreezeServiceLong,
    /// A service reaches its memory limit.
    MemoryLimit,
    /// The network of a service is cut.
    CutService,
    /// SIGKILL of some broker.
    KillBroker,
    /// SIGKILL of the broker that coordinates a service's transactions.
    KillTransactionCoordinator,
    /// SIGKILL of the broker that coordinates a service's group.
    KillGroupCoordinator,
    /// SIGSTOP of a broker for less than any limit.
    FreezeBrokerShort,
    /// SIGSTOP of a broker for longer than the others wait for it.
    FreezeBrokerLong,
    /// A broker's network is cut.
    CutBroker,
    /// A broker's disk is full.
    DiskFull,
    /// Brokers end and start again one after the other.
    RollingRestart,
    /// All brokers are gone, killed or frozen, for a while.
    AllAway,
}

/// Every kind, and its share of a hundred faults, chosen so that a fault takes ten seconds on average.
pub(super) const DECK: [(Kind, usize); 17] = [
    (Kind::KillEnricher, 14),
    (Kind::KillCorrelator, 17),
    (Kind::EndService, 10),
    (Kind::Scale, 10),
    (Kind::FreezeServiceShort, 7),
    (Kind::FreezeServiceLong, 4),
    (Kind::MemoryLimit, 4),
    (Kind::CutService, 4),
    (Kind::KillBroker, 4),
    (Kind::KillTransactionCoordinator, 4),
    (Kind::KillGroupCoordinator, 4),
    (Kind::FreezeBrokerShort, 6),
    (Kind::FreezeBrokerLong, 3),
    (Kind::CutBroker, 4),
    (Kind::DiskFull, 2),
    (Kind::RollingRestart, 1),
    (Kind::AllAway, 2),
];

/// A smaller number of faults than this is drawn as a hand: see [`hand`].
const FEW: usize = 50;
/// In a hand, one fault of this many takes long: five of twenty, so that twenty take less than four minutes.
const LONG_EVERY: usize = 4;

impl Kind {
    /// Whether it takes a broker down, so that the cluster has to be in sync before it.
    pub(super) fn is_of_brokers(self) -> bool {
        self >= Self::KillBroker
    }

    /// Whether it takes more than a few seconds.
    fn is_long(self) -> bool {
        matches!(self, Self::FreezeServiceLong | Self::CutService)
            || self.is_of_brokers() && self != Self::FreezeBrokerShort
    }

    /// The name in the report.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::KillEnricher => "kill-enricher",
            Self::KillCorrelator => "kill-correlator",
            Self::EndService => "end-service",
            Self::Scale => "scale",
            Self::FreezeServiceShort => "freeze-service-short",
            Self::FreezeServiceLong => "freeze-service-long",
            Self::MemoryLimit => "memory-limit",
            Self::CutService => "cut-service",
            Self::KillBroker => "kill-broker",
            Self::KillTransactionCoordinator => "kill-transaction-coordinator",
            Self::KillGroupCoordinator => "kill-group-coordinator",
            Self::FreezeBrokerShort => "freeze-broker-short",
            Self::FreezeBrokerLong => "freeze-broker-long",
            Self::CutBroker => "cut-broker",
            Self::DiskFull => "disk-full",
            Self::RollingRestart => "rolling-restart",
            Self::AllAway => "all-away",
        }
    }
}

/// One fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Fault {
    /// The kind of fault.
    pub kind: Kind,
    /// A random number for all other choices of the fault.
    pub draw: u64,
    /// A service to be killed during the fault.
    pub also: Option<u64>,
}

/// The faults of a seed; only of these kinds, if any are given.
pub(super) fn plan(seed: u64, count: usize, only: &[Kind]) -> Vec<Fault> {
    let mut rng = Rng(seed);
    let mut kinds = Vec::new();
    while kinds.len() < count {
        let mut dealt = match only {
            [] if count < FEW => hand(&mut rng, count),
            [] => deck(count.min(DECK_SIZE)),
            only => only.to_vec(),
        };
        rng.shuffle(&mut dealt);
        kinds.append(&mut dealt);
    }
    kinds.truncate(count);
    let mut fault = |kind: Kind| {
        // A service is killed during a quarter of the broker faults, and whenever another service is frozen for long.
        let overlaps = kind == Kind::FreezeServiceLong || kind.is_of_brokers() && rng.below(4) == 0;
        Fault { kind, draw: rng.next(), also: overlaps.then(|| rng.next()) }
    };
    kinds.into_iter().map(&mut fault).collect()
}

const DECK_SIZE: usize = 100;

/// The deck, or a smaller one with the same proportions and at least one fault of each kind.
fn deck(size: usize) -> Vec<Kind> {
    let times = |of_deck: usize| (of_deck * size).div_ceil(DECK_SIZE);
    DECK.iter().flat_map(|(kind, of_deck)| std::iter::repeat_n(*kind, times(*of_deck))).collect()
}

/// A few faults, some of which take long. The seed decides their kinds: many small runs together have all kinds.
fn hand(rng: &mut Rng, count: usize) -> Vec<Kind> {
    let (mut long, mut short): (Vec<Kind>, Vec<Kind>) =
        DECK.iter().map(|(kind, _)| *kind).partition(|kind| kind.is_long());
    rng.shuffle(&mut long);
    rng.shuffle(&mut short);
    let longs = count.div_ceil(LONG_EVERY);
    let mut hand: Vec<Kind> = long.into_iter().cycle().take(longs).collect();
    hand.extend(short.into_iter().cycle().take(count.saturating_sub(longs)));
    hand
}

/// Random numbers: splitmix64.
#[derive(Debug, Clone)]
struct Rng(u64);

impl Rng {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, count: usize) -> usize {
        self.next().checked_rem(count as u64).and_then(|drawn| usize::try_from(drawn).ok()).unwrap_or(0)
    }

    fn shuffle<T>(&mut self, items: &mut [T]) {
        for at in (1..items.len()).rev() {
            items.swap(at, self.below(at + 1));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn a_seed_decides_everything_and_a_hundred_faults_hold_every_kind() {
        assert_eq!(plan(7, 100, &[]), plan(7, 100, &[]));
        assert_ne!(plan(7, 100, &[]), plan(8, 100, &[]));
        assert_eq!(DECK.iter().map(|(_, times)| times).sum::<usize>(), 100);
        for (kind, times) in DECK {
            assert_eq!(plan(3, 100, &[]).iter().filter(|fault| fault.kind == kind).count(), times);
        }
        assert_eq!(plan(3, 250, &[]).len(), 250);
        let some = plan(3, 4, &[Kind::Scale, Kind::AllAway]);
        assert_eq!(some.iter().filter(|fault| fault.kind == Kind::Scale).count(), 2, "{some:?}");
    }

    #[test]
    fn a_few_faults_are_of_many_kinds_and_few_of_them_take_long() {
        let kinds = |seed| plan(seed, 20, &[]).into_iter().map(|fault| fault.kind);
        assert_eq!(kinds(1).filter(|kind| kind.is_long()).count(), 5);
        assert_eq!(kinds(1).collect::<BTreeSet<Kind>>().len(), 12);
        assert_eq!((0..20).flat_map(kinds).collect::<BTreeSet<Kind>>().len(), DECK.len());
    }
}
