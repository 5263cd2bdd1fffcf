//! A host of the lab: a name, an address, a namespace, and what its link does to packets.
//!
//! A thread that enters a host's namespace opens its sockets there for as long as it lives; a process
//! that such a thread starts lives there too. The lab's own threads stay outside and see every host
//! through the bridge.

use std::fs::File;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::os::fd::AsFd as _;
use std::process::{Child, Command};
use std::sync::Mutex;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::sync::{Arc, OnceLock};

use anyhow::{Context, Result, bail};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use super::net::{self, Mode, OBSERVER};

/// Where a Redis listens.
pub const REDIS_PORT: u16 = 6379;
/// Where a keeper listens.
pub const KEEPER_PORT: u16 = 8400;
/// Where a Sentinel listens.
pub const SENTINEL_PORT: u16 = 26_379;
/// Where a server listens.
pub const SERVER_PORT: u16 = 8300;
/// Where an agent listens.
pub const AGENT_PORT: u16 = 8279;

/// Which packets of a host are dropped.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Link {
    /// Of those that come in, how many in a hundred.
    pub lose_in: u8,
    /// Of those that go out, how many in a hundred.
    pub lose_out: u8,
    /// Bits per second each way; 0 for as fast as it gets.
    pub bits_per_second: u32,
}

impl Link {
    /// Neither comes anything in nor goes anything out.
    pub const CUT: Self = Self { lose_in: 100, lose_out: 100, bits_per_second: 0 };
    /// Nothing comes in.
    pub const DEAF: Self = Self { lose_in: 100, lose_out: 0, bits_per_second: 0 };
    /// Nothing goes out.
    pub const MUTE: Self = Self { lose_in: 0, lose_out: 100, bits_per_second: 0 };
}

/// A host.
#[derive(Debug)]
pub struct Host {
    name: String,
    index: u16,
    address: Ipv4Addr,
    namespace: Option<File>,
    link: Mutex<Link>,
}

impl Host {
    /// A host whose namespace, if any, was made by `ip netns add`.
    ///
    /// # Errors
    /// If its namespace cannot be opened.
    pub fn new(name: &str, index: u16, address: Ipv4Addr, mode: Mode) -> Result<Self> {
        let namespace = match mode {
            Mode::Loopback => None,
            Mode::Namespaces => Some(File::open(format!("/run/netns/{name}")).context("open a namespace")?),
        };
        Ok(Self { name: name.to_owned(), index, address, namespace, link: Mutex::default() })
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its address.
    #[must_use]
    pub fn address(&self) -> Ipv4Addr {
        self.address
    }

    /// A second address of a host, from which only taps connect.
    #[must_use]
    pub fn alias_of(address: Ipv4Addr) -> Ipv4Addr {
        let [a, b, c, d] = address.octets();
        Ipv4Addr::new(a, b, c | 0x80, d)
    }

    /// Its address with the port of a service. On loopback some programs listen on all addresses, so
    /// there every host has ports of its own.
    #[must_use]
    pub fn socket(&self, port: u16) -> SocketAddrV4 {
        let port = if self.namespace.is_some() { port } else { loopback_port(self.index, port) };
        SocketAddrV4::new(self.address, port)
    }

    /// Moves the calling thread into this host for the rest of its life.
    ///
    /// # Errors
    /// If the kernel refuses.
    pub fn enter(&self) -> Result<()> {
        match &self.namespace {
            None => Ok(()),
            Some(namespace) => move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network))
                .with_context(|| format!("enter {}", self.name)),
        }
    }

    /// Runs something inside this host.
    ///
    /// # Errors
    /// If the host cannot be entered, or what `work` gives.
    pub fn inside<T: Send>(&self, work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
        std::thread::scope(|scope| {
            let inside = scope.spawn(|| {
                self.enter()?;
                work()
            });
            inside.join().unwrap_or_else(|_| bail!("a thread inside {} panicked", self.name))
        })
    }

    /// Starts a process inside this host that dies with the lab.
    ///
    /// # Errors
    /// If it cannot be started.
    pub fn spawn(&self, mut command: Command) -> Result<Child> {
        if self.namespace.is_some() {
            // The sandbox's first process ends: the kernel kills all others.
            return self.inside(|| Ok(command.spawn()?));
        }
        spawn_lasting(command)
    }

    /// What its link does to packets at the moment.
    #[must_use]
    pub fn link(&self) -> Link {
        *self.link.lock().expect("no holder of this lock panics")
    }

    /// Changes what its link does to packets.
    ///
    /// # Errors
    /// Without namespaces, or if the kernel refuses.
    pub fn set_link(&self, link: Link) -> Result<()> {
        if self.namespace.is_none() {
            bail!("links cannot be changed on loopback");
        }
        let mut held = self.link.lock().expect("no holder of this lock panics");
        let rules = rules(link);
        self.inside(|| net::feed(Command::new("nft").args(["-f", "-"]), &rules))?;
        if link.bits_per_second != held.bits_per_second {
            self.set_speed(link.bits_per_second)?;
        }
        *held = link;
        Ok(())
    }

    fn set_speed(&self, bits_per_second: u32) -> Result<()> {
        let outside = format!("veth{}", self.index);
        let (inside_end, outside_end): (&[&str], &[&str]) = (&["-n", &self.name, "qdisc"], &["qdisc"]);
        for (start, device) in [(inside_end, "eth0"), (outside_end, outside.as_str())] {
            let rate = format!("{bits_per_second}bit");
            let change: &[&str] = match bits_per_second {
                0 => &["del", "dev", device, "root"],
                // Half a second of queue, as a cheap router has it.
                _ => &[
                    "replace", "dev", device, "root", "tbf", "rate", &rate, "burst", "16kb", "latency",
                    "500ms",
                ],
            };
            net::run("tc", &[start, change].concat())?;
        }
        Ok(())
    }

    /// Takes an address away from this host.
    ///
    /// # Errors
    /// If `ip` fails.
    pub fn remove_address(&self, address: Ipv4Addr) -> Result<()> {
        net::run("ip", &["-n", &self.name, "addr", "del", &format!("{address}/16"), "dev", "eth0"])
    }

    /// Gives this host a further address.
    ///
    /// # Errors
    /// If `ip` fails.
    pub fn add_address(&self, address: Ipv4Addr) -> Result<()> {
        net::run("ip", &["-n", &self.name, "addr", "add", &format!("{address}/16"), "dev", "eth0"])
    }
}

/// The packet filter of a host, replaced as a whole. The lab's own packets pass.
fn rules(link: Link) -> String {
    let lose = |percent: u8| match percent {
        0 => String::new(),
        100.. => "drop".to_owned(),
        percent => format!("numgen random mod 100 < {percent} drop"),
    };
    format!(
        "table inet lab\ndelete table inet lab\ntable inet lab {{\n\
         chain in {{ type filter hook input priority 0; iif lo accept\n ip saddr {OBSERVER} accept\n {}\n }}\n\
         chain out {{ type filter hook output priority 0; oif lo accept\n ip daddr {OBSERVER} accept\n {}\n }}\n}}\n",
        lose(link.lose_in),
        lose(link.lose_out),
    )
}

/// A port below the ephemeral ones that differs between hosts and services, and mostly between labs.
fn loopback_port(index: u16, port: u16) -> u16 {
    let lab = u16::try_from(std::process::id() % 100).unwrap_or(0);
    let service = match port {
        REDIS_PORT => 0,
        KEEPER_PORT => 1,
        SENTINEL_PORT => 2,
        _ => 3,
    };
    10_000 + lab * 200 + index * 4 + service
}

type Job = (Command, SyncSender<std::io::Result<Child>>);

/// Starts a process that dies with this one, by `setpriv --pdeathsig`. The kernel ties that to the life of
/// the *thread* that starts it, so one thread that never ends starts them all.
fn spawn_lasting(command: Command) -> Result<Child> {
    static SPAWNER: OnceLock<SyncSender<Job>> = OnceLock::new();
    let spawner = SPAWNER.get_or_init(|| {
        let (jobs, work) = sync_channel::<Job>(16);
        std::thread::spawn(move || {
            for (mut command, answer) in work {
                let _ = answer.send(command.spawn());
            }
        });
        jobs
    });
    let (answer, child) = sync_channel(1);
    spawner.send((command, answer)).context("reach the spawner")?;
    child.recv().context("hear from the spawner")?.context("start a process")
}

/// Hosts are shared by threads.
pub type SharedHost = Arc<Host>;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cut_drops_everything_but_the_observers_packets() {
        let rules = rules(Link::CUT);
        assert_eq!(rules.matches("drop").count(), 2);
        assert_eq!(rules.matches(&format!("{OBSERVER} accept")).count(), 2);
    }

    #[test]
    fn a_one_way_cut_drops_one_way() {
        assert_eq!(rules(Link::DEAF).matches("drop").count(), 1);
        assert!(rules(Link { lose_out: 7, ..Link::default() }).contains("mod 100 < 7 drop"));
    }

    #[test]
    fn loopback_ports_differ_between_services_and_hosts() {
        let ports = |index| {
            [REDIS_PORT, KEEPER_PORT, SENTINEL_PORT, SERVER_PORT].map(|port| loopback_port(index, port))
        };
        let mut all: Vec<_> = (1..40).flat_map(ports).collect();
        let count = all.len();
        all.sort_unstable();
        all.dedup();
        assert_eq!(all.len(), count);
    }
}
