//! Maintenance: never by GET, behind the admin token if there is one, and it does what it says.

use taba_server::config::Limits;

use crate::lab::Lab;

const ALL: [&str; 6] = ["/recompute", "/gc", "/check", "/upgrade", "/flush_all", "/delete"];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_changed_by_get() {
    let lab = Lab::start_with(Limits::default(), Some("secret")).await;
    for path in ALL {
        for method in ["GET", "HEAD", "PUT"] {
            let reply = lab.send(method, path, &[], b"").await;
            assert_eq!(reply.status, 405, "{method} {path}");
            let allow = reply.header("allow");
            assert!(allow.contains("POST") && allow.contains("DELETE"), "{method} {path} allows {allow:?}");
        }
    }
    for path in ["/post", "/post_zip", "/v2/batch"] {
        let reply = lab.get(path).await;
        assert_eq!((reply.status, reply.header("allow")), (405, "POST"), "{path}");
    }
    lab.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn maintenance_needs_the_token_and_queries_do_not() {
    let lab = Lab::start_with(Limits::default(), Some("secret")).await;
    for path in ALL {
        for authorization in ["", "Bearer wrong", "Basic secret", "Bearer secret2"] {
            let headers: &[_] =
                if authorization.is_empty() { &[] } else { &[("Authorization", authorization)] };
            let reply = lab.post(path, headers, b"").await;
            assert_eq!(
                (reply.status, reply.header("www-authenticate")),
                (401, "Bearer"),
                "{path} {authorization}"
            );
        }
        let path = if path == "/delete" { "/delete?name=none" } else { path };
        for method in ["POST", "DELETE"] {
            let reply = lab.send(method, path, &[("Authorization", "Bearer secret")], b"").await;
            assert_eq!(reply.status, 200, "{method} {path}: {reply:?}");
        }
    }
    assert_eq!(lab.get("/tabs").await.status, 200);
    lab.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn background_work_answers_started() {
    let lab = Lab::start().await;
    for path in ["/recompute", "/gc", "/check", "/check?dry=false", "/check?dry=true", "/upgrade"] {
        let reply = lab.post(path, &[], b"").await;
        assert_eq!((reply.status, reply.body.as_str()), (200, "Started\n"), "{path}");
    }
    assert_eq!(lab.post("/gc?dry=false", &[], b"").await.status, 400);
    lab.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn delete_removes_the_named_tabs_and_nothing_else() {
    let lab = Lab::start().await;
    let events = ["a", "b", "c"].map(|name| (name, "Gauge", "1"));
    lab.record("client", &events).await;
    assert_eq!(lab.post("/delete", &[], b"").await.status, 400);
    assert_eq!(lab.get("/names").await.body, "a\nb\nc\n");
    let reply = lab.post("/delete?name=a,c,unknown", &[], b"").await;
    assert_eq!((reply.status, reply.body.as_str()), (200, ""));
    assert_eq!(lab.get("/names").await.body, "b\n");
    let reply = lab.send("DELETE", "/delete", &[], br#"{"name": "b"}"#).await;
    assert_eq!(reply.status, 200, "{reply:?}");
    assert_eq!(lab.get("/names").await.body, "");
    // Its name and type are free again.
    lab.record("client", &[("a", "TotalsCounter", "2")]).await;
    assert_eq!(lab.get("/tabs").await.body, "a: {\"count\": 1, \"total\": 2.00, \"average\": 2.00}\n");
    lab.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn flushing_the_queues_keeps_the_server_working() {
    let lab = Lab::start().await;
    lab.record("c", &[("t", "TotalsCounter", "1")]).await;
    let reply = lab.post("/flush_all", &[], b"").await;
    assert_eq!((reply.status, reply.body.as_str()), (200, ""));
    lab.record("c", &[("after", "TotalsCounter", "1")]).await;
    lab.eventually("/names", "", |reply| reply.body.lines().any(|name| name == "after")).await;
    lab.stop().await;
}
