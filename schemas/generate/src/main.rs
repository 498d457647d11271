//! Writes what the tables of records define: Avro schemas, the Rust structs with their limits, the record of the kernel
//! program in C and in Rust, and the decoder between them. Called by `make generate`; a test compares what is committed.
//!
//!     driftline-generate             writes every file
//!     driftline-generate --freeze    first freezes each schema that differs from its newest frozen version

use sha2::{Digest as _, Sha256};
use std::fmt::Write as _;
use std::io;
use std::path::{Path, PathBuf};

mod avro;
mod kernel;
mod rust;
mod table;
mod tables;

use tables::SCHEMAS;

fn main() -> io::Result<()> {
    let root = root();
    if std::env::args().any(|argument| argument == "--freeze") {
        freeze(&root.join("schemas/frozen"))?;
    }
    for (path, text) in outputs(&root)? {
        if std::fs::read_to_string(root.join(&path)).ok().as_ref() != Some(&text) {
            println!("{path}");
            std::fs::write(root.join(path), text)?;
        }
    }
    Ok(())
}

/// The repository.
fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// Every generated file, by its path in the repository.
fn outputs(root: &Path) -> io::Result<Vec<(String, String)>> {
    let mut files = vec![
        ("collector/bpf/src/exec_record.h".to_owned(), kernel::header()),
        ("collector/core/src/layout.rs".to_owned(), kernel::layout()),
        ("collector/core/src/raw/record.rs".to_owned(), kernel::decoder()),
    ];
    let mut defined: Vec<(&str, Vec<&'static str>)> = Vec::new();
    for (module, about) in [("exec", "The exec record."), ("container", "Records of containers and of losses.")] {
        let mut roots = Vec::new();
        for (file, _, record) in SCHEMAS.into_iter().filter(|(_, of, _)| *of == module) {
            files.push((format!("schemas/{file}.avsc"), avro::schema(record)));
            let mut older = frozen(&root.join("schemas/frozen"), file)?;
            older.pop();
            roots.push(rust::Root { file, record, older });
        }
        files.push((format!("schemas/src/exec_events/{module}.rs"), rust::module(about, &roots, &defined)));
        defined.push((module, rust::names(&roots.iter().map(|root| root.record).collect::<Vec<_>>())));
    }
    Ok(files)
}

/// The frozen versions of a schema, oldest first.
fn frozen(directory: &Path, file: &str) -> io::Result<Vec<String>> {
    let names = (1..).map(|version| format!("{file}.{version}.avsc"));
    let mut found = Vec::new();
    for name in names {
        if !directory.join(&name).try_exists()? {
            break;
        }
        found.push(name);
    }
    Ok(found)
}

/// Adds a frozen version of every schema that has changed since the newest one.
fn freeze(directory: &Path) -> io::Result<()> {
    let list = directory.join("SHA256SUMS");
    let mut sums: Vec<String> = std::fs::read_to_string(&list)?.lines().map(str::to_owned).collect();
    for (file, text) in schemas(directory)? {
        let versions = frozen(directory, &file)?;
        let newest = versions.last().map(|name| std::fs::read_to_string(directory.join(name))).transpose()?;
        if newest.as_ref() == Some(&text) {
            continue;
        }
        let name = format!("{file}.{}.avsc", versions.len() + 1);
        let mut sum = String::new();
        for byte in Sha256::digest(&text) {
            let _ = write!(sum, "{byte:02x}");
        }
        sums.push(format!("{sum}  {name}"));
        println!("schemas/frozen/{name}");
        std::fs::write(directory.join(name), text)?;
    }
    sums.sort_by(|one, other| name_of(one).cmp(name_of(other)));
    std::fs::write(list, sums.join("\n") + "\n")
}

/// The name and the text of every schema: of those that the tables define as they define it, of the others as the file
/// beside `directory` has it.
fn schemas(directory: &Path) -> io::Result<Vec<(String, String)>> {
    let mut schemas: Vec<_> =
        SCHEMAS.iter().map(|(file, _, record)| ((*file).to_owned(), avro::schema(record))).collect();
    for entry in std::fs::read_dir(directory.join(".."))? {
        let path = entry?.path();
        let name = path.file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default();
        let is_schema = path.extension().is_some_and(|extension| extension == "avsc");
        if is_schema && !schemas.iter().any(|(known, _)| *known == name) {
            schemas.push((name, std::fs::read_to_string(path)?));
        }
    }
    schemas.sort();
    Ok(schemas)
}

/// The name in a line of SHA256SUMS.
fn name_of(line: &str) -> &str {
    line.split_once("  ").map_or(line, |(_, name)| name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_committed_is_what_the_tables_say() {
        let root = root();
        let changed: Vec<String> = outputs(&root)
            .unwrap()
            .into_iter()
            .filter(|(path, text)| std::fs::read_to_string(root.join(path)).ok().as_ref() != Some(text))
            .map(|(path, _)| path)
            .collect();
        assert_eq!(changed, Vec::<String>::new(), "run `make generate`");
    }
}
