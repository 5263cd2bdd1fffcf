//! What every store must do, as tests: the embedded store and the Redis shards pass the same suite.
//!
//! A store's tests implement [`Factory`] and call [`store_conformance!`](crate::store_conformance) with
//! it; each check below becomes a test on a fresh store. The checks look at a store only through the
//! trait. States in them are a real header before arbitrary bytes: a store looks at no more of a state.

#![allow(clippy::unwrap_used, missing_docs, reason = "these are tests; their names say what they check")]

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use taba_core::{BatchId, Part, Parts, ProducerId, TabType, Vbucket, VbucketCount};

use super::{Commit, EntryId, FencingToken, Marks, QueueEntry, Store, TabChange};

pub mod accept;
pub mod commit;
pub mod lease;
pub mod lists;
pub mod model;
pub mod queue;

/// Makes stores to check.
#[async_trait]
pub trait Factory: Send + Sync {
    /// A fresh, empty store.
    async fn make(&self, vbuckets: VbucketCount) -> Box<dyn Subject>;
}

/// A store under test and the world around it.
#[async_trait]
pub trait Subject: Send + Sync {
    /// The store. Checks hold no clone of it across [`Subject::reopen`].
    fn store(&self) -> &Arc<dyn Store>;

    /// Stops the store and starts it again on what it had stored.
    async fn reopen(&mut self);

    /// Lets this much time pass by the store's clock.
    async fn pass(&self, time: Duration);
}

/// Makes a test of each check, on stores of the given [`Factory`].
#[macro_export]
macro_rules! store_conformance {
    ($factory:expr) => {
        $crate::store_conformance!(@checks $factory;
            accept: an_accepted_batch_is_on_the_queues_of_its_vbuckets,
                a_repeated_batch_is_a_duplicate_and_changes_nothing,
                batches_without_an_id_are_all_stored,
                concurrent_repeats_of_a_batch_store_it_once,
                reordered_sequences_are_told_from_duplicates,
                the_window_ends_where_it_says,
                producers_do_not_share_sequences,
                a_batch_without_parts_is_remembered,
                duplicates_are_told_after_a_restart_and_after_their_entries_are_gone;
            queue: entries_come_in_order_and_ids_grow,
                reading_stops_at_the_bound_but_gives_at_least_one,
                depth_follows_accepts_and_commits,
                discarding_drops_what_no_state_holds_for_good,
                discarding_keeps_what_aggregates_hold,
                discarding_takes_the_lease_away,
                waiting_ends_when_an_entry_comes,
                waiting_ends_at_once_when_an_entry_is_there,
                ids_grow_over_a_restart_with_an_empty_queue;
            lease: a_lease_is_exclusive_until_it_expires,
                renewing_keeps_the_token,
                a_hand_over_grants_a_higher_token,
                a_released_lease_is_free_at_once,
                a_stale_release_is_no_error_and_no_release,
                leases_of_vbuckets_are_independent,
                tokens_grow_over_a_restart;
            commit: a_commit_is_read_back_and_drops_consumed_entries,
                a_stale_token_changes_nothing,
                an_expired_lease_changes_nothing,
                marks_never_go_back,
                the_next_owner_starts_at_the_marks,
                deleting_a_tab_removes_all_of_it_in_one_step,
                a_deletion_comes_before_the_rest_of_its_change,
                removing_a_client_leaves_the_others,
                commits_survive_a_restart,
                vbuckets_do_not_share_states;
            lists: tabs_are_paged_in_order_with_their_type,
                clients_are_paged_in_order,
                tabs_of_a_client_follow_its_states,
                counts_follow_the_states,
                lists_survive_a_restart;
        );
        #[test]
        fn any_history_agrees_with_a_naive_model() {
            $crate::store::conformance::model::any_history_agrees_with_a_naive_model(&$factory);
        }
    };
    (@checks $factory:expr; $($module:ident: $($check:ident),+;)+) => {
        $($(
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $check() {
                let vbuckets = $crate::store::conformance::vbuckets();
                let subject = $crate::store::conformance::Factory::make(&$factory, vbuckets).await;
                $crate::store::conformance::$module::$check(subject).await;
            }
        )+)+
    };
}

/// The vbucket count of stores under test.
#[must_use]
pub fn vbuckets() -> VbucketCount {
    VbucketCount::new(4).expect("a valid count")
}

/// Long enough that nothing expires within a check.
const LONG: Duration = Duration::from_secs(3600);
/// Short enough to let it pass in real time.
const SHORT: Duration = Duration::from_millis(300);
/// The vbucket most checks use.
const V: Vbucket = Vbucket(1);

/// The n-th Tab Name of a vbucket.
fn tab(vbucket: Vbucket, n: usize) -> String {
    let names = (0..).map(|number| format!("tab.{number:05}"));
    names.filter(|name| vbuckets().of(name) == vbucket).nth(n).expect("names never end")
}

fn id(producer: &str, sequence: u64) -> BatchId {
    BatchId { producer: ProducerId::new(producer).expect("a valid name"), sequence }
}

/// A batch with one part per tab; `events` tells batches apart.
fn batch(tabs: &[&str], events: u64) -> Parts {
    let mut parts = Parts::new(vbuckets());
    for tab in tabs {
        parts.push(&Part::State { tab, client: "client", events, state: b"partial" });
    }
    parts
}

/// A batch with a part in vbucket [`V`] only.
fn batch_in_v(events: u64) -> Parts {
    batch(&[&tab(V, 0)], events)
}

/// State bytes of a type, told apart by `seed`.
fn state(tab_type: TabType, seed: u64) -> Bytes {
    let mut bytes = vec![1, tab_type as u8];
    bytes.extend_from_slice(&seed.to_le_bytes());
    bytes.extend_from_slice(&crc32c::crc32c(&bytes).to_le_bytes());
    Bytes::from(bytes)
}

fn counter(seed: u64) -> Bytes {
    state(TabType::CounterGroup, seed)
}

fn marks(aggregates: EntryId, clients: EntryId) -> Marks {
    Marks { aggregates, clients }
}

/// A change that writes the all-clients state and the states of some clients.
fn change(tab: &str, seed: u64, clients: &[&str]) -> TabChange {
    TabChange {
        tab: tab.to_owned(),
        aggregate: Some(counter(seed)),
        clients: clients.iter().map(|client| ((*client).to_owned(), Some(counter(seed)))).collect(),
        delete: false,
    }
}

async fn own(store: &Arc<dyn Store>, vbucket: Vbucket) -> FencingToken {
    store.lease(vbucket, "owner", LONG).await.expect("a lease").expect("nobody else holds it").token
}

async fn entries(store: &Arc<dyn Store>, vbucket: Vbucket) -> Vec<QueueEntry> {
    store.read_queue(vbucket, EntryId(0), usize::MAX).await.expect("a readable queue")
}

/// How many events each waiting entry of a vbucket says it holds, in order.
async fn events(store: &Arc<dyn Store>, vbucket: Vbucket) -> Vec<u64> {
    let read = entries(store, vbucket).await;
    read.iter().flat_map(|entry| taba_core::part::iter(&entry.block).map(part_events)).collect()
}

fn part_events(part: Result<Part<'_>, taba_core::part::BadPart>) -> u64 {
    match part.expect("a readable part") {
        Part::State { events, .. } => events,
        Part::Delete { tab } => panic!("unexpected deletion of {tab}"),
    }
}

/// Commits changes under a fresh lease, without moving a mark.
async fn put(store: &Arc<dyn Store>, vbucket: Vbucket, changes: Vec<TabChange>) {
    let token = own(store, vbucket).await;
    let commit = Commit { changes, marks: Marks::default() };
    store.commit(vbucket, token, commit).await.expect("a commit");
}
