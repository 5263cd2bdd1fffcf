//! The yardstick: the least that anyone must do to each event.
//!
//! Find the line, read time and value, add them to a bucket and to a histogram. It checks nothing, knows
//! one shape of line, ignores names and framing, keeps one state for all tabs and writes nothing.

use memchr::memchr;

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
        let mut at = 0;
        let mut events = 0;
        while at < body.len() {
            if body[at] == b'[' {
                at = self.event(body, at + PREFIX.len()) + 3;
                events += 1;
            } else {
                at += memchr(b'\n', &body[at..]).map_or(body.len(), |end| end + 1);
            }
        }
        events
    }

    /// Adds the event whose time starts at `at`; gives back where its value ends.
    #[inline(always)]
    fn event(&mut self, body: &[u8], at: usize) -> usize {
        let (secs, at) = digits(body, at);
        let (_, at) = if body[at] == b'.' { digits(body, at + 1) } else { (0, at) };
        let (whole, at) = digits(body, at + 3);
        let (value, at) = if body[at] == b'.' {
            let (fraction, end) = digits(body, at + 1);
            (whole as f64 + fraction as f64 / [1.0, 10.0, 100.0, 1000.0][(end - at - 1) & 3], end)
        } else {
            (whole as f64, at)
        };
        let bucket = secs as usize % BUCKETS;
        self.counts[bucket] += 1;
        self.sums[bucket] += value;
        self.histogram[(value.to_bits() >> 47) as usize % HISTOGRAM] += 1;
        at
    }

    /// Something that depends on all of it.
    pub fn digest(&self) -> u64 {
        self.counts.iter().sum::<u64>()
            ^ self.sums.iter().sum::<f64>().to_bits()
            ^ u64::from(self.histogram[1])
    }
}

#[inline(always)]
fn digits(body: &[u8], mut at: usize) -> (u64, usize) {
    let mut value = 0;
    while let digit = body[at].wrapping_sub(b'0')
        && digit < 10
    {
        value = value * 10 + u64::from(digit);
        at += 1;
    }
    (value, at)
}
