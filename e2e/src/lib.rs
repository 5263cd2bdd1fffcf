//! What end-to-end tests share: processes, producers that number their events, the checker.

pub mod bench;
