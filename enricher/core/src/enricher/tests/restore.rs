//! The changelog: after every step of a random run, an enricher restored from it emits and holds the same as one that
//! was never restarted.

use super::*;
use driftline_service_core::StateKey;

/// SplitMix64, so that the seed alone determines the run.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % bound
    }

    fn of<T: Clone>(&mut self, choices: &[T]) -> T {
        choices[usize::try_from(self.below(choices.len() as u64)).unwrap()].clone()
    }
}

/// One step: an event, an answer about an image, or a tick.
#[derive(Clone)]
enum Step {
    Event(ExecEvent),
    Answer(ImageId, ImageAnswer),
    Tick,
}

const CONTAINERS: [&str; 4] = ["box", "fox", "a/b", "a"];
const IMAGES: [&str; 3] = [IMAGE, "sha256:2222", ""];

fn step(random: &mut Random, number: i64) -> Step {
    let container = random.of(&CONTAINERS);
    match random.below(13) {
        0..=5 => {
            // The numbers are few, so that some repeat.
            let number = number - i64::try_from(random.below(4)).unwrap();
            let (class, path, file) = random.of(&[
                (FileClass::New, "/tmp/x", "evil"),
                (FileClass::CopiedUp, "/bin/ls", "/bin/ls"),
                (FileClass::Image, "/bin/ls", ""),
                (FileClass::Image, "/bin/odd", ""),
                (FileClass::Memfd, "memfd:x", "evil"),
                (FileClass::RootfsPlain, "/bin/cp", "/bin/cp"),
            ]);
            let mut exec = exec(number, class, path, file);
            if random.below(3) == 0 {
                exec = undigested(exec);
            }
            exec.container_id = ContainerId::from(container);
            exec.event_id = format!("{container}-{number}").as_str().into();
            Step::Event(ExecEvent::Exec(Box::new(exec)))
        }
        6 | 7 => {
            let mut seen = seen(container);
            seen.container.image_id = ImageId::from(random.of(&IMAGES));
            seen.container.name = random.of(&["web", "db"]).into();
            seen.mounts = vec![mount("/tmp")];
            Step::Event(ExecEvent::Seen(Box::new(seen)))
        }
        8 => Step::Event(ExecEvent::Ended(ContainerEnded {
            container_id: ContainerId::from(container),
            cluster: "c".into(),
            node: "n".into(),
            ended_ns: number,
        })),
        9 => {
            let answer = random.of(&[
                ready(None),
                ready(Some("a says one thing, b another")),
                ImageAnswer::Missing,
                failed("no engine"),
                ImageAnswer::Failed { reason: "forged".into(), failure: ImageFailure::Mismatch, retry_ns: i64::MAX },
            ]);
            Step::Answer(ImageId::from(random.of(&IMAGES)), answer)
        }
        10 => Step::Event(ExecEvent::Throttled(Box::new(throttled(container, number - number % 3)))),
        _ => Step::Tick,
    }
}

/// An enricher, and a shell that keeps its answers about images.
struct Instance {
    enricher: Enricher,
    now_ns: i64,
    offset: i64,
    answers: BTreeMap<ImageId, ImageAnswer>,
    /// The changelog as the executor maintains it: only touched keys are written.
    changelog: BTreeMap<String, Vec<u8>>,
    /// Names of all counted events.
    events: BTreeSet<&'static str>,
    /// Number of settled records.
    settled: u64,
}

impl Instance {
    fn new() -> Self {
        let enricher = Enricher::new(settings());
        Self {
            enricher,
            now_ns: 1,
            offset: 0,
            answers: BTreeMap::new(),
            changelog: BTreeMap::new(),
            events: BTreeSet::new(),
            settled: 0,
        }
    }

    /// Applies a step; returns the findings as bytes. Only requests for images may differ between two runs.
    fn take(&mut self, now_ns: i64, step: Step) -> Vec<(Vec<u8>, Vec<u8>)> {
        self.now_ns = now_ns;
        let input = match step {
            Step::Event(event) => {
                self.offset += 1;
                Input::Event(Position { partition: 0, offset: self.offset }, event)
            }
            Step::Answer(id, answer) => {
                // The shell, too, keeps its answer once it had the content, apart from a new conflict.
                let known = self.answers.entry(id.clone()).or_insert_with(|| answer.clone());
                match (&mut *known, answer) {
                    (ImageAnswer::Ready { conflict, .. }, ImageAnswer::Ready { conflict: later, .. }) => {
                        *conflict = conflict.take().or(later);
                    }
                    (ImageAnswer::Ready { .. }, _) => {}
                    (known, answer) => *known = answer,
                }
                Input::Image(ImageView::of_all(&id), known.clone())
            }
            Step::Tick => Input::Tick,
        };
        self.apply(input)
    }

    fn apply(&mut self, input: Input) -> Vec<(Vec<u8>, Vec<u8>)> {
        let mut effects = Fx::default();
        self.enricher.apply(self.now_ns, input, &mut effects).unwrap();
        let mut findings = self.perform(&mut effects);
        loop {
            let asks = effects.take_commands();
            if asks.is_empty() {
                return findings;
            }
            for ask in asks {
                let ImageCommand::Load(id) = ask else { continue };
                let answer = self.answers.get(&id.image).cloned().unwrap_or(ImageAnswer::Missing);
                self.enricher.apply(self.now_ns, Input::Image(id, answer), &mut effects).unwrap();
                findings.extend(self.perform(&mut effects));
            }
        }
    }

    fn perform(&mut self, effects: &mut Fx) -> Vec<(Vec<u8>, Vec<u8>)> {
        for StateKey { partition, key } in effects.take_touched() {
            match self.enricher.state(partition, &key).unwrap() {
                Some(value) => drop(self.changelog.insert(key, value)),
                None => drop(self.changelog.remove(&key)),
            }
        }
        self.events.extend(effects.take_counts().into_keys());
        for (disposition, count) in effects.take_settled() {
            self.settled += count;
            self.events.insert(disposition.label());
        }
        assert_eq!(self.settled + self.enricher.held(), u64::try_from(self.offset).unwrap(), "conservation");
        let out = effects.take_outgoing().into_iter();
        out.filter(|out| out.topic == Topic::Findings).map(|out| (out.key, out.value)).collect()
    }

    fn state(&self) -> BTreeMap<String, Vec<u8>> {
        let keys = self.enricher.state_keys(0).into_iter();
        keys.map(|key| (key.clone(), self.enricher.state(0, &key).unwrap().unwrap())).collect()
    }

    fn eviction_order(&self) -> Vec<&(EvictionRank, ContainerId)> {
        self.enricher.partitions.values().flat_map(|partition| &partition.eviction_order).collect()
    }

    /// A successor that has the changelog and the tables only.
    fn successor(&self) -> Self {
        let mut next = Self { offset: self.offset, answers: self.answers.clone(), ..Self::new() };
        (next.now_ns, next.settled) = (self.now_ns, self.settled);
        next.changelog.clone_from(&self.changelog);
        let mut effects = Fx::default();
        let state = self.changelog.clone();
        next.enricher.restore(self.now_ns, 0, state, &WriterSchemas::default(), &mut effects).unwrap();
        assert_eq!(effects.take_outgoing(), [], "a restore reports nothing");
        for ask in effects.take_commands() {
            let ImageCommand::Load(id) = ask else { continue };
            let answer = next.answers.get(&id.image).cloned().unwrap_or(ImageAnswer::Missing);
            assert_eq!(next.apply(Input::Image(id, answer)), [], "nothing could go on that had not gone on before");
        }
        next
    }
}

/// A random run: times and steps.
fn steps(seed: u64) -> Vec<(i64, Step)> {
    let mut random = Random(seed);
    let mut now_ns = 1;
    let mut next = |number| {
        now_ns += random.of(&[0, 0, SECOND / 10, SECOND, 6 * SECOND, AMEND_NS / 3]);
        (now_ns, step(&mut random, number))
    };
    (1..=60).map(&mut next).collect()
}

#[test]
fn what_was_touched_is_what_changed() {
    for seed in 0..200 {
        let mut instance = Instance::new();
        for (done, (now_ns, step)) in steps(seed).into_iter().enumerate() {
            instance.take(now_ns, step);
            assert_eq!(instance.changelog, instance.state(), "seed {seed} after step {done}");
        }
    }
}

#[test]
fn a_restored_enricher_holds_the_same_after_every_step() {
    for seed in 0..100 {
        let mut instance = Instance::new();
        for (done, (now_ns, step)) in steps(seed).into_iter().enumerate() {
            instance.take(now_ns, step);
            let successor = instance.successor();
            assert_eq!(successor.state(), instance.state(), "seed {seed} after step {done}");
            assert_eq!(successor.enricher.held(), instance.enricher.held());
            assert_eq!(successor.enricher.timers, instance.enricher.timers);
            assert_eq!(successor.eviction_order(), instance.eviction_order());
        }
    }
}

#[test]
fn whoever_takes_over_after_whatever_step_says_the_same_from_there_on() {
    let mut events = BTreeSet::new();
    for seed in 0..60 {
        let mut undisturbed = Instance::new();
        let mut successors: Vec<Instance> = Vec::new();
        for (done, (now_ns, step)) in steps(seed).into_iter().enumerate() {
            let findings = undisturbed.take(now_ns, step.clone());
            for (since, successor) in successors.iter_mut().enumerate() {
                let again = successor.take(now_ns, step.clone());
                assert_eq!(again, findings, "seed {seed}, step {done}, restored after step {since}");
            }
            successors.push(undisturbed.successor());
        }
        successors.iter().for_each(|successor| assert_eq!(successor.state(), undisturbed.state(), "seed {seed}"));
        events.extend(undisturbed.events);
    }
    let reached = [
        "deadline_fired",
        "finding_amended",
        "finding_retracted",
        "amendment_too_late",
        "duplicate",
        "image_conflict_reported",
        "image_mismatch_reported",
    ];
    for event in reached {
        assert!(events.contains(event), "the runs reach {event}: {events:?}");
    }
}

/// The same steps, where the images differ in content.
fn steps_of_several_images(seed: u64) -> Vec<(i64, Step)> {
    let mut steps = steps(seed);
    for (_, step) in &mut steps {
        if let Step::Answer(id, ImageAnswer::Ready { index, .. }) = step
            && id.as_str() != IMAGE
        {
            *index = Arc::new(crate::image::merge(&[]).unwrap());
        }
    }
    steps
}

#[test]
fn with_room_for_one_image_the_same_is_said_as_with_room_for_all() {
    let (mut dropped, mut waited) = (0, 0);
    for seed in 0..2_000 {
        let (mut roomy, mut narrow) = (Instance::new(), Instance::new());
        narrow.enricher = narrow.enricher.bounded(1);
        for (done, (now_ns, step)) in steps_of_several_images(seed).into_iter().enumerate() {
            let expected = roomy.take(now_ns, step.clone());
            assert!(narrow.take(now_ns, step) == expected, "seed {seed}, step {done}");
            assert_eq!(narrow.enricher.held(), roomy.enricher.held(), "seed {seed}, step {done}");
            assert!(narrow.enricher.images_bytes() <= roomy.enricher.images_bytes(), "seed {seed}, step {done}");
        }
        dropped += u32::from(narrow.events.contains("image_dropped"));
        waited += u32::from(narrow.events.contains("image_loaded_again"));
        assert!(!roomy.events.contains("image_dropped"));
    }
    assert!(waited > 50, "{waited} of {dropped}");
}
