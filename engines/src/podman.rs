//! podman: over its socket when a service listens there, else by its command, which needs no daemon.

use std::collections::BTreeMap;

use driftline_schemas::{ContainerId, ImageId};
use serde::Deserialize;

use crate::command::{Output, run, stream};
use crate::events::EventSource;
use crate::http::Api;
use crate::inspect::{Inspect, Inspected};
use crate::limits::{CONTAINERS_MAX, INSPECT_AT_ONCE, TEXT_BYTES_MAX};
use crate::text::shortened;
use crate::{ArchiveFormat, ImageExport, PODMAN, RuntimeError, RuntimeSettings, is_hex_id, parse};

/// Oldest API version that has everything which is used here.
const API: &str = "/v4.0.0/libpod";

/// podman of this node.
#[derive(Debug)]
pub(crate) enum Podman {
    Socket(Api),
    Command(String),
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Listed {
    id: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Named {
    #[serde(default)]
    name: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct ImageInspect {
    #[serde(default)]
    repo_tags: Option<Vec<String>>,
}

/// podman 5 answers with a list where podman 4 has one object.
#[derive(Deserialize)]
#[serde(untagged)]
enum OneOrMore<T> {
    More(Vec<T>),
    One(T),
}

impl Podman {
    /// Tries the socket, then the command.
    pub(crate) async fn detect(settings: &RuntimeSettings) -> Result<(Self, String), RuntimeError> {
        let api = Api::new(PODMAN, &settings.podman_socket);
        if let Ok(Some(_)) = api.get(&format!("{API}/_ping")).await {
            return Ok((Self::Socket(api), format!("at {}", settings.podman_socket.display())));
        }
        let program = settings.podman_command.as_str();
        // Reads podman's own store: a version alone would not prove that it works.
        let listed = run(program, &["container", "ls", "--quiet", "--last", "1"]).await?;
        successful(&listed)?;
        Ok((Self::Command(program.to_owned()), format!("by the command {program}")))
    }

    /// Whether a service answers, or the command has to.
    pub(crate) fn has_socket(&self) -> bool {
        matches!(self, Self::Socket(_))
    }

    /// The source of its events: its service. The command would have to run all the time.
    pub(crate) fn source(&self) -> Option<EventSource> {
        match self {
            Self::Socket(api) => Some(EventSource::Podman(api.clone(), API)),
            Self::Command(_) => None,
        }
    }

    pub(crate) async fn inspect(&self, id: &ContainerId) -> Result<Option<Inspected>, RuntimeError> {
        let inspected = self.inspect_all(std::slice::from_ref(id)).await?;
        Ok(self.with_pods(inspected).await.pop())
    }

    pub(crate) async fn running(&self) -> Result<Vec<Inspected>, RuntimeError> {
        let ids = self.running_ids().await?;
        let mut inspected = Vec::new();
        for ids in ids.chunks(INSPECT_AT_ONCE) {
            inspected.extend(self.inspect_all(ids).await?);
        }
        Ok(self.with_pods(inspected).await)
    }

    pub(crate) async fn running_ids(&self) -> Result<Vec<ContainerId>, RuntimeError> {
        let ids: Vec<String> = match self {
            Self::Socket(api) => {
                let answer = api.get(&format!("{API}/containers/json")).await?.unwrap_or_default();
                parse::<Vec<Listed>>(PODMAN, &answer)?.into_iter().map(|listed| listed.id).collect()
            }
            Self::Command(program) => {
                let listed = run(program, &["container", "ls", "--quiet", "--no-trunc"]).await?;
                successful(&listed)?;
                String::from_utf8_lossy(&listed.stdout).split_ascii_whitespace().map(str::to_owned).collect()
            }
        };
        let ids = ids.iter().filter(|id| is_hex_id(id)).take(CONTAINERS_MAX);
        Ok(ids.map(|id| ContainerId::from(id.as_str())).collect())
    }

    /// Those of the containers that exist.
    async fn inspect_all(&self, ids: &[ContainerId]) -> Result<Vec<Inspect>, RuntimeError> {
        match self {
            Self::Socket(api) => {
                let mut inspected = Vec::new();
                for id in ids {
                    if let Some(answer) = api.get(&format!("{API}/containers/{id}/json")).await? {
                        inspected.push(parse(PODMAN, &answer)?);
                    }
                }
                Ok(inspected)
            }
            Self::Command(program) => {
                let arguments: Vec<&str> =
                    ["container", "inspect"].into_iter().chain(ids.iter().map(ContainerId::as_str)).collect();
                // The command names what is missing and fails, but prints the others.
                let output = run(program, &arguments).await?;
                if !output.status.success() && !output.stderr.contains("no such container") {
                    return Err(failed(&output));
                }
                parse(PODMAN, &output.stdout)
            }
        }
    }

    async fn with_pods(&self, inspected: Vec<Inspect>) -> Vec<Inspected> {
        let mut names: BTreeMap<String, Option<String>> = BTreeMap::new();
        for inspect in inspected.iter().filter(|inspect| is_hex_id(&inspect.pod)) {
            if !names.contains_key(&inspect.pod) {
                let name = self.pod_name(&inspect.pod).await.unwrap_or_else(|error| {
                    tracing::warn!(%error, pod = inspect.pod, "pod cannot be described");
                    None
                });
                names.insert(inspect.pod.clone(), name);
            }
        }
        let with_pod = |inspect: Inspect| {
            let name = names.get(&inspect.pod).cloned().flatten();
            inspect.into_inspected(PODMAN, name)
        };
        inspected.into_iter().map(with_pod).collect()
    }

    async fn pod_name(&self, id: &str) -> Result<Option<String>, RuntimeError> {
        let answer = match self {
            Self::Socket(api) => api.get(&format!("{API}/pods/{id}/json")).await?.unwrap_or_default().to_vec(),
            Self::Command(program) => {
                let output = run(program, &["pod", "inspect", id]).await?;
                successful(&output)?;
                output.stdout
            }
        };
        let named = match parse(PODMAN, &answer)? {
            OneOrMore::One(named) => Some::<Named>(named),
            OneOrMore::More(list) => list.into_iter().next(),
        };
        Ok(named.map(|named| shortened(&named.name, TEXT_BYTES_MAX)).filter(|name| !name.is_empty()))
    }

    pub(crate) async fn references(&self, image_id: &ImageId) -> Result<Option<Vec<String>>, RuntimeError> {
        let id = hex_of(image_id);
        let answer = match self {
            Self::Socket(api) => match api.get(&format!("{API}/images/{id}/json")).await? {
                Some(answer) => answer.to_vec(),
                None => return Ok(None),
            },
            Self::Command(program) => {
                if !run(program, &["image", "exists", id]).await?.status.success() {
                    return Ok(None);
                }
                let output = run(program, &["image", "inspect", id]).await?;
                successful(&output)?;
                output.stdout
            }
        };
        let image: Option<ImageInspect> = match parse(PODMAN, &answer)? {
            OneOrMore::One(image) => Some(image),
            OneOrMore::More(list) => list.into_iter().next(),
        };
        Ok(Some(image.and_then(|image| image.repo_tags).unwrap_or_default()))
    }

    pub(crate) async fn export(&self, image_id: &ImageId, format: ArchiveFormat) -> Result<ImageExport, RuntimeError> {
        let (id, format) = (hex_of(image_id), format.name());
        match self {
            Self::Socket(api) => {
                api.stream(&format!("{API}/images/{id}/get?format={format}")).await.map(ImageExport::of_body)
            }
            Self::Command(program) => {
                stream(program, &["image", "save", "--format", format, id]).map(ImageExport::of_command)
            }
        }
    }
}

fn hex_of(image_id: &ImageId) -> &str {
    let text = image_id.as_str();
    text.strip_prefix("sha256:").unwrap_or(text)
}

fn successful(output: &Output) -> Result<(), RuntimeError> {
    if output.status.success() { Ok(()) } else { Err(failed(output)) }
}

fn failed(output: &Output) -> RuntimeError {
    let last = output.stderr.lines().last().unwrap_or_default();
    RuntimeError::failed(PODMAN, format_args!("{}: {last}", output.status))
}
