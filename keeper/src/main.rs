//! The `taba-keeper` binary: reads flags, runs until SIGTERM, hands over, stops Redis.

use std::sync::Arc;

use anyhow::Context as _;
use clap::Parser as _;
use taba_keeper::config::{Args, Config};
use taba_keeper::http;
use taba_keeper::keeper::Keeper;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tracing::info;
use tracing_subscriber::EnvFilter;

/// One small loop and a few connections: two threads, so that a disk that hangs leaves one for the probes.
#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    let filter = EnvFilter::try_new(&args.log_level).context("--log-level")?;
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_ansi(false).init();
    let config = Config::try_from(args).context("the configuration")?;
    let own = config.own();
    info!(shard = config.shard, member = own.name, address = %own.address, listen = %config.listen, "keeper starts");

    let mut terminate = signal(SignalKind::terminate()).context("catch SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("catch SIGINT")?;
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
