//! The steps of the demo in its container, and the expected result of each.

use anyhow::Context as _;

use driftline_schemas::{ContainerId, Sha256};

use super::engine::Engine;
use super::image::Content;
use super::report::step;
use crate::expected::{Drift, Expected};

/// How often the image's own program runs before anything drifts.
const SILENT_RUNS: usize = 100;

const ADDED: &str = "Added Binary Executed";
const SHM: &str = "Privilege Escalation: Fileless Execution in /dev/shm";

/// A planned drift.
struct Plan {
    what: &'static str,
    directory: &'static str,
    label: &'static str,
    origin: &'static str,
    category: &'static str,
    content: Put,
}

/// The source of the program's bytes.
enum Put {
    /// Copied in the container from the image's busybox.
    Copy,
    /// Written from outside, with new bytes.
    New,
}

const PLANS: [Plan; 4] = [
    Plan {
        what: "a copy of an image program",
        directory: "/tmp",
        label: "copy",
        origin: "relocated",
        category: ADDED,
        content: Put::Copy,
    },
    Plan {
        what: "a program written into the container",
        directory: "/tmp",
        label: "new",
        origin: "added",
        category: ADDED,
        content: Put::New,
    },
    Plan {
        what: "a program on a volume",
        directory: "/data",
        label: "volume",
        origin: "mounted",
        category: ADDED,
        content: Put::New,
    },
    Plan {
        what: "a program in /dev/shm",
        directory: "/dev/shm",
        label: "shm",
        origin: "fileless_shm",
        category: SHM,
        content: Put::New,
    },
];

/// A started container that is removed when dropped.
struct Running {
    engine: Engine,
    name: String,
    volume: String,
    image: String,
}

impl Drop for Running {
    fn drop(&mut self) {
        self.engine.remove(&self.name, &self.volume, &self.image);
    }
}

/// Builds the image, starts the container, runs all steps, removes the container.
pub(super) fn run(engine: &str) -> anyhow::Result<Expected> {
    let content = Content::make()?;
    let image = format!("localhost/driftline-demo-{}:1", content.nonce);
    step("building a fresh image and looking for a container engine");
    let engine = Engine::find(engine, content.directory.path(), &image)?;
    let image_id = engine.image_id(&image)?;
    step(&format!("starting a container of {image} with {}", engine.name()));
    let (running, id) = start(engine, &image, &content.nonce)?;

    step(&format!(
        "{SILENT_RUNS} runs of the image's {}, then a chmod and one more: must stay silent",
        content.program
    ));
    let run_many = format!("i=0; while [ $i -lt {SILENT_RUNS} ]; do {} true; i=$((i+1)); done", content.program);
    let exec = |script: &str| running.engine.exec(&running.name, &["/bin/sh", "-c", script]);
    exec(&run_many)?;
    // An exec within 20 ms of the change would be unproven: a file may be written back in that time (docs/limits-of-detection.md).
    exec(&format!("chmod 700 {0} && sleep 0.2 && {0} true", content.program))?;

    let mut drifts = Vec::new();
    for plan in &PLANS {
        step(&format!("{}: must be found", plan.what));
        drifts.push(drift(&running, &content, plan).with_context(|| plan.what)?);
    }
    Ok(Expected {
        container: ContainerId::from(id.as_str()),
        container_name: running.name.clone(),
        image,
        image_id,
        pod: ("demo".to_owned(), format!("web-{}", content.nonce)),
        silent_program: (content.program.clone(), SILENT_RUNS + 1),
        drifts,
    })
}

/// Starts the container with the labels that a kubelet gives its containers, so that alerts name a pod.
fn start(engine: Engine, image: &str, nonce: &str) -> anyhow::Result<(Running, String)> {
    let name = format!("driftline-demo-{nonce}");
    let volume = format!("driftline-demo-{nonce}");
    let labels = [
        "io.kubernetes.pod.namespace=demo".to_owned(),
        format!("io.kubernetes.pod.name=web-{nonce}"),
        "io.kubernetes.pod.uid=3fa85f64-5717-4562-b3fc-2c963f66afa6".to_owned(),
        "io.kubernetes.container.name=web".to_owned(),
        "app=web".to_owned(),
    ];
    let mount = format!("{volume}:/data");
    let mut arguments = vec!["-d", "--name", &name, "-v", &mount, "--tmpfs", "/dev/shm:rw,exec,size=16m"];
    for label in &labels {
        arguments.extend(["--label", label]);
    }
    arguments.push(image);
    let running = Running { engine, name: name.clone(), volume, image: image.to_owned() };
    let id = running.engine.run(&arguments)?;
    Ok((running, id))
}

fn drift(running: &Running, content: &Content, plan: &Plan) -> anyhow::Result<Drift> {
    let path = format!("{}/busybox-{}-{}", plan.directory, plan.label, content.nonce);
    let sha256 = match plan.content {
        Put::Copy => {
            running.engine.exec(&running.name, &["/bin/cp", "/bin/busybox", &path])?;
            Sha256::of(&content.busybox)
        }
        Put::New => {
            let bytes = content.new_program(plan.label);
            running.engine.put_program(&running.name, &path, &bytes)?;
            Sha256::of(&bytes)
        }
    };
    let args = [path.as_str(), "echo", plan.label];
    running.engine.exec(&running.name, &args)?;
    Ok(Drift {
        what: plan.what.to_owned(),
        path: path.clone(),
        args: args.iter().map(|arg| (*arg).to_owned()).collect(),
        sha256: sha256.to_string(),
        origin: plan.origin.to_owned(),
        category: plan.category.to_owned(),
    })
}
