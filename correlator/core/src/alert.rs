//! The alert record of a session.

use driftline_schemas::{Alert, AlertFinding, AlertId, Fingerprint};
use driftline_service_core::BrokenInvariant;
use std::collections::{BTreeMap, BTreeSet};

use crate::limits::{ALERT_CATEGORIES_MAX, ALERT_TECHNIQUES_MAX};
use crate::session::{Background, Due, Finality, Fold, Scope, Session, SessionContent, flag};
use crate::settings::Settings;
use crate::{message, resource, response, score};

/// Writes the revision `revision` of a session's alert.
pub(crate) fn write(
    session: &Session,
    due: Due,
    revision: i32,
    now_ns: i64,
    settings: &Settings,
) -> Result<Alert, BrokenInvariant> {
    let content = session.content(settings.threshold);
    let Background { node, container, versions } = session.background()?;
    let mut flags = session.flags().clone();
    let findings = findings(&content, due.finality, settings.findings_kept, &mut flags)?;
    let mut alert = Alert {
        alert_id: AlertId::clone(&session.alert_id),
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
        resource: resource::full_name(&node),
        node,
        container,
        fingerprint: Fingerprint::of("", "", "", ""),
        response: Vec::new(),
        virustotal: String::new(),
        flags: flags.into_iter().collect(),
        versions: all_versions(versions, settings),
    };
    set_title(&mut alert, content.scope);
    Ok(alert)
}

/// Fills in the fields that describe the strongest finding.
fn set_title(alert: &mut Alert, scope: Scope) {
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

/// The findings shown in the alert, in order of time.
fn findings(
    content: &SessionContent<'_>,
    finality: Finality,
    kept: usize,
    flags: &mut BTreeSet<String>,
) -> Result<Vec<AlertFinding>, BrokenInvariant> {
    if content.folds.len() > kept {
        flags.insert(flag::FINDINGS_CAPPED.to_owned());
    }
    let mut folds: Vec<&Fold<'_>> = content.shown(finality, kept).collect();
    folds.sort_by_key(|fold| (fold.span.first_ns, fold.first.order));
    folds.into_iter().map(|fold| shown(fold, flags)).collect()
}

/// Joins a finding and its repeats: judged as the strongest of them, with the process of the first.
fn shown(fold: &Fold<'_>, flags: &mut BTreeSet<String>) -> Result<AlertFinding, BrokenInvariant> {
    let first = fold.first.shown()?;
    let strongest = fold.strongest.shown()?;
    if !fold.first.has_detail() && !fold.strongest.has_detail() {
        flags.insert(flag::DETAILS_DROPPED.to_owned());
    }
    Ok(AlertFinding {
        finding_id: first.finding_id,
        event_time_ns: fold.span.first_ns,
        last_time_ns: fold.span.last_ns,
        count: fold.count,
        process: first.process.or(strongest.process),
        subject: strongest.subject.or(first.subject),
        note: if strongest.note.is_empty() { first.note } else { strongest.note },
        ..strongest
    })
}

fn list(values: &BTreeSet<&str>, max: usize, flags: &mut BTreeSet<String>) -> Vec<String> {
    if values.len() > max {
        flags.insert(flag::LISTS_CAPPED.to_owned());
    }
    values.iter().take(max).map(|value| (*value).to_owned()).collect()
}

/// Versions of the findings, and the correlator's own. If rules changed during the session, all versions are listed.
fn all_versions(of_findings: BTreeMap<String, BTreeSet<String>>, settings: &Settings) -> BTreeMap<String, String> {
    let of_findings =
        of_findings.into_iter().map(|(kind, values)| (kind, values.into_iter().collect::<Vec<_>>().join(",")));
    let own = settings.versions.iter().map(|(kind, value)| (kind.clone(), value.clone()));
    of_findings.chain(own).chain([("score".to_owned(), score::table_version())]).collect()
}

/// The finding that gives an alert its title: the one with the highest severity; of equals, the first listed.
#[must_use]
pub fn strongest(findings: &[AlertFinding]) -> Option<&AlertFinding> {
    // `max_by_key` takes the last of equals, so the list is walked backwards.
    findings.iter().rev().max_by_key(|finding| finding.severity)
}
