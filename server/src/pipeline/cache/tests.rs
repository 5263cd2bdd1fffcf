use taba_core::{Event, Format, Payload};

use super::*;

const NOW: Timestamp = Timestamp::from_secs(1_700_000_000);
const ROOMY: CacheLimits = CacheLimits { tabs_max: 100, aggregate_bytes_max: 1 << 20 };

fn state(tab_type: TabType, value: f64) -> Vec<u8> {
    let mut state = State::new(tab_type);
    let event = Event { time: NOW, ordinal: 0, payload: Payload::Number(value) };
    state.fold("c", &event, NOW).expect("a number fits");
    let mut out = Vec::new();
    state.encode(&mut out);
    out
}

fn count_of(bytes: &[u8]) -> u64 {
    count(&State::decode(bytes).expect("a valid state"))
}

fn count(state: &State) -> u64 {
    state.windows(NOW).iter().find(|window| window.label == "1d").map_or(0, |window| window.count)
}

/// An entry with one CounterGroup event per (tab, client).
fn entry(id: u64, pairs: &[(&str, &str)]) -> QueueEntry {
    typed_entry(id, pairs, TabType::CounterGroup)
}

fn typed_entry(id: u64, pairs: &[(&str, &str)], tab_type: TabType) -> QueueEntry {
    let mut block = Vec::new();
    for (tab, client) in pairs {
        Part::State { tab, client, events: 1, state: &state(tab_type, 1.0) }.encode(&mut block);
    }
    QueueEntry { id: EntryId(id), accepted: NOW, block: block.into() }
}

fn delete_entry(id: u64, tab: &str) -> QueueEntry {
    let mut block = Vec::new();
    Part::Delete { tab }.encode(&mut block);
    QueueEntry { id: EntryId(id), accepted: NOW, block: block.into() }
}

/// Applies an entry whose unknown tabs have no stored state.
fn apply(cache: &mut Cache, entry: &QueueEntry) {
    let unknown: Vec<String> = cache.tabs_to_load(&entry.block).map(str::to_owned).collect();
    for tab in unknown {
        cache.load(&tab, None);
    }
    cache.apply(entry, NOW).expect("a readable entry");
}

fn present(cache: &Cache, tab: &str) -> u64 {
    match cache.aggregate(tab) {
        Found::Present(state) => count(&state),
        other => panic!("expected a state of {tab}, found {other:?}"),
    }
}

fn waiting(parts: &ListedParts) -> u64 {
    parts.iter().flat_map(|(_, parts)| parts).map(|part| count_of(part)).sum()
}

#[test]
fn an_applied_entry_shows_in_the_aggregate_and_in_its_clients() {
    let mut cache = Cache::new(Marks::default(), 0, ROOMY);
    apply(&mut cache, &entry(1, &[("t", "a"), ("t", "b"), ("u", "a")]));
    assert_eq!((present(&cache, "t"), present(&cache, "u")), (2, 1));
    let overlay = cache.overlay("t", |client| client == "b");
    assert_eq!((waiting(&overlay.pending), overlay.applied), (1, EntryId(1)));
}

#[test]
fn entries_between_the_marks_reach_the_clients_only() {
    let marks = Marks { aggregates: EntryId(1), clients: EntryId(0) };
    let mut cache = Cache::new(marks, 1, ROOMY);
    cache.load("t", Some(State::decode(&state(TabType::CounterGroup, 1.0)).expect("a valid state")));
    cache.apply(&entry(1, &[("t", "a")]), NOW).expect("a readable entry");
    assert_eq!(present(&cache, "t"), 1, "the stored all-clients state includes the entry already");
    assert_eq!(waiting(&cache.overlay("t", |_| true).pending), 1);
    assert!(!cache.is_dirty());
    assert!(cache.has_pending());
}

#[test]
fn parts_of_a_busy_client_are_merged_and_none_is_lost() {
    let mut cache = Cache::new(Marks::default(), 0, ROOMY);
    for id in 1..=100 {
        apply(&mut cache, &entry(id, &[("t", "a")]));
    }
    let overlay = cache.overlay("t", |_| true);
    assert!(overlay.pending[0].1.len() <= CLIENT_PARTS_MAX);
    assert_eq!(waiting(&overlay.pending), 100);
}

#[test]
fn frozen_parts_are_told_from_later_ones_by_their_mark() {
    let mut cache = Cache::new(Marks::default(), 0, ROOMY);
    apply(&mut cache, &entry(1, &[("t", "a")]));
    let frozen = cache.freeze();
    apply(&mut cache, &entry(2, &[("t", "a")]));
    let overlay = cache.overlay("t", |_| true);
    let (mark, parts) = overlay.frozen.expect("a commit is under way");
    assert_eq!((mark, waiting(&parts), waiting(&overlay.pending)), (EntryId(1), 1, 1));
    assert_eq!(frozen.mark, EntryId(1));

    cache.committed_up_to(Marks { aggregates: EntryId(1), clients: EntryId(1) });
    let overlay = cache.overlay("t", |_| true);
    assert!(overlay.frozen.is_none());
    assert_eq!(waiting(&overlay.pending), 1);
}

#[test]
fn a_deletion_hides_what_came_before_and_keeps_what_comes_after() {
    let mut cache = Cache::new(Marks::default(), 0, ROOMY);
    apply(&mut cache, &entry(1, &[("t", "a")]));
    apply(&mut cache, &delete_entry(2, "t"));
    assert!(matches!(cache.aggregate("t"), Found::Absent));
    assert!(cache.overlay("t", |_| true).deleted);
    assert!(cache.has_deletion());
    apply(&mut cache, &typed_entry(3, &[("t", "a")], TabType::PercentileGroup));
    let Found::Present(state) = cache.aggregate("t") else { panic!("the tab is there again") };
    assert_eq!(state.tab_type(), TabType::PercentileGroup, "a deleted tab may take another type");
    let dirty = cache.encode_dirty("t", NOW).expect("it changed");
    assert!(dirty.deleted && dirty.aggregate.is_some());
}

#[test]
fn events_of_another_type_than_the_tabs_are_counted_and_change_nothing() {
    let mut cache = Cache::new(Marks::default(), 0, ROOMY);
    apply(&mut cache, &entry(1, &[("t", "a")]));
    apply(&mut cache, &typed_entry(2, &[("t", "a"), ("u", "a")], TabType::PercentileGroup));
    assert_eq!(cache.take_bad().get(BadReason::TypeMismatch), 1);
    assert_eq!(present(&cache, "t"), 1);
    assert!(matches!(cache.aggregate("u"), Found::Present(_)), "its neighbour is kept");
}

#[test]
fn tabs_over_the_limit_are_counted_and_not_kept() {
    let mut cache = Cache::new(Marks::default(), 0, CacheLimits { tabs_max: 2, ..ROOMY });
    apply(&mut cache, &entry(1, &[("t", "a"), ("u", "a"), ("v", "a")]));
    assert_eq!(cache.take_bad().get(BadReason::LimitReached), 1);
    assert_eq!(cache.list_tabs().values().flatten().count(), 2);
    cache.freeze();
    cache.committed_up_to(Marks { aggregates: EntryId(1), clients: EntryId(1) });
    assert_eq!(cache.list_tabs().len(), 2, "a refused name is not remembered");
}

#[test]
fn clean_states_leave_memory_at_the_bound_and_dirty_ones_stay() {
    let mut cache = Cache::new(Marks::default(), 0, CacheLimits { aggregate_bytes_max: 1, ..ROOMY });
    apply(&mut cache, &entry(1, &[("t", "a")]));
    assert_eq!(present(&cache, "t"), 1);
    for tab in cache.dirty_tabs() {
        cache.encode_dirty(&tab, NOW).expect("it changed");
    }
    cache.freeze();
    cache.committed_up_to(Marks { aggregates: EntryId(1), clients: EntryId(1) });
    assert!(matches!(cache.aggregate("t"), Found::AskStore));
}

#[test]
fn a_repaired_tab_is_not_left_busy() {
    let mut cache = Cache::new(Marks::default(), 1, ROOMY);
    cache.replace_aggregate("t", State::decode(&state(TabType::CounterGroup, 1.0)).expect("a valid state"));
    assert_eq!(present(&cache, "t"), 1);
    assert!(!cache.is_tab_busy("t"), "a sweep would pass the tab over until its next event");
    cache.removed("t");
    assert!(matches!(cache.aggregate("t"), Found::AskStore));
}

#[test]
fn an_unreadable_part_ends_its_entry_and_keeps_the_parts_before_it() {
    let mut cache = Cache::new(Marks::default(), 0, ROOMY);
    let mut block = entry(1, &[("t", "a")]).block.to_vec();
    block.push(77);
    let broken = QueueEntry { id: EntryId(1), accepted: NOW, block: block.into() };
    cache.load("t", None);
    assert!(cache.apply(&broken, NOW).is_err());
    assert_eq!((present(&cache, "t"), cache.applied()), (1, EntryId(1)));
}

#[test]
fn rendering_sees_what_was_merged() {
    let mut cache = Cache::new(Marks::default(), 0, ROOMY);
    apply(&mut cache, &entry(1, &[("t", "a"), ("t", "b")]));
    let Found::Present(state) = cache.aggregate("t") else { panic!("it is there") };
    let mut text = String::new();
    state.render(NOW, Format::Plain, &mut text);
    assert!(text.starts_with(r#"{"1m": {"count": 2, "total": 2.00, "average": 1.00}"#), "{text}");
}
