//! kill -9 at random moments while batches are accepted and applied.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use taba_server::store::{Accepted, Store};

use crate::ledger;

const PRODUCERS: usize = 4;
const KILLS: usize = 12;
const SEED: u64 = 20_260_101;

/// The child is killed after a random number of acknowledgements, again and again on the same folder.
/// After each kill the next one sends the batch in doubt again, and one that was acknowledged. From time
/// to time, and at the end, all states are checked against what was acknowledged.
pub fn acknowledged_batches_survive_kill_9_exactly_once() {
    let dir = tempfile::tempdir().unwrap();
    let mut random = StdRng::seed_from_u64(SEED);
    let mut acknowledged = [0_u64; PRODUCERS];
    for kill in 0..KILLS {
        let acknowledgements = random.random_range(1..400);
        run_and_kill(dir.path(), &mut acknowledged, acknowledgements);
        if kill % 4 == 3 {
            let runtime = tokio::runtime::Runtime::new().unwrap();
            runtime.block_on(async { ledger::check(&ledger::open(dir.path()), &acknowledged).await });
        }
    }
    assert!(acknowledged.iter().all(|last| *last > 0), "{acknowledged:?}");
}

fn run_and_kill(path: &Path, acknowledged: &mut [u64; PRODUCERS], acknowledgements: usize) {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.arg("child-accept").arg(path).args(acknowledged.iter().map(u64::to_string));
    let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    for _ in 0..acknowledgements {
        note(acknowledged, &lines.next().expect("the child runs until it is killed").unwrap());
    }
    child.kill().unwrap();
    child.wait().unwrap();
    // What it said before it died counts as well.
    for line in lines.map_while(Result::ok) {
        note(acknowledged, &line);
    }
}

/// Takes in a line `<producer> <sequence>`; the last one may be cut short by the kill, and is told by
/// the missing full stop.
fn note(acknowledged: &mut [u64; PRODUCERS], line: &str) {
    let Some(line) = line.strip_suffix('.') else { return };
    let (producer, sequence) = line.split_once(' ').expect("two numbers");
    let producer: usize = producer.parse().unwrap();
    let sequence: u64 = sequence.parse().unwrap();
    assert_eq!(sequence, acknowledged[producer] + 1, "producer {producer}");
    acknowledged[producer] = sequence;
}

/// Accepts and applies until killed. Arguments: the folder, and per producer the last sequence that was
/// acknowledged.
pub fn child(arguments: &[String]) {
    let store = Arc::new(ledger::open(Path::new(&arguments[0])));
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let mut tasks = tokio::task::JoinSet::new();
        for (producer, last) in (0..).zip(&arguments[1..]) {
            tasks.spawn(produce(Arc::clone(&store), producer, last.parse().unwrap()));
        }
        tasks.spawn(own_all(store));
        panic!("a task ended: {:?}", tasks.join_next().await);
    });
}

async fn produce(store: Arc<ledger::Embedded>, producer: u64, last: u64) {
    if last > 0 {
        let (id, parts) = ledger::batch(producer, last, 100);
        assert_eq!(store.accept(Some(&id), parts).await.unwrap(), Accepted::Duplicate);
    }
    for sequence in last + 1.. {
        let (id, parts) = ledger::batch(producer, sequence, 100);
        store.accept(Some(&id), parts).await.unwrap();
        // One write per line, so that a kill cannot mix two.
        let line = format!("{producer} {sequence}.\n");
        std::io::stdout().lock().write_all(line.as_bytes()).unwrap();
        std::io::stdout().lock().flush().unwrap();
    }
}

async fn own_all(store: Arc<ledger::Embedded>) {
    for round in 0_u64.. {
        for vbucket in ledger::vbuckets().iter() {
            ledger::apply(&store, vbucket, 4096, round % 3 == 2).await.unwrap();
        }
        tokio::task::yield_now().await;
    }
}
