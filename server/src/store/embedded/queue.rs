//! The queue of one vbucket, in memory: where each waiting entry lies in the log.
//!
//! Rebuilt from the log's segments at start. An entry is dropped once the clients' mark passed it; its
//! segment counts how many of its entries still wait, and is deleted when none does.

use std::collections::VecDeque;
use std::fs::File;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use bytes::Bytes;
use taba_core::Timestamp;

use crate::store::{EntryId, Marks, QueueDepth};

/// A file of the log.
#[derive(Debug)]
pub(super) struct Segment {
    pub(super) number: u64,
    pub(super) file: File,
    /// Bytes that count; what lies behind them was never acknowledged.
    pub(super) bytes: AtomicU64,
    /// Entries in it that still wait in some queue.
    pub(super) waiting: AtomicU64,
    /// Nothing will be written to it any more.
    pub(super) sealed: AtomicBool,
    /// The file holds bytes beyond those that count, and only the next segment's head says so.
    pub(super) has_waste: AtomicBool,
}

impl Segment {
    pub(super) fn new(number: u64, file: File, bytes: u64, sealed: bool) -> Self {
        Self {
            number,
            file,
            bytes: AtomicU64::new(bytes),
            waiting: AtomicU64::new(0),
            sealed: AtomicBool::new(sealed),
            has_waste: AtomicBool::new(false),
        }
    }

    /// Whether it may be deleted, once what its entries became is durable.
    pub(super) fn is_consumed(&self) -> bool {
        self.sealed.load(Ordering::Acquire) && self.waiting.load(Ordering::Acquire) == 0
    }
}

/// One waiting entry. Counts as waiting in its segment for as long as it lives.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) id: EntryId,
    pub(super) accepted: Timestamp,
    pub(super) segment: Arc<Segment>,
    pub(super) offset: u64,
    pub(super) bytes: u32,
    pub(super) crc: u32,
    /// The block itself while it is among the newest; older ones are read from the segment.
    pub(super) block: Option<Bytes>,
}

/// Entries after `after` and up to `upto` were dropped by an administrator.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Discard {
    pub(super) after: EntryId,
    pub(super) upto: EntryId,
}

/// Most discards a vbucket remembers. Each is dropped once the clients' mark passed it, so only this
/// many administrators' discards between two commits are refused: 64 of 16 bytes.
pub(super) const DISCARDS_MAX: usize = 64;

/// What the store remembers of a vbucket besides its states.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Progress {
    pub(super) marks: Marks,
    pub(super) discards: Vec<Discard>,
}

impl Progress {
    /// Whether an entry still waits as far as marks and discards tell.
    pub(super) fn waits(&self, id: EntryId) -> bool {
        id > self.marks.clients && !self.discards.iter().any(|gone| id > gone.after && id <= gone.upto)
    }

    /// Moves the marks forward, never back, and forgets discards that lie behind them.
    pub(super) fn advance(&mut self, marks: Marks) {
        self.marks.clients = self.marks.clients.max(marks.clients);
        self.marks.aggregates = self.marks.aggregates.max(marks.aggregates).max(self.marks.clients);
        let clients = self.marks.clients;
        self.discards.retain(|gone| gone.upto > clients);
    }

    /// Drops what no all-clients state holds yet, up to `upto`. `false`: too many discards remembered.
    #[must_use]
    pub(super) fn discard(&mut self, upto: EntryId) -> bool {
        let after = self.marks.aggregates;
        if let Some(last) = self.discards.last_mut().filter(|last| last.upto >= after) {
            last.upto = last.upto.max(upto);
            return true;
        }
        if self.discards.len() == DISCARDS_MAX {
            return false;
        }
        self.discards.push(Discard { after, upto });
        true
    }
}

/// The entries of a vbucket that wait, in order.
#[derive(Debug, Default)]
pub(super) struct Queue {
    pub(super) progress: Progress,
    entries: VecDeque<Entry>,
    bytes: u64,
}

impl Queue {
    pub(super) fn new(progress: Progress) -> Self {
        Self { progress, entries: VecDeque::new(), bytes: 0 }
    }

    /// Adds the newest entry.
    pub(super) fn push(&mut self, entry: Entry) {
        entry.segment.waiting.fetch_add(1, Ordering::AcqRel);
        self.bytes += u64::from(entry.bytes);
        self.entries.push_back(entry);
    }

    /// Drops entries that no longer wait after the progress moved. Returns how many.
    pub(super) fn drop_done(&mut self) -> u64 {
        let before = self.entries.len();
        let Self { progress, entries, bytes } = self;
        let mut drop_one = |entry: &Entry| {
            *bytes -= u64::from(entry.bytes);
            entry.segment.waiting.fetch_sub(1, Ordering::AcqRel);
        };
        while let Some(entry) = entries.pop_front_if(|entry| entry.id <= progress.marks.clients) {
            drop_one(&entry);
        }
        if !progress.discards.is_empty() {
            entries.retain(|entry| {
                let waits = progress.waits(entry.id);
                if !waits {
                    drop_one(entry);
                }
                waits
            });
        }
        // A burst's index should not stay allocated once the burst is over.
        if entries.capacity() > 64 && entries.len() < entries.capacity() / 4 {
            entries.shrink_to(entries.len() * 2);
        }
        (before - entries.len()) as u64
    }

    /// The newest entry's id; 0 if none waits.
    pub(super) fn newest(&self) -> EntryId {
        self.entries.back().map_or(EntryId(0), |entry| entry.id)
    }

    /// Entries after `after`, oldest first.
    pub(super) fn after(&self, after: EntryId) -> impl Iterator<Item = &Entry> {
        let start = self.entries.partition_point(|entry| entry.id <= after);
        self.entries.range(start..)
    }

    /// Lets go of the block of an entry kept in memory; the entry stays.
    pub(super) fn uncache(&mut self, id: EntryId) {
        let at = self.entries.partition_point(|entry| entry.id < id);
        if let Some(entry) = self.entries.get_mut(at).filter(|entry| entry.id == id) {
            entry.block = None;
        }
    }

    pub(super) fn depth(&self) -> QueueDepth {
        QueueDepth { entries: self.entries.len() as u64, bytes: self.bytes }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn marks(aggregates: u64, clients: u64) -> Marks {
        Marks { aggregates: EntryId(aggregates), clients: EntryId(clients) }
    }

    #[test]
    fn discards_keep_what_an_aggregate_holds_and_are_forgotten_behind_the_mark() {
        let mut progress = Progress::default();
        progress.advance(marks(5, 2));
        assert!(progress.discard(EntryId(9)));
        let waiting: Vec<u64> = (1..12).filter(|id| progress.waits(EntryId(*id))).collect();
        assert_eq!(waiting, [3, 4, 5, 10, 11]);
        progress.advance(marks(11, 9));
        assert!(progress.discards.is_empty());
    }

    #[test]
    fn discards_without_a_commit_between_them_are_one() {
        let mut progress = Progress::default();
        for upto in 1..1000 {
            assert!(progress.discard(EntryId(upto)));
        }
        assert_eq!(progress.discards, [Discard { after: EntryId(0), upto: EntryId(999) }]);
    }

    #[test]
    fn discards_are_bounded() {
        let mut progress = Progress::default();
        for round in 1..=DISCARDS_MAX as u64 {
            progress.advance(marks(round * 10, 0));
            assert!(progress.discard(EntryId(round * 10 + 5)));
        }
        progress.advance(marks(10_000, 0));
        assert!(!progress.discard(EntryId(10_001)));
    }

    #[test]
    fn marks_never_go_back_and_the_aggregates_mark_leads() {
        let mut progress = Progress::default();
        progress.advance(marks(5, 7));
        progress.advance(marks(1, 2));
        assert_eq!(progress.marks, marks(7, 7));
    }
}
