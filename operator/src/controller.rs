//! The controller: one queue of clusters, filled by watches and by time, emptied by passes.
//!
//! ```text
//! TabaCluster ──┐
//! children ─────┼─▶ queue ─▶ reconcile: observe → validate → build → apply → plan → act → report
//! time ─────────┘            (reads)    (pure) (pure)  (writes) (pure) (writes) (pure, writes)
//! ```
//!
//! Watches of children are limited to objects with the operator's label and bring metadata only: they say that
//! something changed, and a pass looks what.

pub mod act;
pub mod apply;
pub mod context;
pub mod differ;
pub mod events;
mod finish;
pub mod observe;
pub mod plan;
pub mod pods;
pub mod reconcile;
pub mod report;
pub mod retained;
pub mod stage;
pub mod watch;
pub mod world;

use std::fmt::Debug;
use std::sync::Arc;

use futures::StreamExt as _;
use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::apps::v1::{Deployment, StatefulSet};
use k8s_openapi::api::autoscaling::v2::HorizontalPodAutoscaler;
use k8s_openapi::api::core::v1::{ConfigMap, Pod, Secret, Service, ServiceAccount};
use k8s_openapi::api::networking::v1::NetworkPolicy;
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use kube::api::PartialObjectMeta;
use kube::runtime::controller::{Config, Controller, Error as ControllerError};
use kube::runtime::reflector::ObjectRef;
use kube::runtime::watcher;
use kube::{Api, Client, Resource, ResourceExt as _};
use tokio::sync::watch as signal;

use crate::api::TabaCluster;
use crate::build::{CLUSTER_LABEL, MANAGER, MANAGER_LABEL};
use context::Context;
use reconcile::{error_policy, reconcile};

/// A watch ends after so long and begins anew, so that a connection that died silently is noticed.
const WATCH_SECS: u32 = 200;

/// Where clusters are looked after: in one namespace, or in all.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scope(pub Option<String>);

impl Scope {
    /// The API of a kind within the scope.
    #[must_use]
    pub fn api<K>(&self, client: &Client) -> Api<K>
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope>,
    {
        match &self.0 {
            None => Api::all(client.clone()),
            Some(namespace) => Api::namespaced(client.clone(), namespace),
        }
    }
}

/// Looks after the clusters of a scope until `stop` says so; passes that have begun end first.
pub async fn run(context: Arc<Context>, scope: Scope, passes_max: u16, mut stop: signal::Receiver<bool>) {
    let client = context.client.clone();
    let watched = watcher::Config::default().timeout(WATCH_SECS);
    // Not debounced, which would put a pass off for as long as pods go on changing; passes keep their distance.
    let config = Config::default().concurrency(passes_max);
    let controller = Controller::new(scope.api::<TabaCluster>(&client), watched).with_config(config);
    let controller = children::<StatefulSet>(controller, &scope, &client);
    let controller = children::<Deployment>(controller, &scope, &client);
    let controller = children::<Pod>(controller, &scope, &client);
    let controller = children::<Service>(controller, &scope, &client);
    let controller = children::<ConfigMap>(controller, &scope, &client);
    let controller = children::<Secret>(controller, &scope, &client);
    let controller = children::<ServiceAccount>(controller, &scope, &client);
    let controller = children::<NetworkPolicy>(controller, &scope, &client);
    let controller = children::<PodDisruptionBudget>(controller, &scope, &client);
    let controller = children::<HorizontalPodAutoscaler>(controller, &scope, &client);
    let stopped = async move {
        // An error means that the sender is gone, and then it is time to stop as well.
        let _ = stop.wait_for(|stop| *stop).await;
    };
    controller
        .graceful_shutdown_on(stopped)
        .run(reconcile, error_policy, Arc::clone(&context))
        .for_each(|outcome| {
            match outcome {
                // The error policy has told of it.
                Ok(_) | Err(ControllerError::ReconcilerFailed(..)) => {}
                Err(ControllerError::ObjectNotFound(gone)) => {
                    context.forget(gone.namespace.as_deref().unwrap_or_default(), &gone.name);
                }
                Err(error) => tracing::warn!(%error, "a watch failed; it begins anew"),
            }
            std::future::ready(())
        })
        .await;
}

fn children<K>(controller: Controller<TabaCluster>, scope: &Scope, client: &Client) -> Controller<TabaCluster>
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope> + Clone + Debug + Send + Sync + 'static,
{
    let ours = format!("{MANAGER_LABEL}={MANAGER}");
    let config = watcher::Config::default().labels(&ours).timeout(WATCH_SECS);
    controller.watches(scope.api::<PartialObjectMeta<K>>(client), config, |child| cluster_of(&child))
}

/// The cluster that an object's labels name.
fn cluster_of<K: Resource>(child: &K) -> Option<ObjectRef<TabaCluster>> {
    let name = child.meta().labels.as_ref()?.get(CLUSTER_LABEL)?;
    Some(ObjectRef::new(name).within(&child.namespace()?))
}

#[cfg(test)]
mod tests {
    use kube::api::ObjectMeta;

    use super::*;

    #[test]
    fn a_child_belongs_to_the_cluster_its_label_names() {
        let labels = [(CLUSTER_LABEL.to_owned(), "main".to_owned())].into();
        let metadata = ObjectMeta {
            name: Some("main-s0-0".to_owned()),
            namespace: Some("ns".to_owned()),
            labels: Some(labels),
            ..ObjectMeta::default()
        };
        let pod = Pod { metadata, ..Pod::default() };
        let found = cluster_of(&pod).expect("labelled");
        assert_eq!((found.name.as_str(), found.namespace.as_deref()), ("main", Some("ns")));
        assert_eq!(cluster_of(&Pod::default()), None);
    }
}
