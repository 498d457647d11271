//! Findings and alerts formatted for people. The output stream removes colours unless it is a terminal.
//!
//! Findings and alerts contain attacker-chosen text; everything printed to a terminal is passed through [`safe`].

use anstyle::{AnsiColor, Style};
use jiff::Timestamp;
use std::fmt::Write as _;

use driftline_schemas::text::printable;
use driftline_schemas::{
    Activity, Alert, AlertFinding, Container, FdKind, Finding, FindingState, Process, Severity, Subject,
};

const BOLD: Style = Style::new().bold();
const DIM: Style = Style::new().dimmed();
/// Longest command line in a one-line view.
const COMMAND_WIDTH: usize = 60;

pub(crate) fn finding_header() -> String {
    format!(
        "{BOLD}{:<12}  {:<13}  {:<12}  {:<28}  {:<16}  {}{BOLD:#}",
        "TIME", "SEVERITY", "ORIGIN", "CONTAINER", "SHA-256", "COMMAND"
    )
}

pub(crate) fn finding_line(finding: &Finding) -> String {
    let style = severity_style(finding.severity);
    let state = if finding.state == FindingState::Retracted { "retracted " } else { "" };
    format!(
        "{:<12}  {style}{:<13}{style:#}  {:<12}  {:<28}  {:<16}  {state}{}",
        clock_ns(finding.event_time_ns),
        finding.severity.title(),
        finding.origin.as_str(),
        location(finding.container.as_ref(), &finding.node.name),
        digest_start(finding.subject.as_ref()),
        command(finding.process.as_ref(), finding.subject.as_ref(), &finding.note),
    )
}

pub(crate) fn alert_header() -> String {
    format!(
        "{BOLD}{:<12}  {:<13}  {:>5}  {:<8}  {:<9}  {:<28}  {:<44}  {}{BOLD:#}",
        "TIME", "SEVERITY", "SCORE", "REVISION", "ALERT", "CONTAINER", "TITLE", "LATEST COMMAND"
    )
}

pub(crate) fn alert_line(alert: &Alert) -> String {
    let style = severity_style(alert.severity);
    let what = match alert.activity {
        _ if alert.r#final => "final",
        Activity::Create => "create",
        Activity::Update => "update",
        Activity::Close => "close",
    };
    let latest = alert.findings.iter().max_by_key(|finding| finding.last_time_ns);
    format!(
        "{:<12}  {style}{:<13}{style:#}  {:>5}  {:<8}  {:<9}  {:<28}  {:<44}  {}",
        clock_ns(alert.emitted_ns),
        alert.severity.title(),
        alert.score,
        format!("{} {what}", alert.revision),
        alert.alert_id.as_str().chars().take(8).collect::<String>(),
        location(alert.container.as_ref(), &alert.node.name),
        safe(&alert.title),
        latest.map_or_else(String::new, |f| command(f.process.as_ref(), f.subject.as_ref(), &f.note)),
    )
}

/// The whole alert: what happened, why it matters, what to do.
pub(crate) fn alert(alert: &Alert) -> String {
    let mut text = String::new();
    let style = severity_style(alert.severity);
    let _ = writeln!(
        text,
        "{style}{} {}{style:#}  {BOLD}{}{BOLD:#}",
        alert.severity.title(),
        alert.score,
        safe(&alert.title)
    );
    let _ = writeln!(text, "{}\n", safe(&alert.message));
    facts(&mut text, alert);
    let _ = writeln!(text, "\n{BOLD}What happened{BOLD:#}");
    for finding in &alert.findings {
        timeline(&mut text, finding);
    }
    let _ = writeln!(text, "\n{BOLD}Why this score{BOLD:#}");
    for part in &alert.contributions {
        let _ = writeln!(text, "  {:>+4}  {:<24}  {}", part.points, safe(&part.name), safe(&part.why));
    }
    let _ = writeln!(text, "\n{BOLD}What to do{BOLD:#}");
    for (number, step) in (1..).zip(&alert.response) {
        let _ = writeln!(text, "  {number}. {BOLD}{}{BOLD:#}", safe(&step.title));
        for line in step.text.lines() {
            let _ = writeln!(text, "     {}", safe(line));
        }
        for line in step.commands.iter().flat_map(|command| command.lines()) {
            let _ = writeln!(text, "       {}", safe(line));
        }
    }
    text.trim_end().to_owned()
}

fn facts(text: &mut String, alert: &Alert) {
    let mut fact = |name: &str, value: &str| {
        if !value.is_empty() {
            let _ = writeln!(text, "  {DIM}{name:<12}{DIM:#}  {}", safe(value));
        }
    };
    fact(
        "alert",
        &format!("{} revision {}{}", alert.alert_id, alert.revision, if alert.r#final { " (final)" } else { "" }),
    );
    fact("first seen", &full_time(alert.first_seen_ns));
    fact("last seen", &full_time(alert.last_seen_ns));
    if let Some(container) = &alert.container {
        fact("container", &format!("{} ({}, {})", container.name, container.id, container.runtime));
        fact("image", &container.image_ref);
        fact("image id", container.image_id.as_str());
        if let Some(pod) = &container.pod {
            fact("pod", &format!("{}/{}", pod.namespace, pod.name));
        }
        if let Some(owner) = &container.owner {
            fact("owner", &format!("{} {}", owner.kind, owner.name));
        }
    }
    fact("node", &alert.node.name);
    fact("resource", &alert.resource);
    fact("techniques", &alert.techniques.join(", "));
    fact("lookup", &alert.virustotal);
    fact("flags", &alert.flags.join(", "));
}

fn timeline(text: &mut String, finding: &AlertFinding) {
    let style = severity_style(finding.severity);
    let repeats = if finding.count > 1 { format!("  ×{}", finding.count) } else { String::new() };
    let _ = writeln!(
        text,
        "  {}  {style}{:<13}{style:#}  {:<12}  {}{repeats}",
        clock_ns(finding.event_time_ns),
        finding.severity.title(),
        finding.origin.as_str(),
        command(finding.process.as_ref(), finding.subject.as_ref(), ""),
    );
    let _ = writeln!(text, "                {}: {}", safe(&finding.category), safe(&finding.note));
    if let Some(process) = &finding.process {
        details(text, process);
    }
    let Some(subject) = &finding.subject else { return };
    let digest = subject.sha256.map_or_else(|| format!("no digest ({:?})", subject.hash_state), |d| d.to_string());
    let _ = writeln!(text, "                {DIM}{}  sha256 {digest}{DIM:#}", safe(&subject.path));
    if let Some(original) = &subject.image_path {
        let _ = writeln!(text, "                {DIM}same content as the image's {}{DIM:#}", safe(original));
    }
}

/// The ancestors of the process, oldest first, and what is out of the ordinary about it.
fn details(text: &mut String, process: &Process) {
    let mut line = |name: &str, value: &str| {
        if !value.is_empty() {
            let _ = writeln!(text, "                {DIM}{name:<12}  {}{DIM:#}", safe(value));
        }
    };
    let ancestors = process.ancestors.iter().rev().map(|it| match &it.path {
        Some(path) => format!("{path} ({})", it.pid),
        None => format!("{} ({})", it.name, it.pid),
    });
    let tree: Vec<_> = ancestors.chain([format!("{} ({})", process.executable, process.pid)]).collect();
    line("process tree", &tree.join(" > "));
    let names = ["stdin", "stdout", "stderr"];
    let sockets = names.iter().zip(&process.descriptors).filter(|(_, it)| it.kind == FdKind::Socket);
    let sockets: Vec<_> =
        sockets.map(|(name, it)| format!("{name} {}", it.peer.as_deref().unwrap_or("without a peer"))).collect();
    line("sockets", &sockets.join(", "));
    line("gained", &process.capabilities_gained.join(", "));
    line("environment", &process.environment.join(", "));
}

fn command(process: Option<&Process>, subject: Option<&Subject>, otherwise: &str) -> String {
    let line = match (process, subject) {
        (Some(process), _) if !process.args.is_empty() => process.args.join(" "),
        (_, Some(subject)) => subject.path.clone(),
        _ => otherwise.to_owned(),
    };
    let line = safe(&line);
    if line.chars().count() <= COMMAND_WIDTH {
        return line;
    }
    let start: String = line.chars().take(COMMAND_WIDTH - 1).collect();
    format!("{start}…")
}

fn location(container: Option<&Container>, node: &str) -> String {
    let text = match container {
        Some(Container { pod: Some(pod), name, .. }) => format!("{}/{}:{name}", pod.namespace, pod.name),
        Some(container) if container.name.is_empty() => container.id.as_str().chars().take(12).collect(),
        Some(container) => container.name.clone(),
        None => node.to_owned(),
    };
    safe(&text)
}

fn digest_start(subject: Option<&Subject>) -> String {
    let digest = subject.and_then(|subject| subject.sha256);
    digest.map_or_else(|| "-".to_owned(), |digest| digest.to_string().chars().take(16).collect())
}

fn severity_style(severity: Severity) -> Style {
    let colour = match severity {
        Severity::Informational => AnsiColor::Blue,
        Severity::Low => AnsiColor::Cyan,
        Severity::Medium => AnsiColor::Yellow,
        Severity::High => AnsiColor::Red,
        Severity::Critical => AnsiColor::Magenta,
    };
    colour.on_default().bold()
}

/// The text with everything escaped that a terminal would interpret.
fn safe(text: &str) -> String {
    printable(text.as_bytes()).text
}

/// Time of day in UTC, milliseconds.
fn clock_ns(ns: i64) -> String {
    time(ns).strftime("%H:%M:%S%.3f").to_string()
}

/// Like [`clock_ns`], for milliseconds.
pub(crate) fn clock_ms(ms: i64) -> String {
    clock_ns(ms.saturating_mul(1_000_000))
}

pub(crate) fn full_time(ns: i64) -> String {
    time(ns).strftime("%Y-%m-%d %H:%M:%S%.3f UTC").to_string()
}

fn time(ns: i64) -> Timestamp {
    Timestamp::from_nanosecond(i128::from(ns)).unwrap_or_default()
}
