//! Which bucket of the histogram a number falls in, from the bits of the float alone.
//!
//! At scale s, bucket i holds the magnitudes from 2^(i/2^s) up to, not including, 2^((i+1)/2^s). The
//! index at the finest scale comes from the exponent and a table over the mantissa, so it is exact and
//! the same on every machine; an index at a coarser scale is the finest one shifted right.

/// The finest scale: 64 buckets per factor of two.
pub(super) const SCALE_MAX: i8 = 6;

/// The coarsest scale a histogram can need: all of the floats have 2,098 exponents, so both signs fill
/// 4,196 buckets at scale 0, which is over the limit, and 2,098 at scale -1.
pub(super) const SCALE_MIN: i8 = -1;

/// The finest index of the smallest subnormal and of the largest float.
pub(super) const INDEX_MIN: i32 = -1074 * 64;
pub(super) const INDEX_MAX: i32 = 1024 * 64 - 1;

const MANTISSA_BITS: u32 = 52;
const MANTISSA_MASK: u64 = (1 << MANTISSA_BITS) - 1;

/// Mantissa bits of the smallest float not below 2^(i/64), for i = 0 to 63; then the end.
const BOUNDS: [u64; 65] = [
    0x0000000000000,
    0x02c9a3e778061,
    0x059b0d3158575,
    0x0874518759bc9,
    0x0b5586cf98910,
    0x0e3ec32d3d1a3,
    0x11301d0125b51,
    0x1429aaea92de0,
    0x172b83c7d517b,
    0x1a35beb6fcb76,
    0x1d4873168b9ab,
    0x2063b88628cd7,
    0x2387a6e756239,
    0x26b4565e27cde,
    0x29e9df51fdee2,
    0x2d285a6e4030c,
    0x306fe0a31b716,
    0x33c08b2641700,
    0x371a7373aa9cb,
    0x3a7db34e59ff7,
    0x3dea64c123423,
    0x4160a21f72e2a,
    0x44e086061892e,
    0x486a2b5c13cd1,
    0x4bfdad5362a28,
    0x4f9b2769d2ca7,
    0x5342b569d4f82,
    0x56f4736b527db,
    0x5ab07dd48542a,
    0x5e76f15ad2149,
    0x6247eb03a5585,
    0x6623882552225,
    0x6a09e667f3bcd,
    0x6dfb23c651a2f,
    0x71f75e8ec5f74,
    0x75feb564267c9,
    0x7a11473eb0187,
    0x7e2f336cf4e63,
    0x82589994cce13,
    0x868d99b4492ed,
    0x8ace5422aa0dc,
    0x8f1ae99157737,
    0x93737b0cdc5e5,
    0x97d829fde4e50,
    0x9c49182a3f091,
    0xa0c667b5de565,
    0xa5503b23e255d,
    0xa9e6b5579fdc0,
    0xae89f995ad3ae,
    0xb33a2b84f15fb,
    0xb7f76f2fb5e47,
    0xbcc1e904bc1d3,
    0xc199bdd85529d,
    0xc67f12e57d14c,
    0xcb720dcef906a,
    0xd072d4a07897c,
    0xd5818dcfba488,
    0xda9e603db3286,
    0xdfc97337b9b5f,
    0xe502ee78b3ff7,
    0xea4afa2a490da,
    0xefa1bee615a28,
    0xf50765b6e4541,
    0xfa7c1819e90d9,
    1 << MANTISSA_BITS,
];

/// What to multiply the lower edge of a bucket by to get the number whose relative distance to both
/// edges is the same, 2g/(1+g), by how many times the finest scale was halved; g = 2^(2^n/64).
const MIDDLE: [f64; 8] = [
    1.0054151594159026,
    1.0108300012533737,
    1.0216574623262262,
    1.0432946174993891,
    1.0864272337258898,
    1.17157287525381,
    1.3333333333333333,
    1.6,
];

/// The mantissas in 128 cells of equal width. The narrowest bucket is 2^(1/64) - 1 = 1.39 cells wide, so
/// a cell holds at most one bound: the bucket its first mantissa is in, and where the next one begins.
const CELL_BITS: u32 = 7;
static CELLS: [(i32, u64); 1 << CELL_BITS] = {
    let mut cells = [(0, 0); 1 << CELL_BITS];
    let mut cell = 0;
    let mut bucket = 0;
    while cell < cells.len() {
        let first = (cell as u64) << (MANTISSA_BITS - CELL_BITS);
        while BOUNDS[bucket + 1] <= first {
            bucket += 1;
        }
        cells[cell] = (bucket as i32, BOUNDS[bucket + 1]);
        cell += 1;
    }
    cells
};

/// The finest index of a magnitude (finite, above zero).
#[inline]
pub(super) fn index(magnitude: f64) -> i32 {
    let bits = magnitude.to_bits();
    if bits <= MANTISSA_MASK {
        return subnormal_index(magnitude);
    }
    index_of_bits(bits)
}

#[inline]
fn index_of_bits(bits: u64) -> i32 {
    let mantissa = bits & MANTISSA_MASK;
    let (bucket, next) = CELLS[(mantissa >> (MANTISSA_BITS - CELL_BITS)) as usize];
    ((bits >> MANTISSA_BITS) as i32 - 1023) * 64 + bucket + i32::from(mantissa >= next)
}

/// Multiplying by 2^54 makes every subnormal normal and is exact.
#[cold]
fn subnormal_index(magnitude: f64) -> i32 {
    index_of_bits((magnitude * (1_u64 << 54) as f64).to_bits()) - 54 * 64
}

/// The number that stands for a bucket at a scale. May be infinite for the last bucket; the caller
/// clamps it into what was seen.
pub(super) fn representative(index: i32, scale: i8) -> f64 {
    let halvings = (SCALE_MAX - scale) as u32;
    let finest = index << halvings;
    let edge = f64::from_bits((1023 << MANTISSA_BITS) | BOUNDS[(finest & 63) as usize]);
    scaled_by_power_of_two(edge * MIDDLE[halvings as usize], finest >> 6)
}

/// `value` (1 to 4) times 2^exponent, rounded once.
fn scaled_by_power_of_two(value: f64, exponent: i32) -> f64 {
    let power = |exponent: i32| f64::from_bits(((exponent + 1023) as u64) << MANTISSA_BITS);
    if exponent >= -1022 { value * power(exponent) } else { value * power(-1022) * power(exponent + 1022) }
}

/// The bound on the relative error of a representative: (g-1)/(g+1), which is the middle minus one.
pub(super) fn relative_error(scale: i8) -> f64 {
    MIDDLE[(SCALE_MAX - scale) as usize] - 1.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_bound_is_the_first_number_of_its_bucket() {
        for exponent in [-1022, -3, 0, 1, 62, 1023] {
            for (position, mantissa) in BOUNDS[..64].iter().enumerate() {
                let bound = f64::from_bits((((exponent + 1023) as u64) << 52) | mantissa);
                let expected = exponent * 64 + position as i32;
                assert_eq!(index(bound), expected);
                if bound > f64::MIN_POSITIVE {
                    assert_eq!(index(bound.next_down()), expected - 1);
                }
            }
        }
    }

    #[test]
    fn indices_agree_with_logarithms() {
        let mut value = f64::MIN_POSITIVE * 1.01;
        while value < f64::MAX / 1.7 {
            let by_logarithm = (value.log2() * 64.0).floor();
            assert!((by_logarithm - f64::from(index(value))).abs() <= 1.0, "{value}");
            value *= 1.618_034;
        }
    }

    #[test]
    fn subnormals_and_the_ends_of_the_range_have_their_buckets() {
        assert_eq!(index(f64::from_bits(1)), INDEX_MIN);
        assert_eq!(index(f64::MAX), INDEX_MAX);
        assert_eq!(index(f64::MIN_POSITIVE), -1022 * 64);
        assert_eq!(index(f64::MIN_POSITIVE / 2.0), -1023 * 64);
    }

    #[test]
    fn representatives_are_within_the_bound_at_every_scale() {
        for scale in SCALE_MIN..=SCALE_MAX {
            let bound = relative_error(scale) * (1.0 + 1e-12);
            let mut value = 1e-300;
            while value < 1e300 {
                let shown = representative(index(value) >> (SCALE_MAX - scale), scale);
                assert!(
                    ((shown - value) / value).abs() <= bound,
                    "{value} shown as {shown} at scale {scale}"
                );
                value *= 1.37;
            }
        }
    }
}
