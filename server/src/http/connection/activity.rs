//! What a connection is doing and since when, as far as the watchdog has to know it.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use axum::body::{Body, Bytes};
use axum::http::Version;
use hyper::body::{Body as HttpBody, Frame, SizeHint};

use super::ConnectionLimits;

/// How long a connection may do nothing between two requests.
const IDLE_TIMEOUT: Duration = Duration::from_secs(120);

/// What a connection is doing. Times are milliseconds since `start`, plus one; zero means "not".
#[derive(Debug)]
pub(super) struct Activity {
    start: Instant,
    /// Requests whose answer is not written yet.
    open: AtomicUsize,
    http2: AtomicBool,
    /// Since when a request head is coming in.
    head_since: AtomicU64,
    /// Since when no request is open.
    idle_since: AtomicU64,
    /// Since when the client does not take what we write.
    blocked_since: AtomicU64,
    /// The watchdog ends the connection: no polite goodbye.
    cut: AtomicBool,
}

impl Default for Activity {
    fn default() -> Self {
        Self {
            start: Instant::now(),
            open: AtomicUsize::new(0),
            http2: AtomicBool::new(false),
            head_since: AtomicU64::new(0),
            idle_since: AtomicU64::new(1),
            blocked_since: AtomicU64::new(0),
            cut: AtomicBool::new(false),
        }
    }
}

impl Activity {
    fn now(&self) -> u64 {
        u64::try_from(self.start.elapsed().as_millis()).unwrap_or(u64::MAX - 1) + 1
    }

    /// Notes that bytes came in.
    pub(super) fn received(&self) {
        if self.open.load(Ordering::Relaxed) == 0 && self.head_since.load(Ordering::Relaxed) == 0 {
            self.head_since.store(self.now(), Ordering::Relaxed);
        }
    }

    /// Notes whether the client takes what we write.
    pub(super) fn written(&self, blocked: bool) {
        let since = self.blocked_since.load(Ordering::Relaxed);
        match (blocked, since) {
            (true, 0) => self.blocked_since.store(self.now(), Ordering::Relaxed),
            (false, 1..) => self.blocked_since.store(0, Ordering::Relaxed),
            _ => {}
        }
    }

    /// Notes that a request head is complete.
    pub(super) fn begin(self: &Arc<Self>, version: Version) -> OpenRequest {
        if version == Version::HTTP_2 {
            self.http2.store(true, Ordering::Relaxed);
        }
        self.open.fetch_add(1, Ordering::Relaxed);
        self.head_since.store(0, Ordering::Relaxed);
        OpenRequest(Arc::clone(self))
    }

    /// Why the connection is to be closed, if it is.
    pub(super) fn overdue(&self, limits: &ConnectionLimits) -> Option<&'static str> {
        let now = self.now();
        let late = |since: &AtomicU64, limit: Duration| {
            let since = since.load(Ordering::Relaxed);
            since > 0 && u128::from(now.saturating_sub(since)) >= limit.as_millis()
        };
        if late(&self.blocked_since, limits.unread_timeout) {
            return Some("the client does not read its answer");
        }
        if self.open.load(Ordering::Relaxed) > 0 {
            return None;
        }
        // HTTP/2 sends pings and window updates between requests; those are no slow heads.
        if !self.http2.load(Ordering::Relaxed) && late(&self.head_since, limits.head_timeout) {
            return Some("the request head takes too long");
        }
        late(&self.idle_since, IDLE_TIMEOUT).then_some("idle")
    }

    /// Notes that the watchdog ends the connection.
    pub(super) fn cut(&self) {
        self.cut.store(true, Ordering::Relaxed);
    }

    /// Whether the watchdog ended the connection.
    pub(super) fn is_cut(&self) -> bool {
        self.cut.load(Ordering::Relaxed)
    }
}

/// A request whose answer is not written yet.
#[derive(Debug)]
pub(super) struct OpenRequest(Arc<Activity>);

impl Drop for OpenRequest {
    fn drop(&mut self) {
        self.0.idle_since.store(self.0.now(), Ordering::Relaxed);
        self.0.open.fetch_sub(1, Ordering::Relaxed);
    }
}

/// An answer's body that keeps its request open until it is written.
pub(super) struct Watched {
    body: Body,
    _open: OpenRequest,
}

impl Watched {
    pub(super) fn new(body: Body, open: OpenRequest) -> Self {
        Self { body, _open: open }
    }
}

impl HttpBody for Watched {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limits(head_timeout: Duration, unread_timeout: Duration) -> ConnectionLimits {
        ConnectionLimits { connections_max: 1, head_timeout, unread_timeout }
    }

    #[test]
    fn only_a_head_that_was_begun_can_take_too_long() {
        let limits = limits(Duration::ZERO, Duration::from_secs(60));
        let activity = Arc::new(Activity::default());
        assert_eq!(activity.overdue(&limits), None);
        activity.received();
        assert_eq!(activity.overdue(&limits), Some("the request head takes too long"));
        let open = activity.begin(Version::HTTP_11);
        activity.received();
        assert_eq!(activity.overdue(&limits), None);
        drop(open);
        assert_eq!(activity.overdue(&limits), None);
    }

    #[test]
    fn a_client_that_does_not_read_is_noticed_until_it_does() {
        let limits = limits(Duration::from_secs(60), Duration::ZERO);
        let activity = Arc::new(Activity::default());
        let _open = activity.begin(Version::HTTP_11);
        activity.written(true);
        assert_eq!(activity.overdue(&limits), Some("the client does not read its answer"));
        activity.written(false);
        assert_eq!(activity.overdue(&limits), None);
    }

    #[test]
    fn http2_traffic_between_requests_is_no_slow_head() {
        let limits = limits(Duration::ZERO, Duration::from_secs(60));
        let activity = Arc::new(Activity::default());
        drop(activity.begin(Version::HTTP_2));
        activity.received();
        assert_eq!(activity.overdue(&limits), None);
    }
}
