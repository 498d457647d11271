//! The summary of an analysis for people: its input, its output, and where it may differ from the output of the
//! services.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use driftline_correlator_core::telemetry;
use driftline_schemas::text::printable;
use driftline_schemas::topics::Topic;

use super::pipeline::{CORRELATOR, ENRICHER, Tally};
use super::source::{Analysis, Begin};

/// Reasons shown; the rest is counted.
const REASONS_MAX: usize = 5;

/// Events that report a limit; live, the limit may have been reached at another place.
const CAPS: [(&str, &str); 11] = [
    (ENRICHER, "parking_full"),
    (ENRICHER, "partition_parking_full"),
    (ENRICHER, "containers_full"),
    (ENRICHER, "container_evicted"),
    (ENRICHER, "mismatched_paths_capped"),
    (ENRICHER, "unresolved_forgotten"),
    (CORRELATOR, telemetry::SESSION_EVICTED_CONTAINER),
    (CORRELATOR, telemetry::SESSION_EVICTED_PARTITION),
    (CORRELATOR, telemetry::SESSION_EVICTED_MEMORY),
    (CORRELATOR, telemetry::SESSION_LENGTH_CAPPED),
    (CORRELATOR, telemetry::FINDING_UNTRACKED),
];

/// Events that report something as too late to count.
const LATE: [(&str, &str); 2] = [(ENRICHER, "amendment_too_late"), (CORRELATOR, telemetry::FINDING_LATE)];

/// `found` is the number of alerts or findings, `left_out` the number of those that belong to the pre-roll only.
pub(super) fn text(analysis: &Analysis, found: usize, left_out: usize) -> String {
    let Analysis { begin, tally, unused, revisions, .. } = analysis;
    let mut text = String::new();
    let begin = match begin {
        Begin::Execs => "from exec-events on",
        Begin::Findings => "from findings on: there are no exec-events",
        Begin::Alerts => "none: there are only alerts, which are taken as they are",
    };
    let _ = writeln!(text, "analysis     {begin}");
    let _ = writeln!(text, "records      {}", by_topic(&tally.records));
    if !unused.is_empty() {
        let _ = writeln!(text, "not used     {}", by_topic(unused));
    }
    for service in [ENRICHER, CORRELATOR] {
        let of_service = tally.settled.iter().filter(|((of, _), _)| *of == service);
        let counts: Vec<String> = of_service.map(|((_, label), count)| format!("{} {count}", label.label())).collect();
        if !counts.is_empty() {
            let _ = writeln!(text, "{service:<11}  {}", counts.join(", "));
        }
    }
    let _ = writeln!(text, "revisions    {}", by_topic(revisions));
    let _ = writeln!(text, "found        {found}{}", pre_roll(left_out));
    refused(&mut text, &tally.refused);
    let _ = write!(text, "{}", limits(tally));
    text
}

fn pre_roll(left_out: usize) -> String {
    if left_out == 0 { String::new() } else { format!(", and {left_out} of the pre-roll only, left out") }
}

fn refused(text: &mut String, reasons: &[String]) {
    for reason in reasons.iter().take(REASONS_MAX) {
        let _ = writeln!(text, "refused      {}", printable(reason.as_bytes()).text);
    }
    if let Some(more @ 1..) = reasons.len().checked_sub(REASONS_MAX) {
        let _ = writeln!(text, "refused      {more} more");
    }
}

/// An analysis equals the output of the services if none of these events occurred.
fn limits(tally: &Tally) -> String {
    let count = |of: &[(&'static str, &'static str)]| -> u64 {
        of.iter().map(|event| tally.events.get(event).copied().unwrap_or(0)).sum()
    };
    let named: Vec<String> = CAPS
        .iter()
        .chain(&LATE)
        .filter_map(|event| tally.events.get(event).map(|count| format!("{} {count}", event.1)))
        .collect();
    let named = if named.is_empty() { String::new() } else { format!(" ({})", named.join(", ")) };
    format!(
        "may differ from live: {} parking deadlines fired, {} caps reached, {} too late{named}",
        count(&[(ENRICHER, "deadline_fired")]),
        count(&CAPS),
        count(&LATE),
    )
}

fn by_topic(counts: &BTreeMap<Topic, u64>) -> String {
    let counts: Vec<String> = counts.iter().map(|(topic, count)| format!("{} {count}", topic.spec().stem)).collect();
    if counts.is_empty() { "none".to_owned() } else { counts.join(", ") }
}
