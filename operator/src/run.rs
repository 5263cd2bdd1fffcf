//! `taba-operator run`: from flags to a controller that acts while it holds the Lease.
//!
//! ```text
//! wait for the CRD ─▶ take the Lease ─▶ controllers ─▶ SIGTERM: passes end ─▶ give the Lease back
//!                                           └─ Lease lost: the process ends, so that nothing it began goes on
//! ```

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use clap::Args;
use futures::future::join_all;
use kube::api::ListParams;
use kube::runtime::events::{Recorder, Reporter};
use kube::{Api, Client};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tokio::time::{sleep, timeout};
use tracing_subscriber::EnvFilter;

use crate::api::TabaCluster;
use crate::build::Settings;
use crate::controller::context::Context;
use crate::controller::{self, Scope};
use crate::health::{self, Health};
use crate::leader::{Elector, Kept, Leadership};
use crate::metrics::Metrics;

/// Passes that have begun may take so long to end. With the Lease given back it must be less than the 30 s that
/// Kubernetes gives a pod.
const STOP_PATIENCE: Duration = Duration::from_secs(20);

/// Between two looks for the CRD.
const CRD_RETRY: Duration = Duration::from_secs(3);

/// Longest wait for one look.
const CRD_TIMEOUT: Duration = Duration::from_secs(10);

/// Flags of `run`; each is also an environment variable.
#[derive(Clone, Debug, Args)]
pub struct RunArgs {
    /// Namespaces whose clusters are looked after, separated by commas; empty for all.
    #[arg(long = "namespace", env = "TABA_OPERATOR_NAMESPACES", value_delimiter = ',')]
    pub namespaces: Vec<String>,
    /// Image of servers and keepers of clusters that name none.
    #[arg(long, env = "TABA_OPERATOR_IMAGE")]
    pub image: String,
    /// Where probes and `/metrics` are served.
    #[arg(long, env = "TABA_OPERATOR_LISTEN", default_value = "0.0.0.0:8080")]
    pub listen: SocketAddr,
    /// Name of the Lease by which operators agree on who acts. One for each set of namespaces.
    #[arg(long, env = "TABA_OPERATOR_LEASE", default_value = "taba-operator")]
    pub lease: String,
    /// The namespace of the operator's pods and of the Lease.
    #[arg(long, env = "POD_NAMESPACE", default_value = "default")]
    pub operator_namespace: String,
    /// What this operator is called in the Lease; no other may be called so.
    #[arg(long, env = "POD_NAME", default_value = "taba-operator")]
    pub name: String,
    /// The domain of Services' names.
    #[arg(long, env = "TABA_OPERATOR_CLUSTER_DOMAIN", default_value = "cluster.local")]
    pub cluster_domain: String,
    /// Clusters worked at at the same time.
    #[arg(long, env = "TABA_OPERATOR_PASSES_MAX", default_value_t = 8, value_parser = clap::value_parser!(u16).range(1..=256))]
    pub passes_max: u16,
    /// What is logged, as a filter of the tracing crate.
    #[arg(long, env = "TABA_OPERATOR_LOG_LEVEL", default_value = "info")]
    pub log_level: String,
}

/// Runs until SIGTERM or SIGINT.
///
/// # Errors
/// If the operator cannot start, or must not go on because the Lease is lost.
pub fn run(args: RunArgs) -> anyhow::Result<()> {
    let filter = EnvFilter::try_new(&args.log_level).context("read --log-level")?;
    tracing_subscriber::fmt().json().with_env_filter(filter).with_writer(std::io::stderr).init();
    tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .context("start the runtime")?
        .block_on(operate(args))
}

async fn operate(args: RunArgs) -> anyhow::Result<()> {
    let client = Client::try_default().await.context("find the API server")?;
    let metrics = Metrics::default();
    let health = Health::new("the API of TabaClusters", Instant::now());
    let serving = tokio::spawn(health::serve(args.listen, health.clone(), metrics.clone()));
    let (stop, stopped) = watch::channel(false);
    tokio::spawn(await_signal(stop));
    let led = lead(args, client, health, metrics, stopped);
    tokio::select! {
        led = led => led,
        served = serving => {
            served.context("the task of probes ended")?.context("serve probes and metrics")?;
            bail!("the server of probes ended")
        }
    }
}

/// Waits, leads, stops.
async fn lead(
    args: RunArgs,
    client: Client,
    health: Health,
    metrics: Metrics,
    mut stopped: watch::Receiver<bool>,
) -> anyhow::Result<()> {
    let scopes = scopes(&args.namespaces);
    let leadership = Leadership::default();
    // A name alone may come again with the next pod of a StatefulSet or the next process.
    let own = format!("{}_{:08x}", args.name, rand::random::<u32>());
    let lease = args.lease.as_str();
    let mut elector =
        Elector::new(client.clone(), &args.operator_namespace, lease, own.clone(), leadership.clone());
    let beat = || health.beat(Instant::now());
    tokio::select! {
        _ = stopped.wait_for(|stop| *stop) => return Ok(()),
        () = async {
            wait_for_crd(&client, &scopes[0], &health).await;
            // Ready to take over: that is what a rollout must know.
            health.ready();
            elector.acquire(&beat).await;
        } => {}
    }
    metrics.leads(true);
    let reporter = Reporter { controller: "taba-operator".to_owned(), instance: Some(own) };
    let context = Arc::new(Context::new(
        client.clone(),
        leadership,
        Settings { operator_namespace: args.operator_namespace, cluster_domain: args.cluster_domain },
        args.image,
        metrics.clone(),
        health.clone(),
        Recorder::new(client, reporter),
    ));
    let (release, released) = watch::channel(false);
    let controllers = async {
        let running = scopes
            .into_iter()
            .map(|scope| controller::run(Arc::clone(&context), scope, args.passes_max, stopped.clone()));
        let mut running = std::pin::pin!(join_all(running));
        let mut stop = stopped.clone();
        tokio::select! {
            _ = &mut running => {}
            _ = stop.wait_for(|stop| *stop) => {
                if timeout(STOP_PATIENCE, running).await.is_err() {
                    tracing::warn!("passes did not end in time; the next operator goes on");
                }
            }
        }
        // Only now: while a pass runs, no other operator should begin one.
        let _ = release.send(true);
        std::future::pending::<()>().await;
    };
    let kept = tokio::select! {
        kept = elector.keep(released, &beat) => kept,
        () = controllers => unreachable!("it pends when controllers have ended"),
    };
    metrics.leads(false);
    match kept {
        Kept::Released if *stopped.borrow() => Ok(()),
        Kept::Released => bail!("the controllers ended by themselves"),
        Kept::Lost => bail!("the lease is lost, so another operator acts"),
    }
}

fn scopes(namespaces: &[String]) -> Vec<Scope> {
    let mut named: Vec<_> =
        namespaces.iter().map(|name| name.trim()).filter(|name| !name.is_empty()).collect();
    named.sort_unstable();
    named.dedup();
    if named.is_empty() {
        return vec![Scope(None)];
    }
    named.into_iter().map(|name| Scope(Some(name.to_owned()))).collect()
}

/// The chart installs CRDs and operator at once, and people install them in any order.
async fn wait_for_crd(client: &Client, scope: &Scope, health: &Health) {
    let api: Api<TabaCluster> = scope.api(client);
    loop {
        health.beat(Instant::now());
        let why = match timeout(CRD_TIMEOUT, api.list_metadata(&ListParams::default().limit(1))).await {
            Ok(Ok(_)) => return,
            Ok(Err(kube::Error::Api(status))) if status.is_not_found() => {
                "the CRD tabaclusters.taba.dev, which is not installed".to_owned()
            }
            Ok(Err(error)) => format!("the API of TabaClusters: {error}"),
            Err(_) => "the API server, which does not answer".to_owned(),
        };
        tracing::warn!("waits for {why}");
        health.waits_for(&why);
        sleep(CRD_RETRY).await;
    }
}

async fn await_signal(stop: watch::Sender<bool>) {
    let (Ok(mut terminate), Ok(mut interrupt)) =
        (signal(SignalKind::terminate()), signal(SignalKind::interrupt()))
    else {
        tracing::error!("signals cannot be waited for; only SIGKILL ends this process");
        return std::future::pending().await;
    };
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    tracing::info!("asked to stop");
    let _ = stop.send(true);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_namespace_means_all_and_none_is_watched_twice() {
        assert_eq!(scopes(&[]), [Scope(None)]);
        assert_eq!(scopes(&[String::new()]), [Scope(None)]);
        let named = ["b", " a", "b", ""].map(str::to_owned);
        assert_eq!(scopes(&named), [Scope(Some("a".to_owned())), Scope(Some("b".to_owned()))]);
    }
}
