//! The example of `docs/wire.md` is what the decoder reads.

use taba_core::fold::FoldLimits;
use taba_core::wire::v2::{Batch, BatchWriter};
use taba_core::{BatchId, Event, Format, Part, Payload, State, TabType, Timestamp, VbucketCount, part};

const NOW: Timestamp = Timestamp::from_secs(1_394_047_812);

fn example() -> Vec<u8> {
    let mut state = State::new(TabType::TotalsCounter);
    let event = Event { time: NOW, ordinal: 0, payload: Payload::Number(2.5) };
    state.fold("c1", &event, NOW).expect("a number fits");
    let mut bytes = Vec::new();
    state.encode(&mut bytes);
    let mut writer = BatchWriter::new();
    writer.push(&Part::State { tab: "n1", client: "c1", events: 1, state: &bytes });
    let id: BatchId = "c1:7f/1".parse().expect("a valid id");
    writer.finish(&id, NOW)
}

/// The bytes of the table, in order: its second column.
fn documented() -> Vec<u8> {
    let text = include_str!("../../docs/wire.md");
    let table =
        text.split("| offset | v2 bytes (hex) | meaning |").nth(1).expect("the document has the table");
    let rows = table.lines().skip(2).take_while(|line| line.starts_with('|'));
    let hex: String = rows.map(|row| row.split('`').nth(1).expect("a row shows bytes")).collect();
    let digits: Vec<u8> = hex.bytes().filter(u8::is_ascii_hexdigit).collect();
    let byte = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).expect("ASCII"), 16).expect("hex");
    digits.chunks(2).map(byte).collect()
}

#[test]
fn the_example_of_the_document_is_a_batch() {
    let bytes = documented();
    let batch = Batch::decode(&bytes).expect("the document's bytes are a batch");
    assert_eq!((batch.id.to_string().as_str(), batch.created), ("c1:7f/1", NOW));
    let vbuckets = VbucketCount::new(1).expect("a valid count");
    let folded = batch.parts(vbuckets, &FoldLimits::default(), NOW).expect("its parts are sound");
    assert_eq!((folded.events, folded.bad.total()), (1, 0));
    let (_, block) = folded.parts.blocks().next().expect("one part");
    let Some(Ok(Part::State { tab: "n1", client: "c1", events: 1, state })) = part::iter(block).next() else {
        panic!("the part the document describes");
    };
    let mut text = String::new();
    State::decode(state).expect("a sound state").render(NOW, Format::Plain, &mut text);
    assert_eq!(text, r#"{"count": 1, "total": 2.50, "average": 2.50}"#);
}

#[test]
fn what_is_written_is_what_the_document_shows() {
    // Compressors differ from version to version, so the frame is compared by what it holds.
    let (written, documented) = (example(), documented());
    let head = |bytes: &[u8]| Batch::decode(bytes).expect("a batch").inflate(1000).expect("it inflates");
    assert_eq!(head(&written), head(&documented), "written:\n{written:02x?}");
}
