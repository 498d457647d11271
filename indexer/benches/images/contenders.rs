//! The contenders: the indexer, and inflating and hashing alone, each on one core and on two; `tar` with `sha256sum`;
//! `umoci`.

use std::fs::File;
use std::io::{BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::Command;

use driftline_indexer::{Wanted, index_layout};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use sha2::{Digest as _, Sha256};

use crate::corpus::Corpus;

/// The resources that a run took.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
pub(crate) struct Usage {
    pub(crate) wall_s: f64,
    /// Processor time of all its processes and threads.
    pub(crate) cpu_s: f64,
    /// Largest resident memory of its first process, where the process reports it.
    pub(crate) peak_bytes: u64,
}

pub(crate) const OURS: &str = "driftline";
pub(crate) const OURS_TWO: &str = "driftline, two lanes";
pub(crate) const FLOOR: &str = "inflate and 2 x SHA-256";
/// The gain from a second core on this machine, which is often less than twice the speed. Each of two threads processes
/// the whole image, so that no thread waits for another; the times are half of what both took.
pub(crate) const FLOOR_TWO: &str = "half of two such images";

/// One way to process an image.
#[derive(Debug)]
pub(crate) struct Contender {
    pub(crate) name: &'static str,
    program: PathBuf,
    arguments: Vec<String>,
    needs: &'static [&'static str],
}

impl Contender {
    pub(crate) fn all(corpus: &Corpus) -> Vec<Self> {
        let layout = corpus.layout.to_string_lossy().into_owned();
        let floor = |name, threads: usize| Self {
            name,
            program: std::env::current_exe().unwrap(),
            arguments: vec!["floor".to_owned(), layout.clone(), threads.to_string()],
            needs: &[],
        };
        vec![
            Self::index(corpus, 1),
            floor(FLOOR, 1),
            Self::index(corpus, 2),
            floor(FLOOR_TWO, 2),
            Self::shell("tar and sha256sum", &["tar", "gzip", "zstd", "sha256sum"], &layout, TAR_AND_SHA256SUM),
            Self::shell("umoci unpack", &["umoci"], &layout, UMOCI),
        ]
    }

    pub(crate) fn index(corpus: &Corpus, lanes: usize) -> Self {
        let layout = corpus.layout.to_string_lossy().into_owned();
        Self {
            name: if lanes == 1 { OURS } else { OURS_TWO },
            program: std::env::current_exe().unwrap(),
            arguments: vec!["index".to_owned(), layout, lanes.to_string()],
            needs: &[],
        }
    }

    fn shell(name: &'static str, needs: &'static [&'static str], layout: &str, script: &str) -> Self {
        let arguments = ["-c", &format!("{PROLOGUE}{script}{EPILOGUE}"), "bash", layout].map(str::to_owned);
        Self { name, program: "bash".into(), arguments: arguments.into(), needs }
    }

    /// Fails with the reason when the contender cannot run here.
    pub(crate) fn can_run(&self) -> Result<(), String> {
        for tool in self.needs {
            let found = Command::new(tool).arg("--version").output().is_ok_and(|output| output.status.success());
            if !found {
                return Err(format!("{tool} is not installed"));
            }
        }
        self.run().map(drop)
    }

    pub(crate) fn run(&self) -> Result<Usage, String> {
        let output = Command::new(&self.program).args(&self.arguments).output().map_err(|error| error.to_string())?;
        if !output.status.success() {
            let complaint = String::from_utf8_lossy(&output.stderr).trim().to_owned();
            return Err(complaint.lines().last().unwrap_or("it failed without a word").to_owned());
        }
        let text = String::from_utf8_lossy(&output.stdout);
        serde_json::from_str(text.lines().last().unwrap_or_default()).map_err(|error| format!("{error}: {text}"))
    }
}

/// Measures the commands between it and [`EPILOGUE`] with the shell's own clock; `$1` is the layout.
const PROLOGUE: &str = r#"
set -euo pipefail
scratch=$(mktemp -d "$1/scratch.XXXXXX")
trap 'rm -rf "$scratch"' EXIT
TIMEFORMAT='{"wall_s": %R, "cpu_s": 0%U, "sys_s": 0%S}'
work() {
"#;
/// Prints user and system time together as processor time.
const EPILOGUE: &str = r#"
}
times=$( { time work "$1" >/dev/null 2>"$scratch/complaints"; } 2>&1 ) || { cat "$scratch/complaints" >&2; exit 1; }
[[ $times =~ \"wall_s\":\ ([0-9.]+),\ \"cpu_s\":\ 0([0-9.]+),\ \"sys_s\":\ 0([0-9.]+) ]]
awk -v w="${BASH_REMATCH[1]}" -v u="${BASH_REMATCH[2]}" -v s="${BASH_REMATCH[3]}" \
  'BEGIN { printf "{\"wall_s\": %.3f, \"cpu_s\": %.3f, \"peak_bytes\": 0}\n", w, u + s }'
"#;
/// The fastest way to have tar and sha256sum hash the files of a layer: one process for many files.
const TAR_AND_SHA256SUM: &str = r#"
  local blob
  for blob in $(find "$1/blobs/sha256" -type f -size +1M); do
    mkdir "$scratch/layer"
    tar -xf - -C "$scratch/layer" < <(case $(head -c 4 "$blob" | od -An -tx1 | tr -d ' ') in
      1f8b*) gzip -dc "$blob" ;;
      28b52ffd) zstd -dcq "$blob" ;;
      *) cat "$blob" ;;
    esac)
    find "$scratch/layer" -type f -print0 | xargs -0 sha256sum
    rm -rf "$scratch/layer"
  done
"#;
const UMOCI: &str = r#"
  umoci unpack --image "$1:bench" "$scratch/bundle"
"#;

/// The work of the indexer's process.
pub(crate) fn index(layout: &Path, lanes: usize) {
    measured(1, || {
        let indexed = index_layout(layout, &Wanted::default(), lanes).unwrap();
        assert!(indexed.layers.iter().all(|layer| !layer.manifest.entries().is_empty()));
    });
}

/// The least possible work: the same decompressors, read by pieces of the same length, and SHA-256 over the content
/// twice, as for diff_id and files. Each thread processes the whole image, see [`FLOOR_TWO`].
pub(crate) fn floor(layout: &Path, threads: usize) {
    let paths = layer_paths(layout);
    measured(threads, || {
        std::thread::scope(|scope| {
            for thread in 0..threads {
                // Each thread begins at another layer, so that none finds in the cache what another has just read.
                let (before, from) = paths.split_at(thread * paths.len() / threads);
                scope.spawn(move || from.iter().chain(before).for_each(|path| inflate_and_hash(path)));
            }
        });
    });
}

fn layer_paths(layout: &Path) -> Vec<PathBuf> {
    let blob =
        |digest: &Value| layout.join("blobs/sha256").join(digest.as_str().unwrap().trim_start_matches("sha256:"));
    let read = |path: &Path| -> Value { serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap() };
    let index = read(&layout.join("index.json"));
    let manifest = read(&blob(&index["manifests"][0]["digest"]));
    manifest["layers"].as_array().unwrap().iter().map(|layer| blob(&layer["digest"])).collect()
}

/// The length of the indexer's own reads.
const PIECE_BYTES: usize = driftline_indexer::limits::BUFFER_BYTES;

fn inflate_and_hash(path: &Path) {
    let mut head = [0; 4];
    let read = File::open(path).unwrap().read(&mut head).unwrap();
    let file = BufReader::with_capacity(PIECE_BYTES, File::open(path).unwrap());
    let mut content: Box<dyn Read> = match &head[..read] {
        [0x1f, 0x8b, ..] => Box::new(flate2::bufread::MultiGzDecoder::new(file)),
        [0x28, 0xb5, 0x2f, 0xfd] => Box::new(zstd::Decoder::with_buffer(file).unwrap()),
        _ => Box::new(file),
    };
    let (mut whole, mut files) = (Sha256::new(), Sha256::new());
    let mut piece = vec![0; PIECE_BYTES];
    loop {
        match content.read(&mut piece).unwrap() {
            0 => break,
            read => {
                whole.update(&piece[..read]);
                files.update(&piece[..read]);
            }
        }
    }
    assert_ne!(whole.finalize(), Sha256::new().finalize());
    assert_ne!(files.finalize(), Sha256::new().finalize());
}

/// Runs `work`, which processes this many images, and prints the resources for one of them.
fn measured(images: usize, work: impl FnOnce()) {
    let began = std::time::Instant::now();
    work();
    let wall_s = began.elapsed().as_secs_f64() / images as f64;
    let cpu = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    let cpu_s = (cpu.tv_sec as f64 + cpu.tv_nsec as f64 / 1e9) / images as f64;
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap_or("0 kB");
    let peak_bytes = peak.trim().trim_end_matches(" kB").parse::<u64>().unwrap() * 1024;
    println!("{}", serde_json::to_string(&Usage { wall_s, cpu_s, peak_bytes }).unwrap());
}
