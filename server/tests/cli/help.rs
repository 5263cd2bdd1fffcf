//! Help texts, which are a newcomer's first documentation.

use crate::process::succeed;

#[test]
fn the_first_help_shows_the_first_minute() {
    insta::assert_snapshot!(succeed(&["--help"]));
}

#[test]
fn every_command_explains_itself() {
    for command in ["agent", "record", "query", "tabs", "tail", "top", "standalone", "server"] {
        insta::assert_snapshot!(format!("help_{command}"), succeed(&[command, "--help"]));
    }
}

#[test]
fn short_help_of_standalone_fits_a_screen() {
    let text = succeed(&["standalone", "-h"]);
    assert!(text.contains("--data") && !text.contains("--limits-posts-max"), "{text}");
    assert!(text.lines().count() < 40, "{text}");
}

#[test]
fn config_print_shows_every_setting_with_its_default() {
    insta::assert_snapshot!(succeed(&["config", "print", "--defaults"]));
}
