//! The whole of Taba in one process, on the embedded store.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use prometheus_client::registry::Registry;

use super::{Backing, ServeError};
use crate::config::{Config, Roles, StoreConfig};
use crate::pipeline::Pipeline;
use crate::pipeline::metrics::PipelineMetrics;
use crate::store::embedded::{Embedded, EmbeddedOptions};

/// Name under which a standalone server owns vbuckets. The lock of the data folder makes sure that no
/// second process goes by it.
const OWNER: &str = "standalone";
/// The part of the disk that is left free for states at the most: a small disk must still take data.
const DISK_RESERVE_SHARE: u64 = 8;

/// Opens the data folder and starts the pipeline on it.
pub(super) fn start(config: &Config) -> Result<Backing, ServeError> {
    let data = &config.server.data;
    let store = Embedded::open(data, store_options(&config.store, data))
        .map_err(|source| ServeError::OpenStore { data: data.clone(), source })?;
    let mut registry = Registry::default();
    store.metrics().register(&mut registry);
    let metrics = PipelineMetrics::register(&mut registry);
    let pipeline = Pipeline::start(Arc::new(store), OWNER, config.pipeline.clone(), metrics);
    Ok(Backing { pipeline, roles: Roles { frontend: true, backend: true, control: false }, registry })
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

pub(super) fn greeting(address: SocketAddr, data: &Path) -> String {
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
