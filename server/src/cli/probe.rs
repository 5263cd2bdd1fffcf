//! `taba probe`: whether a URL answers, for images that hold no other program to ask with.

use std::thread;
use std::time::{Duration, Instant};

use clap::Args;

use super::api::Api;
use super::duration;
use super::error::CliError;

/// Between two attempts.
const PAUSE: Duration = Duration::from_millis(500);

#[derive(Args, Debug)]
pub(super) struct ProbeArgs {
    /// What to ask for. Only an answer with status 200 is good.
    #[arg(value_name = "URL", default_value = "http://127.0.0.1:8300/readyz")]
    url: String,
    /// How long to ask again and again before giving up.
    #[arg(long, value_name = "DURATION", default_value = "0s", value_parser = duration)]
    wait: Duration,
}

pub(super) fn run(args: &ProbeArgs) -> Result<(), CliError> {
    let api = Api::new(&args.url);
    let end = Instant::now() + args.wait;
    loop {
        match api.get("", &[]) {
            Err(error) if error.is_passing() && Instant::now() < end => thread::sleep(PAUSE),
            outcome => return outcome.map(|_| ()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead as _, BufReader, Write as _};
    use std::net::TcpListener;

    use super::*;

    /// A server that answers each connection with the next of these, and its URL.
    fn server(statuses: &'static [&'static str]) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("it is bound");
        thread::spawn(move || {
            for (status, stream) in statuses.iter().zip(listener.incoming()) {
                let stream = stream.expect("a connection");
                let mut lines = BufReader::new(&stream).lines();
                while lines.next().is_some_and(|line| line.is_ok_and(|line| !line.is_empty())) {}
                write!(&stream, "HTTP/1.1 {status}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n")
                    .expect("it reads");
            }
        });
        format!("http://{address}/readyz")
    }

    #[test]
    fn a_server_that_is_not_ready_yet_is_waited_for() {
        let url = server(&["503 Service Unavailable", "200 OK"]);
        run(&ProbeArgs { url, wait: Duration::from_secs(60) }).expect("it is ready in the end");
    }

    #[test]
    fn without_waiting_the_first_answer_counts_and_a_wrong_path_is_never_waited_for() {
        let url = server(&["503 Service Unavailable"]);
        let refused = run(&ProbeArgs { url, wait: Duration::ZERO }).expect_err("it is not ready");
        assert!(matches!(refused, CliError::Status { status: 503, .. }), "{refused}");
        let url = server(&["404 Not Found"]);
        let refused = run(&ProbeArgs { url, wait: Duration::from_secs(60) }).expect_err("it is not there");
        assert!(matches!(refused, CliError::Status { status: 404, .. }), "{refused}");
    }
}
