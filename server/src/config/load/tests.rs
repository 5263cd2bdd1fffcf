use std::io::Write as _;

use super::*;
use crate::config::{LogFormat, print, print_defaults};

fn environment(variables: &[(&str, &str)]) -> BTreeMap<String, String> {
    variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

fn file(text: &str) -> tempfile::NamedTempFile {
    let mut file = tempfile::NamedTempFile::new().expect("a temporary file");
    file.write_all(text.as_bytes()).expect("room in it");
    file
}

fn load_file(text: &str) -> Result<Loaded, ConfigError> {
    let file = file(text);
    load(&ConfigArgs::default().with_file(file.path()), &BTreeMap::new())
}

#[track_caller]
fn refusal(result: Result<Loaded, ConfigError>) -> String {
    result.expect_err("must be refused").to_string()
}

fn place_of<'a>(loaded: &'a Loaded, key: &str) -> &'a Place {
    let (.., place) = loaded.values.iter().find(|(setting, ..)| setting.key() == key).expect("a setting");
    place
}

#[test]
fn every_default_is_a_valid_value() {
    let loaded = load(&ConfigArgs::default(), &BTreeMap::new()).expect("defaults are accepted");
    assert!(loaded.values.iter().all(|(.., place)| *place == Place::Default));
    assert_eq!(loaded.config.server.listen, "127.0.0.1:8300");
    assert_eq!(loaded.config.limits.body_bytes_max, 256 << 20);
    assert_eq!(loaded.config.store.vbuckets.get(), 64);
}

#[test]
fn flags_beat_the_environment_which_beats_the_file_which_beats_defaults() {
    let file = file("listen = 'localhost:1'\n[limits]\nposts_max = 1_000\nqueries_max = 7\n");
    let variables = environment(&[("TABA_LISTEN", "localhost:2"), ("TABA_LIMITS_POSTS_MAX", "2000")]);
    let args = ConfigArgs::default().with_file(file.path());

    let loaded = load(&args.with("listen", "localhost:3"), &variables).expect("a valid configuration");
    let (server, limits) = (&loaded.config.server, &loaded.config.limits);
    assert_eq!(server.listen, "localhost:3");
    assert_eq!((limits.posts_max, limits.queries_max, limits.connections_max), (2000, 7, 16_384));

    assert_eq!(place_of(&loaded, "listen").to_string(), "flag --listen");
    assert_eq!(
        place_of(&loaded, "limits.posts_max").to_string(),
        "environment variable TABA_LIMITS_POSTS_MAX"
    );
    let Place::File { line, .. } = place_of(&loaded, "limits.queries_max") else { panic!("from the file") };
    assert_eq!(*line, 4);
}

#[test]
fn the_file_may_be_named_by_the_environment_and_a_flag_goes_first() {
    let (by_environment, by_flag) = (file("log.format = 'json'"), file("log.format = 'text'"));
    let variables = environment(&[("TABA_CONFIG", by_environment.path().to_str().expect("UTF-8"))]);
    let loaded = load(&ConfigArgs::default(), &variables).expect("a valid file");
    assert_eq!(loaded.config.log.format, LogFormat::Json);

    let args = ConfigArgs::default().with_file(by_flag.path());
    assert_eq!(load(&args, &variables).expect("a valid file").config.log.format, LogFormat::Text);
}

#[test]
fn unknown_keys_are_refused_with_their_line_and_a_hint() {
    let text = refusal(load_file("# limits\n[limits]\npost_max = 5\n"));
    assert!(text.ends_with(":3: unknown setting limits.post_max; did you mean limits.posts_max?"), "{text}");
    let text = refusal(load_file("listen = 'localhost:1'\n\n[colours]\n"));
    assert!(text.ends_with(":3: unknown setting colours"), "{text}");
    let text = refusal(load_file("limits = 5"));
    assert!(text.ends_with(":1: unknown setting limits"), "{text}");
}

#[test]
fn bad_values_are_refused_with_their_place_and_what_is_allowed() {
    let text = refusal(load_file("\n[limits]\nhead_timeout = 10\n"));
    let expected = ":3: limits.head_timeout is \"10\"; expected a duration such as 500ms, 30s, 5m, 1h or 1d, \
                    from 100ms to 1h";
    assert!(text.ends_with(expected), "{text}");

    let variables = environment(&[("TABA_STORE_VBUCKETS", "0")]);
    assert_eq!(
        refusal(load(&ConfigArgs::default(), &variables)),
        "environment variable TABA_STORE_VBUCKETS: store.vbuckets is \"0\"; expected a whole number from 1 to 4096"
    );
    assert_eq!(
        refusal(load(&ConfigArgs::default().with("log.format", "xml"), &BTreeMap::new())),
        "flag --log-format: log.format is \"xml\"; expected text or json"
    );
    assert!(refusal(load_file("limits.posts_max = 0x10")).contains("is \"0x10\"; expected a whole number"));
}

#[test]
fn text_that_is_not_toml_is_refused_with_its_line() {
    let text = refusal(load_file("listen = 'localhost:1'\ndata = \n"));
    assert!(text.contains(":2: not valid TOML: "), "{text}");
}

#[test]
fn a_missing_file_is_named() {
    let args = ConfigArgs::default().with_file("/nowhere/taba.toml");
    assert_eq!(refusal(load(&args, &BTreeMap::new())), "read configuration file /nowhere/taba.toml");
}

#[test]
fn misspelt_variables_are_refused_but_those_of_kubernetes_services_are_not() {
    let load = |name| load(&ConfigArgs::default(), &environment(&[(name, "tcp://10.0.0.1:8300")]));
    assert_eq!(
        refusal(load("TABA_LISTN")),
        "environment variable TABA_LISTN: unknown setting TABA_LISTN; did you mean TABA_LISTEN?"
    );
    assert!(refusal(load("TABA_LIMITS_EVERYTHING_MAX")).contains("unknown setting"));
    for of_others in ["TABA_SERVER", "TABA_PORT", "TABA_SERVICE_HOST", "TABA_STORE_PORT_6379_TCP"] {
        assert!(load(of_others).is_ok(), "{of_others}");
    }
}

#[test]
fn contradicting_settings_are_refused_together() {
    let args = ConfigArgs::default().with("limits.parts_bytes_max", "512MiB");
    assert!(refusal(load(&args, &BTreeMap::new())).contains("limits.inflight_bytes_max"));
}

#[test]
fn printed_values_read_back_as_the_same_configuration() {
    let args = ConfigArgs::default()
        .with("data", "/srv/with \"quotes\" and \\")
        .with("limits.head_timeout", "250ms")
        .with("limits.posts_max", "12");
    let original = load(&args, &BTreeMap::new()).expect("a valid configuration");
    let again = load_file(&print(&original)).expect("printed values are valid");
    assert_eq!(format!("{:?}", again.config), format!("{:?}", original.config));
}

#[test]
fn the_printed_defaults_are_a_complete_file_of_defaults() {
    let text = print_defaults();
    let loaded = load_file(&text).unwrap_or_else(|error| panic!("{error}\n{text}"));
    assert_eq!(format!("{:?}", loaded.config), format!("{:?}", Config::default()));
    assert!(loaded.values.iter().all(|(.., place)| matches!(place, Place::File { .. })));
}

#[test]
fn secrets_are_neither_printed_nor_repeated_in_errors() {
    let loaded =
        load(&ConfigArgs::default(), &environment(&[("TABA_ADMIN_TOKEN", "s3cret")])).expect("valid");
    let printed = print(&loaded);
    assert!(
        printed.contains("# admin_token = (hidden) # environment variable TABA_ADMIN_TOKEN"),
        "{printed}"
    );
    assert!(!printed.contains("s3cret") && !format!("{loaded:?}").contains("\"s3cret\")"));
    assert!(load_file(&printed).expect("valid").config.server.admin_token.is_none());

    let text = refusal(load(&ConfigArgs::default().with("admin_token", "two words"), &BTreeMap::new()));
    assert!(text.contains("(hidden)") && !text.contains("two words"), "{text}");
}
