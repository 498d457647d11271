//! The limits of an image. Images are untrusted input: anybody who can start a container chooses them.

use std::time::Duration;

use driftline_schemas::limits::{CHUNK_BYTES, CHUNKS_MAX};

/// Most entries of one layer. The largest base images have some 300,000; at 120 bytes each a million fills the chunks
/// that a manifest may have.
pub const ENTRIES_MAX: usize = 1_000_000;

/// Most entries of all layers of one archive. They are in memory until the archive's documents name the image's layers.
pub const ARCHIVE_ENTRIES_MAX: usize = 3 * ENTRIES_MAX;

/// Most bytes of paths and link targets in one layer, with [`ENTRY_BYTES`] for each entry: the capacity of its chunks.
pub const MANIFEST_BYTES_MAX: usize = CHUNK_BYTES * CHUNKS_MAX as usize;

/// Bytes of an entry in a manifest beside path and target: digest 32, size up to 10, and six bytes of mode, kind and
/// lengths.
pub const ENTRY_BYTES: usize = 48;

/// Most bytes of one layer, uncompressed, holes of sparse files included: two minutes of hashing. Images of machine
/// learning models reach 40 GiB.
pub const LAYER_BYTES_MAX: u64 = 64 << 30;

/// How many times larger than its compressed form a layer may become, beyond [`RATIO_FREE_BYTES`]. Deflate cannot
/// exceed 1,032; zstd can, for long runs of zeros only.
pub const RATIO_MAX: u64 = 1_100;

/// Uncompressed bytes of a layer that are read whatever the ratio: two seconds of work.
pub const RATIO_FREE_BYTES: u64 = 1 << 30;

/// Longest PAX header or GNU long name; the limit of Go's `archive/tar`, which unpacks nearly all images.
pub const EXTENSION_BYTES_MAX: u64 = 1 << 20;

/// Most parts of one sparse file.
pub const SPARSE_PARTS_MAX: usize = 65_536;

/// Longest manifest, config or index; registries refuse manifests over 4 MiB.
pub const JSON_BYTES_MAX: u64 = 4 << 20;

/// Most bytes of JSON kept of one archive.
pub const JSON_TOTAL_BYTES_MAX: u64 = 64 << 20;

/// Most members of an image archive: a hundred images of a hundred layers with their legacy metadata.
pub const MEMBERS_MAX: usize = 50_000;

/// Deepest nesting of OCI indexes; builders write one or two levels.
pub const INDEX_DEPTH_MAX: usize = 4;

/// Most images that one index, with those it names, may lead to; the largest public ones have some thirty platforms.
pub const MANIFESTS_MAX: usize = 1_024;

/// Longest time for one layer: a layer of [`LAYER_BYTES_MAX`] at the speed of gzip on a loaded node, thrice.
pub const LAYER_TIME_MAX: Duration = Duration::from_secs(1_800);

/// Most references kept of an image, and of its declared volumes.
pub const NAMES_MAX: usize = 64;

/// Longest reference or volume path kept.
pub const NAME_BYTES_MAX: usize = 4_096;

/// Largest window of a zstd layer, as a power of two: 128 MiB, the decoder's own default.
pub const ZSTD_WINDOW_LOG_MAX: u32 = 27;

/// Bytes read at once.
pub const BUFFER_BYTES: usize = 128 * 1024;

/// Most layers remembered as published by verified sources; 100,000 digests are some 15 MB. Layers beyond it are read
/// again, which is harmless.
pub const LAYERS_KNOWN_MAX: usize = 100_000;

/// Most redirects that one request follows: a registry redirects to its store, and the store to a cache.
pub const REDIRECTS_MAX: usize = 5;

/// Attempts for a request, or for a layer without progress; with the pauses between them some ten seconds.
pub const REQUEST_ATTEMPTS_MAX: u32 = 5;

/// Bytes of a layer after which earlier interruptions no longer count: reading a layer of 40 GiB may be interrupted
/// more than a few times.
pub const PROGRESS_BYTES: u64 = 16 << 20;

/// Pause before the first repetition of a request; each further pause is twice as long.
pub const REQUEST_PAUSE_FIRST: Duration = Duration::from_millis(250);

/// Longest pause requested by a registry that an attempt waits for. For a longer pause the attempt ends, so that other
/// images are indexed meanwhile.
pub const RETRY_AFTER_WAIT_MAX: Duration = Duration::from_secs(20);

/// Longest pause requested by a registry that is honoured at all; requests are answered for an hour.
pub const RETRY_AFTER_MAX: Duration = Duration::from_secs(3_600);

/// Longest time to connect to a registry, TLS included.
pub const CONNECT_TIME_MAX: Duration = Duration::from_secs(10);

/// Longest time for one manifest, config or token, with all redirects: 4 MiB at modem speed.
pub const DOCUMENT_TIME_MAX: Duration = Duration::from_secs(60);

/// Longest answer of a token server; tokens with many permissions reach 10 KiB.
pub const TOKEN_BYTES_MAX: usize = 256 << 10;

/// Longest file of credentials, and longest answer of a credential helper.
pub const CREDENTIALS_BYTES_MAX: u64 = 1 << 20;

/// Longest time for a credential helper, which may query a cloud service.
pub const HELPER_TIME_MAX: Duration = Duration::from_secs(15);

/// Time by which the responsible instance precedes the next one.
pub const TAKEOVER: Duration = Duration::from_secs(60);

/// Layers of an image in a node's store that are read at once. With the default number of images at once, a node spends
/// at most four cores.
pub const STORED_LAYERS: usize = 2;
