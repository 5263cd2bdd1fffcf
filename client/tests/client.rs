//! The recording API against real peers: what arrives is decoded and counted.

#[path = "support/peer.rs"]
mod peer;

use std::collections::HashMap;
use std::time::{Duration, Instant, SystemTime};

use peer::{PATIENCE, Peer, Reply, Request, dead_address};
use taba_client::{Builder, Client, FlushError, StartError};
use taba_core::wire::v2::Batch;
use taba_core::{Part, State, TabType, part};

fn builder(peer: &Peer) -> Builder {
    Client::builder(peer.url()).client_id("host.test").flush_every(Duration::from_millis(20))
}

/// Events and merged states per tab over all batches, each id counted once.
fn received(requests: &[Request]) -> HashMap<String, (u64, State)> {
    let mut seen = std::collections::HashSet::new();
    let mut tabs: HashMap<String, (u64, State)> = HashMap::new();
    for request in requests {
        let batch = Batch::decode(&request.body).expect("a good batch");
        assert_eq!(request.header("Idempotency-Key"), Some(batch.id.to_string().as_str()));
        if !seen.insert(batch.id.clone()) {
            continue;
        }
        let block = batch.inflate(1 << 26).expect("good parts");
        for part in part::iter(&block) {
            let Part::State { tab, client, events, state } = part.expect("a good part") else {
                panic!("a client deletes nothing")
            };
            assert_eq!(client, "host.test");
            let state = State::decode(state).expect("a good state");
            let entry = tabs.entry(tab.to_owned()).or_insert_with(|| (0, State::new(state.tab_type())));
            entry.0 += events;
            entry.1.merge(&state, batch.created).expect("one type per tab");
        }
    }
    tabs
}

#[test]
fn every_event_of_many_threads_arrives_once_however_often_answers_are_lost() {
    let peer = Peer::start(|number, _| if number % 3 == 0 { Reply::Cut } else { Reply::Status(200) });
    let client = builder(&peer).start().expect("a client");
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                let (counter, percentile) = (client.counter("requests"), client.percentile("latency"));
                for number in 0..5_000 {
                    counter.record(2.0);
                    percentile.record(f64::from(number));
                }
            });
        }
    });
    client.flush(PATIENCE).expect("everything is acknowledged");
    let tabs = received(&peer.requests());
    assert_eq!((tabs["requests"].0, tabs["latency"].0), (20_000, 20_000));
    let now = taba_core::Timestamp::from_secs(
        SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).expect("after 1970").as_secs() as i64,
    );
    let day = &tabs["requests"].1.windows(now)[3];
    assert_eq!((day.count, day.sum), (20_000, 40_000.0));
    assert_eq!(client.stats().recorded, 40_000);
    assert_eq!(client.stats().delivery.acknowledged.events, 40_000);
}

#[test]
fn each_call_records_its_type() {
    let peer = Peer::start(|_, _| Reply::Status(200));
    let client = builder(&peer).start().expect("a client");
    let later = SystemTime::now() + Duration::from_secs(60);
    client.counter("counter").increment();
    client.percentile("percentile").record_millis(Duration::from_millis(3));
    client.gauge("gauge", "a \"value\" é");
    client.gauge_until("expiry", 4, later);
    client.buffer("buffer", 1.5, later);
    client.flush(PATIENCE).expect("everything is acknowledged");
    let tabs = received(&peer.requests());
    for (tab, tab_type) in [
        ("counter", TabType::CounterGroup),
        ("percentile", TabType::PercentileGroup),
        ("gauge", TabType::Gauge),
        ("expiry", TabType::ExpiryGauge),
        ("buffer", TabType::Buffer),
    ] {
        assert_eq!((tabs[tab].0, tabs[tab].1.tab_type()), (1, tab_type), "{tab}");
    }
}

#[test]
fn dropping_the_last_clone_flushes() {
    let peer = Peer::start(|_, _| Reply::Status(200));
    let client = builder(&peer).flush_every(Duration::from_secs(3600)).drop_wait(PATIENCE).start();
    let client = client.expect("a client");
    let counter = client.counter("requests");
    counter.increment();
    drop(client.clone());
    assert!(peer.requests().is_empty());
    drop(client);
    assert_eq!(received(&peer.requests())["requests"].0, 1);
    // A handle that outlives its client records nothing and harms nothing.
    counter.increment();
}

/// 8.5.6 and 8.3.3: the first Taba's client hung with its agent and grew without bound.
#[test]
fn a_silent_receiver_neither_blocks_recording_nor_grows_memory() {
    let peer = Peer::start(|_, _| Reply::Hang);
    let client = builder(&peer).drop_wait(Duration::ZERO).start().expect("a client");
    let counter = client.counter("requests");
    counter.increment();
    peer.wait_for(1);
    let began = Instant::now();
    for _ in 0..1_000_000 {
        counter.increment();
    }
    // The time limits of one attempt alone are longer than this.
    assert!(began.elapsed() < Duration::from_secs(20), "a million records took {:?}", began.elapsed());
    let stats = client.stats();
    assert_eq!((stats.recorded, stats.dropped), (1_000_001, 0));
    assert!(stats.recording_bytes < 100_000, "{} bytes for one tab", stats.recording_bytes);
    assert!(matches!(client.flush(Duration::from_millis(50)), Err(FlushError::TimedOut(_))));
}

#[test]
fn bounds_and_bad_use_are_counted() {
    let client = Client::builder(dead_address()).client_id("host.test").tabs_max(2).drop_wait(Duration::ZERO);
    let client = client.start().expect("a client");
    client.counter("one").increment();
    client.counter("two").increment();
    client.counter("three").increment();
    assert_eq!((client.stats().recorded, client.stats().dropped, client.stats().bad), (2, 1, 0));
    client.counter("a name").increment();
    client.counter("").increment();
    client.percentile("one").record(1.0);
    client.counter("one").record(f64::NAN);
    assert_eq!((client.stats().recorded, client.stats().dropped, client.stats().bad), (2, 1, 4));
}

#[test]
fn memory_for_recording_is_bounded_in_bytes() {
    let client = Client::builder(dead_address()).client_id("host.test").drop_wait(Duration::ZERO);
    let client = client.recording_bytes_max(100_000).flush_every(Duration::from_secs(3600)).start();
    let client = client.expect("a client");
    let (entry, later) = ("x".repeat(1_000), SystemTime::now() + Duration::from_secs(60));
    for _ in 0..1_000 {
        client.buffer("log", entry.as_str(), later);
    }
    let stats = client.stats();
    assert!(stats.recording_bytes < 110_000, "{} bytes", stats.recording_bytes);
    assert!(stats.dropped > 800, "{} dropped", stats.dropped);
    assert_eq!(stats.recorded + stats.dropped, 1_000);
}

#[test]
fn a_flush_says_what_was_refused_for_good() {
    let peer = Peer::start(|_, _| Reply::Status(400));
    let client = builder(&peer).flush_every(Duration::from_secs(3600)).start().expect("a client");
    client.counter("requests").increment();
    assert_eq!(client.flush(PATIENCE), Err(FlushError::Lost { events: 1 }));
}

#[test]
fn what_cannot_work_is_refused_at_the_start() {
    assert!(matches!(Client::builder("http://a:1").start(), Err(StartError::NoClientId)));
    let spaces = Client::builder("http://a:1").client_id("a b").start();
    assert!(matches!(spaces, Err(StartError::ClientId { .. })));
    let scheme = Client::builder("ftp://a:1").client_id("a").start();
    assert!(matches!(scheme, Err(StartError::Endpoint(_))));
}
