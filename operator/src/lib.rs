//! The operator: makes and heals the parts of a Taba cluster on Kubernetes.
//!
//! ```text
//! TabaCluster ──observe──▶ validate ──▶ build (pure) ──▶ apply ──▶ report
//! ```
//!
//! `api` is what a user writes and reads, `build` turns it into Kubernetes objects and talks to nobody.

pub mod api;
pub mod build;
