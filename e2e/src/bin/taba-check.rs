//! The checker as a program: `taba-check --url http://main.metrics:8300`. It posts numbered events and reads
//! until `POST /stop` at its desk, then prints one line of JSON and ends with 0 only if nothing was lost, doubled
//! or left out of an answer.

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a command-line program talks on both")]

use std::net::TcpListener;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use lexopt::Arg::{Long, Short};
use lexopt::{Parser, ValueExt as _};
use taba_e2e::check::{self, Options, desk};
use taba_e2e::lab::traffic;

const USAGE: &str = "\
usage: taba-check --url http://HOST:PORT [--seed S] [--producers N] [--pause MILLISECONDS]
                  [--patience SECONDS] [--listen ADDRESS:PORT] [--listen-file FILE]
";

struct Arguments {
    options: Options,
    listen: String,
    /// Where to write the address, when the port is the system's choice.
    listen_file: Option<PathBuf>,
}

fn main() -> ExitCode {
    match run() {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<ExitCode> {
    let Some(arguments) = parse(Parser::from_env())? else {
        print!("{USAGE}");
        return Ok(ExitCode::SUCCESS);
    };
    let listener =
        TcpListener::bind(&arguments.listen).with_context(|| format!("listen on {}", arguments.listen))?;
    let address = listener.local_addr().context("find the address")?;
    let started = check::start(&arguments.options)?;
    let stop = desk::open(listener, Arc::clone(&started.run));
    if let Some(file) = &arguments.listen_file {
        std::fs::write(file, address.to_string()).context("write the address")?;
    }
    let verdict = started.finish(&stop)?;
    println!("{}", verdict.json());
    Ok(if verdict.is_exact() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// None if only help is wanted.
fn parse(mut parser: Parser) -> Result<Option<Arguments>> {
    let mut options = Options {
        url: String::new(),
        seed: 1,
        producers: 4,
        pause: traffic::PAUSE,
        patience: Duration::from_secs(300),
    };
    let mut listen = "0.0.0.0:8080".to_owned();
    let mut listen_file = None;
    while let Some(argument) = parser.next()? {
        match argument {
            Long("url") => options.url = parser.value()?.string()?,
            Long("seed") => options.seed = parser.value()?.parse()?,
            Long("producers") => options.producers = parser.value()?.parse()?,
            Long("pause") => options.pause = Duration::from_millis(parser.value()?.parse()?),
            Long("patience") => options.patience = Duration::from_secs(parser.value()?.parse()?),
            Long("listen") => listen = parser.value()?.string()?,
            Long("listen-file") => listen_file = Some(parser.value()?.into()),
            Long("help") | Short('h') => return Ok(None),
            other => return Err(other.unexpected().into()),
        }
    }
    anyhow::ensure!(options.url.starts_with("http://"), "--url is needed\n\n{USAGE}");
    anyhow::ensure!(options.producers > 0, "--producers takes 1 or more");
    Ok(Some(Arguments { options, listen, listen_file }))
}
