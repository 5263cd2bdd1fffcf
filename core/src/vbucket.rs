//! Maps a Tab Name to its vbucket: the fixed hash slot that decides where the tab lives.
//!
//! `vbucket = xxh3_64(tab name bytes, seed 0) mod V`, where V is the vbucket count of the cluster and
//! never changes under live data. Test vectors stand in the tests below and in `docs/wire.md`.

/// A vbucket: a number below the cluster's [`VbucketCount`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Vbucket(pub u16);

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
    fn counts_outside_the_range_are_refused() {
        assert_eq!(VbucketCount::new(0), None);
        assert_eq!(VbucketCount::new(VBUCKETS_MAX + 1), None);
        assert!(VbucketCount::new(VBUCKETS_MAX).is_some());
    }
}
