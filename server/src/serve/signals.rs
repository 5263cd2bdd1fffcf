//! The signals that stop a server: the first asks it to, the second makes it.

use std::io;
use std::process;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tracing::{info, warn};

/// Exit status after a second signal, as shells report a program ended by SIGINT.
const FORCED_EXIT_STATUS: i32 = 130;

/// SIGTERM and SIGINT, caught from when this is made.
pub(super) struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    pub(super) fn catch() -> io::Result<Self> {
        Ok(Self { terminate: signal(SignalKind::terminate())?, interrupt: signal(SignalKind::interrupt())? })
    }

    /// Waits for the first signal. From then on a second one ends the process at once.
    pub(super) async fn first(mut self) {
        let name = self.next().await;
        info!(signal = name, "stopping; a second signal stops at once");
        tokio::spawn(async move {
            let name = self.next().await;
            warn!(signal = name, "stopped at once; what is not applied yet is on disk");
            process::exit(FORCED_EXIT_STATUS);
        });
    }

    async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
        }
    }
}
