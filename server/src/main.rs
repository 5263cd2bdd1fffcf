//! The `taba` binary: picks the subcommand and says what went wrong.

use std::process::ExitCode;

use clap::Parser as _;
use taba_server::cli::Cli;

/// That of musl, the C library of static programs, has one lock for all threads.
#[cfg(target_env = "musl")]
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    match Cli::parse().run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) if error.is_closed_pipe() => ExitCode::SUCCESS,
        Err(error) => {
            report(&error);
            ExitCode::FAILURE
        }
    }
}

/// One line for the error and one for each cause under it.
#[allow(clippy::print_stderr, reason = "the last words of the process; there may be no log yet")]
fn report(error: &dyn std::error::Error) {
    eprintln!("taba: {error}");
    let mut cause = error.source();
    while let Some(error) = cause {
        eprintln!("  because: {error}");
        cause = error.source();
    }
}
