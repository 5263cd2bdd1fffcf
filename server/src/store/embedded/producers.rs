//! Which batches were stored: per producer the highest sequence and a window of those below it.
//!
//! The table in memory is the truth; the log's records rebuild what changed since the last checkpoint,
//! and a checkpoint writes changed producers beside the states before any segment is deleted. Marking
//! is idempotent, so replaying a record that a checkpoint already holds changes nothing.
//!
//! Bounds: a producer that sent nothing for `retention` is forgotten (its batches are not retried that
//! late). A batch of a forgotten producer looks new, so none is forgotten before that: at `producers_max`
//! batches of further producers are refused.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use taba_core::batch::SEQUENCE_WINDOW;
use taba_core::{BatchId, ProducerId, Timestamp};

const WORDS: usize = (SEQUENCE_WINDOW / 64) as usize;
/// Bytes of a stored producer: highest sequence, last use, window.
const ROW_BYTES: usize = 16 + WORDS * 8;

/// What a sequence is to its producer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Not stored yet.
    New,
    /// Stored before.
    Seen,
    /// Too far behind to tell.
    Stale,
}

/// The sequences of one producer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Window {
    highest: u64,
    // Bit `i` (low bits first) stands for the sequence `highest - 1 - i`.
    below: [u64; WORDS],
}

impl Window {
    pub(super) fn first(sequence: u64) -> Self {
        Self { highest: sequence, below: [0; WORDS] }
    }

    pub(super) fn verdict(&self, sequence: u64) -> Verdict {
        if sequence > self.highest {
            return Verdict::New;
        }
        match self.highest - sequence {
            0 => Verdict::Seen,
            behind if behind > SEQUENCE_WINDOW => Verdict::Stale,
            behind => {
                let bit = (behind - 1) as usize;
                if self.below[bit / 64] >> (bit % 64) & 1 == 1 { Verdict::Seen } else { Verdict::New }
            }
        }
    }

    pub(super) fn mark(&mut self, sequence: u64) {
        if sequence > self.highest {
            let step = sequence - self.highest;
            self.shift(step);
            self.highest = sequence;
            self.set(step);
        } else {
            self.set(self.highest - sequence);
        }
    }

    fn set(&mut self, behind: u64) {
        if (1..=SEQUENCE_WINDOW).contains(&behind) {
            let bit = (behind - 1) as usize;
            self.below[bit / 64] |= 1 << (bit % 64);
        }
    }

    fn shift(&mut self, step: u64) {
        if step >= SEQUENCE_WINDOW {
            self.below = [0; WORDS];
            return;
        }
        let (words, bits) = ((step / 64) as usize, (step % 64) as u32);
        for to in (0..WORDS).rev() {
            let word = |from: Option<usize>| from.map_or(0, |from| self.below[from]);
            let low = word(to.checked_sub(words));
            let carry = if bits == 0 { 0 } else { word(to.checked_sub(words + 1)) >> (64 - bits) };
            self.below[to] = (low << bits) | carry;
        }
    }
}

struct Producer {
    window: Window,
    used: Timestamp,
    // Differs from what the last checkpoint wrote.
    changed: bool,
}

/// What a checkpoint has to write: rows to put and producers to remove.
#[derive(Debug, Default)]
pub(super) struct Changes {
    pub(super) put: Vec<(ProducerId, Vec<u8>)>,
    pub(super) removed: Vec<ProducerId>,
}

/// All producers known.
pub(super) struct Producers {
    known: HashMap<ProducerId, Producer>,
    // Removed since the last checkpoint; each had a row, so there are no more than the rows stored.
    forgotten: HashSet<ProducerId>,
    retention: Duration,
    producers_max: usize,
    next_sweep: Timestamp,
}

impl Producers {
    pub(super) fn new(retention: Duration, producers_max: usize) -> Self {
        Self {
            known: HashMap::new(),
            forgotten: HashSet::new(),
            retention,
            producers_max: producers_max.max(1),
            next_sweep: Timestamp::from_micros(i64::MIN),
        }
    }

    pub(super) fn len(&self) -> usize {
        self.known.len()
    }

    /// Takes in a stored row; `false` if its bytes make no sense.
    #[must_use]
    pub(super) fn load(&mut self, producer: &str, row: &[u8]) -> bool {
        let Ok(producer) = ProducerId::new(producer) else { return false };
        let (numbers, rest) = row.as_chunks::<8>();
        if row.len() != ROW_BYTES || !rest.is_empty() {
            return false;
        }
        let mut below = [0; WORDS];
        for (word, bytes) in below.iter_mut().zip(&numbers[2..]) {
            *word = u64::from_le_bytes(*bytes);
        }
        let window = Window { highest: u64::from_le_bytes(numbers[0]), below };
        let used = Timestamp::from_micros(i64::from_le_bytes(numbers[1]));
        self.known.insert(producer, Producer { window, used, changed: false });
        true
    }

    /// The window of a producer, if it is known.
    pub(super) fn window(&self, producer: &ProducerId) -> Option<&Window> {
        self.known.get(producer).map(|known| &known.window)
    }

    /// Remembers that a batch is stored.
    pub(super) fn mark(&mut self, id: &BatchId, now: Timestamp) {
        match self.known.get_mut(&id.producer) {
            Some(known) => {
                known.window.mark(id.sequence);
                known.used = known.used.max(now);
                known.changed = true;
            }
            None => {
                self.forgotten.remove(&id.producer);
                let window = Window::first(id.sequence);
                self.known.insert(id.producer.clone(), Producer { window, used: now, changed: true });
            }
        }
    }

    /// Whether a producer is known or there is room for one more. Forgetting one that may still retry
    /// would count its batch twice, so at the bound new ones are refused until old ones are forgotten.
    pub(super) fn has_room_for(&self, producer: &ProducerId, coming: usize) -> bool {
        self.known.contains_key(producer) || self.known.len() + coming < self.producers_max
    }

    /// Forgets producers unused for the retention time.
    pub(super) fn sweep(&mut self, now: Timestamp) {
        if now < self.next_sweep {
            return;
        }
        let retention_secs = i64::try_from(self.retention.as_secs()).unwrap_or(i64::MAX);
        let oldest = now.plus_secs(-retention_secs);
        self.forget(|producer| producer.used < oldest);
        self.next_sweep = now.plus_secs((retention_secs / 48).max(1));
    }

    fn forget(&mut self, mut goes: impl FnMut(&Producer) -> bool) {
        let forgotten = &mut self.forgotten;
        self.known.retain(|id, producer| {
            let goes = goes(producer);
            if goes {
                forgotten.insert(id.clone());
            }
            !goes
        });
    }

    /// Takes what changed since the last checkpoint.
    pub(super) fn take_changes(&mut self) -> Changes {
        let mut changes = Changes { put: Vec::new(), removed: self.forgotten.drain().collect() };
        for (id, producer) in self.known.iter_mut().filter(|(_, producer)| producer.changed) {
            producer.changed = false;
            changes.put.push((id.clone(), row(producer)));
        }
        changes
    }

    /// Gives changes back that could not be written, for the next checkpoint.
    pub(super) fn give_back(&mut self, changes: Changes) {
        for (id, _) in changes.put {
            if let Some(producer) = self.known.get_mut(&id) {
                producer.changed = true;
            }
        }
        for id in changes.removed {
            if !self.known.contains_key(&id) {
                self.forgotten.insert(id);
            }
        }
    }
}

fn row(producer: &Producer) -> Vec<u8> {
    let mut row = Vec::with_capacity(ROW_BYTES);
    row.extend_from_slice(&producer.window.highest.to_le_bytes());
    row.extend_from_slice(&producer.used.as_micros().to_le_bytes());
    for word in producer.window.below {
        row.extend_from_slice(&word.to_le_bytes());
    }
    row
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn id(producer: &str, sequence: u64) -> BatchId {
        BatchId { producer: ProducerId::new(producer).unwrap(), sequence }
    }

    proptest! {
        /// forall sequences: the window answers as a set of all sequences with a highest would.
        #[test]
        fn the_window_agrees_with_a_set(steps in proptest::collection::vec(0_u64..2500, 1..200)) {
            let mut seen = HashSet::new();
            let mut window: Option<Window> = None;
            let mut base = 0_u64;
            for step in steps {
                // Walk upwards in jumps of very different size, looking back as often as forward.
                base += step / 500 * 90;
                let sequence = base + step;
                let highest = seen.iter().copied().max();
                let expected = match highest {
                    Some(highest) if highest > sequence && highest - sequence > SEQUENCE_WINDOW => Verdict::Stale,
                    _ if seen.contains(&sequence) => Verdict::Seen,
                    _ => Verdict::New,
                };
                let verdict = window.as_ref().map_or(Verdict::New, |window| window.verdict(sequence));
                prop_assert_eq!(verdict, expected);
                if verdict == Verdict::New {
                    seen.insert(sequence);
                    match &mut window {
                        Some(window) => window.mark(sequence),
                        None => window = Some(Window::first(sequence)),
                    }
                }
            }
        }
    }

    #[test]
    fn producers_survive_their_rows() {
        let mut producers = Producers::new(Duration::from_secs(60), 10);
        for sequence in [5, 900, 3, 70] {
            producers.mark(&id("a", sequence), Timestamp::from_secs(1));
        }
        let changes = producers.take_changes();
        assert_eq!(changes.put.len(), 1);
        assert!(producers.take_changes().put.is_empty());
        let mut loaded = Producers::new(Duration::from_secs(60), 10);
        assert!(loaded.load(changes.put[0].0.as_str(), &changes.put[0].1));
        let producer = &id("a", 0).producer;
        assert_eq!(loaded.window(producer), producers.window(producer));
        assert!(!loaded.load("a", &changes.put[0].1[1..]));
    }

    #[test]
    fn unused_producers_are_forgotten_after_the_retention_time() {
        let mut producers = Producers::new(Duration::from_secs(60), 10);
        producers.mark(&id("old", 1), Timestamp::from_secs(0));
        producers.mark(&id("new", 1), Timestamp::from_secs(50));
        let _ = producers.take_changes();
        producers.sweep(Timestamp::from_secs(61));
        assert_eq!(producers.len(), 1);
        assert_eq!(producers.take_changes().removed, [id("old", 1).producer]);
    }

    #[test]
    fn changes_given_back_come_again() {
        let mut producers = Producers::new(Duration::from_secs(60), 10);
        producers.mark(&id("a", 1), Timestamp::from_secs(0));
        let changes = producers.take_changes();
        producers.give_back(changes);
        assert_eq!(producers.take_changes().put.len(), 1);
    }
}
