//! The gate: reads may be answered while enough replicas acknowledge, and for a short while after.
//!
//! Each renewal is a write that replicas are asked to acknowledge, so replica offsets are fresh at each tick.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::sleep;

use crate::decide::votes::{ACK_FRESH_MS, GATE_AHEAD_MS};

use super::Keeper;

/// Time between two renewals.
const RENEWAL: Duration = Duration::from_millis(250);

/// The same until replicas have acknowledged for the first time.
const FIRST: Duration = Duration::from_millis(50);

/// Longest wait for replicas to acknowledge.
const WAIT: Duration = Duration::from_millis(100);

impl Keeper {
    pub(super) async fn renew_gate_forever(self: Arc<Self>) {
        loop {
            let is_acknowledged = self.renew_gate().await;
            sleep(if is_acknowledged { RENEWAL } else { FIRST }).await;
        }
    }

    /// Renews once. Says whether there is no hurry.
    async fn renew_gate(&self) -> bool {
        let Some(term) = self.write_gate().await else { return true };
        let asked = self.now();
        let replicas = self.config.members.len() - 1;
        let acknowledged = match self.local.wait(replicas, WAIT).await {
            Ok(acknowledged) => acknowledged,
            Err(error) => {
                tracing::debug!(%error, "replicas were not asked");
                return false;
            }
        };
        let mut core = self.core().await;
        if acknowledged < self.config.min_in_sync || core.open != Some(term) {
            return false;
        }
        let is_first = core.acknowledged.is_none();
        core.acknowledged = Some(asked);
        // The first acknowledgement opens reads at once.
        !is_first
    }

    async fn write_gate(&self) -> Option<u64> {
        let core = self.core().await;
        let term = core.open.filter(|_| !core.handing_over && !core.notes().fenced)?;
        let is_fresh = core.acknowledged.is_some_and(|at| self.now().saturating_sub(at) < ACK_FRESH_MS);
        let ahead = (self.config.min_in_sync == 0 || is_fresh).then_some(GATE_AHEAD_MS * 1_000);
        // Under the lock, so that no vote comes between the check and the write.
        if let Err(error) = self.local.renew_gate(term, ahead).await {
            tracing::debug!(%error, "the gate was not renewed");
        }
        Some(term)
    }
}
