use std::fs::OpenOptions;
use std::io::Write as _;

use taba_core::BatchId;

use super::*;

const PROTOCOL: ServerProtocol = ServerProtocol::V1;

fn now() -> Timestamp {
    Timestamp::from_secs(1_700_000_000)
}

fn no_ids() -> BatchId {
    unreachable!("batches of protocol v1 have no id")
}

fn open(dir: &Path) -> Result<(Spool, Vec<SealedBatch>), SpoolError> {
    Spool::open(&SpoolConfig { dir: dir.to_owned(), bytes_max: 1 << 20 }, PROTOCOL, now(), no_ids)
}

/// A block with one event of one tab.
fn block(tab: &str) -> Vec<u8> {
    let mut reader = crate::agent::gather::lines::LineReader::new(1 << 20);
    let body = format!("1\n\nc\n\n{tab}\n[\"CounterGroup\", 1, \"1\"]\n\n\n");
    reader.feed(body.as_bytes()).expect("good framing");
    reader.finish().expect("good framing").block
}

fn append(spool: &Spool, journal: &mut Option<Journal>, tab: &str) {
    spool.append(journal, PROTOCOL, &Record { block: &block(tab) }).expect("room on disk");
}

fn files(dir: &Path, extension: &str) -> Vec<PathBuf> {
    let paths = fs::read_dir(dir).expect("the folder is there").map(|entry| entry.expect("an entry").path());
    paths.filter(|path| path.extension().is_some_and(|found| found == extension)).collect()
}

#[test]
fn posts_of_a_killed_run_come_back_as_batches() {
    let dir = tempfile::tempdir().expect("a folder");
    let (spool, leftover) = open(dir.path()).expect("an empty spool");
    assert!(leftover.is_empty());
    let mut journal = None;
    append(&spool, &mut journal, "a");
    append(&spool, &mut journal, "b");
    drop((spool, journal));
    let (spool, leftover) = open(dir.path()).expect("a good spool");
    assert_eq!(leftover.iter().map(|batch| batch.events).collect::<Vec<_>>(), [2]);
    assert!(files(dir.path(), "journal").is_empty());
    spool.forget(&leftover[0]);
    assert!(files(dir.path(), "batch").is_empty());
    assert_eq!(spool.bytes(), 0);
}

#[test]
fn a_torn_record_is_cut_off_and_the_whole_ones_are_kept() {
    let dir = tempfile::tempdir().expect("a folder");
    let (spool, _) = open(dir.path()).expect("an empty spool");
    let mut journal = None;
    append(&spool, &mut journal, "a");
    append(&spool, &mut journal, "b");
    drop((spool, journal));
    let path = files(dir.path(), "journal").remove(0);
    let file = OpenOptions::new().write(true).open(&path).expect("the journal is there");
    file.set_len(file.metadata().expect("its length").len() - 1).expect("it can be cut");
    let (_, leftover) = open(dir.path()).expect("a torn end is no error");
    assert_eq!(leftover.iter().map(|batch| batch.events).sum::<u64>(), 1);
}

#[test]
fn every_cut_of_a_journal_gives_back_exactly_the_whole_records() {
    let dir = tempfile::tempdir().expect("a folder");
    let (spool, _) = open(dir.path()).expect("an empty spool");
    let mut journal = None;
    append(&spool, &mut journal, "a");
    let first_end = fs::metadata(&files(dir.path(), "journal")[0]).expect("its length").len();
    append(&spool, &mut journal, "b");
    let whole = fs::read(&files(dir.path(), "journal")[0]).expect("it can be read");
    for end in 0..=whole.len() {
        let cut = dir.path().join("cut");
        fs::write(&cut, &whole[..end]).expect("it can be written");
        let blocks = journal::read(&cut).expect("it can be read").blocks.len();
        let expected = usize::from(end as u64 >= first_end) + usize::from(end == whole.len());
        assert_eq!(blocks, expected, "cut at {end}");
    }
}

#[test]
fn a_journal_outlives_batches_that_were_never_sent() {
    let dir = tempfile::tempdir().expect("a folder");
    let (spool, _) = open(dir.path()).expect("an empty spool");
    let mut journal = None;
    append(&spool, &mut journal, "a");
    let path = files(dir.path(), "journal").remove(0);
    let records = fs::read(&path).expect("it can be read");
    let mut gather = Gather::new(PROTOCOL);
    gather.add(&block("a"), now()).expect("a good block");
    let sealed = gather.seal(now(), no_ids);
    spool.seal_journal(journal, Route::PostZip, &sealed, now()).expect("room on disk");
    assert!(!path.exists());
    // As if the process had died between the batches and the end of the journal.
    fs::write(&path, records).expect("it can be written");
    drop(spool);
    let (_, leftover) = open(dir.path()).expect("a good spool");
    assert_eq!(leftover.iter().map(|batch| batch.events).sum::<u64>(), 1);
}

#[test]
fn a_sealed_batch_keeps_its_id_and_its_age() {
    let dir = tempfile::tempdir().expect("a folder");
    let config = SpoolConfig { dir: dir.path().to_owned(), bytes_max: 1 << 20 };
    let (spool, _) = Spool::open(&config, ServerProtocol::V2, now(), no_ids).expect("an empty spool");
    let id: BatchId = "app:1/7".parse().expect("a valid id");
    let sealed = Sealed { id: Some(id.clone()), body: b"body".to_vec(), events: 3 };
    spool.keep(Route::BatchV2, sealed, now()).expect("room on disk");
    drop(spool);
    let (_, leftover) =
        Spool::open(&config, ServerProtocol::V2, now().plus_secs(60), no_ids).expect("a good spool");
    assert_eq!(leftover.len(), 1);
    assert_eq!((leftover[0].id.as_ref(), leftover[0].events), (Some(&id), 3));
    assert_eq!(leftover[0].age, std::time::Duration::from_secs(60));
    assert_eq!(leftover[0].body.bytes(), 4);
}

#[test]
fn damaged_batch_files_are_dropped_and_the_others_are_sent() {
    let dir = tempfile::tempdir().expect("a folder");
    let (spool, _) = open(dir.path()).expect("an empty spool");
    for body in [b"one", b"two"] {
        let sealed = Sealed { id: None, body: body.to_vec(), events: 1 };
        spool.keep(Route::PostZip, sealed, now()).expect("room on disk");
    }
    drop(spool);
    let path = files(dir.path(), "batch").remove(0);
    OpenOptions::new().append(true).open(&path).expect("it is there").write_all(b"x").expect("written");
    let (_, leftover) = open(dir.path()).expect("a good spool");
    assert_eq!(leftover.len(), 1);
    assert!(!path.exists());
}

#[test]
fn a_spool_belongs_to_one_agent_and_one_protocol_at_a_time() {
    let dir = tempfile::tempdir().expect("a folder");
    let (spool, _) = open(dir.path()).expect("an empty spool");
    assert!(matches!(open(dir.path()), Err(SpoolError::InUse(_))));
    append(&spool, &mut None, "a");
    drop(spool);
    let config = SpoolConfig { dir: dir.path().to_owned(), bytes_max: 1 << 20 };
    let other = Spool::open(&config, ServerProtocol::V2, now(), no_ids);
    assert!(matches!(other, Err(SpoolError::OtherProtocol(_))));
    assert_eq!(files(dir.path(), "journal").len(), 1);
}

#[test]
fn a_record_that_cannot_be_gathered_is_counted_and_the_others_are_kept() {
    let dir = tempfile::tempdir().expect("a folder");
    let (spool, _) = open(dir.path()).expect("an empty spool");
    let mut journal = None;
    let cut = &block("a")[..10];
    spool.append(&mut journal, PROTOCOL, &Record { block: cut }).expect("room on disk");
    append(&spool, &mut journal, "b");
    drop((spool, journal));
    let (spool, leftover) = open(dir.path()).expect("a bad record is no error");
    assert_eq!(leftover.iter().map(|batch| batch.events).sum::<u64>(), 1);
    assert_eq!(spool.events_ungathered(), 1);
}
