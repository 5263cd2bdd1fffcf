//! Numbered batches, an owner that writes every number it applied into the tab's state, and the check
//! that each acknowledged number is there once. It is what the pipeline does, without its arithmetic.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, Instant};

use bytes::Bytes;
use taba_core::{BatchId, Part, Parts, TabType, Vbucket, VbucketCount};
pub use taba_server::store::embedded::Embedded;
use taba_server::store::embedded::{EmbeddedOptions, OpenError};
use taba_server::store::{Commit, EntryId, Lease, Marks, Store, StoreError, TabChange};

/// Bytes before the numbers in a state: version, type.
const HEAD_BYTES: usize = 2;
const TABS: u64 = 6;

pub fn vbuckets() -> VbucketCount {
    VbucketCount::new(4).unwrap()
}

pub fn options() -> EmbeddedOptions {
    let mut options = EmbeddedOptions::new(vbuckets());
    // Segments come and go all the time, and the cache is too small to keep writes from the disk.
    options.segment_bytes = Some(32 << 10);
    options.newest_bytes_max = 8 << 10;
    options.cache_bytes = 1 << 20;
    options.disk_reserve_bytes = 0;
    options
}

/// Opens a folder that work of the store before may still hold for a moment.
pub fn open(path: &Path) -> Embedded {
    let started = Instant::now();
    loop {
        match Embedded::open(path, options()) {
            Ok(store) => return store,
            Err(OpenError::InUse { .. }) if started.elapsed() < Duration::from_secs(10) => {
                std::thread::yield_now();
            }
            Err(error) => panic!("{error}: {error:?}"),
        }
    }
}

/// The batch of a producer's number: a part in each of a few tabs, padded to `bytes`.
pub fn batch(producer: u64, sequence: u64, bytes: usize) -> (BatchId, Parts) {
    let number = number(producer, sequence);
    let mut parts = Parts::new(vbuckets());
    for tab in 0..TABS {
        let tab = format!("tab{tab}");
        parts.push(&Part::State { tab: &tab, client: "client", events: number, state: &vec![1; bytes] });
    }
    (format!("p{producer}/{sequence}").parse().unwrap(), parts)
}

pub fn number(producer: u64, sequence: u64) -> u64 {
    producer << 32 | sequence
}

/// Takes the lease, waiting while the store is not there or the lease is not free.
pub async fn own(store: &Embedded, vbucket: Vbucket) -> Lease {
    let started = Instant::now();
    loop {
        match store.lease(vbucket, "owner", Duration::from_secs(60)).await {
            Ok(Some(lease)) => return lease,
            other => assert!(started.elapsed() < Duration::from_secs(20), "no lease: {other:?}"),
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Applies what waits in a vbucket, up to `bytes_max`; all-clients states at every call, states per client
/// only if `clients`. Returns whether there was anything.
pub async fn apply(
    store: &Embedded,
    vbucket: Vbucket,
    bytes_max: usize,
    clients: bool,
) -> Result<bool, StoreError> {
    let lease = own(store, vbucket).await;
    let Marks { aggregates, clients: clients_mark } = lease.marks;
    let entries = store.read_queue(vbucket, clients_mark, bytes_max).await?;
    let Some(last) = entries.last() else { return Ok(false) };
    // Per tab, the numbers that each of the two states lacks.
    let mut lacking: BTreeMap<String, [Vec<u64>; 2]> = BTreeMap::new();
    for entry in &entries {
        for part in taba_core::part::iter(&entry.block) {
            let Part::State { tab, events, .. } = part.unwrap() else { panic!("nobody deletes") };
            let lacking = lacking.entry(tab.to_owned()).or_default();
            if entry.id > aggregates {
                lacking[0].push(events);
            }
            lacking[1].push(events);
        }
    }
    let mut changes = Vec::new();
    for (tab, [for_aggregate, for_client]) in lacking {
        let aggregate = store.read_aggregates(vbucket, std::slice::from_ref(&tab)).await?.remove(0);
        let client = store.read_pairs(vbucket, &[(tab.clone(), "client".to_owned())]).await?.remove(0);
        let client = clients.then(|| ("client".to_owned(), Some(append(client, &for_client))));
        let aggregate = Some(append(aggregate, &for_aggregate));
        changes.push(TabChange { tab, aggregate, clients: client.into_iter().collect(), delete: false });
    }
    let clients = if clients { last.id } else { clients_mark };
    let marks = Marks { aggregates: last.id.max(aggregates), clients };
    store.commit(vbucket, lease.token, Commit { changes, marks }).await?;
    Ok(true)
}

fn append(state: Option<Bytes>, numbers: &[u64]) -> Bytes {
    let mut state = state.map_or_else(|| vec![1, TabType::Buffer as u8], Vec::from);
    state.extend(numbers.iter().flat_map(|number| number.to_le_bytes()));
    Bytes::from(state)
}

/// Applies all that waits, then checks that every tab holds each number up to its producer's last
/// acknowledged one exactly once, in both kinds of states, and beyond that at most the one in doubt.
pub async fn check(store: &Embedded, acknowledged: &[u64]) {
    for vbucket in vbuckets().iter() {
        while apply(store, vbucket, usize::MAX, true).await.unwrap() {}
        assert!(store.read_queue(vbucket, EntryId(0), 1).await.unwrap().is_empty());
    }
    for tab in (0..TABS).map(|tab| format!("tab{tab}")) {
        let vbucket = vbuckets().of(&tab);
        let aggregate = store.read_aggregates(vbucket, std::slice::from_ref(&tab)).await.unwrap().remove(0);
        let client =
            store.read_pairs(vbucket, &[(tab.clone(), "client".to_owned())]).await.unwrap().remove(0);
        for (kind, state) in [("all clients", aggregate), ("one client", client)] {
            check_state(&format!("{tab}, {kind}"), &state.unwrap_or_default(), acknowledged);
        }
    }
}

fn check_state(what: &str, state: &[u8], acknowledged: &[u64]) {
    let (numbers, rest) = state.get(HEAD_BYTES..).unwrap_or_default().as_chunks::<8>();
    assert!(rest.is_empty(), "{what}");
    let mut numbers: Vec<u64> = numbers.iter().map(|number| u64::from_le_bytes(*number)).collect();
    numbers.sort_unstable();
    let mut found = numbers.into_iter().peekable();
    for (producer, last) in (0..).zip(acknowledged) {
        for sequence in 1..=*last {
            assert_eq!(found.next(), Some(number(producer, sequence)), "{what}: lost or counted twice");
        }
        found.next_if_eq(&number(producer, last + 1));
    }
    assert_eq!(found.next(), None, "{what}: counted twice or never sent");
}
