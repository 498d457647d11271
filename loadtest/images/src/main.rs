//! `driftline-test-images`: draws stacks of layers and compares our view of them with the result of independent tools.
//! Prints each seed that differs with the command to run it again, and how often each rule decided the result.

mod compare;
mod draft;
mod fixed;
mod generate;
mod hits;
mod layout;
mod member;
mod mutant;
mod operations;
mod ours;
mod rule;
mod run;
mod stack;
mod tools;
mod unpackers;
mod view;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::anyhow;
use clap::Parser;

use mutant::Mutant;
use rule::Rule;
use run::{Total, run};

/// A run of this many stacks must hit every rule [`HITS_MIN`] times, a shorter one in proportion.
const STACKS_FOR_HITS: u64 = 2_000;
const HITS_MIN: u64 = 50;

/// Compares the merged index of random stacks of layers with what podman mounts and umoci unpacks.
///
/// Exits 1 when they differ, when a rule was hit too seldom, or when a mutant was not noticed.
#[derive(Debug, Parser)]
#[command(name = "driftline-test-images", version)]
struct Arguments {
    /// How many stacks to draw
    #[arg(long, default_value_t = STACKS_FOR_HITS)]
    seeds: u64,
    /// The first seed
    #[arg(long, default_value_t = 1)]
    from: u64,
    /// Run this one only; 0 is a stack of 120 layers, 1000000000000 a layer of 100,000 files
    #[arg(long, conflicts_with_all = ["seeds", "from"])]
    seed: Option<u64>,
    /// Show the members of each stack that differs
    #[arg(long)]
    verbose: bool,
    /// Plant a mutant, and expect it to be noticed; `all` plants each
    #[arg(long, value_name = "MUTANT")]
    plant: Option<String>,
    /// List the mutants that can be planted
    #[arg(long)]
    list_mutants: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
    /// Where image stores are made and removed; memory is three times as fast as a disk
    #[arg(long, default_value = "/dev/shm")]
    scratch: PathBuf,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    if arguments.list_mutants {
        Mutant::ALL.iter().for_each(|(name, _)| anstream::println!("{name}"));
        return ExitCode::SUCCESS;
    }
    match test(&arguments) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            anstream::eprintln!("driftline-test-images: {error:#}");
            ExitCode::from(2)
        }
    }
}

/// Runs the test; returns whether every check passed.
fn test(arguments: &Arguments) -> anyhow::Result<bool> {
    tools::check_machine()?;
    let mutants = planted(arguments.plant.as_deref())?;
    let (from, count) = arguments.seed.map_or((arguments.from, arguments.seeds), |seed| (seed, 1));
    let total = run(from, count, &mutants, &arguments.scratch)?;
    let seldom = if arguments.seed.is_none() { total.too_seldom() } else { Vec::new() };
    if arguments.json {
        print_json(&total);
    } else {
        print_table(&total);
    }
    for (name, noticed) in &total.mutants {
        match noticed {
            Some(seed) => anstream::println!("{name:36} noticed by seed {seed}"),
            None => anstream::println!("{name:36} NOT noticed in {} stacks", total.stacks),
        }
    }
    for rule in &seldom {
        anstream::eprintln!(
            "{}: {} hits only, a run this long must have {}",
            rule.name(),
            total.hits.of(*rule),
            total.hits_min()
        );
    }
    for failure in &total.failures {
        anstream::eprintln!("\nseed {}: {} differs", failure.seed, failure.tool);
        failure.differences.iter().for_each(|line| anstream::eprintln!("  {line}"));
        if arguments.verbose || total.failures.len() == 1 {
            anstream::eprintln!("{}", failure.stack);
        }
        anstream::eprintln!("make test-images SEED={}", failure.seed);
    }
    Ok(total.failures.is_empty() && seldom.is_empty() && total.mutants.values().all(Option::is_some))
}

fn planted(name: Option<&str>) -> anyhow::Result<Vec<(&'static str, Mutant)>> {
    match name {
        None => Ok(Vec::new()),
        Some("all") => Ok(Mutant::ALL.to_vec()),
        Some(name) => {
            let found = Mutant::ALL.into_iter().find(|(candidate, _)| *candidate == name);
            found
                .map(|mutant| vec![mutant])
                .ok_or_else(|| anyhow!("no mutant is called {name:?}; --list-mutants shows them"))
        }
    }
}

impl Total {
    fn hits_min(&self) -> u64 {
        HITS_MIN.min(self.stacks * HITS_MIN / STACKS_FOR_HITS)
    }

    fn too_seldom(&self) -> Vec<Rule> {
        Rule::ALL.iter().copied().filter(|rule| self.hits.of(*rule) < self.hits_min()).collect()
    }
}

fn print_table(total: &Total) {
    anstream::println!("{:44}  {:>7}", "RULE", "HITS");
    for rule in Rule::ALL {
        anstream::println!("{:44}  {:>7}", rule.name(), total.hits.of(*rule));
    }
    anstream::println!("\n{:>7}  MEMBERS NOT SHOWN TO A TOOL, BECAUSE", "TIMES");
    for (limitation, count) in &total.left_out {
        anstream::println!("{count:>7}  {}", limitation.name());
    }
    anstream::println!(
        "\n{} stacks of {} layers: {} compared with podman, {} with umoci, {} paths; {} differ",
        total.stacks,
        total.layers,
        total.podman,
        total.umoci,
        total.paths,
        total.failures.len()
    );
}

fn print_json(total: &Total) {
    let hits: BTreeMap<&str, u64> = Rule::ALL.iter().map(|rule| (rule.name(), total.hits.of(*rule))).collect();
    let left_out: BTreeMap<&str, u64> =
        total.left_out.iter().map(|(limitation, count)| (limitation.name(), *count)).collect();
    let failures: Vec<_> = total
        .failures
        .iter()
        .map(|failure| {
            serde_json::json!({
                "seed": failure.seed, "tool": failure.tool, "differences": failure.differences,
            })
        })
        .collect();
    let json = serde_json::json!({
        "stacks": total.stacks, "layers": total.layers, "paths": total.paths, "compared_with_podman": total.podman,
        "compared_with_umoci": total.umoci, "hits": hits, "left_out": left_out, "mutants": total.mutants,
        "failures": failures,
    });
    anstream::println!("{json:#}");
}
