//! The four capabilities with which the collector works, and giving up all others. Called by `main` before any other
//! thread runs, because capabilities belong to threads, and new ones inherit them.

use driftline_collector_bpf::allow_locked_memory;
use rustix::io::Errno;
use rustix::thread::{
    CapabilitySet, CapabilitySets, capabilities, clear_ambient_capability_set, remove_capability_from_bounding_set,
    set_capabilities, set_no_new_privs,
};
use std::io;

/// A capability that is needed.
#[derive(Debug, Clone, Copy)]
pub struct Needed {
    flag: CapabilitySet,
    /// Its name in capabilities(7).
    pub name: &'static str,
    /// What for.
    pub why: &'static str,
}

/// All that are needed.
pub const NEEDED: [Needed; 4] = [
    Needed { flag: CapabilitySet::BPF, name: "CAP_BPF", why: "to load the eBPF program" },
    Needed { flag: CapabilitySet::PERFMON, name: "CAP_PERFMON", why: "to attach it and to let it read kernel memory" },
    Needed {
        flag: CapabilitySet::SYS_PTRACE,
        name: "CAP_SYS_PTRACE",
        why: "to see the executables, roots and mounts of other processes",
    },
    Needed { flag: CapabilitySet::DAC_READ_SEARCH, name: "CAP_DAC_READ_SEARCH", why: "to hash files of other users" },
];

/// Why the collector cannot work with the capabilities it has.
#[derive(Debug, thiserror::Error)]
pub enum RightsError {
    /// Some are not there.
    #[error("missing {}; start the collector as root, or with these capabilities", list(.0))]
    Missing(Vec<Needed>),
    /// The system did not let us give up others.
    #[error("cannot give up capabilities: {0}")]
    Refused(#[from] io::Error),
}

fn list(missing: &[Needed]) -> String {
    missing.iter().map(|needed| format!("{} ({})", needed.name, needed.why)).collect::<Vec<_>>().join(", ")
}

/// Which of the needed capabilities this process does not have.
///
/// # Errors
/// When the system does not report capabilities.
pub fn missing() -> io::Result<Vec<Needed>> {
    let permitted = capabilities(None)?.permitted;
    Ok(NEEDED.into_iter().filter(|needed| !permitted.contains(needed.flag)).collect())
}

/// Fails unless all that are needed are there.
///
/// # Errors
/// With those that are missing.
pub fn require() -> Result<(), RightsError> {
    let missing = missing()?;
    if missing.is_empty() { Ok(()) } else { Err(RightsError::Missing(missing)) }
}

/// Gives up every capability but those, for this process and whatever it starts, for ever. The bounding set can only be
/// cut by who has CAP_SETPCAP; without it nothing is gained from it either, since `no_new_privs` is set.
///
/// # Errors
/// When the system refuses.
pub fn give_up_others() -> Result<(), RightsError> {
    // Needs one that is given up here.
    allow_locked_memory();
    keep_only(needed())
}

/// What strict mode needs beside them.
pub const FOR_STRICT: Needed = Needed {
    flag: CapabilitySet::SYS_ADMIN,
    name: "CAP_SYS_ADMIN",
    why: "for strict mode, to get fanotify's events of files that are opened to be executed",
};

/// Whether this process could run strict mode.
///
/// # Errors
/// When the system does not report capabilities.
pub fn has_for_strict() -> io::Result<bool> {
    Ok(capabilities(None)?.permitted.contains(FOR_STRICT.flag))
}

/// Gives up every capability but those and what strict mode needs, for the thread that calls it.
///
/// # Errors
/// When the system refuses.
pub fn give_up_others_but_for_strict() -> Result<(), RightsError> {
    keep_only(needed() | FOR_STRICT.flag)
}

fn needed() -> CapabilitySet {
    NEEDED.iter().fold(CapabilitySet::empty(), |set, needed| set | needed.flag)
}

fn keep_only(needed: CapabilitySet) -> Result<(), RightsError> {
    set_no_new_privs(true).map_err(io::Error::from)?;
    for other in CapabilitySet::all().difference(needed).iter() {
        match remove_capability_from_bounding_set(other) {
            // Without CAP_SETPCAP; or one that this kernel does not have.
            Ok(()) | Err(Errno::PERM | Errno::INVAL) => {}
            Err(error) => return Err(io::Error::from(error).into()),
        }
    }
    clear_ambient_capability_set().map_err(io::Error::from)?;
    let sets = CapabilitySets { effective: needed, permitted: needed, inheritable: CapabilitySet::empty() };
    set_capabilities(None, sets).map_err(io::Error::from)?;
    Ok(())
}
