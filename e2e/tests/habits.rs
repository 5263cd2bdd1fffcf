//! Senders behind a bad network: duplicates and reordered sequences count once.

use std::sync::{Arc, RwLock};

use taba_e2e::checker;
use taba_e2e::process::Server;
use taba_e2e::producer::{Habits, Producer, SharedAddress};
use taba_e2e::rng::seed;

#[track_caller]
fn totals_are_exact(habits: Habits) {
    let data = tempfile::tempdir().expect("a folder for data");
    let server = Server::start(data.path(), &[]).expect("the server starts");
    let address: SharedAddress = Arc::new(RwLock::new(server.address()));
    let mut producer = Producer::new("producer", seed(2), 20, 100, habits);
    for _ in 0..30 {
        producer.send_next(&address).expect("the batch is acknowledged");
    }
    checker::check(&server.url(""), &producer.ledger).expect("totals equal what was acknowledged");
}

#[test]
fn batches_sent_twice_count_once() {
    totals_are_exact(Habits { duplicates: true, reorders: false });
}

#[test]
fn batches_sent_in_the_wrong_order_count_once() {
    totals_are_exact(Habits { duplicates: true, reorders: true });
}
