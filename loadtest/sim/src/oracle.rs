//! The expected output, computed naively from the input: without the code of the cores, without state, and in no other
//! order of arrival than that of the topic.

mod news;
mod sessions;

use driftline_schemas::topics::{Topic, partition_of};
use driftline_schemas::{Exec, ExecEvent, Finding, FindingId, FindingState, HashState, Origin};
use std::collections::{BTreeMap, BTreeSet};

use crate::broker::Broker;
use crate::checks::Outputs;
use crate::violation::{Checked, Violation};
use crate::workload::{Clarity, Early, Label, Plan};
pub(crate) use news::check_news;
pub(crate) use sessions::{Limits, check_alerts, clouded, evicted};

const FINDINGS: &str = "oracle: findings";

/// The facts of a run beside its topics.
pub(crate) struct RunFacts<'a> {
    pub plan: &'a Plan,
    /// Containers for which a deadline fired.
    pub gave_up: &'a BTreeSet<String>,
    /// Input that was deleted before it was read, per partition of exec-events.
    pub gone: Vec<driftline_service_core::Gap>,
}

impl RunFacts<'_> {
    /// How much of a container's findings is determined after this run.
    pub(crate) fn clarity(&self, container: &str) -> Clarity {
        let planned = self.plan.clarity.get(container).copied().unwrap_or(Clarity::Vague);
        if self.gave_up.contains(container) { planned.max(Clarity::InTheEnd) } else { planned }
    }

    fn is_gone(&self, partition: i32, offset: i64) -> bool {
        self.gone.iter().any(|gap| gap.partition == partition && (gap.from..gap.to).contains(&offset))
    }
}

/// The first record of an exec or of a throttling in the topic. For an exec without findings unless its digest is
/// known, the first record with the digest.
struct First<'a> {
    id: FindingId,
    label: &'a Label,
}

/// The input in the form that the oracle uses.
struct Inputs<'a> {
    /// First deliveries, in order, by container.
    execs: BTreeMap<&'a str, Vec<First<'a>>>,
    /// Containers with deleted records.
    holes: BTreeSet<String>,
    /// Loss findings.
    losses: BTreeSet<FindingId>,
    /// Containers of which an exec came that is unproven until its digest comes.
    unproven: BTreeSet<&'a str>,
    poison: u64,
}

fn read<'a>(broker: &Broker, facts: &RunFacts<'a>) -> Inputs<'a> {
    let mut inputs = Inputs {
        execs: BTreeMap::new(),
        holes: BTreeSet::new(),
        losses: BTreeSet::new(),
        unproven: BTreeSet::new(),
        poison: 0,
    };
    let mut seen: BTreeSet<String> = BTreeSet::new();
    for topic_partition in broker.topic_partitions(Topic::ExecEvents) {
        for (offset, data) in broker.committed_records(topic_partition) {
            let gone = facts.is_gone(topic_partition.1, offset);
            let event = ExecEvent::decode(data.value.as_deref().unwrap_or_default()).ok();
            let right_key = |event: &ExecEvent| data.key.as_deref() == Some(event.key().as_bytes());
            let right_partition =
                |event: &ExecEvent| partition_of(event.key().as_bytes(), broker.partition_count()) == topic_partition.1;
            match event.filter(|event| right_key(event) && right_partition(event)) {
                Some(event) if gone => drop(inputs.holes.insert(event.key().to_owned())),
                None if gone => {}
                None => inputs.poison += 1,
                Some(ExecEvent::Exec(exec))
                    if is_reported(&exec, facts.plan) && seen.insert(exec.event_id.to_string()) =>
                {
                    if let Some(label) = facts.plan.labels.get(exec.event_id.as_str()) {
                        let id = FindingId::of(&exec.event_id, "drift");
                        inputs.execs.entry(label.container.as_str()).or_default().push(First { id, label });
                    }
                }
                Some(ExecEvent::Exec(exec))
                    if !is_reported(&exec, facts.plan) && !seen.contains(exec.event_id.as_str()) =>
                {
                    let label = facts.plan.labels.get(exec.event_id.as_str());
                    inputs.unproven.extend(label.map(|label| label.container.as_str()));
                }
                Some(ExecEvent::Throttled(throttled)) if seen.insert(throttled.event_id().to_string()) => {
                    if let Some(label) = facts.plan.labels.get(throttled.event_id().as_str()) {
                        let id = FindingId::of(&throttled.event_id(), "throttle");
                        inputs.execs.entry(label.container.as_str()).or_default().push(First { id, label });
                    }
                }
                Some(ExecEvent::Loss(loss)) => {
                    let node = &loss.node;
                    let event = driftline_schemas::EventId::of_loss(
                        &node.cluster,
                        &node.name,
                        &loss.collector_start,
                        &loss.reason,
                        loss.from_ns,
                    );
                    inputs.losses.insert(FindingId::of(&event, "loss"));
                }
                Some(_) => {}
            }
        }
    }
    inputs
}

fn is_reported(exec: &Exec, plan: &Plan) -> bool {
    let early = plan.labels.get(exec.event_id.as_str()).and_then(|label| label.early);
    early != Some(Early::Unproven) || exec.hash_state != HashState::OverBudget
}

/// Checks the findings against those that the input must lead to.
pub(crate) fn check_findings(broker: &Broker, outputs: &Outputs, facts: &RunFacts<'_>) -> Checked {
    let inputs = read(broker, facts);
    let mut last: BTreeMap<&FindingId, &Finding> = BTreeMap::new();
    let mut firsts: BTreeMap<&str, Vec<&Finding>> = BTreeMap::new();
    for finding in &outputs.findings {
        last.insert(&finding.finding_id, finding);
        if finding.revision == 1 && finding.detector != "image" && finding.origin != Origin::Unproven {
            let container = finding.container.as_ref().map_or("", |container| container.id.as_str());
            firsts.entry(container).or_default().push(finding);
        }
    }
    check_losses(&inputs, &last, facts)?;
    check_images(&last, &inputs.holes, facts)?;
    check_unproven(&inputs, &last, facts)?;
    let letters = outputs.dead_letters.iter().filter(|letter| letter.starts_with("enricher/")).count() as u64;
    if letters != inputs.poison {
        let what = format!("{letters} dead letters for {} records that cannot be used", inputs.poison);
        return Err(Violation::new("oracle: dead letters", what));
    }
    if facts.gone.is_empty() && outputs.dead_letters.len() as u64 != facts.plan.poison {
        let what = format!("{} dead letters, {} bad records were sent", outputs.dead_letters.len(), facts.plan.poison);
        return Err(Violation::new("oracle: dead letters", what));
    }
    for (container, execs) in &inputs.execs {
        let container_firsts = firsts.remove(container).unwrap_or_default();
        check_order(container, execs, &container_firsts, facts)?;
        if inputs.holes.contains(*container) {
            continue;
        }
        match facts.clarity(container) {
            Clarity::Exact => check_exact(container, execs, &container_firsts, &last)?,
            Clarity::InTheEnd => check_in_the_end(container, execs, &last)?,
            Clarity::Vague => {}
        }
    }
    Ok(())
}

fn check_losses(inputs: &Inputs<'_>, last: &BTreeMap<&FindingId, &Finding>, facts: &RunFacts<'_>) -> Checked {
    let reported: BTreeSet<FindingId> = last
        .values()
        .filter(|finding| finding.detector == "loss" && finding.category == "Collector Lost Events")
        .map(|finding| finding.finding_id.clone())
        .collect();
    if reported != inputs.losses {
        return Err(Violation::new(FINDINGS, format!("losses {reported:?}, expected {:?}", inputs.losses)));
    }
    let gaps = last.values().filter(|finding| finding.category == "Topic Lost Events").count();
    if gaps != facts.gone.len() {
        return Err(Violation::new(FINDINGS, format!("{gaps} gaps are reported, there were {}", facts.gone.len())));
    }
    Ok(())
}

/// Checks the findings about images: only planned ones, once for each container, and all of them unless the image of a
/// container is unknown. Only the container's record on exec-events names the image. If retention deleted records of a
/// container before they were read, that record may be among them. In that case no enricher uses the image, none can
/// report its flaw, and the finding about the gap is the only one. The other findings of such a container are still
/// checked.
fn check_images(last: &BTreeMap<&FindingId, &Finding>, holes: &BTreeSet<String>, facts: &RunFacts<'_>) -> Checked {
    let mut reported: BTreeSet<(&str, &str)> = BTreeSet::new();
    for finding in last.values().filter(|finding| finding.detector == "image") {
        let container = finding.container.as_ref().map_or("", |container| container.id.as_str());
        if !reported.insert((container, finding.category.as_str())) {
            return Err(Violation::new(FINDINGS, format!("{container}: {} is reported twice", finding.category)));
        }
        if facts.plan.image_flaws.get(container).is_none_or(|planned| *planned != finding.category) {
            return Err(Violation::new(FINDINGS, format!("{container}: {}, and nothing is wrong", finding.category)));
        }
    }
    let missing = facts.plan.image_flaws.iter().find(|(container, category)| {
        let is_whole = facts.clarity(container) == Clarity::Exact && !holes.contains(container.as_str());
        is_whole && !reported.contains(&(container.as_str(), category))
    });
    match missing {
        Some((container, category)) => Err(Violation::new(FINDINGS, format!("{container}: {category} is missing"))),
        None => Ok(()),
    }
}

/// Checks the findings about unproven execs: of a container whose image becomes known each is retracted, because every
/// digest arrives in the end; and a container of which an exec came without its digest has one.
fn check_unproven(inputs: &Inputs<'_>, last: &BTreeMap<&FindingId, &Finding>, facts: &RunFacts<'_>) -> Checked {
    let mut reported = BTreeSet::new();
    for finding in last.values().filter(|finding| finding.origin == Origin::Unproven) {
        let container = finding.container.as_ref().map_or("", |container| container.id.as_str());
        reported.insert(container);
        let is_vague = facts.clarity(container) == Clarity::Vague || inputs.holes.contains(container);
        if finding.state == FindingState::Active && !is_vague {
            let what = format!("{container}: still unproven, revision {}: {}", finding.revision, finding.note);
            return Err(Violation::new("oracle: unproven execs", what));
        }
    }
    let missing = inputs.unproven.iter().find(|container| {
        let is_whole = facts.clarity(container) == Clarity::Exact && !inputs.holes.contains(**container);
        is_whole && !reported.contains(*container)
    });
    match missing {
        Some(container) => Err(Violation::new("oracle: unproven execs", format!("{container}: none is reported"))),
        None => Ok(()),
    }
}

/// Checks that first revisions are in the order of the execs. An exec without a finding is judged again when it is
/// delivered again. If a deadline fired meanwhile, the outcome may differ, later than its place.
fn check_order(container: &str, execs: &[First<'_>], firsts: &[&Finding], facts: &RunFacts<'_>) -> Checked {
    let exact = facts.clarity(container) == Clarity::Exact;
    let topic_partitions: BTreeMap<&FindingId, usize> = execs.iter().map(|exec| &exec.id).zip(0..).collect();
    let mut before = None;
    for finding in firsts {
        let topic_partition = topic_partitions.get(&finding.finding_id).copied();
        let Some(topic_partition) = topic_partition else {
            let what = format!("{container}: {} is about no exec of it", finding.finding_id);
            return Err(Violation::new(FINDINGS, what));
        };
        let always_told =
            execs.get(topic_partition).is_some_and(|exec| exec.label.finding.is_some() && exec.label.suspicious);
        if !exact && !always_told {
            continue;
        }
        if before.is_some_and(|before| before >= topic_partition) {
            let what = format!("{container}: {} stands behind a later exec's", finding.finding_id);
            return Err(Violation::new("order of first revisions", what));
        }
        before = Some(topic_partition);
    }
    Ok(())
}

fn check_exact(
    container: &str,
    execs: &[First<'_>],
    firsts: &[&Finding],
    last: &BTreeMap<&FindingId, &Finding>,
) -> Checked {
    let mut paths = BTreeSet::new();
    let mut expected = 0;
    for exec in execs {
        let wanted = exec.label.finding.filter(|wanted| !wanted.once_per_path || paths.insert(&exec.label.path));
        let found = last.get(&exec.id);
        let same = match (&wanted, found) {
            (None, None) => exec.label.early != Some(Early::Finding),
            (None, Some(found)) => {
                expected += 1;
                exec.label.early == Some(Early::Finding)
                    && (found.state, found.revision) == (FindingState::Retracted, 2)
            }
            (Some(wanted), Some(found)) => {
                expected += 1;
                let reported =
                    (found.category.as_str(), found.severity, found.origin, &found.unresolved, found.revision);
                let revision = if exec.label.early == Some(Early::Finding) { 2 } else { 1 };
                let digest = found.subject.as_ref().is_none_or(|subject| subject.hash_state != HashState::OverBudget);
                reported == (wanted.category, wanted.severity, wanted.origin, &None, revision)
                    && (digest || exec.label.early.is_none())
            }
            _ => false,
        };
        if !same {
            let found = found.map(|found| (&found.category, found.origin, &found.unresolved, found.revision));
            let what = format!("{container}, exec of {}: expected {wanted:?}, found {found:?}", exec.label.path);
            return Err(Violation::new(FINDINGS, what));
        }
    }
    if firsts.len() == expected {
        return Ok(());
    }
    Err(Violation::new(FINDINGS, format!("{container}: {} findings, expected {expected}", firsts.len())))
}

/// Checks that every unresolved finding is amended, and that no suspicious exec is missing.
fn check_in_the_end(container: &str, execs: &[First<'_>], last: &BTreeMap<&FindingId, &Finding>) -> Checked {
    for exec in execs {
        let found = last.get(&exec.id);
        let fail = |why: &str| {
            let found =
                found.map(|found| (&found.category, found.origin, &found.unresolved, found.state, found.revision));
            Err(Violation::new(
                "oracle: amendments",
                format!("{container}, exec of {}: {why}: {found:?}", exec.label.path),
            ))
        };
        match (exec.label.finding, found) {
            (None, None) => {}
            (None, Some(found)) if found.state == FindingState::Retracted => {}
            (None, Some(_)) => return fail("stands, expected none"),
            (Some(wanted), None) if exec.label.suspicious && !wanted.once_per_path => return fail("is missing"),
            (Some(_), None) => {}
            (Some(wanted), Some(found)) => {
                let reported = (found.category.as_str(), found.severity, found.origin, found.state);
                if reported != (wanted.category, wanted.severity, wanted.origin, FindingState::Active) {
                    return fail("is not what stands in the end");
                }
            }
        }
    }
    Ok(())
}
