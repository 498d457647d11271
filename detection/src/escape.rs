//! The last step of every finding: each text that others chose becomes printable. Processes choose paths, arguments and
//! names; publishers and users of an engine choose names, labels and mount points; a node chooses whatever it reports.
//!
//! Each record is taken apart field by field, so a new field does not compile until it is decided here.

use driftline_schemas::text::printable;
use driftline_schemas::{AncestorProcess, Container, Descriptor, Finding, Mount, Node, Owner, Pod, Process, Subject};

/// The finding with printable texts only. Ids are hashes or checked when a record is decoded.
pub(crate) fn escaped(finding: Finding) -> Finding {
    let Finding {
        finding_id,
        event_id,
        detector,
        revision,
        state,
        category,
        severity,
        confidence,
        origin,
        unresolved,
        techniques,
        event_time_ns,
        node,
        container,
        process,
        subject,
        note,
        versions,
    } = finding;
    Finding {
        finding_id,
        event_id,
        detector: text(detector),
        revision,
        state,
        category: text(category),
        severity,
        confidence,
        origin,
        unresolved: unresolved.map(text),
        techniques: texts(techniques),
        event_time_ns,
        node: self::node(node),
        container: container.map(self::container),
        process: process.map(self::process),
        subject: subject.map(self::subject),
        note: text(note),
        versions: versions.into_iter().map(|(kind, version)| (text(kind), text(version))).collect(),
    }
}

fn text(text: String) -> String {
    let shown = printable(text.as_bytes());
    if shown.base64.is_none() { text } else { shown.text }
}

fn texts(texts: Vec<String>) -> Vec<String> {
    texts.into_iter().map(text).collect()
}

fn node(node: Node) -> Node {
    let Node { cluster, name, provider_id, zone, project, location } = node;
    Node {
        cluster: text(cluster),
        name: text(name),
        provider_id: text(provider_id),
        zone: text(zone),
        project: text(project),
        location: text(location),
    }
}

fn container(container: Container) -> Container {
    let Container {
        id,
        name,
        runtime,
        image_ref,
        image_id,
        image_id_source,
        pod,
        owner,
        service_account,
        rootfs,
        privileged,
        host_namespaces,
        tty,
        started_ns,
    } = container;
    Container {
        id,
        name: text(name),
        runtime: text(runtime),
        image_ref: text(image_ref),
        image_id,
        image_id_source: text(image_id_source),
        pod: pod.map(|Pod { namespace, name, uid, labels }| Pod {
            namespace: text(namespace),
            name: text(name),
            uid: text(uid),
            labels: labels.into_iter().map(|(key, value)| (text(key), text(value))).collect(),
        }),
        owner: owner.map(|Owner { kind, name }| Owner { kind: text(kind), name: text(name) }),
        service_account: text(service_account),
        rootfs: text(rootfs),
        privileged,
        host_namespaces: texts(host_namespaces),
        tty,
        started_ns,
    }
}

fn process(process: Process) -> Process {
    let Process {
        pid,
        container_pid,
        start_ns,
        executable,
        typed_path,
        args,
        args_base64,
        args_truncated,
        cwd,
        uid,
        gid,
        euid,
        container_root_user,
        tty,
        entered_from_outside,
        chrooted,
        parent_pid,
        parent_name,
        ancestors,
        descriptors,
        session_id,
        container_uid,
        container_gid,
        container_euid,
        capabilities_gained,
        environment,
        environment_truncated,
        path_truncated,
    } = process;
    let ancestor = |AncestorProcess { pid, start_ns, name, path }| AncestorProcess {
        pid,
        start_ns,
        name: text(name),
        path: path.map(text),
    };
    let descriptor = |Descriptor { kind, peer }| Descriptor { kind, peer: peer.map(text) };
    Process {
        pid,
        container_pid,
        start_ns,
        executable: text(executable),
        typed_path: text(typed_path),
        args: texts(args),
        args_base64: args_base64.map(texts),
        args_truncated,
        cwd: text(cwd),
        uid,
        gid,
        euid,
        container_root_user,
        tty: tty.map(text),
        entered_from_outside,
        chrooted,
        parent_pid,
        parent_name: text(parent_name),
        ancestors: ancestors.into_iter().map(ancestor).collect(),
        descriptors: descriptors.into_iter().map(descriptor).collect(),
        session_id,
        container_uid,
        container_gid,
        container_euid,
        capabilities_gained: texts(capabilities_gained),
        environment: texts(environment),
        environment_truncated,
        path_truncated,
    }
}

fn subject(subject: Subject) -> Subject {
    let Subject {
        path,
        path_base64,
        class,
        hash_state,
        sha256,
        size_bytes,
        mode,
        deleted,
        script,
        mount,
        image_path,
        image_sha256,
        mtime_ns,
        ctime_ns,
    } = subject;
    Subject {
        path: text(path),
        path_base64: path_base64.map(text),
        class,
        hash_state,
        sha256,
        size_bytes,
        mode,
        deleted,
        script,
        mount: mount.map(|Mount { point, fs_type, source, read_only }| Mount {
            point: text(point),
            fs_type: text(fs_type),
            source: text(source),
            read_only,
        }),
        image_path: image_path.map(text),
        image_sha256,
        mtime_ns,
        ctime_ns,
    }
}
