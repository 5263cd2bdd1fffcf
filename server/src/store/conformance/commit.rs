//! Commits: one atomic step under a token that counts.

use taba_core::Vbucket;

use super::{LONG, SHORT, Subject, V, batch_in_v, change, counter, entries, id, marks, own, put, tab};
use crate::store::{Commit, EntryId, FencingToken, Marks, StoreError, TabChange};

async fn accept(subject: &dyn Subject, count: u64) -> Vec<EntryId> {
    for sequence in 1..=count {
        subject.store().accept(Some(&id("p", sequence)), batch_in_v(sequence)).await.unwrap();
    }
    entries(subject.store(), V).await.iter().map(|entry| entry.id).collect()
}

async fn read(subject: &dyn Subject, tab: &str) -> (Option<bytes::Bytes>, Vec<(String, bytes::Bytes)>) {
    let aggregates = subject.store().read_aggregates(V, &[tab.to_owned()]).await.unwrap();
    let clients = subject.store().read_clients(V, tab, None).await.unwrap();
    (aggregates[0].clone(), clients.states)
}

fn named(client: &str, seed: u64) -> (String, bytes::Bytes) {
    (client.to_owned(), counter(seed))
}

pub async fn a_commit_is_read_back_and_drops_consumed_entries(subject: Box<dyn Subject>) {
    let ids = accept(&*subject, 3).await;
    let (first, second) = (tab(V, 0), tab(V, 1));
    let token = own(subject.store(), V).await;
    let changes = vec![change(&first, 1, &["b", "a"]), change(&second, 2, &["a"])];
    let commit = Commit { changes, marks: marks(ids[2], ids[1]) };
    subject.store().commit(V, token, commit).await.unwrap();
    let store = subject.store();
    let asked = [second.clone(), "unknown".to_owned(), first.clone()];
    let aggregates = store.read_aggregates(V, &asked).await.unwrap();
    assert_eq!(aggregates, [Some(counter(2)), None, Some(counter(1))]);
    let clients = store.read_clients(V, &first, None).await.unwrap();
    assert_eq!((clients.mark, clients.states), (ids[1], vec![named("a", 1), named("b", 1)]));
    let asked = ["b".to_owned(), "unknown".to_owned()];
    let clients = store.read_clients(V, &first, Some(&asked)).await.unwrap();
    assert_eq!((clients.mark, clients.states), (ids[1], vec![named("b", 1)]));
    let pairs = [(second, "a".to_owned()), (first.clone(), "c".to_owned()), (first, "a".to_owned())];
    assert_eq!(store.read_pairs(V, &pairs).await.unwrap(), [Some(counter(2)), None, Some(counter(1))]);
    assert_eq!(entries(store, V).await.iter().map(|entry| entry.id).collect::<Vec<_>>(), [ids[2]]);
}

async fn commit_is_refused(subject: &dyn Subject, token: FencingToken, ids: &[EntryId]) {
    let tab = tab(V, 0);
    let commit = Commit { changes: vec![change(&tab, 9, &["a"])], marks: marks(ids[0], ids[0]) };
    let refused = subject.store().commit(V, token, commit).await;
    assert!(matches!(refused, Err(StoreError::Fenced(V))), "{refused:?}");
    assert_eq!(read(subject, &tab).await, (Some(counter(1)), vec![named("a", 1)]));
    assert_eq!(entries(subject.store(), V).await.len(), ids.len());
}

pub async fn a_stale_token_changes_nothing(mut subject: Box<dyn Subject>) {
    let ids = accept(&*subject, 2).await;
    put(subject.store(), V, vec![change(&tab(V, 0), 1, &["a"])]).await;
    let stale = own(subject.store(), V).await;
    subject.store().release(V, stale).await.unwrap();
    commit_is_refused(&*subject, stale, &ids).await;
    let fresh = subject.store().lease(V, "other", LONG).await.unwrap().unwrap().token;
    commit_is_refused(&*subject, stale, &ids).await;
    commit_is_refused(&*subject, FencingToken(fresh.0 + 1), &ids).await;
    subject.store().commit(V, fresh, Commit::default()).await.unwrap();
    subject.reopen().await;
    commit_is_refused(&*subject, stale, &ids).await;
}

pub async fn an_expired_lease_changes_nothing(subject: Box<dyn Subject>) {
    let ids = accept(&*subject, 2).await;
    put(subject.store(), V, vec![change(&tab(V, 0), 1, &["a"])]).await;
    let token = subject.store().lease(V, "owner", SHORT).await.unwrap().unwrap().token;
    subject.pass(SHORT).await;
    commit_is_refused(&*subject, token, &ids).await;
}

pub async fn marks_never_go_back(mut subject: Box<dyn Subject>) {
    let ids = accept(&*subject, 4).await;
    let token = own(subject.store(), V).await;
    for mark in [marks(ids[3], ids[1]), marks(ids[1], ids[0]), Marks::default()] {
        subject.store().commit(V, token, Commit { changes: Vec::new(), marks: mark }).await.unwrap();
        let lease = subject.store().lease(V, "owner", LONG).await.unwrap().unwrap();
        assert_eq!(lease.marks, marks(ids[3], ids[1]));
    }
    subject.store().release(V, token).await.unwrap();
    subject.reopen().await;
    let lease = subject.store().lease(V, "owner", LONG).await.unwrap().unwrap();
    assert_eq!(lease.marks, marks(ids[3], ids[1]));
}

pub async fn the_next_owner_starts_at_the_marks(subject: Box<dyn Subject>) {
    let ids = accept(&*subject, 4).await;
    let token = own(subject.store(), V).await;
    let commit = Commit { changes: Vec::new(), marks: marks(ids[2], ids[0]) };
    subject.store().commit(V, token, commit).await.unwrap();
    subject.store().release(V, token).await.unwrap();
    let lease = subject.store().lease(V, "next", LONG).await.unwrap().unwrap();
    assert_eq!(lease.marks, marks(ids[2], ids[0]));
    let replay = subject.store().read_queue(V, lease.marks.clients, usize::MAX).await.unwrap();
    assert_eq!(replay.iter().map(|entry| entry.id).collect::<Vec<_>>(), ids[1..]);
}

fn delete(tab: &str) -> TabChange {
    TabChange { tab: tab.to_owned(), aggregate: None, clients: Vec::new(), delete: true }
}

pub async fn deleting_a_tab_removes_all_of_it_in_one_step(mut subject: Box<dyn Subject>) {
    let (gone, kept) = (tab(V, 0), tab(V, 1));
    put(subject.store(), V, vec![change(&gone, 1, &["a", "b", "c"]), change(&kept, 2, &["a"])]).await;
    put(subject.store(), V, vec![delete(&gone), delete("unknown")]).await;
    for _ in 0..2 {
        let store = subject.store();
        assert_eq!(read(&*subject, &gone).await, (None, Vec::new()));
        assert_eq!(read(&*subject, &kept).await, (Some(counter(2)), vec![named("a", 2)]));
        let tabs = store.list_tabs(V, None, 10).await.unwrap();
        assert_eq!(tabs.into_iter().map(|tab| tab.name).collect::<Vec<_>>(), std::slice::from_ref(&kept));
        assert_eq!(store.list_clients(V, None, 10).await.unwrap(), ["a"]);
        assert_eq!(store.list_tabs_of_client(V, "a").await.unwrap(), std::slice::from_ref(&kept));
        assert!(store.list_tabs_of_client(V, "b").await.unwrap().is_empty());
        assert_eq!(store.count_tabs(V).await.unwrap(), 1);
        assert_eq!(store.count_clients(V, &gone).await.unwrap(), 0);
        subject.reopen().await;
    }
}

pub async fn a_deletion_comes_before_the_rest_of_its_change(subject: Box<dyn Subject>) {
    let tab = tab(V, 0);
    put(subject.store(), V, vec![change(&tab, 1, &["a", "b"])]).await;
    let again = TabChange { delete: true, ..change(&tab, 2, &["b", "c"]) };
    put(subject.store(), V, vec![again]).await;
    let expected = (Some(counter(2)), vec![named("b", 2), named("c", 2)]);
    assert_eq!(read(&*subject, &tab).await, expected);
    assert_eq!(subject.store().count_clients(V, &tab).await.unwrap(), 2);
    assert_eq!(subject.store().list_clients(V, None, 10).await.unwrap(), ["b", "c"]);
}

pub async fn removing_a_client_leaves_the_others(subject: Box<dyn Subject>) {
    let tab = tab(V, 0);
    put(subject.store(), V, vec![change(&tab, 1, &["a", "b"])]).await;
    let clients = vec![("a".to_owned(), None), ("unknown".to_owned(), None)];
    let remove = TabChange { tab: tab.clone(), aggregate: None, clients, delete: false };
    put(subject.store(), V, vec![remove]).await;
    assert_eq!(read(&*subject, &tab).await, (Some(counter(1)), vec![named("b", 1)]));
}

pub async fn commits_survive_a_restart(mut subject: Box<dyn Subject>) {
    let ids = accept(&*subject, 3).await;
    let tab = tab(V, 0);
    for (seed, mark) in (1..).zip(&ids) {
        let token = own(subject.store(), V).await;
        let commit = Commit { changes: vec![change(&tab, seed, &["a"])], marks: marks(*mark, *mark) };
        subject.store().commit(V, token, commit).await.unwrap();
        subject.store().release(V, token).await.unwrap();
        subject.reopen().await;
        assert_eq!(read(&*subject, &tab).await, (Some(counter(seed)), vec![named("a", seed)]));
        assert_eq!(
            entries(subject.store(), V).await.first().map(|entry| entry.id),
            ids.get(seed as usize).copied()
        );
    }
}

pub async fn vbuckets_do_not_share_states(subject: Box<dyn Subject>) {
    let (here, there) = (tab(V, 0), tab(Vbucket(2), 0));
    put(subject.store(), V, vec![change(&here, 1, &["a"])]).await;
    put(subject.store(), Vbucket(2), vec![change(&there, 2, &["b"])]).await;
    let store = subject.store();
    assert_eq!(store.read_aggregates(V, &[there]).await.unwrap(), [None]);
    assert_eq!(store.list_clients(V, None, 10).await.unwrap(), ["a"]);
    assert_eq!(store.list_clients(Vbucket(2), None, 10).await.unwrap(), ["b"]);
    assert_eq!(store.list_tabs(Vbucket(2), None, 10).await.unwrap().len(), 1);
    assert!(store.list_clients(Vbucket(3), None, 10).await.unwrap().is_empty());
}
