//! How owners learn that entries have come.

use super::*;

/// How often the primary was asked to run a script.
fn scripts_run(subject: &TestStore) -> u64 {
    let stats: String = subject.lab.shards[0].primary().ask(&["INFO", "commandstats"]);
    let line = stats.lines().find_map(|line| line.strip_prefix("cmdstat_evalsha:calls="));
    line.and_then(|rest| rest.split(',').next()).map_or(0, |calls| calls.parse().expect("a number"))
}

/// Waits as an owner does, who is woken more often than something came.
async fn see_entry_after(store: Arc<dyn Store>, vbucket: Vbucket, after: EntryId) {
    while store.read_queue(vbucket, after, usize::MAX).await.expect("a readable queue").is_empty() {
        store.wait_for_entries(vbucket, after).await;
    }
}

#[tokio::test]
async fn a_shard_at_rest_is_hardly_asked_and_tells_of_an_entry_at_once() {
    const ENTRIES: u64 = 6;
    let subject = TestStore::on(1, |_| {});
    let vbucket = Vbucket(3);
    let parts = batch(&[&tab_in(vbucket)], 10);
    subject.accept_at_last("p/0", &parts).await;
    let mut came = Duration::ZERO;
    for entry in 1..=ENTRIES {
        let waiting = tokio::spawn(see_entry_after(Arc::clone(subject.store()), vbucket, EntryId(entry)));
        // The last look was some time ago, and by itself the next one would be in twice as long.
        subject.pass(Duration::from_millis(300)).await;
        assert!(!waiting.is_finished(), "nothing came yet");
        let begin = std::time::Instant::now();
        subject.accept_at_last(&format!("p/{entry}"), &parts).await;
        waiting.await.expect("it does not panic");
        came += begin.elapsed();
    }
    assert!(came < Duration::from_millis(250) * ENTRIES as u32, "{ENTRIES} entries took {came:?} to be seen");

    let next = EntryId(ENTRIES + 1);
    let waiting = tokio::spawn(see_entry_after(Arc::clone(subject.store()), vbucket, next));
    let before = scripts_run(&subject);
    subject.pass(Duration::from_secs(2)).await;
    let looks = scripts_run(&subject) - before;
    assert!((1..=4).contains(&looks), "{looks} looks in two seconds");
    waiting.abort();
}
