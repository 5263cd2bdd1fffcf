//! `kubectl` of the test cluster, and waiting.

use std::time::Duration;

use anyhow::{Context as _, Result};
use serde_json::Value;
use taba_e2e::runner::{run, run_with};

const PAUSE: Duration = Duration::from_millis(500);

/// Runs it and gives what it prints.
pub fn kubectl(words: &[&str]) -> Result<String> {
    run(&[&["kubectl"], words].concat())
}

/// The same with a text on its input.
pub fn kubectl_with(words: &[&str], input: &str) -> Result<String> {
    run_with(&[&["kubectl"], words].concat(), input)
}

/// Brings an object about.
pub fn apply(object: &Value) -> Result<()> {
    kubectl_with(&["apply", "--server-side", "--filename", "-"], &object.to_string()).map(drop)
}

/// A text within an object; empty if it is not there.
pub fn text<'a>(object: &'a Value, pointer: &str) -> &'a str {
    object.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}

/// A condition of an object.
pub fn condition<'a>(object: &'a Value, kind: &str) -> Option<&'a Value> {
    object.pointer("/status/conditions")?.as_array()?.iter().find(|one| one["type"] == kind)
}

/// Whether an object has a condition that is true.
pub fn is_true(object: &Value, kind: &str) -> bool {
    condition(object, kind).is_some_and(|one| one["status"] == "True")
}

/// Tries until it works, at most for `bound`; an error says what is not so yet.
pub fn until<T>(what: &str, bound: Duration, attempt: impl FnMut() -> Result<T>) -> Result<T> {
    taba_e2e::check::until(bound, PAUSE, attempt).with_context(|| format!("in vain: {what}"))
}
