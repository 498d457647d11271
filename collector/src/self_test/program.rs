//! The smallest program there is: it ends at once. Written by hand, because the self-test must not depend on what is
//! installed, and because copies of it go into memory.

/// Offset of the code: behind the ELF header and one program header.
const CODE_AT: u64 = 64 + 56;
/// Where it is loaded: a multiple of every page size.
const LOADED_AT: u64 = 0x40_0000;
const ALIGNMENT: u64 = 0x1_0000;

/// `exit(0)`.
#[cfg(target_arch = "x86_64")]
const CODE: &[u8] = &[0xb8, 60, 0, 0, 0, 0x31, 0xff, 0x0f, 0x05];
#[cfg(target_arch = "x86_64")]
const MACHINE: u16 = 62;

/// `exit(0)`.
#[cfg(target_arch = "aarch64")]
const CODE: &[u8] = &[0xa8, 0x0b, 0x80, 0xd2, 0, 0, 0x80, 0xd2, 0x01, 0, 0, 0xd4];
#[cfg(target_arch = "aarch64")]
const MACHINE: u16 = 183;

/// The program as an ELF file.
pub(super) fn image() -> Vec<u8> {
    let length = CODE_AT + u64::try_from(CODE.len()).unwrap_or(0);
    let mut elf = vec![0x7f, b'E', b'L', b'F', 2, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    let mut half = |values: &[u16]| elf.extend(values.iter().flat_map(|value| value.to_le_bytes()));
    // An executable.
    half(&[2, MACHINE]);
    let word = |elf: &mut Vec<u8>, values: &[u32]| elf.extend(values.iter().flat_map(|value| value.to_le_bytes()));
    let long = |elf: &mut Vec<u8>, values: &[u64]| elf.extend(values.iter().flat_map(|value| value.to_le_bytes()));
    word(&mut elf, &[1]);
    // Entry, program headers, no sections.
    long(&mut elf, &[LOADED_AT + CODE_AT, 64, 0]);
    word(&mut elf, &[0]);
    // Sizes and numbers of headers.
    elf.extend([64_u16, 56, 1, 64, 0, 0].iter().flat_map(|value| value.to_le_bytes()));
    // The one segment, readable and executable: all of the file.
    word(&mut elf, &[1, 5]);
    long(&mut elf, &[0, LOADED_AT, LOADED_AT, length, length, ALIGNMENT]);
    elf.extend_from_slice(CODE);
    elf
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    #[test]
    fn it_runs_and_ends_well() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("program");
        std::fs::write(&path, image()).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
        assert!(std::process::Command::new("sh").arg("-c").arg(&path).status().unwrap().success());
    }
}
