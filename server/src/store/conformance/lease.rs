//! Leases: who may try, and whose token counts.

use taba_core::Vbucket;

use super::{LONG, SHORT, Subject, V};
use crate::store::{FencingToken, Marks};

async fn take(subject: &dyn Subject, owner: &str, ttl: std::time::Duration) -> Option<FencingToken> {
    subject.store().lease(V, owner, ttl).await.unwrap().map(|lease| lease.token)
}

pub async fn a_lease_is_exclusive_until_it_expires(subject: Box<dyn Subject>) {
    assert!(take(&*subject, "a", SHORT).await.is_some());
    assert_eq!(take(&*subject, "b", LONG).await, None);
    subject.pass(SHORT).await;
    assert!(take(&*subject, "b", LONG).await.is_some());
    assert_eq!(take(&*subject, "a", LONG).await, None);
}

pub async fn renewing_keeps_the_token(subject: Box<dyn Subject>) {
    let first = take(&*subject, "a", SHORT).await.unwrap();
    assert_eq!(take(&*subject, "a", LONG).await, Some(first));
    subject.pass(SHORT).await;
    assert_eq!(take(&*subject, "b", LONG).await, None, "renewed for longer");
    assert_eq!(take(&*subject, "a", LONG).await, Some(first));
}

pub async fn a_hand_over_grants_a_higher_token(subject: Box<dyn Subject>) {
    let mut last = FencingToken(0);
    for owner in ["a", "b", "a"] {
        let token = take(&*subject, owner, SHORT).await.expect("the one before expired");
        assert!(token > last);
        last = token;
        subject.pass(SHORT).await;
    }
}

pub async fn a_released_lease_is_free_at_once(subject: Box<dyn Subject>) {
    let first = take(&*subject, "a", LONG).await.unwrap();
    subject.store().release(V, first).await.unwrap();
    let second = take(&*subject, "b", LONG).await.unwrap();
    assert!(second > first);
}

pub async fn a_stale_release_is_no_error_and_no_release(subject: Box<dyn Subject>) {
    let first = take(&*subject, "a", LONG).await.unwrap();
    subject.store().release(V, first).await.unwrap();
    take(&*subject, "b", LONG).await.unwrap();
    subject.store().release(V, first).await.unwrap();
    assert_eq!(take(&*subject, "a", LONG).await, None);
}

pub async fn leases_of_vbuckets_are_independent(subject: Box<dyn Subject>) {
    assert!(take(&*subject, "a", LONG).await.is_some());
    let other = subject.store().lease(Vbucket(2), "b", LONG).await.unwrap();
    assert_eq!(other.expect("a free lease").marks, Marks::default());
}

pub async fn tokens_grow_over_a_restart(mut subject: Box<dyn Subject>) {
    let mut last = FencingToken(0);
    for _ in 0..3 {
        let token = take(&*subject, "a", SHORT).await.unwrap();
        assert!(token > last);
        last = token;
        subject.store().release(V, token).await.unwrap();
        subject.reopen().await;
    }
}
