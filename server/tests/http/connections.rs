//! Connections: limits before the body, slow clients, many clients, shutdown, HTTP/2.

use std::time::{Duration, Instant};

use http_body_util::{BodyExt, Full};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use taba_server::config::Limits;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::lab::{Lab, PATIENCE, body, parse};

/// Opens a post that sends its head and the first bytes of its body, and waits until it is admitted.
async fn unfinished_post(lab: &Lab) -> TcpStream {
    let mut stream = TcpStream::connect(lab.addr).await.unwrap();
    let head = "POST /post HTTP/1.1\r\nHost: lab\r\nExpect: 100-continue\r\nContent-Length: 100\r\n\r\n";
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut go_on = [0; 25];
    stream.read_exact(&mut go_on).await.unwrap();
    assert_eq!(&go_on, b"HTTP/1.1 100 Continue\r\n\r\n");
    stream
}

async fn read_to_end(stream: &mut TcpStream) -> Vec<u8> {
    let mut bytes = Vec::new();
    let _ = tokio::time::timeout(PATIENCE, stream.read_to_end(&mut bytes)).await.expect("an end in time");
    bytes
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_post_at_capacity_is_turned_away_before_its_body_is_read() {
    let lab = Lab::start_with(Limits { posts_max: 1, ..Limits::default() }, None).await;
    let slow = unfinished_post(&lab).await;
    let request = "POST /post HTTP/1.1\r\nHost: lab\r\nExpect: 100-continue\r\nContent-Length: 100\r\n\r\n";
    let mut refused = TcpStream::connect(lab.addr).await.unwrap();
    refused.write_all(request.as_bytes()).await.unwrap();
    let bytes = read_to_end(&mut refused).await;
    assert!(!bytes.starts_with(b"HTTP/1.1 100"), "the client was asked for its body");
    let reply = parse(&bytes, false);
    assert_eq!((reply.status, reply.header("retry-after")), (503, "1"));
    assert_eq!(reply.body, "Service is temporarily at capacity. Retry later.\n");
    assert!(lab.metric("taba_http_refused_total{limit=\"posts_max\"}").await >= 1.0);
    drop(slow);
    // The slot is free again once the server has noticed.
    let event = body("c", &[("t", "Gauge", "1")]);
    let deadline = Instant::now() + PATIENCE;
    while lab.post("/post", &[], event.as_bytes()).await.status != 200 {
        assert!(Instant::now() < deadline, "the slot never came free");
    }
    lab.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_early_answer_reaches_a_client_that_is_still_sending() {
    let limits = Limits { inflight_bytes_max: 1 << 20, parts_bytes_max: 1 << 20, ..Limits::default() };
    let lab = Lab::start_with(limits, None).await;
    let mut slow = TcpStream::connect(lab.addr).await.unwrap();
    let head = "POST /post HTTP/1.1\r\nHost: lab\r\nExpect: 100-continue\r\nContent-Length: 1048576\r\n\r\n";
    slow.write_all(head.as_bytes()).await.unwrap();
    slow.read_exact(&mut [0; 25]).await.unwrap();
    let reply = lab.post("/post", &[], &vec![b'x'; 8 << 20]).await;
    assert_eq!((reply.status, reply.header("retry-after")), (503, "1"));
    assert!(lab.metric("taba_http_refused_total{limit=\"inflight_bytes_max\"}").await >= 1.0);
    lab.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slow_head_is_cut_off_and_an_idle_connection_is_not() {
    let limits = Limits { head_timeout: Duration::from_millis(200), ..Limits::default() };
    let lab = Lab::start_with(limits, None).await;
    let mut idle = TcpStream::connect(lab.addr).await.unwrap();
    let mut kept_alive = TcpStream::connect(lab.addr).await.unwrap();
    let request = "GET /livez HTTP/1.1\r\nHost: lab\r\n\r\n";
    kept_alive.write_all(request.as_bytes()).await.unwrap();
    let mut first = [0; 15];
    kept_alive.read_exact(&mut first).await.unwrap();
    let mut loris = TcpStream::connect(lab.addr).await.unwrap();
    let started = Instant::now();
    // A byte at a time, and never a whole head.
    let dripped = async {
        for byte in b"GET /livez HTTP/1.1\r\nHost: lab\r\nX: ".iter().cycle() {
            if loris.write_all(&[*byte]).await.is_err() {
                break;
            }
            let mut answer = [0; 1];
            if let Ok(Ok(0) | Err(_)) =
                tokio::time::timeout(Duration::from_millis(20), loris.read(&mut answer)).await
            {
                break;
            }
        }
    };
    tokio::time::timeout(PATIENCE, dripped).await.expect("the slow head is cut off");
    assert!(started.elapsed() >= Duration::from_millis(190), "cut off after {:?}", started.elapsed());
    for stream in [&mut idle, &mut kept_alive] {
        stream.write_all(b"GET /livez HTTP/1.1\r\nHost: lab\r\nConnection: close\r\n\r\n").await.unwrap();
        let bytes = read_to_end(stream).await;
        assert!(String::from_utf8_lossy(&bytes).ends_with("ok\n"), "an idle connection was closed");
    }
    lab.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_body_that_stops_gives_its_slot_back() {
    let limits = Limits { body_idle_timeout: Duration::from_millis(200), ..Limits::default() };
    let lab = Lab::start_with(limits, None).await;
    let mut stream = unfinished_post(&lab).await;
    stream.write_all(b"1\n\nc\n\n").await.unwrap();
    let reply = parse(&read_to_end(&mut stream).await, false);
    assert_eq!(reply.status, 408, "{reply:?}");
    lab.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_beyond_the_limit_are_closed_at_once() {
    let lab = Lab::start_with(Limits { connections_max: 2, ..Limits::default() }, None).await;
    let mut held = Vec::new();
    for _ in 0..2 {
        let mut stream = TcpStream::connect(lab.addr).await.unwrap();
        stream.write_all(b"GET /livez HTTP/1.1\r\nHost: lab\r\n\r\n").await.unwrap();
        stream.read_exact(&mut [0; 15]).await.unwrap();
        held.push(stream);
    }
    let mut further = TcpStream::connect(lab.addr).await.unwrap();
    let _ = further.write_all(b"GET /livez HTTP/1.1\r\nHost: lab\r\n\r\n").await;
    assert_eq!(read_to_end(&mut further).await, b"");
    drop(held);
    let deadline = Instant::now() + PATIENCE;
    loop {
        let mut stream = TcpStream::connect(lab.addr).await.unwrap();
        let _ = stream.write_all(b"GET /livez HTTP/1.1\r\nHost: lab\r\nConnection: close\r\n\r\n").await;
        if !read_to_end(&mut stream).await.is_empty() {
            break;
        }
        assert!(Instant::now() < deadline, "the places never came free");
    }
    lab.stop().await;
}

/// As many connections as asked for, or as the hard limit on file descriptors allows: each takes two of
/// this process.
fn connections_possible(wanted: u64) -> u64 {
    let limit = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum }).unwrap();
    let allowed = limit.maximum.map_or(wanted, |files| (files - 500) / 2);
    wanted.min(allowed)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_thousand_idle_connections_do_not_get_in_the_way() {
    let count = connections_possible(10_000);
    assert!(count >= 1_000, "the hard limit on open files allows only {count} connections here");
    if count < 10_000 {
        println!("the hard limit on open files allows {count} connections instead of 10,000");
    }
    let lab = Lab::start().await;
    let mut idle = Vec::new();
    for _ in 0..count {
        idle.push(TcpStream::connect(lab.addr).await.unwrap());
    }
    lab.eventually("/metrics", "", |reply| {
        let open = reply.body.lines().find_map(|line| line.strip_prefix("taba_http_connections "));
        open.is_some_and(|open| open.parse::<f64>().unwrap() >= count as f64)
    })
    .await;
    lab.record("c", &[("t", "TotalsCounter", "1")]).await;
    for stream in idle.iter_mut().step_by(500) {
        stream.write_all(b"GET /names HTTP/1.1\r\nHost: lab\r\nConnection: close\r\n\r\n").await.unwrap();
        let reply = parse(&read_to_end(stream).await, false);
        assert_eq!((reply.status, reply.body.as_str()), (200, "t\n"));
    }
    drop(idle);
    lab.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn shutdown_finishes_open_requests_and_closes_idle_connections() {
    let lab = Lab::start().await;
    let mut idle = TcpStream::connect(lab.addr).await.unwrap();
    idle.write_all(b"GET /livez HTTP/1.1\r\nHost: lab\r\n\r\n").await.unwrap();
    idle.read_exact(&mut [0; 15]).await.unwrap();
    let text = body("c", &[("t", "TotalsCounter", "1")]);
    let mut open = TcpStream::connect(lab.addr).await.unwrap();
    let head = format!(
        "POST /post HTTP/1.1\r\nHost: lab\r\nExpect: 100-continue\r\nContent-Length: {}\r\n\r\n",
        text.len()
    );
    open.write_all(head.as_bytes()).await.unwrap();
    open.read_exact(&mut [0; 25]).await.unwrap();
    lab.begin_stop();
    let rest = String::from_utf8(read_to_end(&mut idle).await).unwrap();
    assert!(rest.ends_with("ok\n"), "the idle connection is closed after its answer: {rest:?}");
    let deadline = Instant::now() + PATIENCE;
    while TcpStream::connect(lab.addr).await.is_ok() {
        assert!(Instant::now() < deadline, "the listener never closed");
    }
    open.write_all(text.as_bytes()).await.unwrap();
    let reply = parse(&read_to_end(&mut open).await, false);
    assert_eq!((reply.status, reply.header("connection")), (200, "close"));
    assert_eq!(lab.stop().await, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn readiness_ends_when_draining_begins() {
    let lab = Lab::start().await;
    assert_eq!(lab.get("/readyz").await.status, 200);
    lab.app.begin_draining();
    let reply = lab.get("/readyz").await;
    assert_eq!((reply.status, reply.body.as_str()), (503, "draining\n"));
    assert_eq!(lab.get("/livez").await.body, "ok\n");
    lab.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn http2_without_tls_works_on_the_same_port() {
    let lab = Lab::start().await;
    let stream = TcpStream::connect(lab.addr).await.unwrap();
    let (mut sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
    let connection = tokio::spawn(connection);
    for _ in 0..3 {
        let text = body("c", &[("t", "TotalsCounter", "1")]);
        let request = axum::http::Request::post(format!("http://{}/post", lab.addr))
            .body(Full::<bytes::Bytes>::from(text))
            .unwrap();
        let reply = sender.send_request(request).await.unwrap();
        assert_eq!((reply.status().as_u16(), reply.version()), (200, axum::http::Version::HTTP_2));
        assert!(reply.into_body().collect().await.unwrap().to_bytes().is_empty());
    }
    drop(sender);
    connection.await.unwrap().unwrap();
    lab.eventually_is("/tabs?name=t", "t: {\"count\": 3, \"total\": 3.00, \"average\": 1.00}\n").await;
    lab.stop().await;
}
