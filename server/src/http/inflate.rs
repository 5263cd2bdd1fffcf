//! Undoes a body's compression in bounded windows: whatever the ratio, one window of output exists at a
//! time. Knows nothing of HTTP bodies or limits; [`super::body`] feeds it and counts.

use flate2::{Decompress, FlushDecompress, Status};
use zstd::stream::raw::{DParameter, Decoder as ZstdDecoder, InBuffer, Operation, OutBuffer};

/// Bytes of output per step. A post holds one such window, so 512 posts hold 32 MiB.
pub const WINDOW_BYTES: usize = 64 << 10;

/// Largest zstd window accepted, as a power of two: 8 MiB, what RFC 9659 lets HTTP use. A post holds one.
const ZSTD_WINDOW_LOG_MAX: u32 = 23;

/// What a gzip or zlib stream may look back, as a power of two.
const DEFLATE_WINDOW_BITS: u8 = 15;

/// How a body is compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Encoding {
    /// Not at all.
    Identity,
    /// gzip, one member or several.
    Gzip,
    /// `Content-Encoding: deflate`: zlib, but many clients send raw deflate.
    Deflate,
    /// zlib and nothing else: `/post_zip`.
    Zlib,
    /// zstd, one frame or several.
    Zstd,
}

/// Why a compressed body cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum InflateError {
    /// The bytes are not what the encoding says, or a checksum is wrong.
    #[error("the body is not a valid {0:?} stream")]
    Corrupt(Encoding),
    /// The body ends within the stream.
    #[error("the compressed body is cut off")]
    Truncated,
    /// Bytes follow the end of the stream.
    #[error("bytes follow the end of the compressed body")]
    Trailing,
}

/// Inflates one body.
pub struct Inflater {
    encoding: Encoding,
    kind: Kind,
    window: Box<[u8]>,
    /// No byte was fed yet.
    empty: bool,
    /// The stream, member or frame that was begun is complete.
    complete: bool,
}

enum Kind {
    /// Deflate whose first byte was seen; the second decides between zlib and raw.
    Undecided(Option<u8>),
    Flate(Box<Decompress>),
    Zstd(ZstdDecoder<'static>),
}

impl Inflater {
    /// An inflater for one body; `None` for [`Encoding::Identity`], which needs none.
    #[must_use]
    pub fn new(encoding: Encoding) -> Option<Self> {
        let kind = match encoding {
            Encoding::Identity => return None,
            Encoding::Gzip => Kind::Flate(Box::new(Decompress::new_gzip(DEFLATE_WINDOW_BITS))),
            Encoding::Zlib => Kind::Flate(Box::new(Decompress::new(true))),
            Encoding::Deflate => Kind::Undecided(None),
            Encoding::Zstd => Kind::Zstd(zstd_decoder()),
        };
        let window = vec![0; WINDOW_BYTES].into_boxed_slice();
        Some(Self { encoding, kind, window, empty: true, complete: false })
    }

    /// Takes bytes off the front of `input` and gives what they inflate to, at most one window. Call it
    /// until `input` is empty and nothing comes out any more.
    ///
    /// # Errors
    /// [`InflateError::Corrupt`], [`InflateError::Trailing`].
    pub fn step(&mut self, input: &mut &[u8]) -> Result<&[u8], InflateError> {
        self.empty &= input.is_empty();
        if self.complete && !input.is_empty() {
            self.begin_next()?;
        }
        if let Kind::Undecided(first) = &mut self.kind {
            let Some((&next, rest)) = input.split_first() else { return Ok(&[]) };
            let Some(first) = *first else {
                *first = Some(next);
                *input = rest;
                return Ok(&[]);
            };
            self.decide(first, next)?;
        }
        if self.complete {
            return Ok(&[]);
        }
        let produced = match &mut self.kind {
            Kind::Flate(flate) => flate_step(flate, input, &mut self.window, &mut self.complete),
            Kind::Zstd(decoder) => zstd_step(decoder, input, &mut self.window, &mut self.complete),
            Kind::Undecided(_) => Ok(0),
        };
        match produced {
            Ok(produced) => Ok(&self.window[..produced]),
            Err(()) => Err(InflateError::Corrupt(self.encoding)),
        }
    }

    /// Ends the body. One without any byte is an empty body, not a broken stream.
    ///
    /// # Errors
    /// [`InflateError::Truncated`].
    pub fn finish(&self) -> Result<(), InflateError> {
        if self.complete || self.empty { Ok(()) } else { Err(InflateError::Truncated) }
    }

    /// gzip members and zstd frames may follow each other; a zlib stream stands alone.
    fn begin_next(&mut self) -> Result<(), InflateError> {
        match (&mut self.kind, self.encoding) {
            (Kind::Flate(flate), Encoding::Gzip) => flate.reset(true),
            (Kind::Zstd(_), _) => {}
            _ => return Err(InflateError::Trailing),
        }
        self.complete = false;
        Ok(())
    }

    /// RFC 1950: the first two bytes of zlib name method 8 and are divisible by 31 together. The stream
    /// begins with `first`, which was taken off the input before.
    fn decide(&mut self, first: u8, next: u8) -> Result<(), InflateError> {
        let zlib =
            first & 0x0f == 8 && first >> 4 <= 7 && u16::from_be_bytes([first, next]).is_multiple_of(31);
        let mut flate = Box::new(Decompress::new(zlib));
        // One byte never makes output.
        flate_step(&mut flate, &mut &[first][..], &mut self.window, &mut self.complete)
            .map_err(|()| InflateError::Corrupt(self.encoding))?;
        self.kind = Kind::Flate(flate);
        Ok(())
    }
}

fn zstd_decoder() -> ZstdDecoder<'static> {
    let mut decoder = ZstdDecoder::new().expect("a decoder without a dictionary needs only memory");
    decoder.set_parameter(DParameter::WindowLogMax(ZSTD_WINDOW_LOG_MAX)).expect("23 is within zstd's range");
    decoder
}

fn flate_step(
    flate: &mut Decompress,
    input: &mut &[u8],
    window: &mut [u8],
    complete: &mut bool,
) -> Result<usize, ()> {
    let (before_in, before_out) = (flate.total_in(), flate.total_out());
    let status = flate.decompress(input, window, FlushDecompress::None).map_err(|_| ())?;
    *complete = status == Status::StreamEnd;
    *input = &input[(flate.total_in() - before_in) as usize..];
    Ok((flate.total_out() - before_out) as usize)
}

fn zstd_step(
    decoder: &mut ZstdDecoder<'_>,
    input: &mut &[u8],
    window: &mut [u8],
    complete: &mut bool,
) -> Result<usize, ()> {
    let mut source = InBuffer::around(input);
    let mut sink = OutBuffer::around(window);
    // The hint is 0 when a frame ended and everything of it was written out.
    *complete = decoder.run(&mut source, &mut sink).map_err(|_| ())? == 0;
    let (taken, produced) = (source.pos(), sink.pos());
    *input = &input[taken..];
    Ok(produced)
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use flate2::Compression;
    use flate2::write::{DeflateEncoder, GzEncoder, ZlibEncoder};

    use super::*;

    fn inflate(encoding: Encoding, body: &[u8], piece: usize) -> Result<Vec<u8>, InflateError> {
        let mut inflater = Inflater::new(encoding).expect("a compressed encoding");
        let mut inflated = Vec::new();
        for mut input in body.chunks(piece) {
            loop {
                let (before, produced) = (input.len(), inflater.step(&mut input)?.to_vec());
                inflated.extend_from_slice(&produced);
                if input.is_empty() && produced.is_empty() {
                    break;
                }
                assert!(input.len() < before || !produced.is_empty(), "no progress");
            }
        }
        inflater.finish().map(|()| inflated)
    }

    /// A text of several windows that compresses well but not to nothing.
    fn text() -> Vec<u8> {
        (0..40_000_u32).flat_map(|line| format!("line {line}\n").into_bytes()).collect()
    }

    fn compressed(encoding: Encoding, text: &[u8]) -> Vec<u8> {
        let level = Compression::default();
        match encoding {
            Encoding::Identity => text.to_vec(),
            Encoding::Gzip => write_all(GzEncoder::new(Vec::new(), level), text, GzEncoder::finish),
            Encoding::Zlib => write_all(ZlibEncoder::new(Vec::new(), level), text, ZlibEncoder::finish),
            Encoding::Deflate => {
                write_all(DeflateEncoder::new(Vec::new(), level), text, DeflateEncoder::finish)
            }
            Encoding::Zstd => zstd::encode_all(text, 3).unwrap(),
        }
    }

    fn write_all<W: Write>(
        mut encoder: W,
        text: &[u8],
        finish: impl FnOnce(W) -> std::io::Result<Vec<u8>>,
    ) -> Vec<u8> {
        encoder.write_all(text).unwrap();
        finish(encoder).unwrap()
    }

    const COMPRESSED: [Encoding; 4] = [Encoding::Gzip, Encoding::Zlib, Encoding::Deflate, Encoding::Zstd];

    #[test]
    fn every_encoding_inflates_in_pieces_of_any_size() {
        for encoding in COMPRESSED {
            let body = compressed(encoding, &text());
            for piece in [1, 2, 1000, body.len()] {
                assert!(inflate(encoding, &body, piece).unwrap() == text(), "{encoding:?} by {piece}");
            }
        }
    }

    #[test]
    fn deflate_takes_zlib_and_raw() {
        let zlib = compressed(Encoding::Zlib, &text());
        assert!(inflate(Encoding::Deflate, &zlib, 7).unwrap() == text());
    }

    #[test]
    fn a_cut_anywhere_is_an_error() {
        for encoding in COMPRESSED {
            let body = compressed(encoding, b"a short text");
            for length in 1..body.len() {
                let cut = inflate(encoding, &body[..length], 3);
                assert!(matches!(cut, Err(InflateError::Truncated)), "{encoding:?} cut at {length}: {cut:?}");
            }
        }
    }

    #[test]
    fn no_bytes_at_all_are_an_empty_body() {
        for encoding in COMPRESSED {
            assert_eq!(inflate(encoding, b"", 1).unwrap(), b"");
        }
    }

    #[test]
    fn bytes_after_the_end_are_refused_unless_they_are_another_member_or_frame() {
        for encoding in COMPRESSED {
            let body = compressed(encoding, b"text");
            let twice = inflate(encoding, &[body.clone(), body.clone()].concat(), 5);
            match encoding {
                Encoding::Gzip | Encoding::Zstd => assert_eq!(twice.unwrap(), b"texttext"),
                _ => assert!(matches!(twice, Err(InflateError::Trailing)), "{encoding:?}: {twice:?}"),
            }
            assert!(inflate(encoding, &[body, b"garbage!".to_vec()].concat(), 5).is_err(), "{encoding:?}");
        }
    }

    #[test]
    fn wrong_bytes_and_wrong_checksums_are_refused() {
        for encoding in [Encoding::Gzip, Encoding::Zlib, Encoding::Zstd] {
            assert!(matches!(inflate(encoding, b"1\n\nplain text", 4), Err(InflateError::Corrupt(_))));
        }
        let mut body = compressed(Encoding::Zlib, b"text");
        *body.last_mut().unwrap() ^= 1;
        assert!(matches!(inflate(Encoding::Zlib, &body, 4), Err(InflateError::Corrupt(Encoding::Zlib))));
    }

    #[test]
    fn a_zstd_window_beyond_the_limit_is_refused() {
        let mut encoder = zstd::stream::Encoder::new(Vec::new(), 1).unwrap();
        encoder.window_log(ZSTD_WINDOW_LOG_MAX + 1).unwrap();
        encoder.include_contentsize(false).unwrap();
        encoder.write_all(&text()).unwrap();
        let body = encoder.finish().unwrap();
        assert!(matches!(inflate(Encoding::Zstd, &body, 999), Err(InflateError::Corrupt(_))));
    }
}
