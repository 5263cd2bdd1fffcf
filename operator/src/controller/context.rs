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
    /// By the uids of clusters.
    remembered: Mutex<HashMap<String, Remembered>>,
    pub(super) begun: Instant,
}

/// What is remembered of a cluster.
#[derive(Debug, Default)]
pub(super) struct Remembered {
    /// About entries at Sentinels.
    pub(super) suspicions: Suspicions,
    /// Passes that failed in a row.
    pub(super) failures: u32,
    /// Acts that failed in a row.
    pub(super) failed_acts: u32,
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

    pub(super) fn remember<T>(&self, uid: &str, change: impl FnOnce(&mut Remembered) -> T) -> T {
        change(self.remembered.lock().entry(uid.to_owned()).or_default())
    }

    /// The cluster is gone.
    pub fn forget(&self, namespace: &str, name: &str, uid: Option<&str>) {
        self.health.forget(namespace, name);
        self.metrics.forget(namespace, name);
        self.metrics.looks_after(self.health.clusters());
        if let Some(uid) = uid {
            self.remembered.lock().remove(uid);
        }
    }

    pub(super) fn due(&self, cluster: &TabaCluster, after: Duration) {
        let namespace = cluster.namespace().unwrap_or_default();
        self.health.due(&namespace, &cluster.name_any(), Instant::now() + after);
        self.metrics.looks_after(self.health.clusters());
    }
}
