//! Measures how fast images are indexed, compared with the least possible work and with other tools; run by
//! `make bench-images`.
//!
//! Every contender is a process of its own, so that its processor time and memory are measured separately. Contenders
//! take turns in every round, because a shared machine changes its speed between rounds: ratios are computed within a
//! round, and the median over the rounds is reported.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::disallowed_methods,
    reason = "a bench fails by panicking"
)]

mod contenders;
mod corpus;
mod report;

use std::path::PathBuf;

use clap::{Parser, Subcommand};

use contenders::{Contender, Usage};
use corpus::{Corpus, Form};
use report::{Report, Row};

/// Compares the indexer with inflating and hashing alone, with tar and sha256sum, and with umoci.
#[derive(Debug, Parser)]
struct Arguments {
    /// Rounds in which every contender runs once.
    #[arg(long, default_value_t = 5)]
    repeats: usize,
    /// Uncompressed size of the image, in MiB, of files of this machine.
    #[arg(long, default_value_t = 320)]
    mib: u64,
    /// Where the figures go as JSON.
    #[arg(long)]
    json: Option<PathBuf>,
    /// Given by cargo.
    #[arg(long, hide = true)]
    bench: bool,
    #[command(subcommand)]
    work: Option<Work>,
}

/// What a contender's process does.
#[derive(Debug, Subcommand)]
enum Work {
    /// The indexer.
    #[command(hide = true)]
    Index { layout: PathBuf, lanes: usize },
    /// Inflating and two passes of SHA-256, nothing else.
    #[command(hide = true)]
    Floor { layout: PathBuf, threads: usize },
}

/// Layers of the image whose speed is compared, of about 40 MiB each, as in an image built in some steps on a
/// distribution. One lane reads a layer, so a second lane gains little for an image that is mostly one layer.
const LAYERS: usize = 8;
/// Files of the layer that shows how memory grows with the number of entries.
const MANY_FILES: usize = 100_000;
/// Bytes of the layer that shows that memory does not grow with length.
const LONG_BYTES: u64 = 4 << 30;

fn main() {
    let arguments = Arguments::parse();
    match arguments.work {
        Some(Work::Index { layout, lanes }) => contenders::index(&layout, lanes),
        Some(Work::Floor { layout, threads }) => contenders::floor(&layout, threads),
        None => compare(&arguments),
    }
}

fn compare(arguments: &Arguments) {
    let directory = tempfile::tempdir().unwrap();
    let mut report = Report::default();
    for form in Form::ALL {
        eprintln!("bench-images: writing {} MiB in {LAYERS} {} layers", arguments.mib, form.name());
        let corpus = Corpus::of_this_machine(directory.path(), form, arguments.mib << 20, LAYERS);
        let mut contenders = Contender::all(&corpus);
        contenders.retain(|contender| match contender.can_run() {
            Ok(()) => true,
            Err(why) => {
                report.not_run(form, contender, &why);
                false
            }
        });
        // Runs each contender once without measuring, so that files are in the page cache.
        contenders.iter().for_each(|contender| drop(contender.run()));
        let rounds: Vec<Vec<Usage>> = (0..arguments.repeats.max(1))
            .map(|round| {
                eprintln!("bench-images: {} round {} of {}", form.name(), round + 1, arguments.repeats);
                contenders.iter().map(|contender| contender.run().expect("it ran before")).collect()
            })
            .collect();
        report.take(form, corpus.content_bytes, &contenders, &rounds);
        corpus.remove();
    }
    for corpus in
        [Corpus::of_many_files(directory.path(), MANY_FILES), Corpus::of_one_file(directory.path(), LONG_BYTES)]
    {
        eprintln!("bench-images: memory for {}", corpus.name);
        let usage = Contender::index(&corpus, 1).run().expect("the indexer runs");
        report.memory(Row { what: corpus.name.clone(), usage, content_bytes: corpus.content_bytes });
        corpus.remove();
    }
    print!("{report}");
    if let Some(path) = &arguments.json {
        std::fs::write(path, report.json().to_string()).unwrap();
        println!("JSON: {}", path.display());
    }
    if let Err(missed) = report.check() {
        println!("missed: {missed}");
        std::process::exit(1);
    }
}
