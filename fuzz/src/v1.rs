//! Bodies of the line protocol: plain and from zlib.

use std::io::Read as _;

use flate2::read::ZlibDecoder;
use taba_core::fold::{FoldError, Folded, Folder};
use taba_core::part::Parts;

use crate::meter::{Bound, bounded};
use crate::{NOW, VBUCKETS, check_folded, limits};

/// Columns of a block and its scratch states are the base. A tab of 30 bytes becomes a part that repeats a
/// client id of 256, and a growing block of parts holds its bytes up to three times: 30 for each byte.
const FOLD_BOUND: Bound = Bound { base: 256 << 10, per_byte: 64 };

/// Most bytes inflated from one input: more than any seed needs, and bounds the time of a bomb.
const INFLATED_BYTES_MAX: usize = 1 << 20;

/// Folds a body whole and in pieces; both must come to the same.
///
/// The input says how it is cut: the low four bits of its first byte say how many of the next bytes are
/// lengths of pieces (0 stands for 256 bytes); they take turns until the body ends.
pub fn v1_decoder(input: &[u8]) {
    let Some((lengths, body)) = cuts(input) else { return };
    let whole = fold([body].into_iter(), body.len());
    if let Ok(folded) = &whole {
        check_folded(folded);
        let lines = body.iter().filter(|byte| **byte == b'\n').count() as u64 + 1;
        assert!(folded.events + folded.bad.total() <= lines, "a line was counted twice");
    }
    let in_pieces = fold(Pieces { body, lengths, next: 0 }, body.len());
    assert_same(&whole, &in_pieces);
}

/// Folds what a zlib stream inflates to, as the server does on `/post_zip`.
pub fn zlib_body(input: &[u8]) {
    let mut inflated = 0;
    let mut stream = ZlibDecoder::new(input).take(INFLATED_BYTES_MAX as u64);
    let mut piece = [0; 4096];
    let mut pieces = Vec::new();
    // A broken stream is folded as far as it inflates.
    while let Ok(length @ 1..) = stream.read(&mut piece) {
        inflated += length;
        pieces.push(piece[..length].to_vec());
    }
    let folded = fold(pieces.iter().map(Vec::as_slice), inflated);
    if let Ok(folded) = folded {
        check_folded(&folded);
    }
}

fn fold<'a>(pieces: impl Iterator<Item = &'a [u8]>, body_bytes: usize) -> Result<Folded, FoldError> {
    bounded(FOLD_BOUND, body_bytes, || {
        let mut folder = Folder::new(VBUCKETS, limits(), NOW);
        for piece in pieces {
            folder.feed(piece)?;
        }
        folder.finish()
    })
}

fn cuts(input: &[u8]) -> Option<(&[u8], &[u8])> {
    let (first, rest) = input.split_first()?;
    rest.split_at_checked(usize::from(first & 0x0f))
}

struct Pieces<'a> {
    body: &'a [u8],
    lengths: &'a [u8],
    next: usize,
}

impl<'a> Iterator for Pieces<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        if self.body.is_empty() {
            return None;
        }
        let turn = self.next % self.lengths.len().max(1);
        self.next += 1;
        let length = match self.lengths.get(turn) {
            None | Some(0) => 256,
            Some(&length) => usize::from(length),
        };
        let (piece, rest) = self.body.split_at(length.min(self.body.len()));
        self.body = rest;
        Some(piece)
    }
}

#[track_caller]
fn assert_same(whole: &Result<Folded, FoldError>, in_pieces: &Result<Folded, FoldError>) {
    match (whole, in_pieces) {
        (Ok(whole), Ok(in_pieces)) => {
            assert_eq!(whole.events, in_pieces.events);
            assert_eq!(whole.bad, in_pieces.bad);
            assert_eq!(whole.bad_samples, in_pieces.bad_samples);
            assert_eq!(blocks(&whole.parts), blocks(&in_pieces.parts));
        }
        (Err(whole), Err(in_pieces)) => assert_eq!(whole, in_pieces),
        (whole, in_pieces) => panic!("whole: {whole:?}\nin pieces: {in_pieces:?}"),
    }
}

fn blocks(parts: &Parts) -> Vec<(u16, &[u8])> {
    parts.blocks().map(|(vbucket, block)| (vbucket.0, block)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_byte_says_how_the_body_is_cut() {
        let (lengths, body) = cuts(&[0xf2, 1, 3, b'a', b'b', b'c', b'd', b'e']).expect("a whole input");
        let pieces: Vec<_> = Pieces { body, lengths, next: 0 }.collect();
        assert_eq!(pieces, [b"a".as_slice(), b"bcd", b"e"]);
        assert_eq!(cuts(&[3, 1]), None);
    }
}
