//! Everything the `taba` binary does, as a library, so that tests and benchmarks reach it.

pub mod agent;
pub mod cli;
pub mod clock;
pub mod config;
pub mod http;
pub mod logging;
pub mod metrics;
pub mod mutants;
pub mod pipeline;
pub mod query;
pub mod serve;
pub mod store;
