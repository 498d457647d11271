//! The functions that `loadtest/fuzz/` calls with arbitrary bytes, one for each of its targets. Each ends, never
//! panics, and asserts the properties of whatever it accepts. The tests here replay the corpus, and every input that
//! once failed.

use std::collections::BTreeMap;
use std::io::Read as _;
use std::sync::Arc;

use driftline_enricher_core::image::{ImageIndex, MergeError, merge};
use driftline_schemas::layer::{EntryKind, LayerManifest, PublishedLayer};
use driftline_schemas::limits::{LAYERS_MAX, PATH_BYTES_MAX};
use driftline_schemas::{DiffId, LayerBasis, LayerHead, Sha256};
use tar::EntryType;

use crate::documents::{Candidate, Documents, Entry, Wanted, choose};
use crate::error::IndexError;
use crate::limits::NAMES_MAX;
use crate::tar_stream::TarStream;
use crate::tree::Tree;

pub use crate::registry::fuzzing::registry;

/// Bytes of a file's content that are read; the rest, which may be a hole of 64 GiB, is skipped.
const CONTENT_BYTES_MAX: u64 = 1 << 20;

/// Separates the documents in an input; JSON cannot contain it.
const DOCUMENT_END: u8 = 0x1e;

/// Path and size of a regular file.
type File = (Vec<u8>, u64);

/// Reads a plain layer. The result survives publishing, merges, and equals the result of a second reader.
pub fn tar(bytes: &[u8]) {
    let Ok((files, manifest)) = read(bytes) else { return };
    for entry in manifest.entries() {
        assert!(is_normal(&entry.path), "{:?}", entry.path.escape_ascii());
        assert_eq!(entry.sha256.is_some(), entry.kind == EntryKind::File);
        let is_link = matches!(entry.kind, EntryKind::Symlink | EntryKind::Hardlink);
        assert_eq!(entry.target.is_some(), is_link);
    }
    if let Some(expect) = files_by_the_crate(bytes) {
        assert_eq!(files, expect, "as the tar crate reads them");
    }
    check_published(&manifest);
    let once = merge_checked(&[Arc::new(manifest.clone())]);
    assert!(matches!(once, Ok(_) | Err(MergeError::Walks)), "what the indexer writes merges: {once:?}");
    // Merging the same layer twice changes nothing, except that links now find targets that were missing before.
    let twice = merge_checked(&[Arc::new(manifest.clone()), Arc::new(manifest.clone())]);
    if let (Ok(once), Ok(twice)) = (&once, &twice)
        && manifest.entries().iter().all(|entry| entry.kind != EntryKind::Hardlink)
    {
        let paths = |index: &ImageIndex| -> Vec<_> {
            index.entries().map(|entry| (entry.path.to_vec(), entry.kind, entry.mode, entry.sha256)).collect()
        };
        assert_eq!(paths(once), paths(twice));
    }
}

/// The files in the order of the stream, and the layer's manifest.
fn read(bytes: &[u8]) -> Result<(Vec<File>, LayerManifest), IndexError> {
    let mut tar = TarStream::new(bytes);
    let mut tree = Tree::default();
    let mut files = Vec::new();
    let mut members = 0;
    while let Some(member) = tar.next_member()? {
        members += 1;
        assert!(members <= bytes.len() / 512, "a member takes a block at least");
        let sha256 = if member.kind == EntryKind::File {
            let mut content = Vec::new();
            let read = tar.data(&member).take(CONTENT_BYTES_MAX).read_to_end(&mut content)?;
            assert_eq!(u64::try_from(read), Ok(member.size_bytes.min(CONTENT_BYTES_MAX)));
            files.push((member.path.clone(), member.size_bytes));
            Some(Sha256::of(&content))
        } else {
            None
        };
        tree.add(&member, sha256)?;
    }
    Ok((files, tree.finish()))
}

/// The files according to the `tar` crate's own iterator, for streams about which both should agree: only files and
/// empty directories in POSIX form, to the end without an error.
fn files_by_the_crate(bytes: &[u8]) -> Option<Vec<File>> {
    let mut archive = tar::Archive::new(bytes);
    let mut files = Vec::new();
    for entry in archive.entries().ok()?.raw(true) {
        let entry = entry.ok()?;
        let header = entry.header();
        let is_posix = header.as_ustar().is_some() && !header.as_bytes().ends_with(b"tar\0");
        match (header.entry_type(), header.as_bytes().get(156), header.entry_size().ok()?) {
            (EntryType::Directory, _, 0) if is_posix => {}
            (EntryType::Regular, Some(b'0'), size) if is_posix => files.push((entry.path_bytes().into_owned(), size)),
            _ => return None,
        }
    }
    Some(files)
}

fn is_normal(path: &[u8]) -> bool {
    let is_name = |name: &[u8]| !matches!(name, b"" | b"." | b"..") && !name.contains(&0);
    match path {
        b"/" => true,
        [b'/', names @ ..] => path.len() <= PATH_BYTES_MAX && names.split(|byte| *byte == b'/').all(is_name),
        _ => false,
    }
}

fn check_published(manifest: &LayerManifest) {
    let Ok(PublishedLayer { head, chunks }) = manifest.publish(&DiffId::from("sha256:00"), "fuzz", 1) else { return };
    let back = LayerManifest::assemble(&head, chunks.iter().map(|chunk| chunk.data.as_slice()));
    assert_eq!(back.as_ref(), Ok(manifest), "it is assembled as it was published");
}

fn merge_checked(layers: &[Arc<LayerManifest>]) -> Result<ImageIndex, MergeError> {
    let index = merge(layers)?;
    let reopened = ImageIndex::from_bytes(Box::new(index.as_bytes().to_vec()));
    assert_eq!(reopened.as_ref(), Ok(&index), "it is opened as it was kept");
    for file in index.files() {
        assert_eq!(index.file(file.path).as_ref(), Some(&file), "a file lies at its path");
        assert!(index.paths_of(&file.sha256).any(|path| path == file.path), "a file is found by its content");
    }
    Ok(index)
}

/// Reads `manifest.json`, then `index.json`, then the documents that their digests and paths name.
pub fn documents(bytes: &[u8]) {
    let find = |wanted: &Wanted| choose(&mut Pieces::of(bytes), &Entry::Names, wanted);
    let Ok(found) = find(&Wanted::default()) else { return };
    let Candidate { image, layers, .. } = &found;
    assert_eq!(image.diff_ids.len(), layers.len());
    assert!(layers.len() <= LAYERS_MAX && image.references.len() <= NAMES_MAX && image.volumes.len() <= NAMES_MAX);
    assert!(image.diff_ids.iter().all(|diff_id| driftline_schemas::is_digest(diff_id.as_str())));
    match find(&Wanted { image_id: Some(image.image_id.clone()), ..Wanted::default() }) {
        Ok(again) => assert_eq!(again.image.diff_ids, image.diff_ids, "the same image by its id"),
        Err(error) => assert!(matches!(error, IndexError::Digest { .. }), "{error}"),
    }
}

/// The documents of an input. A document that a digest or a path names is selected by the text of that name, as no
/// fuzzer guesses a digest.
struct Pieces<'a>(Vec<&'a [u8]>);

impl<'a> Pieces<'a> {
    fn of(bytes: &'a [u8]) -> Self {
        Self(bytes.split(|byte| *byte == DOCUMENT_END).collect())
    }
}

impl Documents for Pieces<'_> {
    fn document(&mut self, path: &str) -> Result<Option<Vec<u8>>, IndexError> {
        let number = match path {
            "manifest.json" => 0,
            "index.json" => 1,
            other => 2 + usize::from(other.bytes().fold(0, u8::wrapping_add)) % self.0.len().saturating_sub(2).max(1),
        };
        Ok(self.0.get(number).filter(|piece| !piece.is_empty()).map(|piece| piece.to_vec()))
    }
}

/// Reads the bytes as the chunks of a manifest, and as a merged index.
pub fn chunks(bytes: &[u8]) {
    let head = LayerHead {
        diff_id: DiffId::from("sha256:00"),
        source: "fuzz".to_owned(),
        basis: LayerBasis::Blob,
        manifest_sha256: Sha256::of(bytes),
        chunk_count: 1,
        size_bytes: 0,
        entry_count: 0,
        indexed_ns: 0,
    };
    if let Ok(manifest) = LayerManifest::assemble(&head, bytes.chunks(100)) {
        check_published(&manifest);
        let _ = merge_checked(&[Arc::new(manifest.clone())]);
        let _ = merge_checked(&dealt(&manifest));
    }
    let _ = ImageIndex::from_bytes(Box::new(bytes.to_vec()));
    look_up_all([bytes, &Sha256::of(bytes).0].concat());
}

/// The entries of a manifest, distributed over three layers.
fn dealt(manifest: &LayerManifest) -> Vec<Arc<LayerManifest>> {
    let mut hands: BTreeMap<usize, Vec<_>> = BTreeMap::new();
    for entry in manifest.entries() {
        let hand = usize::from(entry.path.iter().copied().fold(0, u8::wrapping_add)) % 3;
        hands.entry(hand).or_default().push(entry.clone());
    }
    hands.into_values().map(|entries| Arc::new(LayerManifest::new(entries))).collect()
}

/// Looks up all entries of an index whose digest is right and whose content is arbitrary.
fn look_up_all(block: Vec<u8>) {
    let Ok(index) = ImageIndex::from_bytes(Box::new(block.clone())) else { return };
    assert_eq!(index.as_bytes(), block);
    for entry in index.entries() {
        let (found, file) = (index.entry(entry.path), index.file(entry.path));
        assert!(
            found.is_none_or(|found| found.path.len() <= block.len())
                && file.is_none_or(|file| file.path.len() <= block.len())
        );
        if let Some(sha256) = entry.sha256 {
            assert!(index.paths_of(&sha256).count() <= block.len());
        }
    }
    assert!(index.files().count() <= block.len() && index.file_count() <= block.len());
}

#[cfg(test)]
mod tests;
