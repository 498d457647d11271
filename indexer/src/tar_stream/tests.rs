//! Tests how the reader parses each form of header, through one [`check`]. Streams are written by the `tar` crate, by
//! GNU tar where it is installed, and byte by byte where no tool writes them.

use std::io::Read as _;

use driftline_schemas::layer::EntryKind;
use tar::{EntryType, Header};

use super::TarStream;
use crate::error::{IndexError, Limit};

fn header(path: &str, entry_type: u8, size: u64) -> Header {
    let mut header = Header::new_gnu();
    header.as_old_mut().name[..path.len()].copy_from_slice(path.as_bytes());
    // Not set through the crate's type, which takes the oldest form of a file for the current one.
    header.as_old_mut().linkflag = [entry_type];
    header.set_mode(0o644);
    header.set_size(size);
    header.set_cksum();
    header
}

fn member(header: &Header, data: &[u8]) -> Vec<u8> {
    let padding = data.len().next_multiple_of(512) - data.len();
    [header.as_bytes(), data, &vec![0; padding]].concat()
}

fn file(path: &str, data: &[u8]) -> Vec<u8> {
    member(&header(path, b'0', data.len() as u64), data)
}

fn record(key: &str, value: &[u8]) -> Vec<u8> {
    let rest = key.len() + value.len() + 3;
    let length = (1..).map(|digits| rest + digits).find(|length| length.to_string().len() + rest == *length).unwrap();
    [format!("{length} {key}=").as_bytes(), value, b"\n"].concat()
}

fn pax(records: &[(&str, &[u8])]) -> Vec<u8> {
    let data: Vec<u8> = records.iter().flat_map(|(key, value)| record(key, value)).collect();
    member(&header("pax", b'x', data.len() as u64), &data)
}

fn end() -> Vec<u8> {
    vec![0; 1024]
}

/// Path, kind, data and target of a member.
type Found = (String, EntryKind, Vec<u8>, Option<String>);

/// Every member.
fn read(stream: &[u8]) -> Result<Vec<Found>, IndexError> {
    let mut tar = TarStream::new(stream);
    let mut members = Vec::new();
    while let Some(member) = tar.next_member()? {
        let mut data = Vec::new();
        tar.data(&member).read_to_end(&mut data)?;
        assert_eq!(data.len() as u64, member.size_bytes);
        let target = member.target.map(|target| String::from_utf8(target).unwrap());
        members.push((String::from_utf8_lossy(&member.path).into_owned(), member.kind, data, target));
    }
    Ok(members)
}

/// The stream holds exactly these files.
#[track_caller]
fn check(parts: &[Vec<u8>], expect: &[(&str, &[u8])]) {
    let found = read(&parts.concat()).unwrap();
    let found: Vec<_> = found.iter().map(|(path, _, data, _)| (path.as_str(), data.as_slice())).collect();
    assert_eq!(found, expect);
}

#[track_caller]
fn check_refused(parts: &[Vec<u8>], why: &str) {
    let error = read(&parts.concat()).unwrap_err().to_string();
    assert!(error.contains(why), "{why} in {error}");
}

#[test]
fn members_follow_each_other_and_the_end_may_be_missing() {
    check(
        &[file("a", b"1"), file("b", b""), file("c", &[7; 512]), end()],
        &[("a", b"1"), ("b", b""), ("c", &[7; 512])],
    );
    check(&[file("a", b"1")], &[("a", b"1")]);
    check(&[], &[]);
    check(&[end(), file("behind the end", b"1")], &[]);
}

#[test]
fn members_that_are_not_read_are_skipped() {
    let stream = [file("a", &[1; 700]), file("b", b"2"), end()].concat();
    let mut tar = TarStream::new(stream.as_slice());
    assert_eq!(tar.next_member().unwrap().unwrap().path, b"a");
    assert_eq!(tar.next_member().unwrap().unwrap().path, b"b");
    assert!(tar.next_member().unwrap().is_none());
}

#[test]
fn kinds_are_what_engines_make_of_them() {
    let kinds: Vec<_> = b"0\x0071234567S"
        .iter()
        .filter(|byte| **byte != b'S')
        .map(|byte| read(&member(&header("x", *byte, 0), b"")).unwrap()[0].1)
        .collect();
    use EntryKind::{Device, Directory, File, Hardlink, Symlink};
    assert_eq!(kinds, [File, File, File, Hardlink, Symlink, Device, Device, Directory, Device, File]);
    assert_eq!(read(&member(&header("dir/", 0, 0), b"")).unwrap()[0].1, Directory);
    // Only in the oldest form does the slash mark a directory; the data counts, too.
    let slash = [member(&header("dir/", b'0', 1), b"x"), file("next", b"1")].concat();
    assert_eq!(read(&slash).unwrap()[0].1, File);
    assert_eq!(read(&slash).unwrap()[1].0, "next");
    check_refused(&[member(&header("x", b'V', 0), b"")], "no runtime unpacks");
}

#[test]
fn long_names_of_gnu_and_pax_count() {
    let long = "d/".repeat(200) + "file";
    let gnu = |kind, name: &str| {
        member(&header("././@LongLink", kind, name.len() as u64 + 1), &[name.as_bytes(), b"\0"].concat())
    };
    check(&[gnu(b'L', &long), file("short", b"1"), end()], &[(&long, b"1")]);
    check(&[pax(&[("path", long.as_bytes())]), file("short", b"1"), end()], &[(&long, b"1")]);
    check(&[pax(&[("path", b"")]), file("kept", b"1")], &[("kept", b"1")]);
    check(&[pax(&[("path", b"first"), ("path", b"last")]), file("x", b"1")], &[("last", b"1")]);
    check(&[pax(&[("path", b"first")]), pax(&[("path", b"last")]), file("x", b"1")], &[("last", b"1")]);
    check(&[gnu(b'L', ""), file("short", b"1")], &[("short", b"1")]);
    let link = [gnu(b'K', &long), member(&header("l", b'2', 0), b"")].concat();
    assert_eq!(read(&link).unwrap()[0].3.as_deref(), Some(long.as_str()));
    let link = [pax(&[("linkpath", long.as_bytes())]), member(&header("l", b'1', 0), b"")].concat();
    assert_eq!(read(&link).unwrap()[0].3.as_deref(), Some(long.as_str()));
}

#[test]
fn binary_attributes_do_not_hide_or_fake_records() {
    let attribute = ("SCHILY.xattr.security.capability", &b"\n\n15 path=/fake\n\0"[..]);
    check(&[pax(&[attribute, ("path", b"real")]), file("x", b"1")], &[("real", b"1")]);
    check(&[pax(&[attribute]), file("x", b"1")], &[("x", b"1")]);
}

#[test]
fn global_headers_do_not_change_members() {
    let data = record("path", b"everything");
    let global = member(&header("g", b'g', data.len() as u64), &data);
    check(&[global.clone(), file("a", b"1")], &[("a", b"1")]);
    // The global header is between the extension and its member, so to Go they do not belong together.
    check(&[pax(&[("path", b"lost")]), global, file("a", b"1")], &[("a", b"1")]);
}

/// A header with these bytes from `at` on, for a file of two bytes.
fn with_bytes(at: usize, bytes: &[u8], new: fn() -> Header) -> Vec<u8> {
    let mut header = new();
    header.as_old_mut().name[..4].copy_from_slice(b"name");
    header.set_entry_type(EntryType::Regular);
    header.set_mode(0o644);
    header.set_size(2);
    header.as_mut_bytes()[at..at + bytes.len()].copy_from_slice(bytes);
    header.set_cksum();
    member(&header, b"ab")
}

#[test]
fn a_path_has_the_prefix_that_go_finds() {
    let path = |at, bytes: &[u8], new| read(&with_bytes(at, bytes, new)).unwrap()[0].0.clone();
    assert_eq!(path(345, b"dir", Header::new_ustar), "dir/name");
    assert_eq!(path(263, b" 0", Header::new_ustar), "name", "whatever the version says");
    // GNU's form has times at this position; a value that is not a time is a prefix that old versions of Go wrote.
    assert_eq!(path(345, b"00000000000\0", Header::new_gnu), "name");
    assert_eq!(path(345, b"some/dir", Header::new_gnu), "some/dir/name");
    assert_eq!(path(345, b"some/\xe9", Header::new_gnu), "name");
    assert_eq!(path(345, b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xfe", Header::new_gnu), "name");
    let star = [&[b'p'; 140][..], &[0; 23], b"tar\0"].concat();
    assert_eq!(path(345, &star, Header::new_ustar), format!("{}/name", "p".repeat(131)));
}

#[test]
fn numbers_are_octal_blank_or_binary() {
    let mode = |bytes: &[u8]| TarStream::new(with_bytes(100, bytes, Header::new_gnu).as_slice()).next_member();
    for (field, expect) in [
        (&b"0000755\0"[..], 0o755),
        (b"   755 \0", 0o755),
        (b"\x00\x00755\0\0\0", 0o755),
        (b"        ", 0),
        (b"\0\0\0\0\0\0\0\0", 0),
        (b"\x80\0\0\0\0\0\x01\xed", 0o755),
    ] {
        assert_eq!(mode(field).unwrap().unwrap().mode, expect, "{field:?}");
    }
    for field in [&b"000075x\0"[..], b"0000788\0", b"75 5    ", b"+755\0\0\0\0", b"\xff\xff\xff\xff\xff\xff\xff\xff"] {
        assert!(mode(field).is_err(), "{field:?}");
    }
}

#[test]
fn a_length_near_the_largest_number_is_no_length() {
    for length in [u64::MAX, u64::MAX / 2 + 1] {
        let mut field = [0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
        field[4..].copy_from_slice(&length.to_be_bytes());
        check_refused(&[with_bytes(124, &field, Header::new_gnu)], "a size is not a number");
        check_refused(&[pax(&[("size", length.to_string().as_bytes())]), file("a", b"1")], "PAX number");
    }
    let mut field = [0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    field[4..].copy_from_slice(&(u64::MAX / 2).to_be_bytes());
    check_refused(&[with_bytes(124, &field, Header::new_gnu)], "cut off");
}

#[test]
fn the_last_member_may_lack_its_padding() {
    check(&[file("a", b"1"), file("b", b"22")[..514].to_vec()], &[("a", b"1"), ("b", b"22")]);
    check_refused(&[file("b", b"22")[..513].to_vec()], "cut off");
}

#[test]
fn the_pax_size_overrides_that_of_the_header() {
    let hidden = file("hidden", b"2");
    let header = header("a", b'0', 0);
    let parts = [pax(&[("size", b"1024")]), header.as_bytes().to_vec(), hidden.clone(), file("b", b"3")];
    check(&parts, &[("a", &hidden), ("b", b"3")]);
}

#[test]
fn links_and_directories_have_no_data_whatever_their_size_says() {
    for kind in [b'1', b'2', b'3', b'5', b'6'] {
        let stream = [header("x", kind, 512).as_bytes().to_vec(), file("next", b"1")].concat();
        assert_eq!(read(&stream).unwrap()[1].0, "next");
    }
}

#[test]
fn malformed_streams_are_refused() {
    let mut wrong = file("a", b"1");
    wrong[0] ^= 1;
    check_refused(&[wrong], "checksum mismatch");
    check_refused(&[vec![0; 512], file("a", b"1")], "lone block of zeros");
    check_refused(&[file("a", &[1; 600])[..900].to_vec()], "cut off");
    check_refused(&[file("a", b"1")[..300].to_vec()], "cut off");
    check_refused(&[file("a", &[1; 600])[..512].to_vec()], "cut off");
    check_refused(&[pax(&[("size", b"-1")]), file("a", b"1")], "PAX number");
    check_refused(&[pax(&[("path", b"a\0b")]), file("a", b"1")], "NUL");
    for data in ["9 path=a\n9", "99 path=a\n", "x path=a\n", "8 path=a", "6 path\n", "6 =abc\n"] {
        check_refused(&[member(&header("pax", b'x', data.len() as u64), data.as_bytes())], "PAX");
    }
    check_refused(&[header("L", b'L', u64::from(u32::MAX)).as_bytes().to_vec()], "PAX header or long name exceeds");
}

fn sparse_pax(version: (&[u8], &[u8]), more: &[(&str, &[u8])], data: &[u8]) -> Vec<u8> {
    let mut records = vec![("GNU.sparse.major", version.0), ("GNU.sparse.minor", version.1)];
    records.extend_from_slice(more);
    [pax(&records), file("placeholder", data)].concat()
}

#[test]
fn sparse_files_are_read_with_their_holes() {
    let whole: Vec<u8> = [&[0; 5][..], b"abc", &[0; 4], b"de", &[0; 6]].concat();
    let name = ("GNU.sparse.name", &b"real"[..]);
    let size = ("GNU.sparse.size", &b"20"[..]);
    let expect: &[(&str, &[u8])] = &[("real", &whole), ("next", b"1")];
    let map = ("GNU.sparse.map", &b"5,3,12,2"[..]);
    check(&[sparse_pax((b"0", b"1"), &[name, size, map], b"abcde"), file("next", b"1")], expect);
    // Of two contradictory lengths, this one counts.
    let other = ("GNU.sparse.realsize", &b"99"[..]);
    check(&[sparse_pax((b"0", b"1"), &[name, other, size, map], b"abcde"), file("next", b"1")], expect);
    let pairs = [
        ("GNU.sparse.offset", &b"5"[..]),
        ("GNU.sparse.numbytes", b"3"),
        ("GNU.sparse.offset", b"12"),
        ("GNU.sparse.numbytes", b"2"),
    ];
    check(&[sparse_pax((b"0", b"0"), &[&[name, size][..], &pairs].concat(), b"abcde"), file("next", b"1")], expect);
    let mut data = b"2\n5\n3\n12\n2\n".to_vec();
    data.resize(512, 0);
    data.extend_from_slice(b"abcde");
    let real_size = ("GNU.sparse.realsize", &b"20"[..]);
    check(&[sparse_pax((b"1", b"0"), &[name, real_size], &data), file("next", b"1")], expect);
}

#[test]
fn contradictory_sparse_maps_are_refused() {
    for (map, size) in [("5,3,4,2", "20"), ("5,3,19,2", "20"), ("5,3", "20"), ("5", "20"), ("0,5", "2")] {
        let records = [("GNU.sparse.size", size.as_bytes()), ("GNU.sparse.map", map.as_bytes())];
        check_refused(&[sparse_pax((b"0", b"1"), &records, b"abcde")], "malformed sparse file");
    }
    for map in ["18446744073709551615,5", "9223372036854775808,5", "-1,5"] {
        let records = [("GNU.sparse.size", &b"20"[..]), ("GNU.sparse.map", map.as_bytes())];
        check_refused(&[sparse_pax((b"0", b"1"), &records, b"abcde")], "a PAX number is malformed");
    }
    // To Go, a file with an unknown version or without a map is not sparse at all.
    check(&[sparse_pax((b"2", b"0"), &[("GNU.sparse.name", b"x")], b"ab")], &[("placeholder", b"ab")]);
    check(&[pax(&[("GNU.sparse.size", b"9")]), file("plain", b"ab")], &[("plain", b"ab")]);
    check_refused(
        &[sparse_pax((b"0", b"1"), &[("GNU.sparse.size", b"99999999999999"), ("GNU.sparse.map", b"0,5")], b"abcde")],
        "longer than",
    );
    let mut endless = format!("{}\n", i64::MAX).into_bytes();
    endless.extend(b"0\n0\n".repeat(70_000));
    let size = ("GNU.sparse.realsize", &b"0"[..]);
    let error = read(&sparse_pax((b"1", b"0"), &[size], &endless)).unwrap_err();
    assert!(matches!(error, IndexError::Limit(Limit::SparseParts)), "{error}");
}

/// GNU tar is an independent writer; it is part of every system that can run the other tests.
#[test]
fn what_gnu_tar_writes_is_read_back() {
    let directory = tempfile::tempdir().unwrap();
    let long = "n".repeat(200);
    std::fs::write(directory.path().join(&long), b"long").unwrap();
    let holes = std::fs::File::create(directory.path().join("holes")).unwrap();
    std::os::unix::fs::FileExt::write_all_at(&holes, b"middle", 1 << 20).unwrap();
    holes.set_len(3 << 20).unwrap();
    let expect = std::fs::read(directory.path().join("holes")).unwrap();
    for format in [
        &["--format=gnu"][..],
        &["--format=pax", "--sparse-version=0.0"],
        &["--format=pax", "--sparse-version=0.1"],
        &["--format=pax", "--sparse-version=1.0"],
        &["--format=v7"],
    ] {
        let is_v7 = format == ["--format=v7"];
        let names: &[&str] = if is_v7 { &["holes"] } else { &[&long, "holes"] };
        let mut command = std::process::Command::new("tar");
        command.args(format).args((!is_v7).then_some("--sparse")).arg("-cC").arg(directory.path()).args(names);
        let output = command.output().expect("tar is installed");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let members = read(&output.stdout).unwrap();
        let found: Vec<_> = members.iter().map(|(path, _, data, _)| (path.as_str(), data.as_slice())).collect();
        let all: [(&str, &[u8]); 2] = [(&long, b"long"), ("holes", &expect)];
        assert!(found == all[2 - names.len()..], "{format:?}");
        assert!(is_v7 || output.stdout.len() < 1 << 20, "{format:?} was written sparse");
    }
}
