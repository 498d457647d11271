//! The few broker requests that the client library does not offer: the coordinator of a group or transactional id, the
//! in-sync replicas, and the committed offsets of a group. One connection per request, in protocol versions that every
//! Kafka since 2.0 supports. Called by [`super::cluster`] and [`super::oracle`].

use anyhow::{Context as _, bail, ensure};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

const QUESTION_MAX: Duration = Duration::from_secs(3);
/// A response about all partitions of a test cluster takes a few kilobytes.
const ANSWER_BYTES_MAX: usize = 16 << 20;
const METADATA: (i16, i16) = (3, 1);
const OFFSET_FETCH: (i16, i16) = (9, 2);
const FIND_COORDINATOR: (i16, i16) = (10, 1);

/// The kind of coordinator.
#[derive(Debug, Clone, Copy)]
pub(super) enum Coordinator<'a> {
    /// Of a consumer group.
    Group(&'a str),
    /// Of a transactional id.
    Transaction(&'a str),
}

/// Replicas of a partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Copies {
    /// Number of assigned replicas.
    pub wanted: usize,
    /// Number of in-sync replicas.
    pub in_sync: usize,
    /// Node id of the leader; -1 for none.
    pub leader: i32,
}

/// Node id and address of a coordinator, according to this broker.
///
/// # Errors
/// When the broker does not answer, or does not know the coordinator.
pub(super) async fn coordinator(broker: SocketAddr, of: Coordinator<'_>) -> anyhow::Result<i32> {
    let (key, kind) = match of {
        Coordinator::Group(key) => (key, 0),
        Coordinator::Transaction(key) => (key, 1),
    };
    let mut body = Vec::new();
    put_text(&mut body, key)?;
    body.push(kind);
    let mut answer = ask(broker, FIND_COORDINATOR, &body).await?;
    answer.int32()?;
    let error = answer.int16()?;
    answer.text()?;
    ensure!(error == 0, "no coordinator of {key}: error {error}");
    answer.int32()
}

/// Replicas of every partition of every topic, internal ones included, according to this broker.
///
/// # Errors
/// When the broker does not answer.
pub(super) async fn copies(broker: SocketAddr) -> anyhow::Result<BTreeMap<(String, i32), Copies>> {
    let mut answer = ask(broker, METADATA, &(-1_i32).to_be_bytes()).await?;
    for _ in 0..answer.count()? {
        answer.int32()?;
        answer.text()?;
        answer.int32()?;
        answer.text()?;
    }
    answer.int32()?;
    let mut all = BTreeMap::new();
    for _ in 0..answer.count()? {
        answer.int16()?;
        let topic = answer.text()?;
        answer.int8()?;
        for _ in 0..answer.count()? {
            answer.int16()?;
            let partition = answer.int32()?;
            let leader = answer.int32()?;
            let wanted = answer.int32s()?.len();
            let in_sync = answer.int32s()?.len();
            all.insert((topic.clone(), partition), Copies { wanted, in_sync, leader });
        }
    }
    Ok(all)
}

/// Offsets that a group has committed for partitions of a topic; requested from the group's coordinator.
///
/// # Errors
/// When the broker does not answer, or is not the coordinator.
pub(super) async fn committed(
    broker: SocketAddr,
    group: &str,
    topic: &str,
    partitions: i32,
) -> anyhow::Result<BTreeMap<i32, i64>> {
    let mut body = Vec::new();
    put_text(&mut body, group)?;
    body.extend(1_i32.to_be_bytes());
    put_text(&mut body, topic)?;
    body.extend(partitions.to_be_bytes());
    (0..partitions).for_each(|partition| body.extend(partition.to_be_bytes()));
    let mut answer = ask(broker, OFFSET_FETCH, &body).await?;
    let mut offsets = BTreeMap::new();
    for _ in 0..answer.count()? {
        answer.text()?;
        for _ in 0..answer.count()? {
            let partition = answer.int32()?;
            let offset = answer.int64()?;
            answer.text()?;
            let error = answer.int16()?;
            ensure!(error == 0, "no offset of {group} in partition {partition}: error {error}");
            offsets.insert(partition, offset);
        }
    }
    let error = answer.int16()?;
    ensure!(error == 0, "no offsets of {group}: error {error}");
    Ok(offsets)
}

async fn ask(broker: SocketAddr, (key, version): (i16, i16), body: &[u8]) -> anyhow::Result<Answer> {
    let question = async {
        let mut stream = TcpStream::connect(broker).await?;
        let mut request = Vec::new();
        request.extend(key.to_be_bytes());
        request.extend(version.to_be_bytes());
        request.extend(1_i32.to_be_bytes());
        put_text(&mut request, "chaos")?;
        request.extend(body);
        stream.write_all(&u32::try_from(request.len())?.to_be_bytes()).await?;
        stream.write_all(&request).await?;
        let length = usize::try_from(stream.read_u32().await?)?;
        ensure!(length <= ANSWER_BYTES_MAX, "an answer of {length} bytes");
        let mut bytes = vec![0; length];
        stream.read_exact(&mut bytes).await?;
        let mut answer = Answer { bytes, at: 0 };
        answer.int32()?;
        Ok(answer)
    };
    tokio::time::timeout(QUESTION_MAX, question).await.with_context(|| format!("{broker} does not answer"))?
}

fn put_text(into: &mut Vec<u8>, text: &str) -> anyhow::Result<()> {
    into.extend(i16::try_from(text.len())?.to_be_bytes());
    into.extend(text.as_bytes());
    Ok(())
}

struct Answer {
    bytes: Vec<u8>,
    at: usize,
}

impl Answer {
    fn take<const N: usize>(&mut self) -> anyhow::Result<[u8; N]> {
        let found =
            self.bytes.get(self.at..).and_then(|rest| rest.first_chunk::<N>()).context("an answer is cut off")?;
        self.at += N;
        Ok(*found)
    }

    fn int8(&mut self) -> anyhow::Result<i8> {
        Ok(i8::from_be_bytes(self.take()?))
    }

    fn int16(&mut self) -> anyhow::Result<i16> {
        Ok(i16::from_be_bytes(self.take()?))
    }

    fn int32(&mut self) -> anyhow::Result<i32> {
        Ok(i32::from_be_bytes(self.take()?))
    }

    fn int64(&mut self) -> anyhow::Result<i64> {
        Ok(i64::from_be_bytes(self.take()?))
    }

    /// Length of an array.
    fn count(&mut self) -> anyhow::Result<i32> {
        self.int32()
    }

    fn int32s(&mut self) -> anyhow::Result<Vec<i32>> {
        (0..self.count()?).map(|_| self.int32()).collect()
    }

    /// Text; empty when it is null.
    fn text(&mut self) -> anyhow::Result<String> {
        let Ok(length) = usize::try_from(self.int16()?) else { return Ok(String::new()) };
        let Some(found) = self.bytes.get(self.at..self.at + length) else { bail!("an answer is cut off") };
        let text = String::from_utf8(found.to_vec())?;
        self.at += length;
        Ok(text)
    }
}
