//! The agent: the event forwarder on an application host.
//!
//! ```text
//! program ──v1──▶ http ──▶ intake ──(spool)──▶ gather ──seal──▶ delivery ──v2──▶ servers
//! client  ──v2──▶ http ──▶ intake ──(spool)───────────────────▶ delivery ──v2──▶
//! ```
//!
//! A 200 means the events are this agent's to deliver: in memory, or with a spool in files that survive
//! `kill -9`. Each batch has an id and is sent until a server acknowledges it, so with servers of this
//! Taba every event counts exactly once; servers of the first Taba (`--server-protocol v1`) know no ids,
//! so there it is at least once. Nothing is dropped in silence: what cannot be held gets 503.

pub mod config;
pub mod gather;
pub mod http;
pub mod intake;
pub mod metrics;
pub mod outgoing;
pub mod settings;
pub mod spool;
pub mod status;

use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use taba_client::delivery::{Delivery, Load};
use taba_core::BatchId;
use tokio::net::TcpListener;
use tokio::runtime::Builder;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tracing::{error, info, warn};

pub use self::config::{AgentArgs, AgentConfig, BadConfig};

use self::http::{App, PostLimits};
use self::intake::Intake;
use self::spool::{Spool, SpoolError};
use crate::clock;
use crate::http::connection;

/// How long open requests may take once the agent stops; programs post small bodies.
const REQUESTS_WAIT: Duration = Duration::from_secs(5);

/// Folding small posts is little work; an agent must not crowd out what it measures.
const WORKER_THREADS: usize = 2;

/// Why an agent does not run.
#[derive(Debug, thiserror::Error)]
pub enum AgentError {
    /// Its settings cannot be used.
    #[error("agent settings cannot be used")]
    Config(#[source] BadConfig),
    /// Its spool cannot be used.
    #[error("agent spool cannot be used")]
    Spool(#[source] SpoolError),
    /// Its address cannot be listened on.
    #[error("cannot listen on {address}")]
    Listen {
        /// Which address.
        address: SocketAddr,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The operating system refuses a thread or a signal handler.
    #[error("cannot {what}")]
    System {
        /// What was tried.
        what: &'static str,
        /// Why.
        #[source]
        source: io::Error,
    },
}

/// A running agent.
pub struct Agent {
    address: SocketAddr,
    intake: Arc<Intake>,
    app: Arc<App>,
    stop: watch::Sender<bool>,
    /// Ends with how many connections had to be cut.
    server: tokio::task::JoinHandle<usize>,
    flusher: Option<JoinHandle<()>>,
    drain_wait: Duration,
}

/// Runs an agent until SIGTERM or SIGINT, then drains it.
///
/// # Errors
/// [`AgentError`] if it cannot start.
pub fn run(args: &AgentArgs) -> Result<(), AgentError> {
    let config = AgentConfig::from_args(args).map_err(AgentError::Config)?;
    let mut threads = Builder::new_multi_thread();
    let runtime = threads.worker_threads(WORKER_THREADS).thread_name("taba").enable_all().build();
    let runtime = runtime.map_err(system("start worker threads"))?;
    runtime.block_on(run_until_signal(config, args.listen_file.as_deref()))
}

async fn run_until_signal(config: AgentConfig, listen_file: Option<&Path>) -> Result<(), AgentError> {
    let mut terminate = signal(SignalKind::terminate()).map_err(system("handle SIGTERM"))?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(system("handle SIGINT"))?;
    let agent = Agent::start(config).await?;
    if let Some(path) = listen_file {
        write_address(path, agent.address()).map_err(system("write the address file"))?;
    }
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    info!("agent is stopping");
    agent.drain().await;
    Ok(())
}

fn system(what: &'static str) -> impl FnOnce(io::Error) -> AgentError {
    move |source| AgentError::System { what, source }
}

/// In one step: who sees the file sees all of the address.
fn write_address(path: &Path, address: SocketAddr) -> io::Result<()> {
    let unfinished = path.with_extension("tmp");
    std::fs::write(&unfinished, format!("{address}\n"))?;
    std::fs::rename(&unfinished, path)
}

impl Agent {
    /// Starts an agent. When this returns it listens.
    ///
    /// # Errors
    /// [`AgentError`].
    pub async fn start(config: AgentConfig) -> Result<Self, AgentError> {
        let listener = TcpListener::bind(config.listen).await;
        let listen_error = |source| AgentError::Listen { address: config.listen, source };
        let listener = listener.map_err(listen_error)?;
        let address = listener.local_addr().map_err(listen_error)?;
        let intake = Arc::new(start_intake(&config)?);
        let flusher = start_flusher(&intake, config.flush_every)?;
        let app = App::new(Arc::clone(&intake), PostLimits::default());
        let (stop, mut stopping) = watch::channel(false);
        let stopped = async move {
            // An error means that the agent was dropped, which ends the server as well.
            let _ = stopping.wait_for(|stop| *stop).await;
        };
        let (router, metrics) = (Arc::clone(&app).router(), app.connections());
        let grace = REQUESTS_WAIT.min(config.drain_wait);
        let server = connection::serve(listener, router, config.connections, metrics, stopped, grace);
        let server = tokio::spawn(server);
        info!(%address, servers = ?config.delivery.endpoints, protocol = ?config.protocol,
            spool = ?config.spool.as_ref().map(|spool| &spool.dir), "agent is listening");
        Ok(Self { address, intake, app, stop, server, flusher, drain_wait: config.drain_wait })
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Stops taking posts and delivers what was taken in, as far as the time for it allows. Returns what
    /// is left; a spool keeps that for the next run.
    pub async fn drain(self) -> Load {
        let deadline = Instant::now() + self.drain_wait;
        self.app.begin_draining();
        self.stop.send_replace(true);
        match self.server.await {
            Ok(0) => {}
            Ok(connections) => warn!(connections, "connections cut; their requests are not acknowledged"),
            Err(error) => warn!(%error, "serving ended badly"),
        }
        self.intake.stop();
        let (intake, flusher) = (self.intake, self.flusher);
        let drained = tokio::task::spawn_blocking(move || drain(&intake, flusher, deadline)).await;
        drained.unwrap_or_default()
    }
}

fn drain(intake: &Intake, flusher: Option<JoinHandle<()>>, deadline: Instant) -> Load {
    if flusher.is_some_and(|flusher| flusher.join().is_err()) {
        error!("the flush thread broke; events it held are lost unless there is a spool");
    }
    intake.delivery.drain(deadline);
    intake.delivery.stop();
    let left = intake.delivery.load();
    match (&intake.spool, left.batches) {
        (_, 0) => info!("agent delivered everything"),
        (Some(_), batches) => info!(batches, events = left.events, "batches stay in the spool"),
        (None, batches) => error!(batches, events = left.events, "batches were not delivered in time; lost"),
    }
    left
}

fn start_intake(config: &AgentConfig) -> Result<Intake, AgentError> {
    let producer = taba_client::new_producer(&host_name());
    let mut sequence = 0;
    let next_id = || {
        sequence += 1;
        BatchId { producer: producer.clone(), sequence }
    };
    let opened =
        config.spool.as_ref().map(|spool| Spool::open(spool, config.protocol, clock::now(), next_id));
    let (spool, leftover) = match opened.transpose().map_err(AgentError::Spool)? {
        Some((spool, leftover)) => (Some(Arc::new(spool)), leftover),
        None => (None, Vec::new()),
    };
    let forget_in = spool.clone();
    let delivery = Delivery::start(config.delivery.clone(), move |batch, _| {
        if let Some(spool) = &forget_in {
            spool.forget(batch);
        }
    });
    let delivery = delivery.map_err(system("start a sender"))?;
    for batch in leftover {
        if delivery.offer(batch).is_err() {
            warn!("more batches in the spool than are sent in one run; the others wait for the next");
            break;
        }
    }
    let intake = Intake::new(config.protocol, config.buffer_bytes_max, producer, Arc::new(delivery), spool);
    intake.continue_after(sequence);
    Ok(intake)
}

fn start_flusher(
    intake: &Arc<Intake>,
    flush_every: Option<Duration>,
) -> Result<Option<JoinHandle<()>>, AgentError> {
    let Some(flush_every) = flush_every else { return Ok(None) };
    let intake = Arc::clone(intake);
    let spawned =
        std::thread::Builder::new().name("taba-flush".into()).spawn(move || intake.run(flush_every));
    let flusher = spawned.map_err(system("start the flush thread"))?;
    Ok(Some(flusher))
}

/// The producer's name is for people who read logs; the random part after it makes it unique.
fn host_name() -> String {
    let name = rustix::system::uname().nodename().to_string_lossy().into_owned();
    format!("taba_agent.{name}")
}
