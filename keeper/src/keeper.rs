//! The shell: one task looks at the own Redis ten times a second and lets the rules decide, others ask
//! Sentinels and keepers, renew the gate, and run elections and handovers.
//!
//! ```text
//! sentinels ─┐                           ┌─▶ own Redis (fence, priority, user to follow with, in-sync set)
//! keepers ───┼─▶ tick: look, decide, do ─┼─▶ elect: promise, ask for votes, open
//! own Redis ─┘                           └─▶ follow
//! ```
//!
//! `Core` is what must change as a whole. Its lock is held for the commands to the own Redis that belong
//! to one step, never while another host is waited for.

mod core;
mod elect;
mod follow;
mod found;
mod gate;
mod handover;
mod in_sync;
mod open;
mod polls;
mod sync;
mod tick;
mod vote;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use parking_lot::RwLock;
use thiserror::Error;
use tokio::sync::{Mutex, MutexGuard};

use crate::api::StateAnswer;
use crate::config::Config;
use crate::decide::Millis;
use crate::disk::{Disk, DiskError};
use crate::metrics::Metrics;
use crate::peers::Peers;
use crate::redis::local::{Local, LocalError};
use crate::redis::process::{Process, ProcessError};
use crate::sentinel::Sentinels;

use self::core::Core;
use self::polls::View;

/// The loop is taken for stuck after so long without a tick.
const STUCK_MS: Millis = 10_000;

/// How long a Redis may take to stop: it waits for replicas for 10 s and then writes out its file.
const STOP_PATIENCE: Duration = Duration::from_secs(20);

/// The keeper cannot start.
#[derive(Debug, Error)]
pub enum StartError {
    /// The notes.
    #[error("open the data folder")]
    Disk(#[source] DiskError),
    /// Redis.
    #[error("start redis")]
    Redis(#[source] ProcessError),
    /// An address.
    #[error("use an address for redis or sentinel")]
    Address(#[source] ::redis::RedisError),
}

/// The keeper will not do, or cannot do, what was asked.
#[derive(Debug, Error)]
pub enum KeeperError {
    /// Not in this state.
    #[error("{0}")]
    Conflict(String),
    /// Something that may work later does not work.
    #[error("{0}")]
    Unavailable(String),
    /// The own Redis did not do its part.
    #[error("own redis: {}: {}", .0, .0.source)]
    Local(#[from] LocalError),
    /// The notes cannot be written.
    #[error("{}: {}", .0, std::error::Error::source(.0).map(ToString::to_string).unwrap_or_default())]
    Disk(#[from] DiskError),
}

/// The keeper.
pub struct Keeper {
    /// How it was started.
    pub config: Config,
    /// What it counts.
    pub metrics: Metrics,
    local: Local,
    process: Process,
    sentinels: Sentinels,
    peers: Peers,
    core: Mutex<Core>,
    view: RwLock<View>,
    seen: RwLock<StateAnswer>,
    started: Instant,
    ticked: AtomicU64,
    /// A handover or a founding is under way.
    moving: Mutex<()>,
    electing: AtomicBool,
    following: AtomicBool,
    stopping: AtomicBool,
}

impl Keeper {
    /// Starts Redis and everything that watches it.
    pub fn start(config: Config) -> Result<Arc<Self>, StartError> {
        let disk = Disk::open(&config.data).map_err(StartError::Disk)?;
        let core = Core::new(disk);
        let keeper = Arc::new(Self {
            local: Local::new(&config).map_err(StartError::Address)?,
            sentinels: Sentinels::new(&config).map_err(StartError::Address)?,
            peers: Peers::new(&config),
            process: Process::start(&config).map_err(StartError::Redis)?,
            seen: RwLock::new(core.state(&config)),
            core: Mutex::new(core),
            view: RwLock::default(),
            started: Instant::now(),
            ticked: AtomicU64::new(0),
            moving: Mutex::new(()),
            electing: AtomicBool::new(false),
            following: AtomicBool::new(false),
            stopping: AtomicBool::new(false),
            metrics: Metrics::new(),
            config,
        });
        tokio::spawn(Arc::clone(&keeper).tick_forever());
        tokio::spawn(Arc::clone(&keeper).renew_gate_forever());
        tokio::spawn(Arc::clone(&keeper).poll_sentinels_forever());
        tokio::spawn(Arc::clone(&keeper).poll_peers_forever());
        tokio::spawn(Arc::clone(&keeper).watch_process());
        if keeper.config.syncs_in_the_background() {
            tokio::spawn(Arc::clone(&keeper).sync_forever());
        }
        Ok(keeper)
    }

    /// What this member last saw of itself.
    #[must_use]
    pub fn state(&self) -> StateAnswer {
        self.seen.read().clone()
    }

    /// The loop makes progress.
    #[must_use]
    pub fn is_live(&self) -> bool {
        self.now().saturating_sub(self.ticked.load(Ordering::Relaxed)) < STUCK_MS
    }

    /// This member does its part: it takes writes, or its copy counts.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        let state = self.seen.read();
        let in_sync = state.link_up && state.settled && state.in_sync.contains(&state.address);
        self.is_live()
            && state.redis_alive
            && !self.stopping.load(Ordering::Relaxed)
            && (state.open || in_sync)
    }

    /// Ready, with every member in sync: nobody waits to be taken in.
    fn is_whole(&self) -> bool {
        self.is_ready() && self.seen.read().in_sync.len() == self.config.members.len()
    }

    /// Hands over or leaves, then stops Redis.
    pub async fn stop(self: &Arc<Self>) {
        self.stopping.store(true, Ordering::Relaxed);
        let is_open = {
            let mut core = self.core().await;
            core.leaving = true;
            self.publish(&core);
            core.open.is_some()
        };
        if is_open && self.config.members.len() > 1 {
            match self.hand_over_at_stop().await {
                Ok(answer) => tracing::info!(primary = answer.primary, gap_ms = answer.gap_ms, "handed over"),
                Err(error) => tracing::warn!(%error, "stopped without a handover"),
            }
        } else {
            self.leave_everywhere().await;
        }
        self.process.stop(STOP_PATIENCE).await;
    }

    fn now(&self) -> Millis {
        self.started.elapsed().as_millis() as Millis
    }

    /// Publishes what `core` says.
    fn publish(&self, core: &Core) {
        let state = core.state(&self.config);
        self.metrics.observe(&state, core.observed.as_ref());
        *self.seen.write() = state;
    }

    async fn core(&self) -> MutexGuard<'_, Core> {
        self.core.lock().await
    }
}
