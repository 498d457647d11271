//! The alert record of a session.

use driftline_formats::strongest;
use driftline_schemas::{Alert, AlertFinding, Fingerprint};
use std::collections::{BTreeMap, BTreeSet};

use crate::limits::{ALERT_CATEGORIES_MAX, ALERT_TECHNIQUES_MAX};
use crate::session::{Content, Due, Finality, Fold, Scope, Session, flag};
use crate::settings::Settings;
use crate::{message, resource, response, score};

/// Writes the revision `revision` of a session's alert.
pub(crate) fn write(session: &Session, due: Due, revision: i32, now_ns: i64, settings: &Settings) -> Alert {
    let content = session.content();
    let mut flags = session.flags().clone();
    let findings = findings(&content, settings.findings_kept, &mut flags);
    let mut alert = Alert {
        alert_id: session.alert_id.clone(),
        revision,
        activity: due.activity,
        r#final: due.finality == Finality::Final,
        title: String::new(),
        message: String::new(),
        severity: content.score.severity,
        score: content.score.points,
        contributions: content.score.contributions.clone(),
        categories: list(&content.categories, ALERT_CATEGORIES_MAX, &mut flags),
        techniques: list(&content.techniques, ALERT_TECHNIQUES_MAX, &mut flags),
        first_seen_ns: content.span.first_ns,
        last_seen_ns: content.span.last_ns,
        emitted_ns: now_ns,
        finding_count: content.count,
        findings,
        node: content.node.clone(),
        resource: resource::full_name(content.node),
        container: content.container.cloned(),
        fingerprint: Fingerprint::of("", "", "", ""),
        response: Vec::new(),
        virustotal: String::new(),
        flags: flags.into_iter().collect(),
        versions: versions(&content, settings),
    };
    tell(&mut alert, content.scope);
    alert
}

/// Fills in what is said about the strongest finding.
fn tell(alert: &mut Alert, scope: Scope) {
    let (node, container) = (&alert.node, alert.container.as_ref());
    let Some(strongest) = strongest(&alert.findings) else { return };
    let digest = strongest.subject.as_ref().and_then(|subject| subject.sha256);
    let digest = digest.map(|digest| digest.to_string()).unwrap_or_default();
    let title = strongest.category.clone();
    let message = match scope {
        Scope::Active => message::of_alert(strongest, node, container, alert.finding_count),
        Scope::Withdrawn => message::of_withdrawal(node, container, alert.finding_count),
    };
    let path = strongest.subject.as_ref().map_or("", |subject| &subject.path);
    let image = container.map_or("", |container| match container.image_id.is_known() {
        true => container.image_id.as_str(),
        false => &container.image_ref,
    });
    alert.fingerprint = Fingerprint::of(&strongest.category, image, path, &digest);
    if !digest.is_empty() {
        alert.virustotal = format!("https://www.virustotal.com/gui/file/{digest}");
    }
    alert.title = title;
    alert.message = message;
    alert.response = match scope {
        Scope::Active => response::steps(alert),
        Scope::Withdrawn => response::withdrawn(alert),
    };
}

/// The findings shown: the strongest, in order of time.
fn findings(content: &Content<'_>, kept: usize, flags: &mut BTreeSet<String>) -> Vec<AlertFinding> {
    if content.folds.len() > kept {
        flags.insert(flag::FINDINGS_CAPPED.to_owned());
    }
    let mut shown: Vec<(i64, i64, AlertFinding)> = content
        .folds
        .iter()
        .take(kept)
        .map(|fold| (fold.span.first_ns, fold.first.order, shown(fold, flags)))
        .collect();
    shown.sort_by_key(|(time_ns, order, _)| (*time_ns, *order));
    shown.into_iter().map(|(_, _, finding)| finding).collect()
}

/// A finding and its repeats as one: judged as the strongest of them, with the process of the first.
fn shown(fold: &Fold<'_>, flags: &mut BTreeSet<String>) -> AlertFinding {
    let first = fold.first.shown();
    let strongest = fold.strongest.shown();
    if fold.first.detail.is_none() && fold.strongest.detail.is_none() {
        flags.insert(flag::DETAILS_DROPPED.to_owned());
    }
    AlertFinding {
        finding_id: first.finding_id,
        event_time_ns: fold.span.first_ns,
        last_time_ns: fold.span.last_ns,
        count: fold.count,
        process: first.process.or(strongest.process),
        subject: strongest.subject.or(first.subject),
        note: if strongest.note.is_empty() { first.note } else { strongest.note },
        ..strongest
    }
}

fn list(values: &BTreeSet<&str>, max: usize, flags: &mut BTreeSet<String>) -> Vec<String> {
    if values.len() > max {
        flags.insert(flag::LISTS_CAPPED.to_owned());
    }
    values.iter().take(max).map(|value| (*value).to_owned()).collect()
}

/// Versions of the findings, where rules changed during the session all of them; and the correlator's own.
fn versions(content: &Content<'_>, settings: &Settings) -> BTreeMap<String, String> {
    let of_findings = content.versions.iter().map(|(kind, values)| {
        let values: Vec<&str> = values.iter().map(String::as_str).collect();
        (kind.clone(), values.join(","))
    });
    let own = settings.versions.iter().map(|(kind, value)| (kind.clone(), value.clone()));
    of_findings.chain(own).chain([("score".to_owned(), score::table_version())]).collect()
}
