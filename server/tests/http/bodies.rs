//! Bodies: encodings, chunks, cuts, bombs and limits. Whatever is refused stores nothing.

use std::io::Write;

use flate2::Compression;
use flate2::write::{DeflateEncoder, GzEncoder, ZlibEncoder};
use taba_server::config::Limits;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::lab::{Lab, PATIENCE, body, now_secs, parse};

type Encode = fn(&[u8]) -> Vec<u8>;

fn zlib(text: &[u8]) -> Vec<u8> {
    let mut encoder = ZlibEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(text).unwrap();
    encoder.finish().unwrap()
}

fn gzip(text: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(text).unwrap();
    encoder.finish().unwrap()
}

fn raw_deflate(text: &[u8]) -> Vec<u8> {
    let mut encoder = DeflateEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(text).unwrap();
    encoder.finish().unwrap()
}

fn zstd(text: &[u8]) -> Vec<u8> {
    zstd::encode_all(text, 3).unwrap()
}

/// A body of many tabs, so that a cut anywhere leaves whole ones before it.
fn many_tabs() -> String {
    let names: Vec<String> = (0..200).map(|n| format!("tab.{n:03}")).collect();
    let events: Vec<_> = names.iter().map(|name| (name.as_str(), "CounterGroup", "1")).collect();
    body("c", &events)
}

/// Cuts bytes into chunks of a chunked body, without the last, empty one.
fn chunks(bytes: &[u8], size: usize) -> Vec<u8> {
    let chunk = |piece: &[u8]| [format!("{:x}\r\n", piece.len()).as_bytes(), piece, b"\r\n"].concat();
    bytes.chunks(size).flat_map(chunk).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_encoding_is_taken_on_every_posting_endpoint() {
    let lab = Lab::start().await;
    let encodings: [(&str, Encode); 7] = [
        ("", <[u8]>::to_vec),
        ("identity", <[u8]>::to_vec),
        ("gzip", gzip),
        ("GZIP", gzip),
        ("deflate", zlib),
        ("deflate", raw_deflate),
        ("Zstd", zstd),
    ];
    for (round, (encoding, encode)) in encodings.into_iter().enumerate() {
        for (path, content_type) in [("/post", "application/octet-stream"), ("/v2/batch", "text/plain")] {
            let text = body("c", &[("t", "TotalsCounter", "1")]);
            let mut headers = vec![("Content-Type", content_type)];
            if !encoding.is_empty() {
                headers.push(("Content-Encoding", encoding));
            }
            let reply = lab.post(path, &headers, &encode(text.as_bytes())).await;
            assert_eq!(reply.status, 200, "{encoding} on {path}: {reply:?}");
        }
        let count = 2 * (round + 1);
        let line = format!("t: {{\"count\": {count}, \"total\": {count}.00, \"average\": 1.00}}\n");
        lab.eventually_is("/tabs?name=t", &line).await;
    }
    for encoding in ["br", "gzip, zstd", "gzip,gzip"] {
        let reply = lab.post("/post", &[("Content-Encoding", encoding)], b"1\n\n").await;
        assert_eq!(reply.status, 415, "{encoding}");
    }
    lab.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn chunked_bodies_count_like_others() {
    let lab = Lab::start().await;
    let text = body("c", &[("t", "TotalsCounter", "5")]);
    for size in [1, 7, 1000] {
        let chunked = [chunks(text.as_bytes(), size), b"0\r\n\r\n".to_vec()].concat();
        let reply = lab.post("/post", &[("Transfer-Encoding", "chunked")], &chunked).await;
        assert_eq!(reply.status, 200, "{reply:?}");
    }
    lab.eventually_is("/tabs?name=t", "t: {\"count\": 3, \"total\": 15.00, \"average\": 5.00}\n").await;
    lab.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_body_that_is_cut_off_stores_nothing() {
    let lab = Lab::start().await;
    let text = many_tabs();
    let encodings: [(&str, &str, Vec<u8>); 4] = [
        ("/post_zip", "identity", zlib(text.as_bytes())),
        ("/post", "gzip", gzip(text.as_bytes())),
        ("/post", "deflate", raw_deflate(text.as_bytes())),
        ("/post", "zstd", zstd(text.as_bytes())),
    ];
    for (path, encoding, bytes) in &encodings {
        for cut in [2, bytes.len() / 2, bytes.len() - 1] {
            let reply = lab.post(path, &[("Content-Encoding", encoding)], &bytes[..cut]).await;
            assert_eq!(reply.status, 400, "{encoding} on {path} cut at {cut}: {reply:?}");
        }
    }
    // Whole streams within HTTP framing that ends early: the client closes its side.
    let half = &text.as_bytes()[..text.len() / 2];
    let short = format!("POST /post HTTP/1.1\r\nHost: lab\r\nContent-Length: {}\r\n\r\n", text.len());
    let chunked = "POST /post HTTP/1.1\r\nHost: lab\r\nTransfer-Encoding: chunked\r\n\r\n";
    for request in [[short.as_bytes(), half].concat(), [chunked.as_bytes(), &chunks(half, 100)].concat()] {
        let mut stream = TcpStream::connect(lab.addr).await.unwrap();
        stream.write_all(&request).await.unwrap();
        stream.shutdown().await.unwrap();
        let mut reply = Vec::new();
        // The connection may be closed with or without an answer; 200 would be wrong.
        let _ = tokio::time::timeout(PATIENCE, stream.read_to_end(&mut reply)).await.expect("an end in time");
        assert!(!reply.starts_with(b"HTTP/1.1 200"), "{}", String::from_utf8_lossy(&reply));
    }
    lab.applied().await;
    assert_eq!(lab.get("/names").await.body, "");
    lab.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bytes_after_a_stream_are_refused_unless_they_are_another_one() {
    let lab = Lab::start().await;
    let (one, two) = (body("c", &[("t", "TotalsCounter", "1")]), "d\n\n\n");
    let twice = [zlib(one.as_bytes()), zlib(two.as_bytes())].concat();
    assert_eq!(lab.post("/post_zip", &[], &twice).await.status, 400);
    let trailing = [zlib(one.as_bytes()), b"x".to_vec()].concat();
    assert_eq!(lab.post("/post_zip", &[], &trailing).await.status, 400);
    for (encoding, twice) in [
        ("gzip", [gzip(one.as_bytes()), gzip(two.as_bytes())].concat()),
        ("zstd", [zstd(one.as_bytes()), zstd(two.as_bytes())].concat()),
    ] {
        let reply = lab.post("/post", &[("Content-Encoding", encoding)], &twice).await;
        assert_eq!(reply.status, 200, "{encoding}: {reply:?}");
    }
    lab.eventually_is("/tabs?name=t", "t: {\"count\": 2, \"total\": 2.00, \"average\": 1.00}\n").await;
    lab.stop().await;
}

/// Resident memory of this process, in bytes.
fn resident_bytes() -> usize {
    let pages = std::fs::read_to_string("/proc/self/statm").unwrap();
    pages.split(' ').nth(1).unwrap().parse::<usize>().unwrap() * rustix::param::page_size()
}

/// A zlib stream of a gigabyte: `head`, then `line` again and again.
fn bomb(head: &str, line: &[u8]) -> Vec<u8> {
    let mut encoder = ZlibEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(head.as_bytes()).unwrap();
    let block = line.repeat((1 << 20) / line.len());
    for _ in 0..1024 {
        encoder.write_all(&block).unwrap();
    }
    encoder.finish().unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bombs_are_refused_in_bounded_memory() {
    let lab = Lab::start().await;
    let event = format!("[\"CounterGroup\", {}, \"1\"]\n", now_secs());
    let zeros = bomb("", &[0; 1 << 10]);
    let long_line = bomb("1\n\nc\n\nt\n", &[b'0'; 1 << 10]);
    let events = bomb("1\n\nc\n\nt\n", event.as_bytes());
    for (what, bytes, status) in
        [("zeros", zeros, 400..414), ("one endless line", long_line, 413..414), ("events", events, 413..414)]
    {
        let before = resident_bytes();
        let mut most = before;
        let post = lab.post("/post_zip", &[], &bytes);
        tokio::pin!(post);
        let reply = loop {
            tokio::select! {
                reply = &mut post => break reply,
                () = tokio::time::sleep(std::time::Duration::from_millis(5)) => most = most.max(resident_bytes()),
            }
        };
        assert!(status.contains(&reply.status), "{what}: {reply:?}");
        let grown = most.saturating_sub(before);
        assert!(grown < 64 << 20, "{what}: memory grew by {grown} bytes");
    }
    lab.applied().await;
    assert_eq!(lab.get("/names").await.body, "");
    lab.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_large_body_streams_through_in_bounded_memory() {
    let lab = Lab::start().await;
    let event = format!("[\"CounterGroup\", {}, \"1\"]\n", now_secs());
    let block = event.repeat((1 << 20) / event.len());
    let (head, tail) = ("1\n\nc\n\nt\n", "\n\n");
    let length = head.len() + 100 * block.len() + tail.len();
    let mut stream = TcpStream::connect(lab.addr).await.unwrap();
    let request =
        format!("POST /post HTTP/1.1\r\nHost: lab\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    stream.write_all(head.as_bytes()).await.unwrap();
    let before = resident_bytes();
    let mut most = before;
    for _ in 0..100 {
        stream.write_all(block.as_bytes()).await.unwrap();
        most = most.max(resident_bytes());
    }
    stream.write_all(tail.as_bytes()).await.unwrap();
    let mut reply = Vec::new();
    tokio::time::timeout(PATIENCE, stream.read_to_end(&mut reply)).await.expect("an answer in time").unwrap();
    assert_eq!(parse(&reply, false).status, 200);
    let grown = most.saturating_sub(before);
    assert!(grown < 32 << 20, "100 MB in, memory grew by {grown} bytes");
    lab.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bodies_beyond_their_limits_are_too_large_and_leave_nothing() {
    let limits = Limits {
        body_bytes_max: 10_000,
        inflated_bytes_max: 20_000,
        parts_bytes_max: 2_000,
        ..Limits::default()
    };
    let lab = Lab::start_with(limits, None).await;
    let event = format!("[\"CounterGroup\", {}, \"1\"]\n", now_secs());
    let long = format!("1\n\nc\n\nt\n{}\n\n", event.repeat(1000));
    let reply = lab.post("/post", &[], long.as_bytes()).await;
    assert_eq!(reply.status, 413, "as sent: {reply:?}");
    let chunked = [chunks(long.as_bytes(), 500), b"0\r\n\r\n".to_vec()].concat();
    let reply = lab.post("/post", &[("Transfer-Encoding", "chunked")], &chunked).await;
    assert_eq!(reply.status, 413, "without a length: {reply:?}");
    let reply = lab.post("/post_zip", &[], &zlib(long.as_bytes())).await;
    assert_eq!(reply.status, 413, "inflated: {reply:?}");
    let reply = lab.post("/post_zip", &[], &zlib(many_tabs().as_bytes())).await;
    assert_eq!(reply.status, 413, "folded: {reply:?}");
    for limit in ["body_bytes_max", "inflated_bytes_max", "parts_bytes_max"] {
        let refused = lab.metric(&format!("taba_http_refused_total{{limit=\"{limit}\"}}")).await;
        assert!(refused >= 1.0, "{limit}");
    }
    assert_eq!(lab.get("/names").await.body, "");
    lab.stop().await;
}
