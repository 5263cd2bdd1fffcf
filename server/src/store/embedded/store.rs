//! The [`Store`] trait over the shared parts: what may touch the disk runs off the async threads.

use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use taba_core::{BatchId, Parts, Timestamp, Vbucket, VbucketCount};
use tokio::sync::oneshot;

use super::Embedded;
use super::queue::Segment;
use super::shared::Shared;
use super::states::{Snapshot, StatesError};
use super::writer::Request;
use crate::store::{
    Accepted, ClientStates, Commit, Enrolment, EntryId, FencingToken, Lease, Progress, QueueDepth,
    QueueEntry, Store, StoreError, TabInfo,
};

impl Embedded {
    /// Runs work that may block on a thread made for it.
    async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Shared) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let shared = Arc::clone(&self.shared);
        let joined = tokio::task::spawn_blocking(move || work(&shared)).await;
        joined.map_err(|source| StoreError::Unavailable {
            what: "run work on a thread",
            source: Box::new(source),
        })?
    }

    async fn read<T: Send + 'static>(
        &self,
        what: &'static str,
        read: impl FnOnce(&Snapshot) -> Result<T, StatesError> + Send + 'static,
    ) -> Result<T, StoreError> {
        self.blocking(move |shared| shared.with_states(what, |states, _| Ok(read(&states.read()?)?))).await
    }
}

#[async_trait]
impl Store for Embedded {
    fn vbuckets(&self) -> VbucketCount {
        self.shared.options.vbuckets
    }

    fn was_reached(&self) -> bool {
        true
    }

    async fn accept(&self, id: Option<&BatchId>, parts: Parts) -> Result<Accepted, StoreError> {
        let (reply, outcome) = oneshot::channel();
        let request = Request { id: id.cloned(), parts, reply };
        let sent = match &self.requests {
            Some(requests) => requests.send(request).await.is_ok(),
            None => false,
        };
        let stopped =
            || StoreError::Unavailable { what: "write to the log", source: "its thread stopped".into() };
        if !sent {
            return Err(stopped());
        }
        outcome.await.unwrap_or_else(|_| Err(stopped()))
    }

    async fn enrol(&self, owner: &str, _ttl: Duration) -> Vec<Enrolment> {
        // The folder's lock lets one process in.
        vec![Enrolment { vbuckets: self.vbuckets().iter().collect(), live: Ok(vec![owner.to_owned()]) }]
    }

    async fn lease(&self, vbucket: Vbucket, owner: &str, ttl: Duration) -> Result<Option<Lease>, StoreError> {
        let mut lease = self.shared.queue(vbucket)?.lease.lock().await;
        let opening = self.opening().await?;
        let now = self.shared.now();
        let token = lease.take(owner, ttl, opening, now);
        let slot = self.shared.queue(vbucket)?;
        Ok(token.map(|token| Lease { token, marks: slot.queue.lock().progress.marks }))
    }

    async fn release(&self, vbucket: Vbucket, token: FencingToken) -> Result<(), StoreError> {
        self.shared.queue(vbucket)?.lease.lock().await.release(token);
        Ok(())
    }

    async fn progress(&self, vbucket: Vbucket) -> Result<Progress, StoreError> {
        let marks = self.shared.queue(vbucket)?.queue.lock().progress.marks;
        let oldest = self.read_queue(vbucket, marks.aggregates, 1).await?;
        Ok(Progress { marks, behind_since: oldest.first().map(|entry| entry.accepted) })
    }

    async fn read_queue(
        &self,
        vbucket: Vbucket,
        after: EntryId,
        bytes_max: usize,
    ) -> Result<Vec<QueueEntry>, StoreError> {
        let found = plan_read(&self.shared, vbucket, after, bytes_max)?;
        if found.iter().all(|planned| matches!(planned.source, Source::Memory(_))) {
            return found.into_iter().map(Planned::load).collect();
        }
        self.blocking(move |_| found.into_iter().map(Planned::load).collect()).await
    }

    async fn read_owned_queue(
        &self,
        vbucket: Vbucket,
        token: FencingToken,
        after: EntryId,
        bytes_max: usize,
    ) -> Result<Vec<QueueEntry>, StoreError> {
        let lease = self.shared.queue(vbucket)?.lease.lock().await;
        if !lease.allows(token, self.opening().await?, self.shared.now()) {
            return Err(StoreError::Fenced(vbucket));
        }
        drop(lease);
        self.read_queue(vbucket, after, bytes_max).await
    }

    async fn commit(&self, vbucket: Vbucket, token: FencingToken, commit: Commit) -> Result<(), StoreError> {
        // The guard moves with the work: a caller that gives up cannot let a hand-over in between.
        let lease = Arc::clone(&self.shared.queue(vbucket)?.lease).lock_owned().await;
        self.blocking(move |shared| shared.commit(vbucket, &lease, token, &commit)).await
    }

    async fn read_aggregates(
        &self,
        vbucket: Vbucket,
        tabs: &[String],
    ) -> Result<Vec<Option<Bytes>>, StoreError> {
        let tabs = tabs.to_vec();
        self.read("read all-clients states", move |snapshot| snapshot.aggregates(vbucket, &tabs)).await
    }

    async fn read_clients(
        &self,
        vbucket: Vbucket,
        tab: &str,
        clients: Option<&[String]>,
    ) -> Result<ClientStates, StoreError> {
        let (tab, clients) = (tab.to_owned(), clients.map(<[String]>::to_vec));
        let read = move |snapshot: &Snapshot| snapshot.clients(vbucket, &tab, clients.as_deref());
        self.read("read states of clients", read).await
    }

    async fn read_pairs(
        &self,
        vbucket: Vbucket,
        pairs: &[(String, String)],
    ) -> Result<Vec<Option<Bytes>>, StoreError> {
        let pairs = pairs.to_vec();
        self.read("read states of pairs", move |snapshot| snapshot.pairs(vbucket, &pairs)).await
    }

    async fn count_clients(&self, vbucket: Vbucket, tab: &str) -> Result<usize, StoreError> {
        let tab = tab.to_owned();
        let count = self.read("count clients", move |snapshot| snapshot.count_clients(vbucket, &tab)).await?;
        Ok(usize::try_from(count).unwrap_or(usize::MAX))
    }

    async fn count_tabs(&self, vbucket: Vbucket) -> Result<usize, StoreError> {
        let count = self.read("count tabs", move |snapshot| snapshot.count_tabs(vbucket)).await?;
        Ok(usize::try_from(count).unwrap_or(usize::MAX))
    }

    async fn list_tabs(
        &self,
        vbucket: Vbucket,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<TabInfo>, StoreError> {
        let after = after.map(str::to_owned);
        self.read("list tabs", move |snapshot| snapshot.tabs(vbucket, after.as_deref(), limit)).await
    }

    async fn list_clients(
        &self,
        vbucket: Vbucket,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<String>, StoreError> {
        let after = after.map(str::to_owned);
        self.read("list clients", move |snapshot| snapshot.list_clients(vbucket, after.as_deref(), limit))
            .await
    }

    async fn list_tabs_of_client(&self, vbucket: Vbucket, client: &str) -> Result<Vec<String>, StoreError> {
        let client = client.to_owned();
        self.read("list tabs of a client", move |snapshot| snapshot.tabs_of_client(vbucket, &client)).await
    }

    async fn queue_depth(&self, vbucket: Vbucket) -> Result<QueueDepth, StoreError> {
        Ok(self.shared.queue(vbucket)?.queue.lock().depth())
    }

    async fn discard_queue(&self, vbucket: Vbucket) -> Result<u64, StoreError> {
        let mut lease = Arc::clone(&self.shared.queue(vbucket)?.lease).lock_owned().await;
        self.blocking(move |shared| shared.discard(vbucket, &mut lease)).await
    }

    async fn wait_for_entries(&self, vbucket: Vbucket, after: EntryId) {
        let Ok(slot) = self.shared.queue(vbucket) else { return };
        loop {
            let arrived = slot.arrived.notified();
            tokio::pin!(arrived);
            // Registered before the look, so that an entry between the two is not missed.
            arrived.as_mut().enable();
            if self.shared.has_after(vbucket, after) {
                return;
            }
            arrived.await;
        }
    }
}

impl Embedded {
    /// The number of this opening. Off the async threads only if the database has to be opened again.
    async fn opening(&self) -> Result<u64, StoreError> {
        match self.shared.opening_if_healthy() {
            Some(opening) => Ok(opening),
            None => self.blocking(Shared::opening).await,
        }
    }
}

/// An entry found in the index, to be read without holding the queue.
struct Planned {
    id: EntryId,
    accepted: Timestamp,
    source: Source,
}

enum Source {
    Memory(Bytes),
    Disk { segment: Arc<Segment>, offset: u64, bytes: u32, crc: u32 },
}

/// Picks entries after `after`, at least one if there is one, then until `bytes_max`.
fn plan_read(
    shared: &Shared,
    vbucket: Vbucket,
    after: EntryId,
    bytes_max: usize,
) -> Result<Vec<Planned>, StoreError> {
    let queue = shared.queue(vbucket)?.queue.lock();
    let mut found = Vec::new();
    let mut bytes = 0;
    for entry in queue.after(after) {
        bytes += entry.bytes as usize;
        if bytes > bytes_max && !found.is_empty() {
            break;
        }
        let source = match &entry.block {
            Some(block) => Source::Memory(block.clone()),
            None => Source::Disk {
                segment: Arc::clone(&entry.segment),
                offset: entry.offset,
                bytes: entry.bytes,
                crc: entry.crc,
            },
        };
        found.push(Planned { id: entry.id, accepted: entry.accepted, source });
    }
    Ok(found)
}

impl Planned {
    fn load(self) -> Result<QueueEntry, StoreError> {
        let Self { id, accepted, source } = self;
        let block = match source {
            Source::Memory(block) => block,
            Source::Disk { segment, offset, bytes, crc } => {
                let mut block = vec![0; bytes as usize];
                segment.file.read_exact_at(&mut block, offset).map_err(|source| StoreError::Unavailable {
                    what: "read a queue entry",
                    source: Box::new(source),
                })?;
                if crc32c::crc32c(&block) != crc {
                    let what = format!("queue entry {} in segment {}", id.0, segment.number);
                    return Err(StoreError::Corrupt { what });
                }
                Bytes::from(block)
            }
        };
        Ok(QueueEntry { id, accepted, block })
    }
}
