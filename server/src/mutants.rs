//! Known defects, one at a time, that fault tests must notice. Compiled in only with the feature `mutants`,
//! and chosen by the environment variable `TABA_MUTANT`.

/// A defect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mutant {
    /// Every batch is new.
    NoDedupe,
    /// One replica is enough for an acknowledgement, whichever it is.
    WaitOne,
    /// The servers' side of `bare_failover` in the keeper: as [`Mutant::WaitOne`].
    BareFailover,
    /// A lost lease does not keep an owner from reading and writing.
    NoToken,
    /// Entries leave the queue before the states that they went into are written.
    PopBeforeApply,
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
                Self::NoDedupe => "no_dedupe",
                Self::WaitOne => "wait_one",
                Self::BareFailover => "bare_failover",
                Self::NoToken => "no_token",
                Self::PopBeforeApply => "pop_before_apply",
            }
    }

    /// Whether this process has the defect: never in this build.
    #[must_use]
    #[cfg(not(feature = "mutants"))]
    pub const fn is_on(self) -> bool {
        false
    }
}
