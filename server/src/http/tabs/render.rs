//! How a single state is written into an answer.

use std::fmt::Write;

use taba_core::{Format, State, Timestamp};

/// How states are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rendering {
    /// As text and JSON have it.
    Plain,
    /// As `application/json-detailed` has it.
    Detailed,
    /// The encoded state as hexadecimal digits: `raw`, which is no stable format.
    Hex,
    /// The same as a JSON string.
    HexString,
}

impl Rendering {
    /// Appends a state as it is seen at `now`.
    pub fn push(self, state: &State, now: Timestamp, out: &mut String) {
        match self {
            Self::Plain => state.render(now, Format::Plain, out),
            Self::Detailed => state.render(now, Format::Detailed, out),
            Self::Hex => push_hex(state, out),
            Self::HexString => {
                out.push('"');
                push_hex(state, out);
                out.push('"');
            }
        }
    }
}

fn push_hex(state: &State, out: &mut String) {
    let mut bytes = Vec::new();
    state.encode(&mut bytes);
    out.reserve(2 * bytes.len());
    for byte in bytes {
        write!(out, "{byte:02x}").expect("a string takes everything");
    }
}
