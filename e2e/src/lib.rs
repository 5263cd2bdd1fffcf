//! What end-to-end tests and benchmarks share: a real `taba` process, producers that number their
//! events, and the checker that compares what a server answers with what it acknowledged.

#[cfg(feature = "kubernetes")]
pub mod api;
pub mod bench;
pub mod check;
pub mod checker;
pub mod lab;
pub mod load;
pub mod process;
pub mod producer;
pub mod rng;
pub mod runner;
pub mod traffic;
