//! The figures as a table and as JSON, and whether they are what was asked for.

use anyhow::bail;
use serde_json::json;
use std::collections::BTreeMap;
use std::fmt;

use super::observer::{PEERS, Usage};
use super::{Extent, Program};

/// Most time in the kernel per exec of an image file.
const IMAGE_KERNEL_NS_MAX: u64 = 2_000;
/// The same of a drifted one, which wakes the reader.
const DRIFTED_KERNEL_NS_MAX: u64 = 25_000;
/// Most processor time of the collector per event, up to the record that Kafka acknowledged.
const CPU_NS_MAX: u64 = 10_000;
/// Most memory.
const PEAK_BYTES_MAX: u64 = 40 << 20;

/// One turn of one contender.
#[derive(Debug, Clone, Copy)]
pub(super) struct Row {
    wall_ns: u64,
    usage: Usage,
    /// Execs of the workload that came out, where that can be counted.
    seen: Option<usize>,
}

impl Row {
    pub(super) fn bare(wall_ns: u64) -> Self {
        Self::of(wall_ns, Usage::default())
    }

    pub(super) fn of(wall_ns: u64, usage: Usage) -> Self {
        Self { wall_ns, usage, seen: None }
    }

    pub(super) fn with_seen(self, seen: usize) -> Self {
        Self { seen: Some(seen), ..self }
    }
}

/// Medians over the rounds.
struct Line {
    name: &'static str,
    program: Program,
    wall_ns: u64,
    kernel_ns: u64,
    cpu_ns: u64,
    peak_bytes: u64,
    seen: Option<usize>,
}

pub(super) struct Report {
    extent: Extent,
    lines: Vec<Line>,
    not_run: Vec<String>,
}

impl Report {
    pub(super) fn of(extent: Extent, rows: BTreeMap<(usize, Program), Vec<Row>>, not_run: Vec<String>) -> Self {
        let execs = u64::from(extent.execs).max(1);
        let line = |((number, program), rows): ((usize, Program), Vec<Row>)| {
            let median = |figure: &dyn Fn(&Row) -> u64| median(rows.iter().map(figure).collect());
            Line {
                name: name(number),
                program,
                wall_ns: median(&|row| row.wall_ns) / execs,
                kernel_ns: median(&|row| row.usage.bpf_ns / row.usage.bpf_runs.max(1)),
                cpu_ns: median(&|row| row.usage.cpu_ns) / execs,
                peak_bytes: rows.iter().map(|row| row.usage.peak_bytes).max().unwrap_or(0),
                seen: rows.iter().filter_map(|row| row.seen).min(),
            }
        };
        Self { extent, lines: rows.into_iter().map(line).collect(), not_run }
    }

    pub(super) fn json(&self) -> String {
        let lines = self.lines.iter().map(|line| {
            json!({
                "contender": line.name, "program": label(line.program), "wall_ns": line.wall_ns,
                "kernel_ns": line.kernel_ns, "cpu_ns": line.cpu_ns, "peak_bytes": line.peak_bytes, "seen": line.seen,
            })
        });
        let lines: Vec<_> = lines.collect();
        let (rounds, execs) = (self.extent.rounds, self.extent.execs);
        json!({ "rounds": rounds, "execs": execs, "rows": lines, "not_run": self.not_run }).to_string()
    }

    /// # Errors
    /// With each figure that is over its limit.
    pub(super) fn check(&self) -> anyhow::Result<()> {
        let mut missed = Vec::new();
        for line in self.lines.iter().filter(|line| line.name == name(1)) {
            let kernel_max = match line.program {
                Program::Image => IMAGE_KERNEL_NS_MAX,
                Program::Drifted => DRIFTED_KERNEL_NS_MAX,
            };
            let figures = [
                ("ns in the kernel", line.kernel_ns, kernel_max),
                ("ns of processor time", line.cpu_ns, CPU_NS_MAX),
                ("bytes resident", line.peak_bytes, PEAK_BYTES_MAX),
            ];
            for (what, is, limit) in figures.into_iter().filter(|(_, is, limit)| is > limit) {
                missed.push(format!("{}: {is} {what}, asked for at most {limit}", label(line.program)));
            }
            if line.seen != usize::try_from(self.extent.execs).ok() {
                missed.push(format!("{}: {:?} of {} seen", label(line.program), line.seen, self.extent.execs));
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
            "{:<26}{:<9}{:>12}{:>14}{:>12}{:>10}{:>8}",
            "OBSERVER", "PROGRAM", "EXEC us", "IN KERNEL us", "ITS CPU us", "PEAK MiB", "SEEN %"
        )?;
        for line in &self.lines {
            let us = |ns: u64| format!("{:.2}", precise(ns) / 1e3);
            let or_none = |text: String| if line.name == name(0) { "-".to_owned() } else { text };
            let seen = line.seen.map(|seen| 100.0 * precise(seen as u64) / f64::from(self.extent.execs));
            writeln!(
                f,
                "{:<26}{:<9}{:>12}{:>14}{:>12}{:>10}{:>8}",
                line.name,
                label(line.program),
                us(line.wall_ns),
                or_none(us(line.kernel_ns)),
                or_none(us(line.cpu_ns)),
                or_none(format!("{:.1}", precise(line.peak_bytes) / f64::from(1 << 20))),
                seen.map_or_else(|| "-".to_owned(), |seen| format!("{seen:.1}")),
            )?;
        }
        self.not_run.iter().try_for_each(|why| writeln!(f, "not run: {why}"))
    }
}

/// Figures here are far below 2^53.
fn precise(number: u64) -> f64 {
    number as f64
}
