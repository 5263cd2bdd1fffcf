//! A journal: the blocks of one flush period, one checksummed record each.
//!
//! ```text
//! file   = "TBJ1" protocol:u8 record*
//! record = length:u32le checksum:u32le block          checksum: CRC-32C of the block
//! ```
//!
//! Reading stops at the first record that is cut off or does not match: a process that dies while it
//! writes leaves at most one such record, at the end, and never acknowledged it.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::Path;

use taba_core::wire::bytes::Reader;

use crate::agent::config::ServerProtocol;

const MAGIC: &[u8; 4] = b"TBJ1";
const HEADER_BYTES: u64 = 5;

/// One post, as it is written.
#[derive(Clone, Copy, Debug)]
pub struct Record<'a> {
    /// What it adds.
    pub block: &'a [u8],
}

/// A journal being written.
#[derive(Debug)]
pub struct Journal {
    file: File,
    number: u64,
    bytes: u64,
    /// A torn record could not be cut off: what follows it would never be read again.
    broken: bool,
}

/// A journal of an earlier run.
#[derive(Debug)]
pub struct OldJournal {
    /// What its blocks hold; `None` if not even the header was written.
    pub protocol: Option<ServerProtocol>,
    /// Blocks of the whole records.
    pub blocks: Vec<Vec<u8>>,
    /// Bytes after the last whole record.
    pub torn_bytes: u64,
}

impl Journal {
    /// Makes a new journal.
    ///
    /// # Errors
    /// The operating system's.
    pub fn create(path: &Path, number: u64, protocol: ServerProtocol) -> io::Result<Self> {
        let mut file = OpenOptions::new().append(true).create_new(true).open(path)?;
        let mut header = MAGIC.to_vec();
        header.push(protocol_tag(protocol));
        if let Err(error) = file.write_all(&header) {
            // On a full disk each post comes here; none may leave a file behind. What cannot be removed is
            // removed at the next start.
            let _ = std::fs::remove_file(path);
            return Err(error);
        }
        Ok(Self { file, number, bytes: HEADER_BYTES, broken: false })
    }

    /// The number in its file name.
    #[must_use]
    pub fn number(&self) -> u64 {
        self.number
    }

    /// Bytes of its records. The header is not counted against the spool's bound.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.bytes - HEADER_BYTES
    }

    /// Appends a record and returns its bytes. Once it returns, the record survives this process.
    ///
    /// # Errors
    /// The operating system's; the journal ends where it ended before.
    pub fn append(&mut self, record: &Record<'_>) -> io::Result<u64> {
        if self.broken {
            return Err(io::Error::other("an earlier write to the journal could not be undone"));
        }
        let length = u32::try_from(record.block.len()).map_err(io::Error::other)?;
        let mut bytes = Vec::with_capacity(record.block.len() + 8);
        bytes.extend_from_slice(&length.to_le_bytes());
        bytes.extend_from_slice(&crc32c::crc32c(record.block).to_le_bytes());
        bytes.extend_from_slice(record.block);
        if let Err(error) = self.file.write_all(&bytes) {
            self.broken = self.file.set_len(self.bytes).is_err();
            return Err(error);
        }
        self.bytes += bytes.len() as u64;
        Ok(bytes.len() as u64)
    }
}

/// Reads a journal of an earlier run.
///
/// # Errors
/// The operating system's; a torn end is none.
pub fn read(path: &Path) -> io::Result<OldJournal> {
    let bytes = std::fs::read(path)?;
    let mut reader = Reader::new(&bytes);
    let mut old = OldJournal { protocol: None, blocks: Vec::new(), torn_bytes: 0 };
    let header = reader.array().ok().filter(|magic: &[u8; 4]| magic == MAGIC);
    old.protocol = header.and_then(|_| reader.u8().ok()).and_then(protocol_of);
    if old.protocol.is_some() {
        while let Some(block) = read_record(&mut reader) {
            old.blocks.push(block.to_vec());
        }
    }
    old.torn_bytes = reader.rest().len() as u64;
    Ok(old)
}

fn read_record<'a>(reader: &mut Reader<'a>) -> Option<&'a [u8]> {
    let mut ahead = *reader;
    let length = u32::from_le_bytes(ahead.array().ok()?);
    let checksum = u32::from_le_bytes(ahead.array().ok()?);
    let block = ahead.take(usize::try_from(length).ok()?).ok()?;
    if crc32c::crc32c(block) != checksum {
        return None;
    }
    *reader = ahead;
    Some(block)
}

fn protocol_tag(protocol: ServerProtocol) -> u8 {
    match protocol {
        ServerProtocol::V1 => 1,
        ServerProtocol::V2 => 2,
    }
}

fn protocol_of(tag: u8) -> Option<ServerProtocol> {
    match tag {
        1 => Some(ServerProtocol::V1),
        2 => Some(ServerProtocol::V2),
        _ => None,
    }
}
