//! Who may apply a vbucket. Leases live in memory: one process has the folder, so after a restart every
//! lease is void and the next owner gets it at once.
//!
//! A token is the number of this opening of the folder (durable before the first lease) above a count
//! of hand-overs, so tokens grow over restarts without a write per hand-over.

use std::time::Duration;

use taba_core::Timestamp;

use crate::store::FencingToken;

/// Hand-overs within one opening fit below this bit: 4 billion.
const EPOCH_SHIFT: u32 = 32;

#[derive(Debug)]
struct Holder {
    owner: String,
    token: FencingToken,
    expires: Timestamp,
}

/// The lease of one vbucket.
#[derive(Debug, Default)]
pub(super) struct LeaseSlot {
    holder: Option<Holder>,
    epoch: u64,
    hand_overs: u64,
}

impl LeaseSlot {
    /// Takes or renews the lease in the given opening; `None` if another owner holds it.
    pub(super) fn take(
        &mut self,
        owner: &str,
        ttl: Duration,
        epoch: u64,
        now: Timestamp,
    ) -> Option<FencingToken> {
        self.forget_other(epoch);
        let expires = now.plus_micros(ttl);
        match &mut self.holder {
            Some(holder) if holder.owner == owner => {
                holder.expires = expires;
                Some(holder.token)
            }
            Some(holder) if now < holder.expires => None,
            _ => {
                self.hand_overs += 1;
                let token = FencingToken((epoch << EPOCH_SHIFT) | self.hand_overs);
                self.holder = Some(Holder { owner: owner.to_owned(), token, expires });
                Some(token)
            }
        }
    }

    /// Whether a write with this token counts.
    pub(super) fn allows(&self, token: FencingToken, epoch: u64, now: Timestamp) -> bool {
        let held = self.holder.as_ref().filter(|_| self.epoch == epoch);
        held.is_some_and(|holder| holder.token == token && now < holder.expires)
    }

    /// Gives the lease back; a lost one is left alone.
    pub(super) fn release(&mut self, token: FencingToken) {
        if self.holder.as_ref().is_some_and(|holder| holder.token == token) {
            self.holder = None;
        }
    }

    /// Takes the lease away: whoever holds it must take it again, with another token.
    pub(super) fn revoke(&mut self) {
        self.holder = None;
    }

    fn forget_other(&mut self, epoch: u64) {
        if self.epoch != epoch {
            *self = Self { holder: None, epoch, hand_overs: 0 };
        }
    }
}

trait PlusDuration {
    fn plus_micros(self, duration: Duration) -> Self;
}

impl PlusDuration for Timestamp {
    fn plus_micros(self, duration: Duration) -> Self {
        let micros = i64::try_from(duration.as_micros()).unwrap_or(i64::MAX);
        Self::from_micros(self.as_micros().saturating_add(micros))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TTL: Duration = Duration::from_secs(10);

    fn at(secs: i64) -> Timestamp {
        Timestamp::from_secs(secs)
    }

    #[test]
    fn a_lease_is_exclusive_until_it_expires() {
        let mut slot = LeaseSlot::default();
        let first = slot.take("a", TTL, 1, at(0)).unwrap();
        assert_eq!(slot.take("b", TTL, 1, at(9)), None);
        assert!(slot.allows(first, 1, at(9)));
        assert!(!slot.allows(first, 1, at(10)));
        let second = slot.take("b", TTL, 1, at(10)).unwrap();
        assert!(second > first && !slot.allows(first, 1, at(10)));
    }

    #[test]
    fn a_later_opening_voids_leases_and_grants_higher_tokens() {
        let mut slot = LeaseSlot::default();
        let first = slot.take("a", TTL, 1, at(0)).unwrap();
        assert!(!slot.allows(first, 2, at(1)));
        assert!(slot.take("b", TTL, 2, at(1)).unwrap() > first);
    }
}
