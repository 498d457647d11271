//! The image tables beside the enricher's core: what its shell does with a cache and background tasks, at once.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use driftline_enricher_core::image::ImageIndex;
use driftline_enricher_core::tables::{Change, ImageTables, LoadError, Lookup, Stored};
use driftline_enricher_core::{Ask, ImageAnswer};
use driftline_kafka::Record;
use driftline_schemas::topics::Topic;
use driftline_schemas::{Image, ImageId, LayerEvent, decode};

/// Memory for merged images that were used before; the enricher's own default.
const CACHE_BYTES: usize = 256 * 1024 * 1024;

/// An answer for the core.
pub(super) type Answer = (ImageId, ImageAnswer);

#[derive(Debug, Default)]
pub(super) struct Images {
    tables: ImageTables,
    /// Images the core uses; it is told when their answer changes.
    wanted: BTreeSet<ImageId>,
    /// Those whose content it was told, and which nobody has contradicted yet.
    settled: BTreeSet<ImageId>,
    merged: BTreeMap<ImageId, Arc<ImageIndex>>,
    merged_bytes: usize,
}

impl Images {
    /// Takes a table record; gives what it changes for the core.
    ///
    /// # Errors
    /// Why it cannot be used.
    pub(super) fn record(&mut self, record: &Record) -> Result<Vec<Answer>, String> {
        let Some(value) = &record.value else {
            // What running containers were told stays good for them, and layers stay with who names them.
            let key = record.key.as_deref().and_then(|key| std::str::from_utf8(key).ok());
            key.filter(|_| record.topic == Topic::Images).into_iter().for_each(|key| self.tables.forget_image(key));
            return Ok(Vec::new());
        };
        let change = match record.topic {
            Topic::Images => decode::<Image>(value).map_err(|e| e.to_string()).and_then(|it| self.tables.image(it))?,
            _ => LayerEvent::decode(value).map_err(|e| e.to_string()).and_then(|it| self.tables.layer(it))?,
        };
        let changed: Vec<ImageId> = match change {
            Change::Image(id) => self.wanted.get(&id).cloned().into_iter().collect(),
            Change::Layer => self.complete().cloned().collect(),
            Change::Conflict(_) => {
                let contradicted =
                    |id: &&ImageId| matches!(self.tables.lookup(id), Lookup::Complete { conflict: Some(_), .. });
                self.complete().chain(self.settled.iter().filter(contradicted)).cloned().collect()
            }
        };
        Ok(changed.into_iter().map(|id| self.answer(id)).collect())
    }

    /// Images that the core waits for and that are complete.
    fn complete(&self) -> impl Iterator<Item = &ImageId> {
        self.wanted.iter().filter(|id| matches!(self.tables.lookup(id), Lookup::Complete { .. }))
    }

    /// What the core asked.
    pub(super) fn ask(&mut self, ask: Ask) -> Option<Answer> {
        match ask {
            Ask::Image(id) => {
                self.wanted.insert(id.clone());
                Some(self.answer(id))
            }
            Ask::Forget(id) => {
                self.wanted.remove(&id);
                self.settled.remove(&id);
                None
            }
        }
    }

    fn answer(&mut self, id: ImageId) -> Answer {
        let answer = match self.tables.lookup(&id) {
            Lookup::Missing => ImageAnswer::Missing,
            Lookup::Failed { reason, failure, retry_ns } => ImageAnswer::Failed { reason, failure, retry_ns },
            Lookup::Complete { stored, conflict } => match self.merged(&id, &stored) {
                Ok(index) => ImageAnswer::Ready { index, conflict },
                Err(error) => ImageAnswer::unusable(&error),
            },
        };
        // Content does not change under a digest; only that somebody contradicts it may be news.
        if let ImageAnswer::Ready { conflict, .. } = &answer {
            self.wanted.remove(&id);
            self.settled.remove(&id);
            if conflict.is_none() {
                self.settled.insert(id.clone());
            }
        }
        (id, answer)
    }

    /// When the cache is full it begins anew: what is in use, the core holds itself.
    fn merged(&mut self, id: &ImageId, stored: &Stored) -> Result<Arc<ImageIndex>, LoadError> {
        if let Some(known) = self.merged.get(id) {
            return Ok(Arc::clone(known));
        }
        let index = Arc::new(stored.load(self.tables.chunks())?);
        self.merged_bytes = self.merged_bytes.saturating_add(index.memory_bytes());
        if self.merged_bytes > CACHE_BYTES {
            self.merged.clear();
            self.merged_bytes = index.memory_bytes();
        }
        self.merged.insert(id.clone(), Arc::clone(&index));
        Ok(index)
    }
}
