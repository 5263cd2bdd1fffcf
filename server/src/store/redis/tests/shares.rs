//! Backends that share the vbuckets of a store.

use prometheus_client::registry::Registry;

use super::*;
use crate::config::PipelineConfig;
use crate::pipeline::Pipeline;
use crate::pipeline::metrics::PipelineMetrics;

fn backend(subject: &TestStore, owner: &str) -> Arc<Pipeline> {
    let metrics = PipelineMetrics::register(&mut Registry::default());
    Pipeline::start(Arc::clone(subject.store()), owner, PipelineConfig::default(), metrics)
}

async fn until(what: &str, mut is_so: impl AsyncFnMut() -> bool) {
    let started = std::time::Instant::now();
    while !is_so().await {
        assert!(started.elapsed() < lab::PATIENCE, "{what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn a_backend_without_a_vbucket_is_ready_and_takes_over_when_the_owner_goes() {
    let one = VbucketCount::new(1).expect("a vbucket is enough");
    let subject = TestStore::new(Lab::start(1, 1), one, |_| {});
    let backends = ["a", "b"].map(|owner| backend(&subject, owner));
    assert!(!backends.iter().any(|backend| backend.is_caught_up()), "nobody has said who is live");
    let owned = async |backend: &Arc<Pipeline>| {
        backend.status(crate::clock::now()).await.expect("a status").vbuckets_owned
    };
    until("both are ready, one owns it", async || {
        let shares = (owned(&backends[0]).await, owned(&backends[1]).await);
        backends.iter().all(|backend| backend.is_caught_up()) && matches!(shares, (0, 1) | (1, 0))
    })
    .await;
    let [a, b] = &backends;
    let (owner, spare) = if owned(a).await == 1 { (a, b) } else { (b, a) };
    owner.drain().await;
    until("the other owns it", async || owned(spare).await == 1 && spare.is_caught_up()).await;
    spare.drain().await;
}
