//! Decides which batch goes to which endpoint and when: a state machine without clock, socket or
//! thread. Time and random bits are arguments, so every decision can be replayed.
//!
//! ```text
//! offer ──▶ ready ──next──▶ under way ──report──▶ resolved (acknowledged, refused, expired)
//!             ▲   ▲                        │
//!             │   └──── delayed ◀── failed ┘        (held: beyond the producer's sequence window)
//! ```
//!
//! Rules: the oldest ready batch first; to the endpoint with the fewest bytes under way; an endpoint
//! that failed is out at once and is probed again after a back-off with one request at a time; a failed
//! batch is ready again at once if the endpoint was at fault, and after a back-off of its own if the
//! batch may have been.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use taba_core::BatchId;

use super::backoff::Backoff;
use super::batch::Fate;
use super::endpoint::{Endpoint, Pause};
use super::window::Windows;

/// Order in which a batch was offered; names it while it is held.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Arrival(pub u64);

/// Bounds and times of a [`Scheduler`].
#[derive(Clone, Copy, Debug)]
pub struct Rules {
    /// Most batches held. Each costs some 300 bytes besides its body.
    pub batches_max: usize,
    /// Most bytes of bodies held.
    pub bytes_max: u64,
    /// Most requests under way per endpoint.
    pub senders_per_endpoint: usize,
    /// How old a batch may become before it is dropped. Receivers remember ids for 48 h, so it must stay
    /// well below that: a later retry could count twice.
    pub retry_for: Duration,
    /// Waits after failures.
    pub backoff: Backoff,
    /// Shortest wait after "at capacity" (502, 503, 429) when the receiver names none.
    pub busy_wait_min: Duration,
    /// Longest wait a receiver may ask for.
    pub busy_wait_max: Duration,
}

/// What the scheduler must know of a batch.
#[derive(Clone, Debug)]
pub struct BatchInfo {
    /// Its identity, if it has one.
    pub id: Option<BatchId>,
    /// Bytes of its body.
    pub bytes: u64,
    /// Events inside.
    pub events: u64,
    /// How long ago it was made.
    pub age: Duration,
}

/// Why a batch was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no room for another batch")]
pub struct Full;

/// Whether an offered batch was new.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Offered {
    /// It is held under this number.
    Held(Arrival),
    /// A batch with this id is held already; nothing changed.
    Known,
}

/// What to do next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// Send this batch and [report](Scheduler::report) how it went.
    Send(Ticket),
    /// This batch became too old and was dropped.
    Expired(Arrival),
    /// Ask again then, or after the next offer or report.
    WaitUntil(Instant),
    /// Ask again after the next offer or report.
    Wait,
}

/// The right to send one batch to one endpoint once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ticket {
    /// Which batch.
    pub batch: Arrival,
    /// Which endpoint, by its place in the list.
    pub endpoint: usize,
    outage: u64,
}

/// How an attempt went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// 200.
    Acknowledged,
    /// The batch can never be accepted (400, 409, 413, 415), or cannot be read.
    Refused,
    /// The receiver is at capacity (429, 502, 503) and may have said for how long.
    Busy(Option<Duration>),
    /// No answer: not reachable, cut off or timed out.
    Unreachable,
    /// Any other answer; the batch may be the cause.
    Failed,
}

/// Totals of one endpoint, for status pages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EndpointLoad {
    /// Requests under way.
    pub requests: usize,
    /// Their bytes.
    pub bytes: u64,
    /// Their events.
    pub events: u64,
    /// Whether it gets work; `false` while it is only probed.
    pub healthy: bool,
}

/// Totals of everything held.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Load {
    /// Batches held.
    pub batches: usize,
    /// Bytes of their bodies.
    pub bytes: u64,
    /// Events inside.
    pub events: u64,
}

#[derive(Debug)]
struct Entry {
    info: BatchInfo,
    deadline: Instant,
    failures: u32,
    place: Place,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    Ready,
    Delayed(Instant),
    Held,
    UnderWay,
}

/// See the module's documentation.
#[derive(Debug)]
pub struct Scheduler {
    rules: Rules,
    endpoints: Vec<Endpoint>,
    entries: BTreeMap<Arrival, Entry>,
    ready: BTreeSet<Arrival>,
    delayed: BTreeSet<(Instant, Arrival)>,
    /// Of all that is not under way; a batch under way expires when its failure is reported.
    deadlines: BTreeSet<(Instant, Arrival)>,
    windows: Windows,
    load: Load,
    arrivals: u64,
}

impl Scheduler {
    /// A scheduler for this many endpoints, holding nothing.
    #[must_use]
    pub fn new(rules: Rules, endpoints: usize) -> Self {
        Self {
            rules,
            endpoints: vec![Endpoint::default(); endpoints],
            entries: BTreeMap::new(),
            ready: BTreeSet::new(),
            delayed: BTreeSet::new(),
            deadlines: BTreeSet::new(),
            windows: Windows::default(),
            load: Load::default(),
            arrivals: 0,
        }
    }

    /// Whether another batch of this size would be taken.
    #[must_use]
    pub fn has_room(&self, bytes: u64) -> bool {
        self.load.batches < self.rules.batches_max && self.load.bytes + bytes <= self.rules.bytes_max
    }

    /// Takes a batch in.
    ///
    /// # Errors
    /// [`Full`] if a bound would be passed; nothing changed then.
    pub fn offer(&mut self, info: BatchInfo, now: Instant) -> Result<Offered, Full> {
        if info.id.as_ref().is_some_and(|id| self.windows.contains(id)) {
            return Ok(Offered::Known);
        }
        if !self.has_room(info.bytes) {
            return Err(Full);
        }
        self.arrivals += 1;
        let arrival = Arrival(self.arrivals);
        let open = info.id.as_ref().is_none_or(|id| self.windows.enter(id, arrival));
        let place = if open { Place::Ready } else { Place::Held };
        if open {
            self.ready.insert(arrival);
        }
        let deadline = now + self.rules.retry_for.saturating_sub(info.age);
        self.deadlines.insert((deadline, arrival));
        self.load.batches += 1;
        self.load.bytes += info.bytes;
        self.load.events += info.events;
        self.entries.insert(arrival, Entry { info, deadline, failures: 0, place });
        Ok(Offered::Held(arrival))
    }

    /// What to do at `now`. `random` is uniform in `0..1` and breaks ties between endpoints.
    pub fn next(&mut self, now: Instant, random: f64) -> Next {
        if let Some(expired) = self.take_expired(now) {
            return Next::Expired(expired);
        }
        self.wake_delayed(now);
        let Some(&batch) = self.ready.first() else { return self.wait(None) };
        let Some(endpoint) = self.pick_endpoint(now, random) else {
            return self.wait(self.endpoints.iter().filter_map(Endpoint::probe_at).min());
        };
        self.ready.remove(&batch);
        let entry = self.entries.get_mut(&batch).expect("a ready batch is held");
        entry.place = Place::UnderWay;
        self.deadlines.remove(&(entry.deadline, batch));
        self.endpoints[endpoint].started(entry.info.bytes, entry.info.events);
        Next::Send(Ticket { batch, endpoint, outage: self.endpoints[endpoint].outage() })
    }

    /// Takes the outcome of an attempt. `Some` if the batch is resolved and no longer held.
    pub fn report(&mut self, ticket: Ticket, outcome: Outcome, now: Instant, random: f64) -> Option<Fate> {
        let entry = self.entries.get(&ticket.batch).expect("a batch under way is held");
        let (bytes, events, deadline) = (entry.info.bytes, entry.info.events, entry.deadline);
        self.endpoints[ticket.endpoint].ended(bytes, events);
        let pause = |at_least| Pause { backoff: self.rules.backoff, at_least, random };
        let endpoint = &mut self.endpoints[ticket.endpoint];
        match outcome {
            // A refusal is an answer: the endpoint is alive.
            Outcome::Acknowledged | Outcome::Refused => endpoint.succeeded(),
            Outcome::Busy(asked) => {
                let asked = asked.unwrap_or_default().min(self.rules.busy_wait_max);
                endpoint.failed(ticket.outage, pause(asked.max(self.rules.busy_wait_min)), now);
            }
            Outcome::Unreachable | Outcome::Failed => {
                endpoint.failed(ticket.outage, pause(Duration::ZERO), now);
            }
        }
        let fate = match outcome {
            Outcome::Acknowledged => Some(Fate::Acknowledged),
            Outcome::Refused => Some(Fate::Refused),
            _ if deadline <= now => Some(Fate::Expired),
            _ => None,
        };
        match fate {
            Some(_) => self.remove(ticket.batch),
            None => self.requeue(ticket.batch, outcome == Outcome::Failed, now, random),
        }
        fate
    }

    /// Everything held.
    #[must_use]
    pub fn load(&self) -> Load {
        self.load
    }

    /// Each endpoint's share of what is under way.
    #[must_use]
    pub fn endpoint_loads(&self) -> Vec<EndpointLoad> {
        let load = |endpoint: &Endpoint| EndpointLoad {
            requests: endpoint.requests,
            bytes: endpoint.bytes,
            events: endpoint.events,
            healthy: endpoint.is_healthy(),
        };
        self.endpoints.iter().map(load).collect()
    }

    /// The newest batch offered so far.
    #[must_use]
    pub fn newest(&self) -> Arrival {
        Arrival(self.arrivals)
    }

    /// Whether every batch up to `arrival` is resolved.
    #[must_use]
    pub fn resolved_up_to(&self, arrival: Arrival) -> bool {
        self.entries.first_key_value().is_none_or(|(oldest, _)| *oldest > arrival)
    }

    fn pick_endpoint(&self, now: Instant, random: f64) -> Option<usize> {
        let count = self.endpoints.len();
        let first = ((random.clamp(0.0, 1.0) * count as f64) as usize).min(count.saturating_sub(1));
        (0..count)
            .map(|offset| (first + offset) % count)
            .filter(|index| self.endpoints[*index].has_room(self.rules.senders_per_endpoint, now))
            .min_by_key(|index| self.endpoints[*index].bytes)
    }

    fn wake_delayed(&mut self, now: Instant) {
        while let Some(&(until, arrival)) = self.delayed.first()
            && until <= now
        {
            self.delayed.pop_first();
            self.ready.insert(arrival);
            self.entries.get_mut(&arrival).expect("a delayed batch is held").place = Place::Ready;
        }
    }

    fn wait(&self, probe_at: Option<Instant>) -> Next {
        let delayed = self.delayed.first().map(|(until, _)| *until);
        let expires = self.deadlines.first().map(|(until, _)| *until);
        [probe_at, delayed, expires].into_iter().flatten().min().map_or(Next::Wait, Next::WaitUntil)
    }

    fn take_expired(&mut self, now: Instant) -> Option<Arrival> {
        let (_, arrival) = self.deadlines.first().copied().filter(|(deadline, _)| *deadline <= now)?;
        self.remove(arrival);
        Some(arrival)
    }

    fn requeue(&mut self, arrival: Arrival, suspect: bool, now: Instant, random: f64) {
        let entry = self.entries.get_mut(&arrival).expect("a batch under way is held");
        self.deadlines.insert((entry.deadline, arrival));
        if !suspect {
            entry.place = Place::Ready;
            self.ready.insert(arrival);
            return;
        }
        // Longer than the endpoint's first wait, so that another batch gets to prove it alive.
        let until = now + self.rules.backoff.floor + self.rules.backoff.delay(entry.failures, random);
        entry.failures = entry.failures.saturating_add(1);
        entry.place = Place::Delayed(until);
        self.delayed.insert((until, arrival));
    }

    fn remove(&mut self, arrival: Arrival) {
        let entry = self.entries.remove(&arrival).expect("a resolved batch was held");
        self.deadlines.remove(&(entry.deadline, arrival));
        self.ready.remove(&arrival);
        if let Place::Delayed(until) = entry.place {
            self.delayed.remove(&(until, arrival));
        }
        self.load.batches -= 1;
        self.load.bytes -= entry.info.bytes;
        self.load.events -= entry.info.events;
        let released = entry.info.id.map_or_else(Vec::new, |id| self.windows.leave(&id));
        for arrival in released {
            self.entries.get_mut(&arrival).expect("a batch in a window is held").place = Place::Ready;
            self.ready.insert(arrival);
        }
    }
}

#[cfg(test)]
mod tests;
