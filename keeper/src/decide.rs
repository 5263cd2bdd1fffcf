//! The decisions: what was observed goes in, what to do comes out. Nothing here knows a socket, a clock or
//! a runtime; `now` is an argument, in milliseconds of any clock that never goes back.

pub mod in_sync;
pub mod priority;
pub mod role;
pub mod votes;

/// Milliseconds of a clock that never goes back.
pub type Millis = u64;
