//! Any history of calls, restarts included, against a model so plain that it is plainly right.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use taba_core::batch::SEQUENCE_WINDOW;
use taba_core::{TabType, Vbucket};

use super::{Factory, LONG, Subject, batch, counter, entries, events, id, tab, vbuckets};
use crate::store::{Accepted, Commit, EntryId, Marks, QueueDepth, StoreError, TabChange, TabInfo};

/// Histories per run.
const HISTORIES: u32 = 24;
const TABS: usize = 4;
const VBUCKETS: [Vbucket; 2] = [Vbucket(0), Vbucket(1)];
const CLIENTS: [&str; 3] = ["a", "a.b", "b"];

#[derive(Clone, Debug)]
enum Step {
    /// What the batch holds follows from its id.
    Accept {
        producer: u8,
        sequence: u64,
    },
    /// `consume`: how many waiting entries the marks pass.
    Commit {
        vbucket: usize,
        changes: Vec<Change>,
        aggregates: usize,
        clients: usize,
    },
    Discard {
        vbucket: usize,
    },
    Reopen,
}

#[derive(Clone, Debug)]
struct Change {
    tab: usize,
    aggregate: bool,
    delete: bool,
    /// Per client: leave, put or remove.
    clients: [Option<bool>; CLIENTS.len()],
    seed: u64,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let sequence = prop_oneof![0_u64..12, Just(SEQUENCE_WINDOW), SEQUENCE_WINDOW..SEQUENCE_WINDOW + 12];
    let accept = (0_u8..2, sequence).prop_map(|(producer, sequence)| Step::Accept { producer, sequence });
    let commit = (0..2_usize, proptest::collection::vec(change(), 0..4), 0..4_usize, 0..4_usize).prop_map(
        |(vbucket, changes, aggregates, clients)| Step::Commit { vbucket, changes, aggregates, clients },
    );
    let discard = (0..2_usize).prop_map(|vbucket| Step::Discard { vbucket });
    let step = prop_oneof![8 => accept, 6 => commit, 1 => discard, 1 => Just(Step::Reopen)];
    proptest::collection::vec(step, 1..60)
}

fn change() -> impl Strategy<Value = Change> {
    let clients = proptest::array::uniform3(proptest::option::of(any::<bool>()));
    (0..TABS, any::<bool>(), proptest::bool::weighted(0.2), clients, any::<u64>())
        .prop_map(|(tab, aggregate, delete, clients, seed)| Change { tab, aggregate, delete, clients, seed })
}

#[derive(Default)]
struct Model {
    /// Per producer, every sequence ever stored.
    seen: BTreeMap<u8, BTreeSet<u64>>,
    vbuckets: BTreeMap<Vbucket, ModelVbucket>,
}

#[derive(Default)]
struct ModelVbucket {
    queue: Vec<(EntryId, u64)>,
    marks: Marks,
    aggregates: BTreeMap<String, Bytes>,
    clients: BTreeMap<(String, String), Bytes>,
}

/// forall histories: after each step the store answers as the model does.
pub fn any_history_agrees_with_a_naive_model(factory: &dyn Factory) {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    let runtime = runtime.expect("a runtime");
    let config = Config { cases: HISTORIES, failure_persistence: None, ..Config::default() };
    let outcome = TestRunner::new(config).run(&steps(), |steps| {
        runtime.block_on(async {
            let mut subject = factory.make(vbuckets()).await;
            let mut model = Model::default();
            for step in steps {
                model.apply(&mut *subject, step).await;
                model.compare(&*subject).await;
            }
        });
        Ok(())
    });
    if let Err(failure) = outcome {
        panic!("{failure}");
    }
}

impl Model {
    async fn apply(&mut self, subject: &mut dyn Subject, step: Step) {
        match step {
            Step::Accept { producer, sequence } => self.accept(subject, producer, sequence).await,
            Step::Commit { vbucket, changes, aggregates, clients } => {
                self.commit(subject, VBUCKETS[vbucket], changes, aggregates, clients).await;
            }
            Step::Discard { vbucket } => self.discard(subject, VBUCKETS[vbucket]).await,
            Step::Reopen => subject.reopen().await,
        }
    }

    async fn accept(&mut self, subject: &dyn Subject, producer: u8, sequence: u64) {
        let tabs = tabs_of(producer, sequence);
        let mut names = Vec::new();
        for (at, vbucket) in VBUCKETS.into_iter().enumerate() {
            names.extend((0..TABS).filter(|n| tabs >> (at * TABS + n) & 1 == 1).map(|n| tab(vbucket, n)));
        }
        // Told apart from all other batches, so that what is on a queue can be told too.
        let events = sequence * 2 + u64::from(producer);
        let parts = batch(&names.iter().map(String::as_str).collect::<Vec<_>>(), events);
        let outcome = subject.store().accept(Some(&id(&format!("p{producer}"), sequence)), parts).await;
        let seen = self.seen.entry(producer).or_default();
        let stale = seen.last().is_some_and(|highest| *highest > sequence + SEQUENCE_WINDOW);
        // A store may remember sequences per vbucket; in those of this batch they may be lower.
        if stale && matches!(outcome, Err(StoreError::StaleSequence { .. })) {
            return;
        }
        let expected = if seen.insert(sequence) { Accepted::New } else { Accepted::Duplicate };
        assert_eq!(outcome.unwrap(), expected);
        if expected == Accepted::Duplicate {
            return;
        }
        for vbucket in VBUCKETS {
            let parts = names.iter().filter(|name| vbuckets().of(name) == vbucket).count();
            if parts > 0 {
                let model = self.vbuckets.entry(vbucket).or_default();
                let newest = entries(subject.store(), vbucket).await.last().expect("the new entry").id;
                assert!(model.queue.last().is_none_or(|(last, _)| *last < newest));
                model.queue.push((newest, events * 100 + parts as u64));
            }
        }
    }

    async fn commit(
        &mut self,
        subject: &dyn Subject,
        vbucket: Vbucket,
        changes: Vec<Change>,
        aggregates: usize,
        clients: usize,
    ) {
        let model = self.vbuckets.entry(vbucket).or_default();
        let place = |passed: usize| match passed.min(model.queue.len()) {
            0 => EntryId(0),
            passed => model.queue[passed - 1].0,
        };
        let marks = Marks { aggregates: place(aggregates.max(clients)), clients: place(clients) };
        let changes: Vec<TabChange> = changes.into_iter().map(|change| change.build(vbucket)).collect();
        for change in &changes {
            model.change(change);
        }
        model.advance(marks);
        let lease = subject.store().lease(vbucket, "owner", LONG).await.unwrap().expect("a lease");
        subject.store().commit(vbucket, lease.token, Commit { changes, marks }).await.unwrap();
    }

    async fn discard(&mut self, subject: &dyn Subject, vbucket: Vbucket) {
        let model = self.vbuckets.entry(vbucket).or_default();
        let before = model.queue.len();
        let aggregates = model.marks.aggregates;
        model.queue.retain(|(id, _)| *id <= aggregates);
        let dropped = subject.store().discard_queue(vbucket).await.unwrap();
        assert_eq!(dropped, (before - model.queue.len()) as u64);
    }

    async fn compare(&self, subject: &dyn Subject) {
        for (vbucket, model) in &self.vbuckets {
            model.compare(subject, *vbucket).await;
        }
    }
}

/// As bits, which tabs a batch holds parts of: about half of them, and now and then none.
fn tabs_of(producer: u8, sequence: u64) -> u8 {
    let bytes = [&[producer][..], &sequence.to_le_bytes()].concat();
    let bits = crc32c::crc32c(&bytes).to_le_bytes();
    if bits[1] < 16 { 0 } else { bits[0] }
}

impl Change {
    fn build(self, vbucket: Vbucket) -> TabChange {
        let clients = CLIENTS.iter().zip(self.clients).filter_map(|(client, change)| {
            let put = change?;
            Some(((*client).to_owned(), put.then(|| counter(self.seed))))
        });
        TabChange {
            tab: tab(vbucket, self.tab),
            aggregate: self.aggregate.then(|| counter(self.seed)),
            clients: clients.collect(),
            delete: self.delete,
        }
    }
}

impl ModelVbucket {
    fn change(&mut self, change: &TabChange) {
        if change.delete {
            self.aggregates.remove(&change.tab);
            self.clients.retain(|(tab, _), _| *tab != change.tab);
        }
        if let Some(aggregate) = &change.aggregate {
            self.aggregates.insert(change.tab.clone(), aggregate.clone());
        }
        for (client, state) in &change.clients {
            let pair = (change.tab.clone(), client.clone());
            match state {
                Some(state) => drop(self.clients.insert(pair, state.clone())),
                None => drop(self.clients.remove(&pair)),
            }
        }
    }

    fn advance(&mut self, marks: Marks) {
        self.marks.aggregates = self.marks.aggregates.max(marks.aggregates);
        self.marks.clients = self.marks.clients.max(marks.clients);
        let clients = self.marks.clients;
        self.queue.retain(|(id, _)| *id > clients);
    }

    async fn compare(&self, subject: &dyn Subject, vbucket: Vbucket) {
        let store = subject.store();
        let read = entries(store, vbucket).await;
        let queued: Vec<EntryId> = read.iter().map(|entry| entry.id).collect();
        assert_eq!(queued, self.queue.iter().map(|(id, _)| *id).collect::<Vec<_>>());
        let expected = self.queue.iter().flat_map(|(_, content)| {
            std::iter::repeat_n(content / 100, usize::try_from(content % 100).expect("few parts"))
        });
        assert_eq!(events(store, vbucket).await, expected.collect::<Vec<_>>());
        let bytes = read.iter().map(|entry| entry.block.len() as u64).sum();
        let depth = QueueDepth { entries: self.queue.len() as u64, bytes };
        assert_eq!(store.queue_depth(vbucket).await.unwrap(), depth);
        let listed = store.list_tabs(vbucket, None, 100).await.unwrap();
        let expected: BTreeSet<&String> =
            self.aggregates.keys().chain(self.clients.keys().map(|(tab, _)| tab)).collect();
        let info = |name: &String| TabInfo { name: name.clone(), tab_type: TabType::CounterGroup };
        assert_eq!(listed, expected.iter().copied().map(info).collect::<Vec<_>>());
        assert_eq!(store.count_tabs(vbucket).await.unwrap(), expected.len());
        for n in 0..TABS {
            self.compare_tab(subject, vbucket, &tab(vbucket, n)).await;
        }
        self.compare_clients(subject, vbucket).await;
    }

    async fn compare_tab(&self, subject: &dyn Subject, vbucket: Vbucket, tab: &str) {
        let store = subject.store();
        let aggregates = store.read_aggregates(vbucket, &[tab.to_owned()]).await.unwrap();
        assert_eq!(aggregates[0].as_ref(), self.aggregates.get(tab));
        let read = store.read_clients(vbucket, tab, None).await.unwrap();
        let of_tab = self.clients.iter().filter(|((of, _), _)| of == tab);
        let expected: Vec<_> = of_tab.map(|((_, client), state)| (client.clone(), state.clone())).collect();
        assert_eq!((read.mark, &read.states), (self.marks.clients, &expected));
        assert_eq!(store.count_clients(vbucket, tab).await.unwrap(), expected.len());
    }

    async fn compare_clients(&self, subject: &dyn Subject, vbucket: Vbucket) {
        let expected: BTreeSet<&String> = self.clients.keys().map(|(_, client)| client).collect();
        let listed = subject.store().list_clients(vbucket, None, 100).await.unwrap();
        assert!(listed.iter().eq(expected.iter().copied()), "{listed:?} {expected:?}");
        for client in CLIENTS {
            let tabs = subject.store().list_tabs_of_client(vbucket, client).await.unwrap();
            let of_client = self.clients.keys().filter(|(_, of)| of == client);
            assert_eq!(tabs, of_client.map(|(tab, _)| tab.clone()).collect::<Vec<_>>());
        }
    }
}
