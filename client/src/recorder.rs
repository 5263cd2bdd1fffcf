//! All tabs of a client between two flushes: bounded, and never in the way of the program.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicIsize, AtomicU64, Ordering};

use parking_lot::{Condvar, Mutex, RwLock};
use taba_core::{TabType, Timestamp, name};
use tracing::{error, warn};

use crate::clock;
use crate::tab::{NotRecorded, Tab};

/// A tab without events for so many flushes, and without a handle, is forgotten.
const IDLE_FLUSHES_MAX: u32 = 60;

/// Bounds of what is recorded between two flushes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    pub tabs_max: usize,
    pub bytes_max: usize,
}

/// Events recorded and not recorded.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub recorded: AtomicU64,
    pub bad: AtomicU64,
    pub dropped: AtomicU64,
}

pub(crate) struct Recorder {
    client: Box<str>,
    limits: Limits,
    tabs: RwLock<HashMap<Box<str>, Arc<Tab>>>,
    /// Memory of all tabs. Signed, because changes of different threads may pass each other.
    bytes: AtomicIsize,
    closed: AtomicBool,
    /// Whether anything was recorded since the flush thread looked; lets an idle client sleep.
    dirty: AtomicBool,
    pub signal: Signal,
    pub counters: Counters,
}

/// Wakes the flush thread.
#[derive(Default)]
pub(crate) struct Signal {
    lock: Mutex<()>,
    wake: Condvar,
}

impl Recorder {
    pub fn new(client: &str, limits: Limits) -> Self {
        Self {
            client: client.into(),
            limits,
            tabs: RwLock::new(HashMap::new()),
            bytes: AtomicIsize::new(0),
            closed: AtomicBool::new(false),
            dirty: AtomicBool::new(false),
            signal: Signal::default(),
            counters: Counters::default(),
        }
    }

    pub fn client(&self) -> &str {
        &self.client
    }

    pub fn tabs(&self) -> usize {
        self.tabs.read().len()
    }

    pub fn bytes(&self) -> usize {
        usize::try_from(self.bytes.load(Ordering::Relaxed)).unwrap_or(0)
    }

    /// The tab with this name and type, made if need be. `None`: the name is bad, the tab has another
    /// type, or there are too many tabs; its events are counted as not recorded.
    pub fn tab(&self, tab: &str, tab_type: TabType) -> Result<Arc<Tab>, NotRecorded> {
        let found = self.tabs.read().get(tab).cloned();
        let tab = match found {
            Some(tab) => tab,
            None => self.make_tab(tab, tab_type)?,
        };
        if tab.tab_type() != tab_type {
            warn!(
                tab = tab.name(),
                first = tab.tab_type().as_str(),
                second = tab_type.as_str(),
                "tab is used with two types; events of the second are not recorded"
            );
            return Err(NotRecorded::Bad);
        }
        Ok(tab)
    }

    fn make_tab(&self, tab: &str, tab_type: TabType) -> Result<Arc<Tab>, NotRecorded> {
        if let Err(error) = name::check(tab.as_bytes()) {
            warn!(%error, "tab name is not valid; its events are not recorded");
            return Err(NotRecorded::Bad);
        }
        let mut tabs = self.tabs.write();
        if tabs.len() >= self.limits.tabs_max && !tabs.contains_key(tab) {
            return Err(NotRecorded::Full);
        }
        let made = tabs.entry(tab.into()).or_insert_with(|| Arc::new(Tab::new(tab, tab_type)));
        Ok(Arc::clone(made))
    }

    pub fn record_number(&self, tab: &Result<Arc<Tab>, NotRecorded>, value: f64) {
        let now = clock::now();
        let recorded = tab.as_ref().map_err(|reason| *reason).and_then(|tab| {
            self.admit()?;
            tab.record_number(value, now)
        });
        self.account(recorded);
    }

    pub fn record_json(&self, tab: &Result<Arc<Tab>, NotRecorded>, payload: &str) {
        let now = clock::now();
        let recorded = tab.as_ref().map_err(|reason| *reason).and_then(|tab| {
            self.admit()?;
            tab.record_json(&self.client, payload, now)
        });
        self.account(recorded);
    }

    fn admit(&self) -> Result<(), NotRecorded> {
        let full = self.bytes() >= self.limits.bytes_max;
        if full || self.closed.load(Ordering::Relaxed) { Err(NotRecorded::Full) } else { Ok(()) }
    }

    fn account(&self, recorded: Result<isize, NotRecorded>) {
        let (counter, events) = match recorded {
            Ok(change) => {
                if change != 0 {
                    self.bytes.fetch_add(change, Ordering::Relaxed);
                }
                self.mark_dirty();
                (&self.counters.recorded, 1)
            }
            Err(NotRecorded::Bad) => (&self.counters.bad, 1),
            Err(NotRecorded::Full) => (&self.counters.dropped, 1),
            Err(NotRecorded::Broken { events }) => {
                error!(events, "a tab's state broke; its events of this period are lost");
                (&self.counters.dropped, events)
            }
        };
        counter.fetch_add(events, Ordering::Relaxed);
    }

    /// Gives every tab with events to `take`, as (tab, events, encoded state), until it says stop.
    /// Returns whether all were given.
    pub fn take_all(&self, now: Timestamp, mut take: impl FnMut(&str, u64, &[u8]) -> bool) -> bool {
        let tabs: Vec<Arc<Tab>> = self.tabs.read().values().cloned().collect();
        let mut encoded = Vec::new();
        for tab in tabs {
            encoded.clear();
            let (events, change) = tab.take(now, &mut encoded);
            self.bytes.fetch_add(change, Ordering::Relaxed);
            if events > 0 && !take(tab.name(), events, &encoded) {
                return false;
            }
        }
        self.forget_idle();
        true
    }

    fn forget_idle(&self) {
        let idle = |tab: &Arc<Tab>| tab.idle().0 > IDLE_FLUSHES_MAX;
        if !self.tabs.read().values().any(idle) {
            return;
        }
        // A handle is only made under this map's lock, so a count of one stays one here.
        self.tabs.write().retain(|_, tab| {
            let forget = Arc::strong_count(tab) == 1 && idle(tab);
            if forget {
                let bytes = isize::try_from(tab.idle().1).unwrap_or(isize::MAX);
                self.bytes.fetch_sub(bytes, Ordering::Relaxed);
            }
            !forget
        });
    }

    fn mark_dirty(&self) {
        if !self.dirty.load(Ordering::Relaxed) && !self.dirty.swap(true, Ordering::AcqRel) {
            self.signal.notify();
        }
    }

    /// Forgets that anything was recorded; events recorded from here on set the mark again.
    pub fn clear_dirty(&self) {
        self.dirty.store(false, Ordering::Release);
    }

    pub fn is_dirty(&self) -> bool {
        self.dirty.load(Ordering::Acquire)
    }

    pub fn close(&self) {
        self.closed.store(true, Ordering::Release);
        self.signal.notify();
    }

    pub fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Acquire)
    }
}

impl Signal {
    /// Taking the lock orders this after a waiter's check, so no wake-up is lost.
    pub fn notify(&self) {
        drop(self.lock.lock());
        self.wake.notify_all();
    }

    /// Waits until `done`, at most until `deadline` if there is one.
    pub fn wait(&self, deadline: Option<std::time::Instant>, done: impl Fn() -> bool) {
        let mut guard = self.lock.lock();
        while !done() {
            match deadline {
                None => self.wake.wait(&mut guard),
                Some(deadline) => {
                    if self.wake.wait_until(&mut guard, deadline).timed_out() {
                        return;
                    }
                }
            }
        }
    }
}
