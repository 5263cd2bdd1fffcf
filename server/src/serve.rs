//! A server process: `taba standalone` on the embedded store, `taba server` on Redis shards.
//!
//! Start goes bottom up (address, store, pipeline, HTTP), so that every error is met before the first
//! request is. Stop goes top down: no new connections, open requests finish, what was accepted is
//! applied and committed. One bound covers all of it; at the bound the process ends anyway, because
//! whatever was acknowledged is stored and is applied at the next start or by another backend.

mod cluster;
mod limit;
mod listen;
mod signals;
mod standalone;

use std::io::Write as _;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::thread::available_parallelism;
use std::time::Duration;

use prometheus_client::registry::Registry;
use tokio::net::TcpListener;
use tokio::runtime::{Builder, Runtime};
use tokio::sync::watch;
use tokio::time::{Instant, timeout_at};
use tracing::{info, warn};

pub(crate) use self::limit::raise_open_files;

use self::listen::ListenFile;
use self::signals::Signals;
use crate::config::{Config, Roles, ServerConfig};
use crate::http::{self, App, AppConfig};
use crate::pipeline::Pipeline;
use crate::store::embedded::OpenError;

/// Niceness of the threads that fold, apply and commit: a third of the share of others when all are busy.
const WORK_NICENESS: i32 = 5;

/// Where a server process keeps what it acknowledges.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// In a folder on this machine; the process has every role.
    Standalone,
    /// In Redis shards that it shares with other servers.
    Cluster,
}

/// Why a server did not start, or did not stop in time.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The runtime's threads.
    #[error("start worker threads")]
    StartThreads(#[source] std::io::Error),
    /// The signals that stop the server.
    #[error("catch signals")]
    CatchSignals(#[source] std::io::Error),
    /// The address.
    #[error("listen on {address}{hint}")]
    Listen {
        /// The address that was asked for.
        address: String,
        /// What to do about it, as words to append.
        hint: &'static str,
        /// The cause.
        source: std::io::Error,
    },
    /// The store.
    #[error("open data folder {}", data.display())]
    OpenStore {
        /// The folder.
        data: PathBuf,
        /// The cause.
        source: OpenError,
    },
    /// The Redis shards.
    #[error("use Redis shards: {0}")]
    Shards(String),
    /// A file that holds a password.
    #[error("read {}", path.display())]
    ReadPassword {
        /// The file.
        path: PathBuf,
        /// The cause.
        source: std::io::Error,
    },
    /// The file that tells scripts the address.
    #[error("write the address to {}", path.display())]
    WriteListenFile {
        /// The file.
        path: PathBuf,
        /// The cause.
        source: std::io::Error,
    },
    /// Stopping took too long.
    #[error(
        "stopping took longer than drain_timeout, {} s; what is not applied yet is stored and will be \
         applied later",
        .limit.as_secs_f64()
    )]
    Drain {
        /// The bound.
        limit: Duration,
    },
}

/// Runs until a signal stops it.
///
/// # Errors
/// [`ServeError`].
pub fn run(config: &Config, mode: Mode) -> Result<(), ServeError> {
    raise_open_files();
    let start_threads =
        |threads: Threads| threads.start(config.server.worker_threads).map_err(ServeError::StartThreads);
    let (answering, work) = (start_threads(Threads::Answering)?, start_threads(Threads::Working)?);
    let outcome = answering.block_on(serve(config, mode, &work));
    // Only work that nobody waits for any more can be left on the threads.
    answering.shutdown_background();
    work.shutdown_background();
    outcome
}

/// Two sets of threads: a query is short and somebody waits for it, folding and committing take long.
/// The second set steps back for the first, so that under full load an answer still takes milliseconds.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Threads {
    /// Connections and queries.
    Answering,
    /// Folding posts, applying queues, committing states.
    Working,
}

impl Threads {
    /// A runtime with this many threads; 0 means one per core.
    fn start(self, wanted: usize) -> std::io::Result<Runtime> {
        let threads = if wanted > 0 { wanted } else { available_parallelism()?.get() };
        let mut builder = Builder::new_multi_thread();
        match self {
            Self::Answering => builder.thread_name("taba"),
            Self::Working => builder.thread_name("taba-work").on_thread_start(step_back),
        };
        builder.worker_threads(threads).enable_all().build()
    }
}

/// Gives the calling thread a lower priority. Where that is not allowed queries only take longer.
fn step_back() {
    let _ = rustix::process::setpriority_process(None, WORK_NICENESS);
}

async fn serve(config: &Config, mode: Mode, work: &Runtime) -> Result<(), ServeError> {
    let signals = Signals::catch().map_err(ServeError::CatchSignals)?;
    let (listener, address) = listen::bind(&config.server.listen).await?;
    let (pipeline, app) = {
        let _on_work_threads = work.enter();
        start(mode, config, address)?
    };

    let (stop, stopping) = watch::channel(false);
    // Half of the time for requests under way leaves the other half for what they brought.
    let grace = config.server.drain_timeout / 2;
    let http = tokio::spawn(accept(listener, app, stopping, grace));
    let _listen_file = announce(mode, &config.server, address)?;

    signals.first().await;
    let deadline = Instant::now() + config.server.drain_timeout;
    stop.send_replace(true);
    let drained = async {
        if let Err(error) = http.await {
            warn!(%error, "serving ended badly");
        }
        pipeline.drain().await;
    };
    match timeout_at(deadline, drained).await {
        Ok(()) => info!("stopped; everything accepted is applied"),
        Err(_) => return Err(ServeError::Drain { limit: config.server.drain_timeout }),
    }
    Ok(())
}

/// A store, whoever is who in it, and what works on it.
struct Backing {
    pipeline: Arc<Pipeline>,
    roles: Roles,
    registry: Registry,
}

impl Mode {
    fn start(self, config: &Config, address: SocketAddr) -> Result<Backing, ServeError> {
        match self {
            Self::Standalone => standalone::start(config),
            Self::Cluster => cluster::start(config, address),
        }
    }
}

/// Opens the store and starts what works on it.
fn start(mode: Mode, config: &Config, address: SocketAddr) -> Result<(Arc<Pipeline>, Arc<App>), ServeError> {
    let Backing { pipeline, roles, registry } = mode.start(config, address)?;
    let app_config = AppConfig {
        limits: config.limits.clone(),
        admin_token: config.server.admin_token.as_ref().map(|token| token.expose().to_owned()),
        server_name: server_name(address),
        roles: roles.short_names(),
        backend: roles.backend,
    };
    let app = App::new(Arc::clone(&pipeline), app_config, registry);
    Ok((pipeline, app))
}

fn server_name(address: SocketAddr) -> String {
    let uname = rustix::system::uname();
    format!("taba_server.{}.{}", uname.nodename().to_string_lossy(), address.port())
}

async fn accept(listener: TcpListener, app: Arc<App>, stopping: watch::Receiver<bool>, grace: Duration) {
    let cut = http::serve(listener, app, stopping, grace).await;
    if cut > 0 {
        warn!(connections = cut, "connections cut; their requests are not acknowledged");
    }
}

/// Tells people and scripts where the server is.
fn announce(
    mode: Mode,
    server: &ServerConfig,
    address: SocketAddr,
) -> Result<Option<ListenFile>, ServeError> {
    info!(%address, "listening");
    let greeting = match mode {
        Mode::Standalone => standalone::greeting(address, &server.data),
        Mode::Cluster => cluster::greeting(address, server),
    };
    // Nobody reading standard output is no reason not to serve.
    let _ = std::io::stdout().write_all(greeting.as_bytes());
    server.listen_file.as_deref().map(|path| ListenFile::write(path, address)).transpose()
}
