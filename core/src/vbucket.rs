//! Maps a Tab Name to its vbucket: the fixed hash slot that decides where the tab lives.
//!
//! `vbucket = xxh3_64(tab name bytes, seed 0) mod V`, where V is the vbucket count of the cluster and
//! never changes under live data. Test vectors stand in the tests below and in `docs/wire.md`.

/// A vbucket: a number below the cluster's [`VbucketCount`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Vbucket(pub u16);

impl Vbucket {
    /// Which of the live owners should own this vbucket: the one with the highest hash of both names
    /// (rendezvous hashing; Thaler and Ravishankar, 1998). Who joins or leaves moves only the vbuckets it
    /// gains or had, and all that know the same owners agree.
    #[must_use]
    pub fn rightful_owner<'a>(self, owners: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
        let claim =
            |owner: &str| xxhash_rust::xxh3::xxh3_64_with_seed(owner.as_bytes(), u64::from(self.0) + 1);
        owners.into_iter().max_by_key(|owner| (claim(owner), *owner))
    }
}

/// How many vbuckets a cluster has: 1 to 4,096.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VbucketCount(u16);

/// Most vbuckets a cluster may have.
pub const VBUCKETS_MAX: u16 = 4096;

impl VbucketCount {
    /// A count of vbuckets; `None` unless it is 1 to [`VBUCKETS_MAX`].
    #[must_use]
    pub const fn new(count: u16) -> Option<Self> {
        if count >= 1 && count <= VBUCKETS_MAX { Some(Self(count)) } else { None }
    }

    /// The count as a number.
    #[must_use]
    pub const fn get(self) -> u16 {
        self.0
    }

    /// The vbucket of a tab.
    #[must_use]
    pub fn of(self, tab: &str) -> Vbucket {
        let slot = xxhash_rust::xxh3::xxh3_64(tab.as_bytes()) % u64::from(self.0);
        Vbucket(slot as u16)
    }

    /// All vbuckets in order.
    pub fn iter(self) -> impl Iterator<Item = Vbucket> {
        (0..self.0).map(Vbucket)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The vectors of `docs/wire.md`.
    #[test]
    fn tabs_keep_their_vbucket_for_ever() {
        let of = |count: u16, tab: &str| VbucketCount::new(count).expect("a valid count").of(tab).0;
        for (tab, slots) in VECTORS {
            assert_eq!([of(64, tab), of(256, tab), of(1000, tab)], slots, "{tab}");
        }
    }

    /// Slots of 64, 256 and 1,000 vbuckets; agrees with another implementation of XXH3.
    const VECTORS: [(&str, [u16; 3]); 5] = [
        ("n1", [20, 148, 772]),
        ("requests", [39, 39, 775]),
        ("host/cpu_pct", [1, 129, 233]),
        ("a", [31, 31, 719]),
        ("taba_events_recieved", [54, 246, 574]),
    ];

    #[test]
    fn owners_share_vbuckets_evenly_and_a_change_moves_only_what_it_must() {
        let owner = |owners: &[&'static str], slot| {
            Vbucket(slot).rightful_owner(owners.iter().copied()).expect("there are owners")
        };
        let (three, two) = (["a", "b", "c"], ["a", "c"]);
        for slot in 0..256 {
            let before = owner(&three, slot);
            assert_eq!(before, owner(&["c", "a", "b"], slot), "the order does not matter");
            if before != "b" {
                assert_eq!(owner(&two, slot), before);
            }
        }
        for name in three {
            let share = (0..256).filter(|slot| owner(&three, *slot) == name).count();
            assert!((60..=110).contains(&share), "{name} has {share} of 256");
        }
        assert_eq!(Vbucket(0).rightful_owner([]), None);
    }

    #[test]
    fn counts_outside_the_range_are_refused() {
        assert_eq!(VbucketCount::new(0), None);
        assert_eq!(VbucketCount::new(VBUCKETS_MAX + 1), None);
        assert!(VbucketCount::new(VBUCKETS_MAX).is_some());
    }
}
