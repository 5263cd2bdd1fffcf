//! The HTTP side through real connections on loopback: an in-process server over the real embedded store
//! in a folder of its own, and a client that writes and reads bytes, so that every byte can be wrong.

#![allow(clippy::unwrap_used, reason = "helpers of tests may fail their test")]

mod accepting;
mod agreement;
mod bodies;
mod connections;
mod current;
mod lab;
mod maintenance;
mod malformed;
mod queries;
mod vectors;
