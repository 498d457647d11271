//! Tests Docker's `config.json` in the forms that exist.

use super::*;

const CONFIG: &str = r#"{
  "auths": {
    "https://index.docker.io/v1/": {"auth": "aHViOmh1Yi1zZWNyZXQ="},
    "quay.io": {"auth": "cXVheTphOmI="},
    "quay.io/team": {"username": "team", "password": "team-secret"},
    "https://ghcr.io/v2/": {"auth": "eDp5", "identitytoken": "identity"},
    "empty.example": {},
    "broken.example": {"auth": "bm9jb2xvbg=="},
    "registry.example:5000": {"auth": "cDpx"}
  },
  "credHelpers": {"slow.example": "../evil", "absent.example": "driftline-absent"}
}"#;

async fn find(registry: &str, repository: &str) -> Result<Credentials, RegistryError> {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), CONFIG).unwrap();
    let keyring = Keyring::new(Some(file.path().to_owned()));
    keyring.check().unwrap();
    keyring.find(&Host::parse(registry).unwrap(), repository).await
}

fn basic(user: &str, password: &str) -> Credentials {
    Credentials::Basic { user: user.to_owned(), password: password.to_owned() }
}

#[tokio::test]
async fn credentials_are_found_by_host_and_longest_path() {
    for (registry, repository, expect) in [
        ("docker.io", "library/nginx", basic("hub", "hub-secret")),
        ("quay.io", "other/app", basic("quay", "a:b")),
        ("quay.io", "team/deep/app", basic("team", "team-secret")),
        ("quay.io", "team", basic("team", "team-secret")),
        ("quay.io", "teams/app", basic("quay", "a:b")),
        ("ghcr.io", "a/b", Credentials::Identity("identity".to_owned())),
        ("registry.example:5000", "a", basic("p", "q")),
        ("registry.example", "a", Credentials::Anonymous),
        ("empty.example", "a", Credentials::Anonymous),
        ("evil-quay.io", "a", Credentials::Anonymous),
    ] {
        assert_eq!(find(registry, repository).await.unwrap(), expect, "{registry}/{repository}");
        assert!(!format!("{expect:?}").contains("secret"));
    }
}

#[tokio::test]
async fn what_cannot_be_used_is_said_without_secrets() {
    for (registry, expect) in [
        ("broken.example", "not base64 of user:password"),
        ("slow.example", "no name of a credential helper"),
        ("absent.example", "docker-credential-driftline-absent"),
    ] {
        let error = find(registry, "a").await.unwrap_err().to_string();
        assert!(error.contains(expect) && error.contains(registry), "{error}");
    }
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), r#"{"auths": {"quay.io": "c2VjcmV0"}}"#).unwrap();
    let error = Keyring::new(Some(file.path().to_owned())).check().unwrap_err();
    assert!(error.contains("config.json: line 1") && !error.contains("c2VjcmV0"), "{error}");
}

#[tokio::test]
async fn a_helper_is_told_the_server_and_its_answer_understood() {
    use std::os::unix::fs::PermissionsExt as _;
    let directory = tempfile::tempdir().unwrap();
    let ask = async |name: &str, script: &str| {
        let path = directory.path().join(name);
        std::fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
        ask_program(&path.to_string_lossy(), "quay.io").await
    };
    let stored =
        r#"read server; printf '{"ServerURL":"%s","Username":"u-%s-%s","Secret":"s"}' "$server" "$server" "$1""#;
    assert_eq!(ask("stored", stored).await, Ok(basic("u-quay.io-get", "s")));
    let identity = r#"printf '{"Username":"<token>","Secret":"i"}'"#;
    assert_eq!(ask("identity", identity).await, Ok(Credentials::Identity("i".to_owned())));
    let none = "echo credentials not found in native keychain; exit 1";
    assert_eq!(ask("none", none).await, Ok(Credentials::Anonymous));
    assert!(ask("locked", "echo the keychain is locked; exit 1").await.unwrap_err().contains("is locked"));
    assert!(ask("odd", "echo hello").await.unwrap_err().contains("something else than credentials"));
}
