//! Registry mode against a real registry, and against a server that misbehaves.

mod elsewhere;
mod lazy;
pub(crate) mod server;
mod service;

use std::path::Path;

use driftline_indexer::registry::{Registries, RegistryAccess, RegistryError, RegistrySettings};
use driftline_indexer::{IndexError, Indexed, Wanted, index_layout};
use driftline_schemas::{ImageFailure, ImageId, Sha256};
use driftline_service::telemetry::Telemetry;
use driftline_settings::Settings;
use tempfile::TempDir;

use crate::oci::{Layout, Stored, directory, file, layer, stored};
use crate::tools::{LANES, or_skip, wanted};
use server::{Auth, Certificates, Deed, PASSWORD, ReceivedRequest, Registry, Server, USER};

/// An image in an open registry, and the manifests that its layout gives.
struct World {
    store: TempDir,
    layout: TempDir,
    registry: Registry,
    manifest: String,
    config: String,
    expect: Indexed,
}

/// Bytes that no compression makes smaller.
fn noise(length: usize) -> Vec<u8> {
    let mut noise = Vec::with_capacity(length);
    let mut last = Sha256::of(b"noise");
    while noise.len() < length {
        last = Sha256::of(&last.0);
        noise.extend_from_slice(&last.0);
    }
    noise
}

fn write_layout(path: &Path) -> (String, String) {
    let layout = Layout(path);
    let lower = layer(&[directory("usr"), file("usr/noise", &noise(2_000_000))]);
    let upper = layer(&[file("usr/upper", b"upper"), file("etc/config", b"config")]);
    let (manifest, config) = layout.image(&[(lower, Stored::Gzip), (upper, Stored::Gzip)]);
    layout.index(&[(&manifest, "app")]);
    (manifest, config)
}

fn world() -> Result<World, String> {
    let (store, layout) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (manifest, config) = write_layout(layout.path());
    let registry = Registry::start(store.path(), &Auth::Nobody, None)?;
    registry.fill(layout.path(), "app", "team/app:1", &[])?;
    let expect = index_layout(layout.path(), &wanted(None), LANES).unwrap();
    Ok(World { store, layout, registry, manifest, config, expect })
}

/// Settings for a registry at a port of loopback, without TLS unless other settings change that.
pub(crate) fn settings(port: u16, more: &[(&str, String)]) -> RegistrySettings {
    let host = format!("127.0.0.1:{port}");
    let values = [
        ("KAFKA_BOOTSTRAP", "127.0.0.1:1".to_owned()),
        ("DRIFTLINE_REGISTRY_ALLOW", host.clone()),
        ("DRIFTLINE_REGISTRY_PLAIN_HTTP", host),
        ("DRIFTLINE_REGISTRY_IDLE_S", "1".to_owned()),
    ];
    let mut source = Settings::of_values(values.into_iter().chain(more.iter().cloned()));
    let read = RegistrySettings::read(&mut source);
    source.finish().unwrap();
    read
}

pub(crate) fn index(settings: RegistrySettings, image_id: &str, reference: &str) -> Result<Indexed, IndexError> {
    read(settings.access, &Wanted::id(&ImageId::from(image_id)), reference)
}

fn read(access: RegistryAccess, wanted: &Wanted, reference: &str) -> Result<Indexed, IndexError> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let registries = Registries::new(access, &Telemetry::new("indexer")).unwrap();
    registries.index(wanted, reference, runtime.handle())
}

fn check_same(what: &str, found: &Indexed, expect: &Indexed) {
    assert_eq!(found.image.diff_ids, expect.image.diff_ids, "{what}");
    assert_eq!(found.layers, expect.layers, "{what}");
}

/// `config.json` with the password for a registry.
fn auth_file(path: &Path, port: u16) -> (&'static str, String) {
    use base64::Engine as _;
    let auth = base64::engine::general_purpose::STANDARD.encode(format!("{USER}:{PASSWORD}"));
    let text = serde_json::json!({"auths": {format!("127.0.0.1:{port}"): {"auth": auth}}}).to_string();
    let file = path.join(format!("config-{port}.json"));
    std::fs::write(&file, text).unwrap();
    ("DRIFTLINE_REGISTRY_AUTH_FILE", file.to_string_lossy().into_owned())
}

#[test]
fn an_image_is_read_by_tag_and_digest_in_every_form() {
    const NAME: &str = "an_image_is_read_by_tag_and_digest_in_every_form";
    let Some(world) = or_skip(NAME, world()) else { return };
    let port = world.registry.port;
    let layout = world.layout.path();
    let at = |rest: &str| format!("127.0.0.1:{port}/team/app{rest}");
    for (image_id, reference) in [
        (&world.config, at(":1")),
        (&world.config, at(&format!("@{}", world.manifest))),
        (&world.manifest, at(":1")),
        // The tag is gone or names another image; a manifest's digest still leads to the image.
        (&world.manifest, at(":gone")),
    ] {
        let found = index(settings(port, &[]), image_id, &reference).unwrap();
        check_same(&reference, &found, &world.expect);
        assert_eq!(found.image.image_id.as_str(), image_id);
    }
    // A user who names an image need not know its digest, nor repeat its registry in the allow-list.
    let plain = format!("127.0.0.1:{port}");
    let mut named = Settings::of_values([("DRIFTLINE_REGISTRY_PLAIN_HTTP", plain)]);
    let access = RegistryAccess::for_reference(&mut named, &at(":1")).unwrap();
    named.finish().unwrap();
    let found = read(access, &Wanted::default(), &at(":1")).unwrap();
    check_same("by name", &found, &world.expect);
    assert_eq!(found.image.image_id.as_str(), world.config);
    world.registry.fill(layout, "app", "team/docker:1", &["--format", "v2s2"]).unwrap();
    let reference = format!("127.0.0.1:{port}/team/docker:1");
    let error = index(settings(port, &[]), &world.config, &reference);
    // skopeo writes another config for Docker's format, so the digest that leads to it is the manifest's.
    let image_id = match error {
        Err(IndexError::NotFound { found, .. }) => found[0].clone(),
        Ok(_) => world.config.clone(),
        Err(error) => panic!("{error}"),
    };
    check_same("v2s2", &index(settings(port, &[]), &image_id, &reference).unwrap(), &world.expect);

    let other = index(settings(port, &[]), &Sha256::of(b"other").to_digest(), &at(":1")).unwrap_err();
    assert!(matches!(other, IndexError::NotFound { .. }), "{other}");
    let gone = index(settings(port, &[]), &world.config, &at(":gone")).unwrap_err();
    assert!(matches!(&gone, IndexError::Registry(RegistryError::Missing(what)) if what.ends_with(":gone")), "{gone}");
    let denied = index(settings(port, &[]), &world.config, "quay.io/team/app:1").unwrap_err();
    assert!(denied.to_string().contains("quay.io is not on the allow-list"), "{denied}");
}

/// An image for each of three platforms, each compressed differently, and their index. Returns architecture, manifest
/// and config of each, and the index.
fn write_platforms(path: &Path) -> (Vec<(&'static str, String, String)>, String) {
    let own = Layout(path);
    let tar = layer(&[file("a", b"first"), file("stargz.index.json", b"{}")]);
    // Like eStargz: every file is a gzip member of its own, with the list of contents as a file at the end.
    let (first, rest) = tar.split_at(1_024);
    let members = [stored(first, Stored::Gzip), stored(rest, Stored::Gzip)].concat();
    // Like zstd:chunked: a skippable frame with the list of contents after the content.
    let mut chunked = stored(&tar, Stored::Zstd);
    chunked.extend([&[0x50, 0x2a, 0x4d, 0x18, 4, 0, 0, 0][..], b"list"].concat());
    let mut manifests = Vec::new();
    for (architecture, blob, suffix) in
        [("amd64", members, "+gzip"), ("arm64", chunked, "+zstd"), ("s390x", tar.clone(), "")]
    {
        let config = own.json(&serde_json::json!({
            "architecture": architecture, "os": "linux",
            "rootfs": {"type": "layers", "diff_ids": [Sha256::of(&tar).to_digest()]},
        }));
        let size = std::fs::metadata(own.path(&config)).unwrap().len();
        let manifest = own.json(&serde_json::json!({
            "schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "config": {"mediaType": "application/vnd.oci.image.config.v1+json", "digest": config, "size": size},
            "layers": [{"mediaType": format!("application/vnd.oci.image.layer.v1.tar{suffix}"),
                        "digest": own.blob(&blob), "size": blob.len()}],
        }));
        manifests.push((architecture, manifest, config));
    }
    let named: Vec<_> = manifests
        .iter()
        .map(|(architecture, manifest, _)| {
            serde_json::json!({
                "mediaType": "application/vnd.oci.image.manifest.v1+json", "digest": manifest,
                "size": std::fs::metadata(own.path(manifest)).unwrap().len(),
                "platform": {"os": "linux", "architecture": architecture},
            })
        })
        .collect();
    let index_digest = own.json(&serde_json::json!({
        "schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json", "manifests": named,
    }));
    let size = std::fs::metadata(own.path(&index_digest)).unwrap().len();
    let top = serde_json::json!({"schemaVersion": 2, "manifests": [{
        "mediaType": "application/vnd.oci.image.index.v1+json", "digest": index_digest, "size": size,
        "annotations": {"org.opencontainers.image.ref.name": "multi"},
    }]});
    std::fs::write(path.join("index.json"), top.to_string()).unwrap();
    std::fs::write(path.join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#).unwrap();
    (manifests, index_digest)
}

#[test]
fn compressions_and_platforms_are_told_apart() {
    const NAME: &str = "compressions_and_platforms_are_told_apart";
    let layout = tempfile::tempdir().unwrap();
    let (manifests, index_digest) = write_platforms(layout.path());
    let store = tempfile::tempdir().unwrap();
    let filled = Registry::start(store.path(), &Auth::Nobody, None).and_then(|registry| {
        registry.fill(layout.path(), "multi", "multi:1", &["--all", "--preserve-digests"]).map(|()| registry)
    });
    let Some(registry) = or_skip(NAME, filled) else { return };
    let reference = format!("127.0.0.1:{}/multi:1", registry.port);
    for (architecture, manifest, config) in &manifests {
        for image_id in [config, manifest] {
            let found = index(settings(registry.port, &[]), image_id, &reference).unwrap();
            assert_eq!(&found.image.platform.architecture, architecture);
            let paths: Vec<_> = found.layers[0].manifest.entries().iter().map(|entry| entry.path.clone()).collect();
            assert_eq!(paths.len(), 2, "the list of contents of eStargz is a file as any other");
        }
    }
    let own = driftline_indexer::own_platform().architecture;
    if let Some((_, manifest, config)) = manifests.iter().find(|(architecture, ..)| *architecture == own) {
        let server = Server::start(Some(registry.port), |_, _| Deed::Forward);
        index(settings(server.port, &[]), config, &format!("127.0.0.1:{}/multi:1", server.port)).unwrap();
        let read: Vec<_> = server.received().into_iter().map(|received| received.path).collect();
        assert_eq!(read.len(), 4, "an index, a manifest, its config and layer: {read:?}");
        assert!(read[1].ends_with(manifest));
    }
    let found = index(settings(registry.port, &[]), &index_digest, &reference).unwrap();
    assert_eq!(found.image.platform.architecture, driftline_indexer::own_platform().architecture);
}

#[test]
fn passwords_tokens_and_private_authorities_are_used_and_never_guessed() {
    const NAME: &str = "passwords_tokens_and_private_authorities_are_used_and_never_guessed";
    let Some(world) = or_skip(NAME, world()) else { return };
    let store = world.store.path();
    let Some(certificates) = or_skip(NAME, Certificates::make(store)) else { return };
    let at = |port: u16| format!("127.0.0.1:{port}/team/app:1");
    let tls = Some((certificates.server.as_path(), certificates.key.as_path()));
    let Some(secured) = or_skip(NAME, Registry::start(store, &Auth::Password, tls)) else { return };
    let authority = ("DRIFTLINE_REGISTRY_CA_FILE", certificates.authority.to_string_lossy().into_owned());
    let encrypted = ("DRIFTLINE_REGISTRY_PLAIN_HTTP", String::new());
    let auth = auth_file(store, secured.port);
    let all = [authority.clone(), encrypted.clone(), auth.clone()];
    check_same(
        "TLS and password",
        &index(settings(secured.port, &all), &world.config, &at(secured.port)).unwrap(),
        &world.expect,
    );
    let anonymous = index(settings(secured.port, &[authority, encrypted.clone()]), &world.config, &at(secured.port));
    assert!(anonymous.unwrap_err().to_string().contains("DRIFTLINE_REGISTRY_AUTH_FILE"));
    let distrusted = index(settings(secured.port, &[encrypted, auth]), &world.config, &at(secured.port)).unwrap_err();
    assert!(distrusted.to_string().contains("UnknownIssuer"), "{distrusted}");
    assert_eq!(distrusted.failure(), ImageFailure::Unavailable);

    let picky = Registry::start_with(store, &Auth::Nobody, tls, Some(&certificates.authority)).unwrap();
    let pair = store.join("client.pem");
    let texts = [&certificates.server, &certificates.key].map(|path| std::fs::read(path).unwrap());
    std::fs::write(&pair, texts.concat()).unwrap();
    let common = [
        ("DRIFTLINE_REGISTRY_CA_FILE", certificates.authority.to_string_lossy().into_owned()),
        ("DRIFTLINE_REGISTRY_PLAIN_HTTP", String::new()),
    ];
    let certificate = format!("127.0.0.1:{}={}", picky.port, pair.display());
    let shown = [&common[..], &[("DRIFTLINE_REGISTRY_CLIENT_CERTS", certificate)]].concat();
    let found = index(settings(picky.port, &shown), &world.config, &at(picky.port)).unwrap();
    check_same("client certificate", &found, &world.expect);
    assert!(index(settings(picky.port, &common), &world.config, &at(picky.port)).is_err());

    let token = certificates.token("team/app");
    let tokens = Server::start(None, move |_, _| {
        let body = serde_json::json!({"access_token": token}).to_string();
        Deed::Say("HTTP/1.1 200 OK\r\n".to_owned(), body.into_bytes())
    });
    let guarded = Registry::start(store, &Auth::Token(&certificates.server, tokens.port), None).unwrap();
    let both = format!("127.0.0.1:{},127.0.0.1:{}", guarded.port, tokens.port);
    let plain = ("DRIFTLINE_REGISTRY_PLAIN_HTTP", both);
    let auth = auth_file(store, guarded.port);
    let found =
        index(settings(guarded.port, &[plain.clone(), auth.clone()]), &world.config, &at(guarded.port)).unwrap();
    check_same("token", &found, &world.expect);
    let received = tokens.received();
    assert_eq!(received.len(), 1, "one token serves every lane");
    assert_eq!(received[0].path, "/token?service=test-registry&scope=repository%3Ateam%2Fapp%3Apull");
    assert!(received[0].header("authorization").unwrap().starts_with("Basic "));
}

/// A fault, with the failure kind that it causes and words of the reason; `None` where the image is read all the same.
type Fault = (&'static str, fn(&ReceivedRequest, usize) -> Deed, Option<(ImageFailure, &'static str)>);

fn is_blob(received: &ReceivedRequest) -> bool {
    received.path.contains("/blobs/")
}

const FAULTS: [Fault; 13] = [
    ("none", |_, _| Deed::Forward, None),
    ("a flipped byte", |_, _| Deed::Change(flip), Some((ImageFailure::Mismatch, "its name says"))),
    ("a truncated blob", |_, _| Deed::Change(halve), Some((ImageFailure::Mismatch, "its manifest says"))),
    ("received to wait a second", |_, number| if number == 0 { busy(429, "1") } else { Deed::Forward }, None),
    ("received to wait for long", |_, _| busy(429, "600"), Some((ImageFailure::Unavailable, "come back in 600 s"))),
    ("unavailable twice", |_, number| if number < 2 { busy(503, "0") } else { Deed::Forward }, None),
    ("cut once", |_, number| if number == 0 { Deed::Cut(60_000) } else { Deed::Forward }, None),
    ("cut always", |_, _| Deed::Cut(0), Some((ImageFailure::Unavailable, "cannot be read"))),
    ("an endless body", |_, _| Deed::Endless, Some((ImageFailure::Mismatch, "its manifest says"))),
    ("a body that stops", |_, number| if number == 0 { Deed::Stall } else { Deed::Forward }, None),
    (
        "a redirect to link-local",
        |_, _| redirect("https://169.254.169.254/latest/meta-data"),
        Some((ImageFailure::Unavailable, "link-local")),
    ),
    (
        "a redirect to an internal address",
        |_, _| redirect("https://10.0.0.1/"),
        Some((ImageFailure::Unavailable, "an internal address")),
    ),
    ("redirects without end", |received, _| redirect(&received.path), Some((ImageFailure::Unavailable, "too often"))),
];

#[expect(clippy::ptr_arg, reason = "one signature for all changes")]
fn flip(body: &mut Vec<u8>) {
    let middle = body.len() / 2;
    if let Some(byte) = body.get_mut(middle) {
        *byte ^= 1;
    }
}

fn halve(body: &mut Vec<u8>) {
    body.truncate(body.len() / 2);
}

fn busy(status: u16, retry_after: &str) -> Deed {
    Deed::Say(format!("HTTP/1.1 {status} Busy\r\nRetry-After: {retry_after}\r\n"), Vec::new())
}

fn redirect(to: &str) -> Deed {
    Deed::Say(format!("HTTP/1.1 307 Temporary Redirect\r\nLocation: {to}\r\n"), Vec::new())
}

#[test]
fn faults_of_a_blob_are_outlived_or_named() {
    const NAME: &str = "faults_of_a_blob_are_outlived_or_named";
    let Some(world) = or_skip(NAME, world()) else { return };
    // The layer of noise: the longest blob.
    let blobs = world.layout.path().join("blobs/sha256");
    let longest =
        std::fs::read_dir(blobs).unwrap().map(Result::unwrap).max_by_key(|blob| blob.metadata().unwrap().len());
    let longest = longest.unwrap().file_name().into_string().unwrap();
    for (what, decide, expect) in FAULTS {
        let victim = longest.clone();
        let server = Server::start(Some(world.registry.port), move |received, number| {
            if is_blob(received) && received.path.ends_with(&victim) { decide(received, number) } else { Deed::Forward }
        });
        let reference = format!("127.0.0.1:{}/team/app:1", server.port);
        let found = index(settings(server.port, &[]), &world.config, &reference);
        match (found, expect) {
            (Ok(found), None) => check_same(what, &found, &world.expect),
            (Err(error), Some((failure, words))) => {
                assert!(error.failure() == failure && error.to_string().contains(words), "{what}: {error}");
            }
            (found, _) => panic!("{what}: {:?}", found.map(|found| found.image)),
        }
        if what == "cut once" {
            let ranges: Vec<_> =
                server.received().iter().filter_map(|received| received.header("range").map(str::to_owned)).collect();
            assert_eq!(ranges, ["bytes=60000-"], "it goes on where it was");
        }
    }
}

#[test]
fn authorization_stays_with_its_host() {
    const NAME: &str = "authorization_stays_with_its_host";
    let Some(world) = or_skip(NAME, world()) else { return };
    let Some(guarded) = or_skip(NAME, Registry::start(world.store.path(), &Auth::Password, None)) else { return };
    let cache = std::sync::Arc::new(Server::start(Some(world.registry.port), |_, _| Deed::Forward));
    let to = cache.port;
    let front = Server::start(Some(guarded.port), move |received, _| {
        if is_blob(received) && received.header("authorization").is_some() {
            redirect(&format!("http://127.0.0.1:{to}{}", received.path))
        } else {
            Deed::Forward
        }
    });
    let both = format!("127.0.0.1:{},127.0.0.1:{to}", front.port);
    let more = [("DRIFTLINE_REGISTRY_PLAIN_HTTP", both), auth_file(world.store.path(), front.port)];
    let reference = format!("127.0.0.1:{}/team/app:1", front.port);
    check_same("redirected", &index(settings(front.port, &more), &world.config, &reference).unwrap(), &world.expect);
    assert!(front.received().iter().any(|received| received.header("authorization").is_some()));
    let elsewhere = cache.received();
    assert!(elsewhere.len() >= 3, "config and layers come from there");
    assert!(elsewhere.iter().all(|received| received.header("authorization").is_none()));
}

#[test]
fn manifests_that_lie_or_cannot_be_verified_are_refused() {
    const NAME: &str = "manifests_that_lie_or_cannot_be_verified_are_refused";
    let Some(world) = or_skip(NAME, world()) else { return };
    let text = std::fs::read_to_string(Layout(world.layout.path()).path(&world.manifest)).unwrap();
    let manifest: serde_json::Value = serde_json::from_str(&text).unwrap();
    let changed = |change: fn(&mut serde_json::Value)| {
        let mut manifest = manifest.clone();
        change(&mut manifest);
        manifest.to_string().into_bytes()
    };
    let absent = Sha256::of(b"absent").to_digest();
    let mut foreign = manifest.clone();
    foreign["layers"][0]["digest"] = absent.into();
    foreign["layers"][0]["urls"] = serde_json::json!(["https://elsewhere.example/layer"]);
    let cases: [(&str, Vec<u8>, ImageFailure, &str); 5] = [
        (
            "schema 1",
            br#"{"schemaVersion": 1, "fsLayers": []}"#.to_vec(),
            ImageFailure::Unsupported,
            "a schema 1 manifest",
        ),
        ("foreign", foreign.to_string().into_bytes(), ImageFailure::Unsupported, "elsewhere.example"),
        (
            "size of a layer",
            changed(|manifest| manifest["layers"][1]["size"] = 1.into()),
            ImageFailure::Mismatch,
            "its manifest says 1",
        ),
        (
            "size of the config",
            changed(|manifest| manifest["config"]["size"] = 1.into()),
            ImageFailure::Mismatch,
            "its manifest says 1",
        ),
        ("no JSON", b"<html>".to_vec(), ImageFailure::Unsupported, "expected value"),
    ];
    for (what, body, failure, words) in cases {
        let server = Server::start(Some(world.registry.port), move |received, _| {
            if received.path.ends_with("/manifests/1") {
                Deed::Say("HTTP/1.1 200 OK\r\nDocker-Content-Digest: sha256:0\r\n".to_owned(), body.clone())
            } else {
                Deed::Forward
            }
        });
        let reference = format!("127.0.0.1:{}/team/app:1", server.port);
        let error = index(settings(server.port, &[]), &world.config, &reference).unwrap_err();
        assert!(error.failure() == failure && error.to_string().contains(words), "{what}: {error}");
    }
    let server = Server::start(Some(world.registry.port), |received, _| {
        if is_blob(received) { Deed::Forward } else { Deed::Change(|body| body.push(b' ')) }
    });
    let reference = format!("127.0.0.1:{}/team/app@{}", server.port, world.manifest);
    let error = index(settings(server.port, &[]), &world.config, &reference).unwrap_err();
    assert!(matches!(error, IndexError::Digest { .. }), "{error}");

    let lying = tempfile::tempdir().unwrap();
    let layout = Layout(lying.path());
    let diff_id = Sha256::of(b"another layer").to_digest();
    let (manifest, config) = layout.image_with(&[(layer(&[file("a", b"a")]), Stored::Gzip)], &[diff_id]);
    layout.index(&[(&manifest, "lies")]);
    world.registry.fill(lying.path(), "lies", "lies:1", &[]).unwrap();
    let reference = format!("127.0.0.1:{}/lies:1", world.registry.port);
    let error = index(settings(world.registry.port, &[]), &config, &reference).unwrap_err();
    assert!(matches!(error, IndexError::DiffId { .. }) && error.failure() == ImageFailure::Mismatch, "{error}");
}

#[test]
fn mirrors_come_first_and_the_registry_is_asked_when_they_fail() {
    const NAME: &str = "mirrors_come_first_and_the_registry_is_asked_when_they_fail";
    let Some(world) = or_skip(NAME, world()) else { return };
    let missing = Server::start(None, |_, _| Deed::Say("HTTP/1.1 404 Not Found\r\n".to_owned(), Vec::new()));
    let registry = Server::start(Some(world.registry.port), |_, _| Deed::Forward);
    let at = |port: u16| format!("127.0.0.1:{port}");
    let more = |mirrors: &[u16]| {
        let named: Vec<String> = mirrors.iter().map(|port| format!("{}={}", at(registry.port), at(*port))).collect();
        let plain: Vec<String> = mirrors.iter().chain([&registry.port]).map(|port| at(*port)).collect();
        [("DRIFTLINE_REGISTRY_MIRRORS", named.join(",")), ("DRIFTLINE_REGISTRY_PLAIN_HTTP", plain.join(","))]
    };
    let reference = format!("{}/team/app:1", at(registry.port));
    let both = settings(registry.port, &more(&[missing.port, world.registry.port]));
    check_same("mirror", &index(both, &world.config, &reference).unwrap(), &world.expect);
    assert!(!missing.received().is_empty() && registry.received().is_empty());
    let one = settings(registry.port, &more(&[missing.port]));
    check_same("registry", &index(one, &world.config, &reference).unwrap(), &world.expect);
    assert!(!registry.received().is_empty());
}

#[test]
fn a_proxy_is_used_unless_a_host_is_excepted() {
    const NAME: &str = "a_proxy_is_used_unless_a_host_is_excepted";
    let Some(world) = or_skip(NAME, world()) else { return };
    let port = world.registry.port;
    let proxy = Server::start(Some(port), |_, _| Deed::Forward);
    let url = ("DRIFTLINE_REGISTRY_PROXY", format!("http://127.0.0.1:{}", proxy.port));
    let reference = format!("127.0.0.1:{port}/team/app:1");
    let direct = settings(port, &[url.clone(), ("DRIFTLINE_REGISTRY_NO_PROXY", "127.0.0.1".to_owned())]);
    check_same("direct", &index(direct, &world.config, &reference).unwrap(), &world.expect);
    assert!(proxy.received().is_empty());
    check_same("proxy", &index(settings(port, &[url]), &world.config, &reference).unwrap(), &world.expect);
    assert_eq!(proxy.received()[0].path, format!("http://127.0.0.1:{port}/v2/team/app/manifests/1"));
}

#[test]
fn every_wrong_setting_is_named_at_once_and_the_allow_list_is_required() {
    let mut source = Settings::of_values([
        ("KAFKA_BOOTSTRAP", "127.0.0.1:1"),
        ("DRIFTLINE_REGISTRY_PLAIN_HTTP", "http://x"),
        ("DRIFTLINE_REGISTRY_MIRRORS", "docker.io"),
        ("DRIFTLINE_REGISTRY_AUTH_FILE", "/nowhere/config.json"),
        ("DRIFTLINE_REGISTRY_CA_FILE", "/nowhere/ca.pem"),
        ("DRIFTLINE_REGISTRY_CLIENT_CERTS", "quay.io=/nowhere/client.pem"),
        ("DRIFTLINE_REGISTRY_PROXY", "user:secret@proxy"),
        ("DRIFTLINE_REGISTRY_SHARE", "3/2"),
    ]);
    let _ = RegistrySettings::read(&mut source);
    let message = source.finish().unwrap_err().to_string();
    let names = ["ALLOW", "PLAIN_HTTP", "MIRRORS", "AUTH_FILE", "CA_FILE", "CLIENT_CERTS", "PROXY", "SHARE"];
    assert!(names.iter().all(|name| message.contains(&format!("DRIFTLINE_REGISTRY_{name}: "))), "{message}");
    assert!(message.starts_with("8 of the settings") && !message.contains("secret"), "{message}");
}
