//! The image tables beside the enricher's core. They do at once what the enricher's shell does with a cache and
//! background tasks.

use std::collections::BTreeMap;
use std::sync::Arc;

use driftline_enricher_core::image::ImageIndex;
use driftline_enricher_core::tables::{Following, ImageTables, LoadError, Lookup, Stored};
use driftline_enricher_core::{ImageAnswer, ImageCommand, ImageView, Trust};
use driftline_kafka::Record;
use driftline_schemas::topics::Topic;
use driftline_schemas::{Image, LayerEvent, Sha256, decode};

/// Memory for unused merged images; the enricher's own default.
const CACHE_BYTES: usize = 256 * 1024 * 1024;

/// An answer for the core.
pub(super) type Answer = (ImageView, ImageAnswer);

#[derive(Debug, Default)]
pub(super) struct Images {
    tables: ImageTables,
    following: Following,
    /// Merged images by the digest of their content.
    merged: BTreeMap<Sha256, Arc<ImageIndex>>,
    merged_bytes: usize,
}

impl Images {
    pub(super) fn new(trust: Trust) -> Self {
        Self { tables: ImageTables::new(trust), ..Self::default() }
    }

    /// Takes a table record; returns the answers that change for the core.
    ///
    /// # Errors
    /// The reason why the record cannot be used.
    pub(super) fn record(&mut self, record: &Record) -> Result<Vec<Answer>, String> {
        let Some(value) = &record.value else {
            // Images already in use by running containers stay valid for them.
            let key = record.key.as_deref().and_then(|key| std::str::from_utf8(key).ok()).unwrap_or_default();
            match record.topic {
                Topic::Images => self.tables.forget_image(key),
                _ => self.tables.forget_layer(key),
            }
            return Ok(Vec::new());
        };
        let change = match record.topic {
            Topic::Images => decode::<Image>(value).map_err(|e| e.to_string()).and_then(|it| self.tables.image(it))?,
            _ => LayerEvent::decode(value).map_err(|e| e.to_string()).and_then(|it| self.tables.layer(it))?,
        };
        let concerned = self.following.concerned(&[change], &self.tables);
        Ok(concerned.into_iter().map(|view| self.answer(view)).collect())
    }

    /// Executes a command of the core.
    pub(super) fn command(&mut self, command: ImageCommand) -> Option<Answer> {
        match command {
            ImageCommand::Load(view) => {
                self.following.ask(view.clone());
                Some(self.answer(view))
            }
            ImageCommand::Forget(view) => {
                self.following.forget(&view);
                None
            }
        }
    }

    fn answer(&mut self, view: ImageView) -> Answer {
        let answer = match self.tables.lookup(&view) {
            // In memory nothing is collected.
            Lookup::Missing | Lookup::Collected(_) => ImageAnswer::Missing,
            Lookup::Failed { reason, failure, retry_ns } => ImageAnswer::Failed { reason, failure, retry_ns },
            Lookup::Complete { stored, conflict } => match self.merged(&stored) {
                Ok(index) => ImageAnswer::Ready { index, conflict },
                Err(error) => ImageAnswer::unusable(&error),
            },
        };
        self.following.answered(&view, &answer);
        (view, answer)
    }

    /// A full cache is cleared: the core itself holds the images in use.
    fn merged(&mut self, stored: &Stored) -> Result<Arc<ImageIndex>, LoadError> {
        let name = stored.name();
        if let Some(merged) = self.merged.get(&name) {
            return Ok(Arc::clone(merged));
        }
        let index = Arc::new(stored.load(self.tables.chunks())?);
        self.merged_bytes = self.merged_bytes.saturating_add(index.memory_bytes());
        if self.merged_bytes > CACHE_BYTES {
            self.merged.clear();
            self.merged_bytes = index.memory_bytes();
        }
        self.merged.insert(name, Arc::clone(&index));
        Ok(index)
    }
}
