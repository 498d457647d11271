use super::*;

const SALT: u32 = 0x5eed_5a17;

/// Records of several lengths, empty ones among them; `first` is the first sequence number.
fn segment(first: u64, count: usize) -> (Vec<u8>, Vec<usize>) {
    let (mut bytes, mut ends) = (Vec::new(), Vec::new());
    for (sequence, number) in (first..).zip(0..count) {
        let value: Vec<u8> = (0..number * 7).map(|byte| u8::try_from(byte % 251).unwrap()).collect();
        let stamp = Stamp { kind: Kind::Exec, time_ns: i64::try_from(number).unwrap() };
        let frame = Frame { sequence, stamp, key: b"container"[..number % 9].as_ref(), value: &value };
        assert!(frame.append_to(&mut bytes, SALT));
        ends.push(bytes.len());
    }
    (bytes, ends)
}

fn sequences(bytes: &[u8]) -> Vec<u64> {
    Frames::new(bytes, SALT, 0).map(|frame| frame.sequence).collect()
}

#[test]
fn what_was_appended_is_read() {
    let mut bytes = Vec::new();
    let stamp = Stamp { kind: Kind::Loss, time_ns: -5 };
    let frame = Frame { sequence: 9, stamp, key: b"k", value: b"v" };
    assert!(frame.append_to(&mut bytes, SALT));
    assert_eq!(bytes.len(), frame.bytes());
    let mut frames = Frames::new(&bytes, SALT, 8);
    assert_eq!((frames.next(), frames.next(), frames.at()), (Some(frame), None, bytes.len()));
    assert_eq!(Frames::new(&bytes, SALT + 1, 8).next(), None, "written for another segment");
    assert_eq!(Frames::new(&bytes, SALT, 9).next(), None, "numbers rise");
}

#[test]
fn of_a_segment_cut_anywhere_all_whole_frames_are_read() {
    let (bytes, ends) = segment(1, 12);
    for cut in 0..=bytes.len() {
        let whole = ends.iter().filter(|end| **end <= cut).count() as u64;
        assert_eq!(sequences(&bytes[..cut]), (1..=whole).collect::<Vec<_>>(), "cut at {cut}");
    }
}

#[test]
fn a_changed_byte_costs_the_frame_it_is_in_and_no_other() {
    let (bytes, ends) = segment(1, 12);
    for at in 0..bytes.len() {
        for change in [0x01, 0x80, 0xff] {
            let mut damaged = bytes.clone();
            damaged[at] ^= change;
            let hit = ends.iter().position(|end| at < *end).unwrap() as u64 + 1;
            let expected: Vec<u64> = (1..=12).filter(|sequence| *sequence != hit).collect();
            assert_eq!(sequences(&damaged), expected, "byte {at} ^ {change:#x}");
        }
    }
}

#[test]
fn a_hole_costs_the_frames_it_touches_and_no_other() {
    let (bytes, ends) = segment(1, 12);
    let begins: Vec<usize> = std::iter::once(0).chain(ends.iter().copied()).take(12).collect();
    for from in (0..bytes.len()).step_by(3) {
        let to = (from + 90).min(bytes.len());
        let mut damaged = bytes.clone();
        damaged[from..to].fill(0);
        let expected: Vec<u64> =
            (0..12).filter(|n| to <= begins[*n] || ends[*n] <= from).map(|n| n as u64 + 1).collect();
        let read = sequences(&damaged);
        // A hole over bytes that were zero changes nothing.
        assert!(expected.iter().all(|sequence| read.contains(sequence)), "{from}..{to}: {read:?}, not {expected:?}");
        assert!(read.is_sorted());
    }
}

#[test]
fn a_frame_in_the_arguments_of_a_program_is_not_taken_for_one() {
    let mut forged = Vec::new();
    let stamp = Stamp { kind: Kind::Exec, time_ns: 0 };
    // The attacker knows the format, not the salt.
    assert!(Frame { sequence: 2, stamp, key: b"forged", value: b"" }.append_to(&mut forged, 0));
    let mut bytes = Vec::new();
    assert!(Frame { sequence: 1, stamp, key: b"k", value: &forged }.append_to(&mut bytes, SALT));
    assert!(Frame { sequence: 2, stamp, key: b"k", value: b"true" }.append_to(&mut bytes, SALT));
    bytes[5] ^= 1;
    let read: Vec<&[u8]> = Frames::new(&bytes, SALT, 0).map(|frame| frame.value).collect();
    assert_eq!(read, [b"true"]);
}

#[test]
fn what_is_too_long_for_a_record_is_not_written() {
    let mut bytes = Vec::new();
    let stamp = Stamp { kind: Kind::Exec, time_ns: 0 };
    let long = vec![0; RECORD_BYTES_MAX + 1];
    assert!(!Frame { sequence: 1, stamp, key: b"k", value: &long }.append_to(&mut bytes, SALT));
    assert!(bytes.is_empty());
}
