//! Measures the cost of sessions on the hot path and at a restart: `make bench-core`.
#![allow(
    clippy::expect_used,
    missing_docs,
    reason = "a benchmark fails by panicking; criterion's macros are undocumented"
)]

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use std::collections::BTreeMap;
use std::hint::black_box;

use driftline_correlator_core::{Correlator, Input, Options, Settings};
use driftline_schemas::{Container, ContainerId, Finding, FindingId, WriterSchemas};
use driftline_service_core::{Effects, Stage as _};

#[path = "../src/fixtures.rs"]
mod fixtures;
use fixtures::{S, T0, added_at, container};

fn correlator() -> Correlator {
    Correlator::new(Settings::new(Options::default(), &[]).expect("the defaults hold"), 1)
}

/// The `nth` finding of a container.
fn finding(container_at: usize, nth: usize) -> Finding {
    let container = Container { id: ContainerId::from(format!("{container_at:064x}").as_str()), ..container() };
    let id = FindingId::from(format!("{container_at:016x}{nth:016x}").as_str());
    Finding { finding_id: id, container: Some(container), ..added_at("", T0 + S, &format!("/tmp/{nth}")) }
}

fn take(correlator: &mut Correlator, finding: Finding) -> Effects<driftline_correlator_core::Command> {
    let mut effects = Effects::default();
    let input = Input::Finding { partition: 0, finding: Box::new(finding) };
    correlator.apply(T0 + S, input, &mut effects).expect("a finding");
    effects
}

fn open(sessions: usize, findings: usize) -> Correlator {
    let mut correlator = correlator();
    for nth in 0..findings {
        (0..sessions).for_each(|at| drop(take(&mut correlator, finding(at, nth))));
    }
    correlator
}

fn state(correlator: &Correlator) -> BTreeMap<String, Vec<u8>> {
    let value = |key: String| {
        let value = correlator.state(0, &key).expect("state")?;
        Some((key, value))
    };
    correlator.state_keys(0).into_iter().filter_map(value).collect()
}

fn restored(image: BTreeMap<String, Vec<u8>>) -> Correlator {
    let mut restored = correlator();
    restored.restore(T0, 0, image, &WriterSchemas::default(), &mut Effects::default()).expect("state");
    restored
}

fn sessions(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("sessions");
    group.sample_size(10);
    let image = state(&open(5_000, 3));
    let reopened = || restored(image.clone());
    let finding_each = || (0..5_000).map(|at| finding(at, 3)).collect::<Vec<_>>();
    group.throughput(Throughput::Elements(5_000));
    group.bench_function("a finding for each of 5000 sessions", |b| {
        let run = |(mut correlator, findings): (Correlator, Vec<Finding>)| {
            findings.into_iter().for_each(|finding| drop(take(&mut correlator, finding)));
            correlator
        };
        b.iter_batched(|| (reopened(), finding_each()), run, BatchSize::PerIteration);
    });
    group.bench_function("a finding for each of 5000 sessions, and its state", |b| {
        let run = |(mut correlator, findings): (Correlator, Vec<Finding>)| {
            for finding in findings {
                let touched = take(&mut correlator, finding).take_touched();
                touched.iter().for_each(|key| drop(black_box(correlator.state(0, &key.key).expect("state"))));
            }
            correlator
        };
        b.iter_batched(|| (reopened(), finding_each()), run, BatchSize::PerIteration);
    });
    group.throughput(Throughput::Elements(1));
    group.bench_function("a tick, 5000 sessions open", |b| {
        let mut correlator = reopened();
        b.iter(|| correlator.apply(T0 + 2 * S, Input::Tick, &mut Effects::default()));
    });
    group.bench_function("a finding of a session that tracks the maximum", |b| {
        let mut correlator = open(1, 2_000);
        let mut nth = 2_000;
        b.iter(|| {
            nth += 1;
            take(&mut correlator, finding(0, nth))
        });
    });
    let image = state(&open(10_000, 3));
    group.throughput(Throughput::Elements(10_000));
    group.bench_function("restore 10000 sessions of 3 findings", |b| {
        b.iter_batched(|| image.clone(), restored, BatchSize::PerIteration);
    });
    group.throughput(Throughput::Elements(1));
    group.bench_function("a tick when 10000 sessions of 3 findings became quiet", |b| {
        let tick = |mut correlator: Correlator| {
            let mut effects = Effects::default();
            correlator.apply(T0 + 3_600 * S, Input::Tick, &mut effects).expect("a tick");
            (correlator, effects)
        };
        b.iter_batched(|| restored(image.clone()), tick, BatchSize::PerIteration);
    });
    let mut full = open(10_000, 1);
    let mut at = 10_000;
    group.bench_function("the first finding of a container, 10000 known", |b| {
        b.iter(|| {
            at += 1;
            take(&mut full, finding(at, 0))
        });
    });
    group.finish();
}

criterion_group!(benches, sessions);
criterion_main!(benches);
