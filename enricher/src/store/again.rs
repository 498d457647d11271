//! Reads collected chunks from the topic again, into the store.

use std::collections::{BTreeMap, BTreeSet};

use driftline_kafka::{ClientSettings, OffsetRange, ReaderEvent, TopicReader};
use driftline_schemas::Sha256;
use driftline_schemas::topics::Topic;

use super::background::{BYTES_MAX, FeedEvent, in_background, put_back};
use super::{News, Row, Store};
use std::sync::Arc;
use tokio::sync::mpsc;

/// Most records between two wanted ones that one reader reads and discards: they cost less than a separate reader.
const NEAR: i64 = 256;

/// Reads the collected chunks of these manifests again. Sends the rows that were read, and at the end the manifests
/// with missing chunks. `Err` holds the last event of the feed, or `None` when the shell no longer listens.
pub(super) async fn read(
    kafka: &ClientSettings,
    store: &Arc<Store>,
    manifests: BTreeSet<Sha256>,
    sender: &mpsc::Sender<FeedEvent>,
) -> Result<(), Option<FeedEvent>> {
    let unwritten = |error| Some(FeedEvent::Unwritten(error));
    let asked = manifests.clone();
    let places = in_background(store, move |store| store.collected(&asked)).await.map_err(unwritten)?;
    for ranges in passes(&places) {
        let mut reader = TopicReader::ranges(kafka, &ranges).map_err(|error| Some(FeedEvent::Unread(error)))?;
        let (mut rows, mut bytes) = (Vec::new(), 0_usize);
        loop {
            let is_over = match reader.next().await {
                Some(ReaderEvent::Record(record)) => {
                    let row = Row::of(record);
                    if matches!(&row.news, News::Chunk { manifest, .. } if manifests.contains(manifest)) {
                        bytes = bytes.saturating_add(row.value_bytes());
                        rows.push(row);
                    }
                    false
                }
                Some(ReaderEvent::CaughtUp) => true,
                Some(ReaderEvent::Failed(error)) => return Err(Some(FeedEvent::Unread(error))),
                None => return Err(None),
            };
            if is_over || bytes >= BYTES_MAX {
                bytes = 0;
                let rows = put_back(store, std::mem::take(&mut rows)).await.map_err(unwritten)?;
                sender.send(FeedEvent::Stored(rows)).await.map_err(|_| None)?;
            }
            if is_over {
                break;
            }
        }
    }
    let asked = manifests.clone();
    let gone = in_background(store, move |store| store.forget_collected(&asked)).await.map_err(unwritten)?;
    sender.send(FeedEvent::ReadAgain { manifests, gone }).await.map_err(|_| None)
}

/// The ranges of each reader, one reader after the other: for each partition one run of nearby offsets.
fn passes(places: &BTreeSet<(i32, i64)>) -> Vec<Vec<OffsetRange>> {
    let mut runs: BTreeMap<i32, Vec<OffsetRange>> = BTreeMap::new();
    for (partition, offset) in places.iter().copied() {
        let runs = runs.entry(partition).or_default();
        match runs.last_mut() {
            Some(run) if offset.saturating_sub(run.end) < NEAR => run.end = offset.saturating_add(1),
            _ => runs.push(OffsetRange {
                topic: Topic::ImageLayers,
                partition,
                begin: offset,
                end: offset.saturating_add(1),
            }),
        }
    }
    let count = runs.values().map(Vec::len).max().unwrap_or(0);
    (0..count).map(|pass| runs.values().filter_map(|runs| runs.get(pass).copied()).collect()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_that_are_near_each_other_are_read_in_one_go() {
        let places = BTreeSet::from([(0, 5), (0, 6), (0, 7 + NEAR), (0, 9), (1, 3), (0, 10_000)]);
        let read: Vec<Vec<(i32, i64, i64)>> = passes(&places)
            .into_iter()
            .map(|pass| pass.into_iter().map(|range| (range.partition, range.begin, range.end)).collect())
            .collect();
        assert_eq!(read, [vec![(0, 5, 8 + NEAR), (1, 3, 4)], vec![(0, 10_000, 10_001)]]);
    }
}
