//! `kill -9` of a standalone server under load, again and again: totals equal what was acknowledged.

use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, RwLock};
use std::time::{Duration, Instant};

use taba_e2e::checker;
use taba_e2e::process::Server;
use taba_e2e::producer::{Habits, Ledger, Producer, SharedAddress, add_ledger};
use taba_e2e::rng::{Rng, seed};

const PRODUCERS: u64 = 4;

/// Short intervals, so that kills meet every kind of commit.
const BUSY_COMMITS: [&str; 4] =
    ["--pipeline-aggregate-commit-interval", "50ms", "--pipeline-client-commit-interval", "150ms"];

/// Runs producers while `meanwhile` plays with the server; returns what was acknowledged.
fn with_load(
    address: &SharedAddress,
    seed: u64,
    habits: Habits,
    meanwhile: impl FnOnce(&AtomicU64),
) -> Ledger {
    let stop = AtomicBool::new(false);
    let acknowledged = AtomicU64::new(0);
    let mut ledger = Ledger::new();
    std::thread::scope(|scope| {
        let run = |number: u64| {
            let mut producer = Producer::new(&format!("producer{number}"), seed ^ number, 40, 200, habits);
            producer.run(address, &stop, &acknowledged).expect("every batch is acknowledged in the end");
            producer.ledger
        };
        let producers: Vec<_> = (0..PRODUCERS).map(|number| scope.spawn(move || run(number))).collect();
        meanwhile(&acknowledged);
        stop.store(true, Ordering::Relaxed);
        for producer in producers {
            add_ledger(&mut ledger, &producer.join().expect("a producer ends well"));
        }
    });
    ledger
}

fn wait_for_events(acknowledged: &AtomicU64, events: u64) {
    let deadline = Instant::now() + Duration::from_secs(60);
    while acknowledged.load(Ordering::Relaxed) < events {
        assert!(Instant::now() < deadline, "events are acknowledged while the server is up");
        std::thread::sleep(Duration::from_millis(1));
    }
}

fn restart(data: &Path, address: &SharedAddress) -> Server {
    let server = Server::start(data, &BUSY_COMMITS).expect("the server starts over what a kill left");
    *address.write().expect("no holder of this lock panics") = server.address();
    server
}

#[test]
fn fifty_kills_lose_nothing_and_double_nothing() {
    let seed = seed(1);
    let mut rng = Rng::new(seed);
    let data = tempfile::tempdir().expect("a folder for data");
    let mut server = Server::start(data.path(), &BUSY_COMMITS).expect("the server starts");
    let address: SharedAddress = Arc::new(RwLock::new(server.address()));
    let ledger = with_load(&address, seed, Habits::default(), |acknowledged| {
        for _ in 0..50 {
            // At least one batch per life, then a random moment.
            wait_for_events(acknowledged, acknowledged.load(Ordering::Relaxed) + 200);
            std::thread::sleep(Duration::from_micros(rng.below(200_000)));
            server.kill().expect("it can be killed");
            server = restart(data.path(), &address);
        }
    });
    checker::check(&format!("http://{}", server.address()), &ledger).unwrap_or_else(|error| {
        panic!("TABA_SEED={seed}: {error:#}");
    });
    assert!(server.terminate().expect("it stops").success());
    // What a graceful stop leaves behind answers the same.
    let server = Server::start(data.path(), &BUSY_COMMITS).expect("it starts again");
    checker::check(&format!("http://{}", server.address()), &ledger)
        .expect("a stop and start change nothing");
}
