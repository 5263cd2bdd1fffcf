//! The `taba-keeper` binary: reads flags, runs until SIGTERM, hands over, stops Redis. As `taba-keeper install`
//! and `taba-keeper sentinel-config` it prepares pods, as `taba-keeper names` it helps a Sentinel.

use std::fs::File;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use clap::Parser as _;
use taba_keeper::config::{Args, Config};
use taba_keeper::disk;
use taba_keeper::http;
use taba_keeper::install::{InstallArgs, install};
use taba_keeper::keeper::Keeper;
use taba_keeper::names::{self, NamesArgs};
use taba_keeper::sentinel_config::{self, SentinelConfigArgs};
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tracing::{info, warn};
use tracing_subscriber::EnvFilter;

/// Between two looks whether the folder is free.
const HOLD_RETRY: Duration = Duration::from_millis(200);

fn main() -> anyhow::Result<()> {
    // The keeper itself has no word of its own, so that its flags stand behind the program's name.
    let rest = || std::env::args_os().skip(1);
    match std::env::args_os().nth(1).as_deref().and_then(std::ffi::OsStr::to_str) {
        Some("install") => {
            install(&InstallArgs::parse_from(rest()).folder)?;
            Ok(())
        }
        Some("sentinel-config") => {
            sentinel_config::run(&SentinelConfigArgs::parse_from(rest())).context("the configuration")
        }
        Some("names") => keep_names(&NamesArgs::parse_from(rest())),
        _ => keep(Args::parse()),
    }
}

#[tokio::main(flavor = "current_thread")]
async fn keep_names(args: &NamesArgs) -> anyhow::Result<()> {
    log("info")?;
    let mut terminate = signal(SignalKind::terminate()).context("catch SIGTERM")?;
    tokio::select! {
        _ = terminate.recv() => Ok(()),
        never = names::run(args) => match never {},
    }
}

fn log(level: &str) -> anyhow::Result<()> {
    let filter = EnvFilter::try_new(level).context("--log-level")?;
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_ansi(false).init();
    Ok(())
}

/// One small loop and a few connections: two threads, so that a disk that hangs leaves one for the probes.
#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn keep(args: Args) -> anyhow::Result<()> {
    log(&args.log_level)?;
    let config = Config::try_from(args).context("the configuration")?;
    let own = config.own();
    info!(shard = config.shard, member = own.name, address = %own.address, listen = %config.listen, "keeper starts");

    let mut terminate = signal(SignalKind::terminate()).context("catch SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("catch SIGINT")?;
    // Declared first, so let go last.
    let _hold = tokio::select! {
        held = hold(&config.data) => held?,
        _ = terminate.recv() => return Ok(()),
        _ = interrupt.recv() => return Ok(()),
    };
    let listener =
        TcpListener::bind(config.listen).await.with_context(|| format!("listen on {}", config.listen))?;
    let keeper = Keeper::start(config).context("start")?;
    let routes = http::router(Arc::clone(&keeper));
    // It answers to the end: whoever takes over asks for this member's vote.
    let serving = tokio::spawn(async move { axum::serve(listener, routes).await });
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
        ended = serving => anyhow::bail!("serving http ended: {ended:?}"),
    }
    info!("stopping");
    keeper.stop().await;
    info!("stopped");
    Ok(())
}

/// Waits until no other keeper has the folder.
async fn hold(folder: &Path) -> anyhow::Result<File> {
    if let Some(file) = disk::hold(folder).context("hold the folder")? {
        return Ok(file);
    }
    warn!(folder = %folder.display(), "another keeper still has the folder");
    loop {
        tokio::time::sleep(HOLD_RETRY).await;
        if let Some(file) = disk::hold(folder).context("hold the folder")? {
            return Ok(file);
        }
    }
}
