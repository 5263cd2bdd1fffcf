//! Logins and TLS. The certificates in `tls/` are for these tests only.

use std::path::{Path, PathBuf};

use super::*;
use crate::store::redis::{Passwords, RedisTls, Secret};

/// What `docs/shard.md` lets servers do.
const SERVER_RIGHTS: [&str; 8] =
    ["~*", "resetchannels", "+@all", "-@admin", "-@dangerous", "+info", "+role", "+config|get"];

fn with_login(password: &str) -> TestStore {
    let lab = Lab::start(1, 2);
    let user = [&["ACL", "SETUSER", "taba", "reset", "on", ">right"][..], &SERVER_RIGHTS].concat();
    lab.shards[0].primary().ask::<()>(&user);
    TestStore::new(lab, vbuckets(), |options| {
        options.user = Some("taba".to_owned());
        options.passwords = Passwords::PerShard([("s0".to_owned(), Secret::new(password))].into());
        options.unbound_wait = Duration::from_secs(if password == "right" { 20 } else { 0 });
    })
}

#[tokio::test]
async fn the_rights_of_servers_are_enough() {
    let subject = with_login("right");
    let tab = tab_in(Vbucket(1));
    assert_eq!(subject.accept("p/1", batch(&[&tab], 1)).await.unwrap(), Accepted::New);
    subject.consume(Vbucket(1)).await;
    let store = subject.store();
    assert!(store.list_tabs(Vbucket(1), None, 10).await.unwrap().is_empty());
    assert!(store.list_clients(Vbucket(1), None, 10).await.unwrap().is_empty());
    assert!(store.read_clients(Vbucket(1), &tab, None).await.unwrap().states.is_empty());
    assert_eq!(store.discard_queue(Vbucket(1)).await.unwrap(), 0);
    assert_eq!(store.enrol("a", Duration::from_secs(9)).await[0].live.as_ref().unwrap(), &["a"]);
    // Acknowledging by offsets needs rights as well.
    let shard = &subject.lab.shards[0];
    shard.primary().set("members", "3");
    shard.primary().set("term", "2");
    assert_eq!(subject.accept_at_last("p/2", &batch(&[&tab], 1)).await, Accepted::New);
    assert_eq!(subject.redis().status()[0].in_sync, 2);
}

async fn refusal(subject: &TestStore, expected: &str) {
    let mut last = None;
    let started = std::time::Instant::now();
    while !last.as_ref().is_some_and(|error: &String| error.contains(expected)) {
        assert!(started.elapsed() < lab::PATIENCE, "{expected}, not {last:?}");
        tokio::time::sleep(Duration::from_millis(5)).await;
        last = subject.redis().status()[0].error.clone();
    }
    assert!(!subject.redis().ready());
    assert!(is_unavailable(&subject.accept("p/1", batch(&["tab"], 1)).await));
}

#[tokio::test]
async fn a_wrong_password_is_told_and_never_shown() {
    let subject = with_login("wrong-secret");
    refusal(&subject, "assword").await;
    let shown = format!("{:?} {:?}", subject.options, subject.redis().status());
    assert!(!shown.contains("wrong-secret"), "{shown}");
}

fn file(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src/store/redis/tests/tls").join(name)
}

/// Settings of a server that speaks TLS on a port.
fn tls_settings(port: u16) -> Vec<(&'static str, String)> {
    let path = |name| file(name).to_str().expect("a path in UTF-8").to_owned();
    vec![
        ("tls-cert-file", path("server.pem")),
        ("tls-key-file", path("server.key")),
        ("tls-ca-cert-file", path("ca.pem")),
        ("tls-auth-clients", "no".to_owned()),
        ("tls-port", port.to_string()),
    ]
}

/// A store that speaks TLS to primary and Sentinel.
fn with_tls(ca_file: &str, server_name: Option<&str>) -> TestStore {
    let (primary_port, sentinel_port) = (lab::free_port(), lab::free_port());
    let lines: Vec<String> =
        tls_settings(sentinel_port).iter().map(|(name, value)| format!("{name} {value}")).collect();
    let lab = Lab::start_with(1, 1, &lines);
    let primary = lab.shards[0].primary();
    let settings = tls_settings(primary_port);
    let settings = settings.iter().flat_map(|(name, value)| [*name, value]);
    primary.ask::<()>(&["CONFIG", "SET"].into_iter().chain(settings).collect::<Vec<_>>());
    primary.set("primary", &format!("127.0.0.1:{primary_port}"));
    lab.point_sentinel("s0", primary_port);
    TestStore::new(lab, vbuckets(), |options| {
        options.sentinels = vec![format!("127.0.0.1:{sentinel_port}")];
        options.tls = Some(RedisTls { ca_file: file(ca_file), server_name: server_name.map(str::to_owned) });
    })
}

#[tokio::test]
async fn tls_to_primary_and_sentinel() {
    for server_name in [None, Some("localhost")] {
        let subject = with_tls("ca.pem", server_name);
        assert_eq!(subject.accept("p/1", batch(&["tab"], 100_000)).await.unwrap(), Accepted::New);
        assert_eq!(subject.redis().status()[0].in_sync, 1);
    }
}

#[tokio::test]
async fn certificates_of_others_are_refused() {
    for (ca_file, server_name, expected) in
        [("server.pem", None, "certificate"), ("ca.pem", Some("example.org"), "certificate")]
    {
        let mut subject = with_tls(ca_file, server_name);
        subject.options.unbound_wait = Duration::ZERO;
        subject.reopen().await;
        refusal(&subject, expected).await;
    }
}

#[test]
fn a_file_without_certificates_is_refused() {
    let mut options = RedisOptions::new(vbuckets(), vec!["s0".to_owned()], vec!["127.0.0.1:1".to_owned()]);
    for name in ["server.key", "missing.pem"] {
        options.tls = Some(RedisTls { ca_file: file(name), server_name: None });
        let error = RedisStore::open(options.clone()).err().expect("no usable file");
        assert!(error.to_string().contains("certificates of the authority"), "{error}");
    }
}
