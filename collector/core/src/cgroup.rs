//! Which container a process belongs to, by the names of its cgroups.

use driftline_schemas::ContainerId;

const ID_LENGTH: usize = 64;

/// What the names of cgroups identify.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Cgroup {
    /// A container, and those it lies in, from it outwards.
    Container(ContainerId, Vec<ContainerId>),
    /// conmon, which belongs to a container's engine and runs outside of it.
    Monitor,
    /// None that any known runtime makes.
    Other,
}

/// Reads the names of cgroups in one another, innermost first, with slashes between. Inside a container anybody may use
/// conmon's name: it proves nothing there.
#[must_use]
pub fn cgroup(names: &[u8]) -> Cgroup {
    let mut read = names.split(|byte| *byte == b'/').map(of_name);
    let mut best = Cgroup::Other;
    for found in read.by_ref() {
        match found {
            Cgroup::Container(id, _) => {
                let outer = read.filter_map(|it| if let Cgroup::Container(id, _) = it { Some(id) } else { None });
                return Cgroup::Container(id, outer.collect());
            }
            Cgroup::Monitor => best = Cgroup::Monitor,
            Cgroup::Other => {}
        }
    }
    best
}

/// Reads the name of a cgroup: the id alone (containerd, Docker), `<engine>-<id>` (podman, CRI-O), the same with
/// `.scope` (systemd), or `<slice>:<engine>:<id>` (containerd that is configured for systemd where there is none).
fn of_name(name: &[u8]) -> Cgroup {
    let name = name.strip_suffix(b".scope").unwrap_or(name);
    let Some((before, id)) = name.split_last_chunk::<ID_LENGTH>() else {
        return Cgroup::Other;
    };
    let is_id = id.iter().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(byte));
    let begins_here = matches!(before.last(), None | Some(b'-' | b':'));
    match std::str::from_utf8(id) {
        Ok(_) if !is_id || !begins_here => Cgroup::Other,
        Ok(_) if before.ends_with(b"conmon-") => Cgroup::Monitor,
        Ok(text) => Cgroup::Container(ContainerId::from(text), Vec::new()),
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
        let container = || Cgroup::Container(ContainerId::from(ID), Vec::new());
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

    #[test]
    fn containers_in_one_another_are_listed_from_the_innermost_outwards() {
        let id = |digit: &str| ContainerId::from(digit.repeat(64).as_str());
        let names = |form: &str| ["1", "2", "3"].iter().fold(form.to_owned(), |s, n| s.replace(n, &n.repeat(64)));
        let check = |form: &str, expect: Cgroup| assert_eq!(cgroup(names(form).as_bytes()), expect, "{form}");
        check("1/docker-2.scope/libpod-3.scope", Cgroup::Container(id("1"), vec![id("2"), id("3")]));
        check("x1/2", Cgroup::Container(id("2"), vec![]));
        check("1/x2/3", Cgroup::Container(id("1"), vec![id("3")]));
        check("libpod-conmon-1.scope/2", Cgroup::Container(id("2"), vec![]));
        check("x1/libpod-conmon-2.scope", Cgroup::Monitor);
    }
}
