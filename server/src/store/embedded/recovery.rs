//! Rebuilds queues and the log's end from the segments, after a start or a failure of the states.
//!
//! The newest segment ends at its first record that is not whole: it was being written when the process
//! died, so it was never acknowledged. An older segment ends where its successor's head says; a broken
//! record before that point is lost data, and the folder is refused rather than opened without it.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read};
use std::path::Path;
use std::sync::Arc;

use taba_core::wire::bytes::Reader;

use super::OpenError;
use super::log::{Log, Segments, segment_path};
use super::producers::Producers;
use super::queue::{Entry, Progress, Queue, Segment};
use super::record::{RecordHead, SEGMENT_HEAD_BYTES, SegmentHead};
use crate::store::EntryId;

/// What the segments hold.
pub(super) struct Recovered {
    pub(super) log: Log,
    pub(super) segments: Segments,
    /// Per vbucket, in order.
    pub(super) queues: Vec<Queue>,
}

/// Reads all segments. Batches in them are marked in `producers`.
pub(super) fn recover(
    folder: &Path,
    segment_bytes: u64,
    progress: Vec<Progress>,
    producers: &mut Producers,
) -> Result<Recovered, OpenError> {
    let mut queues: Vec<Queue> = progress.into_iter().map(Queue::new).collect();
    let segments = Segments::default();
    let mut newest_serial = queues.iter().map(newest_known).max().unwrap_or(0);
    let mut sealed = (0, 0);
    let found = read_heads(folder)?;
    for (at, head) in found.iter().enumerate() {
        let successor = found.get(at + 1).filter(|next| next.previous == head.number);
        // A gap behind this segment means its successor was consumed and deleted; this one is whole.
        let end = successor.map(|next| next.previous_bytes);
        let bytes = read_segment(folder, head.number, end)?;
        let mut reader = Reader::new(&bytes[SEGMENT_HEAD_BYTES..]);
        let mut records = Vec::new();
        let mut valid = SEGMENT_HEAD_BYTES as u64;
        while let Some((record, blocks_offset)) = RecordHead::decode(&mut reader, head.number) {
            records.push((record, blocks_offset + SEGMENT_HEAD_BYTES as u64));
            valid = (reader.offset() + SEGMENT_HEAD_BYTES) as u64;
        }
        check_end(head.number, valid, end, at + 1 == found.len(), bytes.len() as u64)?;
        let file = open_cut(&segment_path(folder, head.number), valid).map_err(read_failed)?;
        let segment = Arc::new(Segment::new(head.number, file, valid, true));
        segments.insert(&segment);
        for (record, offset) in records {
            newest_serial = newest_serial.max(record.serial);
            enqueue(&mut queues, producers, &segment, &record, offset)?;
        }
        sealed = (head.number, valid);
    }
    let log = Log::new(folder.to_owned(), segment_bytes, sealed, newest_serial + 1);
    Ok(Recovered { log, segments, queues })
}

/// The newest entry that marks and discards speak of; later entries must be newer.
fn newest_known(queue: &Queue) -> u64 {
    let discarded = queue.progress.discards.iter().map(|gone| gone.upto.0).max().unwrap_or(0);
    queue.progress.marks.aggregates.0.max(discarded)
}

fn enqueue(
    queues: &mut [Queue],
    producers: &mut Producers,
    segment: &Arc<Segment>,
    record: &RecordHead,
    mut offset: u64,
) -> Result<(), OpenError> {
    if let Some(id) = &record.id {
        producers.mark(id, record.accepted);
    }
    let id = EntryId(record.serial);
    for block in &record.blocks {
        let queue = queues.get_mut(usize::from(block.vbucket.0)).ok_or_else(|| OpenError::Corrupt {
            what: format!("segment {}: vbucket {} does not exist", segment.number, block.vbucket.0),
        })?;
        if queue.progress.waits(id) {
            queue.push(Entry {
                id,
                accepted: record.accepted,
                segment: Arc::clone(segment),
                offset,
                bytes: block.bytes,
                crc: block.crc,
                block: None,
            });
        }
        offset += u64::from(block.bytes);
    }
    Ok(())
}

/// The heads of all segments in order. The newest may be torn: it was being made, so nothing is in it.
fn read_heads(folder: &Path) -> Result<Vec<SegmentHead>, OpenError> {
    let mut numbers = Vec::new();
    for entry in fs::read_dir(folder).map_err(read_failed)? {
        let name = entry.map_err(read_failed)?.file_name();
        let number = name.to_str().and_then(|name| name.strip_suffix(".seg")?.parse::<u64>().ok());
        numbers.extend(number);
    }
    numbers.sort_unstable();
    let mut heads = Vec::with_capacity(numbers.len());
    for number in &numbers {
        let path = segment_path(folder, *number);
        let mut bytes = Vec::with_capacity(SEGMENT_HEAD_BYTES);
        let file = File::open(&path).map_err(read_failed)?;
        file.take(SEGMENT_HEAD_BYTES as u64).read_to_end(&mut bytes).map_err(read_failed)?;
        match SegmentHead::decode(&bytes).filter(|head| head.number == *number) {
            Some(head) => heads.push(head),
            None if Some(number) == numbers.last() => {
                tracing::warn!(segment = number, "removing a segment whose making was cut short");
                fs::remove_file(&path).map_err(read_failed)?;
            }
            None => return Err(OpenError::Corrupt { what: format!("head of segment {number}") }),
        }
    }
    Ok(heads)
}

fn read_segment(folder: &Path, number: u64, end: Option<u64>) -> Result<Vec<u8>, OpenError> {
    let file = File::open(segment_path(folder, number)).map_err(read_failed)?;
    let mut bytes = Vec::new();
    file.take(end.unwrap_or(u64::MAX)).read_to_end(&mut bytes).map_err(read_failed)?;
    if bytes.len() < SEGMENT_HEAD_BYTES {
        return Err(OpenError::Corrupt { what: format!("segment {number} is too short") });
    }
    Ok(bytes)
}

/// Opens a segment and removes what does not count, so that it ends there even without its successor.
fn open_cut(path: &Path, valid: u64) -> io::Result<File> {
    let file = OpenOptions::new().read(true).write(true).open(path)?;
    if file.metadata()?.len() > valid {
        file.set_len(valid)?;
        file.sync_all()?;
    }
    Ok(file)
}

fn check_end(number: u64, valid: u64, end: Option<u64>, newest: bool, found: u64) -> Result<(), OpenError> {
    match end {
        Some(end) if valid == end => Ok(()),
        None if valid == found => Ok(()),
        None if newest => {
            let torn_bytes = found - valid;
            tracing::info!(segment = number, torn_bytes, "cutting a write that was never acknowledged");
            Ok(())
        }
        _ => Err(OpenError::Corrupt { what: format!("segment {number} at offset {valid}") }),
    }
}

fn read_failed(source: io::Error) -> OpenError {
    OpenError::Folder { what: "read the log", source }
}
