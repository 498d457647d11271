//! What is made of an API server's answers, which were recorded from a real one. That server is a part of the tests:
//! Debian has no kube-apiserver. `make test-kubernetes` compiles one and tests it in the same way.

mod real;

use std::time::Duration;

use driftline_engines::kubernetes::{ApiTrouble, Examined, Facts, KubernetesSettings, News, Placement, examine, start};
use driftline_engines::testing::api::{
    ApiServer, BARE, JOB_PATH, NODE_PATH, REPLICA_SET_PATH, REPORT, WEB, recorded_pod,
};
use driftline_engines::{Coverage, Described};
use driftline_schemas::{Container, ContainerId, Owner, Pod};
use driftline_settings::Settings;
use serde_json::{Value, json};
use tokio::sync::mpsc::Receiver;

const PATIENCE: Duration = Duration::from_secs(20);

fn settings(api: &ApiServer, node: &str) -> KubernetesSettings {
    let kubeconfig = api.kubeconfig().display().to_string();
    let allowed = ["team.example/*".to_owned()];
    let mut source = Settings::of_values([("DRIFTLINE_KUBERNETES", kubeconfig)]);
    KubernetesSettings::read(node, &allowed, &mut source)
}

fn uid(pod: &Value) -> String {
    pod["metadata"]["uid"].as_str().unwrap().to_owned()
}

/// A container of a pod, as its runtime describes it.
fn described(id: &str, uid: &str) -> Described {
    let pod = Pod { namespace: "shop".into(), name: "p".into(), uid: uid.to_owned(), labels: [].into() };
    Described {
        container: Container { id: ContainerId::from(id), pod: Some(pod), ..Container::default() },
        mounts: Vec::new(),
        init_pid: None,
        has_ended: false,
        sandbox: false,
        attempt: 0,
        annotations: [("team.example/owner".to_owned(), "as it was".to_owned())].into(),
        handler: String::new(),
        coverage: Coverage::Seen,
    }
}

/// Owner, service account and annotation of a pod's container, as it is described now.
fn facts_of(facts: &Facts, uid: &str) -> (Option<Owner>, String, Option<String>) {
    let mut container = described("c", uid);
    facts.complete(&mut container);
    let annotation = container.annotations.remove("team.example/owner");
    assert!(container.annotations.is_empty(), "what is not allowed is not described");
    (container.container.owner, container.container.service_account, annotation)
}

fn owner(kind: &str, name: &str) -> Option<Owner> {
    Some(Owner { kind: kind.to_owned(), name: name.to_owned() })
}

async fn until(news: &mut Receiver<News>, wanted: &News) {
    let mut others = Vec::new();
    let found = async {
        while let Some(news) = news.recv().await {
            if news == *wanted {
                return;
            }
            others.push(news);
        }
    };
    let found = tokio::time::timeout(PATIENCE, found).await;
    found.unwrap_or_else(|_| panic!("{wanted:?} does not come, but {others:?}"));
}

fn watches(api: &ApiServer) -> usize {
    api.requests().iter().filter(|asked| asked.contains("watch=true")).count()
}

#[tokio::test]
async fn pods_get_their_workload_service_account_and_allowed_annotations() {
    let api = ApiServer::start().unwrap();
    let [web, report, bare] = [WEB, REPORT, BARE].map(recorded_pod);
    api.put_pod(web.clone());
    api.put_pod(report.clone());
    let mut foreign = recorded_pod(BARE);
    foreign["metadata"]["name"] = "elsewhere".into();
    foreign["metadata"]["uid"] = "u-elsewhere".into();
    foreign["spec"]["nodeName"] = "node-2".into();
    api.put_pod(foreign.clone());
    let (facts, mut news) = start(&settings(&api, "node-1"));

    until(&mut news, &News::Pod(uid(&report))).await;
    until(&mut news, &News::Pod(uid(&web))).await;
    assert_eq!(facts_of(&facts, &uid(&web)), (owner("Deployment", "web"), "web".into(), Some("shop".into())));
    assert_eq!(facts_of(&facts, &uid(&report)), (owner("CronJob", "report"), String::new(), None));
    // It was described before the API returned its pod, which is no reason to wait.
    assert_eq!(facts_of(&facts, &uid(&bare)), (None, String::new(), Some("as it was".into())));
    assert_eq!(facts.containers_of(&uid(&bare)), [ContainerId::from("c")]);
    api.put_pod(bare.clone());
    until(&mut news, &News::Pod(uid(&bare))).await;
    assert_eq!(facts_of(&facts, &uid(&bare)), (None, String::new(), None));

    let lists: Vec<_> = api.requests().into_iter().filter(|asked| asked.starts_with("GET /api/v1/pods?")).collect();
    assert!(lists.iter().all(|asked| asked.contains("fieldSelector=spec.nodeName%3Dnode-1")), "{lists:?}");
    assert!(lists[0].contains("resourceVersion=0"), "the server answers from its memory: {lists:?}");
    assert_eq!(facts_of(&facts, "u-elsewhere").1, "", "it runs somewhere else");
    let asked = api.requests();
    let of_controller = |path: &&String| path.contains("/replicasets/") || path.contains("/jobs/");
    assert_eq!(asked.iter().filter(of_controller).count(), 2, "each once");
    assert!(asked.iter().all(|asked| asked.starts_with("GET ") && !asked.contains("secrets")), "{asked:?}");
}

#[tokio::test]
async fn a_watch_goes_on_after_bookmarks_ends_and_expiry_and_misses_nothing() {
    let api = ApiServer::start().unwrap();
    let [web, report, bare] = [WEB, REPORT, BARE].map(recorded_pod);
    api.put_pod(web.clone());
    let (facts, mut news) = start(&settings(&api, "node-1"));
    until(&mut news, &News::Pod(uid(&web))).await;

    // Changes that are not of interest cause no notice: the next one is of the change after it.
    let mut running = web.clone();
    running["status"] = json!({"phase": "Running"});
    api.put_pod(running);
    let mut changed = web.clone();
    changed["metadata"]["annotations"]["team.example/owner"] = "ops".into();
    api.put_pod(changed);
    let next = async {
        loop {
            match news.recv().await.unwrap() {
                News::Node(_) => {}
                other => return other,
            }
        }
    };
    assert_eq!(tokio::time::timeout(PATIENCE, next).await.unwrap(), News::Pod(uid(&web)));
    assert_eq!(facts_of(&facts, &uid(&web)).2.as_deref(), Some("ops"));

    api.bookmark();
    let before = watches(&api);
    api.disconnect();
    api.put_pod(report.clone());
    until(&mut news, &News::Pod(uid(&report))).await;
    assert!(watches(&api) > before);

    // While nobody watched, one went and one came; and what the watch knew is too long ago.
    api.delete_pod(WEB);
    api.put_pod(bare.clone());
    api.expire();
    until(&mut news, &News::Pod(uid(&bare))).await;
    let gone = async {
        while facts_of(&facts, &uid(&web)).0.is_some() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(PATIENCE, gone).await.expect("a pod that is not listed is forgotten");
    assert_eq!(facts_of(&facts, &uid(&report)).0, owner("CronJob", "report"));
}

#[tokio::test]
async fn a_pod_that_the_kubelet_has_from_a_file_is_known_by_the_uid_under_which_it_runs() {
    let api = ApiServer::start().unwrap();
    let mut mirror = recorded_pod(BARE);
    mirror["metadata"]["annotations"] = json!({"kubernetes.io/config.mirror": "0123456789abcdef"});
    mirror["metadata"]["ownerReferences"] =
        json!([{"apiVersion": "v1", "kind": "Node", "name": "node-1", "uid": "n", "controller": true}]);
    api.put_pod(mirror);
    let (facts, mut news) = start(&settings(&api, "node-1"));
    until(&mut news, &News::Pod("0123456789abcdef".into())).await;
    assert_eq!(facts_of(&facts, "0123456789abcdef").0, owner("Node", "node-1"));
}

#[tokio::test]
async fn without_the_right_to_read_further_the_direct_controller_is_described() {
    let api = ApiServer::start().unwrap();
    let [web, report] = [WEB, REPORT].map(recorded_pod);
    api.forbid("replicasets");
    // Another job of the same name.
    let mut job: Value = json!({"kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1"});
    let by = json!([{"apiVersion": "batch/v1", "kind": "CronJob", "name": "another", "uid": "c", "controller": true}]);
    job["metadata"] = json!({"name": "report-29401140", "namespace": "shop", "uid": "another", "ownerReferences": by});
    api.put(JOB_PATH, Some(job));
    api.put_pod(web.clone());
    api.put_pod(report.clone());
    let (facts, mut news) = start(&settings(&api, "node-1"));
    until(&mut news, &News::Trouble(ApiTrouble::Forbidden)).await;
    until(&mut news, &News::Pod(uid(&web))).await;
    assert_eq!(facts_of(&facts, &uid(&web)).0, owner("ReplicaSet", "web-7d4b9c6f5"));
    assert_eq!(facts_of(&facts, &uid(&report)).0, owner("Job", "report-29401140"));
    // A workload without a controller is its own.
    api.permit();
    api.put(REPLICA_SET_PATH, None);
    let mut again = web.clone();
    again["metadata"]["annotations"]["team.example/owner"] = "again".into();
    api.put_pod(again);
    until(&mut news, &News::Pod(uid(&web))).await;
    assert_eq!(facts_of(&facts, &uid(&web)).0, owner("ReplicaSet", "web-7d4b9c6f5"));
}

#[tokio::test]
async fn the_node_s_provider_and_zone_are_notified_as_soon_as_they_are_known() {
    let api = ApiServer::start().unwrap();
    let (_, mut news) = start(&settings(&api, "node-1"));
    let placement =
        Placement { provider_id: "gce://shop-prod/europe-west1-b/node-1".into(), zone: "europe-west1-b".into() };
    until(&mut news, &News::Node(placement)).await;

    let (_, mut unknown) = start(&settings(&api, "node-9"));
    until(&mut unknown, &News::Trouble(ApiTrouble::NoSuchNode)).await;
    let mut late: Value = json!({"kind": "Node", "apiVersion": "v1", "metadata": {"name": "node-9"}});
    late["metadata"]["labels"] = json!({"failure-domain.beta.kubernetes.io/zone": "z"});
    api.put(&NODE_PATH.replace("node-1", "node-9"), Some(late));
    until(&mut unknown, &News::Node(Placement { provider_id: String::new(), zone: "z".into() })).await;
}

#[tokio::test]
async fn a_server_that_refuses_or_returns_too_much_is_tried_again_and_reported() {
    let api = ApiServer::start().unwrap();
    let web = recorded_pod(WEB);
    api.put_pod(web.clone());
    api.forbid("pods");
    let (facts, mut news) = start(&settings(&api, "node-1"));
    until(&mut news, &News::Trouble(ApiTrouble::Forbidden)).await;
    assert_eq!(facts_of(&facts, &uid(&web)).1, "");
    // One answer that would not fit into what the collector may take.
    api.pad(driftline_engines::limits::API_BYTES_MAX);
    api.permit();
    until(&mut news, &News::Trouble(ApiTrouble::Failed)).await;
    assert_eq!(facts_of(&facts, &uid(&web)).1, "");
    api.pad(0);
    until(&mut news, &News::Pod(uid(&web))).await;
    assert_eq!(facts_of(&facts, &uid(&web)).1, "web");
}

#[tokio::test]
async fn containers_that_ended_are_forgotten() {
    let facts = Facts::default();
    for id in ["a", "b"] {
        facts.complete(&mut described(id, "u"));
    }
    facts.ended(&[ContainerId::from("a")].into());
    assert_eq!(facts.containers_of("u"), [ContainerId::from("b")]);
    facts.retain(&[].into());
    assert_eq!(facts.containers_of("u"), []);
}

#[tokio::test]
async fn the_doctor_reports_what_is_missing() {
    let api = ApiServer::start().unwrap();
    assert_eq!(examine(&settings(&api, "node-1")).await, Examined::Well("v1.34.4".into()));
    assert_eq!(examine(&settings(&api, "node-9")).await, Examined::NoSuchNode("node-9".into()));
    api.forbid("nodes");
    api.forbid("jobs");
    assert_eq!(
        examine(&settings(&api, "node-1")).await,
        Examined::Forbidden(vec!["get nodes".into(), "get jobs".into()])
    );
    let none = |value: Option<&'static str>| {
        let mut source = Settings::of_values(value.map(|value| ("DRIFTLINE_KUBERNETES", value)));
        KubernetesSettings::read("n", &[], &mut source)
    };
    assert_eq!(examine(&none(None)).await, Examined::Off("not in a pod of a cluster"));
    assert_eq!(examine(&none(Some("off"))).await, Examined::Off("DRIFTLINE_KUBERNETES is off"));
    let Examined::Unreachable(why) = examine(&none(Some("/nowhere/kubeconfig"))).await else { panic!("no such file") };
    assert!(why.contains("/nowhere/kubeconfig"), "{why}");
    let mut source = Settings::of_values([("KUBERNETES_SERVICE_HOST", "127.0.0.1")]);
    let in_a_pod = KubernetesSettings::read("n", &[], &mut source);
    assert!(in_a_pod.is_on() && !none(None).is_on());
    // Nothing of a pod is mounted here.
    assert!(matches!(examine(&in_a_pod).await, Examined::Unreachable(_)));
}
