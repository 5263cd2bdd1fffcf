//! Holds a producer's batches back, so that those under way never spread over more sequences than the
//! receiver can tell from duplicates ([`SEQUENCE_WINDOW`]).
//!
//! The lowest unresolved sequence of a producer opens the window; a batch at or beyond its end waits
//! here until the low one is resolved.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use taba_core::batch::SEQUENCE_WINDOW;
use taba_core::{BatchId, ProducerId};

use super::scheduler::Arrival;

/// Windows of all producers that have unresolved batches. Bounded by the number of batches held.
#[derive(Debug, Default)]
pub(super) struct Windows(HashMap<ProducerId, Window>);

#[derive(Debug, Default)]
struct Window {
    unresolved: BTreeMap<u64, Arrival>,
    held: BTreeSet<u64>,
}

impl Windows {
    /// Whether a batch with this id is held already.
    pub fn contains(&self, id: &BatchId) -> bool {
        self.0.get(&id.producer).is_some_and(|window| window.unresolved.contains_key(&id.sequence))
    }

    /// Takes a batch in; `true` if it may be sent at once.
    pub fn enter(&mut self, id: &BatchId, arrival: Arrival) -> bool {
        let window = self.0.entry(id.producer.clone()).or_default();
        window.unresolved.insert(id.sequence, arrival);
        let open = id.sequence < window.end();
        if !open {
            window.held.insert(id.sequence);
        }
        open
    }

    /// Takes a resolved batch out and returns those that may be sent because of it.
    pub fn leave(&mut self, id: &BatchId) -> Vec<Arrival> {
        let Some(window) = self.0.get_mut(&id.producer) else { return Vec::new() };
        window.unresolved.remove(&id.sequence);
        window.held.remove(&id.sequence);
        if window.unresolved.is_empty() {
            self.0.remove(&id.producer);
            return Vec::new();
        }
        let still_held = window.held.split_off(&window.end());
        let released = std::mem::replace(&mut window.held, still_held);
        released.into_iter().map(|sequence| window.unresolved[&sequence]).collect()
    }
}

impl Window {
    /// The first sequence that must wait.
    fn end(&self) -> u64 {
        let low = self.unresolved.keys().next().copied().unwrap_or(0);
        low.saturating_add(SEQUENCE_WINDOW)
    }
}
