//! Settings of the enricher.

use crate::kind::{Size, SizeUnit, Text, Time, TimeUnit};
use crate::{Described, Program, Setting};
use Program::{CommandLine, Enricher};

const ENRICHER: &[Program] = &[Enricher];

/// Wait for metadata and image.
pub static PARK_MS: Setting<Time> = Setting {
    name: "DRIFTLINE_PARK_MS",
    programs: &[Enricher, CommandLine],
    kind: Time { default: 5_000, range: 0..=60_000, unit: TimeUnit::Milliseconds },
    about: "how long the events of a container wait for metadata and image",
};

/// Directory of the image store.
pub static STORE_DIR: Setting<Text> = Setting {
    name: "DRIFTLINE_STORE_DIR",
    programs: ENRICHER,
    kind: Text { default: "/var/lib/driftline/enricher", form: "a path" },
    about: "directory of the image tables and merged images, one for each instance",
};

/// Maximum on disk: by default chunks and merged images of 1,000 images of 10,000 files, which have some 250 bytes a
/// file together, and half as much again. The upper bound is as large as disks are.
pub static STORE_MAX_MB: Setting<Size> = Setting {
    name: "DRIFTLINE_STORE_MAX_MB",
    programs: ENRICHER,
    kind: Size { default: 4_000, range: 64..=1_000_000_000, unit: SizeUnit::Megabytes },
    about: "maximum disk space of the image store",
};

/// Maximum in memory: by default 500 images of 10,000 files at 200 bytes, which is the size of a file of a distribution
/// with its path.
pub static IMAGES_MAX_MB: Setting<Size> = Setting {
    name: "DRIFTLINE_IMAGES_MAX_MB",
    programs: ENRICHER,
    kind: Size { default: 1_000, range: 1..=1_000_000, unit: SizeUnit::Megabytes },
    about: "memory for merged images of running containers",
};

/// Memory for unused images.
pub static IMAGE_CACHE_MIB: Setting<Size> = Setting {
    name: "DRIFTLINE_IMAGE_CACHE_MIB",
    programs: ENRICHER,
    kind: Size { default: 256, range: 16..=65_536, unit: SizeUnit::Mebibytes },
    about: "memory for merged images that no container uses",
};

/// Retention of unused content: within the default a cron job's image is used again, and findings are amended for the
/// same time. At most a month: longer retention needs the disk of a store without collection.
pub static IMAGE_KEEP_S: Setting<Time> = Setting {
    name: "DRIFTLINE_IMAGE_KEEP_S",
    programs: ENRICHER,
    kind: Time { default: 3_600, range: 1..=31 * 86_400, unit: TimeUnit::Seconds },
    about: "how long the contents of unused images stay on disk",
};

pub(super) static SETTINGS: &[&dyn Described] =
    &[&PARK_MS, &STORE_DIR, &STORE_MAX_MB, &IMAGES_MAX_MB, &IMAGE_CACHE_MIB, &IMAGE_KEEP_S];
