//! Where this kernel's overlay stores a file's layers. A guess from names and versions; the self-test verifies it.

use std::path::Path;

/// Type information of the overlay module, where overlay is one and is loaded.
const OVERLAY_BTF: &str = "/sys/kernel/btf/overlay";

/// Where overlay stores how many lower parts a file has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OverlayLayers {
    /// In its inode: since 6.5, and where that was ported back.
    InInode,
    /// In its directory entry.
    InDentry,
}

/// What the loader goes by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OverlayLayout {
    /// Where they are.
    pub layers: OverlayLayers,
    /// How that is known.
    pub known_by: &'static str,
}

impl OverlayLayout {
    /// The name of the field changed with the place, so the name in the type information decides; without one for overlay
    /// the version must do.
    pub(crate) fn of_kernel(kernel_btf: &[u8]) -> Self {
        let module = std::fs::read(Path::new(OVERLAY_BTF)).unwrap_or_default();
        for btf in [kernel_btf, &module] {
            let has = |name: &[u8]| btf.windows(name.len()).any(|window| window == name);
            if has(b"\0__numlower\0") {
                return Self { layers: OverlayLayers::InInode, known_by: "the kernel's type information" };
            }
            if has(b"\0numlower\0") {
                return Self { layers: OverlayLayers::InDentry, known_by: "the kernel's type information" };
            }
        }
        let release = rustix::system::uname().release().to_string_lossy().into_owned();
        let mut numbers = release.split(['.', '-']).map_while(|part| part.parse::<u32>().ok());
        let is_newer = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0)) >= (6, 5);
        let layers = if is_newer { OverlayLayers::InInode } else { OverlayLayers::InDentry };
        Self { layers, known_by: "the kernel's version" }
    }
}
