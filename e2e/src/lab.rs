//! The lab: a whole Taba of real processes, and everything that can happen to it.
//!
//! ```text
//! campaign ──▶ sandbox (one per run: namespaces of network, processes and mounts)
//!                 └▶ run: cluster ◀── inject ◀── plan ◀── seed
//!                           ▲  ▲
//!                  traffic ─┘  └─ reader, watch        verdict: ledger = answer, to the event
//! ```
//!
//! Each host has an address and a network namespace of its own on one bridge. All of it lives inside the
//! namespaces of one sandbox, so the kernel removes everything when the sandbox's first process ends,
//! however it ends. Where a machine allows no namespaces the lab runs on loopback addresses and says
//! which faults it cannot do.

pub mod argv;
pub mod books;
pub mod campaign;
pub mod clock;
pub mod cluster;
pub mod control;
pub mod daemon;
pub mod fault;
pub mod host;
pub mod inject;
pub mod keeper;
pub mod net;
pub mod pace;
pub mod plan;
pub mod reader;
pub mod report;
pub mod run;
pub mod sandbox;
pub mod sentinel;
pub mod tap;
pub mod timeline;
pub mod traffic;
pub mod verdict;
pub mod watch;
