//! Services and budgets.

use k8s_openapi::api::core::v1::{Service, ServicePort, ServiceSpec};
use k8s_openapi::api::policy::v1::{PodDisruptionBudget, PodDisruptionBudgetSpec};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use super::Valid;
use super::labels::{Component, match_labels, meta, selector};

/// A Service that gives each pod a name of its own, also before it is ready: keepers and Sentinels must find
/// each other to get ready.
pub(super) fn headless(valid: &Valid, name: String, component: Component, ports: &[(&str, u16)]) -> Service {
    let mut service = service(valid, name, component, ports);
    if let Some(spec) = &mut service.spec {
        spec.cluster_ip = Some("None".to_owned());
        spec.publish_not_ready_addresses = Some(true);
    }
    service
}

/// A Service with an address.
pub(super) fn service(valid: &Valid, name: String, component: Component, ports: &[(&str, u16)]) -> Service {
    let port = |&(name, number): &(&str, u16)| ServicePort {
        name: Some(name.to_owned()),
        port: number.into(),
        target_port: Some(IntOrString::String(name.to_owned())),
        protocol: Some("TCP".to_owned()),
        app_protocol: (name == "http").then(|| "http".to_owned()),
        ..ServicePort::default()
    };
    Service {
        metadata: meta(valid, name, component),
        spec: Some(ServiceSpec {
            type_: Some("ClusterIP".to_owned()),
            selector: Some(selector(&valid.names, component)),
            ports: Some(ports.iter().map(port).collect()),
            ..ServiceSpec::default()
        }),
        ..Service::default()
    }
}

/// How many pods may be evicted at once.
pub(super) fn budget(
    valid: &Valid,
    name: String,
    component: Component,
    max_unavailable: IntOrString,
) -> PodDisruptionBudget {
    // A server that is not ready serves nobody, so it may go. A Redis that is not ready may be loading what only
    // it has.
    let unhealthy = match component {
        Component::Server(_) => "AlwaysAllow",
        Component::Shard(_) | Component::Sentinel => "IfHealthyBudget",
    };
    PodDisruptionBudget {
        metadata: meta(valid, name, component),
        spec: Some(PodDisruptionBudgetSpec {
            max_unavailable: Some(max_unavailable),
            selector: Some(match_labels(selector(&valid.names, component))),
            unhealthy_pod_eviction_policy: Some(unhealthy.to_owned()),
            ..PodDisruptionBudgetSpec::default()
        }),
        ..PodDisruptionBudget::default()
    }
}
