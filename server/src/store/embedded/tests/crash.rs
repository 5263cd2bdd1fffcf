//! What a folder looks like after the power went at any moment, and what the store makes of it.
//!
//! A copy of the folder of an open store is such a moment: the log as synced, and the state database as
//! its last checkpoint left it.

use std::fs;
use std::path::PathBuf;

use taba_core::batch::SEQUENCE_WINDOW;
use taba_core::{BatchId, Part, Parts, Vbucket};

use super::*;
use crate::store::conformance::vbuckets;
use crate::store::{Accepted, Commit, EntryId, Marks, TabChange};

const V: Vbucket = Vbucket(1);

fn batch(number: u64) -> (BatchId, Parts) {
    let mut parts = Parts::new(vbuckets());
    let tab = (0..).map(|n| format!("tab{n}")).find(|tab| vbuckets().of(tab) == V).unwrap();
    parts.push(&Part::State { tab: &tab, client: "client", events: number, state: &[7; 50] });
    (format!("producer/{number}").parse().unwrap(), parts)
}

async fn accept(store: &dyn Store, number: u64) -> Accepted {
    let (id, parts) = batch(number);
    store.accept(Some(&id), parts).await.unwrap()
}

async fn waiting(store: &dyn Store) -> Vec<u64> {
    let entries = store.read_queue(V, EntryId(0), usize::MAX).await.unwrap();
    let events = entries.iter().map(|entry| match taba_core::part::iter(&entry.block).next() {
        Some(Ok(Part::State { events, .. })) => events,
        other => panic!("{other:?}"),
    });
    events.collect()
}

/// Commits everything that waits.
async fn consume(store: &dyn Store) {
    let lease = store.lease(V, "owner", Duration::from_secs(60)).await.unwrap().unwrap();
    let entries = store.read_queue(V, EntryId(0), usize::MAX).await.unwrap();
    let newest = entries.last().unwrap().id;
    let aggregate = Some(bytes::Bytes::from_static(&[1, 1, 0, 0, 0, 0]));
    let change = TabChange { tab: "tab".to_owned(), aggregate, clients: Vec::new(), delete: false };
    let marks = Marks { aggregates: newest, clients: newest };
    store.commit(V, lease.token, Commit { changes: vec![change], marks }).await.unwrap();
}

fn image(of: &Path) -> TempDir {
    let image = tempfile::tempdir().unwrap();
    fs::create_dir(image.path().join("log")).unwrap();
    for folder in ["", "log"] {
        for entry in fs::read_dir(of.join(folder)).unwrap().map(Result::unwrap) {
            if entry.file_type().unwrap().is_file() {
                fs::copy(entry.path(), image.path().join(folder).join(entry.file_name())).unwrap();
            }
        }
    }
    image
}

fn segments(of: &Path) -> Vec<PathBuf> {
    let mut paths: Vec<_> =
        fs::read_dir(of.join("log")).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    paths
}

fn open(dir: &TempDir, options: &EmbeddedOptions) -> Result<Embedded, OpenError> {
    Embedded::open(dir.path(), options.clone())
}

#[tokio::test]
async fn a_commit_that_was_not_durable_is_undone_as_a_whole() {
    let subject = TestStore::new(vbuckets(), |_| {});
    for number in 1..=3 {
        accept(&**subject.store(), number).await;
    }
    consume(&**subject.store()).await;
    let image = image(subject.dir.path());
    let store = open(&image, &subject.options).unwrap();
    assert_eq!(waiting(&store).await, [1, 2, 3]);
    assert_eq!(store.read_aggregates(V, &["tab".to_owned()]).await.unwrap(), [None]);
    let lease = store.lease(V, "owner", Duration::from_secs(60)).await.unwrap().unwrap();
    assert_eq!(lease.marks, Marks::default());
    assert_eq!(accept(&store, 2).await, Accepted::Duplicate);
}

#[tokio::test]
async fn a_deleted_segment_leaves_its_marks_states_and_sequences_behind() {
    let subject = TestStore::new(vbuckets(), |options| options.segment_bytes = Some(1));
    for number in 1..=3 {
        accept(&**subject.store(), number).await;
    }
    consume(&**subject.store()).await;
    assert!(segments(subject.dir.path()).is_empty());
    let image = image(subject.dir.path());
    let store = open(&image, &subject.options).unwrap();
    assert!(waiting(&store).await.is_empty());
    assert!(store.read_aggregates(V, &["tab".to_owned()]).await.unwrap()[0].is_some());
    for number in 1..=3 {
        assert_eq!(accept(&store, number).await, Accepted::Duplicate);
    }
    assert_eq!(accept(&store, 4).await, Accepted::New);
    assert_eq!(waiting(&store).await, [4]);
}

#[tokio::test]
async fn a_write_cut_anywhere_loses_only_itself() {
    let subject = TestStore::new(vbuckets(), |_| {});
    let mut ends = Vec::new();
    for number in 1..=3 {
        accept(&**subject.store(), number).await;
        ends.push(fs::metadata(&segments(subject.dir.path())[0]).unwrap().len());
    }
    for cut in (ends[1]..ends[2]).step_by(7) {
        let image = image(subject.dir.path());
        let newest = fs::OpenOptions::new().write(true).open(&segments(image.path())[0]).unwrap();
        newest.set_len(cut).unwrap();
        let store = open(&image, &subject.options).unwrap();
        assert_eq!(waiting(&store).await, [1, 2], "cut at {cut}");
        assert_eq!(accept(&store, 3).await, Accepted::New);
        assert_eq!(accept(&store, 2).await, Accepted::Duplicate);
        drop(store);
        let store = open(&image, &subject.options).unwrap();
        assert_eq!(waiting(&store).await, [1, 2, 3], "cut at {cut}");
    }
}

#[tokio::test]
async fn a_segment_whose_making_was_cut_short_is_made_again() {
    let subject = TestStore::new(vbuckets(), |options| options.segment_bytes = Some(1));
    accept(&**subject.store(), 1).await;
    for torn_bytes in [0, 1, 35] {
        let image = image(subject.dir.path());
        fs::write(image.path().join("log/00000000000000000002.seg"), vec![b'T'; torn_bytes]).unwrap();
        let store = open(&image, &subject.options).unwrap();
        assert_eq!(waiting(&store).await, [1]);
        accept(&store, 2).await;
        assert_eq!(waiting(&store).await, [1, 2]);
    }
}

#[tokio::test]
async fn damage_before_the_end_of_a_sealed_segment_is_refused_not_skipped() {
    let subject = TestStore::new(vbuckets(), |options| options.segment_bytes = Some(1));
    accept(&**subject.store(), 1).await;
    accept(&**subject.store(), 2).await;
    let image = image(subject.dir.path());
    let first = &segments(image.path())[0];
    let mut bytes = fs::read(first).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    fs::write(first, bytes).unwrap();
    assert!(matches!(open(&image, &subject.options), Err(OpenError::Corrupt { .. })));
}

#[tokio::test]
async fn what_a_failed_write_left_behind_never_counts() {
    let subject = TestStore::new(vbuckets(), |options| options.segment_bytes = Some(1));
    accept(&**subject.store(), 1).await;
    accept(&**subject.store(), 2).await;
    let image = image(subject.dir.path());
    // A whole record behind the end that the next segment's head names, as a failed sync may leave.
    let first = &segments(image.path())[0];
    let mut bytes = fs::read(first).unwrap();
    let record = bytes[super::super::record::SEGMENT_HEAD_BYTES..].to_vec();
    bytes.extend_from_slice(&record);
    fs::write(first, bytes).unwrap();
    let store = open(&image, &subject.options).unwrap();
    assert_eq!(waiting(&store).await, [1, 2]);
}

#[tokio::test]
async fn a_damaged_entry_is_an_error_not_other_data() {
    let subject = TestStore::new(vbuckets(), |options| options.newest_bytes_max = 0);
    accept(&**subject.store(), 1).await;
    let segment = &segments(subject.dir.path())[0];
    let mut bytes = fs::read(segment).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    fs::write(segment, bytes).unwrap();
    let read = subject.store().read_queue(V, EntryId(0), 1).await;
    assert!(matches!(read, Err(crate::store::StoreError::Corrupt { .. })));
}

#[tokio::test]
async fn a_window_survives_the_deletion_of_its_records() {
    let subject = TestStore::new(vbuckets(), |options| options.segment_bytes = Some(1));
    for number in [1, 3, SEQUENCE_WINDOW] {
        accept(&**subject.store(), number).await;
    }
    consume(&**subject.store()).await;
    let image = image(subject.dir.path());
    let store = open(&image, &subject.options).unwrap();
    assert_eq!(accept(&store, 2).await, Accepted::New);
    assert_eq!(accept(&store, 3).await, Accepted::Duplicate);
}
