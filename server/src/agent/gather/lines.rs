//! Gathers event lines as they came, for servers of the first Taba: one request per client, at most
//! 60,000 events each, zlib-compressed, without ids (that server knows none).
//!
//! ```text
//! block = (client:prefixed tab:prefixed events:varint lines:prefixed)*     each line ends in LF
//! ```

use std::collections::BTreeMap;
use std::io::Write as _;

use flate2::Compression;
use flate2::write::ZlibEncoder;
use taba_core::wire::bytes::{Malformed, Reader, put_prefixed, put_varint};
use taba_core::wire::v1::event::EventLine;
use taba_core::wire::v1::{FramingError, Line, Sink, Walker};
use taba_core::{BadCounts, BadReason};

use super::{BadBlock, Contribution, Sealed};

/// Most events per request, as the first Taba's agent sent.
const REQUEST_EVENTS_MAX: u64 = 60_000;

/// Memory of a tab besides its name and lines: map slot and vector.
const TAB_OVERHEAD_BYTES: usize = 128;

/// Lines by client and tab.
#[derive(Debug, Default)]
pub struct LineGather {
    clients: BTreeMap<Box<str>, BTreeMap<Box<str>, Lines>>,
    bytes: usize,
    events: u64,
}

#[derive(Debug, Default)]
struct Lines {
    text: Vec<u8>,
    events: u64,
}

impl LineGather {
    /// See [`super::Gather::add`].
    pub fn add(&mut self, block: &[u8]) -> Result<(), BadBlock> {
        let mut reader = Reader::new(block);
        while !reader.is_empty() {
            self.add_tab(&mut reader).map_err(|_: Malformed| BadBlock::UNREADABLE)?;
        }
        Ok(())
    }

    fn add_tab(&mut self, reader: &mut Reader<'_>) -> Result<(), Malformed> {
        let offset = reader.offset();
        let name = |bytes| std::str::from_utf8(bytes).map_err(|_| Malformed { offset });
        let (client, tab) = (name(reader.prefixed()?)?, name(reader.prefixed()?)?);
        let (events, text) = (reader.varint()?, reader.prefixed()?);
        let tabs = match self.clients.get_mut(client) {
            Some(tabs) => tabs,
            None => self.clients.entry(client.into()).or_default(),
        };
        let lines = match tabs.get_mut(tab) {
            Some(lines) => lines,
            None => {
                self.bytes += client.len() + tab.len() + TAB_OVERHEAD_BYTES;
                tabs.entry(tab.into()).or_default()
            }
        };
        lines.text.extend_from_slice(text);
        lines.events += events;
        self.bytes += text.len();
        self.events += events;
        Ok(())
    }

    /// See [`super::Gather::bytes`].
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// See [`super::Gather::events`].
    #[must_use]
    pub fn events(&self) -> u64 {
        self.events
    }

    /// See [`super::Gather::seal`].
    #[must_use]
    pub fn seal(self) -> Vec<Sealed> {
        let mut sealed = Vec::new();
        for (client, tabs) in &self.clients {
            let mut request = Request::new(client);
            for (tab, lines) in tabs {
                let mut rest = lines.text.as_slice();
                while !rest.is_empty() {
                    rest = request.push(tab, rest);
                    if request.events == REQUEST_EVENTS_MAX {
                        sealed.push(std::mem::replace(&mut request, Request::new(client)).finish());
                    }
                }
            }
            if request.events > 0 {
                sealed.push(request.finish());
            }
        }
        sealed
    }
}

/// One request to `/post_zip`.
struct Request {
    text: Vec<u8>,
    events: u64,
}

impl Request {
    fn new(client: &str) -> Self {
        Self { text: format!("1\n\n{client}\n\n").into_bytes(), events: 0 }
    }

    /// Adds lines of a tab until the request is full and gives back the rest.
    fn push<'a>(&mut self, tab: &str, lines: &'a [u8]) -> &'a [u8] {
        self.text.extend_from_slice(tab.as_bytes());
        self.text.push(b'\n');
        let mut end = 0;
        for line in lines.split_inclusive(|byte| *byte == b'\n') {
            if self.events == REQUEST_EVENTS_MAX {
                break;
            }
            end += line.len();
            self.events += 1;
        }
        self.text.extend_from_slice(&lines[..end]);
        self.text.push(b'\n');
        &lines[end..]
    }

    fn finish(mut self) -> Sealed {
        self.text.push(b'\n');
        let mut zlib = ZlibEncoder::new(Vec::new(), Compression::default());
        zlib.write_all(&self.text).expect("writing to a vector never fails");
        let body = zlib.finish().expect("writing to a vector never fails");
        Sealed { id: None, body, events: self.events }
    }
}

/// Reads a v1 body into a block, lines untouched.
///
/// A line that is no event is left out and counted: the first Taba's server would lose up to 50,000
/// events of the same tab with it.
pub struct LineReader {
    walker: Walker,
    collector: Collector,
}

struct Collector {
    contribution: Contribution,
    text: Vec<u8>,
    events: u64,
    client: String,
    tab: String,
}

impl LineReader {
    /// A reader for one body.
    #[must_use]
    pub fn new(line_bytes_max: usize) -> Self {
        let collector = Collector {
            contribution: Contribution::default(),
            text: Vec::new(),
            events: 0,
            client: String::new(),
            tab: String::new(),
        };
        Self { walker: Walker::new(line_bytes_max), collector }
    }

    /// Takes the next bytes of the body.
    ///
    /// # Errors
    /// [`FramingError`]: the body is to be refused as a whole.
    pub fn feed(&mut self, bytes: &[u8]) -> Result<(), FramingError> {
        self.walker.feed(bytes, &mut self.collector)
    }

    /// Bytes held so far.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.collector.contribution.block.len() + self.collector.text.len()
    }

    /// Ends the body.
    ///
    /// # Errors
    /// [`FramingError`]: the body is to be refused as a whole.
    pub fn finish(mut self) -> Result<Contribution, FramingError> {
        self.walker.finish(&mut self.collector)?;
        Ok(self.collector.contribution)
    }
}

impl Sink for Collector {
    type Error = FramingError;

    fn tab(&mut self, client: &str, tab: &str) -> Result<(), FramingError> {
        self.client.clear();
        self.client.push_str(client);
        self.tab.clear();
        self.tab.push_str(tab);
        Ok(())
    }

    fn event(&mut self, line: Line<'_>) -> Result<(), FramingError> {
        if EventLine::parse(line.bytes).is_none() {
            self.bad(BadReason::BadJson, line);
            return Ok(());
        }
        self.text.extend_from_slice(line.bytes);
        self.text.push(b'\n');
        self.events += 1;
        Ok(())
    }

    fn bad(&mut self, reason: BadReason, _line: Line<'_>) {
        let bad: &mut BadCounts = &mut self.contribution.bad;
        bad.add(reason, 1);
    }

    fn tab_end(&mut self) -> Result<(), FramingError> {
        if self.events > 0 {
            let block = &mut self.contribution.block;
            put_prefixed(block, self.client.as_bytes());
            put_prefixed(block, self.tab.as_bytes());
            put_varint(block, self.events);
            put_prefixed(block, &self.text);
            self.contribution.events += self.events;
        }
        self.text.clear();
        self.events = 0;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use super::*;

    fn read(body: &str) -> Contribution {
        let mut reader = LineReader::new(1 << 20);
        reader.feed(body.as_bytes()).expect("good framing");
        reader.finish().expect("good framing")
    }

    fn inflated(sealed: &Sealed) -> String {
        let mut text = String::new();
        flate2::read::ZlibDecoder::new(sealed.body.as_slice()).read_to_string(&mut text).expect("zlib");
        text
    }

    #[test]
    fn posts_of_a_client_become_one_request_with_the_lines_as_they_came() {
        let mut gather = LineGather::default();
        let first = r#"["CounterGroup",1394047812,"1"]"#;
        let second = r#"["CounterGroup", 1394047812.35, "2"]"#;
        gather.add(&read(&format!("1\n\nc\n\nn\n{first}\n\n\n")).block).expect("a good block");
        gather.add(&read(&format!("1\n\nc\n\nn\n{second}\n\nm\n{first}\n\n\n")).block).expect("a good block");
        let sealed = gather.seal();
        assert_eq!(sealed.len(), 1);
        assert_eq!((sealed[0].events, sealed[0].id.is_none()), (3, true));
        assert_eq!(inflated(&sealed[0]), format!("1\n\nc\n\nm\n{first}\n\nn\n{first}\n{second}\n\n\n"));
    }

    #[test]
    fn a_request_holds_one_client_and_at_most_60_000_events() {
        let lines = "[\"CounterGroup\", 1, \"1\"]\n".repeat(60_001);
        let mut gather = LineGather::default();
        gather
            .add(&read(&format!("1\n\na\n\nn\n{lines}\n\nb\n\nn\n{}\n\n", &lines[..24])).block)
            .expect("good");
        let events: Vec<u64> = gather.seal().iter().map(|request| request.events).collect();
        assert_eq!(events, [60_000, 1, 1]);
    }

    #[test]
    fn one_bad_line_is_left_out_and_its_neighbours_are_kept() {
        let good = r#"["CounterGroup", 1, "1"]"#;
        let contribution = read(&format!("1\n\nc\n\nn\nnot an event\n{good}\n\n\n"));
        assert_eq!(contribution.events, 1);
        assert_eq!(contribution.bad.get(BadReason::BadJson), 1);
    }

    #[test]
    fn damaged_blocks_are_an_error() {
        let block = read("1\n\nc\n\nn\n[\"CounterGroup\", 1, \"1\"]\n\n\n").block;
        for end in 1..block.len() {
            assert_eq!(LineGather::default().add(&block[..end]), Err(BadBlock::UNREADABLE), "cut at {end}");
        }
    }
}
