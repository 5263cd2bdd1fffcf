//! What a run does to Taba: a function of its seed and nothing else, so that a failed run can be repeated.
//!
//! Victims are roles ("the primary of shard 1"), found when the fault strikes; which process has the role
//! by then is the only thing a seed does not decide.

use std::time::Duration;

use super::fault::{FIRST, Kind, SECOND};
use super::net::Mode;
use crate::rng::Rng;

/// A fault to come.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// What kind.
    pub kind: Kind,
    /// How long it lasts, where it can last.
    pub length: Duration,
    /// Random bits for its other choices.
    pub seed: u64,
}

/// The faults of a run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// Where it came from.
    pub seed: u64,
    /// One or two faults, in their order.
    pub faults: Vec<Fault>,
    /// From the start of the first to the start of the second, if they overlap; else the second starts
    /// when the first is over.
    pub overlap: Option<Duration>,
    /// From the end of the first to the start of the second, if they do not overlap.
    pub pause: Duration,
}

impl Plan {
    /// The plan of a seed.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        let mut rng = Rng::new(seed);
        // Consecutive seeds walk through both lists, so 20 of them meet every kind, wherever they start.
        let turn = |kinds: &[Kind]| kinds[usize::try_from(seed % kinds.len() as u64).unwrap_or(0)];
        let mut faults = vec![Fault::new(turn(&FIRST), &mut rng), Fault::new(turn(&SECOND), &mut rng)];
        let alone = faults.iter().any(|fault| fault.kind.is_alone());
        // What destroys data goes second: a shard that has just healed is the harder start.
        if !alone && rng.one_in(2) {
            faults.reverse();
        }
        let overlap = (!alone && rng.one_in(2)).then(|| Duration::from_millis(rng.below(1500)));
        let pause = Duration::from_millis(rng.below(1500));
        Self { seed, faults, overlap, pause }
    }

    /// A plan of one kind of fault.
    #[must_use]
    pub fn of_kind(kind: Kind, seed: u64) -> Self {
        let faults = vec![Fault::new(kind, &mut Rng::new(seed))];
        Self { seed, faults, overlap: None, pause: Duration::ZERO }
    }

    /// Without what the lab cannot do in this mode.
    #[must_use]
    pub fn possible(mut self, mode: Mode) -> Self {
        self.faults.retain(|fault| fault.kind.is_possible(mode));
        self
    }

    /// Whether one of its faults is of this kind.
    #[must_use]
    pub fn has(&self, kind: Kind) -> bool {
        self.faults.iter().any(|fault| fault.kind == kind)
    }
}

impl Fault {
    fn new(kind: Kind, rng: &mut Rng) -> Self {
        Self { kind, length: length(rng), seed: rng.bits() }
    }

    /// The generator of its other choices.
    #[must_use]
    pub fn rng(&self) -> Rng {
        Rng::new(self.seed)
    }
}

/// Mostly between 0.1 and 6.4 seconds, every octave equally likely; once in 24 up to 30.
fn length(rng: &mut Rng) -> Duration {
    if rng.one_in(24) {
        return Duration::from_millis(6_400 + rng.below(23_600));
    }
    let octave = 100 << rng.below(6);
    Duration::from_millis(octave + rng.below(octave))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_gives_the_same_plan() {
        for seed in 0..200 {
            assert_eq!(Plan::new(seed), Plan::new(seed));
        }
        assert_ne!(Plan::new(1), Plan::new(381));
    }

    #[test]
    fn twenty_consecutive_seeds_meet_every_kind_wherever_they_start() {
        for start in [0, 1, 7, 19, 20, 379, 1000, u64::MAX - 20] {
            let plans: Vec<_> = (start..start + 20).map(Plan::new).collect();
            for kind in Kind::drawn() {
                assert!(plans.iter().any(|plan| plan.has(kind)), "{kind} from {start}");
            }
        }
    }

    #[test]
    fn many_seeds_meet_every_pair() {
        let plans: Vec<_> = (0..380).map(Plan::new).collect();
        for (first, second) in FIRST.into_iter().flat_map(|first| SECOND.map(|second| (first, second))) {
            assert!(plans.iter().any(|plan| plan.has(first) && plan.has(second)));
        }
    }

    #[test]
    fn what_destroys_data_never_overlaps() {
        for plan in (0..1000).map(Plan::new) {
            let alone = plan.faults.iter().position(|fault| fault.kind.is_alone());
            assert!(alone.is_none_or(|place| place == 1 && plan.overlap.is_none()));
        }
    }

    #[test]
    fn faults_last_between_a_tenth_of_a_second_and_thirty() {
        let lengths: Vec<_> =
            (0..1000).flat_map(|seed| Plan::new(seed).faults).map(|fault| fault.length).collect();
        assert!(lengths.iter().all(|length| (100..30_000).contains(&length.as_millis())));
        assert!(lengths.iter().any(|length| length.as_secs() >= 10));
        assert!(lengths.iter().any(|length| length.as_millis() < 200));
    }
}
