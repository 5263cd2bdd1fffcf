//! Writing a commit: one transaction that keeps states, lists and counts in step.

use bytes::Bytes;
use redb::{Durability, Table, WriteTransaction};
use taba_core::Vbucket;

use super::super::queue::Progress;
use super::rows::{TabRow, name_key, pair_end, pair_key, pair_names};
use super::{AGGREGATES, BY_CLIENT, CLIENTS, Raw, States, StatesError, TABS, VBUCKETS, read_row};
use crate::store::TabChange;

impl States {
    /// Writes changed tabs and the vbucket's progress: all of it or nothing. Durable with the next
    /// checkpoint.
    pub(in super::super) fn commit(
        &self,
        vbucket: Vbucket,
        changes: &[TabChange],
        progress: &Progress,
    ) -> Result<(), StatesError> {
        let write = self.begin(Durability::None)?;
        {
            let mut tables = Tables::open(&write, vbucket)?;
            let mut tabs_delta = 0;
            for change in changes {
                tabs_delta += tables.apply(change)?;
            }
            let mut table = write.open_table(VBUCKETS)?;
            let mut row = read_row(&table, vbucket.0)?;
            row.progress = progress.clone();
            row.tabs = row.tabs.saturating_add_signed(tabs_delta);
            table.insert(vbucket.0, row.encode().as_slice())?;
        }
        Ok(write.commit()?)
    }
}

struct Tables<'txn> {
    vbucket: Vbucket,
    aggregates: Table<'txn, Raw, Raw>,
    clients: Table<'txn, Raw, Raw>,
    by_client: Table<'txn, Raw, ()>,
    tabs: Table<'txn, Raw, Raw>,
}

impl<'txn> Tables<'txn> {
    fn open(write: &'txn WriteTransaction, vbucket: Vbucket) -> Result<Self, StatesError> {
        Ok(Self {
            vbucket,
            aggregates: write.open_table(AGGREGATES)?,
            clients: write.open_table(CLIENTS)?,
            by_client: write.open_table(BY_CLIENT)?,
            tabs: write.open_table(TABS)?,
        })
    }

    /// Applies one change. Returns by how much the number of listed tabs changed.
    fn apply(&mut self, change: &TabChange) -> Result<i64, StatesError> {
        let key = name_key(self.vbucket, &change.tab);
        let before = self.tab_row(&key, &change.tab)?;
        let mut row = before.unwrap_or_default();
        if change.delete {
            self.delete(&key, &change.tab)?;
            row = TabRow::default();
        }
        for (client, state) in &change.clients {
            self.put_client(&change.tab, client, state.as_ref(), &mut row)?;
        }
        if let Some(aggregate) = &change.aggregate {
            row.see(aggregate).ok_or_else(|| not_a_state(&change.tab, "all clients"))?;
            row.has_aggregate = true;
            self.aggregates.insert(key.as_slice(), &aggregate[..])?;
        }
        if !row.is_listed() {
            self.tabs.remove(key.as_slice())?;
        } else if before != Some(row) {
            self.tabs.insert(key.as_slice(), row.encode().as_slice())?;
        }
        Ok(i64::from(row.is_listed()) - i64::from(before.is_some()))
    }

    fn tab_row(&self, key: &[u8], tab: &str) -> Result<Option<TabRow>, StatesError> {
        use redb::ReadableTable;
        let Some(row) = self.tabs.get(key)? else { return Ok(None) };
        let row = TabRow::decode(row.value());
        row.map(Some).ok_or_else(|| StatesError::Corrupt(format!("row of tab {tab}")))
    }

    fn delete(&mut self, key: &[u8], tab: &str) -> Result<(), StatesError> {
        self.aggregates.remove(key)?;
        let (start, end) = (pair_key(self.vbucket, tab, ""), pair_end(self.vbucket, tab));
        for gone in self.clients.extract_from_if(start.as_slice()..end.as_slice(), |_, _| true)? {
            let (pair, _) = gone?;
            let corrupt = || StatesError::Corrupt(format!("key of a client of tab {tab}"));
            let (_, client) = pair_names(pair.value()).ok_or_else(corrupt)?;
            self.by_client.remove(pair_key(self.vbucket, client, tab).as_slice())?;
        }
        Ok(())
    }

    fn put_client(
        &mut self,
        tab: &str,
        client: &str,
        state: Option<&Bytes>,
        row: &mut TabRow,
    ) -> Result<(), StatesError> {
        let key = pair_key(self.vbucket, tab, client);
        let index = pair_key(self.vbucket, client, tab);
        if let Some(state) = state {
            row.see(state).ok_or_else(|| not_a_state(tab, client))?;
            if self.clients.insert(key.as_slice(), &state[..])?.is_none() {
                row.clients += 1;
                self.by_client.insert(index.as_slice(), ())?;
            }
        } else if self.clients.remove(key.as_slice())?.is_some() {
            row.clients = row.clients.saturating_sub(1);
            self.by_client.remove(index.as_slice())?;
        }
        Ok(())
    }
}

fn not_a_state(tab: &str, client: &str) -> StatesError {
    StatesError::NotAState(format!("tab {tab} of {client}"))
}
