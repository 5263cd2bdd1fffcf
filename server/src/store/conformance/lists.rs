//! Lists and counts: in order, in pages, in step with the states.

use std::sync::Arc;

use taba_core::TabType;

use super::{Subject, V, change, counter, put, state, tab};
use crate::store::{Store, TabChange, TabInfo};

async fn all_tabs(store: &Arc<dyn Store>, page: usize) -> Vec<TabInfo> {
    let mut tabs: Vec<TabInfo> = Vec::new();
    loop {
        let next = store.list_tabs(V, tabs.last().map(|tab| tab.name.as_str()), page).await.unwrap();
        assert!(next.len() <= page);
        if next.is_empty() {
            return tabs;
        }
        tabs.extend(next);
    }
}

pub async fn tabs_are_paged_in_order_with_their_type(subject: Box<dyn Subject>) {
    let types = [TabType::CounterGroup, TabType::Gauge, TabType::PercentileCounter];
    let expected: Vec<TabInfo> =
        (0..7).map(|n| TabInfo { name: tab(V, n), tab_type: types[n % types.len()] }).collect();
    for (seed, tab) in expected.iter().enumerate().rev() {
        let aggregate = Some(state(tab.tab_type, seed as u64));
        let change = TabChange { tab: tab.name.clone(), aggregate, clients: Vec::new(), delete: false };
        put(subject.store(), V, vec![change]).await;
    }
    for page in [1, 2, 3, 7, 100] {
        assert_eq!(all_tabs(subject.store(), page).await, expected, "pages of {page}");
    }
    assert!(subject.store().list_tabs(V, None, 0).await.unwrap().is_empty());
    // A page may start after a name that does not exist.
    let after = format!("{}!", expected[2].name);
    assert_eq!(subject.store().list_tabs(V, Some(&after), 1).await.unwrap(), expected[3..4]);
}

pub async fn clients_are_paged_in_order(subject: Box<dyn Subject>) {
    let clients = ["a", "a.b", "ab", "b", "z/1"];
    for n in 0..3 {
        put(subject.store(), V, vec![change(&tab(V, n), 1, &clients[n..])]).await;
    }
    for page in [1, 2, 5, 100] {
        let mut listed: Vec<String> = Vec::new();
        loop {
            let after = listed.last().map(String::as_str);
            let next = subject.store().list_clients(V, after, page).await.unwrap();
            if next.is_empty() {
                break;
            }
            assert!(next.len() <= page);
            listed.extend(next);
        }
        assert_eq!(listed, clients, "pages of {page}");
    }
    assert_eq!(subject.store().list_clients(V, Some("aa"), 1).await.unwrap(), ["ab"]);
}

pub async fn tabs_of_a_client_follow_its_states(subject: Box<dyn Subject>) {
    let (first, second) = (tab(V, 0), tab(V, 1));
    put(subject.store(), V, vec![change(&second, 1, &["a", "ab"]), change(&first, 1, &["a"])]).await;
    let store = subject.store();
    assert_eq!(store.list_tabs_of_client(V, "a").await.unwrap(), [first.clone(), second.clone()]);
    assert_eq!(store.list_tabs_of_client(V, "ab").await.unwrap(), std::slice::from_ref(&second));
    assert!(store.list_tabs_of_client(V, "unknown").await.unwrap().is_empty());
    let clients = vec![("a".to_owned(), None)];
    let remove = TabChange { tab: first, aggregate: None, clients, delete: false };
    put(store, V, vec![remove]).await;
    assert_eq!(store.list_tabs_of_client(V, "a").await.unwrap(), std::slice::from_ref(&second));
    let clients = vec![("a".to_owned(), None), ("ab".to_owned(), None)];
    put(store, V, vec![TabChange { tab: second, aggregate: None, clients, delete: false }]).await;
    assert!(store.list_tabs_of_client(V, "a").await.unwrap().is_empty());
    assert!(store.list_clients(V, None, 10).await.unwrap().is_empty());
}

pub async fn counts_follow_the_states(subject: Box<dyn Subject>) {
    let tab = tab(V, 0);
    let store = subject.store();
    assert_eq!((store.count_tabs(V).await.unwrap(), store.count_clients(V, &tab).await.unwrap()), (0, 0));
    put(store, V, vec![change(&tab, 1, &["a", "b"])]).await;
    put(store, V, vec![change(&tab, 2, &["b", "c"])]).await;
    assert_eq!((store.count_tabs(V).await.unwrap(), store.count_clients(V, &tab).await.unwrap()), (1, 3));
    let clients = vec![("a".to_owned(), None), ("a".to_owned(), Some(counter(3))), ("b".to_owned(), None)];
    put(store, V, vec![TabChange { tab: tab.clone(), aggregate: None, clients, delete: false }]).await;
    assert_eq!((store.count_tabs(V).await.unwrap(), store.count_clients(V, &tab).await.unwrap()), (1, 2));
}

pub async fn lists_survive_a_restart(mut subject: Box<dyn Subject>) {
    put(subject.store(), V, vec![change(&tab(V, 0), 1, &["a", "b"]), change(&tab(V, 1), 1, &["b"])]).await;
    subject.reopen().await;
    let store = subject.store();
    assert_eq!(all_tabs(store, 10).await.len(), 2);
    assert_eq!(store.list_clients(V, None, 10).await.unwrap(), ["a", "b"]);
    assert_eq!(store.list_tabs_of_client(V, "b").await.unwrap(), [tab(V, 0), tab(V, 1)]);
    assert_eq!(
        (store.count_tabs(V).await.unwrap(), store.count_clients(V, &tab(V, 0)).await.unwrap()),
        (2, 2)
    );
}
