//! Against a router that answers as an API server without objects does.

use std::sync::Arc;
use std::time::Instant;

use axum::Json;
use axum::Router;
use axum::http::{Method, StatusCode, Uri};
use k8s_openapi::api::apps::v1::StatefulSet;
use kube::api::ObjectMeta;

use super::*;
use crate::build::{Owned, Role, WantedReplicas};

/// Paths and queries of the writes.
type Asked = Arc<Mutex<Vec<String>>>;

/// Refuses writes of what has the name `refused`.
fn api_server(asked: &Asked) -> Client {
    let asked = Arc::clone(asked);
    let answer = async move |method: Method, uri: Uri, body: String| {
        if method == Method::GET {
            return refusal(StatusCode::NOT_FOUND);
        }
        asked.lock().push(uri.to_string());
        if uri.path().ends_with("/refused") {
            return refusal(StatusCode::FORBIDDEN);
        }
        (StatusCode::OK, Json(serde_json::from_str(&body).expect("an object")))
    };
    Client::new(Router::new().fallback(answer), "ns")
}

fn refusal(code: StatusCode) -> (StatusCode, Json<Value>) {
    let status = json!({
        "kind": "Status", "apiVersion": "v1", "status": "Failure", "message": "no", "code": code.as_u16(),
        "reason": code.canonical_reason().expect("a known code").replace(' ', ""),
    });
    (code, Json(status))
}

fn named<K: Resource + Default>(name: &str) -> K {
    let mut object = K::default();
    *object.meta_mut() = ObjectMeta { name: Some(name.to_owned()), ..ObjectMeta::default() };
    object
}

/// A StatefulSet and two Deployments, the first with two pods.
fn objects(second: &str) -> Objects {
    Objects {
        owned: Owned {
            stateful_sets: vec![named::<StatefulSet>("s0")],
            deployments: vec![named("first"), named(second)],
            ..Owned::default()
        },
        replicas: vec![WantedReplicas { role: Role::Frontend, deployment: "first".to_owned(), replicas: 2 }],
        ..Objects::default()
    }
}

async fn apply(objects: &Objects, asked: &Asked) -> (Result<(), ApplyError>, Written) {
    let leadership = Leadership::default();
    leadership.renewed(Instant::now());
    let (client, futile, metrics) = (api_server(asked), Futile::default(), Metrics::default());
    let applier = Applier {
        client: &client,
        namespace: "ns",
        owner: "uid",
        leadership: &leadership,
        futile: &futile,
        metrics: &metrics,
    };
    let mut written = Written::default();
    (applier.apply(objects, &Children::default(), &mut written).await, written)
}

#[tokio::test]
async fn what_was_written_before_a_refusal_is_told() {
    let (ended, written) = apply(&objects("refused"), &Asked::default()).await;
    assert!(matches!(ended, Err(ApplyError::Write { ref name, .. }) if name == "refused"), "{ended:?}");
    assert_eq!(written.writes, ["apply StatefulSet s0", "apply Deployment first"]);
    assert!(!written.is_whole);
}

/// Else applying a Deployment would set its number back, and one that is set to 1 would look like one that is not set.
#[tokio::test]
async fn numbers_of_pods_are_applied_by_a_manager_of_their_own() {
    let asked = Asked::default();
    let (ended, written) = apply(&objects("second"), &asked).await;
    assert!(ended.is_ok() && written.is_whole, "{ended:?}");
    assert_eq!(written.writes.last().map(String::as_str), Some("scale Deployment first to 2"));
    let asked = asked.lock();
    let scaled = asked.last().expect("a write");
    assert!(scaled.contains("/deployments/first/scale?"), "{scaled}");
    assert!(scaled.contains("force=true") && scaled.contains("fieldManager=taba-operator-scale"), "{scaled}");
}
