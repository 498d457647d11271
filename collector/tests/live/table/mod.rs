//! Every way in which a program gets into a container or out of its image, in real containers of each engine: class, path,
//! digest and, by the indexed image of that very engine, the verdict. One collector sees all engines at once, and asks them
//! what their containers are.
//!
//! The result is a table for people too, which goes to the file that `DRIFTLINE_TABLE` names.

mod cases;
pub(crate) mod files;
mod moved;
mod special;

use cases::{CASES, Case, CaseContent, LARGE_CASES, PLAIN_CASES};
use driftline_engines::kubernetes::KubernetesSettings;
use driftline_engines::{RuntimeSettings, Runtimes};
use driftline_enricher_core::image::{ImageIndex, merge};
use driftline_enricher_core::judge;
use driftline_indexer::node::index_image;
use driftline_schemas::{DiffId, Exec, FileClass, HashState, ImageId, Origin, Sha256};
use driftline_settings::Settings;
use files::Files;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::Arc;

use crate::engine::{Contained, ENGINES, Engine, Power, Running, Spec, Storage};
use crate::harness::{self, Harness};
use crate::image::TestImage;

/// Cases run by one shell: so few that even a busy machine runs them while an engine waits for the end of a command.
const CASES_AT_ONCE: usize = 16;

/// One case under one engine.
struct CaseRow {
    case: &'static str,
    engine: Engine,
    class: String,
    origin: String,
    /// What is not as it has to be; or why it was not run.
    result: Result<(), Missed>,
}

enum Missed {
    NotRun(String),
    Wrong(String),
}

/// What was expected and seen so far.
#[derive(Default)]
struct Table {
    rows: Vec<CaseRow>,
}

impl Table {
    fn not_run(&mut self, case: &'static str, engine: Engine, reason: &str) {
        let result = Err(Missed::NotRun(reason.to_owned()));
        self.rows.push(CaseRow { case, engine, class: String::new(), origin: String::new(), result });
    }

    /// Notes an exec, its verdict and what of them is wrong.
    fn add(&mut self, case: &'static str, engine: Engine, class: FileClass, origin: Origin, wrong: &[String]) {
        let result = if wrong.is_empty() { Ok(()) } else { Err(Missed::Wrong(wrong.join("; "))) };
        let (class, origin) = (name_of(class), name_of(origin));
        self.rows.push(CaseRow { case, engine, class, origin, result });
    }

    /// A line for each case, a column for each engine.
    fn text(&self, title: &str) -> String {
        let mut cases: Vec<&'static str> = Vec::new();
        for row in &self.rows {
            if !cases.contains(&row.case) {
                cases.push(row.case);
            }
        }
        let mut text = format!("{:<38} {:<13} {:<15}", title.to_uppercase(), "CLASS", "ORIGIN");
        ENGINES.iter().for_each(|engine| write!(text, " {:<11}", engine.name()).unwrap());
        for case in cases {
            let rows: Vec<&CaseRow> = self.rows.iter().filter(|row| row.case == case).collect();
            let judged = rows.iter().find(|row| !row.class.is_empty());
            let (class, origin) = judged.map_or(("", ""), |row| (row.class.as_str(), row.origin.as_str()));
            write!(text, "\n{case:<38} {class:<13} {origin:<15}").unwrap();
            for engine in ENGINES {
                let result = rows.iter().find(|row| row.engine == engine).map(|row| &row.result);
                let word = match result {
                    Some(Ok(())) => "ok",
                    Some(Err(Missed::Wrong(_))) => "WRONG",
                    Some(Err(Missed::NotRun(_))) | None => "not run",
                };
                write!(text, " {word:<11}").unwrap();
            }
        }
        for row in &self.rows {
            if let Err(Missed::NotRun(why) | Missed::Wrong(why)) = &row.result {
                write!(text, "\n  {} under {}: {why}", row.case, row.engine.name()).unwrap();
            }
        }
        text + "\n"
    }

    /// Shows the table, and fails when anything in it is wrong.
    fn finish(self, title: &str) {
        let text = self.text(title);
        println!("{text}");
        harness::report(&text);
        let wrong = self.rows.iter().filter(|row| matches!(row.result, Err(Missed::Wrong(_)))).count();
        assert!(wrong == 0 && !self.rows.is_empty(), "{wrong} cases are wrong:\n{text}");
    }
}

/// Its name in the schema.
fn name_of(value: impl serde::Serialize) -> String {
    serde_json::to_value(value).unwrap().as_str().unwrap_or_default().to_owned()
}

/// Engines with an image, watched by one collector.
struct Ground {
    files: Files,
    image: TestImage,
    running: Vec<Running>,
    settings: RuntimeSettings,
}

impl Ground {
    /// Starts the engines that can be had here; the others are reported as missing.
    fn prepare(test: &str, storage: Storage, build: fn(&Files) -> TestImage) -> Self {
        let files = Files::make();
        let image = build(&files);
        let start = |engine: Engine| {
            let running = engine.start(storage)?;
            running.load(&image);
            Ok(running)
        };
        let started: Vec<(Engine, Result<Running, String>)> = std::thread::scope(|scope| {
            let threads = ENGINES.map(|engine| (engine, scope.spawn(move || start(engine))));
            threads.into_iter().map(|(engine, thread)| (engine, thread.join().unwrap())).collect()
        });
        let nowhere = || "/nowhere".into();
        let mut settings = RuntimeSettings {
            containerd_socket: nowhere(),
            cri_sockets: Vec::new(),
            docker_socket: nowhere(),
            podman_socket: nowhere(),
            podman_command: "/nowhere".to_owned(),
            ..RuntimeSettings::default()
        };
        let mut running = Vec::new();
        for (engine, started) in started {
            match started {
                Ok(engine) => {
                    engine.describe_to(&mut settings);
                    running.push(engine);
                }
                Err(reason) => harness::skip(&format!("{test} under {}", engine.name()), &reason),
            }
        }
        Self { files, image, running, settings }
    }

    fn spec(&self, power: Power) -> Spec {
        let bind = |name: &str, inside: &str| (self.files.path(name), inside.to_owned());
        let binds = vec![
            bind("", "/data"),
            bind("busybox-added", "/opt/busybox-bound"),
            bind("busybox-image", "/opt/busybox-same"),
        ];
        Spec { binds, memory: vec!["/dev/shm".to_owned(), "/scratch".to_owned()], power, ..Spec::default() }
    }

    /// Executes cases in a container; what their shells complained of, by case.
    fn execute(&self, running: &Running, container: &Contained, cases: &[Case]) -> BTreeMap<&'static str, String> {
        let mut complaints = BTreeMap::new();
        for batch in cases.chunks(CASES_AT_ONCE) {
            let name = format!("{}-batch.sh", running.engine.name());
            self.files.write(&name, script(batch).as_bytes());
            let output = running.exec(container, &["/bin/sh", &format!("/data/{name}")]).unwrap();
            for line in output.lines() {
                let (number, complaint) = line.split_once(' ').unwrap_or((line, ""));
                if let Some(case) = number.parse().ok().and_then(|number: usize| batch.get(number)) {
                    complaints.insert(case.name, complaint.to_owned());
                }
            }
        }
        complaints
    }

    /// Checks the result of each case.
    fn check(
        &self,
        table: &mut Table,
        harness: &Harness,
        at: &At<'_>,
        cases: &[Case],
        complaints: &BTreeMap<&'static str, String>,
    ) {
        for case in cases {
            if let Some(reason) = self.files.missing(case.content) {
                table.not_run(case.name, at.engine, reason);
                continue;
            }
            let mut wrong: Vec<String> = complaints.get(case.name).into_iter().cloned().collect();
            let Some(exec) = harness.find(&at.container.id, case.path) else {
                wrong.push("no such exec was reported".to_owned());
                table.add(case.name, at.engine, case.class, case.origin, &wrong);
                continue;
            };
            let content = self.files.content(case.content);
            wrong.extend(differences(case, &exec, content.map(Sha256::of)));
            let verdict = judge(&exec, Ok(at.index));
            if verdict.origin != case.origin {
                wrong.push(format!("the verdict is {:?}: {}", verdict.origin, verdict.note));
            }
            table.add(case.name, at.engine, exec.class, verdict.origin, &wrong);
        }
    }
}

/// A container's image according to its engine, as the indexer reads it of that engine.
pub(crate) fn index_of(settings: &RuntimeSettings, image_id: &ImageId) -> ImageIndex {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let indexed = runtime.block_on(async {
        let runtimes = Runtimes::detect(settings).await;
        index_image(&runtimes, image_id).await.unwrap()
    });
    let layer = |diff_id: &DiffId| {
        let layer = indexed.layers.iter().find(|layer| layer.diff_id == *diff_id).unwrap();
        Arc::new(layer.manifest.clone())
    };
    merge(&indexed.image.diff_ids.iter().map(layer).collect::<Vec<_>>()).unwrap()
}

/// A container, its engine and its image.
struct At<'a> {
    engine: Engine,
    container: &'a Contained,
    index: &'a ImageIndex,
}

/// Each case in a subshell; prints the number of one that fails.
fn script(cases: &[Case]) -> String {
    let mut script = String::new();
    for (number, case) in cases.iter().enumerate() {
        let path = std::str::from_utf8(case.path).unwrap_or_default();
        writeln!(
            script,
            "p='{path}'\noutput=$( {{ {}; }} 2>&1 </dev/null ) || echo {number} \"$output\"",
            case.command
        )
        .unwrap();
    }
    script
}

/// What of an exec is not as a case has it.
fn differences(case: &Case, exec: &Exec, sha256: Option<Sha256>) -> Vec<String> {
    let mut wrong = Vec::new();
    let state = if case.content == CaseContent::NotHashed { HashState::NotNeeded } else { HashState::Hashed };
    // Most files are executed as soon as they are written.
    let is_hashed = exec.hash_state == state || (exec.hash_state == HashState::Changed && exec.sha256.is_some());
    if exec.class != case.class || !is_hashed {
        wrong.push(format!("{:?} {:?}", exec.class, exec.hash_state));
    }
    if exec.sha256 != sha256 {
        wrong.push(format!("digest {:?}", exec.sha256));
    }
    let mount = exec.mount.as_ref().map(|mount| mount.point.as_str());
    if mount != case.mount {
        wrong.push(format!("on {mount:?}"));
    }
    if !(case.also)(exec) {
        wrong.push(format!("{exec:?}"));
    }
    wrong
}

#[test]
fn every_way_into_a_container_is_reported_and_judged_exactly_under_every_engine() {
    const TEST: &str = "every_way_into_a_container_is_reported_and_judged_exactly_under_every_engine";
    if let Some(reason) = harness::missing_without_engines() {
        return harness::skip(TEST, &reason);
    }
    let _among_others = harness::NODE.blocking_read();
    let ground = Ground::prepare(TEST, Storage::Overlay, files::image);
    let mut table = Table::default();
    let harness = Harness::start_with_runtimes(
        ground.settings.clone(),
        &KubernetesSettings::read("node-1", &[], &mut Settings::of_values::<&str, &str>([])),
    );
    let mut places = Vec::new();
    for running in &ground.running {
        let container = running.run(&ground.image, &ground.spec(Power::Usual));
        let (_, seen) = harness.container(&container.id);
        assert_eq!(seen.container.image_id, *ground.image.id(), "{}", running.engine.name());
        let index = index_of(&ground.settings, &seen.container.image_id);
        let complaints = ground.execute(running, &container, CASES);
        let at = At { engine: running.engine, container: &container, index: &index };
        ground.check(&mut table, &harness, &at, CASES, &complaints);
        special::while_watched(&ground, &mut table, &harness, running, &at);
        places.push((running, container, index));
    }
    harness.finish();

    let again = Harness::start(&[]);
    for (running, container, index) in &places {
        let at = At { engine: running.engine, container, index };
        special::after_a_restart(&mut table, &again, running, &at);
    }
    again.finish();
    table.finish("ways into a container");
}

#[test]
fn on_roots_that_are_no_overlays_the_content_decides_under_every_engine() {
    run_cases(
        "on_roots_that_are_no_overlays_the_content_decides_under_every_engine",
        "roots that are no overlays",
        Storage::Plain,
        files::small_image,
        PLAIN_CASES,
    );
}

#[test]
fn images_of_many_layers_and_files_are_judged_exactly_under_every_engine() {
    run_cases(
        "images_of_many_layers_and_files_are_judged_exactly_under_every_engine",
        "large images",
        Storage::Overlay,
        files::large_image,
        LARGE_CASES,
    );
}

fn run_cases(test: &str, title: &str, storage: Storage, build: fn(&Files) -> TestImage, cases: &[Case]) {
    if let Some(reason) = harness::missing_without_engines() {
        return harness::skip(test, &reason);
    }
    let _among_others = harness::NODE.blocking_read();
    let ground = Ground::prepare(test, storage, build);
    let mut table = Table::default();
    let harness = Harness::start_with_runtimes(
        ground.settings.clone(),
        &KubernetesSettings::read("node-1", &[], &mut Settings::of_values::<&str, &str>([])),
    );
    let bind = (ground.files.path(""), "/data".to_owned());
    for running in &ground.running {
        let container = running.run(&ground.image, &Spec { binds: vec![bind.clone()], ..Spec::default() });
        let (_, seen) = harness.container(&container.id);
        let index = index_of(&ground.settings, &seen.container.image_id);
        let complaints = ground.execute(running, &container, cases);
        let at = At { engine: running.engine, container: &container, index: &index };
        ground.check(&mut table, &harness, &at, cases, &complaints);
        running.remove(&container);
    }
    harness.finish();
    table.finish(title);
}
