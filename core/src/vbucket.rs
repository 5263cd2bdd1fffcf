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
