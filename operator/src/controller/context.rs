//! What all passes share. What is remembered between passes only makes them cheaper or slower, never different.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use kube::runtime::events::Recorder;
use kube::{Client, ResourceExt as _};
use parking_lot::Mutex;

use super::apply::Futile;
use super::watch::Suspicions;
use crate::api::TabaCluster;
use crate::build::Settings;
use crate::health::Health;
use crate::keepers::Keepers;
use crate::leader::Leadership;
use crate::metrics::Metrics;

/// What all passes share.
pub struct Context {
    /// The API server.
    pub client: Client,
    /// The client of keepers.
    pub keepers: Keepers,
    /// Whether this operator may act.
    pub leadership: Leadership,
    /// How the operator was started.
    pub settings: Settings,
    /// The image of clusters whose spec names none.
    pub release_image: String,
    /// What is counted.
    pub metrics: Metrics,
    /// What probes ask about.
    pub health: Health,
    /// Publishes Events.
    pub recorder: Recorder,
    /// What need not be applied again.
    pub futile: Futile,
    /// By namespace and name.
    remembered: Mutex<HashMap<(String, String), Remembered>>,
    pub(super) begun: Instant,
}

/// What is remembered of a cluster.
#[derive(Debug, Default)]
pub(super) struct Remembered {
    /// Of which cluster of the name.
    uid: Option<String>,
    /// About entries at Sentinels.
    pub(super) suspicions: Suspicions,
    /// Passes that failed in a row.
    pub(super) failures: u32,
    /// Acts that failed in a row.
    pub(super) failed_acts: u32,
    /// When the last pass ended.
    pub(super) passed: Option<Instant>,
    /// When the status was last written.
    pub(super) status_written: Option<Instant>,
}

impl Context {
    /// With nothing remembered.
    #[must_use]
    pub fn new(
        client: Client,
        leadership: Leadership,
        settings: Settings,
        release_image: String,
        metrics: Metrics,
        health: Health,
        recorder: Recorder,
    ) -> Self {
        Self {
            client,
            keepers: Keepers::default(),
            leadership,
            settings,
            release_image,
            metrics,
            health,
            recorder,
            futile: Futile::default(),
            remembered: Mutex::default(),
            begun: Instant::now(),
        }
    }

    /// Changes what is remembered of this very cluster; of an earlier one of its name, nothing is.
    pub(super) fn remember<T>(&self, cluster: &TabaCluster, change: impl FnOnce(&mut Remembered) -> T) -> T {
        let mut remembered = self.remembered.lock();
        let key = (cluster.namespace().unwrap_or_default(), cluster.name_any());
        let found = remembered.entry(key).or_default();
        if found.uid != cluster.uid() {
            *found = Remembered { uid: cluster.uid(), ..Remembered::default() };
        }
        change(found)
    }

    /// The cluster is gone.
    pub fn forget(&self, namespace: &str, name: &str) {
        self.health.forget(namespace, name);
        self.metrics.forget(namespace, name);
        self.metrics.looks_after(self.health.clusters());
        self.remembered.lock().remove(&(namespace.to_owned(), name.to_owned()));
    }

    pub(super) fn due(&self, cluster: &TabaCluster, after: Duration) {
        let namespace = cluster.namespace().unwrap_or_default();
        self.health.due(&namespace, &cluster.name_any(), Instant::now() + after);
        self.metrics.looks_after(self.health.clusters());
    }
}
