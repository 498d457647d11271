//! `driftline images remove`: deletes the publications of an image, so that the topics and every enricher forget it.

use anyhow::ensure;
use clap::Args;
use std::collections::BTreeSet;
use std::io::{self, BufRead, IsTerminal as _};

use driftline_kafka::{ClientSettings, Producer};
use driftline_schemas::text::printable;
use driftline_schemas::topics::{Topic, partition_of};
use driftline_schemas::{DiffId, Image, ImageId, LayerHead, Sha256};

use super::catalogue::{Catalogue, Viewpoint};
use crate::output::out;

/// What is removed.
#[derive(Debug, Args)]
pub(crate) struct Remove {
    /// Image id, its first characters, or a reference
    image: String,
    /// Remove without confirmation; needed where there is no terminal
    #[arg(long)]
    yes: bool,
}

pub(crate) async fn remove(settings: &ClientSettings, arguments: &Remove) -> anyhow::Result<()> {
    let catalogue = Catalogue::read(settings, &Viewpoint::default()).await?;
    let id = catalogue.find(&arguments.image)?;
    let layers = only_of(&catalogue, id);
    if !arguments.yes {
        let confirmer = Confirmer::of_process();
        anstream::eprintln!("{}", meaning(&catalogue.published(id), layers.len()));
        ensure!(confirmed(confirmer, &mut io::stdin().lock())?, "nothing was removed");
    }
    let producer = Producer::new(settings)?;
    for diff_id in &layers {
        let partition = partition_of(diff_id.as_str().as_bytes(), settings.partition_count(Topic::ImageLayers));
        for key in keys(&catalogue, diff_id, &layers) {
            producer.send_to(Topic::ImageLayers, partition, key.as_bytes(), None, &[]).await?;
        }
    }
    producer.settled().await?;
    // The image record is deleted last, so that an interrupted command can be repeated.
    let published = catalogue.published(id);
    for image in &published {
        let key = image.key();
        let partition = partition_of(key.as_bytes(), settings.partition_count(Topic::Images));
        producer.send_to(Topic::Images, partition, key.as_bytes(), None, &[]).await?;
    }
    producer.settled().await?;
    Ok(out(format!("{id}  {} publications and {} layers removed", published.len(), layers.len()))?)
}

/// Whether a person can confirm.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Confirmer {
    Somebody,
    Nobody,
}

impl Confirmer {
    fn of_process() -> Self {
        if io::stdin().is_terminal() && io::stderr().is_terminal() { Self::Somebody } else { Self::Nobody }
    }
}

/// Whether the answer is yes.
///
/// # Errors
/// When no person can confirm, or the answer cannot be read.
fn confirmed(confirmer: Confirmer, answer: &mut impl BufRead) -> anyhow::Result<bool> {
    ensure!(
        confirmer == Confirmer::Somebody,
        "nobody can confirm: this is no terminal; --yes removes without confirmation"
    );
    anstream::eprint!("remove it? [y/N] ");
    let mut line = String::new();
    answer.read_line(&mut line)?;
    Ok(["y", "yes"].contains(&line.trim().to_ascii_lowercase().as_str()))
}

/// The consequences of the removal, for the person who has to decide.
fn meaning(published: &[&Image], layers: usize) -> String {
    let id = printable(published.first().map_or("", |image| image.image_id.as_str()).as_bytes()).text;
    let sources: BTreeSet<&str> = published.iter().map(|image| image.source.as_str()).collect();
    let sources = printable(sources.into_iter().collect::<Vec<_>>().join(", ").as_bytes()).text;
    format!(
        "{id}: {} publications (by {sources}) and {layers} layers that no other image has are deleted from the topics.\n\
         Containers that the enricher knows keep their verdicts. Execs of new containers of the image are unresolved until an\n\
         indexer that has it publishes it again, which it does at the next use; what `driftline images add` published is\n\
         published again only by the same command.",
        published.len(),
    )
}

/// Layers that only this image names.
fn only_of(catalogue: &Catalogue, id: &ImageId) -> BTreeSet<DiffId> {
    let others = catalogue.tables.images().filter(|(other, _)| *other != id).flat_map(|(_, published)| published);
    let named: BTreeSet<&DiffId> = others.flat_map(|image| &image.diff_ids).collect();
    let own = catalogue.published(id).into_iter().flat_map(|image| &image.diff_ids);
    own.filter(|diff_id| !named.contains(diff_id)).cloned().collect()
}

/// Keys of a layer's heads, and of their chunks unless a layer that stays has the same content.
fn keys(catalogue: &Catalogue, diff_id: &DiffId, removed: &BTreeSet<DiffId>) -> Vec<String> {
    let images = catalogue.tables.images().flat_map(|(_, published)| published);
    let staying = images.flat_map(|image| &image.diff_ids).filter(|diff_id| !removed.contains(diff_id));
    let needed: BTreeSet<Sha256> =
        staying.flat_map(|diff_id| catalogue.heads(diff_id)).map(|head| head.manifest_sha256).collect();
    let heads = catalogue.heads(diff_id);
    let chunks = |head: &LayerHead| {
        let manifest = head.manifest_sha256;
        (0..head.chunk_count).map(move |index| format!("{manifest}/{index}"))
    };
    let unneeded = heads.iter().filter(|head| !needed.contains(&head.manifest_sha256)).flat_map(chunks);
    heads.iter().map(|head| format!("{diff_id}/{}", head.source)).chain(unneeded).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_yes_is_yes_and_where_nobody_can_confirm_nothing_is() {
        for (answer, expected) in [("y\n", true), ("YES\n", true), ("n\n", false), ("\n", false), ("", false)] {
            assert_eq!(confirmed(Confirmer::Somebody, &mut answer.as_bytes()).unwrap(), expected, "{answer:?}");
        }
        let error = confirmed(Confirmer::Nobody, &mut "y\n".as_bytes()).unwrap_err().to_string();
        assert!(error.contains("--yes"), "{error}");
    }

    #[test]
    fn who_decides_sees_whose_publications_go() {
        let of =
            |source: &str| Image { image_id: ImageId::from("sha256:i"), source: source.to_owned(), ..Image::default() };
        let text = meaning(&[&of("node:a"), &of("ci:\u{1b}x")], 3);
        assert!(text.contains("sha256:i: 2 publications (by ci:") && text.contains("node:a) and 3 layers"), "{text}");
        assert!(!text.contains('\u{1b}'));
    }
}
