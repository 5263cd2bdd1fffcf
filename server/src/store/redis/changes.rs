//! The changes of a commit as the arguments of `commit.lua`.

use std::collections::BTreeMap;

use bytes::Bytes;
use redis::Cmd;
use taba_core::State;

use crate::store::{StoreError, TabChange};

/// Bytes of a state that tell its type: version and number of the type.
const HEAD_BYTES: usize = 2;

/// Changes that were checked: every state in them begins as a state.
///
/// One commit is one script, because the marks and the states they speak of must move together; nothing
/// else runs on the shard meanwhile. It takes about 3 µs per state and 1 ms per MiB. How much that is, the
/// pipeline bounds (`client_commit_bytes`); at 64 MiB it is a tenth of a second, a thirtieth of what Sentinel
/// takes for a primary that is down.
pub(super) struct Encoded<'a> {
    changes: Vec<EncodedChange<'a>>,
    bytes: usize,
}

struct EncodedChange<'a> {
    change: &'a TabChange,
    /// The first bytes of the last state in it, which tell the tab's type.
    head: Option<&'a [u8]>,
    /// The last word on each client.
    clients: BTreeMap<&'a str, Option<&'a Bytes>>,
}

impl<'a> Encoded<'a> {
    pub(super) fn new(changes: &'a [TabChange]) -> Result<Self, StoreError> {
        let changes = changes.iter().map(EncodedChange::new).collect::<Result<Vec<_>, _>>()?;
        let bytes = changes.iter().map(EncodedChange::bytes).sum();
        Ok(Self { changes, bytes })
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(super) fn fill(&self, command: &mut Cmd) {
        for change in &self.changes {
            change.fill(command);
        }
    }
}

impl<'a> EncodedChange<'a> {
    fn new(change: &'a TabChange) -> Result<Self, StoreError> {
        let see = |owner: &str, state: &'a Bytes| match State::peek_type(state) {
            Ok(_) => Ok(&state[..HEAD_BYTES]),
            Err(error) => {
                let what = format!("new state of {owner} of tab {}: {error}", change.tab);
                Err(StoreError::Corrupt { what })
            }
        };
        let mut head = None;
        for (client, state) in &change.clients {
            if let Some(state) = state {
                head = Some(see(client, state)?);
            }
        }
        if let Some(aggregate) = &change.aggregate {
            head = Some(see("all clients", aggregate)?);
        }
        let clients: BTreeMap<&str, Option<&Bytes>> =
            change.clients.iter().map(|(client, state)| (client.as_str(), state.as_ref())).collect();
        // A state that the same change takes back is no state.
        let puts = change.aggregate.is_some() || clients.values().any(Option::is_some);
        Ok(Self { change, head: head.filter(|_| puts), clients })
    }

    fn bytes(&self) -> usize {
        let clients = self.clients.iter().map(|(client, state)| client.len() + state.map_or(0, Bytes::len));
        self.change.tab.len() + self.change.aggregate.as_ref().map_or(0, Bytes::len) + clients.sum::<usize>()
    }

    fn fill(&self, command: &mut Cmd) {
        let Self { change, head, clients } = self;
        command.arg(&change.tab).arg(u8::from(change.delete)).arg(head.unwrap_or_default());
        command.arg(u8::from(change.aggregate.is_some()));
        command.arg(change.aggregate.as_deref().unwrap_or_default());
        command.arg(clients.values().flatten().count());
        for (client, state) in clients {
            if let Some(state) = state {
                command.arg(*client).arg(&state[..]);
            }
        }
        command.arg(clients.values().filter(|state| state.is_none()).count());
        for (client, _) in clients.iter().filter(|(_, state)| state.is_none()) {
            command.arg(*client);
        }
    }
}
