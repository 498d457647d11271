//! A synthetic workload: containers of one image that run image programs and, every few execs, one that is not the
//! image's. It needs no kernel, so tests can make it as large as they like. The expected findings are known by
//! construction.

use std::collections::BTreeMap;

use driftline_indexer::publish::{PublishError, Publisher};
use driftline_indexer::{Indexed, IndexedLayer};
use driftline_kafka::Producer;
use driftline_schemas::layer::{EntryKind, LayerEntry, LayerManifest};
use driftline_schemas::topics::Topic;
use driftline_schemas::{
    Container, ContainerId, ContainerSeen, DiffId, EventId, Exec, ExecIdentity, FileClass, FileFacts, FindingId,
    HashState, Image, ImageId, LayerBasis, MountNamespace, Node, Platform, Record, Sha256, encode,
};

/// One exec of this many drifts.
const DRIFT_EVERY: usize = 4;
/// The program of the execs that drift.
const DRIFT_PATH: &str = "/tmp/drift";

/// The records to produce, and the expected findings.
#[derive(Debug)]
pub struct Workload {
    image: Image,
    layer: LayerManifest,
    seen: Vec<ContainerSeen>,
    /// Execs, interleaved over the containers.
    pub execs: Vec<Exec>,
    /// Expected findings, by container, in the order of its execs.
    pub expected: BTreeMap<ContainerId, Vec<FindingId>>,
}

impl Workload {
    /// `execs_each` execs in each of `containers` containers, one millisecond apart, ending at `end_ns`.
    ///
    /// # Errors
    /// Never with sizes that fit into memory.
    #[must_use]
    pub fn new(containers: usize, execs_each: usize, end_ns: i64) -> Self {
        let program = LayerEntry {
            path: b"/bin/app".to_vec(),
            kind: EntryKind::File,
            mode: 0o755,
            size_bytes: 3,
            sha256: Some(Sha256::of(b"app").0),
            target: None,
        };
        let ids: Vec<ContainerId> =
            (0..containers).map(|n| ContainerId::from(Sha256::of(&n.to_be_bytes()).to_string().as_str())).collect();
        let mut workload = Self {
            image: image(),
            layer: LayerManifest::new(vec![program]),
            seen: ids.iter().map(seen).collect(),
            execs: Vec::new(),
            expected: BTreeMap::new(),
        };
        let total = i64::try_from(containers * execs_each).unwrap_or(i64::MAX);
        for number in 0..execs_each {
            for id in &ids {
                let place = i64::try_from(workload.execs.len()).unwrap_or(0);
                workload.exec(id, number, end_ns - (total - place) * 1_000_000);
            }
        }
        workload
    }

    fn exec(&mut self, id: &ContainerId, number: usize, time_ns: i64) {
        let exec = exec_of(id, number, time_ns);
        if let Some(finding) = finding_of(&exec) {
            self.expected.entry(id.clone()).or_default().push(finding);
        }
        self.execs.push(exec);
    }

    /// Number of expected findings.
    #[must_use]
    pub fn expected_count(&self) -> usize {
        self.expected.values().map(Vec::len).sum()
    }

    /// Publishes the image, as an indexer does.
    ///
    /// # Errors
    /// When Kafka does not accept a record.
    pub async fn publish_image(&self, producer: &Producer) -> Result<(), PublishError> {
        self.publish_image_as(producer, &self.image.source).await
    }

    /// Publishes the image as another source.
    ///
    /// # Errors
    /// When Kafka does not accept a record.
    pub async fn publish_image_as(&self, producer: &Producer, source: &str) -> Result<(), PublishError> {
        let layers = self
            .image
            .diff_ids
            .iter()
            .map(|diff_id| IndexedLayer {
                diff_id: diff_id.clone(),
                basis: LayerBasis::Blob,
                manifest: self.layer.clone(),
            })
            .collect();
        let indexed = Indexed { image: self.image.clone(), layers };
        Publisher::new(producer.clone(), source).publish(&indexed, 0).await.map(drop)
    }

    /// Produces the container records.
    ///
    /// # Errors
    /// When Kafka does not accept a record.
    pub async fn produce_containers(&self, producer: &Producer) -> anyhow::Result<()> {
        for seen in &self.seen {
            producer.send(Topic::ExecEvents, seen.container.id.as_str().as_bytes(), &bytes(seen)?, &[]).await?;
        }
        Ok(producer.settled().await?)
    }

    /// Produces some of the execs.
    ///
    /// # Errors
    /// When Kafka does not accept a record.
    pub async fn produce_execs(&self, producer: &Producer, execs: &[Exec]) -> anyhow::Result<()> {
        for exec in execs {
            producer.send(Topic::ExecEvents, exec.container_id.as_str().as_bytes(), &bytes(exec)?, &[]).await?;
        }
        Ok(producer.settled().await?)
    }
}

fn bytes<R: Record>(record: &R) -> anyhow::Result<Vec<u8>> {
    Ok(encode(record)?)
}

fn image() -> Image {
    Image {
        image_id: ImageId::from(Sha256::of(b"image").to_digest().as_str()),
        diff_ids: vec![DiffId::from(Sha256::of(b"layer").to_digest().as_str())],
        platform: Platform::default(),
        references: vec!["registry/app:1".to_owned()],
        source: "test".to_owned(),
        ..Image::default()
    }
}

/// The container record of a container of this workload.
pub(crate) fn seen(id: &ContainerId) -> ContainerSeen {
    let container = Container {
        id: id.clone(),
        name: "app".to_owned(),
        runtime: "podman".to_owned(),
        image_ref: "registry/app:1".to_owned(),
        image_id: image().image_id,
        ..Container::default()
    };
    let node = Node { cluster: "test".to_owned(), name: "node-1".to_owned(), ..Node::default() };
    ContainerSeen { node, container, ..ContainerSeen::default() }
}

/// A container's exec of this number; every few of them drift.
pub(crate) fn exec_of(id: &ContainerId, number: usize, time_ns: i64) -> Exec {
    if number % DRIFT_EVERY != DRIFT_EVERY - 1 {
        return exec(id, number, "/bin/app", time_ns);
    }
    Exec {
        class: FileClass::New,
        hash_state: HashState::Hashed,
        sha256: Some(Sha256::of(format!("{id}{number}").as_bytes())),
        ..exec(id, number, DRIFT_PATH, time_ns)
    }
}

/// The expected finding of an exec of this workload, if there is one.
pub(crate) fn finding_of(exec: &Exec) -> Option<FindingId> {
    (exec.path == DRIFT_PATH.as_bytes()).then(|| FindingId::of(&exec.event_id, "drift"))
}

/// An untouched image program.
fn exec(id: &ContainerId, number: usize, path: &str, time_ns: i64) -> Exec {
    let count = number as u64;
    let boot_id = id.as_str();
    let event_id: EventId =
        ExecIdentity { cluster: "test", boot_id, pid: 100, start_ns: 1, exec_count: count }.event_id();
    Exec {
        event_id,
        cluster: "test".to_owned(),
        node: "node-1".to_owned(),
        container_id: id.clone(),
        boot_id: boot_id.to_owned(),
        time_ns,
        pid: 100,
        container_pid: 7,
        start_ns: 1,
        exec_count: i64::try_from(count).unwrap_or(0),
        parent_pid: 99,
        parent_start_ns: 1,
        parent_comm: b"sh".to_vec(),
        path: path.as_bytes().to_vec(),
        path_truncated: false,
        typed_path: path.as_bytes().to_vec(),
        script: None,
        args: [path.as_bytes(), number.to_string().as_bytes()].into_iter().collect(),
        args_truncated: false,
        cwd: b"/".to_vec(),
        uid: 0,
        gid: 0,
        euid: 0,
        egid: 0,
        container_root_user: true,
        tty: None,
        entered_from_outside: false,
        chrooted: false,
        namespace: MountNamespace::Own,
        class: FileClass::Image,
        file: FileFacts { size_bytes: 3, nlink: 1, ..FileFacts::default() },
        mount: None,
        hash_state: HashState::NotNeeded,
        sha256: None,
        collector_start: "test".to_owned(),
        cpu: 0,
        seq: 1,
        ..Exec::default()
    }
}
