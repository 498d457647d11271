//! Docker over its HTTP API.

use driftline_schemas::{ContainerId, ImageId};
use serde::Deserialize;

use crate::events::EventSource;
use crate::http::Api;
use crate::inspect::{Inspect, Inspected};
use crate::limits::CONTAINERS_MAX;
use crate::one_by_one::OneByOne;
use crate::{DOCKER, ImageExport, RuntimeError, RuntimeSettings, is_hex_id, parse};

/// A Docker engine.
#[derive(Debug)]
pub(crate) struct Docker {
    api: Api,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Version {
    #[serde(default)]
    version: String,
    #[serde(default)]
    components: Vec<Component>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Component {
    #[serde(default)]
    name: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Listed {
    id: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct ImageInspect {
    #[serde(default)]
    repo_tags: Option<Vec<String>>,
}

impl Docker {
    /// Connects; podman's imitation of Docker is not taken for it.
    pub(crate) async fn detect(settings: &RuntimeSettings) -> Result<(Self, String), RuntimeError> {
        let api = Api::new(DOCKER, &settings.docker_socket);
        let answer = api.get("/version").await?;
        let version: Version = parse(DOCKER, &answer.unwrap_or_default())?;
        if version.components.iter().any(|component| component.name.starts_with("Podman")) {
            return Err(RuntimeError::failed(DOCKER, "podman answers at its socket"));
        }
        let how = format!("version {} at {}", version.version, settings.docker_socket.display());
        Ok((Self { api }, how))
    }

    /// The source of its events.
    pub(crate) fn source(&self) -> EventSource {
        EventSource::Docker(self.api.clone())
    }

    pub(crate) async fn references(&self, image_id: &ImageId) -> Result<Option<Vec<String>>, RuntimeError> {
        let Some(answer) = self.api.get(&format!("/images/{image_id}/json")).await? else { return Ok(None) };
        Ok(Some(parse::<ImageInspect>(DOCKER, &answer)?.repo_tags.unwrap_or_default()))
    }

    pub(crate) async fn export(&self, image_id: &ImageId) -> Result<ImageExport, RuntimeError> {
        self.api.stream(&format!("/images/{image_id}/get")).await.map(ImageExport::of_body)
    }
}

impl OneByOne for Docker {
    async fn inspect(&self, id: &ContainerId) -> Result<Option<Inspected>, RuntimeError> {
        let Some(answer) = self.api.get(&format!("/containers/{id}/json")).await? else { return Ok(None) };
        Ok(Some(parse::<Inspect>(DOCKER, &answer)?.into_inspected(DOCKER, None)))
    }

    async fn running_ids(&self) -> Result<Vec<ContainerId>, RuntimeError> {
        let answer = self.api.get("/containers/json").await?.unwrap_or_default();
        let listed: Vec<Listed> = parse(DOCKER, &answer)?;
        let ids = listed.iter().map(|listed| listed.id.as_str()).filter(|id| is_hex_id(id));
        Ok(ids.take(CONTAINERS_MAX).map(ContainerId::from).collect())
    }
}
