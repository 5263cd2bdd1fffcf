//! The keeper: starts and watches one Redis of a shard, and lets it take writes only after votes have proved
//! that it lacks nothing that was acknowledged (docs/shard.md).
//!
//! `decide` holds the rules and touches nothing; `keeper` is the shell that observes, asks it, and acts.

pub mod address;
pub mod api;
pub mod config;
pub mod decide;
pub mod disk;
pub mod http;
pub mod install;
pub mod keeper;
pub mod metrics;
pub mod mutants;
pub mod names;
pub mod peers;
pub mod redis;
pub mod sentinel;
pub mod sentinel_config;
pub mod shard;
