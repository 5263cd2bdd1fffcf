//! The `taba` binary as people and service managers meet it: help texts, commands against a real
//! standalone process, and what signals do to that.

mod commands;
mod help;
mod process;
mod server;
mod standalone;
