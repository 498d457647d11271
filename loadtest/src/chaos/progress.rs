//! The remaining batches of a run, and the seeds that once failed. Called by [`super`].

use serde::{Deserialize, Serialize};
use std::path::Path;

use super::plan::Task;
use super::rig::Batch;

/// Batches of a run: first a failed one again, then as many as are needed, each with the next seed.
pub(super) fn tasks(seed: u64, faults: usize, batch: usize, first: Option<Task>) -> Vec<Task> {
    let mut left = faults.saturating_sub(first.map_or(0, |task| task.faults));
    let mut tasks: Vec<Task> = first.into_iter().collect();
    if faults == 0 {
        tasks.push(Task { seed, planned: 0, faults: 0 });
    }
    let mut seeds = seed..;
    while let Some(seed) = seeds.next().filter(|_| left > 0) {
        let faults = left.min(batch.max(1));
        tasks.push(Task { seed, planned: faults, faults });
        left -= faults;
    }
    tasks
}

/// The last batch in a file of failed seeds, cut to this many faults.
pub(super) fn last_failed(file: &Path, most: usize) -> Option<Task> {
    let text = std::fs::read_to_string(file).ok()?;
    text.lines().rev().filter(|line| !line.starts_with('#')).find_map(|line| {
        let mut words = line.split_whitespace();
        let seed = words.next()?.parse().ok()?;
        let planned = words.next()?.parse().ok()?;
        Some(Task { seed, planned, faults: most.min(planned) })
    })
}

/// Adds the seed of a failed batch, once.
///
/// # Errors
/// When the file cannot be written.
pub(super) fn append_failed(file: &Path, task: &Task, batch: &Batch) -> anyhow::Result<()> {
    let mut text = std::fs::read_to_string(file).unwrap_or_default();
    let begin = format!("{} {} ", task.seed, task.planned);
    if !text.lines().any(|line| line.starts_with(&begin)) {
        let what: Vec<String> = batch.verdict.wrong.iter().map(|(wrong, times)| format!("{times} {wrong:?}")).collect();
        text.push_str(&format!("{begin}{}\n", what.join(", ")));
        std::fs::write(file, text)?;
    }
    Ok(())
}

/// The progress of a run, in a file, so that a stopped run can be continued.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Progress {
    build: String,
    tasks: Vec<Task>,
    /// Finished batches.
    pub batches: Vec<Batch>,
}

impl Progress {
    /// The progress of a stopped run with the same arguments, or the beginning.
    pub(super) fn read(file: &Path, build: &str, tasks: Vec<Task>) -> Self {
        let new = Self { build: build.to_owned(), tasks, batches: Vec::new() };
        let Some(old) = std::fs::read(file).ok().and_then(|bytes| serde_json::from_slice::<Self>(&bytes).ok()) else {
            return new;
        };
        let is_same = (&old.build, &old.tasks) == (&new.build, &new.tasks);
        if is_same && old.next().is_some() && !old.batches.is_empty() {
            eprintln!("going on after batch {} of {}", old.batches.len(), old.tasks.len());
            return old;
        }
        new
    }

    /// The next batch.
    pub(super) fn next(&self) -> Option<Task> {
        self.tasks.get(self.batches.len()).copied()
    }

    /// Writes the progress to a file.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub(super) fn write(&self, file: &Path) -> anyhow::Result<()> {
        Ok(std::fs::write(file, serde_json::to_vec_pretty(self)?)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_is_cut_into_batches_with_seeds_of_their_own() {
        let task = |seed, planned, faults| Task { seed, planned, faults };
        assert_eq!(tasks(7, 250, 100, None), [task(7, 100, 100), task(8, 100, 100), task(9, 50, 50)]);
        let failed = task(3, 100, 10);
        assert_eq!(tasks(7, 20, 100, Some(failed)), [failed, task(7, 10, 10)]);
    }

    #[test]
    fn the_last_failed_seed_is_found_and_a_stopped_run_goes_on() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("seeds");
        assert_eq!(last_failed(&file, 10), None);
        std::fs::write(&file, "# what\n5 100 1 FindingLost\n6 8 2 FindingTwice\n").unwrap();
        assert_eq!(last_failed(&file, 10), Some(Task { seed: 6, planned: 8, faults: 8 }));

        let state = directory.path().join("state");
        let mut progress = Progress::read(&state, "a", tasks(1, 30, 10, None));
        progress.batches.push(Batch::default());
        progress.write(&state).unwrap();
        assert_eq!(Progress::read(&state, "a", tasks(1, 30, 10, None)), progress);
        assert_eq!(Progress::read(&state, "b", tasks(1, 30, 10, None)).batches, []);
        assert_eq!(Progress::read(&state, "a", tasks(1, 20, 10, None)).batches, []);
    }
}
