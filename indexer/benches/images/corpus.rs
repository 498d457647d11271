//! The images that are indexed: OCI layouts in a temporary directory.

use std::fs::File;
use std::io::{self, BufWriter, Read, Write};
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use tar::{Builder, EntryType, Header};

/// How layers are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Form {
    Gzip,
    Zstd,
    Plain,
}

impl Form {
    pub(crate) const ALL: [Self; 3] = [Self::Gzip, Self::Zstd, Self::Plain];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Gzip => "gzip",
            Self::Zstd => "zstd",
            Self::Plain => "plain",
        }
    }

    fn media_type(self) -> &'static str {
        match self {
            Self::Gzip => "application/vnd.oci.image.layer.v1.tar+gzip",
            Self::Zstd => "application/vnd.oci.image.layer.v1.tar+zstd",
            Self::Plain => "application/vnd.oci.image.layer.v1.tar",
        }
    }
}

/// An image in an OCI layout.
pub(crate) struct Corpus {
    pub(crate) name: String,
    pub(crate) layout: PathBuf,
    /// Length of all layers, uncompressed.
    pub(crate) content_bytes: u64,
}

impl Corpus {
    /// Programs and libraries of this machine, the first by path until there are enough, distributed over the layers.
    pub(crate) fn of_this_machine(directory: &Path, form: Form, wanted_bytes: u64, layers: usize) -> Self {
        let mut files = Vec::new();
        let mut bytes = 0;
        for root in ["/usr/bin", "/usr/lib", "/usr/share"] {
            collect(Path::new(root), wanted_bytes, &mut bytes, &mut files);
        }
        let count = files.len();
        let share = count.div_ceil(layers).max(1);
        // Every layer gets both large and small files.
        let dealt = |layer: usize| files.iter().skip(layer).step_by(count.div_ceil(share)).cloned().collect();
        let tars: Vec<Vec<PathBuf>> = (0..layers).map(dealt).collect();
        Self::write(directory, &format!("{} layers of {}", tars.len(), form.name()), form, &tars, |tar, paths| {
            for path in paths {
                let mut file = File::open(path)?;
                append(tar, path.strip_prefix("/").unwrap_or(path), file.metadata()?.len(), &mut file)?;
            }
            Ok(())
        })
    }

    /// One layer of small files in as many directories as a large package manager's cache has.
    pub(crate) fn of_many_files(directory: &Path, count: usize) -> Self {
        Self::write(directory, &format!("{count} files in one layer"), Form::Gzip, &[()], |tar, ()| {
            for number in 0..count {
                let path = format!("usr/lib/node_modules/package-{}/dist/module-{number}.js", number / 40);
                let content = format!("module.exports = {number};\n");
                append(tar, Path::new(&path), content.len() as u64, &mut content.as_bytes())?;
            }
            Ok(())
        })
    }

    /// One layer of one long file.
    pub(crate) fn of_one_file(directory: &Path, bytes: u64) -> Self {
        Self::write(directory, &format!("one file of {} GiB", bytes >> 30), Form::Gzip, &[()], |tar, ()| {
            append(tar, Path::new("model.bin"), bytes, &mut io::repeat(0).take(bytes))
        })
    }

    pub(crate) fn remove(&self) {
        std::fs::remove_dir_all(&self.layout).unwrap();
    }

    fn write<T>(
        directory: &Path,
        name: &str,
        form: Form,
        layers: &[T],
        fill: impl Fn(&mut Builder<&mut dyn Write>, &T) -> io::Result<()>,
    ) -> Self {
        let layout = directory.join(name.replace(' ', "-"));
        std::fs::create_dir_all(layout.join("blobs/sha256")).unwrap();
        let mut content_bytes = 0;
        let (mut descriptors, mut diff_ids) = (Vec::new(), Vec::new());
        for layer in layers {
            let (descriptor, diff_id, bytes) = write_layer(&layout, form, |tar| fill(tar, layer));
            descriptors.push(descriptor);
            diff_ids.push(diff_id);
            content_bytes += bytes;
        }
        let config =
            json!({"architecture": "amd64", "os": "linux", "rootfs": {"type": "layers", "diff_ids": diff_ids}});
        let config = document(&layout, "application/vnd.oci.image.config.v1+json", &config);
        let media_type = "application/vnd.oci.image.manifest.v1+json";
        let manifest = json!({"schemaVersion": 2, "mediaType": media_type, "config": config, "layers": descriptors});
        let mut manifest = document(&layout, media_type, &manifest);
        manifest["annotations"] = json!({"org.opencontainers.image.ref.name": "bench"});
        let index = json!({"schemaVersion": 2, "manifests": [manifest]});
        std::fs::write(layout.join("index.json"), index.to_string()).unwrap();
        std::fs::write(layout.join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#).unwrap();
        Self { name: name.to_owned(), layout, content_bytes }
    }
}

/// Writes a layer's blob; returns its descriptor, diff_id and uncompressed length.
fn write_layer(
    layout: &Path,
    form: Form,
    fill: impl FnOnce(&mut Builder<&mut dyn Write>) -> io::Result<()>,
) -> (Value, String, u64) {
    let draft = layout.join("draft");
    let stored = Hashed::new(BufWriter::new(File::create(&draft).unwrap()));
    let (stored, diff_id, bytes) = match form {
        Form::Plain => {
            let (mut stored, diff_id, bytes) = tar(stored, fill);
            stored.flush().unwrap();
            (stored, diff_id, bytes)
        }
        Form::Gzip => {
            let (gzip, diff_id, bytes) =
                tar(flate2::write::GzEncoder::new(stored, flate2::Compression::default()), fill);
            (gzip.finish().unwrap(), diff_id, bytes)
        }
        Form::Zstd => {
            let (zstd, diff_id, bytes) = tar(zstd::Encoder::new(stored, 3).unwrap(), fill);
            (zstd.finish().unwrap(), diff_id, bytes)
        }
    };
    let size = stored.bytes;
    let digest = stored.finish();
    std::fs::rename(draft, layout.join("blobs/sha256").join(digest.trim_start_matches("sha256:"))).unwrap();
    (json!({"mediaType": form.media_type(), "digest": digest, "size": size}), diff_id, bytes)
}

fn tar<W: Write>(out: W, fill: impl FnOnce(&mut Builder<&mut dyn Write>) -> io::Result<()>) -> (W, String, u64) {
    let mut out = Hashed::new(out);
    {
        let mut tar = Builder::new(&mut out as &mut dyn Write);
        fill(&mut tar).unwrap();
        tar.finish().unwrap();
    }
    let bytes = out.bytes;
    let digest = format!("sha256:{}", hex(&out.hash.clone().finalize()));
    (out.inner, digest, bytes)
}

fn append(tar: &mut Builder<&mut dyn Write>, path: &Path, size: u64, content: &mut dyn Read) -> io::Result<()> {
    let mut header = Header::new_gnu();
    header.set_entry_type(EntryType::Regular);
    header.set_mode(0o755);
    header.set_size(size);
    tar.append_data(&mut header, path, content)
}

/// Regular files below a directory in order of path, until there are enough bytes.
fn collect(directory: &Path, wanted: u64, bytes: &mut u64, files: &mut Vec<PathBuf>) {
    let Ok(entries) = std::fs::read_dir(directory) else { return };
    let mut paths: Vec<_> = entries.filter_map(Result::ok).map(|entry| entry.path()).collect();
    paths.sort();
    for path in paths {
        if *bytes >= wanted {
            return;
        }
        match std::fs::symlink_metadata(&path) {
            Ok(metadata) if metadata.is_dir() => collect(&path, wanted, bytes, files),
            // One file must not be most of the image.
            Ok(metadata) if metadata.is_file() && metadata.len() < wanted / 8 && File::open(&path).is_ok() => {
                *bytes += metadata.len();
                files.push(path);
            }
            _ => {}
        }
    }
}

fn document(layout: &Path, media_type: &str, value: &Value) -> Value {
    let bytes = value.to_string().into_bytes();
    let hex = hex(&Sha256::digest(&bytes));
    std::fs::write(layout.join("blobs/sha256").join(&hex), &bytes).unwrap();
    json!({"mediaType": media_type, "digest": format!("sha256:{hex}"), "size": bytes.len()})
}

fn hex(digest: &[u8]) -> String {
    driftline_schemas::Sha256(digest.try_into().unwrap()).to_string()
}

/// Counts and hashes what is written.
struct Hashed<W> {
    inner: W,
    hash: Sha256,
    bytes: u64,
}

impl<W: Write> Hashed<W> {
    fn new(inner: W) -> Self {
        Self { inner, hash: Sha256::new(), bytes: 0 }
    }

    fn finish(mut self) -> String {
        self.inner.flush().unwrap();
        format!("sha256:{}", hex(&self.hash.finalize()))
    }
}

impl<W: Write> Write for Hashed<W> {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        let written = self.inner.write(buffer)?;
        self.hash.update(&buffer[..written]);
        self.bytes += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}
