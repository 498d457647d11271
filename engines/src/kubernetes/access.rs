//! The client of the API.

use std::time::Duration;

use http_body_util::Limited;
use kube::client::ClientBuilder;
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};
use tower::util::MapResponseLayer;

use super::{Access, KubernetesSettings};
use crate::limits::{API_BYTES_MAX, ERROR_BYTES_MAX};
use crate::text::shortened;

/// Longest silence of an answer: servers end a watch by themselves after 290 s, and bookmarks come before.
const SILENCE_MAX: Duration = Duration::from_secs(295);

/// Makes the client, or returns why there is none. Sends no request yet.
pub(super) async fn client(settings: &KubernetesSettings) -> Result<Client, String> {
    let mut config = match &settings.access {
        Access::Pod => Config::incluster().map_err(text)?,
        Access::Kubeconfig(path) => {
            let read = Kubeconfig::read_from(path).map_err(text)?;
            Config::from_custom_kubeconfig(read, &KubeConfigOptions::default()).await.map_err(text)?
        }
        Access::Off | Access::NoPod => return Err("no API is used".to_owned()),
    };
    config.read_timeout = Some(SILENCE_MAX);
    // Else the time for which a connection was idle counts.
    config.reset_reader_on_write = true;
    let builder = ClientBuilder::try_from(config).map_err(text)?;
    // A hostile server must not fill the memory.
    let bounded =
        MapResponseLayer::new(|response: http::Response<_>| response.map(|body| Limited::new(body, API_BYTES_MAX)));
    Ok(builder.with_layer(&bounded).build())
}

/// An error with its causes.
pub(super) fn text(error: impl std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text = format!("{text}: {cause_text}");
        }
        source = cause.source();
    }
    shortened(&text, ERROR_BYTES_MAX)
}
