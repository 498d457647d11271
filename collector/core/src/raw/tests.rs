use super::*;

/// An untouched image file executed in a container, as a starting point.
pub(crate) fn exec() -> RawExec {
    *RawExec::decode(&record(&Parts::default())).unwrap()
}

/// Variable parts of a record, as the kernel program writes them.
struct Parts {
    flags: u32,
    cgroup: Vec<u8>,
    path: Vec<u8>,
    typed_path: Vec<u8>,
    args: Vec<u8>,
    cwd: Vec<u8>,
    tty: Vec<u8>,
    environment: Vec<u8>,
    mount_root: Vec<u8>,
}

impl Default for Parts {
    fn default() -> Self {
        Self {
            flags: layout::FLAG_OVERLAY | layout::FLAG_ROOT_OVERLAY | layout::FLAG_PATH_COMPLETE,
            cgroup: format!("libpod-{}", "0a".repeat(32)).into_bytes(),
            path: b"busybox\0bin\0".to_vec(),
            typed_path: b"/bin/ls".to_vec(),
            args: b"ls\0-l\0\0".to_vec(),
            cwd: Vec::new(),
            tty: Vec::new(),
            environment: Vec::new(),
            mount_root: Vec::new(),
        }
    }
}

fn record(parts: &Parts) -> Vec<u8> {
    let mut bytes = vec![0; layout::EXEC_SIZE];
    let mut put = |at: usize, value: &[u8]| bytes[at..at + value.len()].copy_from_slice(value);
    put(layout::VERSION, &layout::VERSION_NOW.to_ne_bytes());
    put(layout::FLAGS, &parts.flags.to_ne_bytes());
    put(layout::TIME_NS, &1_000_u64.to_ne_bytes());
    put(layout::SEQ, &3_u64.to_ne_bytes());
    put(layout::PID, &4_711_u32.to_ne_bytes());
    put(layout::NS_PID, &7_u32.to_ne_bytes());
    put(layout::DEV, &41_u32.to_ne_bytes());
    put(layout::ROOT_DEV, &41_u32.to_ne_bytes());
    put(layout::MNT_ID, &644_u32.to_ne_bytes());
    put(layout::ROOT_MNT_ID, &644_u32.to_ne_bytes());
    put(layout::MNT_NS, &7_u32.to_ne_bytes());
    put(layout::BELOW_MOUNT_BYTES, &u32::try_from(parts.path.len()).unwrap().to_ne_bytes());
    put(layout::LOWER_COUNT, &1_u32.to_ne_bytes());
    put(layout::NLINK, &1_u32.to_ne_bytes());
    put(layout::MODE, &0o100_755_u16.to_ne_bytes());
    put(layout::FS_MAGIC, &magic::OVERLAY.to_ne_bytes());
    put(layout::CTIME_SEC, &2_i64.to_ne_bytes());
    put(layout::CTIME_NSEC, &5_u32.to_ne_bytes());
    put(layout::ANCESTOR_COUNT, &2_u32.to_ne_bytes());
    for (number, (pid, comm)) in [(99_u32, b"sh\0garbage"), (1, b"init\0xxxxx")].into_iter().enumerate() {
        let at = layout::ANCESTORS + number * layout::ANCESTOR_SIZE;
        put(at + layout::ANCESTOR_PID, &pid.to_ne_bytes());
        put(at + layout::ANCESTOR_START_NS, &5_u64.to_ne_bytes());
        put(at + layout::ANCESTOR_COMM, comm);
    }
    let variable = [
        (layout::CGROUP_BYTES, &parts.cgroup),
        (layout::PATH_BYTES, &parts.path),
        (layout::TYPED_PATH_BYTES, &parts.typed_path),
        (layout::CWD_BYTES, &parts.cwd),
        (layout::TTY_BYTES, &parts.tty),
        (layout::ARGS_BYTES, &parts.args),
        (layout::ENVIRONMENT_BYTES, &parts.environment),
        (layout::MOUNT_ROOT_BYTES, &parts.mount_root),
    ];
    for (at, part) in variable {
        put(at, &u16::try_from(part.len()).unwrap().to_ne_bytes());
    }
    for (_, part) in variable {
        bytes.extend_from_slice(part);
    }
    bytes
}

#[test]
fn every_field_comes_out_where_it_went_in() {
    let raw = exec();
    assert_eq!(raw.moment, Moment { time_ns: 1_000, cpu: 0, seq: 3 });
    assert_eq!((raw.pid, raw.ns_pid, raw.mnt_ns), (4_711, 7, 7));
    assert_eq!(raw.path, b"/bin/busybox");
    assert_eq!(raw.typed_path, b"/bin/ls");
    assert_eq!(raw.args, [b"ls".as_slice(), b"-l", b""]);
    assert_eq!(
        raw.ancestors.iter().map(|it| (it.pid, it.comm.as_bytes())).collect::<Vec<_>>(),
        [(99, b"sh".as_slice()), (1, b"init".as_slice())]
    );
    assert_eq!(raw.file.dev, Dev { major: 0, minor: 41 });
    assert_eq!(raw.file.ctime_ns, 2_000_000_005);
    assert!(raw.is_overlay() && !raw.has_upper() && raw.has_whole_path() && !raw.is_script());
}

#[test]
fn paths_are_turned_round() {
    let check = |flags: u32, components: &[u8], expect: &[u8]| {
        let parts = Parts { flags, path: components.to_vec(), ..Parts::default() };
        assert_eq!(RawExec::decode(&record(&parts)).unwrap().path, expect);
    };
    check(layout::FLAG_PATH_COMPLETE, b"c\0b\0a\0", b"/a/b/c");
    check(layout::FLAG_PATH_COMPLETE, b"", b"/");
    check(layout::FLAG_PATH_TRUNCATED, b"c\0b\0", b"b/c");
    check(layout::FLAG_PATH_ANONYMOUS, b"memfd:x y\0", b"memfd:x y");
    check(layout::FLAG_PATH_COMPLETE, b"\xff\n\0a\0", b"/a/\xff\n");
}

#[test]
fn no_arguments_and_empty_arguments_differ() {
    let check = |bytes: &[u8], expect: &[&[u8]]| {
        let parts = Parts { args: bytes.to_vec(), ..Parts::default() };
        assert_eq!(RawExec::decode(&record(&parts)).unwrap().args, expect);
    };
    check(b"", &[]);
    check(b"\0", &[b""]);
    check(b"a\0b", &[b"a", b"b"]);
}

#[test]
fn a_record_that_contradicts_itself_is_refused() {
    let good = record(&Parts::default());
    assert_eq!(RawExec::decode(&good[..layout::EXEC_SIZE - 1]), Err(RawError::Short(layout::EXEC_SIZE - 1)));
    assert!(matches!(RawExec::decode(&good[..good.len() - 1]), Err(RawError::Length { .. })));
    let longer = [good.as_slice(), b"x"].concat();
    assert!(matches!(RawExec::decode(&longer), Err(RawError::Length { .. })));
    let mut other = good;
    other[layout::VERSION] = 9;
    assert_eq!(RawExec::decode(&other), Err(RawError::Version(9)));
}

#[test]
fn device_numbers_are_those_that_stat_shows() {
    assert_eq!(Dev::from_kernel(254 << 20 | 1).to_st_dev(), 254 << 8 | 1);
    assert_eq!(Dev { major: 0, minor: 0x1234 }.to_st_dev(), 0x0120_0034);
}

#[test]
fn open_files_are_reported_with_the_peer_of_a_connected_socket() {
    let check = |family: u16, address: &[u8], port: u16, expect: Option<&str>| {
        let mut bytes = record(&Parts::default());
        let at = layout::FDS + layout::FD_SIZE;
        bytes[at + layout::FD_MODE..][..2].copy_from_slice(&0o140_777_u16.to_ne_bytes());
        bytes[at + layout::FD_INO..][..8].copy_from_slice(&7_u64.to_ne_bytes());
        bytes[at + layout::FD_FAMILY..][..2].copy_from_slice(&family.to_ne_bytes());
        bytes[at + layout::FD_ADDRESS..][..address.len()].copy_from_slice(address);
        bytes[at + layout::FD_PORT..][..2].copy_from_slice(&port.to_be_bytes());
        let fds = RawExec::decode(&bytes).unwrap().fds;
        assert_eq!((fds[0].ino, fds[1].ino, fds[1].mode), (0, 7, 0o140_777));
        assert_eq!(fds[1].peer.map(|peer| peer.to_string()).as_deref(), expect);
    };
    check(2, &[192, 0, 2, 7], 4_444, Some("192.0.2.7:4444"));
    check(10, &[0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1], 443, Some("[2001:db8::1]:443"));
    check(10, &[0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 255, 255, 192, 0, 2, 7], 443, Some("192.0.2.7:443"));
    check(2, &[0, 0, 0, 0], 0, None);
    check(1, &[9; 16], 9, None);
}

#[test]
fn of_the_environment_only_names_are_retained() {
    let parts = Parts { environment: b"PATH=/bin\0LD_PRELOAD=/tmp/secret.so\0".to_vec(), ..Parts::default() };
    assert_eq!(RawExec::decode(&record(&parts)).unwrap().environment, ["LD_PRELOAD"]);
}

#[test]
fn what_was_packed_comes_out_whole_and_in_the_order_in_which_it_happened() {
    let at = |time_ns: u64, args: &[u8]| {
        let mut bytes = record(&Parts { args: args.to_vec(), ..Parts::default() });
        bytes[layout::TIME_NS..layout::TIME_NS + 8].copy_from_slice(&time_ns.to_ne_bytes());
        bytes
    };
    let records = [at(30, b"c\0"), at(10, b"longer\0than\0others\0"), at(20, b"")];
    let mut packed = Packed::default();
    for record in &records {
        assert_eq!(
            packed.push(record).map(|moment| moment.time_ns),
            Ok(RawExec::decode(record).unwrap().moment.time_ns)
        );
    }
    assert_eq!(packed.push(&records[0][..600]), Err(RawError::Length { length: 600, expected: records[0].len() }));
    let expect = [1, 2, 0].map(|number: usize| RawExec::decode(&records[number]).unwrap());
    assert_eq!(packed.in_order().collect::<Vec<_>>(), expect);
}

#[test]
fn only_what_is_suspicious_and_not_known_is_urgent() {
    let check = |flags: u32, expect: bool| {
        assert_eq!(RawExec::is_urgent(&record(&Parts { flags, ..Parts::default() })), expect);
    };
    check(layout::FLAG_OVERLAY, false);
    check(layout::FLAG_OVERLAY | layout::FLAG_SUSPICIOUS, true);
    check(layout::FLAG_OVERLAY | layout::FLAG_SUSPICIOUS | layout::FLAG_KNOWN, false);
}

#[test]
fn a_known_file_is_written_as_the_kernel_compares_it() {
    let RawFile { ino, real_ino, ctime_ns, size_bytes, .. } = exec().file;
    let file = RawFile { dev: Dev { major: 8, minor: 0x12345 }, ..exec().file };
    let words = KnownFile::from(&file).to_kernel();
    assert_eq!(Dev::from_kernel(u32::try_from(words[0]).unwrap()), file.dev);
    assert_eq!(words[1..], [ino, real_ino, ctime_ns.cast_unsigned(), size_bytes.cast_unsigned()]);
}
