//! The figures as a table and as JSON, and the check of their limits.

use anyhow::bail;
use serde_json::json;
use std::collections::BTreeMap;
use std::fmt;

use super::measurement::{Measurement, Seen};
use super::observer::PEERS;
use super::{Extent, Program};

/// Most time in the kernel per exec of an image file.
const IMAGE_KERNEL_NS_MAX: u64 = 2_000;
/// The same for a file that is not in the image; an unknown file wakes the reader.
const DRIFTED_KERNEL_NS_MAX: u64 = 25_000;
/// Most processor time of the collector per event, up to the record that Kafka acknowledged, where nothing must be
/// hashed.
const CPU_NS_MAX: u64 = 10_000;
/// Most memory while it works.
const PEAK_BYTES_MAX: u64 = 40 << 20;
/// 99th percentile of the time from an exec to its record in Kafka, on an idle machine.
const LATENCY_NS_MAX: u64 = 100_000_000;

/// Medians over the rounds; of memory and of the number of records the worst.
struct ReportRow {
    name: &'static str,
    program: Program,
    wall_ns: u64,
    kernel_ns: u64,
    cpu_ns: u64,
    peak_bytes: u64,
    seen: Option<SeenRow>,
}

struct SeenRow {
    all: usize,
    reported: usize,
    latency_ns: u64,
    latency_99_ns: u64,
    start_peak_bytes: u64,
}

impl SeenRow {
    fn of(rows: &[Measurement]) -> Option<Self> {
        let seen: Vec<Seen> = rows.iter().filter_map(|row| row.seen).collect();
        Some(Self {
            all: seen.iter().map(|seen| seen.reported + seen.left_out).min()?,
            reported: seen.iter().map(|seen| seen.reported).min()?,
            latency_ns: median(seen.iter().map(|seen| seen.latencies_ns.median).collect()),
            latency_99_ns: median(seen.iter().map(|seen| seen.latencies_ns.of_99_percent).collect()),
            start_peak_bytes: seen.iter().map(|seen| seen.start_peak_bytes).max()?,
        })
    }
}

pub(super) struct Report {
    extent: Extent,
    rows: Vec<ReportRow>,
    not_run: Vec<String>,
}

impl Report {
    pub(super) fn of(
        extent: Extent,
        measurements: BTreeMap<(usize, Program), Vec<Measurement>>,
        not_run: Vec<String>,
    ) -> Self {
        let execs = u64::from(extent.execs).max(1);
        let row = |((number, program), rows): ((usize, Program), Vec<Measurement>)| {
            let median = |figure: &dyn Fn(&Measurement) -> u64| median(rows.iter().map(figure).collect());
            ReportRow {
                name: name(number),
                program,
                wall_ns: median(&|row| row.wall_ns) / execs,
                kernel_ns: median(&|row| row.usage.bpf_ns / row.usage.bpf_runs.max(1)),
                cpu_ns: median(&|row| row.usage.cpu_ns) / execs,
                peak_bytes: rows.iter().map(|row| row.usage.peak_bytes).max().unwrap_or(0),
                seen: SeenRow::of(&rows),
            }
        };
        Self { extent, rows: measurements.into_iter().map(row).collect(), not_run }
    }

    pub(super) fn json(&self) -> String {
        let rows = self.rows.iter().map(|row| {
            let seen = row.seen.as_ref().map(|seen| {
                json!({
                    "all": seen.all, "reported": seen.reported, "latency_ns": seen.latency_ns,
                    "latency_99_ns": seen.latency_99_ns, "start_peak_bytes": seen.start_peak_bytes,
                })
            });
            json!({
                "contender": row.name, "program": label(row.program), "wall_ns": row.wall_ns,
                "kernel_ns": row.kernel_ns, "cpu_ns": row.cpu_ns, "peak_bytes": row.peak_bytes, "seen": seen,
            })
        });
        let rows_json: Vec<_> = rows.collect();
        let (rounds, execs) = (self.extent.rounds, self.extent.execs);
        json!({ "rounds": rounds, "execs": execs, "rows": rows_json, "not_run": self.not_run }).to_string()
    }

    /// # Errors
    /// Lists each figure that exceeds its limit.
    pub(super) fn check(&self) -> anyhow::Result<()> {
        let mut missed = Vec::new();
        for row in self.rows.iter().filter(|row| row.name == name(1)) {
            let (kernel_max, cpu_max) = match row.program {
                Program::Image => (IMAGE_KERNEL_NS_MAX, CPU_NS_MAX),
                Program::Drifted => (DRIFTED_KERNEL_NS_MAX, CPU_NS_MAX),
                Program::Changed => (DRIFTED_KERNEL_NS_MAX, u64::MAX),
            };
            let Some(seen) = &row.seen else { continue };
            let figures = [
                ("ns in the kernel", row.kernel_ns, kernel_max),
                ("ns of processor time", row.cpu_ns, cpu_max),
                ("bytes resident", row.peak_bytes, PEAK_BYTES_MAX),
                ("ns to Kafka", seen.latency_99_ns, LATENCY_NS_MAX),
            ];
            for (what, is, limit) in figures.into_iter().filter(|(_, is, limit)| is > limit) {
                missed.push(format!("{}: {is} {what}, at most {limit}", label(row.program)));
            }
            if usize::try_from(self.extent.execs).ok() != Some(seen.all) {
                missed.push(format!("{}: {} of {} seen", label(row.program), seen.all, self.extent.execs));
            }
        }
        if missed.is_empty() { Ok(()) } else { bail!("missed:\n  {}", missed.join("\n  ")) }
    }
}

fn name(number: usize) -> &'static str {
    match number {
        0 => "nobody",
        1 => "driftline",
        peer => PEERS.get(peer - 2).map_or("?", |peer| peer.name),
    }
}

fn label(program: Program) -> &'static str {
    match program {
        Program::Image => "image",
        Program::Drifted => "drifted",
        Program::Changed => "changed",
    }
}

fn median(mut figures: Vec<u64>) -> u64 {
    figures.sort_unstable();
    figures.get(figures.len() / 2).copied().unwrap_or(0)
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{:<26}{:<9}{:>10}{:>14}{:>12}{:>10}{:>8}{:>12}{:>14}{:>11}",
            "OBSERVER",
            "PROGRAM",
            "EXEC us",
            "IN KERNEL us",
            "ITS CPU us",
            "PEAK MiB",
            "SEEN %",
            "REPORTED %",
            "TO KAFKA ms",
            "START MiB"
        )?;
        let dash = || "-".to_owned();
        for row in &self.rows {
            let us = |ns: u64| format!("{:.2}", precise(ns) / 1e3);
            let ms = |ns: u64| format!("{:.0}", precise(ns) / 1e6);
            let mib = |bytes: u64| format!("{:.1}", precise(bytes) / f64::from(1 << 20));
            let or_none = |text: String| if row.name == name(0) { dash() } else { text };
            let percent = |seen: usize| format!("{:.1}", 100.0 * precise(seen as u64) / f64::from(self.extent.execs));
            let of_seen = |text: &dyn Fn(&SeenRow) -> String| row.seen.as_ref().map_or_else(dash, text);
            writeln!(
                f,
                "{:<26}{:<9}{:>10}{:>14}{:>12}{:>10}{:>8}{:>12}{:>14}{:>11}",
                row.name,
                label(row.program),
                us(row.wall_ns),
                or_none(if row.kernel_ns == 0 { dash() } else { us(row.kernel_ns) }),
                or_none(us(row.cpu_ns)),
                or_none(mib(row.peak_bytes)),
                of_seen(&|seen| percent(seen.all)),
                of_seen(&|seen| percent(seen.reported)),
                of_seen(&|seen| format!("{} / {}", ms(seen.latency_ns), ms(seen.latency_99_ns))),
                of_seen(&|seen| mib(seen.start_peak_bytes)),
            )?;
        }
        writeln!(
            f,
            "changed: a drifted program, touched before each exec; its processor time is with hashing.\n\
             TO KAFKA: from an exec to its record, the median and 99 of 100, of paced execs after a container's first 300 ms."
        )?;
        self.not_run.iter().try_for_each(|why| writeln!(f, "not run: {why}"))
    }
}

/// Figures here are far below 2^53.
fn precise(number: u64) -> f64 {
    number as f64
}
