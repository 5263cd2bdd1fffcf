//! The log: accepted batches, appended to segment files and made durable in groups.
//!
//! A segment is never written again after a failed write: it is sealed where it was last durable, and
//! the next one's head says so. That one rule covers a full disk, a write cut short and a failed sync,
//! after which the operating system may have dropped pages it had reported as written.

use std::collections::{BTreeMap, VecDeque};
use std::fs::{self, File, OpenOptions};
use std::io::{self, IoSlice, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use parking_lot::Mutex;
use taba_core::Vbucket;

use super::folder::sync_dir;
use super::queue::Segment;
use super::record::{RecordHead, SEGMENT_HEAD_BYTES, SegmentHead};
use crate::store::EntryId;

/// All segments that exist, and the room they take.
#[derive(Debug, Default)]
pub(super) struct Segments {
    by_number: Mutex<BTreeMap<u64, Arc<Segment>>>,
    bytes: AtomicU64,
}

impl Segments {
    pub(super) fn insert(&self, segment: &Arc<Segment>) {
        self.bytes.fetch_add(segment.bytes.load(Ordering::Acquire), Ordering::AcqRel);
        self.by_number.lock().insert(segment.number, Arc::clone(segment));
    }

    /// Bytes of all segments together.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Acquire)
    }

    /// Entries that wait in any queue.
    pub(super) fn waiting(&self) -> u64 {
        self.by_number.lock().values().map(|segment| segment.waiting.load(Ordering::Acquire)).sum()
    }

    /// Segments that may go once what their entries became is durable. Not one whose predecessor still
    /// needs its head to know where it ends.
    pub(super) fn consumed(&self) -> Vec<Arc<Segment>> {
        let by_number = self.by_number.lock();
        let is_needed = |segment: &Segment| {
            let previous = by_number.get(&(segment.number - 1));
            previous.is_some_and(|previous| previous.has_waste.load(Ordering::Acquire))
        };
        let consumed = by_number.values().filter(|segment| segment.is_consumed() && !is_needed(segment));
        consumed.cloned().collect()
    }

    /// Deletes a segment. One that a crash brings back does no harm: its entries lie behind the marks.
    pub(super) fn delete(&self, folder: &Path, segment: &Segment) -> io::Result<()> {
        fs::remove_file(segment_path(folder, segment.number))?;
        if self.by_number.lock().remove(&segment.number).is_some() {
            self.bytes.fetch_sub(segment.bytes.load(Ordering::Acquire), Ordering::AcqRel);
        }
        Ok(())
    }

    fn forget(&self, segment: &Segment) {
        if self.by_number.lock().remove(&segment.number).is_some() {
            self.bytes.fetch_sub(segment.bytes.load(Ordering::Acquire), Ordering::AcqRel);
        }
    }

    fn grow(&self, segment: &Segment, bytes: u64) {
        segment.bytes.fetch_add(bytes, Ordering::AcqRel);
        self.bytes.fetch_add(bytes, Ordering::AcqRel);
    }
}

/// One batch on its way into the log.
#[derive(Debug)]
pub(super) struct Record {
    pub(super) head: RecordHead,
    pub(super) blocks: Vec<(Vbucket, Bytes)>,
}

impl Record {
    /// Its bytes in a segment.
    pub(super) fn bytes(&self) -> u64 {
        let blocks: usize = self.blocks.iter().map(|(_, block)| block.len()).sum();
        (blocks + record_overhead(self.blocks.len())) as u64
    }
}

/// Bytes of a record besides its blocks, at most.
fn record_overhead(blocks: usize) -> usize {
    // 12 before the head, 28 fixed in it, a producer of up to 256, 10 for each block.
    12 + 28 + 256 + 10 * blocks
}

/// The writing end of the log. One thread writes.
#[derive(Debug)]
pub(super) struct Log {
    folder: PathBuf,
    segment_bytes: u64,
    active: Option<Arc<Segment>>,
    /// The newest segment that will not be written any more, and where it ends; zeros: none yet.
    sealed: (u64, u64),
    next_serial: u64,
    newest: Newest,
}

impl Log {
    pub(super) fn new(folder: PathBuf, segment_bytes: u64, sealed: (u64, u64), next_serial: u64) -> Self {
        Self { folder, segment_bytes, active: None, sealed, next_serial, newest: Newest::default() }
    }

    /// The serial of the next record.
    pub(super) fn next_serial(&self) -> u64 {
        self.next_serial
    }

    /// The newest blocks, kept in memory.
    pub(super) fn newest(&mut self) -> &mut Newest {
        &mut self.newest
    }

    /// Appends records, whose serials follow [`Log::next_serial`], and makes them durable. Returns the
    /// segment and the offset of each record's first block. On an error none of them is in the log.
    pub(super) fn append(
        &mut self,
        segments: &Segments,
        records: &[Record],
    ) -> io::Result<(Arc<Segment>, Vec<u64>)> {
        let segment = self.segment_for_write(segments)?;
        let start = segment.bytes.load(Ordering::Acquire);
        let heads: Vec<Vec<u8>> = records.iter().map(|record| record.head.encode(segment.number)).collect();
        let mut slices = Vec::with_capacity(records.iter().map(|record| record.blocks.len() + 1).sum());
        let mut offsets = Vec::with_capacity(records.len());
        let mut end = start;
        for (head, record) in heads.iter().zip(records) {
            slices.push(IoSlice::new(head));
            offsets.push(end + head.len() as u64);
            end += head.len() as u64;
            for (_, block) in &record.blocks {
                slices.push(IoSlice::new(block));
                end += block.len() as u64;
            }
        }
        if let Err(error) = write_all(&segment.file, &mut slices).and_then(|()| segment.file.sync_data()) {
            self.abandon(segments, &segment, start);
            return Err(error);
        }
        segments.grow(&segment, end - start);
        self.next_serial += records.len() as u64;
        Ok((segment, offsets))
    }

    /// Ends a segment that is large enough, so that it can go as soon as it is consumed. To be called
    /// when the ids of all its records are remembered.
    pub(super) fn seal_if_large(&mut self) {
        if let Some(active) =
            self.active.take_if(|active| active.bytes.load(Ordering::Acquire) >= self.segment_bytes)
        {
            self.seal(&active);
        }
    }

    fn segment_for_write(&mut self, segments: &Segments) -> io::Result<Arc<Segment>> {
        if let Some(active) = &self.active {
            return Ok(Arc::clone(active));
        }
        let segment = Arc::new(self.create_segment()?);
        segments.insert(&segment);
        self.active = Some(Arc::clone(&segment));
        Ok(segment)
    }

    fn seal(&mut self, segment: &Segment) {
        self.sealed = (segment.number, segment.bytes.load(Ordering::Acquire));
        segment.sealed.store(true, Ordering::Release);
    }

    fn create_segment(&self) -> io::Result<Segment> {
        let (previous, previous_bytes) = self.sealed;
        let head = SegmentHead { number: previous + 1, previous, previous_bytes };
        let path = segment_path(&self.folder, head.number);
        let create = || {
            let mut file =
                OpenOptions::new().read(true).write(true).create(true).truncate(true).open(&path)?;
            file.write_all(&head.encode())?;
            file.sync_all()?;
            sync_dir(&self.folder)?;
            Ok(Segment::new(head.number, file, SEGMENT_HEAD_BYTES as u64, false))
        };
        create().inspect_err(|_| drop(fs::remove_file(&path)))
    }

    /// Gives a segment up after a failed write: what was durable stays, the rest never counts.
    fn abandon(&mut self, segments: &Segments, segment: &Arc<Segment>, durable: u64) {
        self.active = None;
        if durable > SEGMENT_HEAD_BYTES as u64 {
            self.seal(segment);
            if let Err(error) = segment.file.set_len(durable).and_then(|()| segment.file.sync_all()) {
                segment.has_waste.store(true, Ordering::Release);
                tracing::warn!(%error, segment = segment.number, "failed segment keeps its unused end");
            }
        } else {
            // Nothing in it counts, so the next segment takes its number and place.
            segments.forget(segment);
            drop(fs::remove_file(segment_path(&self.folder, segment.number)));
        }
    }
}

/// What a block costs besides its bytes: its note here and its owner's bookkeeping.
const NOTE_BYTES: usize = 64;

/// The newest blocks of the log, kept in memory so that owners that keep up never read the disk.
#[derive(Debug, Default)]
pub(super) struct Newest {
    blocks: VecDeque<(Vbucket, EntryId, usize)>,
    bytes: usize,
}

impl Newest {
    /// Notes a block as the newest. Returns those to let go of, so that at most `bytes_max` are held.
    pub(super) fn push(
        &mut self,
        vbucket: Vbucket,
        id: EntryId,
        bytes: usize,
        bytes_max: usize,
    ) -> impl Iterator<Item = (Vbucket, EntryId)> + '_ {
        let bytes = bytes + NOTE_BYTES;
        self.blocks.push_back((vbucket, id, bytes));
        self.bytes += bytes;
        std::iter::from_fn(move || {
            if self.bytes <= bytes_max {
                return None;
            }
            let (vbucket, id, bytes) = self.blocks.pop_front()?;
            self.bytes -= bytes;
            Some((vbucket, id))
        })
    }
}

/// Where a segment lies; names sort as numbers do.
pub(super) fn segment_path(folder: &Path, number: u64) -> PathBuf {
    folder.join(format!("{number:020}.seg"))
}

fn write_all(mut file: &File, mut slices: &mut [IoSlice<'_>]) -> io::Result<()> {
    while !slices.is_empty() {
        match file.write_vectored(slices) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(written) => IoSlice::advance_slices(&mut slices, written),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}
