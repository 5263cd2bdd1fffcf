//! The settings as command-line flags, made from the table.

use std::collections::BTreeMap;
use std::path::PathBuf;

use clap::error::ErrorKind;
use clap::{Arg, ArgMatches, Args, Command, FromArgMatches, value_parser};

use super::load::FILE_VARIABLE;
use super::setting::{Section, Setting};

const FILE: &str = "config";

/// What was given on the command line. Values are not parsed yet, so that all sources are refused alike.
#[derive(Clone, Debug, Default)]
pub struct ConfigArgs {
    /// The configuration file, if one was named.
    pub file: Option<PathBuf>,
    flags: BTreeMap<String, String>,
}

impl ConfigArgs {
    /// What a setting's flag was given as.
    pub(super) fn given(&self, setting: &Setting) -> Option<&str> {
        self.flags.get(&setting.key()).map(String::as_str)
    }

    /// Names the configuration file, as if by `--config`.
    #[must_use]
    pub fn with_file(mut self, path: impl Into<PathBuf>) -> Self {
        self.file = Some(path.into());
        self
    }

    /// Gives a setting as if by its flag.
    #[must_use]
    pub fn with(mut self, key: &str, value: impl Into<String>) -> Self {
        self.flags.insert(key.to_owned(), value.into());
        self
    }
}

impl FromArgMatches for ConfigArgs {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let mut args = Self::default();
        args.update_from_arg_matches(matches)?;
        Ok(args)
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        self.file = matches.get_one::<PathBuf>(FILE).cloned();
        for setting in Setting::all() {
            let given = matches
                .try_get_one::<String>(&setting.key())
                .map_err(|error| clap::Error::raw(ErrorKind::InvalidValue, error))?;
            if let Some(text) = given {
                self.flags.insert(setting.key(), text.clone());
            }
        }
        Ok(())
    }
}

impl Args for ConfigArgs {
    fn augment_args(command: Command) -> Command {
        let file =
            Arg::new(FILE).long(FILE).value_name("FILE").value_parser(value_parser!(PathBuf)).help(format!(
                "Configuration file (TOML); `taba config print --defaults` shows one [env: {FILE_VARIABLE}]"
            ));
        Section::all().iter().fold(command.arg(file), |command, section| {
            command.args(section.settings.iter().map(|setting| arg_of(section, setting)))
        })
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

fn arg_of(section: &Section, setting: &Setting) -> Arg {
    let prose = setting.prose();
    let default = if setting.default.is_empty() { "none" } else { setting.default };
    let about = format!("[default: {default}] [env: {}]", setting.variable());
    let arg = Arg::new(setting.key())
        .long(setting.flag())
        .value_name((setting.placeholder)())
        .help(format!("{} {about}", first_sentence(&prose)))
        .long_help(format!("{prose}\n\n{about}"))
        // The common settings fit a screen; `--help` shows all of them.
        .hide_short_help(!setting.is_top());
    if section.is_top() { arg } else { arg.help_heading(heading_of(section)) }
}

fn first_sentence(prose: &str) -> &str {
    prose.find(". ").map_or(prose, |end| &prose[..=end])
}

fn heading_of(section: &Section) -> String {
    let prose = section.prose();
    first_sentence(&prose).trim_end_matches('.').to_owned()
}

/// The settings of `taba standalone`; those of clusters are taken too, but not shown in its help.
#[derive(Clone, Debug, Default)]
pub struct StandaloneArgs(pub ConfigArgs);

/// The settings of `taba server`; those of the embedded store are taken too, but not shown in its help.
#[derive(Clone, Debug, Default)]
pub struct ClusterArgs(pub ConfigArgs);

impl Args for StandaloneArgs {
    fn augment_args(command: Command) -> Command {
        hide(ConfigArgs::augment_args(command), Setting::is_of_clusters)
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

impl Args for ClusterArgs {
    fn augment_args(command: Command) -> Command {
        hide(ConfigArgs::augment_args(command), Setting::is_of_the_embedded_store)
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

fn hide(command: Command, which: impl Fn(&Setting) -> bool) -> Command {
    Setting::all()
        .filter(|setting| which(setting))
        .fold(command, |command, setting| command.mut_arg(setting.key(), |arg| arg.hide(true)))
}

macro_rules! from_matches {
    ($($args:ident),+) => { $(
        impl FromArgMatches for $args {
            fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
                ConfigArgs::from_arg_matches(matches).map(Self)
            }

            fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
                self.0.update_from_arg_matches(matches)
            }
        }
    )+ };
}

from_matches!(StandaloneArgs, ClusterArgs);
