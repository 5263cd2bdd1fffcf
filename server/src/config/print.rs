//! Writes a configuration as the TOML file that would give the same one.

use std::fmt::Write as _;

use super::load::{Loaded, Place};
use super::setting::{Section, Setting};

/// Width of comment text, in characters.
const COMMENT_WIDTH: usize = 96;

/// The effective values, each with the place it was written. Secrets are left out, so that the output
/// may be shown around.
#[must_use]
pub fn print(loaded: &Loaded) -> String {
    let mut out =
        String::from("# Effective configuration. Each line ends with where its value comes from.\n");
    for section in Section::all() {
        put_header(&mut out, section);
        let values = loaded.values.iter().filter(|(setting, ..)| setting.section == section.name);
        for (setting, text, place) in values {
            put_value(&mut out, setting, text, place);
        }
    }
    out
}

/// Every setting with its documentation and its default: the example of a configuration file.
#[must_use]
pub fn print_defaults() -> String {
    let mut out = String::new();
    put_comment(
        &mut out,
        "Every setting with its default. Flags and environment variables go before this file.",
    );
    for section in Section::all() {
        put_header(&mut out, section);
        for setting in section.settings {
            out.push('\n');
            put_comment(&mut out, &setting.prose());
            put_comment(&mut out, &format!("Flag --{}, environment {}.", setting.flag(), setting.variable()));
            let _ = writeln!(out, "{} = {}", setting.field, toml_value(setting.default));
        }
    }
    out
}

fn put_header(out: &mut String, section: &Section) {
    out.push('\n');
    put_comment(out, &section.prose());
    if !section.is_top() {
        let _ = writeln!(out, "[{}]", section.name);
    }
}

fn put_value(out: &mut String, setting: &Setting, text: &str, place: &Place) {
    // Whoever reads the file back must not get a mask for a token, so a hidden line is a comment.
    let _ = if setting.is_secret() && !text.is_empty() {
        writeln!(out, "# {} = (hidden) # {place}", setting.field)
    } else {
        writeln!(out, "{} = {} # {place}", setting.field, toml_value(text))
    };
}

/// Plain numbers stand bare, everything else as a string.
fn toml_value(text: &str) -> String {
    match text.parse::<i64>() {
        Ok(number) => number.to_string(),
        Err(_) => toml::Value::String(text.to_owned()).to_string(),
    }
}

/// Wraps text into comment lines.
fn put_comment(out: &mut String, text: &str) {
    let mut line = String::new();
    for word in text.split_whitespace() {
        if !line.is_empty() && line.len() + 1 + word.len() > COMMENT_WIDTH {
            let _ = writeln!(out, "#{line}");
            line.clear();
        }
        line.push(' ');
        line.push_str(word);
    }
    let _ = writeln!(out, "#{line}");
}
