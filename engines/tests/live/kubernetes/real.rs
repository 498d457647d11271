//! A real kube-apiserver with a real etcd, which `make test-kubernetes` brings. No controller, scheduler and kubelet run:
//! what they would make is made here.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use driftline_engines::kubernetes::{ApiTrouble, Examined, KubernetesSettings, News, Placement, examine, start};
use driftline_engines::testing::api::{BARE, REPORT, WEB};
use driftline_settings::Settings;
use serde_json::{Value, json};

use super::{facts_of, owner, uid, until};

const RBAC: &str = include_str!("../../../../deploy/kubernetes/collector-rbac.yaml");
const TRIES: u32 = 600;
const TRY_AGAIN: Duration = Duration::from_millis(100);

struct Api {
    directory: tempfile::TempDir,
    processes: Vec<Child>,
    port: u16,
}

impl Drop for Api {
    fn drop(&mut self) {
        for process in self.processes.iter_mut().rev() {
            let _ = process.kill();
            let _ = process.wait();
        }
    }
}

fn free_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

impl Api {
    async fn start(server: &str) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let [client, peer, port] = [free_port(), free_port(), free_port()];
        let mut api = Self { directory, processes: Vec::new(), port };
        let store = format!("http://127.0.0.1:{client}");
        api.spawn(
            "etcd",
            &[
                format!("--data-dir={}", api.at("etcd")),
                format!("--listen-client-urls={store}"),
                format!("--advertise-client-urls={store}"),
                format!("--listen-peer-urls=http://127.0.0.1:{peer}"),
            ],
        );
        let key = api.at("sa.key");
        let made = Command::new("openssl").args(["genrsa", "-out", &key]).stderr(Stdio::null()).status().unwrap();
        assert!(made.success());
        std::fs::write(api.at("tokens"), "admin,admin,1,system:masters\ncollector,collector,2,\n").unwrap();
        api.spawn(
            server,
            &[
                format!("--etcd-servers={store}"),
                format!("--secure-port={port}"),
                "--bind-address=127.0.0.1".to_owned(),
                format!("--cert-dir={}", api.at("certificates")),
                format!("--service-account-key-file={key}"),
                format!("--service-account-signing-key-file={key}"),
                "--service-account-issuer=https://test".to_owned(),
                format!("--token-auth-file={}", api.at("tokens")),
                "--authorization-mode=RBAC".to_owned(),
                "--service-cluster-ip-range=10.0.0.0/24".to_owned(),
                "--disable-admission-plugins=ServiceAccount".to_owned(),
            ],
        );
        let mut tries = 0;
        while api.curl("GET", "/readyz", "", "") != "ok" {
            tries += 1;
            assert!(tries < TRIES, "kube-apiserver is not ready: {}", std::fs::read_to_string(api.at("log")).unwrap());
            tokio::time::sleep(TRY_AGAIN).await;
        }
        api
    }

    fn at(&self, name: &str) -> String {
        self.directory.path().join(name).display().to_string()
    }

    fn spawn(&mut self, program: &str, arguments: &[String]) {
        let log = std::fs::File::options().create(true).append(true).open(self.at("log")).unwrap();
        let mut command = Command::new(program);
        command.args(arguments).stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        self.processes.push(command.spawn().unwrap());
    }

    fn curl(&self, method: &str, path: &str, kind: &str, body: &str) -> String {
        let url = format!("https://127.0.0.1:{}{path}", self.port);
        let kind = format!("Content-Type: {kind}");
        let options =
            ["-sk", "-X", method, "-H", "Authorization: Bearer admin", "-H", &kind, "--data-binary", body, &url];
        let output = Command::new("curl").args(options).output().unwrap();
        String::from_utf8(output.stdout).unwrap()
    }

    fn ask(&self, method: &str, path: &str, kind: &str, body: &str) -> Value {
        let answer: Value = serde_json::from_str(&self.curl(method, path, kind, body)).unwrap();
        assert_ne!(answer["status"], "Failure", "{method} {path}: {answer}");
        answer
    }

    fn make(&self, path: &str, object: Value) -> Value {
        self.ask("POST", path, "application/json", &object.to_string())
    }

    /// As the collector is configured in a cluster, but for the token.
    fn settings(&self, node: &str) -> KubernetesSettings {
        let config = json!({
            "apiVersion": "v1", "kind": "Config", "current-context": "test",
            "clusters": [{"name": "test", "cluster": {
                "server": format!("https://127.0.0.1:{}", self.port),
                "certificate-authority": format!("{}/apiserver.crt", self.at("certificates")),
            }}],
            "users": [{"name": "test", "user": {"token": "collector"}}],
            "contexts": [{"name": "test", "context": {"cluster": "test", "user": "test"}}],
        });
        let path = self.at("kubeconfig");
        std::fs::write(&path, config.to_string()).unwrap();
        assert!(Path::new(&path).exists());
        let allowed = ["team.example/*".to_owned()];
        let mut source = Settings::of_values([("DRIFTLINE_KUBERNETES", path)]);
        KubernetesSettings::read(node, &allowed, &mut source)
    }

    /// An object that another one controls.
    fn controlled(&self, path: &str, mut object: Value, by: &Value) -> Value {
        object["metadata"]["ownerReferences"] = json!([{
            "apiVersion": by["apiVersion"], "kind": by["kind"], "controller": true,
            "name": by["metadata"]["name"], "uid": by["metadata"]["uid"],
        }]);
        self.make(path, object)
    }
}

fn pod(name: &str, node: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name},
           "spec": {"nodeName": node, "restartPolicy": "Never", "containers": [{"name": "c", "image": "i"}]}})
}

/// The role as it is installed, for the test's user.
fn grant(api: &Api) {
    let path = "/apis/rbac.authorization.k8s.io/v1";
    let role = RBAC.split("---\n").find(|part| part.contains("kind: ClusterRole\n")).unwrap();
    api.ask("POST", &format!("{path}/clusterroles"), "application/yaml", role);
    let reference =
        json!({"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "driftline-collector"});
    let user = json!({"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": "collector"});
    let binding = json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRoleBinding",
                         "metadata": {"name": "c"}, "roleRef": reference, "subjects": [user]});
    api.make(&format!("{path}/clusterrolebindings"), binding);
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "make test-kubernetes brings the kube-apiserver that it needs"]
async fn a_real_api_server_is_understood_and_the_installed_role_suffices() {
    #[expect(clippy::disallowed_methods, reason = "set by make test-kubernetes")]
    let server = std::env::var("DRIFTLINE_KUBE_APISERVER").expect("DRIFTLINE_KUBE_APISERVER names kube-apiserver");
    let api = Api::start(&server).await;
    let node = json!({"apiVersion": "v1", "kind": "Node", "spec": {"providerID": "gce://p/z/node-1"},
                      "metadata": {"name": "node-1", "labels": {"topology.kubernetes.io/zone": "z"}}});
    api.make("/api/v1/nodes", node);
    api.make("/api/v1/namespaces", json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "shop"}}));
    let template = json!({"metadata": {"labels": {"app": "web"}},
                          "spec": {"restartPolicy": "Always", "containers": [{"name": "c", "image": "i"}]}});
    let workload = |kind: &str, name: &str| {
        json!({"apiVersion": "apps/v1", "kind": kind, "metadata": {"name": name},
               "spec": {"selector": {"matchLabels": {"app": "web"}}, "template": template}})
    };
    let deployment = api.make("/apis/apps/v1/namespaces/shop/deployments", workload("Deployment", "web"));
    let path = "/apis/apps/v1/namespaces/shop/replicasets";
    let replica_set = api.controlled(path, workload("ReplicaSet", "web-7d4b9c6f5"), &deployment);
    let job = json!({"template": {"spec": {"restartPolicy": "Never", "containers": [{"name": "c", "image": "i"}]}}});
    let cron = json!({"apiVersion": "batch/v1", "kind": "CronJob", "metadata": {"name": "report"},
                      "spec": {"schedule": "0 3 * * *", "jobTemplate": {"spec": job}}});
    let cron = api.make("/apis/batch/v1/namespaces/shop/cronjobs", cron);
    let job = json!({"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "report-1"}, "spec": job});
    let job = api.controlled("/apis/batch/v1/namespaces/shop/jobs", job, &cron);

    let all = ["list pods", "watch pods", "get nodes", "get replicasets", "get jobs"];
    assert_eq!(examine(&api.settings("node-1")).await, Examined::Forbidden(all.map(str::to_owned).to_vec()));
    let (_, mut refused) = start(&api.settings("node-1"));
    until(&mut refused, &News::Trouble(ApiTrouble::Forbidden)).await;
    drop(refused);
    grant(&api);
    let mut examined = examine(&api.settings("node-1")).await;
    for _ in 0..TRIES {
        if !matches!(examined, Examined::Forbidden(_)) {
            break;
        }
        // The server takes roles from a cache.
        tokio::time::sleep(TRY_AGAIN).await;
        examined = examine(&api.settings("node-1")).await;
    }
    assert!(matches!(&examined, Examined::Well(version) if version.starts_with('v')), "{examined:?}");
    assert_eq!(examine(&api.settings("node-9")).await, Examined::NoSuchNode("node-9".into()));

    let pods = "/api/v1/namespaces/shop/pods";
    let mut web = pod(WEB, "node-1");
    web["metadata"]["annotations"] = json!({"team.example/owner": "shop", "secret.example/token": "x"});
    web["spec"]["serviceAccountName"] = "web".into();
    let web = api.controlled(pods, web, &replica_set);
    let (facts, mut news) = start(&api.settings("node-1"));
    until(&mut news, &News::Pod(uid(&web))).await;
    assert_eq!(facts_of(&facts, &uid(&web)), (owner("Deployment", "web"), "web".into(), Some("shop".into())));
    // What comes while it is watched.
    let elsewhere = api.make(pods, pod("elsewhere", "node-2"));
    let report = api.controlled(pods, pod(REPORT, "node-1"), &job);
    until(&mut news, &News::Pod(uid(&report))).await;
    assert_eq!(facts_of(&facts, &uid(&report)).0, owner("CronJob", "report"));
    let bare = api.make(pods, pod(BARE, "node-1"));
    until(&mut news, &News::Pod(uid(&bare))).await;
    let patch = r#"{"metadata":{"annotations":{"team.example/owner":"ops"}}}"#;
    api.ask("PATCH", &format!("{pods}/{BARE}"), "application/merge-patch+json", patch);
    until(&mut news, &News::Pod(uid(&bare))).await;
    assert_eq!(facts_of(&facts, &uid(&bare)).2.as_deref(), Some("ops"));
    api.ask("DELETE", &format!("{pods}/{BARE}?gracePeriodSeconds=0"), "application/json", "");
    let gone = async {
        while facts_of(&facts, &uid(&bare)).2.as_deref() == Some("ops") {
            tokio::time::sleep(TRY_AGAIN).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), gone).await.unwrap();
    assert_eq!(facts_of(&facts, &uid(&elsewhere)).1, "");

    let (_, mut node) = start(&api.settings("node-1"));
    until(&mut node, &News::Node(Placement { provider_id: "gce://p/z/node-1".into(), zone: "z".into() })).await;
}
