//! The yardstick: the least that anyone must do to each event.
//!
//! Find the line, read time and value, add them to a bucket and to a histogram. It checks nothing, knows
//! one shape of line, ignores names and framing, keeps one state for all tabs and writes nothing.

use memchr::memchr_iter;

const PREFIX: &[u8] = b"[\"CounterGroup\", ";
const BUCKETS: usize = 64;
/// One histogram bucket per 1/32 of a power of two, as the sketch has them.
const HISTOGRAM: usize = 1 << 16;

/// Counts and sums by second, and a histogram.
pub struct Minimal {
    counts: [u64; BUCKETS],
    sums: [f64; BUCKETS],
    histogram: Vec<u32>,
}

impl Minimal {
    /// Nothing counted yet.
    pub fn new() -> Self {
        Self { counts: [0; BUCKETS], sums: [0.0; BUCKETS], histogram: vec![0; HISTOGRAM] }
    }

    /// Adds the events of a body and gives back how many there were.
    pub fn add(&mut self, body: &[u8]) -> u64 {
        let mut start = 0;
        let mut events = 0;
        for end in memchr_iter(b'\n', body) {
            let line = &body[start..end];
            start = end + 1;
            if line.first() == Some(&b'[') {
                self.event(&line[PREFIX.len()..]);
                events += 1;
            }
        }
        events
    }

    #[inline(always)]
    fn event(&mut self, line: &[u8]) {
        let (secs, rest) = digits(line);
        let (_, rest) = if rest[0] == b'.' { digits(&rest[1..]) } else { (0, rest) };
        let (whole, rest) = digits(&rest[3..]);
        let value = if rest[0] == b'.' {
            let (fraction, end) = digits(&rest[1..]);
            whole as f64 + fraction as f64 / [1.0, 10.0, 100.0, 1000.0][(rest.len() - 1 - end.len()) & 3]
        } else {
            whole as f64
        };
        let bucket = secs as usize % BUCKETS;
        self.counts[bucket] += 1;
        self.sums[bucket] += value;
        self.histogram[(value.to_bits() >> 47) as usize % HISTOGRAM] += 1;
    }

    /// Something that depends on all of it.
    pub fn digest(&self) -> u64 {
        self.counts.iter().sum::<u64>()
            ^ self.sums.iter().sum::<f64>().to_bits()
            ^ u64::from(self.histogram[1])
    }
}

#[inline(always)]
fn digits(text: &[u8]) -> (u64, &[u8]) {
    let mut value = 0;
    let mut at = 0;
    while at < text.len() && text[at].is_ascii_digit() {
        value = value * 10 + u64::from(text[at] - b'0');
        at += 1;
    }
    (value, &text[at..])
}
