//! Which container a process belongs to, by the name of its cgroup.

use driftline_schemas::ContainerId;

const ID_LENGTH: usize = 64;

/// What the name of a cgroup says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Cgroup {
    /// A container.
    Container(ContainerId),
    /// conmon, which belongs to a container's engine and runs outside of it.
    Monitor,
    /// None that any known runtime makes.
    Other,
}

/// Reads the name of a cgroup: the id alone (containerd, Docker), `<engine>-<id>` (podman, CRI-O), the same with
/// `.scope` (systemd), or `<slice>:<engine>:<id>` (containerd told to use systemd where there is none).
#[must_use]
pub fn cgroup(name: &[u8]) -> Cgroup {
    let name = name.strip_suffix(b".scope").unwrap_or(name);
    let Some((before, id)) = name.split_last_chunk::<ID_LENGTH>() else {
        return Cgroup::Other;
    };
    let is_id = id.iter().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(byte));
    let begins_here = matches!(before.last(), None | Some(b'-' | b':'));
    match std::str::from_utf8(id) {
        Ok(_) if !is_id || !begins_here => Cgroup::Other,
        Ok(_) if before.ends_with(b"conmon-") => Cgroup::Monitor,
        Ok(text) => Cgroup::Container(ContainerId::from(text)),
        Err(_) => Cgroup::Other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

    #[test]
    fn every_known_form_gives_its_container() {
        let check = |form: &str, expect: Cgroup| {
            assert_eq!(cgroup(form.replace("<id>", ID).as_bytes()), expect, "{form}");
        };
        let container = || Cgroup::Container(ContainerId::from(ID));
        check("<id>", container());
        check("libpod-<id>", container());
        check("libpod-<id>.scope", container());
        check("docker-<id>.scope", container());
        check("cri-containerd-<id>.scope", container());
        check("crio-<id>.scope", container());
        check("crio-<id>", container());
        check("nerdctl-<id>.scope", container());
        check("kubepods-besteffort-pod3b2a.slice:cri-containerd:<id>", container());
        check("libpod-conmon-<id>.scope", Cgroup::Monitor);
        check("crio-conmon-<id>.scope", Cgroup::Monitor);
        check("x<id>", Cgroup::Other);
        check("<id>0", Cgroup::Other);
        check("kubepods-besteffort-pod01234567-0123-0123-0123-0123456789ab.slice", Cgroup::Other);
        check("user.slice", Cgroup::Other);
        check("", Cgroup::Other);
        assert_eq!(cgroup(ID.to_uppercase().as_bytes()), Cgroup::Other);
    }
}
