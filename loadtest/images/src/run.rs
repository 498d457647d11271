//! Draws stacks in batches, lets both tools unpack a batch in parallel, and compares.

use std::collections::BTreeMap;
use std::path::Path;

use crate::compare::{Tool, differences, implied};
use crate::generate::{Drawn, draw};
use crate::layout::{Compression, Layout};
use crate::mutant::Mutant;
use crate::rule::Hits;
use crate::tools::{self, Opinion, Store};
use crate::unpackers::LeftOut;
use crate::{fixed, hits, ours};

/// Stacks unpacked before their files are removed again: some megabytes.
const BATCH: u64 = 25;

/// The run ends after this many differences, which are enough to investigate.
const FAILURES_MAX: usize = 20;

/// The totals of all stacks.
#[derive(Debug, Default)]
pub(crate) struct Total {
    pub(crate) stacks: u64,
    pub(crate) layers: usize,
    pub(crate) paths: usize,
    pub(crate) podman: u64,
    pub(crate) umoci: u64,
    pub(crate) hits: Hits,
    pub(crate) left_out: LeftOut,
    /// The seed that noticed each planted bug.
    pub(crate) mutants: BTreeMap<&'static str, Option<u64>>,
    pub(crate) failures: Vec<Failure>,
}

/// A stack for which a tool has another view.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) seed: u64,
    pub(crate) tool: &'static str,
    pub(crate) differences: Vec<String>,
    pub(crate) stack: String,
}

/// A stack in both layouts.
struct Case {
    seed: u64,
    name: String,
    image_id: String,
    drawn: Drawn,
}

/// Compares the stacks of `count` seeds and, when there are several seeds, the fixed stacks.
pub(crate) fn run(from: u64, count: u64, mutants: &[(&'static str, Mutant)], scratch: &Path) -> anyhow::Result<Total> {
    let mut total = Total { mutants: mutants.iter().map(|(name, _)| (*name, None)).collect(), ..Total::default() };
    let mut next = from;
    let end = from.saturating_add(count);
    while next < end && total.failures.len() < FAILURES_MAX {
        let after = next.saturating_add(BATCH).min(end);
        batch(&mut total, next..after, mutants, scratch)?;
        next = after;
    }
    if count > 1 && total.failures.is_empty() {
        batch(&mut total, fixed::SEEDS, &[], scratch)?;
    }
    Ok(total)
}

fn batch(
    total: &mut Total,
    seeds: impl IntoIterator<Item = u64>,
    mutants: &[(&'static str, Mutant)],
    scratch: &Path,
) -> anyhow::Result<()> {
    let directory = tempfile::tempdir_in(scratch)?;
    let mut as_drawn = Layout::new(directory.path().join("drawn"), Compression::AsDrawn)?;
    let mut without_zstd = Layout::new(directory.path().join("umoci"), Compression::WithoutZstd)?;
    let mut cases = Vec::new();
    for seed in seeds {
        let (name, drawn) = (format!("s{seed}"), fixed::stack(seed).unwrap_or_else(|| draw(seed)));
        let image_id = as_drawn.add(&drawn.stack, &name)?;
        without_zstd.add(&drawn.stack, &name)?;
        cases.push(Case { seed, name, image_id, drawn });
    }
    as_drawn.finish()?;
    without_zstd.finish()?;
    let store = Store::new(directory.path())?;
    let (podman, umoci) = std::thread::scope(|scope| {
        let podman = scope.spawn(|| {
            let unpack = |case: &Case| {
                case.drawn.unpackers.has_podman().then(|| store.opinion(as_drawn.root(), &case.name)).transpose()
            };
            cases.iter().map(unpack).collect::<anyhow::Result<Vec<Option<Opinion>>>>()
        });
        let unpack = |case: &Case| {
            let umoci = || tools::umoci(without_zstd.root(), &case.name, directory.path());
            case.drawn.unpackers.has_umoci().then(umoci).transpose()
        };
        let umoci = cases.iter().map(unpack).collect::<anyhow::Result<Vec<Option<Opinion>>>>();
        (podman.join(), umoci)
    });
    let podman = podman.map_err(|_| anyhow::anyhow!("the thread that runs podman panicked"))??;
    for ((case, podman), umoci) in cases.iter().zip(podman).zip(umoci?) {
        total.judge(case, as_drawn.root(), mutants, [(Tool::Podman, podman), (Tool::Umoci, umoci)])?;
    }
    Ok(())
}

impl Total {
    fn judge(
        &mut self,
        case: &Case,
        layout: &Path,
        mutants: &[(&'static str, Mutant)],
        opinions: [(Tool, Option<Opinion>); 2],
    ) -> anyhow::Result<()> {
        let stack = &case.drawn.stack;
        let manifests = ours::manifests(layout, &case.image_id)?;
        let view = ours::view(&manifests)?;
        let implied = implied(&manifests);
        self.stacks += 1;
        self.layers += stack.layers.len();
        self.paths += view.len();
        self.hits.add(&hits::of(stack, &manifests, &view));
        self.hits.add(&case.drawn.refused);
        for (limitation, count) in &case.drawn.left_out {
            *self.left_out.entry(*limitation).or_default() += count;
        }
        for (tool, opinion) in opinions.into_iter().filter_map(|(tool, opinion)| Some((tool, opinion?))) {
            let differences = match &opinion {
                Ok(theirs) => differences(tool, &view, theirs, &implied),
                Err(refusal) => vec![format!("refused: {refusal}")],
            };
            *if tool == Tool::Podman { &mut self.podman } else { &mut self.umoci } += 1;
            if !differences.is_empty() {
                self.failures.push(Failure {
                    seed: case.seed,
                    tool: tool.name(),
                    differences,
                    stack: stack.to_string(),
                });
                continue;
            }
            // A bug counts as noticed if the tool agrees with our view and not with the bug's.
            let Ok(theirs) = &opinion else { continue };
            for (name, mutant) in mutants {
                let Some(noticed @ None) = self.mutants.get_mut(name) else { continue };
                let agrees = mutant
                    .view(stack)
                    .is_ok_and(|bad| crate::compare::differences(tool, &bad, theirs, &implied).is_empty());
                *noticed = (!agrees).then_some(case.seed);
            }
        }
        Ok(())
    }
}
