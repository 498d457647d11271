//! The codec on the hot path against the reference implementation, on one exec record: `make bench-core`.
//!
//! Both read and write the same bytes (a test holds that), so the ratio is what the choice in
//! `docs/adr/0002-avro-codec.md` rests on.
#![allow(
    clippy::expect_used,
    missing_docs,
    reason = "a benchmark fails by panicking; criterion's macros are undocumented"
)]

use apache_avro::reader::datum::GenericDatumReader;
use apache_avro::writer::datum::GenericDatumWriter;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use std::hint::black_box;

use driftline_schemas::{
    ContainerId, EventId, Exec, ExecEvent, FileClass, FileFacts, HashState, MountNamespace, Sha256, encode,
};

fn exec() -> Exec {
    Exec {
        event_id: EventId::from("0123456789abcdef0123456789abcdef"),
        cluster: "prod".into(),
        node: "node-17.example".into(),
        container_id: ContainerId::from("4f9c1d0a4f9c1d0a4f9c1d0a4f9c1d0a4f9c1d0a4f9c1d0a4f9c1d0a4f9c1d0a"),
        boot_id: "0d4f5a3e-7a39-4e43-9a3d-2c4a8f0e1b7d".into(),
        time_ns: 1_790_000_000_000_000_000,
        pid: 41_234,
        container_pid: 17,
        start_ns: 123_456_789_000,
        exec_count: 3,
        parent_pid: 41_200,
        parent_start_ns: 123_400_000_000,
        parent_comm: b"sh".to_vec(),
        path: b"/usr/local/bin/server".to_vec(),
        path_truncated: false,
        typed_path: b"server".to_vec(),
        script: None,
        args: ["server", "--listen", "0.0.0.0:8080", "--verbose"].into_iter().collect(),
        args_truncated: false,
        cwd: b"/srv".to_vec(),
        uid: 1000,
        gid: 1000,
        euid: 1000,
        egid: 1000,
        container_root_user: false,
        tty: None,
        entered_from_outside: false,
        chrooted: false,
        namespace: MountNamespace::Own,
        class: FileClass::New,
        file: FileFacts { dev: 60, ino: 77, size_bytes: 1_048_576, nlink: 1, ..FileFacts::default() },
        mount: None,
        hash_state: HashState::Hashed,
        sha256: Some(Sha256::of(b"x")),
        collector_start: "9f8e7d6c".into(),
        cpu: 1,
        seq: 4_711,
        ..Exec::default()
    }
}

fn codec(criterion: &mut Criterion) {
    let exec = exec();
    let bytes = encode(&exec).expect("an exec");
    let schema = apache_avro::Schema::parse_str(include_str!("../exec.avsc")).expect("a schema");
    let mut group = criterion.benchmark_group("exec record");
    group.throughput(Throughput::Elements(1));
    group.bench_function("encode, ours", |b| b.iter(|| encode(black_box(&exec))));
    group.bench_function("encode, apache-avro", |b| {
        let writer = GenericDatumWriter::builder(&schema).build().expect("a writer");
        b.iter(|| writer.write_ser_to_vec(black_box(&exec)).expect("an exec"));
    });
    group.bench_function("decode, ours", |b| b.iter(|| ExecEvent::decode(black_box(&bytes))));
    group.bench_function("decode, apache-avro", |b| {
        let reader = GenericDatumReader::builder(&schema).build().expect("a reader");
        b.iter(|| {
            let datum = bytes.get(10..).unwrap_or_default();
            reader.read_deser::<Exec>(&mut black_box(datum)).expect("a datum")
        });
    });
    group.finish();
}

criterion_group!(benches, codec);
criterion_main!(benches);
