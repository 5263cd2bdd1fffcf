//! Whether Sentinel may promote this member. A hint that saves a failover, never a proof: an opening is
//! proved by votes.

/// What a member in the set has. All the same, because Sentinel heeds priority before offsets.
pub const PROMOTABLE: u32 = 100;

/// What a settled member outside the set has: better than no candidate at all, as where a primary dies before
/// its set has grown. Votes keep it closed if it lacks something.
pub const LAST_RESORT: u32 = 200;

/// What the rule looks at.
#[derive(Clone, Copy, Debug)]
pub struct Standing {
    /// Own data name this member in the in-sync set.
    pub in_sync: bool,
    /// Own data are on disk.
    pub settled: bool,
    /// An operator took the choice away.
    pub held_back: bool,
    /// Another member was preferred a short while ago.
    pub other_preferred: bool,
}

/// The `replica-priority` to have; 0 keeps Sentinel from promoting.
#[must_use]
pub const fn priority(standing: Standing) -> u32 {
    match standing {
        Standing { settled: false, .. } | Standing { held_back: true, .. } => 0,
        Standing { other_preferred: true, .. } => 0,
        Standing { in_sync: true, .. } => PROMOTABLE,
        Standing { in_sync: false, .. } => LAST_RESORT,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_settled_member_of_the_set_that_nobody_holds_back_may_be_promoted() {
        for bits in 0..16_u8 {
            let bit = |n: u8| bits >> n & 1 == 1;
            let standing =
                Standing { in_sync: bit(0), settled: bit(1), held_back: bit(2), other_preferred: bit(3) };
            let expected = match bits {
                0b0011 => PROMOTABLE,
                0b0010 => LAST_RESORT,
                _ => 0,
            };
            assert_eq!(priority(standing), expected, "{standing:?}");
        }
    }
}
