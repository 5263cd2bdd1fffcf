//! A lab that a person plays with: it listens on a socket in its folder, and takes one line of command per
//! connection. The command-line side of it is in the program.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::Shutdown;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, RwLock};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal, kill_process};

use super::books::{Books, Difference};
use super::cluster::{Cluster, url};
use super::daemon::child_named;
use super::host::{AGENT_PORT, Link, SERVER_PORT, SharedHost};
use super::run::service_manager;
use super::traffic::{Routes, Traffic};
use super::verdict;
use super::watch::Watch;

/// The socket's name in the folder.
const SOCKET: &str = "control";
/// Exists, with the first page for the person, once the lab serves.
pub const READY: &str = "ready";
/// Longest command line.
const LINE_BYTES_MAX: u64 = 4096;
const REDIS_SUFFIX: &str = "/redis";

/// What commands there are.
pub const COMMANDS: &str = "\
status                     what runs and what the keepers say
kill NAME                  SIGKILL; it stays away until `start`
start NAME                 starts it again
stop NAME, cont NAME       SIGSTOP, SIGCONT
cut HOST [in|out|both]     drops packets of a host (both)
lossy HOST PERCENT         drops some of them
slow HOST KBIT             bounds its speed
heal [HOST]                makes links good again: of one host, or of all
wipe MEMBER                deletes the data of a killed member
traffic on|off             starts or ends numbered producers; off compares answers with their ledger
NAME is a process such as s0-a (a keeper) or s0-a/redis, sentinel0, frontend0, backend0, agent0";

/// Serves commands for a started cluster until it is killed.
///
/// # Errors
/// If the socket cannot be had.
pub fn serve(folder: &Path, cluster: &Arc<Cluster>) -> Result<()> {
    let watch = Watch::start(cluster);
    let _manager = service_manager(cluster, &Arc::new(AtomicBool::new(false)));
    cluster.start().context("start the cluster")?;
    let listener = UnixListener::bind(folder.join(SOCKET)).context("listen for commands")?;
    std::fs::write(folder.join(READY), page(cluster)).context("say that it is ready")?;
    let mut desk = Desk { cluster: Arc::clone(cluster), watch, traffic: None };
    for stream in listener.incoming().flatten() {
        let answered = desk.answer(&stream);
        if let Err(error) = answered {
            let _ = writeln!(&stream, "error: {error:#}");
        }
    }
    Ok(())
}

/// Sends a command to the lab of a folder; what it answers.
///
/// # Errors
/// If it does not listen.
pub fn send(folder: &Path, command: &str) -> Result<String> {
    let mut stream = UnixStream::connect(folder.join(SOCKET)).context("reach the lab")?;
    writeln!(stream, "{command}").context("send a command")?;
    stream.shutdown(Shutdown::Write).context("end a command")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).context("read the answer")?;
    Ok(answer)
}

struct Desk {
    cluster: Arc<Cluster>,
    watch: Arc<Watch>,
    traffic: Option<(Traffic, Arc<Books>)>,
}

impl Desk {
    fn answer(&mut self, stream: &UnixStream) -> Result<()> {
        stream.set_read_timeout(Some(Duration::from_secs(5))).context("bound reading")?;
        let mut line = String::new();
        BufReader::new(stream.take(LINE_BYTES_MAX)).read_line(&mut line).context("read a command")?;
        let words: Vec<_> = line.split_whitespace().collect();
        let text = self.obey(&words)?;
        writeln!(&mut &*stream, "{text}").context("answer")
    }

    fn obey(&mut self, words: &[&str]) -> Result<String> {
        match words {
            ["status"] => return Ok(self.status()),
            ["kill", name] => self.kill(name)?,
            ["start", name] => self.process(name)?.start()?,
            ["stop", name] => self.signal(name, Signal::STOP)?,
            ["cont", name] => self.signal(name, Signal::CONT)?,
            ["cut", host] | ["cut", host, "both"] => self.host(host)?.set_link(Link::CUT)?,
            ["cut", host, "in"] => self.host(host)?.set_link(Link::DEAF)?,
            ["cut", host, "out"] => self.host(host)?.set_link(Link::MUTE)?,
            ["lossy", host, percent] => {
                let lose = percent.parse().context("PERCENT is a number to 100")?;
                self.host(host)?.set_link(Link { lose_in: lose, lose_out: lose, bits_per_second: 0 })?;
            }
            ["slow", host, kilobits] => {
                let kilobits: u32 = kilobits.parse().context("KBIT is a number")?;
                let bits_per_second = kilobits.saturating_mul(1000);
                self.host(host)?.set_link(Link { bits_per_second, ..Link::default() })?;
            }
            ["heal", host] => self.host(host)?.set_link(Link::default())?,
            ["heal"] => {
                for host in self.cluster.network.hosts().iter().filter(|host| host.link() != Link::default())
                {
                    host.set_link(Link::default())?;
                }
            }
            ["wipe", name] => {
                let member = self.cluster.member(name).with_context(|| format!("no member {name:?}"))?;
                if member.daemon.pid().is_some() {
                    bail!("{name} runs: kill it first");
                }
                member.wipe()?;
            }
            ["traffic", "on"] => return Ok(self.start_traffic()),
            ["traffic", "off"] => return self.end_traffic(),
            _ => bail!("commands:\n{COMMANDS}"),
        }
        Ok("done".to_owned())
    }

    fn process(&self, name: &str) -> Result<&Arc<super::daemon::Daemon>> {
        let names = || self.cluster.all().map(|daemon| daemon.name()).collect::<Vec<_>>().join(", ");
        self.cluster.daemon(name).with_context(|| format!("no process {name:?}; there are {}", names()))
    }

    fn host(&self, name: &str) -> Result<&SharedHost> {
        let names = || {
            let hosts = self.cluster.network.hosts().iter();
            hosts.map(|host| host.name()).collect::<Vec<_>>().join(", ")
        };
        self.cluster.network.host(name).with_context(|| format!("no host {name:?}; there are {}", names()))
    }

    fn redis(&self, member: &str) -> Result<Pid> {
        let keeper = self.process(member)?.pid().with_context(|| format!("{member} does not run"))?;
        child_named(keeper, "redis-server").with_context(|| format!("{member} has no Redis at the moment"))
    }

    fn kill(&self, name: &str) -> Result<()> {
        match name.strip_suffix(REDIS_SUFFIX) {
            Some(member) => kill_process(self.redis(member)?, Signal::KILL).context("kill a Redis"),
            None => self.process(name)?.kill(false),
        }
    }

    fn signal(&self, name: &str, signal: Signal) -> Result<()> {
        match name.strip_suffix(REDIS_SUFFIX) {
            Some(member) => kill_process(self.redis(member)?, signal).context("signal a Redis"),
            None => self.process(name)?.signal(signal),
        }
    }

    fn status(&self) -> String {
        let mut lines = Vec::new();
        for (at, shard) in self.cluster.shards.iter().enumerate() {
            for (number, member) in shard.members.iter().enumerate() {
                let said = match self.watch.member(at, number) {
                    None => "does not answer".to_owned(),
                    Some(state) => format!(
                        "{}{} term {} in sync {} {}",
                        state.role,
                        if state.open { ", open," } else { "" },
                        state.term,
                        state.in_sync.len(),
                        state.waiting_for
                    ),
                };
                lines.push(format!("{}  {said}", self.line(&member.daemon)));
            }
        }
        let others = self.cluster.all().filter(|daemon| self.cluster.member(daemon.name()).is_none());
        lines.extend(others.map(|daemon| self.line(daemon)));
        if let Some((traffic, books)) = &self.traffic {
            let events: u64 = books.total().values().map(|total| total.count).sum();
            let state = if traffic.is_whole() { "flows" } else { "has ended by itself" };
            lines.push(format!("traffic {state}: {events} events acknowledged"));
        }
        lines.join("\n")
    }

    fn line(&self, daemon: &super::daemon::Daemon) -> String {
        let process = daemon.pid().map_or("down".to_owned(), |pid| format!("pid {}", pid.as_raw_nonzero()));
        let link = daemon.host().link();
        let link = if link == Link::default() { String::new() } else { format!("  {link:?}") };
        format!("{:<12}{:<16}{process:<10}{link}", daemon.name(), daemon.host().address().to_string())
    }

    fn start_traffic(&mut self) -> String {
        if self.traffic.is_some() {
            return "traffic flows already".to_owned();
        }
        let routes = Routes {
            frontends: RwLock::new(self.cluster.frontend_urls()),
            agents: self.cluster.agent_urls(),
        };
        let books = Arc::new(Books::new(self.cluster.timeline.start()));
        let timeline = &self.cluster.timeline;
        let traffic = Traffic::start(&self.cluster.apps, 1, &Arc::new(routes), &books, timeline);
        self.traffic = Some((traffic, books));
        "traffic flows".to_owned()
    }

    /// Compares only if this was the first traffic: the ledger of a lab begins with it.
    fn end_traffic(&mut self) -> Result<String> {
        let (traffic, books) = self.traffic.take().context("no traffic flows")?;
        traffic.finish(Duration::from_secs(30))?;
        let Difference { lost, doubled, lines } = verdict::compare(&self.cluster, &books.total())?;
        let events: u64 = books.total().values().map(|total| total.count).sum();
        Ok(format!("{events} events acknowledged, {lost} lost, {doubled} doubled\n{}", lines.join("\n")))
    }
}

/// The first page for a person.
fn page(cluster: &Cluster) -> String {
    let mut lines = vec!["a whole Taba runs:".to_owned()];
    for daemon in cluster.all().filter(|daemon| !cluster.is_spare(daemon)) {
        lines.push(format!("  {:<12}{}", daemon.name(), daemon.host().address()));
    }
    let frontend = url(&cluster.frontends[0], SERVER_PORT);
    let agent = cluster.agents.first().map(|agent| url(agent, AGENT_PORT)).unwrap_or_default();
    let lab = "cargo xtask lab";
    lines.push(format!(
        "next:\n  {lab} status\n  {lab} exec -- curl -s {frontend}/tabs\n  {lab} traffic on\n  {lab} kill s0-a\n\
         \x20 {lab} cut s0-b\n  {lab} heal\n  {lab} down\nfrontend {frontend}  agent {agent}\n\
         the addresses are inside the lab: run programs there with `{lab} exec -- PROGRAM`"
    ));
    lines.join("\n")
}
