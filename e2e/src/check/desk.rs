//! A desk to ask and tell at: an HTTP server for `GET /state` and `POST /stop`, one request a connection.
//!
//! Just enough of HTTP for a probe, a test and the API server's proxy, which is how tests reach a pod.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::json;

use super::Run;

/// A caller that dawdles is left alone, for the next one waits.
const PATIENCE: Duration = Duration::from_secs(2);
/// More than any head or body of ours.
const REQUEST_BYTES_MAX: u64 = 16 << 10;

/// Opens the desk of a run for as long as the process lives; what it gives says when to stop.
#[must_use]
pub fn open(listener: TcpListener, run: Arc<Run>) -> Receiver<()> {
    let (tell, told) = sync_channel(1);
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            // A caller that is gone is no concern of the run.
            let _ = serve(stream, &run, &tell);
        }
    });
    told
}

fn serve(stream: TcpStream, run: &Run, tell: &SyncSender<()>) -> Result<()> {
    stream.set_read_timeout(Some(PATIENCE)).context("bound a read")?;
    stream.set_write_timeout(Some(PATIENCE)).context("bound a write")?;
    let mut reader = BufReader::new(stream.take(REQUEST_BYTES_MAX));
    let request = read_request(&mut reader)?;
    let (status, body) = match request.split_once(' ') {
        Some(("GET", target)) if path(target) == "/state" => ("200 OK", run.state(from_ms(target))),
        Some(("POST", "/stop")) => {
            // Full means that it was told already.
            let _ = tell.try_send(());
            ("200 OK", json!({"stopping": true}))
        }
        _ => ("404 Not Found", json!({"known": ["GET /state?from=MS", "POST /stop"]})),
    };
    let (body, mut stream) = (body.to_string(), reader.into_inner().into_inner());
    let length = body.len();
    write!(
        stream,
        "HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\
         Connection: close\r\n\r\n{body}"
    )
    .context("answer")
}

/// Method and target; the rest is read to its end, or the caller would see its connection reset.
fn read_request(reader: &mut BufReader<std::io::Take<TcpStream>>) -> Result<String> {
    let mut first = String::new();
    reader.read_line(&mut first).context("read a request")?;
    let mut length = 0;
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).context("read a head")?;
        let line = line.trim().to_ascii_lowercase();
        if line.is_empty() {
            break;
        }
        if let Some(value) = line.strip_prefix("content-length:") {
            length = value.trim().parse().context("read a length")?;
        }
    }
    std::io::copy(&mut reader.by_ref().take(length), &mut std::io::sink()).context("read a body")?;
    let mut words = first.split(' ');
    Ok(format!("{} {}", words.next().unwrap_or_default(), words.next().unwrap_or_default()))
}

fn path(target: &str) -> &str {
    target.split('?').next().unwrap_or_default()
}

fn from_ms(target: &str) -> u64 {
    target.split_once("from=").and_then(|(_, number)| number.parse().ok()).unwrap_or(0)
}
