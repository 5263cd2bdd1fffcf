//! Records events in a Rust program and hands them to Taba, exactly once.
//!
//! ```
//! use std::time::{Duration, SystemTime};
//! use taba_client::Client;
//!
//! # fn main() -> Result<(), taba_client::StartError> {
//! let client = Client::builder("http://127.0.0.1:8279")
//!     .client_id("web-1.checkout")
//! #   .drop_wait(Duration::ZERO)
//!     .start()?;
//!
//! let orders = client.counter("checkout/orders");
//! orders.increment();
//! let latency = client.percentile("checkout/latency_ms");
//! latency.record(12.5);
//! client.gauge("checkout/release", "1.4.2");
//! client.gauge_until("checkout/leader", true, SystemTime::now() + Duration::from_secs(60));
//! # Ok(())
//! # }
//! ```
//!
//! Events are folded in the program: what travels is one small state per tab and flush period, however
//! many events there were. A batch has an id, so it counts once however often it must be sent. Memory is
//! bounded by the number of tabs, not of events; while no receiver answers, events go on being folded
//! into the same states. Nothing here blocks the program on the network or panics into it: what could
//! not be recorded or delivered is counted in [`Client::stats`].

mod builder;
mod client;
mod clock;
pub mod delivery;
mod endpoint;
mod recorder;
mod tab;
mod value;

pub use builder::{Builder, StartError, new_producer};
pub use client::{Client, Counter, FlushError, Percentile, Stats};
pub use endpoint::check as check_endpoint;
pub use value::{NotJson, Value};
