//! Against a server that answers as a keeper does.

use axum::Json;
use axum::Router;
use axum::http::{HeaderMap, StatusCode};
use axum::routing::{get, post};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::task::AbortHandle;

use super::*;

struct Fake {
    keeper: Keeper,
    task: AbortHandle,
}

impl Drop for Fake {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn state(member: &str) -> Value {
    json!({
        "shard": "ns.main-s0", "shard_id": "5a", "member": member, "address": "a.local:6379",
        "role": "primary", "open": true, "term": 3, "promised": {"term": 3, "candidate": "a"},
        "position": {"term": 3, "writes": 9}, "settled": true, "fenced": false,
        "in_sync": ["a.local:6379"], "in_sync_version": 1, "offset": 7, "link_up": true,
        "following": null, "lag_bytes": 0, "redis_alive": true, "fresh": false, "leaving": false,
        "waiting_for": "", "redis_version": "7.0.15"
    })
}

async fn serve(member: &'static str) -> Fake {
    let authorized =
        |headers: &HeaderMap| headers.get("authorization").is_some_and(|it| it == "Bearer secret");
    let router = Router::new()
        .route(
            "/state",
            get(
                async move |headers: HeaderMap| {
                    if authorized(&headers) { Ok(Json(state(member))) } else { Err(StatusCode::UNAUTHORIZED) }
                },
            ),
        )
        .route(
            "/priority",
            post(async |Json(body): Json<Value>| {
                if body == json!({"priority": 0}) { Ok(Json(json!({}))) } else { Err(StatusCode::CONFLICT) }
            }),
        )
        .route(
            "/found",
            post(async || (StatusCode::CONFLICT, Json(json!({"error": "b has data, or had some"})))),
        );
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let place = listener.local_addr().expect("bound");
    let task = tokio::spawn(async move { axum::serve(listener, router).await }).abort_handle();
    let keeper =
        Keeper { ip: place.ip(), port: place.port(), shard: "ns.main-s0".to_owned(), member: "a".to_owned() };
    Fake { keeper, task }
}

#[tokio::test]
async fn a_state_is_read_with_the_token() {
    let fake = serve("a").await;
    let keepers = Keepers::default();
    let state = keepers.state(&fake.keeper, "secret").await.expect("an answer");
    assert!(state.open && state.term == 3);
    let refused = keepers.state(&fake.keeper, "wrong").await;
    assert!(matches!(refused, Err(KeeperError::Refused { status: StatusCode::UNAUTHORIZED, .. })));
}

#[tokio::test]
async fn another_member_at_a_reused_address_is_a_stranger() {
    let fake = serve("z").await;
    let answer = Keepers::default().state(&fake.keeper, "secret").await;
    assert!(matches!(answer, Err(KeeperError::Stranger { member, .. }) if member == "z"));
}

#[tokio::test]
async fn a_refusal_keeps_the_keepers_words_and_a_priority_is_sent_as_it_is_read() {
    let fake = serve("a").await;
    let keepers = Keepers::default();
    let refused = keepers.found(&fake.keeper, "secret").await.expect_err("refused");
    assert_eq!(refused.to_string(), "refused with status 409: b has data, or had some");
    keepers.hold_back(&fake.keeper, "secret", true).await.expect("0 is understood");
}
