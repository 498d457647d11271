//! Requests that a registry redirects to other servers: for layers that it does not hold itself, and for tokens in
//! exchange for a secret that is not a password.

use std::sync::Arc;

use driftline_indexer::{IndexError, Indexed};
use driftline_schemas::ImageFailure;
use serde_json::Value;

use super::server::{Auth, Certificates, Deed, PASSWORD, ReceivedRequest, Registry, Server, USER};
use super::{World, check_same, flip, index, settings, world};
use crate::oci::Layout;
use crate::tools::{or_skip, skip};

const FOREIGN: &str = "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip";

/// A Docker schema 2 manifest of the image whose lowest layer is at other URLs, and that layer's digest.
fn manifest_with_foreign_layer(world: &World, urls: &[String]) -> (Vec<u8>, String) {
    let text = std::fs::read(Layout(world.layout.path()).path(&world.manifest)).unwrap();
    let mut manifest: Value = serde_json::from_slice(&text).unwrap();
    manifest["mediaType"] = "application/vnd.docker.distribution.manifest.v2+json".into();
    manifest["config"]["mediaType"] = "application/vnd.docker.container.image.v1+json".into();
    for layer in manifest["layers"].as_array_mut().unwrap() {
        layer["mediaType"] = "application/vnd.docker.image.rootfs.diff.tar.gzip".into();
    }
    manifest["layers"][0]["mediaType"] = FOREIGN.into();
    manifest["layers"][0]["urls"] = urls.to_vec().into();
    let digest = manifest["layers"][0]["digest"].as_str().unwrap().to_owned();
    (manifest.to_string().into_bytes(), digest)
}

/// Reads that image through a registry that requires a password and does not have its lowest layer, with these hosts on
/// the allow-list.
fn read_foreign(world: &World, guarded: &Registry, urls: &[String], allowed: &[u16]) -> Result<Indexed, IndexError> {
    let (manifest, absent) = manifest_with_foreign_layer(world, urls);
    let front = Server::start(Some(guarded.port), move |received, _| match received.path.as_str() {
        // Served only to a client that has sent the password.
        path if path.ends_with("/manifests/1") && received.header("authorization").is_some() => {
            let head = "HTTP/1.1 200 OK\r\nContent-Type: application/vnd.docker.distribution.manifest.v2+json\r\n";
            Deed::Say(head.to_owned(), manifest.clone())
        }
        path if path.ends_with(&absent) => Deed::Say("HTTP/1.1 404 Not Found\r\n".to_owned(), Vec::new()),
        _ => Deed::Forward,
    });
    let at = |ports: &[u16]| ports.iter().map(|port| format!("127.0.0.1:{port}")).collect::<Vec<_>>().join(",");
    let more = [
        ("DRIFTLINE_REGISTRY_ALLOW", at(&[&[front.port], allowed].concat())),
        ("DRIFTLINE_REGISTRY_PLAIN_HTTP", at(&[&[front.port], allowed].concat())),
        auth_of(world, &[&[front.port], allowed].concat()),
    ];
    let found = index(settings(front.port, &more), &world.config, &format!("127.0.0.1:{}/team/app:1", front.port));
    assert!(
        front.received().iter().any(|received| received.header("authorization").is_some()),
        "the registry got the password"
    );
    found
}

/// The password for all of these hosts: an entry for a host is no reason to send the password there.
fn auth_of(world: &World, ports: &[u16]) -> (&'static str, String) {
    let login = serde_json::json!({"username": USER, "password": PASSWORD});
    let auths: serde_json::Map<_, _> = ports.iter().map(|port| (format!("127.0.0.1:{port}"), login.clone())).collect();
    let file = world.layout.path().join("config.json");
    std::fs::write(&file, serde_json::json!({"auths": auths}).to_string()).unwrap();
    ("DRIFTLINE_REGISTRY_AUTH_FILE", file.to_string_lossy().into_owned())
}

/// Serves the lowest layer, or a modified form of it.
fn elsewhere(world: &World, deed: impl Fn(&ReceivedRequest, Vec<u8>) -> Deed + Send + Sync + 'static) -> Server {
    let (_, digest) = manifest_with_foreign_layer(world, &[]);
    let blob = std::fs::read(Layout(world.layout.path()).path(&digest)).unwrap();
    Server::start(None, move |received, _| deed(received, blob.clone()))
}

fn whole(_: &ReceivedRequest, blob: Vec<u8>) -> Deed {
    Deed::Say("HTTP/1.1 200 OK\r\n".to_owned(), blob)
}

#[test]
fn a_foreign_layer_comes_from_an_allowed_place_without_credentials_and_from_no_other() {
    const NAME: &str = "a_foreign_layer_comes_from_an_allowed_place_without_credentials_and_from_no_other";
    let Some(world) = or_skip(NAME, world()) else { return };
    let Some(guarded) = or_skip(NAME, Registry::start(world.store.path(), &Auth::Password, None)) else { return };
    let url = |server: &Server| format!("http://127.0.0.1:{}/layers/lowest.tar.gz", server.port);

    let allowed = elsewhere(&world, whole);
    // The host that is not allowed is named first, and skipped.
    let denied = elsewhere(&world, whole);
    let urls = [url(&denied), url(&allowed)];
    check_same("foreign", &read_foreign(&world, &guarded, &urls, &[allowed.port]).unwrap(), &world.expect);
    let received = allowed.received();
    assert_eq!(received.iter().map(|received| received.path.as_str()).collect::<Vec<_>>(), ["/layers/lowest.tar.gz"]);
    assert!(received.iter().all(|received| received.header("authorization").is_none()), "{received:?}");

    let refused = read_foreign(&world, &guarded, &[url(&denied)], &[]).unwrap_err();
    assert!(refused.to_string().contains(&format!("127.0.0.1:{}", denied.port)), "{refused}");
    assert_eq!(refused.failure(), ImageFailure::Unsupported);
    assert!(denied.received().is_empty(), "it was not even received");

    // A host that demands authentication gets none.
    let curious = elsewhere(&world, |_, _| {
        Deed::Say("HTTP/1.1 401 Unauthorized\r\nWWW-Authenticate: Basic realm=\"x\"\r\n".to_owned(), Vec::new())
    });
    let denied = read_foreign(&world, &guarded, &[url(&curious)], &[curious.port]).unwrap_err();
    assert_eq!(denied.failure(), ImageFailure::Unavailable, "{denied}");
    assert!(!curious.received().is_empty());
    assert!(curious.received().iter().all(|received| received.header("authorization").is_none()));

    let lying = elsewhere(&world, |received, mut blob| {
        flip(&mut blob);
        whole(received, blob)
    });
    let lie = read_foreign(&world, &guarded, &[url(&lying)], &[lying.port]).unwrap_err();
    assert_eq!(lie.failure(), ImageFailure::Mismatch, "{lie}");
}

#[test]
fn an_identity_token_is_exchanged_for_a_token_of_the_registry() {
    const NAME: &str = "an_identity_token_is_exchanged_for_a_token_of_the_registry";
    const IDENTITY: &str = "refresh+secret/with=odd&characters";
    let Some(world) = or_skip(NAME, world()) else { return };
    let store = world.store.path();
    let certificates = match Certificates::make(store) {
        Ok(certificates) => Arc::new(certificates),
        Err(reason) => return skip(NAME, &reason),
    };
    let issuer = Arc::clone(&certificates);
    // As in RFC 6749: a form, and a token for the right secret only.
    let tokens = Server::start(None, move |received, _| {
        let form: Vec<(String, String)> = form_of(&received.body);
        let has = |name: &str, value: &str| {
            form.iter().any(|(known, given)| (known.as_str(), given.as_str()) == (name, value))
        };
        if has("grant_type", "refresh_token") && has("refresh_token", IDENTITY) {
            let body = serde_json::json!({"access_token": issuer.token("team/app"), "expires_in": 300});
            return Deed::Say("HTTP/1.1 200 OK\r\n".to_owned(), body.to_string().into_bytes());
        }
        Deed::Say("HTTP/1.1 401 Unauthorized\r\n".to_owned(), br#"{"error":"invalid_grant"}"#.to_vec())
    });
    let guarded = Registry::start(store, &Auth::Token(&certificates.server, tokens.port), None).unwrap();
    let front = Server::start(Some(guarded.port), |_, _| Deed::Forward);
    let plain = format!("127.0.0.1:{},127.0.0.1:{}", front.port, tokens.port);
    let read = |secret: &str| {
        // Docker writes the user too, with an empty password.
        let entry = serde_json::json!({"auth": "PHRva2VuPjo=", "identitytoken": secret});
        let text = serde_json::json!({"auths": {format!("127.0.0.1:{}", front.port): entry}}).to_string();
        let file = store.join("identity.json");
        std::fs::write(&file, text).unwrap();
        let more = [
            ("DRIFTLINE_REGISTRY_PLAIN_HTTP", plain.clone()),
            ("DRIFTLINE_REGISTRY_AUTH_FILE", file.to_string_lossy().into_owned()),
        ];
        index(settings(front.port, &more), &world.config, &format!("127.0.0.1:{}/team/app:1", front.port))
    };

    check_same("identity token", &read(IDENTITY).unwrap(), &world.expect);
    let received = tokens.received();
    assert_eq!(received.len(), 1, "one token serves every lane");
    assert_eq!(received[0].header("content-type"), Some("application/x-www-form-urlencoded"));
    assert_eq!((received[0].path.as_str(), received[0].header("authorization")), ("/token", None));
    let form = form_of(&received[0].body);
    for (name, value) in
        [("service", "test-registry"), ("scope", "repository:team/app:pull"), ("client_id", "driftline")]
    {
        assert!(form.contains(&(name.to_owned(), value.to_owned())), "{name} in {form:?}");
    }
    let headers: Vec<_> =
        front.received().iter().filter_map(|received| received.header("authorization").map(str::to_owned)).collect();
    assert!(
        headers.len() >= 4
            && headers.iter().all(|headers| headers.starts_with("Bearer ") && !headers.contains(IDENTITY))
    );

    let refused = read("another").unwrap_err();
    assert!(refused.to_string().contains("no token, status 401"), "{refused}");
    assert!(!refused.to_string().contains("another"));
}

/// Names and values of a form.
fn form_of(body: &[u8]) -> Vec<(String, String)> {
    let text = String::from_utf8(body.to_vec()).unwrap();
    let url = reqwest::Url::parse(&format!("http://form/?{text}")).unwrap();
    url.query_pairs().map(|(name, value)| (name.into_owned(), value.into_owned())).collect()
}
