//! Keeps a finding and an alert to their maxima.
//!
//! Texts of a finding are cut when it arrives, so that nothing of unlimited length is ever retained. An alert that is still
//! too long, because it shows many findings, is cut in steps until both its forms fit, as measured by encoding it.

use crate::{SiemFormat, strongest};
use driftline_schemas::limits::{
    ALERT_BYTES_MAX, ANCESTORS_MAX, ARGS_BYTES_MAX, ENVIRONMENT_NAMES_MAX, FDS_MAX, ID_BYTES_MAX, PATH_BYTES_MAX,
};
use driftline_schemas::{Alert, Container, Finding, ImageId, Node, Process, Subject, encode};
use driftline_service_core::BrokenInvariant;
use std::collections::BTreeMap;

use crate::limits::{
    CAPABILITIES_MAX, FACT_BYTES_MAX, FINDING_TECHNIQUES_MAX, HOST_NAMESPACES_MAX, POD_LABELS_MAX, TECHNIQUE_BYTES_MAX,
};
use crate::session::flag;

/// Longest printable form of a path: each of its bytes may become `\xNN`.
const PRINTABLE_PATH_BYTES_MAX: usize = 4 * PATH_BYTES_MAX;

/// Longest printable form of all arguments together.
const PRINTABLE_ARGS_BYTES_MAX: usize = 4 * ARGS_BYTES_MAX;

/// Replaces the text that was cut.
const MARK: &str = "…";

/// Whether a text or list had to be cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub(crate) enum Cut {
    Nothing,
    Some,
}

/// Returns `text` in at most `max` bytes, cut at a character boundary and followed by [`MARK`].
pub(crate) fn clip(text: &str, max: usize) -> String {
    let mut text = text.to_owned();
    let _ = clip_in_place(&mut text, max);
    text
}

fn clip_in_place(text: &mut String, max: usize) -> Cut {
    if text.len() <= max {
        return Cut::Nothing;
    }
    text.truncate(text.floor_char_boundary(max.saturating_sub(MARK.len())));
    text.push_str(MARK);
    Cut::Some
}

/// Cuts several texts.
fn clip_all<'a>(texts: impl IntoIterator<Item = (&'a mut String, usize)>) -> Cut {
    texts.into_iter().fold(Cut::Nothing, |cut, (text, max)| cut.and(clip_in_place(text, max)))
}

impl Cut {
    fn and(self, other: Self) -> Self {
        if self == Self::Some { self } else { other }
    }
}

/// Cuts every text of an arriving finding to its maximum.
pub(crate) fn limit_finding(finding: &mut Finding) -> Cut {
    let mut cut = limit_node(&mut finding.node);
    if let Some(container) = &mut finding.container {
        cut = cut.and(limit_container(container));
    }
    if let Some(process) = &mut finding.process {
        cut = cut.and(limit_process(process, PRINTABLE_PATH_BYTES_MAX, PRINTABLE_ARGS_BYTES_MAX));
    }
    if let Some(subject) = &mut finding.subject {
        cut = cut.and(limit_subject(subject, PRINTABLE_PATH_BYTES_MAX));
    }
    if finding.techniques.len() > FINDING_TECHNIQUES_MAX {
        finding.techniques.truncate(FINDING_TECHNIQUES_MAX);
        cut = Cut::Some;
    }
    cut = cut.and(clip_all(finding.techniques.iter_mut().map(|text| (text, TECHNIQUE_BYTES_MAX))));
    let kinds = finding.versions.len();
    finding.versions.retain(|kind, _| kind.len() <= FACT_BYTES_MAX);
    if finding.versions.len() < kinds {
        cut = Cut::Some;
    }
    let facts = [&mut finding.detector, &mut finding.category, &mut finding.note];
    let facts = facts.into_iter().chain(&mut finding.unresolved);
    cut.and(clip_all(facts.chain(finding.versions.values_mut()).map(|text| (text, FACT_BYTES_MAX))))
}

fn limit_node(node: &mut Node) -> Cut {
    let facts = [
        &mut node.cluster,
        &mut node.name,
        &mut node.provider_id,
        &mut node.zone,
        &mut node.project,
        &mut node.location,
    ];
    clip_all(facts.map(|text| (text, FACT_BYTES_MAX)))
}

fn limit_container(container: &mut Container) -> Cut {
    let namespaces = container.host_namespaces.len();
    container.host_namespaces.truncate(HOST_NAMESPACES_MAX);
    let mut cut = if container.host_namespaces.len() < namespaces { Cut::Some } else { Cut::Nothing };
    let facts = [
        &mut container.name,
        &mut container.runtime,
        &mut container.image_ref,
        &mut container.image_id_source,
        &mut container.service_account,
        &mut container.rootfs,
    ];
    // A shortened digest identifies nothing.
    if container.image_id.as_str().len() > ID_BYTES_MAX {
        container.image_id = ImageId::default();
        cut = Cut::Some;
    }
    let facts = facts.into_iter().chain(&mut container.host_namespaces);
    cut = cut.and(clip_all(facts.map(|text| (text, FACT_BYTES_MAX))));
    if let Some(owner) = &mut container.owner {
        cut = cut.and(clip_all([(&mut owner.kind, FACT_BYTES_MAX), (&mut owner.name, FACT_BYTES_MAX)]));
    }
    if let Some(pod) = &mut container.pod {
        let facts = [&mut pod.namespace, &mut pod.name, &mut pod.uid];
        cut = cut.and(clip_all(facts.map(|text| (text, FACT_BYTES_MAX))));
        cut = cut.and(limit_labels(&mut pod.labels, POD_LABELS_MAX));
    }
    cut
}

/// Keeps the first `max` labels whose key and value are of a plausible length.
fn limit_labels(labels: &mut BTreeMap<String, String>, max: usize) -> Cut {
    let before = labels.len();
    let mut room = max;
    labels.retain(|key, value| {
        let keep = room > 0 && key.len() <= FACT_BYTES_MAX && value.len() <= FACT_BYTES_MAX;
        room -= usize::from(keep);
        keep
    });
    if labels.len() < before { Cut::Some } else { Cut::Nothing }
}

fn limit_process(process: &mut Process, path_max: usize, args_max: usize) -> Cut {
    let paths = [&mut process.executable, &mut process.typed_path, &mut process.cwd];
    let mut cut = clip_all(paths.map(|path| (path, path_max)));
    cut = cut.and(clip_all([(&mut process.parent_name, FACT_BYTES_MAX)]));
    cut = cut.and(clip_all(process.tty.as_mut().map(|tty| (tty, FACT_BYTES_MAX))));
    cut = cut.and(limit_list(&mut process.ancestors, ANCESTORS_MAX));
    cut = cut.and(limit_list(&mut process.descriptors, FDS_MAX));
    cut = cut.and(limit_list(&mut process.capabilities_gained, CAPABILITIES_MAX));
    cut = cut.and(limit_list(&mut process.environment, ENVIRONMENT_NAMES_MAX));
    let of_ancestors = process.ancestors.iter_mut().flat_map(|it| std::iter::once(&mut it.name).chain(&mut it.path));
    let peers = process.descriptors.iter_mut().filter_map(|it| it.peer.as_mut());
    let facts = of_ancestors.chain(peers).chain(&mut process.capabilities_gained).chain(&mut process.environment);
    cut = cut.and(clip_all(facts.map(|text| (text, path_max.min(FACT_BYTES_MAX)))));
    cut.and(limit_args(process, args_max))
}

fn limit_list<T>(list: &mut Vec<T>, max: usize) -> Cut {
    let is_longer = list.len() > max;
    list.truncate(max);
    if is_longer { Cut::Some } else { Cut::Nothing }
}

/// Keeps arguments from the front. If any argument is cut, the raw form is dropped: it must match word for word.
fn limit_args(process: &mut Process, max: usize) -> Cut {
    // An argument takes a length, or quotes and a comma, beside its bytes.
    const OVERHEAD: usize = 4;
    let mut room = max;
    let mut cut = Cut::Nothing;
    let mut retained = Vec::new();
    for mut argument in std::mem::take(&mut process.args) {
        if room <= OVERHEAD {
            cut = Cut::Some;
            break;
        }
        cut = cut.and(clip_in_place(&mut argument, room - OVERHEAD));
        room = room.saturating_sub(argument.len() + OVERHEAD);
        retained.push(argument);
    }
    process.args = retained;
    let raw_bytes = |raw: &Vec<String>| raw.iter().map(|word| word.len() + OVERHEAD).sum::<usize>();
    let raw_too_long = process.args_base64.as_ref().is_some_and(|raw| raw_bytes(raw) > max.saturating_mul(2));
    if cut == Cut::Some || raw_too_long {
        process.args_base64 = None;
    }
    process.args_truncated |= cut == Cut::Some;
    if raw_too_long { Cut::Some } else { cut }
}

fn limit_subject(subject: &mut Subject, path_max: usize) -> Cut {
    let mut cut = clip_all([(&mut subject.path, path_max)]);
    cut = cut.and(clip_all(subject.image_path.as_mut().map(|path| (path, path_max))));
    if cut == Cut::Some || subject.path_base64.as_ref().is_some_and(|raw| raw.len() > path_max) {
        subject.path_base64 = None;
        cut = Cut::Some;
    }
    if let Some(mount) = &mut subject.mount {
        let texts = [&mut mount.point, &mut mount.fs_type, &mut mount.source];
        cut = cut.and(clip_all(texts.map(|text| (text, path_max.min(FACT_BYTES_MAX)))));
    }
    cut
}

/// An alert in every form in which it is written.
#[derive(Debug)]
pub(crate) struct Encoded {
    pub avro: Vec<u8>,
    pub siem: Vec<(&'static SiemFormat, Vec<u8>)>,
}

impl Encoded {
    fn of(alert: &Alert, formats: &'static [SiemFormat]) -> Result<Self, BrokenInvariant> {
        let siem = formats.iter().map(|format| {
            let bytes = (format.encode)(alert).map_err(|error| BrokenInvariant(error.to_string()))?;
            Ok((format, bytes))
        });
        Ok(Self { avro: encode(alert)?, siem: siem.collect::<Result<_, BrokenInvariant>>()? })
    }

    fn fits(&self) -> bool {
        self.siem.iter().map(|(_, bytes)| bytes).chain([&self.avro]).all(|bytes| bytes.len() <= ALERT_BYTES_MAX)
    }
}

/// One step of cutting an alert: how much it keeps of each finding's arguments and paths, and of the pod's labels.
struct Step {
    args_max: usize,
    path_max: usize,
    labels_max: usize,
}

const STEPS: [Step; 4] = [
    Step { args_max: 1_024, path_max: 2_048, labels_max: 32 },
    Step { args_max: 512, path_max: 512, labels_max: 16 },
    Step { args_max: 128, path_max: 256, labels_max: 8 },
    Step { args_max: 64, path_max: 128, labels_max: 0 },
];

/// Cuts `alert` until each of its forms fits a record, whether or not all of them are written: the content of an alert
/// must not depend on its readers. The strongest finding keeps its path to the last. The response commands need the
/// whole path and are never cut.
pub(crate) fn fit(alert: &mut Alert, formats: &'static [SiemFormat]) -> Result<Encoded, BrokenInvariant> {
    let mut encoded = Encoded::of(alert, formats)?;
    for step in &STEPS {
        if encoded.fits() {
            return Ok(encoded);
        }
        shorten(alert, step);
        set_flag(alert, flag::SHORTENED);
        encoded = Encoded::of(alert, formats)?;
    }
    while !encoded.fits() {
        if !drop_weaker_half(alert) {
            return Err(BrokenInvariant(format!("alert {} does not fit a record", alert.alert_id)));
        }
        set_flag(alert, flag::FINDINGS_CAPPED);
        encoded = Encoded::of(alert, formats)?;
    }
    Ok(encoded)
}

fn shorten(alert: &mut Alert, step: &Step) {
    for finding in &mut alert.findings {
        if let Some(process) = &mut finding.process {
            let _ = limit_process(process, step.path_max, step.args_max);
        }
        if let Some(subject) = &mut finding.subject {
            let _ = limit_subject(subject, step.path_max);
        }
        let _ = clip_all([(&mut finding.note, step.path_max)]);
    }
    if let Some(pod) = alert.container.as_mut().and_then(|container| container.pod.as_mut()) {
        let _ = limit_labels(&mut pod.labels, step.labels_max);
    }
}

/// Returns `false` when only one finding is left.
fn drop_weaker_half(alert: &mut Alert) -> bool {
    let keep = alert.findings.len() / 2;
    if keep == 0 {
        return false;
    }
    let top = strongest(&alert.findings).map(|finding| finding.finding_id.clone());
    let mut ranked: Vec<_> =
        alert.findings.iter().map(|finding| (finding.severity, finding.finding_id.clone())).collect();
    // Stable, so that of equals the earlier ones stay.
    ranked.sort_by_key(|(severity, id)| (Some(id) != top.as_ref(), std::cmp::Reverse(*severity)));
    let dropped: Vec<_> = ranked.split_off(keep).into_iter().map(|(_, id)| id).collect();
    alert.findings.retain(|finding| !dropped.contains(&finding.finding_id));
    true
}

fn set_flag(alert: &mut Alert, flag: &str) {
    if let Err(at) = alert.flags.binary_search_by(|known| known.as_str().cmp(flag)) {
        alert.flags.insert(at, flag.to_owned());
    }
}

#[cfg(test)]
mod tests;
