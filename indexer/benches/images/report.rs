//! The figures as a table and as JSON, and whether they meet the limits.

use std::fmt;

use serde_json::{Value, json};

use crate::contenders::{Contender, FLOOR, FLOOR_TWO, OURS, OURS_TWO, Usage};
use crate::corpus::Form;

/// Minimum share of the speed of inflating and hashing alone, on one core.
const FLOOR_SHARE_MIN: f64 = 0.85;
/// Minimum gain from a second core, with several layers.
const TWO_LANES_MIN: f64 = 1.8;
/// Maximum memory for a layer of any length.
const PEAK_BYTES_MAX: u64 = 64 << 20;

/// The results of the benchmark.
#[derive(Debug, Default)]
pub(crate) struct Report {
    speeds: Vec<Speed>,
    memory: Vec<Row>,
    not_run: Vec<String>,
}

/// One contender at one form.
#[derive(Debug)]
struct Speed {
    form: &'static str,
    name: &'static str,
    content_bytes: u64,
    /// The median of each figure.
    usage: Usage,
    /// Processor time of the floor divided by that of the contender, the median of the rounds.
    of_floor: f64,
    /// Wall time of the indexer with one lane divided by that of the contender.
    of_one_lane: f64,
    /// Wall time of the floor on one thread divided by that of the contender.
    of_one_thread: f64,
}

/// The indexer on one unusual image.
#[derive(Debug)]
pub(crate) struct Row {
    pub(crate) what: String,
    pub(crate) usage: Usage,
    pub(crate) content_bytes: u64,
}

impl Report {
    pub(crate) fn not_run(&mut self, form: Form, contender: &Contender, why: &str) {
        self.not_run.push(format!("{} with {}: {why}", form.name(), contender.name));
    }

    pub(crate) fn memory(&mut self, row: Row) {
        self.memory.push(row);
    }

    pub(crate) fn take(&mut self, form: Form, content_bytes: u64, contenders: &[Contender], rounds: &[Vec<Usage>]) {
        let at = |name: &str| contenders.iter().position(|contender| contender.name == name);
        let (floor, one) = (at(FLOOR).expect("it always runs"), at(OURS).expect("it always runs"));
        for (number, contender) in contenders.iter().enumerate() {
            let over = |figure: &dyn Fn(&[Usage]) -> f64| median(rounds.iter().map(|round| figure(round)));
            self.speeds.push(Speed {
                form: form.name(),
                name: contender.name,
                content_bytes,
                usage: Usage {
                    wall_s: over(&|round| round[number].wall_s),
                    cpu_s: over(&|round| round[number].cpu_s),
                    peak_bytes: rounds.iter().map(|round| round[number].peak_bytes).max().unwrap_or_default(),
                },
                of_floor: over(&|round| round[floor].cpu_s / round[number].cpu_s),
                of_one_lane: over(&|round| round[one].wall_s / round[number].wall_s),
                of_one_thread: over(&|round| round[floor].wall_s / round[number].wall_s),
            });
        }
    }

    /// # Errors
    /// Lists the limits that were not met.
    pub(crate) fn check(&self) -> Result<(), String> {
        let mut missed = Vec::new();
        for speed in &self.speeds {
            if speed.name == OURS && speed.of_floor < FLOOR_SHARE_MIN {
                missed.push(format!("{} at {:.2} of the floor, not {FLOOR_SHARE_MIN}", speed.form, speed.of_floor));
            }
        }
        for (form, ours, machine) in self.second_core() {
            if ours < TWO_LANES_MIN {
                missed.push(format!("{form} two lanes {ours:.2} x, not {TWO_LANES_MIN}, of {machine:.2} x here"));
            }
        }
        for row in self.memory.iter().filter(|row| row.usage.peak_bytes > PEAK_BYTES_MAX) {
            missed.push(format!("{}: {} MiB, not {}", row.what, row.usage.peak_bytes >> 20, PEAK_BYTES_MAX >> 20));
        }
        if missed.is_empty() { Ok(()) } else { Err(missed.join("; ")) }
    }

    /// For each form, the indexer's gain from the second core, and the gain on this machine of threads that wait for
    /// nobody.
    fn second_core(&self) -> impl Iterator<Item = (&'static str, f64, f64)> {
        let two = |name| self.speeds.iter().filter(move |speed| speed.name == name);
        two(OURS_TWO).zip(two(FLOOR_TWO)).map(|(ours, machine)| (ours.form, ours.of_one_lane, machine.of_one_thread))
    }

    pub(crate) fn json(&self) -> Value {
        let speeds: Vec<Value> = self
            .speeds
            .iter()
            .map(|speed| {
                json!({
                    "form": speed.form, "contender": speed.name, "content_bytes": speed.content_bytes,
                    "wall_s": speed.usage.wall_s, "cpu_s": speed.usage.cpu_s, "peak_bytes": speed.usage.peak_bytes,
                    "speed_of_floor": speed.of_floor, "speed_of_one_lane": speed.of_one_lane,
                    "speed_of_one_thread": speed.of_one_thread,
                })
            })
            .collect();
        let memory: Vec<Value> = self
            .memory
            .iter()
            .map(|row| {
                json!({
                    "image": row.what, "content_bytes": row.content_bytes, "wall_s": row.usage.wall_s,
                    "cpu_s": row.usage.cpu_s, "peak_bytes": row.usage.peak_bytes,
                })
            })
            .collect();
        json!({"speeds": speeds, "memory": memory, "not_run": self.not_run, "missed": self.check().err()})
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "\n{:<7} {:<24} {:>9} {:>9} {:>8} {:>9} {:>9} {:>10}",
            "LAYERS", "CONTENDER", "WALL s", "CPU s", "MB/s", "OF FLOOR", "OF 1 LANE", "PEAK MiB"
        )?;
        for speed in &self.speeds {
            let Usage { wall_s, cpu_s, peak_bytes } = speed.usage;
            let rate = speed.content_bytes as f64 / 1e6 / wall_s;
            let peak = if peak_bytes == 0 { "-".to_owned() } else { (peak_bytes >> 20).to_string() };
            let (form, name) = (speed.form, speed.name);
            let (of_floor, of_one_lane) = (speed.of_floor, speed.of_one_lane);
            writeln!(
                f,
                "{form:<7} {name:<24} {wall_s:>9.3} {cpu_s:>9.3} {rate:>8.0} {of_floor:>9.2} {of_one_lane:>9.2} {peak:>10}"
            )?;
        }
        writeln!(f, "\n{:<12} {:>9} {:>9} {:>9}", "SECOND CORE", "OURS", "ASKED", "MACHINE")?;
        for (form, ours, machine) in self.second_core() {
            let verdict = if ours < TWO_LANES_MIN { "   less than asked" } else { "" };
            writeln!(f, "{form:<12} {ours:>9.2} {TWO_LANES_MIN:>9.2} {machine:>9.2}{verdict}")?;
        }
        writeln!(f, "\n{:<32} {:>9} {:>10}", "LAYER", "WALL s", "PEAK MiB")?;
        for row in &self.memory {
            writeln!(f, "{:<32} {:>9.3} {:>10}", row.what, row.usage.wall_s, row.usage.peak_bytes >> 20)?;
        }
        self.not_run.iter().try_for_each(|line| writeln!(f, "not run: {line}"))?;
        writeln!(
            f,
            "\nOF FLOOR: processor time of inflating and two passes of SHA-256 over its own, median of the rounds.\n\
             MACHINE: gain of inflating and hashing from a second core when neither waits for the other."
        )
    }
}

fn median(figures: impl Iterator<Item = f64>) -> f64 {
    let mut figures: Vec<f64> = figures.collect();
    figures.sort_by(f64::total_cmp);
    figures.get(figures.len() / 2).copied().unwrap_or_default()
}
