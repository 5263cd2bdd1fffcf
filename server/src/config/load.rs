//! Reads the configuration from its four sources and remembers where each value came from.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::args::ConfigArgs;
use super::file::{self, Entry};
use super::{Config, Section, Setting};

/// The variable that names the configuration file.
pub(super) const FILE_VARIABLE: &str = "TABA_CONFIG";

/// Where a value was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// Nowhere.
    Default,
    /// In a file.
    File {
        /// Its path.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
    },
    /// In an environment variable.
    Environment {
        /// Its name.
        variable: String,
    },
    /// On the command line.
    Flag {
        /// Its name without `--`.
        flag: String,
    },
}

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::File { path, line } => write!(f, "{}:{line}", path.display()),
            Self::Environment { variable } => write!(f, "environment variable {variable}"),
            Self::Flag { flag } => write!(f, "flag --{flag}"),
        }
    }
}

/// Why a configuration is refused. Each says where, and what would be accepted.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("read configuration file {}", path.display())]
    ReadFile {
        /// The file.
        path: PathBuf,
        /// The cause.
        source: std::io::Error,
    },
    /// The file is not TOML.
    #[error("{place}: not valid TOML: {what}")]
    Syntax {
        /// File and line.
        place: Place,
        /// What the parser expected.
        what: String,
    },
    /// There is no such setting.
    #[error("{place}: unknown setting {key}{hint}")]
    Unknown {
        /// Where it was written.
        place: Place,
        /// What was written.
        key: String,
        /// The setting that was perhaps meant, as words to append.
        hint: String,
    },
    /// The value does not fit the setting.
    #[error("{place}: {key} is {value}; expected {allowed}")]
    Value {
        /// Where it was written.
        place: Place,
        /// The setting.
        key: String,
        /// What was written, quoted, unless it is secret.
        value: String,
        /// What would be accepted.
        allowed: String,
    },
    /// Two settings contradict each other.
    #[error("settings contradict each other: {0}")]
    Contradiction(&'static str),
}

/// A configuration and where each of its values came from.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// The values.
    pub config: Config,
    /// Each setting in order, as it was written, and where.
    pub values: Vec<(&'static Setting, String, Place)>,
}

/// Reads the configuration: defaults, then the file, the environment and the flags over it.
///
/// # Errors
/// [`ConfigError`]: the first thing that is wrong.
pub fn load(args: &ConfigArgs, environment: &BTreeMap<String, String>) -> Result<Loaded, ConfigError> {
    check_variables(environment)?;
    let named = environment.get(FILE_VARIABLE).filter(|path| !path.is_empty());
    let path = args.file.as_deref().or(named.map(Path::new));
    let mut entries = path.map(file::read).transpose()?.unwrap_or_default();

    let mut config = Config::default();
    let mut values = Vec::new();
    for setting in Setting::all() {
        let (text, place) = pick(setting, args, environment, &mut entries);
        if let Err(allowed) = (setting.set)(&mut config, &text) {
            let value = if setting.is_secret() { "(hidden)".to_owned() } else { format!("{text:?}") };
            return Err(ConfigError::Value { place, key: setting.key(), value, allowed });
        }
        values.push((setting, text, place));
    }
    match config.contradiction() {
        Some(what) => Err(ConfigError::Contradiction(what)),
        None => Ok(Loaded { config, values }),
    }
}

/// The value with the highest precedence.
fn pick(
    setting: &Setting,
    args: &ConfigArgs,
    environment: &BTreeMap<String, String>,
    entries: &mut BTreeMap<String, Entry>,
) -> (String, Place) {
    let variable = setting.variable();
    let entry = entries.remove(&setting.key());
    if let Some(text) = args.given(setting) {
        (text.to_owned(), Place::Flag { flag: setting.flag() })
    } else if let Some(text) = environment.get(&variable) {
        (text.clone(), Place::Environment { variable })
    } else if let Some(entry) = entry {
        (entry.text, entry.place)
    } else {
        (setting.default.to_owned(), Place::Default)
    }
}

/// Refuses variables that are meant as settings but are none.
///
/// Not every unknown `TABA_…` is: Kubernetes makes such variables for a Service called `taba`, and other
/// programs of the family have their own. So a variable is refused only if its section is ours or a
/// slip of the keyboard away from a setting, and it has not the form of a Service's.
fn check_variables(environment: &BTreeMap<String, String>) -> Result<(), ConfigError> {
    for variable in environment.keys() {
        let Some(name) = variable.strip_prefix("TABA_") else { continue };
        let known = Setting::all().any(|setting| setting.variable() == *variable);
        let of_a_service = name.contains("SERVICE_") || name.contains("PORT");
        if known || of_a_service || variable == FILE_VARIABLE {
            continue;
        }
        let in_a_section = Section::all().iter().any(|section| {
            !section.is_top() && name.starts_with(&format!("{}_", section.name.to_uppercase()))
        });
        let hint = hint(variable, Setting::variable);
        if in_a_section || !hint.is_empty() {
            let place = Place::Environment { variable: variable.clone() };
            return Err(ConfigError::Unknown { place, key: variable.clone(), hint });
        }
    }
    Ok(())
}

/// Names the setting that `written` is at most two letters away from.
pub(super) fn hint(written: &str, name: impl Fn(&Setting) -> String) -> String {
    let near = Setting::all().map(name).map(|name| (letters_apart(written, &name), name)).min();
    match near {
        Some((apart, name)) if apart <= 2 => format!("; did you mean {name}?"),
        _ => String::new(),
    }
}

/// How many letters must be added, dropped or replaced to make one word of the other.
fn letters_apart(one: &str, other: &str) -> usize {
    let mut row: Vec<usize> = (0..=other.len()).collect();
    for (i, a) in one.bytes().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, b) in other.bytes().enumerate() {
            let replaced = diagonal + usize::from(a != b);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[other.len()]
}

#[cfg(test)]
mod tests;
