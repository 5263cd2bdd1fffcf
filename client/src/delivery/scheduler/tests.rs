use std::collections::BTreeMap;

use proptest::prelude::*;
use taba_core::batch::SEQUENCE_WINDOW;

use super::*;

fn rules() -> Rules {
    Rules {
        batches_max: 64,
        bytes_max: 10_000,
        senders_per_endpoint: 2,
        retry_for: Duration::from_secs(60),
        backoff: Backoff::default(),
        busy_wait_min: Duration::from_secs(1),
        busy_wait_max: Duration::from_secs(300),
    }
}

fn batch(sequence: u64, bytes: u64) -> BatchInfo {
    let id = format!("producer/{sequence}").parse().expect("a valid id");
    BatchInfo { id: Some(id), bytes, events: 1, age: Duration::ZERO }
}

#[track_caller]
fn offer(scheduler: &mut Scheduler, info: BatchInfo, now: Instant) -> Arrival {
    match scheduler.offer(info, now) {
        Ok(Offered::Held(arrival)) => arrival,
        other => panic!("the batch was not taken: {other:?}"),
    }
}

#[track_caller]
fn send(scheduler: &mut Scheduler, now: Instant) -> Ticket {
    match scheduler.next(now, 0.0) {
        Next::Send(ticket) => ticket,
        other => panic!("nothing is sent: {other:?}"),
    }
}

#[test]
fn work_of_a_dead_endpoint_moves_to_another_at_once() {
    let now = Instant::now();
    let mut scheduler = Scheduler::new(rules(), 2);
    let arrival = offer(&mut scheduler, batch(1, 10), now);
    let first = send(&mut scheduler, now);
    assert_eq!(scheduler.report(first, Outcome::Unreachable, now, 0.5), None);
    let second = send(&mut scheduler, now);
    assert_eq!(second.batch, arrival);
    assert_ne!(second.endpoint, first.endpoint);
    assert_eq!(scheduler.report(second, Outcome::Acknowledged, now, 0.5), Some(Fate::Acknowledged));
    assert_eq!(scheduler.load(), Load::default());
}

#[test]
fn the_endpoint_with_the_fewest_bytes_under_way_gets_the_next_batch() {
    let now = Instant::now();
    let mut scheduler = Scheduler::new(rules(), 2);
    offer(&mut scheduler, batch(1, 100), now);
    offer(&mut scheduler, batch(2, 10), now);
    offer(&mut scheduler, batch(3, 10), now);
    let (big, small) = (send(&mut scheduler, now), send(&mut scheduler, now));
    assert_ne!(big.endpoint, small.endpoint);
    assert_eq!(send(&mut scheduler, now).endpoint, small.endpoint);
}

#[test]
fn a_failed_endpoint_is_probed_by_one_request_after_its_back_off() {
    let start = Instant::now();
    let mut scheduler = Scheduler::new(rules(), 1);
    offer(&mut scheduler, batch(1, 10), start);
    offer(&mut scheduler, batch(2, 10), start);
    let ticket = send(&mut scheduler, start);
    scheduler.report(ticket, Outcome::Unreachable, start, 0.0);
    let Next::WaitUntil(probe_at) = scheduler.next(start, 0.0) else { panic!("it is not left alone") };
    assert_eq!(probe_at - start, Duration::from_millis(100));
    let probe = send(&mut scheduler, probe_at);
    assert_eq!(scheduler.next(probe_at, 0.0), Next::WaitUntil(start + rules().retry_for));
    scheduler.report(probe, Outcome::Acknowledged, probe_at, 0.0);
    send(&mut scheduler, probe_at);
}

#[test]
fn retry_after_is_respected_up_to_its_bound() {
    let start = Instant::now();
    for (asked, wait) in [(None, 1), (Some(7), 7), (Some(1_000_000), 300)] {
        let mut scheduler = Scheduler::new(Rules { retry_for: Duration::from_secs(86_400), ..rules() }, 1);
        offer(&mut scheduler, batch(1, 10), start);
        let ticket = send(&mut scheduler, start);
        scheduler.report(ticket, Outcome::Busy(asked.map(Duration::from_secs)), start, 0.0);
        assert_eq!(scheduler.next(start, 0.0), Next::WaitUntil(start + Duration::from_secs(wait)));
    }
}

#[test]
fn a_refused_batch_is_dropped_and_its_endpoint_stays_in_use() {
    let now = Instant::now();
    let mut scheduler = Scheduler::new(rules(), 1);
    offer(&mut scheduler, batch(1, 10), now);
    let ticket = send(&mut scheduler, now);
    assert_eq!(scheduler.report(ticket, Outcome::Refused, now, 0.5), Some(Fate::Refused));
    assert!(scheduler.endpoint_loads()[0].healthy);
    assert_eq!(scheduler.next(now, 0.0), Next::Wait);
}

#[test]
fn a_batch_that_may_be_poison_does_not_hold_up_the_others() {
    let start = Instant::now();
    let mut scheduler = Scheduler::new(rules(), 1);
    let poison = offer(&mut scheduler, batch(1, 10), start);
    let good = offer(&mut scheduler, batch(2, 10), start);
    let first = send(&mut scheduler, start);
    assert_eq!(first.batch, poison);
    scheduler.report(first, Outcome::Failed, start, 0.9);
    let Next::WaitUntil(probe_at) = scheduler.next(start, 0.0) else { panic!("no back-off") };
    assert_eq!(send(&mut scheduler, probe_at).batch, good);
}

#[test]
fn batches_grow_too_old_in_every_place() {
    let start = Instant::now();
    let late = start + rules().retry_for;
    let mut scheduler = Scheduler::new(rules(), 1);
    let under_way = offer(&mut scheduler, batch(1, 10), start);
    let ready = offer(&mut scheduler, batch(2, 10), start);
    let held = offer(&mut scheduler, batch(1 + SEQUENCE_WINDOW, 10), start);
    let ticket = send(&mut scheduler, start);
    assert_eq!(ticket.batch, under_way);
    assert_eq!(scheduler.next(late, 0.0), Next::Expired(ready));
    assert_eq!(scheduler.next(late, 0.0), Next::Expired(held));
    assert_eq!(scheduler.report(ticket, Outcome::Unreachable, late, 0.0), Some(Fate::Expired));
    assert_eq!(scheduler.load(), Load::default());
}

#[test]
fn a_batch_from_an_earlier_run_keeps_its_age() {
    let start = Instant::now();
    let mut scheduler = Scheduler::new(rules(), 1);
    let old = BatchInfo { age: rules().retry_for, ..batch(1, 10) };
    let arrival = offer(&mut scheduler, old, start);
    assert_eq!(scheduler.next(start, 0.0), Next::Expired(arrival));
}

#[test]
fn an_id_that_is_held_is_not_taken_twice() {
    let now = Instant::now();
    let mut scheduler = Scheduler::new(rules(), 1);
    offer(&mut scheduler, batch(1, 10), now);
    assert_eq!(scheduler.offer(batch(1, 10), now), Ok(Offered::Known));
    assert_eq!(scheduler.load().batches, 1);
}

#[test]
fn both_bounds_refuse_the_newest() {
    let now = Instant::now();
    let mut scheduler = Scheduler::new(Rules { batches_max: 2, ..rules() }, 1);
    assert_eq!(scheduler.offer(batch(1, 10_001), now), Err(Full));
    offer(&mut scheduler, batch(1, 5_000), now);
    assert_eq!(scheduler.offer(batch(2, 5_001), now), Err(Full));
    offer(&mut scheduler, batch(2, 1), now);
    assert_eq!(scheduler.offer(batch(3, 1), now), Err(Full));
}

/// 8.3.6: the first Taba's agent made 900 attempts a second against a refusing endpoint.
#[test]
fn a_refusing_endpoint_sees_few_attempts() {
    let start = Instant::now();
    let mut scheduler = Scheduler::new(rules(), 1);
    for sequence in 0..50 {
        offer(&mut scheduler, batch(sequence, 10), start);
    }
    let (mut now, mut attempts) = (start, 0);
    while now < start + Duration::from_secs(59) {
        match scheduler.next(now, 0.5) {
            Next::Send(ticket) => {
                attempts += 1;
                assert_eq!(scheduler.report(ticket, Outcome::Unreachable, now, 0.5), None);
            }
            Next::WaitUntil(at) => now = at,
            other => panic!("{other:?}"),
        }
    }
    assert!((5..=20).contains(&attempts), "{attempts} attempts in 59 s");
}

/// One step of a random history.
#[derive(Clone, Debug)]
enum Step {
    Offer { gap: u64, bytes: u64 },
    Next,
    Report { which: usize, outcome: Outcome },
    Pass(Duration),
}

fn outcome() -> impl Strategy<Value = Outcome> {
    prop_oneof![
        4 => Just(Outcome::Acknowledged),
        1 => Just(Outcome::Refused),
        2 => Just(Outcome::Unreachable),
        1 => Just(Outcome::Failed),
        1 => proptest::option::of(0_u64..10).prop_map(|secs| Outcome::Busy(secs.map(Duration::from_secs))),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        3 => (1_u64..600, 0_u64..800).prop_map(|(gap, bytes)| Step::Offer { gap, bytes }),
        4 => Just(Step::Next),
        3 => (any::<usize>(), outcome()).prop_map(|(which, outcome)| Step::Report { which, outcome }),
        1 => (0_u64..20_000).prop_map(|millis| Step::Pass(Duration::from_millis(millis))),
    ]
}

/// A naive record of what must hold, beside the scheduler.
struct Model {
    scheduler: Scheduler,
    endpoints: usize,
    now: Instant,
    sequence: u64,
    held: BTreeMap<Arrival, (u64, u64)>,
    under_way: Vec<Ticket>,
}

impl Model {
    fn new(endpoints: usize) -> Self {
        Self {
            scheduler: Scheduler::new(rules(), endpoints),
            endpoints,
            now: Instant::now(),
            sequence: 0,
            held: BTreeMap::new(),
            under_way: Vec::new(),
        }
    }

    fn offer(&mut self, gap: u64, bytes: u64) {
        self.sequence += gap;
        let fits = self.held.len() < rules().batches_max
            && self.held.values().map(|(_, bytes)| bytes).sum::<u64>() + bytes <= rules().bytes_max;
        match self.scheduler.offer(batch(self.sequence, bytes), self.now) {
            Ok(Offered::Held(arrival)) => {
                assert!(fits, "a bound was passed");
                self.held.insert(arrival, (self.sequence, bytes));
            }
            other => assert!(!fits, "refused without need: {other:?}"),
        }
    }

    fn next(&mut self, random: f64) -> Next {
        let next = self.scheduler.next(self.now, random);
        match next {
            Next::Send(ticket) => self.sent(ticket),
            Next::Expired(arrival) => {
                assert!(self.held.remove(&arrival).is_some(), "expired but not held");
            }
            Next::WaitUntil(at) => assert!(at > self.now, "waiting for the past would spin"),
            Next::Wait => {}
        }
        next
    }

    fn sent(&mut self, ticket: Ticket) {
        let (sequence, _) = self.held[&ticket.batch];
        assert!(self.under_way.iter().all(|other| other.batch != ticket.batch), "sent twice at once");
        let lowest = self.held.values().map(|(sequence, _)| *sequence).min().expect("one is held");
        assert!(sequence < lowest + SEQUENCE_WINDOW, "{sequence} is beyond the window of {lowest}");
        self.under_way.push(ticket);
        let here = self.under_way.iter().filter(|other| other.endpoint == ticket.endpoint).count();
        let healthy = self.scheduler.endpoint_loads()[ticket.endpoint].healthy;
        assert!(here <= if healthy { rules().senders_per_endpoint } else { 1 });
    }

    fn report(&mut self, which: usize, outcome: Outcome, random: f64) {
        if self.under_way.is_empty() {
            return;
        }
        let ticket = self.under_way.swap_remove(which % self.under_way.len());
        let fate = self.scheduler.report(ticket, outcome, self.now, random);
        let good = matches!(outcome, Outcome::Acknowledged | Outcome::Refused);
        match fate {
            Some(_) => assert!(self.held.remove(&ticket.batch).is_some(), "resolved but not held"),
            None => assert!(!good, "an answered batch must be resolved"),
        }
    }

    fn check_totals(&self) {
        let load = self.scheduler.load();
        assert_eq!(load.batches, self.held.len());
        assert_eq!(load.bytes, self.held.values().map(|(_, bytes)| bytes).sum::<u64>());
        let requests: usize = self.scheduler.endpoint_loads().iter().map(|load| load.requests).sum();
        assert_eq!(requests, self.under_way.len());
    }

    /// Lets everything succeed and counts the steps until nothing is held.
    fn finish(&mut self) {
        for _ in 0..10_000 {
            if self.held.is_empty() {
                return;
            }
            self.report(0, Outcome::Acknowledged, 0.5);
            if let Next::WaitUntil(at) = self.next(0.5)
                && self.under_way.is_empty()
            {
                self.now = at;
            }
        }
        panic!("{} batches are stuck", self.held.len());
    }
}

proptest! {
    /// forall histories: every bound holds at every step, and once endpoints answer nothing is stuck.
    #[test]
    fn every_history_keeps_the_bounds_and_ends_empty(
        endpoints in 1_usize..4,
        steps in proptest::collection::vec((step(), 0.0..1.0_f64), 0..300),
    ) {
        let mut model = Model::new(endpoints);
        for (step, random) in steps {
            match step {
                Step::Offer { gap, bytes } => model.offer(gap, bytes),
                Step::Next => { model.next(random); }
                Step::Report { which, outcome } => model.report(which, outcome, random),
                Step::Pass(time) => model.now += time,
            }
            model.check_totals();
        }
        prop_assert_eq!(model.scheduler.endpoint_loads().len(), model.endpoints);
        model.finish();
    }
}
