//! The API server, through kubectl's proxy on a socket file, which reaches into the cluster's network namespace.
//!
//! Scenarios look several times a second, and specs are tried by the hundred. A kubectl for each would take an eighth of
//! a second of a core.

use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::{Child, Stdio};
use std::sync::OnceLock;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Bytes;
use hyper::header::{CONTENT_TYPE, HOST};
use hyper::http::request::Builder;
use hyper::{Method, Request, StatusCode};
use hyper_util::rt::TokioIo;
use rustix::process::{Pid, Signal, kill_process_group};
use serde_json::Value;
use tempfile::TempDir;
use tokio::net::UnixStream;
use tokio::time::timeout;

use crate::check::until;
use crate::runner::xtask;

const START: Duration = Duration::from_secs(30);
const START_PAUSE: Duration = Duration::from_millis(100);
/// An API server that is away must not hold a test longer than its bound.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(20);

static SOCKET: OnceLock<PathBuf> = OnceLock::new();

/// The proxy, which ends with this.
#[derive(Debug)]
pub struct Proxy {
    process: Child,
    _folder: TempDir,
}

impl Proxy {
    /// Starts it, and waits until the API server answers through it.
    ///
    /// # Errors
    /// If it does not, or there is one already.
    pub fn start() -> Result<Self> {
        let folder = tempfile::tempdir().context("make a folder for the proxy's socket")?;
        let socket = folder.path().join("api.sock");
        let flag = format!("--unix-socket={}", socket.display());
        let mut proxy = xtask(&["kubectl", "proxy", &flag]);
        // A group, because kubectl is not our own child.
        let process =
            proxy.process_group(0).stdout(Stdio::null()).spawn().context("start kubectl's proxy")?;
        let proxy = Self { process, _folder: folder };
        SOCKET.set(socket).map_err(|_| anyhow::anyhow!("one proxy is enough"))?;
        until(START, START_PAUSE, || get("/version")).context("wait for the API server behind the proxy")?;
        Ok(proxy)
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        if let Some(group) = i32::try_from(self.process.id()).ok().and_then(Pid::from_raw) {
            let _ = kill_process_group(group, Signal::TERM);
        }
        let _ = self.process.wait();
    }
}

/// The path of objects of a namespace: `pods`, `apps/v1 deployments/main`.
#[must_use]
pub fn path(namespace: &str, what: &str) -> String {
    match what.split_once(' ') {
        Some((group, what)) => format!("/apis/{group}/namespaces/{namespace}/{what}"),
        None => format!("/api/v1/namespaces/{namespace}/{what}"),
    }
}

/// What is at a path; an error if nothing is.
///
/// # Errors
/// If the API server refuses or does not answer, or nothing is there.
pub fn get(path: &str) -> Result<Value> {
    find(path)?.with_context(|| format!("nothing is at {path}"))
}

/// What is at a path, if anything is.
///
/// # Errors
/// If the API server refuses or does not answer.
pub fn find(path: &str) -> Result<Option<Value>> {
    let (status, body) = ask(path).with_context(|| format!("ask for {path}"))?;
    if status == StatusCode::NOT_FOUND {
        return Ok(None);
    }
    ensure!(status.is_success(), "{path}: {status}: {}", String::from_utf8_lossy(&body));
    serde_json::from_slice(&body).map(Some).with_context(|| format!("parse what is at {path}"))
}

/// The text at a path.
///
/// # Errors
/// If the API server refuses or does not answer.
pub fn read(path: &str) -> Result<String> {
    let (status, body) = ask(path).with_context(|| format!("ask for {path}"))?;
    let text = String::from_utf8_lossy(&body).into_owned();
    ensure!(status.is_success(), "{path}: {status}: {text}");
    Ok(text)
}

/// The objects of a list.
///
/// # Errors
/// If the API server refuses or does not answer, or it is no list.
pub fn list(path: &str) -> Result<Vec<Value>> {
    Ok(get(path)?["items"].as_array().context("it is a list")?.clone())
}

/// Sends an object as YAML or JSON; none if it is taken, else the `Status` that says why not.
///
/// # Errors
/// If there is no answer.
pub fn send(method: &Method, path: &str, object: &str) -> Result<Option<Value>> {
    let request = Request::builder().method(method).header(CONTENT_TYPE, "application/yaml");
    let (status, body) = exchanged(request, path, object).with_context(|| format!("{method} to {path}"))?;
    if status.is_success() {
        return Ok(None);
    }
    serde_json::from_slice(&body)
        .map(Some)
        .with_context(|| format!("parse the refusal of {method} to {path}"))
}

fn ask(path: &str) -> Result<(StatusCode, Bytes)> {
    exchanged(Request::builder(), path, "")
}

fn exchanged(request: Builder, path: &str, body: &str) -> Result<(StatusCode, Bytes)> {
    let request = request.uri(path).header(HOST, "localhost").body(Full::from(body.to_owned()))?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        match timeout(REQUEST_TIMEOUT, exchange(request)).await {
            Ok(answer) => answer,
            Err(_) => bail!("no answer in {REQUEST_TIMEOUT:?}"),
        }
    })
}

/// A connection for each: the proxy is near.
async fn exchange(request: Request<Full<Bytes>>) -> Result<(StatusCode, Bytes)> {
    let stream = UnixStream::connect(SOCKET.get().context("the proxy is not started")?).await?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    tokio::spawn(connection);
    let answer = sender.send_request(request).await?;
    Ok((answer.status(), answer.into_body().collect().await?.to_bytes()))
}
