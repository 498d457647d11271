//! Compiles the eBPF program with clang.
#![expect(clippy::disallowed_methods, reason = "cargo speaks to build scripts through the environment")]

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;

const HINT: &str = "run deploy/dev/needs.sh build";

fn main() -> Result<(), String> {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed=src");
    println!("cargo::rerun-if-env-changed=CLANG");
    let out = PathBuf::from(variable("OUT_DIR")?);
    compile(&out.join("exec.bpf.o"))
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

fn variable(name: &str) -> Result<String, String> {
    env::var(name).map_err(|error| format!("{name}: {error}"))
}
