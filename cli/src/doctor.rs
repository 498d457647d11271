//! `driftline doctor`: checks Kafka, and this node if the collector is installed on it.
//!
//! The collector itself checks the node (`driftline-collector doctor`): only that program can load eBPF.

use anyhow::bail;
use clap::Args;
use driftline_kafka::admin::{self, ExistingTopic};
use driftline_kafka::{ClientSettings, KafkaError};
use driftline_schemas::topics::Topic;
use driftline_service::checks::{self, Check, Health};
use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::process::Command;

use crate::output::out;

const COLLECTOR: &str = "driftline-collector";

/// A Kafka that does not answer for this long counts as unreachable.
const KAFKA_WAIT: Duration = Duration::from_secs(5);

/// The collector's self-test has a limit of a minute, and the query of each runtime has a limit.
const NODE_WAIT: Duration = Duration::from_secs(120);

#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// Look at Kafka only
    #[arg(long, conflicts_with = "node_only")]
    kafka_only: bool,
    /// Look at this node only
    #[arg(long)]
    node_only: bool,
    /// The collector's program, by default beside this one or in PATH
    #[arg(long, value_name = "PROGRAM")]
    collector: Option<PathBuf>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// The collector reads the same configuration file.
pub(crate) async fn examine(
    settings: &ClientSettings,
    config: Option<&Path>,
    arguments: &Arguments,
) -> anyhow::Result<()> {
    let mut found = Vec::new();
    if !arguments.kafka_only {
        found.extend(node(arguments.collector.clone(), config).await);
    }
    if !arguments.node_only {
        found.extend(kafka(settings).await);
    }
    if arguments.json {
        out(serde_json::to_string_pretty(&found)?)?;
    } else {
        out(checks::table(&found))?;
    }
    let problems = found.iter().filter(|check| check.health == Health::Problem).count();
    if problems > 0 {
        bail!("{problems} of {} checks found a problem", found.len());
    }
    Ok(())
}

// --- node ---------------------------------------------------------------------------------------------------------

async fn node(program: Option<PathBuf>, config: Option<&Path>) -> Vec<Check> {
    let program = program.unwrap_or_else(beside);
    let mut command = Command::new(&program);
    command.args(["doctor", "--json"]).kill_on_drop(true);
    if let Some(file) = config {
        command.arg("--config").arg(file);
    }
    let failed = |found: String| vec![Check::new("node", "collector", Health::Problem, found, "run it by hand")];
    match tokio::time::timeout(NODE_WAIT, command.output()).await {
        Err(_) => failed(format!("{} did not end within {} s", program.display(), NODE_WAIT.as_secs())),
        Ok(Err(error)) if error.kind() == ErrorKind::NotFound => {
            let found = format!("{COLLECTOR} is not on this machine");
            let remedy = "run `driftline-collector doctor` where it is, or name it with --collector PROGRAM";
            vec![Check::new("node", "all", Health::NotRun, found, remedy)]
        }
        Ok(Err(error)) => failed(format!("{}: {error}", program.display())),
        // It exits 1 when there is a problem, which it prints on standard output.
        Ok(Ok(output)) => serde_json::from_slice(&output.stdout).unwrap_or_else(|_| {
            let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
            failed(format!("{} ended with {}: {}", program.display(), output.status, stderr.trim()))
        }),
    }
}

/// The collector's program in the directory of this one; otherwise the one in PATH.
fn beside() -> PathBuf {
    let own = std::env::current_exe().ok();
    let beside = own.and_then(|own| Some(own.parent()?.join(COLLECTOR)));
    beside.filter(|path| path.exists()).unwrap_or_else(|| COLLECTOR.into())
}

// --- Kafka --------------------------------------------------------------------------------------------------------

async fn kafka(settings: &ClientSettings) -> Vec<Check> {
    match topics(settings).await {
        Ok(checks) => checks,
        Err(error) => {
            let remedy =
                "see that the brokers run and can be reached from here; --bootstrap or KAFKA_BOOTSTRAP names them";
            vec![Check::new("kafka", "brokers", Health::Problem, error, remedy)]
        }
    }
}

async fn topics(settings: &ClientSettings) -> Result<Vec<Check>, KafkaError> {
    admin::wait(settings, KAFKA_WAIT).await?;
    let cluster = admin::cluster_id(settings).await?;
    let mut checks = vec![Check::ok("kafka", "brokers", format!("{} answers, cluster {cluster}", settings.bootstrap))];
    let existing = admin::list(settings).await?;
    let names: Vec<String> = Topic::ALL.iter().map(|topic| settings.topic(*topic)).collect();
    let found: Vec<&ExistingTopic> = existing.iter().filter(|topic| names.contains(&topic.name)).collect();
    let missing: Vec<&str> =
        names.iter().filter(|name| !found.iter().any(|topic| topic.name == **name)).map(String::as_str).collect();
    checks.push(if missing.is_empty() {
        Check::ok("kafka", "topics", format!("all {} are there", names.len()))
    } else {
        let text = format!("{} of {} are missing: {}", missing.len(), names.len(), missing.join(", "));
        Check::new("kafka", "topics", Health::Problem, text, "create them with `driftline topics create`")
    });
    if found.is_empty() {
        return Ok(checks);
    }
    checks.push(partitions(settings, &found));
    let names: Vec<String> = found.iter().map(|topic| topic.name.clone()).collect();
    checks.push(replicas(&found, &admin::min_in_sync(settings, &names).await?));
    Ok(checks)
}

fn partitions(settings: &ClientSettings, found: &[&ExistingTopic]) -> Check {
    let wanted = |topic: &ExistingTopic| {
        let found = Topic::ALL.iter().find(|it| settings.topic(**it) == topic.name);
        found.map_or(0, |found| settings.partition_count(*found))
    };
    let wrong: Vec<String> = found
        .iter()
        .filter(|topic| topic.partitions != wanted(topic))
        .map(|topic| format!("{} has {}, configured are {}", topic.name, topic.partitions, wanted(topic)))
        .collect();
    if wrong.is_empty() {
        return Check::ok("kafka", "partitions", "as configured");
    }
    let remedy = "set DRIFTLINE_PARTITIONS to what the topics have, or drain into new topics";
    Check::new("kafka", "partitions", Health::Problem, wrong.join("\n"), remedy)
}

/// A write waits for `min.insync.replicas` replicas. If that is more than there are, no write ever succeeds; if it
/// equals their number, the loss of one broker stops all writes; if it is one, the loss of that replica's disk loses
/// alerts.
fn replicas(found: &[&ExistingTopic], minimum: &BTreeMap<String, i32>) -> Check {
    let of = |topic: &ExistingTopic| minimum.get(&topic.name).copied().unwrap_or(1);
    let lines_of = |which: &dyn Fn(&ExistingTopic) -> bool, what: &dyn Fn(&ExistingTopic) -> String| {
        let lines: Vec<String> = found.iter().copied().filter(|topic| which(topic)).map(what).collect();
        (!lines.is_empty()).then(|| lines.join("\n"))
    };
    if let Some(text) =
        lines_of(&|topic| topic.leaderless > 0, &|topic| format!("{} has partitions without leader", topic.name))
    {
        return Check::new("kafka", "copies", Health::Problem, text, "bring the missing brokers back");
    }
    let too_few = |topic: &ExistingTopic| {
        format!("{} has {} in-sync copies, writing needs {}", topic.name, topic.in_sync, of(topic))
    };
    if let Some(text) = lines_of(&|topic| topic.in_sync < of(topic), &too_few) {
        let remedy = "bring the missing brokers back, or lower min.insync.replicas of these topics";
        return Check::new("kafka", "copies", Health::Problem, text, remedy);
    }
    let fewest = found.iter().map(|topic| topic.replicas).min().unwrap_or(0);
    if fewest == 1 {
        let remedy = "fine for a trial; else three brokers, `driftline topics create --replication 3`";
        return Check::new("kafka", "copies", Health::Warning, "topics have one copy, lost with its disk", remedy);
    }
    if let Some(topic) = found.iter().find(|topic| topic.replicas <= of(topic)) {
        let text = format!("{} has {} copies and needs {} to be written", topic.name, topic.replicas, of(topic));
        let remedy = "one broker's restart stops writing: min.insync.replicas should be one less than the copies";
        return Check::new("kafka", "copies", Health::Warning, text, remedy);
    }
    Check::ok("kafka", "copies", format!("{fewest}, and one broker may fail"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn topic(replicas: i32, in_sync: i32) -> ExistingTopic {
        ExistingTopic { name: "t".to_owned(), partitions: 1, leaderless: 0, replicas, in_sync }
    }

    #[test]
    fn copies_are_judged_by_what_the_loss_of_a_broker_does() {
        let health =
            |topic: ExistingTopic, minimum| replicas(&[&topic], &BTreeMap::from([("t".to_owned(), minimum)])).health;
        assert_eq!(health(topic(3, 3), 2), Health::Ok);
        assert_eq!(health(topic(3, 2), 2), Health::Ok);
        assert_eq!(health(topic(3, 1), 2), Health::Problem);
        assert_eq!(health(topic(1, 1), 2), Health::Problem);
        assert_eq!(health(topic(1, 1), 1), Health::Warning);
        assert_eq!(health(topic(2, 2), 2), Health::Warning);
        assert_eq!(health(ExistingTopic { leaderless: 1, ..topic(3, 3) }, 2), Health::Problem);
    }
}
