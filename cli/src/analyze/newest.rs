//! The emitted alerts or findings by id: the newest revision of each, in the order of their first emission.

use std::collections::BTreeMap;

use driftline_schemas::topics::Topic;
use driftline_schemas::{Alert, DecodeError, Finding, decode};

use super::pipeline::Emission;

/// One revision of an alert or finding.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Revision {
    pub(super) id: String,
    pub(super) number: i32,
    /// Time of emission, nanoseconds since 1970.
    pub(super) emitted_ns: i64,
    /// Time of the last emission that changed the content: a final revision only reports that nothing more followed.
    pub(super) changed_ns: i64,
    pub(super) value: Vec<u8>,
}

/// Keeps the highest revision of each id, and of equal ones the later, as every reader of the topics must.
#[derive(Debug, Default)]
pub(super) struct Newest {
    revisions: Vec<Revision>,
    indices: BTreeMap<String, usize>,
}

impl Revision {
    /// The revision in a record of alerts or findings; `None` for any other record.
    pub(super) fn of(emission: &Emission) -> Result<Option<Self>, DecodeError> {
        let Emission { at_ns, what } = emission;
        let (id, number, is_final) = match what.topic {
            Topic::Findings => {
                let finding: Finding = decode(&what.value)?;
                (finding.finding_id.to_string(), finding.revision, false)
            }
            Topic::Alerts => {
                let alert: Alert = decode(&what.value)?;
                (alert.alert_id.to_string(), alert.revision, alert.r#final)
            }
            _ => return Ok(None),
        };
        let changed_ns = if is_final { i64::MIN } else { *at_ns };
        Ok(Some(Self { id, number, emitted_ns: *at_ns, changed_ns, value: what.value.clone() }))
    }
}

impl Newest {
    pub(super) fn take(&mut self, mut revision: Revision) {
        let fresh = self.revisions.len();
        let index = *self.indices.entry(revision.id.clone()).or_insert(fresh);
        match self.revisions.get_mut(index) {
            None => self.revisions.push(revision),
            Some(present) if revision.number >= present.number => {
                revision.changed_ns = revision.changed_ns.max(present.changed_ns);
                *present = revision;
            }
            Some(_) => {}
        }
    }

    /// The revisions that changed at or after a time.
    pub(super) fn since(self, since_ns: i64) -> Vec<Revision> {
        self.revisions.into_iter().filter(|revision| revision.changed_ns >= since_ns).collect()
    }

    pub(super) fn len(&self) -> usize {
        self.revisions.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn revision(id: &str, number: i32, changed_ns: i64, value: u8) -> Revision {
        Revision { id: id.into(), number, emitted_ns: 9, changed_ns, value: vec![value] }
    }

    #[test]
    fn the_highest_revision_stays_and_of_equal_ones_the_later() {
        let mut newest = Newest::default();
        for (id, number, value) in [("a", 1, 1), ("b", 1, 2), ("a", 3, 3), ("a", 2, 4), ("a", 3, 5)] {
            newest.take(revision(id, number, 0, value));
        }
        let revisions: Vec<_> = newest.since(0).into_iter().map(|it| (it.id, it.number, it.value[0])).collect();
        assert_eq!(revisions, [("a".to_owned(), 3, 5), ("b".to_owned(), 1, 2)]);
    }

    #[test]
    fn a_final_revision_does_not_count_as_a_change() {
        let mut newest = Newest::default();
        newest.take(revision("pre-roll", 1, 5, 1));
        newest.take(revision("pre-roll", 2, i64::MIN, 1));
        newest.take(revision("range", 1, 5, 1));
        newest.take(revision("range", 2, 12, 1));
        newest.take(revision("range", 3, i64::MIN, 1));
        let revisions: Vec<_> = newest.since(10).into_iter().map(|it| (it.id, it.number)).collect();
        assert_eq!(revisions, [("range".to_owned(), 3)]);
    }
}
