//! The in-sync set: who fell behind and leaves it, who caught up and enters it.
//!
//! A replica is caught up as of the last moment whose primary offset it has acknowledged. One that was not
//! for [`BEHIND_MS`] leaves, because every acknowledgement waits for each member of the set. The set never
//! goes below `m` replicas: nothing would be gained, as nothing may be acknowledged then.

use std::collections::{HashMap, VecDeque};

use crate::address::Address;

use super::Millis;

/// A replica that was not caught up for so long leaves the set.
pub const BEHIND_MS: Millis = 1_000;

/// A replica caught up as of so long ago may enter.
const NEAR_MS: Millis = 400;

/// A tick later than this says nothing about replicas: we were not running.
const LATE_MS: Millis = 500;

/// Ticks remembered: twice what [`BEHIND_MS`] needs at ten a second, and room for faster ones.
const REMEMBERED_MAX: usize = 64;

/// How far replicas have come, as seen by their primary.
#[derive(Debug, Default)]
pub struct Progress {
    offsets: VecDeque<(Millis, u64)>,
    caught_up: HashMap<Address, Millis>,
}

impl Progress {
    /// Takes what one tick saw: the primary's offset and what each replica has acknowledged.
    pub fn observe(&mut self, now: Millis, offset: u64, acknowledged: &[(Address, u64)]) {
        if self.offsets.back().is_some_and(|(last, _)| now.saturating_sub(*last) > LATE_MS) {
            self.offsets.clear();
            self.caught_up.values_mut().for_each(|at| *at = now);
        }
        self.offsets.push_back((now, offset));
        if self.offsets.len() > REMEMBERED_MAX {
            self.offsets.pop_front();
        }
        for (address, held) in acknowledged {
            let reached = self.offsets.iter().rev().find(|(_, offset)| offset <= held);
            if let Some((at, _)) = reached {
                self.caught_up.insert(address.clone(), *at);
            }
        }
    }

    /// How long ago the replica was last caught up. From the first question on, for one never seen.
    fn behind_ms(&mut self, now: Millis, address: &Address) -> Millis {
        now.saturating_sub(*self.caught_up.entry(address.clone()).or_insert(now))
    }

    /// Whether the replica is known to be caught up right now.
    fn is_near(&self, now: Millis, address: &Address) -> bool {
        self.caught_up.get(address).is_some_and(|at| now.saturating_sub(*at) <= NEAR_MS)
    }
}

/// The smaller set, if someone must leave.
pub fn shrunk(
    set: &[Address],
    me: &Address,
    min_in_sync: usize,
    progress: &mut Progress,
    now: Millis,
) -> Option<Vec<Address>> {
    let mut behind: Vec<_> = set
        .iter()
        .filter(|member| *member != me)
        .map(|member| (progress.behind_ms(now, member), member.clone()))
        .filter(|(behind_ms, _)| *behind_ms > BEHIND_MS)
        .collect();
    behind.sort_by(|a, b| b.cmp(a));
    let replicas = set.iter().filter(|member| *member != me).count();
    behind.truncate(replicas.saturating_sub(min_in_sync));
    if behind.is_empty() {
        return None;
    }
    Some(set.iter().filter(|member| !behind.iter().any(|(_, gone)| gone == *member)).cloned().collect())
}

/// The set without `member`, if that leaves `m` replicas.
#[must_use]
pub fn without(set: &[Address], me: &Address, member: &Address, min_in_sync: usize) -> Option<Vec<Address>> {
    if member == me || !set.contains(member) {
        return None;
    }
    let left: Vec<_> = set.iter().filter(|other| *other != member).cloned().collect();
    let replicas = left.iter().filter(|other| *other != me).count();
    (replicas >= min_in_sync).then_some(left)
}

/// The larger set, if someone may enter: `ready` are the replicas whose keepers say that their data are on
/// disk and their link is up.
#[must_use]
pub fn grown(set: &[Address], ready: &[Address], progress: &Progress, now: Millis) -> Option<Vec<Address>> {
    let mut larger = set.to_vec();
    larger.extend(
        ready.iter().filter(|member| !set.contains(member) && progress.is_near(now, member)).cloned(),
    );
    (larger.len() > set.len()).then_some(larger)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn member(n: u16) -> Address {
        Address::new("127.0.0.1", n)
    }

    fn three() -> Vec<Address> {
        vec![member(1), member(2), member(3)]
    }

    #[test]
    fn a_replica_that_stops_acknowledging_leaves_after_a_second_and_not_before() {
        let mut progress = Progress::default();
        for tick in 0..=11_u64 {
            let now = tick * 100;
            progress.observe(now, 100 + tick, &[(member(2), 100 + tick), (member(3), 100)]);
            let left = shrunk(&three(), &member(1), 1, &mut progress, now);
            let expected = (tick == 11).then(|| vec![member(1), member(2)]);
            assert_eq!(left, expected, "tick {tick}");
        }
    }

    #[test]
    fn a_quiet_replica_of_a_quiet_primary_stays() {
        let mut progress = Progress::default();
        for tick in 0..50 {
            progress.observe(tick * 100, 100, &[(member(2), 100), (member(3), 100)]);
        }
        assert_eq!(shrunk(&three(), &member(1), 1, &mut progress, 4_900), None);
    }

    #[test]
    fn the_worst_leaves_first_and_m_replicas_stay() {
        let mut progress = Progress::default();
        progress.observe(0, 1, &[(member(2), 1), (member(3), 1)]);
        progress.observe(100, 2, &[(member(2), 2), (member(3), 1)]);
        for now in (200..2_000).step_by(100) {
            progress.observe(now, 3, &[(member(2), 2), (member(3), 1)]);
        }
        assert_eq!(shrunk(&three(), &member(1), 1, &mut progress, 2_000), Some(vec![member(1), member(2)]));
        assert_eq!(shrunk(&three(), &member(1), 2, &mut progress, 2_000), None);
    }

    #[test]
    fn nobody_leaves_because_the_primary_itself_was_stopped() {
        let mut progress = Progress::default();
        progress.observe(0, 1, &[(member(2), 1), (member(3), 1)]);
        progress.observe(100, 5, &[(member(2), 1), (member(3), 1)]);
        progress.observe(9_000, 6, &[(member(2), 1), (member(3), 1)]);
        assert_eq!(shrunk(&three(), &member(1), 1, &mut progress, 9_000), None);
    }

    #[test]
    fn only_a_ready_replica_that_is_near_enters() {
        let mut progress = Progress::default();
        progress.observe(0, 10, &[(member(2), 10), (member(3), 9)]);
        let set = vec![member(1)];
        assert_eq!(grown(&set, &[member(3)], &progress, 100), None);
        assert_eq!(grown(&set, &[member(2), member(3)], &progress, 100), Some(vec![member(1), member(2)]));
        assert_eq!(grown(&set, &[member(2)], &progress, 1_000), None);
    }

    proptest! {
        /// forall histories: a set keeps its primary and at least min(m, before) replicas, and only loses.
        #[test]
        fn shrinking_keeps_the_primary_and_m_replicas(
            min_in_sync in 0_usize..4,
            acks in proptest::collection::vec((0_u64..400, 0_u64..60, 0_u64..60, 0_u64..60), 1..40),
        ) {
            let set = vec![member(1), member(2), member(3), member(4)];
            let mut progress = Progress::default();
            let mut now = 0;
            for (step, two, three, four) in acks {
                now += step;
                progress.observe(now, now / 10, &[(member(2), two), (member(3), three), (member(4), four)]);
                if let Some(left) = shrunk(&set, &member(1), min_in_sync, &mut progress, now) {
                    prop_assert!(left.contains(&member(1)));
                    prop_assert!(left.len() > min_in_sync && left.len() < set.len());
                    prop_assert!(left.iter().all(|member| set.contains(member)));
                }
            }
        }
    }
}
