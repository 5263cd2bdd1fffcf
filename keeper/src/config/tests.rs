use super::*;

fn config(change: impl FnOnce(&mut Args)) -> Result<Config, ConfigError> {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("secret");
    fs::write(&file, "s3cret\n").expect("written");
    let file = file.to_str().expect("plain");
    let members = "a=10.0.0.1:6379:8400,b=10.0.0.2:6379:8400,c=10.0.0.3:6379:8400";
    let mut args = Args::parse_from([
        "taba-keeper",
        "--shard",
        "s0",
        "--member",
        "b",
        "--members",
        members,
        "--sentinels",
        "10.0.1.1:26379",
        "--data",
        "/data",
        "--password-file",
        file,
        "--token-file",
        file,
    ]);
    change(&mut args);
    Config::try_from(args)
}

#[track_caller]
fn refused(change: impl FnOnce(&mut Args), why: &str) {
    let error = config(change).expect_err("refused").to_string();
    assert!(error.contains(why), "{error}");
}

#[test]
fn the_example_of_the_contract_is_understood() {
    let config = config(|_| ()).expect("valid");
    assert_eq!((config.own().name.as_str(), config.others().count()), ("b", 2));
    assert_eq!(config.own().address, Address::new("10.0.0.2", 6379));
    assert_eq!(config.listen, SocketAddr::from(([0, 0, 0, 0], 8400)));
    assert_eq!(config.local_redis(), SocketAddr::from(([127, 0, 0, 1], 6379)));
    assert_eq!(config.password, "s3cret");
}

#[test]
fn members_and_sentinels_may_be_names_of_a_cluster() {
    let host = |ordinal| format!("main-s0-{ordinal}.main-s0.metrics.svc.cluster.local");
    let config = config(|args| {
        args.shard = "metrics.main-s0".into();
        args.member = "main-s0-1".into();
        args.members = [0, 1].map(|n| format!("main-s0-{n}={}:6379:8400", host(n))).into();
        args.sentinels = vec!["main-sentinel-0.main-sentinel.metrics.svc.cluster.local:26379".into()];
    });
    let config = config.expect("valid");
    assert_eq!(config.own().address, Address::new(host(1), 6379));
    assert_eq!(config.listen, SocketAddr::from(([0, 0, 0, 0], 8400)));
}

#[test]
fn what_cannot_work_is_refused_with_its_reason() {
    refused(|args| args.member = "x".into(), "`x` is not one of --members");
    refused(|args| args.min_in_sync = 3, "there are 3 members");
    refused(|args| args.members[0] = "a=10.0.0.1:6379".into(), "is not name=host:redis-port:keeper-port");
    refused(|args| args.members[0] = "b=10.0.0.9:6379:8400".into(), "named twice");
    refused(|args| args.sentinels = vec!["nowhere".into()], "`nowhere` is not host:port");
    refused(|args| args.shard = "a b".into(), "is not a name");
    refused(|args| args.shard = "a".repeat(128), "is not a name of 1 to 127");
    refused(|args| args.maxmemory = "1 gb".into(), "not a size");
    refused(|args| args.token_file = "/nonexistent/token".into(), "read /nonexistent/token");
}
