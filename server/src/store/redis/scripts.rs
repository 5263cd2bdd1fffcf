//! The Lua scripts that a shard runs. Each `.lua` file says what it takes, answers and refuses.

use std::sync::LazyLock;

use redis::{Arg, Cmd};

use crate::mutants::Mutant;

/// A script and the digest that Redis knows it by.
pub(super) struct Script {
    text: String,
    digest: String,
}

/// What every script begins with.
const PRELUDE: &str = include_str!("scripts/prelude.lua");

impl Script {
    /// The prelude goes behind the first line, because that one holds the flags.
    fn new(source: &str) -> Self {
        let (flags, body) = source.split_once('\n').expect("a script has more than one line");
        let mut text = format!("{flags}\n{PRELUDE}{body}");
        if Mutant::NoToken.is_on() {
            text = text.replace("return redis.error_reply('TABAFENCED the lease is lost')", "");
        }
        let digest = redis::Script::new(&text).get_hash().to_owned();
        Self { text, digest }
    }

    /// A call of the script for a connection bound to `term`; its other arguments are to be added.
    pub(super) fn call(&self, term: u64) -> Cmd {
        let mut command = redis::cmd("EVALSHA");
        command.arg(&self.digest).arg(0).arg(term);
        command
    }

    /// The same for a script that names the one key it reads, for those who want to be told when that changes.
    pub(super) fn call_with_key(&self, key: &str, term: u64) -> Cmd {
        let mut command = redis::cmd("EVALSHA");
        command.arg(&self.digest).arg(1).arg(key).arg(term);
        command
    }

    /// A call made by one of these, with the whole script in place of its digest: for a shard that does
    /// not know it. From then on it does.
    pub(super) fn with_text(&self, call: &Cmd) -> Cmd {
        let mut command = redis::cmd("EVAL");
        command.arg(&self.text);
        for argument in call.args_iter().skip(2) {
            if let Arg::Simple(argument) = argument {
                command.arg(argument);
            }
        }
        command
    }

    /// Loads the script.
    pub(super) fn load(&self) -> Cmd {
        let mut command = redis::cmd("SCRIPT");
        command.arg("LOAD").arg(&self.text);
        command
    }
}

macro_rules! scripts {
    ($($name:ident = $file:literal),+ $(,)?) => {
        $(pub(super) static $name: LazyLock<Script> =
            LazyLock::new(|| Script::new(include_str!(concat!("scripts/", $file, ".lua"))));)+

        /// All scripts, to be loaded on a fresh connection.
        pub(super) fn all() -> impl Iterator<Item = &'static Script> {
            [$(&*$name),+].into_iter()
        }
    };
}

scripts! {
    ACCEPT = "accept",
    ARRIVALS = "arrivals",
    COMMIT = "commit",
    COUNT = "count",
    DISCARD_QUEUE = "discard_queue",
    ENROL = "enrol",
    LEASE = "lease",
    LIST_CLIENTS = "list_clients",
    LIST_TABS = "list_tabs",
    LIST_TABS_OF_CLIENT = "list_tabs_of_client",
    PLACE = "place",
    PROGRESS = "progress",
    QUEUE_DEPTH = "queue_depth",
    READ_AGGREGATES = "read_aggregates",
    READ_CLIENTS = "read_clients",
    READ_PAIRS = "read_pairs",
    READ_QUEUE = "read_queue",
    RELEASE = "release",
}
