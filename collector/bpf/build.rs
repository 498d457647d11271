//! Compiles the eBPF program with clang, and hands its record layout to the Rust side for comparison.
#![expect(clippy::disallowed_methods, reason = "cargo speaks to build scripts through the environment")]

use std::env;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

const HINT: &str = "run deploy/dev/needs.sh build";

fn main() -> Result<(), String> {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed=src");
    println!("cargo::rerun-if-env-changed=CLANG");
    let out = PathBuf::from(variable("OUT_DIR")?);
    compile(&out.join("exec.bpf.o"))?;
    let header = fs::read_to_string("src/record.h").map_err(|error| format!("src/record.h: {error}"))?;
    fs::write(out.join("layout.rs"), layout(&header)).map_err(|error| format!("layout.rs: {error}"))
}

fn compile(object: &Path) -> Result<(), String> {
    let clang = env::var("CLANG").unwrap_or_else(|_| "clang".to_owned());
    let arch = variable("CARGO_CFG_TARGET_ARCH")?;
    let (define, triple) = match arch.as_str() {
        "x86_64" => ("-D__TARGET_ARCH_x86", "x86_64-linux-gnu"),
        "aarch64" => ("-D__TARGET_ARCH_arm64", "aarch64-linux-gnu"),
        other => return Err(format!("the collector is not made for {other}")),
    };
    // Debian and Ubuntu keep asm/types.h here, where clang does not look when its target is bpf.
    let include = format!("-I/usr/include/{triple}");
    let output = Command::new(&clang)
        .args(["-O2", "-g", "-target", "bpf", "-Wall", "-Werror"])
        // Otherwise the increment of some loops is put before their body and falls into it, which verifiers up to at
        // least 6.1 refuse as a back-edge.
        .args(["-mllvm", "-disable-block-placement"])
        .args([define, &include, "-c", "src/exec.bpf.c", "-o"])
        .arg(object)
        .output()
        .map_err(|error| format!("cannot run {clang}: {error}; {HINT}"))?;
    if output.status.success() {
        return Ok(());
    }
    let errors = String::from_utf8_lossy(&output.stderr);
    let missing = errors.contains("file not found") || errors.contains("unknown target");
    let hint = if missing { format!("\nclang or the bpf headers are incomplete: {HINT}") } else { String::new() };
    Err(format!("{clang} failed:\n{errors}{hint}"))
}

/// `AT(field, offset)`, `IN(part, field, offset)`, sizes and `FLAG_X = 1 << n` of the header as Rust constants.
fn layout(header: &str) -> String {
    let mut text = String::new();
    for line in header.lines().map(str::trim) {
        let inner = line.strip_prefix("IN(").and_then(|rest| rest.strip_suffix(");"));
        if let Some([part, field, offset]) = inner.map(|inner| inner.split(", ").collect::<Vec<_>>()).as_deref() {
            let name = format!("{part}_{field}").to_uppercase();
            let _ = writeln!(text, "pub(super) const {name}: usize = {offset};");
        }
        let offset = line.strip_prefix("AT(").and_then(|rest| rest.strip_suffix(");")?.split_once(", "));
        if let Some((field, offset)) = offset {
            let _ = writeln!(text, "pub(super) const {}: usize = {offset};", field.to_uppercase());
        }
        let flag = line
            .split_once(',')
            .and_then(|(item, _)| item.split_once(" = "))
            .filter(|(name, _)| name.starts_with("FLAG_"));
        if let Some((name, value)) = flag {
            let _ = writeln!(text, "pub(super) const {name}: u32 = {value};");
        }
        let size = line.strip_prefix("_Static_assert(sizeof(struct ").and_then(|rest| rest.split_once("_record) == "));
        if let Some((part, (size, _))) = size.and_then(|(part, rest)| Some((part, rest.split_once(',')?))) {
            let _ = writeln!(text, "pub(super) const {}_SIZE: usize = {size};", part.to_uppercase());
        }
        let version = line.strip_prefix("#define DRIFTLINE_RECORD_VERSION ");
        if let Some(version) = version {
            let _ = writeln!(text, "pub(super) const VERSION_NOW: u32 = {version};");
        }
    }
    text
}

fn variable(name: &str) -> Result<String, String> {
    env::var(name).map_err(|error| format!("{name}: {error}"))
}
