//! The lab's network: a bridge, and a namespace with an address for each host.
//!
//! It expects to run in a sandbox, whose network and mount namespaces it fills; nothing outside is
//! touched, and there is no route out. The bridge has an address too, from which the lab watches: cuts
//! and losses spare it, so that a host that is cut off from all others can still be asked how it is.
//! Without namespaces, hosts are addresses of the loopback network.

use std::io::Write as _;
use std::net::Ipv4Addr;
use std::process::{Command, Stdio};
use std::sync::Arc;

use anyhow::{Context, Result, bail};

use super::host::Host;

/// Where the lab itself is in its network.
pub const OBSERVER: Ipv4Addr = Ipv4Addr::new(10, 77, 255, 254);

/// What separates hosts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Network namespaces.
    Namespaces,
    /// Addresses of the loopback network only.
    Loopback,
}

impl Mode {
    /// Its name on command lines.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Namespaces => "namespaces",
            Self::Loopback => "loopback",
        }
    }

    /// The mode of this name.
    ///
    /// # Errors
    /// If there is none.
    pub fn parse(name: &str) -> Result<Self> {
        match name {
            "namespaces" => Ok(Self::Namespaces),
            "loopback" => Ok(Self::Loopback),
            _ => bail!("no mode {name:?}; there are namespaces and loopback"),
        }
    }
}

/// A network of hosts.
#[derive(Debug)]
pub struct Network {
    mode: Mode,
    hosts: Vec<Arc<Host>>,
}

impl Network {
    /// A network without hosts.
    ///
    /// # Errors
    /// If the bridge cannot be made.
    pub fn new(mode: Mode) -> Result<Self> {
        if mode == Mode::Namespaces {
            // `ip netns` mounts namespaces below /run: give it a /run that only this sandbox sees.
            run("mount", &["-t", "tmpfs", "tmpfs", "/run"])?;
            batch(&format!(
                "link set lo up\nlink add lab0 type bridge\naddr add {OBSERVER}/16 dev lab0\nlink set lab0 up\n"
            ))?;
        }
        Ok(Self { mode, hosts: Vec::new() })
    }

    /// What separates its hosts.
    #[must_use]
    pub fn mode(&self) -> Mode {
        self.mode
    }

    /// Adds a host.
    ///
    /// # Errors
    /// If its namespace cannot be made.
    pub fn add_host(&mut self, name: &str) -> Result<Arc<Host>> {
        let index = u16::try_from(self.hosts.len() + 1).context("count the hosts")?;
        let [high, low] = index.to_be_bytes();
        let address = match self.mode {
            Mode::Namespaces => Ipv4Addr::new(10, 77, high, low),
            Mode::Loopback => Ipv4Addr::new(127, 77, high, low),
        };
        if self.mode == Mode::Namespaces {
            let alias = Host::alias_of(address);
            run("ip", &["netns", "add", name])?;
            batch(&format!(
                "link add veth{index} type veth peer name eth0 netns {name}\n\
                 link set veth{index} master lab0 up\n"
            ))?;
            batch_in(
                name,
                &format!(
                    "link set lo up\naddr add {address}/16 dev eth0\naddr add {alias}/16 dev eth0\n\
                     link set eth0 up\n"
                ),
            )?;
        }
        let host = Arc::new(Host::new(name, index, address, self.mode)?);
        self.hosts.push(Arc::clone(&host));
        Ok(host)
    }

    /// Its hosts.
    #[must_use]
    pub fn hosts(&self) -> &[Arc<Host>] {
        &self.hosts
    }

    /// The host of this name.
    #[must_use]
    pub fn host(&self, name: &str) -> Option<&Arc<Host>> {
        self.hosts.iter().find(|host| host.name() == name)
    }

    /// Makes every host and the bridge forget which link address belongs to which network address.
    ///
    /// # Errors
    /// If `ip` fails.
    pub fn forget_neighbours(&self) -> Result<()> {
        run("ip", &["neigh", "flush", "all"])?;
        self.hosts.iter().try_for_each(|host| run("ip", &["-n", host.name(), "neigh", "flush", "all"]))
    }
}

/// Runs a program of the system to its end.
///
/// # Errors
/// With what it said, if it fails.
pub fn run(program: &str, arguments: &[&str]) -> Result<()> {
    let output = Command::new(program).args(arguments).stdin(Stdio::null()).output();
    let output = output.with_context(|| format!("run {program}"))?;
    if !output.status.success() {
        bail!("{program} {}: {}", arguments.join(" "), String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(())
}

/// Runs a program of the system with `input` to its end.
///
/// # Errors
/// With what it said, if it fails.
pub fn feed(command: &mut Command, input: &str) -> Result<()> {
    let program = command.get_program().to_string_lossy().into_owned();
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("run {program}"))?;
    let mut stdin = child.stdin.take().context("standard input is piped")?;
    stdin.write_all(input.as_bytes()).with_context(|| format!("write to {program}"))?;
    drop(stdin);
    let output = child.wait_with_output().with_context(|| format!("wait for {program}"))?;
    if !output.status.success() {
        bail!("{program}: {}: {}", input.trim(), String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(())
}

fn batch(commands: &str) -> Result<()> {
    feed(Command::new("ip").args(["-batch", "-"]), commands)
}

fn batch_in(name: &str, commands: &str) -> Result<()> {
    feed(Command::new("ip").args(["-n", name, "-batch", "-"]), commands)
}
