//! A batch file: everything needed to send a batch again after a restart, under the same id.
//!
//! ```text
//! file   = "TBB1" header:prefixed checksum:u32le body      checksum: CRC-32C of the header
//! header = route:u8 id:prefixed events:varint created:zigzag(µs) body_length:varint
//! ```
//!
//! It is written under another name, synced and renamed, so a file with its final name is whole. The
//! body is not checked here: it carries its own checksum, which the server checks.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use taba_client::delivery::{Body, SealedBatch};
use taba_core::wire::bytes::{Malformed, Reader, put_prefixed, put_varint, put_zigzag};
use taba_core::{BatchId, Timestamp};

use crate::agent::gather::Sealed;
use crate::agent::outgoing::Route;

const MAGIC: &[u8; 4] = b"TBB1";

/// Longest head of a file: magic, header with an id of at most 277 bytes, checksum.
const HEAD_BYTES_MAX: u64 = 512;

/// What the head of a batch file says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BatchFile {
    route: Route,
    id: Option<BatchId>,
    events: u64,
    created: Timestamp,
    body_offset: u64,
    body_bytes: u64,
}

impl BatchFile {
    pub fn route(&self) -> Route {
        self.route
    }

    pub fn file_bytes(&self) -> u64 {
        self.body_offset + self.body_bytes
    }

    /// The batch in the file at `path`.
    pub fn batch(&self, path: PathBuf, now: Timestamp) -> SealedBatch {
        let age = now.as_micros().saturating_sub(self.created.as_micros());
        let body = Body::File { path, offset: self.body_offset, bytes: self.body_bytes };
        let age = Duration::from_micros(u64::try_from(age).unwrap_or(0));
        self.route.batch(self.id.clone(), body, self.events, age)
    }
}

/// Writes a batch file.
///
/// # Errors
/// The operating system's; there is no file with this name then.
pub fn write(path: &Path, route: Route, sealed: &Sealed, created: Timestamp) -> io::Result<BatchFile> {
    let mut header = vec![route.tag()];
    let id = sealed.id.as_ref().map(ToString::to_string).unwrap_or_default();
    put_prefixed(&mut header, id.as_bytes());
    put_varint(&mut header, sealed.events);
    put_zigzag(&mut header, created.as_micros());
    put_varint(&mut header, sealed.body.len() as u64);
    let mut head = MAGIC.to_vec();
    put_prefixed(&mut head, &header);
    head.extend_from_slice(&crc32c::crc32c(&header).to_le_bytes());
    let partial = path.with_extension("tmp");
    let written = write_whole(&partial, &head, &sealed.body).and_then(|()| fs::rename(&partial, path));
    if let Err(error) = written {
        // What cannot be removed is removed at the next start.
        let _ = fs::remove_file(&partial);
        return Err(error);
    }
    Ok(BatchFile {
        route,
        id: sealed.id.clone(),
        events: sealed.events,
        created,
        body_offset: head.len() as u64,
        body_bytes: sealed.body.len() as u64,
    })
}

fn write_whole(path: &Path, head: &[u8], body: &[u8]) -> io::Result<()> {
    let mut file = File::create(path)?;
    file.write_all(head)?;
    file.write_all(body)?;
    file.sync_data()
}

/// Reads the head of a batch file. `None`: the file is damaged.
///
/// # Errors
/// The operating system's.
pub fn read(path: &Path) -> io::Result<Option<BatchFile>> {
    let mut head = Vec::new();
    let file = File::open(path)?;
    let bytes = file.metadata()?.len();
    file.take(HEAD_BYTES_MAX).read_to_end(&mut head)?;
    let batch = parse(&head).ok().flatten();
    Ok(batch.filter(|batch| batch.file_bytes() == bytes))
}

fn parse(head: &[u8]) -> Result<Option<BatchFile>, Malformed> {
    let mut reader = Reader::new(head);
    let magic: [u8; 4] = reader.array()?;
    let header = reader.prefixed()?;
    let checksum = u32::from_le_bytes(reader.array()?);
    if &magic != MAGIC || crc32c::crc32c(header) != checksum {
        return Ok(None);
    }
    let body_offset = reader.offset() as u64;
    let mut reader = Reader::new(header);
    let route = Route::of_tag(reader.u8()?);
    let id = std::str::from_utf8(reader.prefixed()?).unwrap_or_default();
    let events = reader.varint()?;
    let created = Timestamp::from_micros(reader.zigzag()?);
    let body_bytes = reader.varint()?;
    let id = if id.is_empty() { None } else { id.parse().ok() };
    Ok(route.map(|route| BatchFile { route, id, events, created, body_offset, body_bytes }))
}
