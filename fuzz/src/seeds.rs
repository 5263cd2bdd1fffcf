//! The seeds: small inputs that every decoder accepts, from which fuzzing and mutation start.
//!
//! All of them come from a few bodies of the line protocol: the states those fold into are the seeds of
//! the state decoder, and batches of these the seeds of the batch decoder.

use std::io::Write as _;

use flate2::Compression;
use flate2::write::ZlibEncoder;
use taba_core::fold::{FoldLimits, Folder};
use taba_core::part::{self, Part};
use taba_core::wire::v2::BatchWriter;
use taba_core::{BatchId, State};

use crate::{NOW, VBUCKETS};

/// A seed: the target it is for, its name (`seed-*`), its bytes.
pub type Seed = (&'static str, String, Vec<u8>);

/// Bodies by what they show.
const BODIES: [(&str, &str); 8] = [
    ("reference", "1\n\nc1\n\nn1\n[\"CounterGroup\", 1394047812.35, \"1\"]\n\n\n"),
    (
        "two-clients",
        "1\n\nca\n\nna\n[\"CounterGroup\", 1, \"1\"]\n\n\ncb\n\nnb\n[\"CounterGroup\", 2, \"2\"]\n\
         [\"CounterGroup\", 2, \"3\"]\n\n\n",
    ),
    (
        "every-type",
        "1\n\nclient\n\n\
         counter\n[\"CounterGroup\", 1394047812.35, \"100\"]\n[\"CounterGroup\", 1394047811, \"1000\"]\n\n\
         percentile\n[\"PercentileGroup\", 1394047800, \"26\"]\n[\"PercentileGroup\", 1394047801, \"1e3\"]\n\n\
         gauge\n[\"Gauge\", 1394047812.35, \"\\\"value\\\"\"]\n\n\
         expiring\n[\"ExpiryGauge\", 1394047812.35, \"[\\\"value\\\", 1394134212.35]\"]\n\n\
         buffer\n[\"Buffer\", 1394047812.35, \"[{\\\"k\\\": 1}, 1394134212.35]\"]\n\
         [\"Buffer\", 1394047811, \"[\\\"x\\\", 1394134211]\"]\n\n\
         totals\n[\"TotalsCounter\", 1394047812.35, \"[3]\"]\n[\"TotalsCounter\", 1394047812.35, \"[4.7]\"]\n\n\
         percentile-counter\n[\"PercentileCounter\", 1394047812.35, \"7\"]\n\n\n",
    ),
    (
        "compact",
        "1\n\njava\n\ntab\n[\"CounterGroup\",1394047812,\"1\"]\n[\"CounterGroup\",\"1394047812\",\"[-5,2]\"]\n\n\n",
    ),
    (
        "bad-neighbours",
        "1\n\nc\n\nt\n[\"CounterGroup\", 1394047812, \"1\"]\n[\"CounterGroup\", 1394047812, \"NaN\"]\nnot json\n\
         [\"CounterGroup\", 9394047812, \"1\"]\n[\"Gauge\", 1394047812, \"1\"]\n[\"Unknown\", 1, \"1\"]\n\n\
         b\u{e4}d name\n[\"CounterGroup\", 1394047812, \"1\"]\n\n\n",
    ),
    (
        "escapes",
        "1\n\nc\n\nt\n[\"Gauge\", 1394047812, \"\\\"\\\\u00e2\\\\u0089\\\\u0088 \\\\U0001f600 \\\\/\\\"\"]\n\
         [\"Gauge\", 1394047811, \"{\\\"key\\\": [null, true, 1.5e-7]}\"]\n\n\n",
    ),
    ("crlf", "1\r\n\r\nc1\r\n\r\nn1\r\n[\"CounterGroup\", 1394047812.35, \"1\"]\r\n\r\n\r\n"),
    ("cut-off", "1\n\nc1\n\nn1\n[\"CounterGroup\", 1.39404781234e+9, \"-1.5e2\"]"),
];

/// Many events of one tab: enough for a sketch that no longer holds single values.
fn long_body() -> String {
    let mut body = String::from("1\n\nc1\n\n");
    for tab_type in ["CounterGroup", "PercentileGroup"] {
        body += &format!("long/{tab_type}\n");
        for event in 0..400 {
            let (secs, value) = (1_394_047_812 - event * 211, 1.5_f64.powi(event % 40) - 100.0);
            body += &format!("[\"{tab_type}\", {secs}, \"{value:.3}\"]\n");
        }
        body += "\n";
    }
    body + "\n"
}

/// All seeds.
///
/// # Panics
/// If a decoder does not accept what a seed is made from.
#[must_use]
pub fn all() -> Vec<Seed> {
    let long = long_body();
    let mut seeds = Vec::new();
    for (name, body) in BODIES.into_iter().chain([("long", long.as_str())]) {
        seeds.push(("v1_decoder", format!("seed-{name}"), [&[2, 1, 7], body.as_bytes()].concat()));
        seeds.push(("zlib_body", format!("seed-{name}"), deflated(body.as_bytes())));
        let block = folded(body);
        for (tab, state) in states(&block) {
            let tab_type = State::decode(state).expect("a folded state").tab_type().as_str();
            let name = format!("seed-{name}-{tab_type}-{}", tab.replace('/', "-"));
            seeds.push(("state_decoder", name, state.to_vec()));
        }
        seeds.push(("v2_decoder", format!("seed-{name}-parts"), block.clone()));
        seeds.push(("v2_decoder", format!("seed-{name}"), batch(&block)));
    }
    seeds
}

fn deflated(body: &[u8]) -> Vec<u8> {
    let mut encoder = ZlibEncoder::new(Vec::new(), Compression::new(6));
    encoder.write_all(body).and_then(|()| encoder.finish()).expect("writing into memory cannot fail")
}

/// The parts of a body, in one block.
fn folded(body: &str) -> Vec<u8> {
    let mut folder = Folder::new(VBUCKETS, FoldLimits::default(), NOW);
    folder.feed(body.as_bytes()).expect("the framing of a seed is right");
    let folded = folder.finish().expect("the framing of a seed is right");
    folded.parts.blocks().flat_map(|(_, block)| block).copied().collect()
}

fn states(block: &[u8]) -> impl Iterator<Item = (&str, &[u8])> {
    part::iter(block).map(|part| match part.expect("a folded part") {
        Part::State { tab, state, .. } => (tab, state),
        Part::Delete { tab } => panic!("folding never deletes {tab:?}"),
    })
}

fn batch(block: &[u8]) -> Vec<u8> {
    let mut writer = BatchWriter::new();
    writer.push_block(block);
    let id: BatchId = "host:1f/7".parse().expect("a valid id");
    writer.finish(&id, NOW)
}
