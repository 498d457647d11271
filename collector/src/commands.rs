//! Carries out what the core commands. Called by the collector's task, so nothing here waits.

use driftline_collector_bpf::KernelMaps;
use driftline_collector_core::{DigestJob, Input, Moment, PipelineCommand};
use driftline_schemas::ContainerId;
use std::collections::BTreeMap;
use std::sync::Arc;
use tokio::sync::mpsc;

use crate::files::CapturedFile;
use crate::hasher::Hasher;
use crate::proc::{Proc, Process};
use crate::retained::RetainedFiles;
use crate::strict::Strict;

/// The threads, tasks and kernel maps that commands go to.
pub(crate) struct Workers {
    pub(crate) hasher: Hasher,
    /// Containers to describe.
    pub(crate) questions: mpsc::Sender<ContainerId>,
    pub(crate) maps: KernelMaps,
    pub(crate) strict: Option<Arc<Strict>>,
}

/// Owns what commands need: the captured files, and the processes that are watched.
pub(crate) struct Commands {
    proc: Proc,
    workers: Workers,
    /// First processes of containers.
    watched: BTreeMap<ContainerId, Process>,
    /// Executables that the reader captured with the batch at hand.
    captured: BTreeMap<Moment, CapturedFile>,
    /// Captured executables whose hashing has to wait for budget.
    retained: RetainedFiles,
}

impl Commands {
    pub(crate) fn new(proc: Proc, workers: Workers) -> Self {
        let retained = RetainedFiles::default();
        Self { proc, workers, watched: BTreeMap::new(), captured: BTreeMap::new(), retained }
    }

    /// Takes the files that the reader captured with a batch, before the core sees the batch.
    pub(crate) fn take_captured(&mut self, captured: Vec<(Moment, CapturedFile)>) {
        self.captured.extend(captured);
    }

    /// Releases what no command has taken or retained: the core has seen the whole batch by now.
    pub(crate) fn drop_captured(&mut self) {
        self.captured.clear();
    }

    /// Carries out a command. Returns its answer when there is one at once.
    pub(crate) fn carry_out(&mut self, command: PipelineCommand) -> Option<Input> {
        match command {
            PipelineCommand::Describe(id) => match self.workers.questions.try_send(id) {
                Ok(()) => None,
                Err(refused) => Some(Input::Described(refused.into_inner(), None)),
            },
            PipelineCommand::Hash(job) => self.hash(job),
            PipelineCommand::Inspect(id, pid) => Some(self.inspect(id, pid)),
            PipelineCommand::Retain(id, moment) => {
                if let Some(captured) = self.captured.remove(&moment) {
                    self.retained.retain(&id, moment, captured);
                }
                None
            }
            PipelineCommand::Release(moment) => {
                self.retained.take(moment);
                None
            }
            PipelineCommand::MarkKnown(file) => {
                if let Err(error) = self.workers.maps.known_files.know(file) {
                    tracing::error!(%error, "the kernel program's map of known files cannot be written");
                }
                None
            }
            PipelineCommand::Ignore(mnt_ns_id, until_ns) => {
                if let Err(error) = self.workers.maps.uncontained.ignore(mnt_ns_id, until_ns) {
                    tracing::error!(%error, "the kernel program's map of mount namespaces cannot be written");
                }
                None
            }
        }
    }

    fn hash(&mut self, job: Box<DigestJob>) -> Option<Input> {
        let captured = self.captured.remove(&job.moment).or_else(|| self.retained.take(job.moment));
        let (job, captured) = self.workers.hasher.submit(job, captured)?;
        if let Some(captured) = captured {
            self.retained.retain(&job.container, job.moment, captured);
        }
        Some(Input::NotHashed(job))
    }

    fn inspect(&mut self, id: ContainerId, pid: i32) -> Input {
        let process = self.proc.process_of(&id, pid);
        let inspection = self.proc.inspect(&process).map(Box::new);
        if let (Some(strict), Some(_)) = (&self.workers.strict, &inspection) {
            strict.watch(&id, pid);
        }
        self.watched.insert(id.clone(), process);
        Input::Inspected(id, inspection)
    }

    /// Whether the first process of a container is known, so that [`Self::take_gone`] reports its end.
    pub(crate) fn watches(&self, id: &ContainerId) -> bool {
        self.watched.contains_key(id)
    }

    /// The containers whose first process is gone. They are not watched any more.
    pub(crate) fn take_gone(&mut self) -> Vec<ContainerId> {
        let gone = self.watched.iter().filter(|(_, process)| !self.proc.runs(process));
        let gone: Vec<_> = gone.map(|(id, _)| id.clone()).collect();
        for id in &gone {
            self.watched.remove(id);
        }
        gone
    }
}
