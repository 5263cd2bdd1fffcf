//! Known defects, one at a time, that fault tests must notice. Compiled in only with the feature `mutants`,
//! and chosen by the environment variable `TABA_MUTANT`.

/// A defect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mutant {
    /// What people do with plain Sentinel: a handover without fence and without waiting for replicas, after which
    /// the new primary opens whatever the votes are, while servers are content with one replica. A bare failover
    /// alone costs nothing acknowledged, for the other two lines hold.
    BareFailover,
    /// A candidate opens whatever the votes are.
    NoVotes,
}

impl Mutant {
    /// Whether this process has the defect.
    #[must_use]
    #[cfg(feature = "mutants")]
    pub fn is_on(self) -> bool {
        use std::sync::LazyLock;
        static CHOSEN: LazyLock<String> = LazyLock::new(|| std::env::var("TABA_MUTANT").unwrap_or_default());
        *CHOSEN
            == match self {
                Self::BareFailover => "bare_failover",
                Self::NoVotes => "no_votes",
            }
    }

    /// Whether this process has the defect: never in this build.
    #[must_use]
    #[cfg(not(feature = "mutants"))]
    pub const fn is_on(self) -> bool {
        false
    }
}
