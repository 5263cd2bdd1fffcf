//! The operator: makes and heals the parts of a Taba cluster on Kubernetes.
//!
//! ```text
//! TabaCluster ──observe──▶ validate ──▶ build (pure) ──▶ apply ──▶ report
//! ```
//!
//! `api` is what a user writes and reads, `build` turns it into Kubernetes objects and talks to nobody, `controller` looks
//! at the world and sets it right, one decision at a time, by pure functions; `leader` sees to it that one
//! operator acts.

pub mod api;
pub mod build;
pub mod controller;
pub mod health;
pub mod keepers;
pub mod leader;
pub mod metrics;
pub mod run;
pub mod sentinels;
