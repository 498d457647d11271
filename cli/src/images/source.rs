//! The source of a named image: a layout, an archive, or a registry.

use std::fs::File;
use std::io::BufReader;
use std::path::Path;

use anyhow::{Context as _, bail};
use driftline_indexer::registry::{Registries, RegistryAccess};
use driftline_indexer::{Indexed, Wanted, index_archive, index_layout, own_platform};
use driftline_schemas::{ImageId, Platform};
use driftline_service::telemetry::Telemetry;
use driftline_settings::Settings;
use tokio::runtime::Handle;

use crate::progress::Progress;

/// Prefix of the name of an image in a registry, as in skopeo and other tools.
const REGISTRY: &str = "docker://";
/// Layers read at once.
const LANES: usize = 4;

/// The image with this id, or for this platform, written `os/architecture[/variant]`.
pub(super) fn wanted(image_id: Option<&str>, platform: Option<&str>) -> anyhow::Result<Wanted> {
    let platform = platform.map_or_else(|| Ok(own_platform()), parse_platform)?;
    Ok(Wanted { image_id: image_id.map(ImageId::from), platform })
}

fn parse_platform(text: &str) -> anyhow::Result<Platform> {
    let mut parts = text.split('/').map(str::to_owned);
    match (parts.next(), parts.next(), parts.next(), parts.next()) {
        (Some(os), Some(architecture), variant, None) if !os.is_empty() && !architecture.is_empty() => {
            Ok(Platform { os, architecture, variant: variant.unwrap_or_default() })
        }
        _ => bail!("{text:?} is no platform; write it as linux/amd64 or linux/arm/v7"),
    }
}

/// Indexes the wanted image of a source. A directory is an OCI layout, a file an archive of `docker save`,
/// `podman save` or in OCI form, and `docker://REFERENCE` an image of a registry.
pub(super) async fn index(source: &str, wanted: Wanted, settings: Settings) -> anyhow::Result<Indexed> {
    let (owned, handle) = (source.to_owned(), Handle::current());
    let indexing = tokio::task::spawn_blocking(move || match owned.strip_prefix(REGISTRY) {
        Some(reference) => of_registry(reference, &wanted, settings, &handle),
        None => of_path(Path::new(&owned), &wanted),
    });
    indexing.await?.with_context(|| format!("{source} cannot be indexed"))
}

fn of_path(path: &Path, wanted: &Wanted) -> anyhow::Result<Indexed> {
    if path.is_dir() {
        return Ok(index_layout(path, wanted, LANES)?);
    }
    let file = File::open(path).context("it is no file; an image of a registry is named docker://REFERENCE")?;
    let length = file.metadata()?.len();
    let mut progress = Progress::new("reading", "bytes", length);
    let mut bytes = 0;
    let counted = Counted {
        inner: BufReader::new(file),
        read: |count| {
            bytes += count;
            progress.at(bytes);
        },
    };
    Ok(index_archive(counted, wanted)?)
}

fn of_registry(reference: &str, wanted: &Wanted, mut settings: Settings, handle: &Handle) -> anyhow::Result<Indexed> {
    let access = RegistryAccess::for_reference(&mut settings, reference)?;
    settings.finish()?;
    let mut indexed = Registries::new(access, &Telemetry::new("driftline"))?.index(wanted, reference, handle)?;
    indexed.image.references = vec![reference.to_owned()];
    Ok(indexed)
}

/// Reports how much was read.
struct Counted<R, F> {
    inner: R,
    read: F,
}

impl<R: std::io::Read, F: FnMut(u64)> std::io::Read for Counted<R, F> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let count = self.inner.read(buffer)?;
        (self.read)(u64::try_from(count).unwrap_or(u64::MAX));
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_platform_has_two_or_three_parts() {
        let platform = |text| wanted(None, Some(text)).map(|wanted| wanted.platform);
        assert_eq!(platform("linux/arm/v7").unwrap().variant, "v7");
        assert_eq!(platform("linux/amd64").unwrap().architecture, "amd64");
        for text in ["linux", "linux/", "/amd64", "linux/arm/v7/x", ""] {
            assert!(platform(text).is_err(), "{text:?}");
        }
    }
}
