//! `taba-keeper names`: keeps a hosts file of everyone that a Sentinel may meet.
//!
//! ```text
//! list of names ──▶ look up, again and again ──▶ hosts file ──▶ Sentinel
//! ```
//!
//! Sentinel looks names up in the loop that serves, several times a second, and stands still until a name server
//! answers. One that stood still for 2 s only watches for the next 30, so a node that dies with a name server and a
//! primary on it would leave the shard without a primary. A name that is in the file needs no name server, and the
//! file keeps what one said last while none says more.

use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;
use std::fmt::Write as _;
use std::fs::{self, OpenOptions};
use std::io::{self, Write as _};
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Parser;
use futures::{StreamExt as _, stream};
use tokio::net::lookup_host;
use tokio::time::{Instant, sleep, timeout};

use crate::config::ConfigError;

/// From the end of a round that found a change to the next; then twice as long each time.
const PAUSE_MIN: Duration = Duration::from_secs(1);

/// Longest pause. Name servers of Kubernetes let what they say be kept for as long.
const PAUSE_MAX: Duration = Duration::from_secs(5);

/// Longest wait for the address of one name.
const LOOKUP_TIMEOUT: Duration = Duration::from_secs(3);

/// Names that are looked up at the same time.
const LOOKUPS_MAX: usize = 16;

/// How long an address outlives the last answer: longer than a cluster takes to take a dead node's name server out of
/// service, which is 50 s with the defaults of Kubernetes.
const KEPT: Duration = Duration::from_secs(120);

/// What every hosts file has.
const LOCAL: &str = "127.0.0.1 localhost\n::1 localhost\n";

/// Keeps a hosts file.
#[derive(Clone, Debug, Parser)]
#[command(name = "taba-keeper names")]
pub struct NamesArgs {
    /// The list: a name on each line. It may change.
    #[arg(long)]
    pub names: PathBuf,
    /// The hosts file.
    #[arg(long)]
    pub hosts: PathBuf,
}

/// Writes a hosts file that knows nobody yet: a container that has it mounted does not start without it.
///
/// # Errors
/// If it cannot be written.
pub fn begin(path: &Path) -> Result<(), ConfigError> {
    let failed = |source| ConfigError::Write { path: path.to_owned(), source };
    overwrite(path, LOCAL).map_err(failed)
}

/// Keeps the file for ever.
pub async fn run(args: &NamesArgs) -> Infallible {
    let mut known = Known::default();
    let mut written = String::new();
    let mut pause = PAUSE_MIN;
    loop {
        match fs::read_to_string(&args.names) {
            Ok(list) => {
                let has_changed = known.round(named(&list), address_of).await;
                pause = if has_changed { PAUSE_MIN } else { (pause * 2).min(PAUSE_MAX) };
            }
            Err(error) => tracing::warn!(%error, file = %args.names.display(), "no list"),
        }
        let text = known.file();
        if text != written {
            match overwrite(&args.hosts, &text) {
                Ok(()) => written = text,
                Err(error) => tracing::warn!(%error, file = %args.hosts.display(), "it stays as it is"),
            }
        }
        sleep(pause).await;
    }
}

fn named(list: &str) -> BTreeSet<String> {
    list.split_whitespace().map(str::to_owned).collect()
}

async fn address_of(name: String) -> Option<IpAddr> {
    let found = timeout(LOOKUP_TIMEOUT, lookup_host((name, 0))).await;
    found.ok()?.ok()?.next().map(|socket| socket.ip())
}

/// Addresses of names.
#[derive(Debug, Default)]
struct Known {
    /// With the time when a name server last said so.
    addresses: BTreeMap<String, (IpAddr, Instant)>,
    /// What the last round found.
    found: BTreeMap<String, Option<IpAddr>>,
}

impl Known {
    /// Looks all names up, and forgets all others. Whether anyone came, went or moved since the last time.
    async fn round<F>(&mut self, names: BTreeSet<String>, look_up: impl Fn(String) -> F) -> bool
    where
        F: Future<Output = Option<IpAddr>>,
    {
        self.addresses.retain(|name, _| names.contains(name));
        let look_up = |name: String| {
            let asked = look_up(name.clone());
            async move { (name, asked.await) }
        };
        let found: BTreeMap<_, _> =
            stream::iter(names).map(look_up).buffer_unordered(LOOKUPS_MAX).collect().await;
        let now = Instant::now();
        for (name, address) in &found {
            if let Some(address) = *address {
                self.addresses.insert(name.clone(), (address, now));
            }
        }
        self.addresses.retain(|_, (_, said)| now.duration_since(*said) < KEPT);
        let has_changed = found != self.found;
        self.found = found;
        has_changed
    }

    fn file(&self) -> String {
        let mut text = LOCAL.to_owned();
        for (name, (address, _)) in &self.addresses {
            writeln!(text, "{address} {name}").expect("a string takes everything");
        }
        text
    }
}

/// In place, because a container has this very file mounted, and by one write that is never shorter than what is there,
/// so that nobody reads the end of an older line.
fn overwrite(path: &Path, text: &str) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create(true).truncate(false).open(path)?;
    let length = usize::try_from(file.metadata()?.len()).unwrap_or(usize::MAX);
    let padding = "\n".repeat(length.saturating_sub(text.len()));
    file.write_all(format!("{text}{padding}").as_bytes())
}

#[cfg(test)]
mod tests {
    use std::future::ready;

    use tokio::time::advance;

    use super::*;

    fn names(names: &[&str]) -> BTreeSet<String> {
        names.iter().map(|&name| name.to_owned()).collect()
    }

    async fn nobody_answers(_: String) -> Option<IpAddr> {
        None
    }

    fn lines(known: &Known) -> Vec<String> {
        known.file().strip_prefix(LOCAL).expect("it begins with them").lines().map(str::to_owned).collect()
    }

    #[tokio::test(start_paused = true)]
    async fn an_address_outlives_silent_name_servers_for_a_while_and_follows_its_name() {
        let mut known = Known::default();
        let a_and_b = names(&["a.", "b."]);
        known.round(a_and_b.clone(), async |_| Some([10, 0, 0, 1].into())).await;
        assert_eq!(lines(&known), ["10.0.0.1 a.", "10.0.0.1 b."]);
        advance(KEPT / 2).await;
        let only_a = async |name: String| (name == "a.").then(|| [10, 0, 0, 2].into());
        known.round(a_and_b.clone(), only_a).await;
        assert_eq!(lines(&known), ["10.0.0.2 a.", "10.0.0.1 b."]);
        advance(KEPT / 2).await;
        known.round(a_and_b, nobody_answers).await;
        assert_eq!(lines(&known), ["10.0.0.2 a."]);
        known.round(names(&["b."]), nobody_answers).await;
        assert_eq!(lines(&known), [""; 0], "a is not on the list any more");
    }

    #[tokio::test(start_paused = true)]
    async fn a_round_tells_whether_anyone_came_went_or_moved() {
        let mut known = Known::default();
        let a_and_b = names(&["a.", "b."]);
        let at = |last: u8| move |_: String| ready(Some(IpAddr::from([10, 0, 0, last])));
        let only_a = |name: String| ready((name == "a.").then(|| IpAddr::from([10, 0, 0, 1])));
        assert!(known.round(a_and_b.clone(), at(1)).await, "both came");
        assert!(!known.round(a_and_b.clone(), at(1)).await);
        assert!(known.round(a_and_b.clone(), only_a).await, "b went");
        assert!(!known.round(a_and_b.clone(), only_a).await, "b is away still");
        assert!(known.round(a_and_b.clone(), at(1)).await, "b is back");
        assert!(known.round(a_and_b.clone(), at(2)).await, "both moved");
        assert!(known.round(names(&["a."]), at(2)).await, "b is not on the list any more");
        assert!(!known.round(names(&["a."]), at(2)).await);
    }

    #[tokio::test(start_paused = true)]
    async fn names_that_nobody_answers_keep_no_other_waiting() {
        let mut known = Known::default();
        let slow = async |name: String| {
            sleep(LOOKUP_TIMEOUT).await;
            (name == "b.").then(|| [10, 0, 0, 1].into())
        };
        let begin = Instant::now();
        let silent = (1..LOOKUPS_MAX).map(|n| format!("a{n}."));
        known.round(silent.chain(["b.".to_owned()]).collect(), slow).await;
        assert_eq!(begin.elapsed(), LOOKUP_TIMEOUT, "all at once");
        assert_eq!(lines(&known), ["10.0.0.1 b."]);
    }

    #[test]
    fn a_file_is_overwritten_in_place_and_never_shorter() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("hosts");
        begin(&path).expect("written");
        let mounted = fs::File::open(&path).expect("there");
        overwrite(&path, &format!("{LOCAL}10.0.0.1 a.\n")).expect("written");
        overwrite(&path, LOCAL).expect("written");
        let text = io::read_to_string(mounted).expect("readable");
        assert_eq!(text, format!("{LOCAL}{}", "\n".repeat("10.0.0.1 a.\n".len())));
    }
}
