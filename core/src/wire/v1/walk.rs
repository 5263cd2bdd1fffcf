//! Reads the framing and hands event lines on, raw.
//!
//! A forwarder can stand on this layer: it learns which client and tab a line belongs to without a
//! look into it. The framing is read as the first Taba read it, with one repair. A tab with an empty
//! name looks like the end of its client, and its first event then stands where a client id is due. No
//! client id reads as an event, so such a line takes the walk back into the client before it, as an
//! event of a tab without a name: the tabs that follow stay where they belong.

use super::FramingError;
use super::event::EventLine;
use super::lines::{Line, Lines};
use crate::bad::BadReason;
use crate::name;

/// Takes what a [`Walker`] finds.
pub trait Sink {
    /// Why the sink gives up on the body.
    type Error: From<FramingError>;

    /// A block of a tab begins; both names are valid. The same pair may come again.
    ///
    /// # Errors
    /// If the sink gives up on the body.
    fn tab(&mut self, client: &str, tab: &str) -> Result<(), Self::Error>;

    /// An event line of the block; neither empty nor too long, otherwise unchecked.
    ///
    /// # Errors
    /// If the sink gives up on the body.
    fn event(&mut self, line: Line<'_>) -> Result<(), Self::Error>;

    /// An event that cannot count, in a block or not.
    fn bad(&mut self, reason: BadReason, line: Line<'_>);

    /// The block ended. A block with a bad name neither begins nor ends.
    ///
    /// # Errors
    /// If the sink gives up on the body.
    fn tab_end(&mut self) -> Result<(), Self::Error>;

    /// A chance to take event lines off the front of the body by itself, faster than one by one: gives
    /// back how many bytes of whole lines, line ends included, it took. What it takes must end up as if
    /// it had come through [`Sink::event`].
    fn events(&mut self, _bytes: &[u8]) -> usize {
        0
    }
}

/// What the next line is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    Version,
    AfterVersion,
    Client,
    AfterClient,
    Tab,
    /// An event, or the blank line that ends the tab.
    Event,
    /// As `Event`, in a block whose client or tab has a bad name.
    Nameless,
}

/// Walks a v1 body that is fed in pieces cut anywhere.
#[derive(Debug)]
pub struct Walker {
    lines: Lines,
    framing: Framing,
}

/// The state of the walk between lines.
#[derive(Debug)]
struct Framing {
    place: Place,
    /// The client of the block, or of the last one; empty if its id is bad.
    client: String,
    any_client: bool,
}

impl Walker {
    /// A walker for one body. A line longer than `line_bytes_max` is one bad event, or a bad name.
    #[must_use]
    pub fn new(line_bytes_max: usize) -> Self {
        let framing = Framing { place: Place::Version, client: String::new(), any_client: false };
        Self { lines: Lines::new(line_bytes_max), framing }
    }

    /// Takes the next bytes of the body.
    ///
    /// # Errors
    /// [`FramingError`] as the sink's error, or the sink's own; the body is to be refused as a whole.
    #[inline]
    pub fn feed<S: Sink>(&mut self, mut piece: &[u8], sink: &mut S) -> Result<(), S::Error> {
        loop {
            if self.framing.place == Place::Event && self.lines.at_line_start() {
                let taken = sink.events(piece);
                self.lines.skip(taken);
                piece = &piece[taken..];
            }
            match self.lines.next(&mut piece) {
                Some(line) => self.framing.step(line, sink)?,
                None => return Ok(()),
            }
        }
    }

    /// Ends the body. Missing blank lines at its end are fine.
    ///
    /// # Errors
    /// As [`Walker::feed`].
    pub fn finish<S: Sink>(mut self, sink: &mut S) -> Result<(), S::Error> {
        if let Some(line) = self.lines.last() {
            self.framing.step(line, sink)?;
        }
        if self.framing.place == Place::Event { sink.tab_end() } else { Ok(()) }
    }
}

impl Framing {
    fn step<S: Sink>(&mut self, line: Line<'_>, sink: &mut S) -> Result<(), S::Error> {
        let blank = line.bytes.is_empty() && !line.too_long;
        self.place = match self.place {
            Place::Version => expect(
                line.bytes == b"1" && !line.too_long,
                Place::AfterVersion,
                line,
                "expected the version, 1",
            )?,
            Place::AfterVersion => {
                expect(blank, Place::Client, line, "expected a blank line after the version")?
            }
            Place::Client => self.client(line, sink),
            Place::AfterClient => expect(blank, Place::Tab, line, "expected a blank line after a client id")?,
            Place::Tab if blank => Place::Client,
            Place::Tab => self.tab(line, sink)?,
            Place::Event if blank => {
                sink.tab_end()?;
                Place::Tab
            }
            Place::Nameless if blank => Place::Tab,
            place @ (Place::Event | Place::Nameless) if line.too_long => {
                sink.bad(BadReason::LineTooLong, line);
                place
            }
            Place::Event => {
                sink.event(line)?;
                Place::Event
            }
            Place::Nameless => {
                sink.bad(BadReason::BadName, line);
                Place::Nameless
            }
        };
        Ok(())
    }

    fn client<S: Sink>(&mut self, line: Line<'_>, sink: &mut S) -> Place {
        if self.any_client && reads_as_event(line) {
            sink.bad(BadReason::BadName, line);
            return Place::Nameless;
        }
        self.any_client = true;
        self.client.clear();
        // An empty client is how a bad one is remembered, because no good one is empty.
        self.client.push_str(valid_name(line).unwrap_or_default());
        Place::AfterClient
    }

    fn tab<S: Sink>(&mut self, line: Line<'_>, sink: &mut S) -> Result<Place, S::Error> {
        match valid_name(line) {
            Some(tab) if !self.client.is_empty() => {
                sink.tab(&self.client, tab)?;
                return Ok(Place::Event);
            }
            Some(_) => {}
            // A stray blank line inside a tab: what looks like a name is an event that has lost its tab.
            None if reads_as_event(line) => sink.bad(BadReason::BadName, line),
            None => {}
        }
        Ok(Place::Nameless)
    }
}

fn expect(holds: bool, next: Place, line: Line<'_>, what: &'static str) -> Result<Place, FramingError> {
    if holds { Ok(next) } else { Err(FramingError { offset: line.offset, what }) }
}

fn valid_name(line: Line<'_>) -> Option<&str> {
    if line.too_long { None } else { name::check(line.bytes).ok() }
}

fn reads_as_event(line: Line<'_>) -> bool {
    line.bytes.starts_with(b"[") && !line.too_long && EventLine::parse(line.bytes).is_some()
}

#[cfg(test)]
mod tests;
