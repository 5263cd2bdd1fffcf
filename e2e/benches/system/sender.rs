//! The sender: a process of its own, so that its cost and the server's stay apart.

use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result, bail};
use taba_e2e::load::{Plan, Sent};

/// Runs as the sender process: sends, then prints what was sent.
#[allow(clippy::print_stdout, reason = "the parent reads it")]
pub fn run(address: &str, numbers: &str) -> Result<()> {
    let sent = Plan::from_arguments(address, numbers)?.run()?;
    println!("{} {} {}", sent.events, sent.refused, sent.seconds);
    Ok(())
}

/// A running sender process.
pub struct Sender(Child);

impl Sender {
    /// Starts a process that carries out a plan.
    pub fn start(plan: &Plan) -> Result<Self> {
        let this = std::env::current_exe().context("find this program")?;
        let child = Command::new(this).args(plan.to_arguments()).stdout(Stdio::piped()).spawn();
        Ok(Self(child.context("start the sender")?))
    }

    /// Ends it before its time.
    pub fn stop(mut self) -> Result<()> {
        self.0.kill().context("stop the sender")?;
        self.0.wait().context("wait for the sender")?;
        Ok(())
    }

    /// Waits until it is done.
    pub fn finish(self) -> Result<Sent> {
        let output = self.0.wait_with_output().context("wait for the sender")?;
        if !output.status.success() {
            bail!("the sender failed");
        }
        let text = String::from_utf8(output.stdout).context("read what was sent")?;
        let [events, refused, seconds] = text.split_whitespace().collect::<Vec<_>>()[..] else {
            bail!("the sender printed {text:?}");
        };
        Ok(Sent { events: events.parse()?, refused: refused.parse()?, seconds: seconds.parse()? })
    }
}
