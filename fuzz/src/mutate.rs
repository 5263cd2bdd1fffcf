//! Random changes of inputs, for runs without libFuzzer. The same start gives the same changes.

/// Text and numbers on which decoders tend to stumble.
const TOKENS: [&[u8]; 22] = [
    b"\n",
    b"\n\n",
    b"\r\n",
    b"\"",
    b"\\",
    b"\\u",
    b"\\U0001f600",
    b"[",
    b"]",
    b",",
    b"{",
    b"}",
    b"NaN",
    b"-Infinity",
    b"1e999",
    b"-0.0",
    b"99999999999999999999",
    b"CounterGroup",
    b"Gauge",
    &[0x80],
    &[0; 8],
    &[0xff; 10],
];

/// Makes changed inputs.
#[derive(Clone, Debug)]
pub struct Mutator {
    state: u64,
}

impl Mutator {
    /// A mutator that starts here.
    #[must_use]
    pub const fn new(start: u64) -> Self {
        Self { state: start }
    }

    /// One of the inputs with one to eight changes, at most `bytes_max` long.
    ///
    /// # Panics
    /// If there is no input.
    pub fn mutated(&mut self, inputs: &[Vec<u8>], bytes_max: usize) -> Vec<u8> {
        let mut bytes = inputs[self.below(inputs.len())].clone();
        for _ in 0..=self.below(8) {
            self.change(&mut bytes, inputs);
        }
        bytes.truncate(bytes_max);
        bytes
    }

    fn change(&mut self, bytes: &mut Vec<u8>, inputs: &[Vec<u8>]) {
        let at = self.below(bytes.len() + 1);
        let end = at + self.below((bytes.len() - at).min(64) + 1);
        match self.below(8) {
            0 => bytes.truncate(at),
            1 => drop(bytes.drain(at..end)),
            2 => {
                let copy = bytes[at..end].to_vec();
                bytes.splice(at..at, copy);
            }
            3 => drop(bytes.splice(at..at, TOKENS[self.below(TOKENS.len())].iter().copied())),
            4 => drop(bytes.splice(at..end, TOKENS[self.below(TOKENS.len())].iter().copied())),
            5 => {
                let other = &inputs[self.below(inputs.len())];
                bytes.splice(at.., other[self.below(other.len() + 1)..].iter().copied());
            }
            6 => self.change_byte(bytes, |_, random| random as u8),
            _ => self.change_byte(bytes, |byte, random| byte ^ (1 << (random % 8))),
        }
    }

    fn change_byte(&mut self, bytes: &mut [u8], change: impl Fn(u8, u64) -> u8) {
        if !bytes.is_empty() {
            let at = self.below(bytes.len());
            bytes[at] = change(bytes[at], self.random());
        }
    }

    fn below(&mut self, end: usize) -> usize {
        (self.random() % end as u64) as usize
    }

    /// SplitMix64.
    fn random(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.state ^ (self.state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_start_gives_the_same_changes_and_another_gives_others() {
        let inputs = [b"one input".to_vec(), b"another".to_vec()];
        let some = |start| {
            let mut mutator = Mutator::new(start);
            (0..100).map(|_| mutator.mutated(&inputs, 32)).collect::<Vec<_>>()
        };
        assert_eq!(some(1), some(1));
        assert_ne!(some(1), some(2));
        assert!(some(1).iter().all(|input| input.len() <= 32));
    }
}
