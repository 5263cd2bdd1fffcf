//! Tab Names and Client IDs: which bytes they may hold and how long they may be.
//!
//! The set is that of the first Taba: `A–Z a–z 0–9 . _ ~ : / ? @ ! $ ( ) * + ; = -`. Unlike there,
//! an empty name is refused (it would read as framing) and names are at most [`NAME_BYTES_MAX`] long.

/// Longest Tab Name or Client ID, in bytes.
pub const NAME_BYTES_MAX: usize = 256;

/// Why bytes are not a Tab Name or Client ID.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadName {
    /// It has no bytes.
    #[error("a name must not be empty")]
    Empty,
    /// It is longer than [`NAME_BYTES_MAX`].
    #[error("a name of {bytes} bytes is longer than {NAME_BYTES_MAX}")]
    TooLong {
        /// Its length, in bytes.
        bytes: usize,
    },
    /// A byte is outside the set.
    #[error("byte 0x{byte:02x} at offset {offset} is not allowed in a name")]
    Byte {
        /// The first byte that is not allowed.
        byte: u8,
        /// Its place in the name.
        offset: usize,
    },
}

const ALLOWED: [bool; 256] = {
    let mut allowed = [false; 256];
    let mut byte = 0;
    while byte < 128 {
        allowed[byte] = matches!(byte as u8,
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'.' | b'_' | b'~' | b':' | b'/' | b'?' | b'@'
            | b'!' | b'$' | b'(' | b')' | b'*' | b'+' | b';' | b'=' | b'-');
        byte += 1;
    }
    allowed
};

/// Checks a Tab Name or Client ID and gives it back as text.
///
/// # Errors
/// [`BadName`] says which rule it breaks.
pub fn check(name: &[u8]) -> Result<&str, BadName> {
    if name.is_empty() {
        return Err(BadName::Empty);
    }
    if name.len() > NAME_BYTES_MAX {
        return Err(BadName::TooLong { bytes: name.len() });
    }
    if let Some(offset) = name.iter().position(|byte| !ALLOWED[usize::from(*byte)]) {
        return Err(BadName::Byte { byte: name[offset], offset });
    }
    Ok(std::str::from_utf8(name).expect("every allowed byte is ASCII"))
}

/// The name with every byte that is not allowed replaced by `_`, cut at [`NAME_BYTES_MAX`].
#[must_use]
pub fn sanitize(name: &str) -> String {
    name.bytes()
        .take(NAME_BYTES_MAX)
        .map(|byte| if ALLOWED[usize::from(byte)] { byte as char } else { '_' })
        .collect()
}

/// A stable positive number for a name, as the first Taba's `/ids` shows: 53 bits of its hash, so that
/// every JSON reader holds it exactly.
#[must_use]
pub fn stable_id(name: &str) -> u64 {
    (xxhash_rust::xxh3::xxh3_64(name.as_bytes()) >> 11).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_use_the_first_tabas_characters() {
        assert_eq!(check(b"aZ09._~:/?@!$()*+;=-"), Ok("aZ09._~:/?@!$()*+;=-"));
        for byte in 0..=255_u8 {
            let allowed = byte.is_ascii_alphanumeric() || b"._~:/?@!$()*+;=-".contains(&byte);
            assert_eq!(check(&[byte]).is_ok(), allowed, "byte {byte:#x}");
        }
    }

    #[test]
    fn empty_and_overlong_names_are_refused() {
        assert_eq!(check(b""), Err(BadName::Empty));
        assert!(check(&[b'a'; NAME_BYTES_MAX]).is_ok());
        assert_eq!(check(&[b'a'; NAME_BYTES_MAX + 1]), Err(BadName::TooLong { bytes: 257 }));
    }

    #[test]
    fn sanitizing_replaces_each_disallowed_byte() {
        assert_eq!(sanitize("a value with spaces"), "a_value_with_spaces");
        assert_eq!(sanitize("é"), "__");
    }
}
