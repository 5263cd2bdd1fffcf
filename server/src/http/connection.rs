//! Connections: an accept loop of our own, so that the limits on them hold. It knows no endpoint; server
//! and agent hand it their routers.
//!
//! ```text
//! accept ──▶ connections_max ──▶ one task: hyper (HTTP/1.1 or h2c) + watchdog ──▶ router
//! ```
//!
//! The watchdog closes a connection that takes too long over a request head, that does not read its
//! answer, or that idles for minutes. hyper's own head timeout counts the pause between two requests of
//! a kept-alive connection as well, so it is not used.

mod activity;
mod socket;

use std::convert::Infallible;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::http::{Request, Response};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tower::Service;
use tracing::{debug, warn};

use self::activity::{Activity, Watched};
use self::socket::Socket;
use crate::metrics::{ConnectionMetrics, Seldom};

/// Read buffer per connection at most, in bytes; hyper grows towards it only while a client fills it.
/// 512 posts at once, as a server takes them, hold 256 MiB of such buffers at worst.
const READ_BUFFER_BYTES_MAX: usize = 512 << 10;

/// Bytes a client may send ahead on one HTTP/2 connection, all its streams together.
const HTTP2_WINDOW_BYTES: u32 = 1 << 20;

/// Requests at once on one HTTP/2 connection.
const HTTP2_STREAMS_MAX: u32 = 128;

/// How often an HTTP/2 connection without traffic is asked whether it lives, in seconds.
const HTTP2_PING_INTERVAL: Duration = Duration::from_secs(30);

/// Pause after the system refuses a socket, for want of file descriptors as a rule.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// What connections may take.
#[derive(Clone, Copy, Debug)]
pub struct ConnectionLimits {
    /// Most at once; further ones are closed when they come.
    pub connections_max: usize,
    /// How long a client may take to send a request head.
    pub head_timeout: Duration,
    /// How long a client may leave unread what is written to it.
    pub unread_timeout: Duration,
}

/// How far the server has come in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Running,
    /// Open requests finish; connections close after them.
    Draining,
    /// The time for that is over.
    Closed,
}

/// Serves connections until `shutdown` is done, then stops accepting and lets open requests finish for at
/// most `grace`. Returns how many connections were cut because they did not.
pub async fn serve(
    listener: TcpListener,
    router: Router,
    limits: ConnectionLimits,
    metrics: ConnectionMetrics,
    shutdown: impl Future<Output = ()>,
    grace: Duration,
) -> usize {
    let slots_max = limits.connections_max.min(u32::MAX as usize >> 1);
    let slots = Arc::new(Semaphore::new(slots_max));
    let (phase, phases) = watch::channel(Phase::Running);
    let serving = Serving { router, limits, metrics, phases };
    tokio::select! {
        () = shutdown => {}
        never = accept_all(&listener, &serving, &slots) => match never {},
    }
    drop((listener, serving));
    phase.send_replace(Phase::Draining);
    let all = u32::try_from(slots_max).expect("bounded above");
    let closed = tokio::time::timeout(grace, slots.acquire_many(all)).await;
    let cut = if closed.is_ok() { 0 } else { slots_max - slots.available_permits() };
    phase.send_replace(Phase::Closed);
    cut
}

async fn accept_all(listener: &TcpListener, serving: &Serving, slots: &Arc<Semaphore>) -> Infallible {
    let seldom = Seldom::every(10);
    loop {
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                if seldom.allows(crate::clock::now().as_secs()) {
                    warn!(%error, "cannot accept connections");
                }
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let Ok(slot) = Arc::clone(slots).try_acquire_owned() else {
            serving.metrics.refused.inc();
            continue;
        };
        tokio::spawn(serving.clone().run(stream, slot));
    }
}

/// What every connection is served with.
#[derive(Clone)]
struct Serving {
    router: Router,
    limits: ConnectionLimits,
    metrics: ConnectionMetrics,
    phases: watch::Receiver<Phase>,
}

impl Serving {
    /// Runs one connection to its end.
    async fn run(self, stream: TcpStream, slot: OwnedSemaphorePermit) {
        let Self { router, limits, metrics, mut phases } = self;
        metrics.open.inc();
        let activity = Arc::new(Activity::default());
        let socket = Socket::new(stream, Arc::clone(&activity));
        let service = service_fn(|request| answer(router.clone(), request, &activity));
        let builder = builder();
        {
            let mut connection = pin!(builder.serve_connection(TokioIo::new(socket), service));
            let period = limits.head_timeout.min(limits.unread_timeout) / 2;
            let mut watchdog = tokio::time::interval(period.max(Duration::from_millis(10)));
            watchdog.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
            loop {
                tokio::select! {
                    ended = connection.as_mut() => {
                        if let Err(error) = ended {
                            debug!(%error, "connection ended early");
                        }
                        break;
                    }
                    _ = watchdog.tick() => if let Some(why) = activity.overdue(&limits) {
                        debug!(why, "connection closed");
                        activity.cut();
                        break;
                    },
                    changed = phases.changed() => match (changed, *phases.borrow_and_update()) {
                        (Ok(()), Phase::Running) => {}
                        (Ok(()), Phase::Draining) => connection.as_mut().graceful_shutdown(),
                        (Ok(()), Phase::Closed) | (Err(_), _) => break,
                    },
                }
            }
        }
        metrics.open.dec();
        drop(slot);
    }
}

fn answer(
    mut router: Router,
    request: Request<Incoming>,
    activity: &Arc<Activity>,
) -> impl Future<Output = Result<Response<Watched>, Infallible>> + use<> {
    let open = activity.begin(request.version());
    let answer = router.call(request.map(Body::new));
    async move { Ok(answer.await?.map(|body| Watched::new(body, open))) }
}

fn builder() -> Builder<TokioExecutor> {
    let mut builder = Builder::new(TokioExecutor::new());
    builder.http1().max_buf_size(READ_BUFFER_BYTES_MAX);
    builder
        .http2()
        .timer(TokioTimer::new())
        .keep_alive_interval(HTTP2_PING_INTERVAL)
        .initial_stream_window_size(HTTP2_WINDOW_BYTES)
        .initial_connection_window_size(HTTP2_WINDOW_BYTES)
        .max_concurrent_streams(HTTP2_STREAMS_MAX);
    builder
}
