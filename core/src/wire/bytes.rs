//! Variable-length integers and length-prefixed bytes, as all our binary formats use them.
//!
//! Varints are unsigned LEB128 (7 bits a byte, low bits first, at most 10 bytes); signed numbers are
//! zigzag-mapped first. Reading is total: it never panics and never allocates.

/// Bytes ended or a number was malformed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("truncated or malformed at offset {offset}")]
pub struct Malformed {
    /// Where reading stopped.
    pub offset: usize,
}

/// Reads from the front of a byte slice.
#[derive(Clone, Copy, Debug)]
pub struct Reader<'a> {
    bytes: &'a [u8],
    offset: usize,
}

impl<'a> Reader<'a> {
    /// A reader at the start of `bytes`.
    #[must_use]
    pub const fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, offset: 0 }
    }

    /// How many bytes were read so far.
    #[must_use]
    pub const fn offset(&self) -> usize {
        self.offset
    }

    /// Whether all bytes were read.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.offset == self.bytes.len()
    }

    /// The bytes not read yet.
    #[must_use]
    pub fn rest(&self) -> &'a [u8] {
        &self.bytes[self.offset..]
    }

    /// One byte.
    ///
    /// # Errors
    /// [`Malformed`] at the end.
    #[inline]
    pub fn u8(&mut self) -> Result<u8, Malformed> {
        let byte = *self.bytes.get(self.offset).ok_or(Malformed { offset: self.offset })?;
        self.offset += 1;
        Ok(byte)
    }

    /// The next `len` bytes.
    ///
    /// # Errors
    /// [`Malformed`] if there are fewer.
    #[inline]
    pub fn take(&mut self, len: usize) -> Result<&'a [u8], Malformed> {
        let end = self.offset.checked_add(len).filter(|end| *end <= self.bytes.len());
        let end = end.ok_or(Malformed { offset: self.offset })?;
        let taken = &self.bytes[self.offset..end];
        self.offset = end;
        Ok(taken)
    }

    /// A fixed-size array.
    ///
    /// # Errors
    /// [`Malformed`] if fewer bytes are left.
    #[inline]
    pub fn array<const N: usize>(&mut self) -> Result<[u8; N], Malformed> {
        Ok(self.take(N)?.try_into().expect("take gives N bytes"))
    }

    /// A little-endian 64-bit float.
    ///
    /// # Errors
    /// [`Malformed`] if fewer than 8 bytes are left.
    #[inline]
    pub fn f64(&mut self) -> Result<f64, Malformed> {
        Ok(f64::from_le_bytes(self.array()?))
    }

    /// An unsigned varint.
    ///
    /// # Errors
    /// [`Malformed`] if it is cut off or longer than 64 bits.
    #[inline]
    pub fn varint(&mut self) -> Result<u64, Malformed> {
        let start = self.offset;
        let mut value = 0_u64;
        for shift in (0..64).step_by(7) {
            let byte = self.u8()?;
            let bits = u64::from(byte & 0x7f);
            if shift == 63 && bits > 1 {
                break;
            }
            value |= bits << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(Malformed { offset: start })
    }

    /// A signed (zigzag) varint.
    ///
    /// # Errors
    /// As [`Reader::varint`].
    #[inline]
    pub fn zigzag(&mut self) -> Result<i64, Malformed> {
        let raw = self.varint()?;
        Ok((raw >> 1) as i64 ^ -((raw & 1) as i64))
    }

    /// Bytes behind their length as a varint.
    ///
    /// # Errors
    /// [`Malformed`] if cut off.
    #[inline]
    pub fn prefixed(&mut self) -> Result<&'a [u8], Malformed> {
        let offset = self.offset;
        let len = usize::try_from(self.varint()?).map_err(|_| Malformed { offset })?;
        self.take(len)
    }
}

/// Appends an unsigned varint.
#[inline]
pub fn put_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// Appends a signed (zigzag) varint.
#[inline]
pub fn put_zigzag(out: &mut Vec<u8>, value: i64) {
    put_varint(out, ((value << 1) ^ (value >> 63)) as u64);
}

/// Appends bytes behind their length as a varint.
#[inline]
pub fn put_prefixed(out: &mut Vec<u8>, bytes: &[u8]) {
    put_varint(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn numbers_survive_their_bytes(unsigned: u64, signed: i64) {
            let mut out = Vec::new();
            put_varint(&mut out, unsigned);
            put_zigzag(&mut out, signed);
            let mut reader = Reader::new(&out);
            prop_assert_eq!(reader.varint(), Ok(unsigned));
            prop_assert_eq!(reader.zigzag(), Ok(signed));
            prop_assert!(reader.is_empty());
        }
    }

    #[test]
    fn overlong_numbers_are_refused() {
        assert_eq!(Reader::new(&[0xff; 11]).varint(), Err(Malformed { offset: 0 }));
        assert_eq!(Reader::new(&[0x80]).varint(), Err(Malformed { offset: 1 }));
        assert!(Reader::new(&[5, 1, 2]).prefixed().is_err());
    }
}
