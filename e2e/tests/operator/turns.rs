//! Who plays beside whom, so that a scenario may wait until it is alone.

use std::collections::BTreeSet;
use std::sync::{Condvar, Mutex};
use std::time::Duration;

use anyhow::{Result, bail, ensure};
use taba_e2e::api::{find, list, path};

use crate::kubectl::{text, until};

/// Longest wait for all objects of a scenario to be gone.
const GONE: Duration = Duration::from_secs(240);

/// What all scenarios share.
#[derive(Default)]
pub struct Turns {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    /// Scenarios that have not ended, without those that wait.
    busy: usize,
    /// The places of those that wait to be alone.
    waiting: BTreeSet<u8>,
    /// Namespaces that are on their way out.
    going: Vec<String>,
}

impl Turns {
    /// So many scenarios are going to be played.
    pub fn expect(&self, scenarios: usize) {
        self.change(|state| state.busy += scenarios);
    }

    /// One of them has ended, and its namespaces go.
    pub fn ended(&self, namespaces: &mut Vec<String>) {
        self.change(|state| {
            state.busy -= 1;
            state.going.append(namespaces);
        });
    }

    /// Waits until no other scenario plays. Those that wait go on by their places, one when the other has ended.
    pub fn wait_to_be_alone(&self, place: u8) {
        self.change(|state| {
            state.busy -= 1;
            state.waiting.insert(place);
        });
        let not_yet = |state: &mut State| state.busy > 0 || state.waiting.first() != Some(&place);
        let state = self.state.lock().expect("no holder panics");
        let mut state = self.changed.wait_while(state, not_yet).expect("no holder panics");
        state.waiting.remove(&place);
        state.busy += 1;
    }

    /// Waits until the namespaces of all scenarios that have ended are gone.
    pub fn swept(&self) -> Result<()> {
        let going = self.change(|state| std::mem::take(&mut state.going));
        going.iter().try_for_each(|namespace| gone(namespace))
    }

    /// Waits until the operator has no cluster of a scenario that has ended; their pods may be going still.
    pub fn forgotten(&self) -> Result<()> {
        let going = self.change(|state| state.going.clone());
        going.iter().try_for_each(|namespace| {
            until(&format!("clusters of {namespace} are gone"), GONE, || {
                let left = list(&path(namespace, "taba.dev/v1alpha1 tabaclusters"))?.len();
                ensure!(left == 0, "{left} are left");
                Ok(())
            })
        })
    }

    fn change<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        let changed = change(&mut self.state.lock().expect("no holder panics"));
        self.changed.notify_all();
        changed
    }
}

/// Waits until a namespace is gone with all that was in it: a finalizer that hangs would keep it.
fn gone(namespace: &str) -> Result<()> {
    until(&format!("namespace {namespace} is gone"), GONE, || {
        let Some(found) = find(&format!("/api/v1/namespaces/{namespace}"))? else { return Ok(()) };
        bail!("it is {}: {}", text(&found, "/status/phase"), found["status"]["conditions"])
    })
}
