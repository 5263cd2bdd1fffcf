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

/// The nearest integer, ties to even; only for magnitudes up to [`UNITS_MAX`].
#[inline]
fn nearest(value: f64) -> f64 {
    const SHIFT: f64 = 1.5 * (1_u64 << 52) as f64;
    (value + SHIFT) - SHIFT
}

#[inline]
fn is_exact(value: f64, power: f64) -> bool {
    let units = nearest(value * power);
    units.abs() <= UNITS_MAX && (units / power).to_bits() == value.to_bits()
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
    let Some(k) = places(&values.iter().copied(), is_exact) else {
        out.push(TAG_RAW);
        values.iter().for_each(|value| out.extend_from_slice(&value.to_le_bytes()));
        return;
    };
    let signed = values.iter().any(|value| *value < 0.0);
    out.push(k as u8 | if signed { TAG_SIGNED } else { 0 });
    let mut at = out.len();
    // Room for the longest items, so that there is no question of room per item.
    out.resize(at + VARINT_BYTES_MAX * values.len(), 0);
    for value in values {
        let units = nearest(value * POWERS[k]) as i64;
        let mapped = if signed { (units << 1) ^ (units >> 63) } else { units };
        let (bytes, len) = short_varint(mapped as u64);
        out[at..at + VARINT_BYTES_MAX].copy_from_slice(&bytes.to_le_bytes());
        at += len;
    }
    out.truncate(at);
}

/// Longest item: [`UNITS_MAX`] and a sign are 52 bits, so 8 bytes of 7 bits hold them.
const VARINT_BYTES_MAX: usize = 8;

/// A varint below 2^56 and its length. Lengths change from item to item, and a loop over the bytes would
/// be guessed wrong about every other time; short items go without a branch.
#[inline(always)]
fn short_varint(value: u64) -> (u64, usize) {
    let low = value & 0x7f | (value & 0x3f80) << 1 | (value & 0x1f_c000) << 2 | (value & 0xfe0_0000) << 3;
    if value < 1 << 28 {
        let more = u32::from(value >= 1 << 7) + u32::from(value >= 1 << 14) + u32::from(value >= 1 << 21);
        return (low | 0x0080_8080 & ((1 << (8 * more)) - 1), 1 + more as usize);
    }
    let high = (0..4).fold(0, |high, place| high | (value >> (28 + 7 * place) & 0x7f) << (8 * place));
    let len = (value.ilog2() / 7 + 1) as usize;
    let more = 0x0080_8080_8080_8080 & ((1 << (8 * (len - 1))) - 1);
    (low | high << 32 | more, len)
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
            let (bytes, len) = short_varint(value);
            prop_assert_eq!(&bytes.to_le_bytes()[..len], &expected[..]);
        }
    }
}
