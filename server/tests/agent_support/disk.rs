//! A spool on a disk without room: posts are refused, nothing acknowledged is lost, and room heals it.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Write as _;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::peer::{Peer, Reply, eventually};
use crate::process::Taba;
use crate::{batch, delivered, folder, noisy_post};

const DISK_BYTES: u64 = 2 << 20;

/// Takes all the room that is left, as another program might.
fn fill_up(ballast: &Path) {
    let mut file = File::create(ballast).expect("a file");
    while file.write_all(&[0; 4096]).is_ok() {}
}

/// Posts until one is refused for want of room, and gives how many were taken in.
#[track_caller]
fn post_until_refused(agent: &Taba) -> u64 {
    for number in 0..5_000 {
        match noisy_post(agent, number) {
            Some(200) => {}
            answer => {
                assert_eq!(answer, Some(503));
                return u64::from(number);
            }
        }
    }
    panic!("the disk never filled");
}

/// Events in batches, each batch once however often it was sent.
fn events_received(peer: &Peer) -> u64 {
    let batches: BTreeMap<_, _> = peer.requests().iter().map(batch).collect();
    batches.into_values().flatten().sum()
}

#[test]
fn a_full_disk_refuses_posts_loses_none_and_heals() {
    let open = Arc::new(AtomicBool::new(false));
    let opened = Arc::clone(&open);
    let peer = Peer::start(move |_, _| Reply::Status(if opened.load(Ordering::Acquire) { 200 } else { 503 }));
    let disk = folder();
    let spool = disk.path().join("spool");
    let spool_flag = spool.to_str().expect("a plain path");
    let flags = ["--server", &peer.url(), "--spool", spool_flag];
    let agent = Taba::agent_with_disk(disk.path(), DISK_BYTES, &flags);

    // The spool fills the disk by itself, and sending what it holds is enough to empty it.
    let mut taken = post_until_refused(&agent);
    assert!(taken >= 100, "{taken} posts of 2 to 4 kB were taken in on 2 MiB");
    assert!(agent.metric("taba_agent_posts_at_capacity_total") >= 1.0);
    eventually("all is sealed", || agent.metric("taba_agent_buffered_events") == 0.0);
    open.store(true, Ordering::Release);
    delivered(&agent);
    assert_eq!(events_received(&peer), taken);

    // Another program fills the disk while posts come in, and gives the room back later.
    let ballast = agent.inside(&disk.path().join("ballast"));
    open.store(false, Ordering::Release);
    assert_eq!(noisy_post(&agent, 0), Some(200));
    fill_up(&ballast);
    assert_eq!(post_until_refused(&agent), 0);
    assert_eq!((agent.get("/readyz").0, agent.get("/livez").0), (503, 200));
    fs::remove_file(&ballast).expect("room can be made");
    eventually("there is room again", || noisy_post(&agent, 1) == Some(200));
    open.store(true, Ordering::Release);
    taken += 2;
    delivered(&agent);
    assert_eq!(events_received(&peer), taken);
    eventually("the spool is empty", || agent.metric("taba_agent_spool_bytes") == 0.0);
    let left: Vec<_> = fs::read_dir(agent.inside(&spool)).expect("the folder").flatten().collect();
    assert!(left.iter().all(|entry| entry.file_name() == "lock"), "{left:?}");
}
