//! `taba standalone`: the whole of Taba in one process, on the embedded store.
//!
//! Start goes bottom up (address, store, pipeline, HTTP), so that every error is met before the first
//! request is. Stop goes top down: no new connections, open requests finish, what was accepted is
//! applied and committed. One bound covers all of it; at the bound the process ends anyway, because
//! whatever was acknowledged is on disk and is applied at the next start.

mod limit;
mod listen;
mod signals;

use std::io::Write as _;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
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
use crate::config::{Config, ServerConfig, StoreConfig};
use crate::http::{self, App, AppConfig};
use crate::pipeline::Pipeline;
use crate::pipeline::metrics::PipelineMetrics;
use crate::store::embedded::{Embedded, EmbeddedOptions, OpenError};

/// Name under which a standalone server owns vbuckets. The lock of the data folder makes sure that no
/// second process goes by it.
const OWNER: &str = "standalone";
/// Niceness of the threads that fold, apply and commit: a third of the share of others when all are busy.
const WORK_NICENESS: i32 = 5;
/// The part of the disk that is left free for states at the most: a small disk must still take data.
const DISK_RESERVE_SHARE: u64 = 8;

/// Why a standalone server did not start, or did not stop in time.
#[derive(Debug, thiserror::Error)]
pub enum StandaloneError {
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
        "stopping took longer than drain_timeout, {} s; what is not applied yet is on disk and will be \
         at the next start",
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
/// [`StandaloneError`].
pub fn run(config: &Config) -> Result<(), StandaloneError> {
    raise_open_files();
    let start_threads =
        |threads: Threads| threads.start(config.server.worker_threads).map_err(StandaloneError::StartThreads);
    let (answering, work) = (start_threads(Threads::Answering)?, start_threads(Threads::Working)?);
    let outcome = answering.block_on(serve(config, &work));
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

async fn serve(config: &Config, work: &Runtime) -> Result<(), StandaloneError> {
    let signals = Signals::catch().map_err(StandaloneError::CatchSignals)?;
    let (listener, address) = listen::bind(&config.server.listen).await?;
    let (pipeline, app) = {
        let _on_work_threads = work.enter();
        start(config, address)?
    };

    let (stop, stopping) = watch::channel(false);
    // Half of the time for requests under way leaves the other half for what they brought.
    let grace = config.server.drain_timeout / 2;
    let http = tokio::spawn(accept(listener, app, stopping, grace));
    let _listen_file = announce(&config.server, address)?;

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
        Err(_) => return Err(StandaloneError::Drain { limit: config.server.drain_timeout }),
    }
    Ok(())
}

/// Opens the store and starts what works on it.
fn start(config: &Config, address: SocketAddr) -> Result<(Arc<Pipeline>, Arc<App>), StandaloneError> {
    let data = &config.server.data;
    let store = Embedded::open(data, store_options(&config.store, data))
        .map_err(|source| StandaloneError::OpenStore { data: data.clone(), source })?;

    let mut registry = Registry::default();
    store.metrics().register(&mut registry);
    let metrics = PipelineMetrics::register(&mut registry);
    let pipeline = Pipeline::start(Arc::new(store), OWNER, config.pipeline.clone(), metrics);
    let app_config = AppConfig {
        limits: config.limits.clone(),
        admin_token: config.server.admin_token.as_ref().map(|token| token.expose().to_owned()),
        server_name: server_name(address),
        roles: vec!["fe", "be"],
        backend: true,
    };
    let app = App::new(Arc::clone(&pipeline), app_config, registry);
    Ok((pipeline, app))
}

fn store_options(config: &StoreConfig, data: &Path) -> EmbeddedOptions {
    EmbeddedOptions {
        queue_bytes_max: config.queue_bytes_max,
        disk_reserve_bytes: config.disk_reserve_bytes.min(disk_bytes(data) / DISK_RESERVE_SHARE),
        newest_bytes_max: config.newest_bytes_max,
        cache_bytes: config.cache_bytes,
        producer_retention: config.producer_retention,
        producers_max: config.producers_max,
        ..EmbeddedOptions::new(config.vbuckets)
    }
}

/// The size of the disk that a folder is on, or will be.
fn disk_bytes(folder: &Path) -> u64 {
    let disk = folder.ancestors().find_map(|path| rustix::fs::statvfs(path).ok());
    // A relative path has no ancestor that is the working folder; "" is not one.
    let disk = disk.or_else(|| rustix::fs::statvfs(".").ok());
    disk.map_or(u64::MAX, |disk| disk.f_blocks * disk.f_frsize)
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
fn announce(server: &ServerConfig, address: SocketAddr) -> Result<Option<ListenFile>, StandaloneError> {
    info!(%address, data = %server.data.display(), "listening");
    let greeting = greeting(address, &server.data);
    // Nobody reading standard output is no reason not to serve.
    let _ = std::io::stdout().write_all(greeting.as_bytes());
    server.listen_file.as_deref().map(|path| ListenFile::write(path, address)).transpose()
}

fn greeting(address: SocketAddr, data: &Path) -> String {
    let data = std::path::absolute(data).unwrap_or_else(|_| data.to_owned());
    let elsewhere =
        if address.port() == 8300 { String::new() } else { format!(" --server http://{address}") };
    format!(
        "Taba is ready.\n\n  address      http://{address}\n  data folder  {}\n\n\
         Try in another terminal:\n\n  taba record visits 1{elsewhere}\n  taba query visits{elsewhere}\n  \
         taba top{elsewhere}\n\nCtrl-C stops it; nothing that was acknowledged is lost.\n",
        data.display()
    )
}
