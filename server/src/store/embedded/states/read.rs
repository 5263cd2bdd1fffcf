//! Reading: each call sees one moment, the one its snapshot was taken at.

use std::ops::Bound;

use bytes::Bytes;
use taba_core::Vbucket;

use super::rows::{TabRow, VbucketRow, name_key, pair_end, pair_key, pair_names, vbucket_end};
use super::{AGGREGATES, BY_CLIENT, CLIENTS, Snapshot, StatesError, TABS, VBUCKETS, read_row};
use crate::store::{ClientStates, TabInfo};

type Result<T> = std::result::Result<T, StatesError>;

impl Snapshot {
    pub(super) fn vbucket(&self, vbucket: u16) -> Result<VbucketRow> {
        read_row(&self.transaction.open_table(VBUCKETS)?, vbucket)
    }

    pub(in super::super) fn aggregates(
        &self,
        vbucket: Vbucket,
        tabs: &[String],
    ) -> Result<Vec<Option<Bytes>>> {
        let table = self.transaction.open_table(AGGREGATES)?;
        let read = |tab: &String| {
            let state = table.get(name_key(vbucket, tab).as_slice())?;
            Ok(state.map(|state| Bytes::copy_from_slice(state.value())))
        };
        tabs.iter().map(read).collect()
    }

    pub(in super::super) fn pairs(
        &self,
        vbucket: Vbucket,
        pairs: &[(String, String)],
    ) -> Result<Vec<Option<Bytes>>> {
        let table = self.transaction.open_table(CLIENTS)?;
        let read = |(tab, client): &(String, String)| {
            let state = table.get(pair_key(vbucket, tab, client).as_slice())?;
            Ok(state.map(|state| Bytes::copy_from_slice(state.value())))
        };
        pairs.iter().map(read).collect()
    }

    /// States of one tab in client order: of the named clients, or of all.
    pub(in super::super) fn clients(
        &self,
        vbucket: Vbucket,
        tab: &str,
        clients: Option<&[String]>,
    ) -> Result<ClientStates> {
        let mark = self.vbucket(vbucket.0)?.progress.marks.clients;
        let states = match clients {
            Some(clients) => self.named_clients(vbucket, tab, clients)?,
            None => self.all_clients(vbucket, tab)?,
        };
        Ok(ClientStates { mark, states })
    }

    fn named_clients(&self, vbucket: Vbucket, tab: &str, clients: &[String]) -> Result<Vec<(String, Bytes)>> {
        let table = self.transaction.open_table(CLIENTS)?;
        let mut clients: Vec<&String> = clients.iter().collect();
        clients.sort_unstable();
        clients.dedup();
        let mut states = Vec::new();
        for client in clients {
            if let Some(state) = table.get(pair_key(vbucket, tab, client).as_slice())? {
                states.push((client.clone(), Bytes::copy_from_slice(state.value())));
            }
        }
        Ok(states)
    }

    fn all_clients(&self, vbucket: Vbucket, tab: &str) -> Result<Vec<(String, Bytes)>> {
        let table = self.transaction.open_table(CLIENTS)?;
        let (start, end) = (pair_key(vbucket, tab, ""), pair_end(vbucket, tab));
        let read = |found: std::result::Result<(_, redb::AccessGuard<'_, super::Raw>), _>| {
            let (key, state): (redb::AccessGuard<'_, super::Raw>, _) = found?;
            Ok((names(key.value())?.1.to_owned(), Bytes::copy_from_slice(state.value())))
        };
        table.range(start.as_slice()..end.as_slice())?.map(read).collect()
    }

    pub(in super::super) fn count_clients(&self, vbucket: Vbucket, tab: &str) -> Result<u64> {
        let row = self.transaction.open_table(TABS)?.get(name_key(vbucket, tab).as_slice())?;
        let Some(row) = row else { return Ok(0) };
        Ok(tab_row(tab, row.value())?.clients)
    }

    pub(in super::super) fn count_tabs(&self, vbucket: Vbucket) -> Result<u64> {
        Ok(self.vbucket(vbucket.0)?.tabs)
    }

    pub(in super::super) fn tabs(
        &self,
        vbucket: Vbucket,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<TabInfo>> {
        let table = self.transaction.open_table(TABS)?;
        let start = name_key(vbucket, after.unwrap_or(""));
        let end = vbucket_end(vbucket);
        let range = (Bound::Excluded(start.as_slice()), Bound::Excluded(end.as_slice()));
        let mut tabs = Vec::new();
        for found in table.range::<&[u8]>(range)?.take(limit) {
            let (key, row) = found?;
            let name = std::str::from_utf8(&key.value()[2..]);
            let name = name.map_err(|_| StatesError::Corrupt("key of a tab".to_owned()))?.to_owned();
            let tab_type = tab_row(&name, row.value())?.tab_type();
            let tab_type = tab_type.ok_or_else(|| StatesError::Corrupt(format!("type of tab {name}")))?;
            tabs.push(TabInfo { name, tab_type });
        }
        Ok(tabs)
    }

    /// Clients of a vbucket in order: jumps over each client's tabs instead of reading them.
    pub(in super::super) fn list_clients(
        &self,
        vbucket: Vbucket,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<String>> {
        let table = self.transaction.open_table(BY_CLIENT)?;
        let end = vbucket_end(vbucket);
        let mut start = after.map_or_else(|| name_key(vbucket, ""), |after| pair_end(vbucket, after));
        let mut clients = Vec::new();
        while clients.len() < limit {
            let Some(found) = table.range(start.as_slice()..end.as_slice())?.next() else { break };
            let (key, _) = found?;
            let client = names(key.value())?.0.to_owned();
            start = pair_end(vbucket, &client);
            clients.push(client);
        }
        Ok(clients)
    }

    pub(in super::super) fn tabs_of_client(&self, vbucket: Vbucket, client: &str) -> Result<Vec<String>> {
        let table = self.transaction.open_table(BY_CLIENT)?;
        let (start, end) = (pair_key(vbucket, client, ""), pair_end(vbucket, client));
        let mut tabs = Vec::new();
        for found in table.range(start.as_slice()..end.as_slice())? {
            let (key, _) = found?;
            tabs.push(names(key.value())?.1.to_owned());
        }
        Ok(tabs)
    }
}

fn names(key: &[u8]) -> Result<(&str, &str)> {
    pair_names(key).ok_or_else(|| StatesError::Corrupt("key of a pair of names".to_owned()))
}

fn tab_row(tab: &str, row: &[u8]) -> Result<TabRow> {
    TabRow::decode(row).ok_or_else(|| StatesError::Corrupt(format!("row of tab {tab}")))
}
