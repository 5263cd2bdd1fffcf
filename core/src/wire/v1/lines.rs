//! Cuts pieces of a body into lines without copying, except a line that straddles two pieces.
//!
//! A line ends at LF or at the end of the body; one CR before that is not part of it. How the body is
//! cut into pieces never shows in the lines.

use memchr::memchr;

/// One line of a body, without its line end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Line<'a> {
    /// Byte offset of its first byte in the body.
    pub offset: u64,
    /// Its bytes; only the first ones if it is too long.
    pub bytes: &'a [u8],
    /// Whether it is longer than the limit.
    pub too_long: bool,
}

/// The cutter. Memory: `carry` holds at most `line_bytes_max + 1` bytes (the one more may be the CR).
#[derive(Debug)]
pub(super) struct Lines {
    line_bytes_max: usize,
    /// Offset in the body of the next byte to be fed.
    offset: u64,
    /// The first bytes of a line whose end was not seen yet.
    carry: Vec<u8>,
    /// Length of that line so far; more than `carry` holds once the line is too long.
    carried: usize,
    /// `carry` was given out as a finished line and is free again.
    given_out: bool,
}

impl Lines {
    pub(super) fn new(line_bytes_max: usize) -> Self {
        Self { line_bytes_max, offset: 0, carry: Vec::new(), carried: 0, given_out: false }
    }

    /// Whether the next byte to be fed starts a line.
    #[inline]
    pub(super) fn at_line_start(&self) -> bool {
        self.given_out || self.carried == 0
    }

    /// Notes that the caller read `bytes` of whole lines by itself.
    #[inline]
    pub(super) fn skip(&mut self, bytes: usize) {
        self.offset += bytes as u64;
    }

    /// Takes the next line off the front of `piece`; `None` when all of it was taken.
    #[inline]
    pub(super) fn next<'a, 'p: 'a>(&'a mut self, piece: &mut &'p [u8]) -> Option<Line<'a>> {
        if self.given_out {
            self.given_out = false;
            self.carry.clear();
            self.carried = 0;
        }
        if piece.is_empty() {
            return None;
        }
        let Some(end) = memchr(b'\n', piece) else {
            self.keep(piece);
            *piece = &[];
            return None;
        };
        let (head, rest) = piece.split_at(end);
        *piece = &rest[1..];
        let offset = self.offset - self.carried as u64;
        self.offset += end as u64 + 1;
        if self.carried == 0 {
            return Some(finished(head, head.len(), offset, self.line_bytes_max));
        }
        self.offset -= end as u64;
        self.keep(head);
        self.given_out = true;
        Some(finished(&self.carry, self.carried, offset, self.line_bytes_max))
    }

    /// The last line, if the body did not end with a line end.
    pub(super) fn last(&mut self) -> Option<Line<'_>> {
        if self.at_line_start() {
            return None;
        }
        let offset = self.offset - self.carried as u64;
        Some(finished(&self.carry, self.carried, offset, self.line_bytes_max))
    }

    fn keep(&mut self, bytes: &[u8]) {
        let room = (self.line_bytes_max + 1).saturating_sub(self.carry.len());
        self.carry.extend_from_slice(&bytes[..bytes.len().min(room)]);
        self.carried += bytes.len();
        self.offset += bytes.len() as u64;
    }
}

/// A line of `len` bytes of which at least the first `line_bytes_max + 1` are given.
#[inline]
fn finished(bytes: &[u8], len: usize, offset: u64, line_bytes_max: usize) -> Line<'_> {
    // The last byte is at hand unless the line is so long that a CR would make no difference.
    let bytes = if bytes.len() == len { bytes.strip_suffix(b"\r").unwrap_or(bytes) } else { bytes };
    let too_long = bytes.len() > line_bytes_max;
    Line { offset, bytes: &bytes[..bytes.len().min(line_bytes_max)], too_long }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    type Owned = (u64, Vec<u8>, bool);

    fn cut(pieces: &[&[u8]], line_bytes_max: usize) -> Vec<Owned> {
        let mut lines = Lines::new(line_bytes_max);
        let mut out = Vec::new();
        for piece in pieces {
            let mut piece = *piece;
            while let Some(line) = lines.next(&mut piece) {
                out.push((line.offset, line.bytes.to_vec(), line.too_long));
            }
            assert!(lines.carry.len() <= line_bytes_max + 1, "the carry is bounded");
        }
        out.extend(lines.last().map(|line| (line.offset, line.bytes.to_vec(), line.too_long)));
        out
    }

    /// The naive model: the whole body at once.
    fn model(body: &[u8], line_bytes_max: usize) -> Vec<Owned> {
        let mut offset = 0;
        let mut out = Vec::new();
        for line in body.split_inclusive(|byte| *byte == b'\n') {
            let text = line.strip_suffix(b"\n").unwrap_or(line);
            let text = text.strip_suffix(b"\r").unwrap_or(text);
            let kept = text[..text.len().min(line_bytes_max)].to_vec();
            out.push((offset, kept, text.len() > line_bytes_max));
            offset += line.len() as u64;
        }
        out
    }

    proptest! {
        /// forall body, cuts: lines(pieces) == lines(body)
        #[test]
        fn cuts_never_show(
            body in proptest::collection::vec(prop_oneof![Just(b'\n'), Just(b'\r'), Just(b'a'), Just(b'b')], 0..60),
            cuts in proptest::collection::vec(0..60_usize, 0..6),
            line_bytes_max in 0..8_usize,
        ) {
            let mut cuts: Vec<_> = cuts.into_iter().map(|at| at.min(body.len())).collect();
            cuts.sort_unstable();
            cuts.push(body.len());
            let mut start = 0;
            let mut pieces = Vec::new();
            for end in cuts {
                pieces.push(&body[start..end]);
                start = end;
            }
            prop_assert_eq!(cut(&pieces, line_bytes_max), model(&body, line_bytes_max));
        }
    }
}
