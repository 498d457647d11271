//! Tests which hosts are contacted, as tables.

use std::sync::Arc;

use super::*;

fn hosts(allowed: &[&str], plain: &[&str]) -> Hosts {
    let allowed = allowed.iter().map(|text| Pattern::parse(text).unwrap()).collect();
    Hosts::new(allowed, plain.iter().map(|text| Host::parse(text).unwrap()).collect(), [])
}

#[test]
fn the_allow_list_has_hosts_domains_and_ports() {
    let hosts = hosts(&["docker.io", "*.corp.example", "10.0.0.1:5000", "Quay.IO"], &[]);
    for (host, expect) in [
        ("docker.io", true),
        ("quay.io", true),
        ("quay.io:8443", true),
        ("evil-quay.io", false),
        ("quay.io.evil.example", false),
        ("a.corp.example", true),
        ("a.b.corp.example:5000", true),
        ("corp.example", false),
        ("evilcorp.example", false),
        ("10.0.0.1:5000", true),
        ("10.0.0.1", false),
        ("10.0.0.1:5001", false),
    ] {
        assert_eq!(hosts.allows(&Host::parse(host).unwrap()), expect, "{host}");
    }
    for text in ["", "*", "*.", "a*.example", "https://quay.io", "quay.io/team"] {
        assert_eq!(Pattern::parse(text), None, "{text}");
    }
}

#[test]
fn addresses_are_public_internal_or_never_asked() {
    for (address, expect) in [
        ("8.8.8.8", Reach::Public),
        ("172.32.0.1", Reach::Public),
        ("127.0.0.1", Reach::Internal),
        ("10.1.2.3", Reach::Internal),
        ("172.16.0.1", Reach::Internal),
        ("192.168.1.1", Reach::Internal),
        ("100.100.100.200", Reach::Internal),
        ("169.254.169.254", Reach::Never),
        ("0.0.0.0", Reach::Never),
        ("224.0.0.1", Reach::Never),
        ("255.255.255.255", Reach::Never),
        ("2606:4700::1111", Reach::Public),
        ("::1", Reach::Internal),
        ("fd12::1", Reach::Internal),
        ("::", Reach::Never),
        ("fe80::1", Reach::Never),
        ("febf::1", Reach::Never),
        ("ff02::1", Reach::Never),
        ("fd00:ec2::254", Reach::Never),
        ("::ffff:169.254.169.254", Reach::Never),
        ("::ffff:127.0.0.1", Reach::Internal),
        ("::169.254.169.254", Reach::Never),
        ("64:ff9b::169.254.169.254", Reach::Never),
        ("2002:a9fe:a9fe::1", Reach::Never),
    ] {
        assert_eq!(reach(address.parse().unwrap()), expect, "{address}");
    }
}

#[test]
fn urls_are_checked_before_they_are_asked() {
    let hosts = hosts(&["quay.io", "127.0.0.1:5000", "*.corp.example"], &["127.0.0.1:5000", "old.example"]);
    let check = |url: &str, from: Option<&str>| {
        let from = from.map(|from| Url::parse(from).unwrap());
        hosts.check(&Url::parse(url).unwrap(), from.as_ref()).is_ok()
    };
    assert!(check("https://quay.io/v2/", None));
    assert!(check("https://cdn.example/blob?signed=1", Some("https://quay.io/")));
    assert!(check("http://127.0.0.1:5000/v2/", None));
    assert!(check("http://old.example/x", Some("http://127.0.0.1:5000/")));
    for (url, from) in [
        ("http://quay.io/v2/", None),
        ("http://old.example/x", Some("https://quay.io/")),
        ("ftp://quay.io/", None),
        ("file:///etc/shadow", None),
        ("https://user:password@quay.io/", None),
        ("https://10.0.0.1/", Some("https://quay.io/")),
        ("https://2852039166/", Some("https://quay.io/")),
        ("https://0xa.1/", Some("https://quay.io/")),
        ("https://169.254.169.254/latest/meta-data", Some("https://quay.io/")),
        ("https://[::ffff:169.254.169.254]/", Some("https://quay.io/")),
        ("https://[fe80::1]/", None),
    ] {
        assert!(!check(url, from), "{url}");
    }
}

#[tokio::test]
async fn a_name_is_judged_by_what_it_resolves_to() {
    let resolve = async |allowed: &[&str]| {
        let resolver = Resolver(Arc::new(hosts(allowed, &[])));
        resolver.resolve("localhost".parse().unwrap()).await.map(Iterator::count)
    };
    assert!(resolve(&["localhost:5000"]).await.unwrap() > 0);
    let refused = resolve(&["quay.io"]).await.unwrap_err();
    assert!(matches!(refused.downcast_ref(), Some(RegistryError::Refused { .. })), "{refused}");
}
