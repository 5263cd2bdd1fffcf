//! The writer thread: takes what callers ask to store, as much as waits, and makes it durable with one
//! sync. Alone, a batch waits for nothing; under load a sync carries all that came during the last one.

use std::collections::HashMap;
use std::io;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Instant;

use bytes::Bytes;
use taba_core::batch::SEQUENCE_WINDOW;
use taba_core::{BatchId, Parts, ProducerId, Timestamp};
use tokio::sync::{mpsc, oneshot};

use super::log::{Log, Record};
use super::producers::{Producers, Verdict, Window};
use super::queue::{Entry, Segment};
use super::record::{BlockHead, RecordHead};
use super::shared::{Shared, gauge};
use crate::store::{Accepted, EntryId, StoreError};

/// Batches waiting for the writer. Their bytes are bounded by whoever sends them (bytes in flight); here
/// 1,024 batches of about 200 kB are 200 MB, five seconds of work.
const WAITING_MAX: usize = 1024;

/// Bytes after which a group is closed: a sync of 8 MiB takes tens of milliseconds.
const GROUP_BYTES_MAX: usize = 8 << 20;

/// Memory an entry takes while it waits, besides its block.
const ENTRY_MEMORY_BYTES: u64 = 128;

/// A batch to store, and who wants to know.
pub(super) struct Request {
    pub(super) id: Option<BatchId>,
    pub(super) parts: Parts,
    pub(super) reply: oneshot::Sender<Result<Accepted, StoreError>>,
}

/// Starts the thread. It ends when the sender is dropped and all that waited is stored.
pub(super) fn start(shared: Arc<Shared>) -> io::Result<(mpsc::Sender<Request>, JoinHandle<()>)> {
    let (sender, mut requests) = mpsc::channel::<Request>(WAITING_MAX);
    let run = move || {
        while let Some(first) = requests.blocking_recv() {
            let mut bytes = first.parts.bytes();
            let mut group = vec![first];
            while bytes < GROUP_BYTES_MAX
                && let Ok(next) = requests.try_recv()
            {
                bytes += next.parts.bytes();
                group.push(next);
            }
            store_group(&shared, group);
        }
    };
    let thread = std::thread::Builder::new().name("taba-log".to_owned()).spawn(run)?;
    Ok((sender, thread))
}

type Reply = oneshot::Sender<Result<Accepted, StoreError>>;

/// What becomes of a group's batches once the group is durable.
#[derive(Default)]
struct Plan {
    records: Vec<Record>,
    /// Windows of the group's producers as they will be.
    windows: HashMap<ProducerId, Window>,
    replies: Vec<(Reply, Accepted)>,
    entries: u64,
    bytes: u64,
    parts_bytes: u64,
}

fn store_group(shared: &Shared, group: Vec<Request>) {
    let now = shared.now();
    let mut log = shared.log.lock();
    let mut plan = Plan::default();
    let room = Room::of(shared);
    let mut producers = shared.producers.lock();
    producers.sweep(now);
    for request in group {
        plan.add(request, shared, &producers, &room, log.next_serial(), now);
    }
    drop(producers);
    if !plan.records.is_empty() {
        let started = Instant::now();
        let segments = shared.segments.read();
        match log.append(&segments, &plan.records) {
            Ok((segment, offsets)) => {
                shared.metrics.sync_seconds.observe(started.elapsed().as_secs_f64());
                shared.metrics.queue_bytes.set(gauge(segments.bytes()));
                drop(segments);
                publish(shared, &mut log, plan.records, &segment, &offsets);
                log.seal_if_large();
                shared.metrics.accepted_bytes.inc_by(plan.parts_bytes);
            }
            Err(error) => {
                drop(segments);
                drop(log);
                return refuse(shared, plan.replies, &error);
            }
        }
    }
    drop(log);
    for (reply, outcome) in plan.replies {
        match outcome {
            Accepted::New => shared.metrics.accepts.inc(),
            Accepted::Duplicate => shared.metrics.duplicates.inc(),
        };
        // Whoever gave up waiting will ask again and be told that it is a duplicate.
        drop(reply.send(Ok(outcome)));
    }
}

impl Plan {
    fn add(
        &mut self,
        request: Request,
        shared: &Shared,
        producers: &Producers,
        room: &Room,
        next_serial: u64,
        now: Timestamp,
    ) {
        let Request { id, parts, reply } = request;
        match id.as_ref().map_or(Verdict::New, |id| self.verdict(id, producers)) {
            Verdict::New => {}
            // Answered with the group, so that what it repeats is durable by then.
            Verdict::Seen => return self.replies.push((reply, Accepted::Duplicate)),
            Verdict::Stale => {
                shared.metrics.stale.inc();
                let sequence = id.map_or(0, |id| id.sequence);
                return drop(
                    reply.send(Err(StoreError::StaleSequence { sequence, window: SEQUENCE_WINDOW })),
                );
            }
        }
        let serial = next_serial + self.records.len() as u64;
        let parts_bytes = parts.bytes() as u64;
        let record = record(id, parts, serial, now);
        let unknown = record.blocks.iter().find(|(vbucket, _)| usize::from(vbucket.0) >= shared.queues.len());
        if let Some((vbucket, _)) = unknown {
            let what = format!("a batch was cut for more vbuckets: {} does not exist", vbucket.0);
            return drop(reply.send(Err(StoreError::Corrupt { what })));
        }
        let (bytes, entries) = (self.bytes + record.bytes(), self.entries + record.blocks.len() as u64);
        let known = record.head.id.as_ref().is_none_or(|id| self.has_room_for(id, producers));
        let room = if known { room.check(bytes, entries) } else { Err("producers") };
        if let Err(what) = room {
            shared.metrics.full.inc();
            return drop(reply.send(Err(StoreError::Full { what })));
        }
        (self.bytes, self.entries) = (bytes, entries);
        self.parts_bytes += parts_bytes;
        if let Some(id) = &record.head.id {
            self.mark(id, producers);
        }
        self.records.push(record);
        self.replies.push((reply, Accepted::New));
    }

    fn verdict(&self, id: &BatchId, producers: &Producers) -> Verdict {
        let window = self.windows.get(&id.producer).or_else(|| producers.window(&id.producer));
        window.map_or(Verdict::New, |window| window.verdict(id.sequence))
    }

    fn has_room_for(&self, id: &BatchId, producers: &Producers) -> bool {
        self.windows.contains_key(&id.producer) || producers.has_room_for(&id.producer, self.windows.len())
    }

    fn mark(&mut self, id: &BatchId, producers: &Producers) {
        match self.windows.get_mut(&id.producer) {
            Some(window) => window.mark(id.sequence),
            None => {
                let window = match producers.window(&id.producer) {
                    Some(window) => {
                        let mut window = window.clone();
                        window.mark(id.sequence);
                        window
                    }
                    None => Window::first(id.sequence),
                };
                self.windows.insert(id.producer.clone(), window);
            }
        }
    }
}

fn record(id: Option<BatchId>, parts: Parts, serial: u64, accepted: Timestamp) -> Record {
    let blocks: Vec<_> = parts.into_blocks().map(|(vbucket, block)| (vbucket, Bytes::from(block))).collect();
    let heads = blocks.iter().map(|(vbucket, block)| BlockHead {
        vbucket: *vbucket,
        bytes: u32::try_from(block.len()).expect("bodies are far below 4 GiB"),
        crc: crc32c::crc32c(block),
    });
    Record { head: RecordHead { serial, accepted, id, blocks: heads.collect() }, blocks }
}

/// Puts durable records on their queues and remembers their ids.
fn publish(shared: &Shared, log: &mut Log, records: Vec<Record>, segment: &Arc<Segment>, offsets: &[u64]) {
    remember(shared, &records);
    for (record, offset) in records.into_iter().zip(offsets) {
        let id = EntryId(record.head.serial);
        let mut offset = *offset;
        for ((vbucket, block), head) in record.blocks.into_iter().zip(&record.head.blocks) {
            let slot = &shared.queues[usize::from(vbucket.0)];
            let bytes = block.len();
            slot.queue.lock().push(Entry {
                id,
                accepted: record.head.accepted,
                segment: Arc::clone(segment),
                offset,
                bytes: head.bytes,
                crc: head.crc,
                block: Some(block),
            });
            slot.arrived.notify_waiters();
            offset += u64::from(head.bytes);
            for (vbucket, id) in log.newest().push(vbucket, id, bytes, shared.options.newest_bytes_max) {
                shared.queues[usize::from(vbucket.0)].queue.lock().uncache(id);
            }
        }
    }
}

fn remember(shared: &Shared, records: &[Record]) {
    let mut producers = shared.producers.lock();
    for record in records {
        if let Some(id) = &record.head.id {
            producers.mark(id, record.head.accepted);
        }
    }
    shared.metrics.producers.set(gauge(producers.len() as u64));
}

fn refuse(shared: &Shared, replies: Vec<(Reply, Accepted)>, error: &io::Error) {
    let full = super::is_full(error);
    tracing::warn!(%error, batches = replies.len(), "failed to write to the log");
    for (reply, _) in replies {
        let refusal = if full {
            shared.metrics.full.inc();
            StoreError::Full { what: "disk space" }
        } else {
            shared.metrics.write_failures.inc();
            let source = io::Error::new(error.kind(), error.to_string());
            StoreError::Unavailable { what: "write to the log", source: Box::new(source) }
        };
        drop(reply.send(Err(refusal)));
    }
}

/// How much may be stored at the moment.
struct Room {
    queue_left: u64,
    disk_left: u64,
}

impl Room {
    fn of(shared: &Shared) -> Self {
        let segments = shared.segments.read();
        let used = segments.bytes() + segments.waiting() * ENTRY_MEMORY_BYTES;
        let log = shared.options.queue_bytes_max.saturating_sub(used);
        let disk = match rustix::fs::statvfs(shared.log_folder()) {
            Ok(disk) => (disk.f_bavail * disk.f_frsize).saturating_sub(shared.options.disk_reserve_bytes),
            // The write itself will say what is wrong.
            Err(_) => u64::MAX,
        };
        Self { queue_left: log, disk_left: disk }
    }

    /// Names the bound that so much would pass.
    fn check(&self, bytes: u64, entries: u64) -> Result<(), &'static str> {
        if bytes + entries * ENTRY_MEMORY_BYTES > self.queue_left {
            return Err("queue bytes");
        }
        if bytes > self.disk_left {
            return Err("disk space");
        }
        Ok(())
    }
}
