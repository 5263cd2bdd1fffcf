//! Records events in a Rust program and hands them to Taba, exactly once.

pub mod delivery;
