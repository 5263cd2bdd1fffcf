//! The delivery path against real peers.

#[path = "support/peer.rs"]
mod peer;

use std::sync::Arc;
use std::sync::mpsc::{Receiver, sync_channel};
use std::time::{Duration, Instant};

use peer::{PATIENCE, Peer, Reply, dead_address, eventually};
use taba_client::delivery::{Body, Delivery, DeliveryConfig, Fate, SealedBatch, Tally};

fn batch(sequence: u64) -> SealedBatch {
    SealedBatch {
        id: Some(format!("producer/{sequence}").parse().expect("a valid id")),
        path: "/v2/batch",
        content_type: Some("application/test"),
        content_encoding: None,
        body: Body::Memory(Arc::from(format!("body of {sequence}").into_bytes())),
        events: 10,
        age: Duration::ZERO,
    }
}

fn start(config: DeliveryConfig) -> (Delivery, Receiver<Fate>) {
    let (told, fates) = sync_channel(1024);
    let tell = move |_: &SealedBatch, fate| told.send(fate).expect("the test listens");
    (Delivery::start(config, tell).expect("threads"), fates)
}

fn drain(delivery: &Delivery) {
    assert!(delivery.drain(Instant::now() + PATIENCE), "something is never resolved");
}

#[test]
fn a_batch_is_retried_under_its_id_with_the_same_bytes_until_it_is_acknowledged() {
    let replies = [Reply::Cut, Reply::Status(500), Reply::Cut, Reply::Status(200)];
    let peer = Peer::start(move |number, _| replies[number]);
    let (delivery, fates) = start(DeliveryConfig::new(vec![peer.url()]));
    delivery.offer(batch(1)).expect("room");
    drain(&delivery);
    let requests = peer.wait_for(4);
    for request in &requests {
        assert_eq!(request.line, "POST /v2/batch HTTP/1.1");
        assert_eq!(request.header("Idempotency-Key"), Some("producer/1"));
        assert_eq!(request.header("Content-Type"), Some("application/test"));
        assert_eq!(request.body, b"body of 1");
    }
    assert_eq!(fates.try_iter().collect::<Vec<_>>(), [Fate::Acknowledged]);
    assert_eq!(delivery.stats().attempts, 4);
}

/// 8.3.7: the first Taba's agent retried poison for ever.
#[test]
fn a_poison_batch_is_dropped_and_counted_and_its_neighbours_arrive() {
    for status in [400, 409, 413, 415] {
        let poison = |request: &peer::Request| request.header("Idempotency-Key") == Some("producer/1");
        let peer = Peer::start(move |_, request| Reply::Status(if poison(request) { status } else { 200 }));
        let (delivery, _fates) = start(DeliveryConfig::new(vec![peer.url()]));
        delivery.offer(batch(1)).expect("room");
        delivery.offer(batch(2)).expect("room");
        drain(&delivery);
        assert_eq!(peer.requests().len(), 2);
        assert_eq!(delivery.stats().refused, Tally { batches: 1, events: 10 });
        assert_eq!(delivery.stats().acknowledged, Tally { batches: 1, events: 10 });
    }
}

/// 8.3.5: requests of a dead endpoint never moved.
#[test]
fn work_leaves_a_dead_endpoint_at_once() {
    let peer = Peer::start(|_, _| Reply::Status(200));
    let (delivery, _fates) = start(DeliveryConfig::new(vec![dead_address(), peer.url()]));
    for sequence in 0..200 {
        delivery.offer(batch(sequence)).expect("room");
    }
    drain(&delivery);
    assert_eq!(delivery.stats().acknowledged.batches, 200);
    let (_, dead) = &delivery.endpoints()[0];
    assert!(!dead.healthy);
}

#[test]
fn an_endpoint_that_comes_back_gets_work_again() {
    let peer = Peer::start(|number, _| Reply::Status(if number == 0 { 503 } else { 200 }));
    let (delivery, _fates) = start(DeliveryConfig::new(vec![peer.url()]));
    delivery.offer(batch(1)).expect("room");
    drain(&delivery);
    assert!(delivery.endpoints()[0].1.healthy);
}

/// 8.3.3: one silent peer blocked a sender for ever.
#[test]
fn a_silent_endpoint_is_given_up_and_its_work_moves() {
    let silent = Peer::start(|_, _| Reply::Hang);
    let peer = Peer::start(|_, _| Reply::Status(200));
    let mut config = DeliveryConfig::new(vec![silent.url(), peer.url()]);
    config.timeouts.answer = Duration::from_millis(200);
    let (delivery, _fates) = start(config);
    for sequence in 0..20 {
        delivery.offer(batch(sequence)).expect("room");
    }
    drain(&delivery);
    assert_eq!(delivery.stats().acknowledged.batches, 20);
    assert!(!silent.requests().is_empty());
}

/// 8.3.6: 900 attempts a second against a refusing endpoint.
#[test]
fn attempts_against_a_refusing_endpoint_keep_their_distance() {
    let config = DeliveryConfig::new(vec![dead_address()]);
    let floor = config.backoff.floor;
    let (delivery, _fates) = start(config);
    let began = Instant::now();
    for sequence in 0..100 {
        delivery.offer(batch(sequence)).expect("room");
    }
    eventually("the sixth attempt", || delivery.stats().attempts >= 6);
    // Each of the five waits between six attempts lasts at least the floor.
    assert!(began.elapsed() >= 5 * floor, "six attempts in {:?}", began.elapsed());
}

#[test]
fn retry_after_is_waited_for() {
    let peer = Peer::start(|number, _| if number == 0 { Reply::RetryAfter(2) } else { Reply::Status(200) });
    let (delivery, _fates) = start(DeliveryConfig::new(vec![peer.url()]));
    let began = Instant::now();
    delivery.offer(batch(1)).expect("room");
    drain(&delivery);
    assert!(began.elapsed() >= Duration::from_secs(2));
}

#[test]
fn connections_are_kept_alive() {
    let peer = Peer::start(|_, _| Reply::Status(200));
    let config = DeliveryConfig { senders_per_endpoint: 1, ..DeliveryConfig::new(vec![peer.url()]) };
    let (delivery, _fates) = start(config);
    for sequence in 0..50 {
        delivery.offer(batch(sequence)).expect("room");
    }
    drain(&delivery);
    assert_eq!((peer.requests().len(), peer.connections()), (50, 1));
}

#[test]
fn a_batch_that_grows_too_old_is_dropped_and_counted() {
    let retry_for = Duration::from_millis(300);
    let (delivery, fates) = start(DeliveryConfig { retry_for, ..DeliveryConfig::new(vec![dead_address()]) });
    delivery.offer(batch(1)).expect("room");
    drain(&delivery);
    assert_eq!(fates.try_iter().collect::<Vec<_>>(), [Fate::Expired]);
    assert_eq!(delivery.stats().expired, Tally { batches: 1, events: 10 });
}

#[test]
fn a_full_store_refuses_the_newest() {
    let config = DeliveryConfig { batches_max: 2, ..DeliveryConfig::new(vec![dead_address()]) };
    let (delivery, _fates) = start(config);
    delivery.offer(batch(1)).expect("room");
    delivery.offer(batch(2)).expect("room");
    assert!(delivery.offer(batch(3)).is_err());
    assert_eq!(delivery.load().batches, 2);
}
