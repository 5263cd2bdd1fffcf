//! States, lists, marks and producers in a redb database.
//!
//! A commit is one transaction, atomic at once but durable only with the next checkpoint. After a crash
//! the database is as the last checkpoint left it: marks and states agree, and every entry behind those
//! marks is still in the log, because segments are deleted only after a checkpoint.
//!
//! ```text
//! aggregates  vbucket tab                  → all-clients state
//! clients     vbucket tab 0 client         → state of one client
//! by_client   vbucket client 0 tab         → nothing: which tabs a client has
//! tabs        vbucket tab                  → TabRow: what lists show
//! vbuckets    vbucket                      → VbucketRow: marks, discards, count of tabs
//! producers   producer                     → see `producers`
//! openings    0                            → how often the folder was opened
//! ```
//!
//! Vbuckets are two bytes, high byte first. Names hold no zero byte, so a zero ends one.

use std::path::Path;
use std::sync::Arc;

use redb::{
    Database, Durability, ReadTransaction, ReadableDatabase, ReadableTable, TableDefinition, WriteTransaction,
};

use super::producers::Changes;
use super::queue::Progress;

mod change;
mod read;
mod rows;

use rows::VbucketRow;

type Raw = &'static [u8];
const AGGREGATES: TableDefinition<'_, Raw, Raw> = TableDefinition::new("aggregates");
const CLIENTS: TableDefinition<'_, Raw, Raw> = TableDefinition::new("clients");
const BY_CLIENT: TableDefinition<'_, Raw, ()> = TableDefinition::new("by_client");
const TABS: TableDefinition<'_, Raw, Raw> = TableDefinition::new("tabs");
const VBUCKETS: TableDefinition<'_, u16, Raw> = TableDefinition::new("vbuckets");
const PRODUCERS: TableDefinition<'_, &str, Raw> = TableDefinition::new("producers");
const OPENINGS: TableDefinition<'_, u8, u64> = TableDefinition::new("openings");

/// Why the states could not be read or written.
#[derive(Debug, thiserror::Error)]
pub(super) enum StatesError {
    #[error("failed to use the state database")]
    Database(#[source] redb::Error),
    #[error("stored bytes are corrupt: {0}")]
    Corrupt(String),
    /// What the caller asked to write is not a state; nothing was written.
    #[error("refused to store what is not a state: {0}")]
    NotAState(String),
}

impl<E: Into<redb::Error>> From<E> for StatesError {
    fn from(error: E) -> Self {
        Self::Database(error.into())
    }
}

impl StatesError {
    /// Whether the database must be opened again before it can be trusted.
    pub(super) fn breaks_database(&self) -> bool {
        matches!(self, Self::Database(_))
    }

    /// Whether there was no room.
    pub(super) fn is_full(&self) -> bool {
        matches!(self, Self::Database(redb::Error::Io(error)) if super::is_full(error))
    }
}

/// The open database.
pub(super) struct States {
    database: Arc<Database>,
}

/// What stands in the database besides states, as found at opening.
pub(super) struct Found {
    /// Number of this opening; larger than any before.
    pub(super) opening: u64,
    /// Per vbucket, in order.
    pub(super) progress: Vec<Progress>,
}

impl States {
    /// Opens the database, making it if there is none, and counts the opening durably.
    pub(super) fn open(path: &Path, cache_bytes: usize, vbuckets: u16) -> Result<(Self, Found), StatesError> {
        let database = Database::builder().set_cache_size(cache_bytes).create(path)?;
        let states = Self { database: Arc::new(database) };
        let write = states.begin(Durability::Immediate)?;
        let opening = {
            let mut openings = write.open_table(OPENINGS)?;
            let opening = openings.get(0)?.map_or(0, |count| count.value()) + 1;
            openings.insert(0, opening)?;
            // Readers fail on tables that were never made.
            write.open_table(AGGREGATES)?;
            write.open_table(CLIENTS)?;
            write.open_table(BY_CLIENT)?;
            write.open_table(TABS)?;
            write.open_table(VBUCKETS)?;
            write.open_table(PRODUCERS)?;
            opening
        };
        write.commit()?;
        let read = states.read()?;
        let progress = (0..vbuckets).map(|vbucket| Ok(read.vbucket(vbucket)?.progress));
        let progress = progress.collect::<Result<_, StatesError>>()?;
        Ok((states, Found { opening, progress }))
    }

    /// All stored producers.
    pub(super) fn load_producers(
        &self,
        mut each: impl FnMut(&str, &[u8]) -> bool,
    ) -> Result<(), StatesError> {
        let table = self.database.begin_read()?.open_table(PRODUCERS)?;
        for row in table.iter()? {
            let (producer, row) = row?;
            if !each(producer.value(), row.value()) {
                return Err(StatesError::Corrupt(format!("row of producer {}", producer.value())));
            }
        }
        Ok(())
    }

    /// Writes changed producers and makes every commit so far durable.
    pub(super) fn checkpoint(&self, changes: &Changes) -> Result<(), StatesError> {
        let write = self.begin(Durability::Immediate)?;
        {
            let mut table = write.open_table(PRODUCERS)?;
            for (producer, row) in &changes.put {
                table.insert(producer.as_str(), row.as_slice())?;
            }
            for producer in &changes.removed {
                table.remove(producer.as_str())?;
            }
        }
        Ok(write.commit()?)
    }

    /// Stores marks and discards alone, durably.
    pub(super) fn save_progress(&self, vbucket: u16, progress: &Progress) -> Result<(), StatesError> {
        let write = self.begin(Durability::Immediate)?;
        {
            let mut table = write.open_table(VBUCKETS)?;
            let mut row = read_row(&table, vbucket)?;
            row.progress = progress.clone();
            table.insert(vbucket, row.encode().as_slice())?;
        }
        Ok(write.commit()?)
    }

    /// A consistent view of everything.
    pub(super) fn read(&self) -> Result<Snapshot, StatesError> {
        Ok(Snapshot { transaction: self.database.begin_read()? })
    }

    fn begin(&self, durability: Durability) -> Result<WriteTransaction, StatesError> {
        let mut write = self.database.begin_write()?;
        write.set_durability(durability)?;
        // Keeps the list of free pages, so that opening after a crash need not walk the whole tree.
        write.set_quick_repair(matches!(durability, Durability::Immediate));
        Ok(write)
    }
}

/// A consistent view of the database; see `read`.
pub(super) struct Snapshot {
    transaction: ReadTransaction,
}

fn read_row(table: &impl ReadableTable<u16, Raw>, vbucket: u16) -> Result<VbucketRow, StatesError> {
    match table.get(vbucket)? {
        None => Ok(VbucketRow::default()),
        Some(row) => VbucketRow::decode(row.value())
            .ok_or_else(|| StatesError::Corrupt(format!("row of vbucket {vbucket}"))),
    }
}
