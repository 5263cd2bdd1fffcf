//! Columns of numbers and of counts, as states and sketches write them.
//!
//! Measurements are mostly integers or decimals with few places, so a column of values is written as
//! integers in units of 10^-k with the smallest k that gives back every value bit for bit; else as raw
//! floats. One tag byte per column says which. Counts are written as differences, because neighbours
//! hold about as many.
//!
//! ```text
//! values = tag:u8 item*     tag & 7 = k (0 to 6): integers; 7: 8-byte floats. tag & 8: zigzag
//! series = tag:u8 item*     as values, each integer minus the one before it, always zigzag
//! counts = n:varint [first:zigzag entry*]
//! entry  = (0 gap:varint)? (zigzag(count - count before) + 1):varint
//! ```
//!
//! Reading is total: it refuses what is not finite, does not fit or would overflow, and reserves no more
//! than the bytes left can hold.

use crate::vectors::{self, Vectors};
use crate::wire::bytes::{Malformed, Reader, put_varint, put_zigzag};

/// Counts stop here, so that sums and differences of two never overflow. Only hostile states reach it.
pub(crate) const COUNT_MAX: u64 = 1 << 62;

const POWERS: [f64; 7] = [1.0, 10.0, 100.0, 1e3, 1e4, 1e5, 1e6];
const TAG_RAW: u8 = 7;
const TAG_SIGNED: u8 = 8;

/// Integers up to here are written; beyond it the rounding trick of [`nearest`] does not hold.
const UNITS_MAX: f64 = (1_u64 << 51) as f64;

/// Adds counts; stops at [`COUNT_MAX`].
#[inline]
pub(crate) fn add_counts(a: u64, b: u64) -> u64 {
    (a + b).min(COUNT_MAX)
}

/// Adds sums; stops at the largest finite float, so that a sum is never infinite or NaN.
#[inline]
pub(crate) fn add_sums(a: f64, b: f64) -> f64 {
    (a + b).clamp(f64::MIN, f64::MAX)
}

/// A value `count` times; as [`add_sums`], never infinite.
#[inline]
pub(crate) fn times(value: f64, count: u64) -> f64 {
    (value * count as f64).clamp(f64::MIN, f64::MAX)
}

/// The sum of finite values. Four partial sums do not wait for each other; none of them can become NaN,
/// because what became infinite stays so.
#[inline]
pub(crate) fn sum(values: &[f64]) -> f64 {
    let mut partial = [0.0; 4];
    let (fours, rest) = values.as_chunks::<4>();
    for four in fours {
        partial.iter_mut().zip(four).for_each(|(sum, value)| *sum += value);
    }
    partial.iter_mut().zip(rest).for_each(|(sum, value)| *sum += value);
    partial.into_iter().fold(0.0, |sum, part| add_sums(sum, part.clamp(f64::MIN, f64::MAX)))
}

/// Adding this leaves no bits for a fraction, whatever the sign.
const SHIFT: f64 = 1.5 * (1_u64 << 52) as f64;

/// The nearest integer, ties to even; only for magnitudes up to [`UNITS_MAX`].
#[inline(always)]
fn nearest(value: f64) -> f64 {
    (value + SHIFT) - SHIFT
}

#[inline(always)]
fn is_exact(value: f64, power: f64) -> bool {
    let units = nearest(value * power);
    (units.abs() <= UNITS_MAX) & ((units / power).to_bits() == value.to_bits())
}

/// Whether a sum is a decimal but for rounding: adding decimals leaves an error of some units in the
/// last place, which would make the sum cost 8 bytes. 2^-44 of the sum is 512 half units, and far less
/// than the distance of decimals, so a sum of arbitrary floats is rarely moved and never by more.
#[inline]
fn is_near(value: f64, power: f64) -> bool {
    let tolerance = value.abs() * 2.0_f64.powi(-44);
    let units = nearest(value * power);
    units.abs() <= UNITS_MAX && (units / power - value).abs() <= tolerance && tolerance * 64.0 * power <= 1.0
}

/// The smallest number of decimal places (at most 6) that hold every value.
fn places(values: &(impl Iterator<Item = f64> + Clone), fits: impl Fn(f64, f64) -> bool) -> Option<usize> {
    (0..POWERS.len()).find(|k| values.clone().all(|value| fits(value, POWERS[*k])))
}

/// Appends values in any order.
pub(crate) fn put_values(out: &mut Vec<u8>, values: &[f64]) {
    vectors::with_widest(PutValues { out, values });
}

/// [`put_values`]. Its loops do the same to several values by one instruction, so what depends on a
/// value is no branch.
struct PutValues<'a> {
    out: &'a mut Vec<u8>,
    values: &'a [f64],
}

impl vectors::Task for PutValues<'_> {
    type Output = ();

    #[inline(always)]
    fn run<V: Vectors>(self) {
        let Self { out, values } = self;
        let Some(k) = places_of_all(values) else {
            out.push(TAG_RAW);
            values.iter().for_each(|value| out.extend_from_slice(&value.to_le_bytes()));
            return;
        };
        let signed = is_any(values, |value| value < 0.0);
        out.push(k as u8 | if signed { TAG_SIGNED } else { 0 });
        let start = out.len();
        // Room for the longest items, so that there is no question of room per item.
        out.resize(start + ITEM_BYTES_MAX * values.len(), 0);
        let room = &mut out[start..];
        let mut len = 0;
        let mut varints = [0; 64];
        for values in values.chunks(varints.len()) {
            for (varint, value) in varints.iter_mut().zip(values) {
                let units = units(*value, POWERS[k]);
                *varint = short_varint(if signed { zigzag(units) } else { units as u64 });
            }
            for varint in &varints[..values.len()] {
                room[len..][..ITEM_BYTES_MAX].copy_from_slice(&varint.to_le_bytes());
                len += short_varint_len(*varint);
            }
        }
        out.truncate(start + len);
    }
}

/// As [`places`]. The first values mostly decide it; then all are looked at without a branch.
#[inline(always)]
fn places_of_all(values: &[f64]) -> Option<usize> {
    let mut k = places(&values.iter().copied().take(8), is_exact)?;
    while k < POWERS.len() {
        if !is_any(values, |value| !is_exact(value, POWERS[k])) {
            return Some(k);
        }
        k += 1;
    }
    None
}

/// Whether something is true of any value; asks about all.
#[inline(always)]
fn is_any(values: &[f64], holds: impl Fn(f64) -> bool) -> bool {
    let mut found = 0;
    for value in values {
        found |= u64::from(holds(*value));
    }
    found != 0
}

/// The integer nearest to a value times a power, which is at most [`UNITS_MAX`]. As [`nearest`], but taken
/// from the bits of the shifted number, whose lowest one is worth 1.
#[inline(always)]
fn units(value: f64, power: f64) -> i64 {
    (value * power + SHIFT).to_bits() as i64 - SHIFT.to_bits() as i64
}

#[inline(always)]
fn zigzag(value: i64) -> u64 {
    ((value << 1) ^ (value >> 63)) as u64
}

/// Longest item: [`UNITS_MAX`] and a sign are 53 bits, so 8 bytes of 7 bits hold them.
const ITEM_BYTES_MAX: usize = 8;

/// The varint of a value below 2^56, first byte lowest. Lengths change from item to item, so a loop over
/// the bytes would be guessed wrong about every other time; this has no branch.
#[inline(always)]
fn short_varint(value: u64) -> u64 {
    // Spread the bits: two times 28 of them, four times 14, eight times 7.
    let halves = value & 0x0fff_ffff | (value & 0x00ff_ffff_f000_0000) << 4;
    let fours = halves & 0x0000_3fff_0000_3fff | (halves & 0x0fff_c000_0fff_c000) << 2;
    let bytes = fours & 0x007f_007f_007f_007f | (fours & 0x3f80_3f80_3f80_3f80) << 1;
    // A byte goes on if a higher one holds a bit.
    let mut higher = bytes >> 8;
    higher |= higher >> 8;
    higher |= higher >> 16;
    higher |= higher >> 32;
    bytes | (higher + 0x007f_7f7f_7f7f_7f7f) & CONTINUES
}

const CONTINUES: u64 = 0x8080_8080_8080_8080;

/// How many bytes of a [`short_varint`] count: up to and with the first that does not go on.
#[inline(always)]
fn short_varint_len(varint: u64) -> usize {
    (!varint & CONTINUES).trailing_zeros() as usize / 8 + 1
}

/// Reads `len` values.
pub(crate) fn read_values(reader: &mut Reader<'_>, len: usize, out: &mut Vec<f64>) -> Result<(), Malformed> {
    check_len(reader, len)?;
    let tag = reader.u8()?;
    out.reserve(len.min(reader.rest().len()));
    if tag == TAG_RAW {
        for _ in 0..len {
            out.push(read_float(reader)?);
        }
        return Ok(());
    }
    let power = power_of(reader, tag & !TAG_SIGNED)?;
    let signed = tag & TAG_SIGNED != 0;
    for _ in 0..len {
        let units = if signed { reader.zigzag()? } else { reader.varint()? as i64 };
        out.push(from_units(reader, units, power)?);
    }
    Ok(())
}

/// Appends numbers whose neighbours are close, bit for bit.
pub(crate) fn put_series(out: &mut Vec<u8>, values: impl Iterator<Item = f64> + Clone) {
    let k = places(&values, is_exact);
    put_differences(out, values, k);
}

/// Appends sums: as [`put_series`], but a sum within the rounding error of adding decimals is written as
/// that decimal.
pub(crate) fn put_sums(out: &mut Vec<u8>, sums: impl Iterator<Item = f64> + Clone) {
    let k = places(&sums, is_near);
    put_differences(out, sums, k);
}

fn put_differences(out: &mut Vec<u8>, values: impl Iterator<Item = f64>, k: Option<usize>) {
    let Some(k) = k else {
        out.push(TAG_RAW);
        values.for_each(|value| out.extend_from_slice(&value.to_le_bytes()));
        return;
    };
    out.push(k as u8);
    let mut before = 0;
    for value in values {
        let units = nearest(value * POWERS[k]) as i64;
        put_zigzag(out, units - before);
        before = units;
    }
}

/// Reads a series or sums into `put(position, value)`.
pub(crate) fn read_series(
    reader: &mut Reader<'_>,
    len: usize,
    mut put: impl FnMut(usize, f64),
) -> Result<(), Malformed> {
    let tag = reader.u8()?;
    if tag == TAG_RAW {
        for position in 0..len {
            put(position, read_float(reader)?);
        }
        return Ok(());
    }
    let power = power_of(reader, tag)?;
    let mut units = 0_i64;
    for position in 0..len {
        let offset = reader.offset();
        units = units.checked_add(reader.zigzag()?).ok_or(Malformed { offset })?;
        put(position, from_units(reader, units, power)?);
    }
    Ok(())
}

/// A finite float, read raw. Minus zero reads as zero, which it equals.
pub(crate) fn read_float(reader: &mut Reader<'_>) -> Result<f64, Malformed> {
    let offset = reader.offset();
    let value = reader.f64()? + 0.0;
    if value.is_finite() { Ok(value) } else { Err(Malformed { offset }) }
}

fn power_of(reader: &Reader<'_>, k: u8) -> Result<f64, Malformed> {
    POWERS.get(usize::from(k)).copied().ok_or(Malformed { offset: reader.offset() })
}

#[inline]
fn from_units(reader: &Reader<'_>, units: i64, power: f64) -> Result<f64, Malformed> {
    if units.unsigned_abs() > UNITS_MAX as u64 {
        return Err(Malformed { offset: reader.offset() });
    }
    Ok(units as f64 / power)
}

/// Refuses more items than there are bytes left: every item takes at least one.
pub(crate) fn check_len(reader: &Reader<'_>, len: usize) -> Result<(), Malformed> {
    if len <= reader.rest().len() { Ok(()) } else { Err(Malformed { offset: reader.offset() }) }
}

/// Reads a length that is followed by at least as many bytes.
pub(crate) fn read_len(reader: &mut Reader<'_>) -> Result<usize, Malformed> {
    let offset = reader.offset();
    let len = usize::try_from(reader.varint()?).map_err(|_| Malformed { offset })?;
    check_len(reader, len)?;
    Ok(len)
}

/// Appends `len` counts (each 1 to [`COUNT_MAX`]) under growing numbers.
pub(crate) fn put_counts(out: &mut Vec<u8>, len: usize, counts: impl Iterator<Item = (i64, u64)>) {
    put_varint(out, len as u64);
    let (mut next, mut before) = (None, 0);
    for (number, count) in counts {
        match next {
            None => put_zigzag(out, number),
            Some(next) if next != number => {
                out.push(0);
                put_varint(out, (number - next) as u64);
            }
            Some(_) => {}
        }
        let difference = count as i64 - before;
        put_varint(out, (((difference << 1) ^ (difference >> 63)) as u64) + 1);
        before = count as i64;
        next = Some(number + 1);
    }
}

/// Reads counts into `put(number, count)`; numbers are within `numbers` and grow.
pub(crate) fn read_counts(
    reader: &mut Reader<'_>,
    numbers: std::ops::RangeInclusive<i64>,
    mut put: impl FnMut(i64, u64),
) -> Result<usize, Malformed> {
    let len = read_len(reader)?;
    if len == 0 {
        return Ok(0);
    }
    let malformed = Malformed { offset: reader.offset() };
    let mut number = reader.zigzag()?;
    let mut count = 0_i64;
    for position in 0..len {
        let mut token = reader.varint()?;
        if token == 0 {
            let gap = i64::try_from(reader.varint()?).map_err(|_| malformed)?;
            if gap == 0 || position == 0 {
                return Err(malformed);
            }
            number = number.checked_add(gap).ok_or(malformed)?;
            token = reader.varint()?;
        }
        let raw = token.checked_sub(1).ok_or(malformed)?;
        let difference = (raw >> 1) as i64 ^ -((raw & 1) as i64);
        count = count.checked_add(difference).ok_or(malformed)?;
        if count < 1 || count as u64 > COUNT_MAX || !numbers.contains(&number) {
            return Err(malformed);
        }
        put(number, count as u64);
        number = number.checked_add(1).ok_or(malformed)?;
    }
    Ok(len)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// forall v < 2^56: the form without branches has the bytes of the plain one.
        #[test]
        fn short_varints_are_varints(bits in 0..57_u32, any: u64) {
            let value = any & ((1 << bits) - 1);
            let mut expected = Vec::new();
            put_varint(&mut expected, value);
            let varint = short_varint(value);
            prop_assert_eq!(&varint.to_le_bytes()[..short_varint_len(varint)], &expected[..]);
        }

        /// forall values, written in groups: the places are the fewest that hold all of them, and all
        /// come back.
        #[test]
        fn values_survive_their_bytes_in_the_fewest_places(
            units in proptest::collection::vec(-10_000_000_i64..10_000_000, 1..200),
            places_of_first in 0..8_usize, places_of_rest in 0..8_usize, first in 0..100_usize, signed: bool,
        ) {
            let power = |k: usize| POWERS.get(k).map_or(1.0 / 3.0, |power| 1.0 / power);
            let value = |(place, units): (usize, &i64)| {
                let units = if signed { *units } else { units.abs() };
                units as f64 * power(if place < first { places_of_first } else { places_of_rest }) + 0.0
            };
            let values: Vec<f64> = units.iter().enumerate().map(value).collect();
            prop_assert_eq!(places_of_all(&values), places(&values.iter().copied(), is_exact));
            let mut out = vec![0xaa];
            put_values(&mut out, &values);
            let mut reader = Reader::new(&out[1..]);
            let mut read = Vec::new();
            prop_assert!(read_values(&mut reader, values.len(), &mut read).is_ok() && reader.is_empty());
            prop_assert_eq!(read, values);
        }
    }
}
