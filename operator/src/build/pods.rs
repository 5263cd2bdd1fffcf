//! What all pods have in common: no rights, no token, no way to write outside their volumes (the level
//! `restricted`), names that resolve at the first try, and neighbours that are not of their kind.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{
    Affinity, Capabilities, Container, ContainerPort, EnvVar, EnvVarSource, ExecAction, HTTPGetAction,
    LocalObjectReference, ObjectFieldSelector, PodAffinityTerm, PodAntiAffinity, PodDNSConfig,
    PodDNSConfigOption, PodSecurityContext, PodSpec, PodTemplateSpec, Probe, ResourceRequirements,
    SeccompProfile, SecurityContext, ServiceAccount, TCPSocketAction, TopologySpreadConstraint, Volume,
    VolumeMount, WeightedPodAffinityTerm,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use super::labels::{Component, match_labels, of_component, selector};
use super::{Objects, Valid};
use crate::api::{PodTemplate, ResourceList, Resources};

/// The user and group of every process. Numbers, because images may name none; any will do, since nothing is
/// written but volumes, which are given to the group.
const NOBODY: i64 = 65532;

const HOST_TOPOLOGY: &str = "kubernetes.io/hostname";
const ZONE_TOPOLOGY: &str = "topology.kubernetes.io/zone";

/// What makes one pod differ from another.
pub(super) struct Pod<'a> {
    pub(super) component: Component,
    pub(super) overrides: &'a PodTemplate,
    pub(super) annotations: BTreeMap<String, String>,
    pub(super) grace_secs: i64,
    pub(super) init_containers: Vec<Container>,
    pub(super) containers: Vec<Container>,
    pub(super) volumes: Vec<Volume>,
}

/// Makes the template of pods.
pub(super) fn template(valid: &Valid, pod: Pod<'_>) -> PodTemplateSpec {
    let Pod { component, overrides, annotations, .. } = &pod;
    let mut labels = overrides.labels.clone();
    labels.extend(of_component(&valid.names, *component));
    let mut all_annotations = overrides.annotations.clone();
    all_annotations.extend(annotations.clone());
    PodTemplateSpec {
        metadata: Some(ObjectMeta {
            labels: Some(labels),
            annotations: Some(all_annotations).filter(|annotations| !annotations.is_empty()),
            ..ObjectMeta::default()
        }),
        spec: Some(spec(valid, pod)),
    }
}

fn spec(valid: &Valid, pod: Pod<'_>) -> PodSpec {
    let overrides = pod.overrides;
    let pull_secrets = valid.spec.image_pull_secrets.iter();
    let secured = |container: Container| secured(valid, container);
    PodSpec {
        service_account_name: Some(valid.names.with(account(pod.component))),
        automount_service_account_token: Some(false),
        // Variables of Services would be read as settings: of a Service `taba`, TABA_PORT.
        enable_service_links: Some(false),
        security_context: Some(pod_security()),
        dns_config: Some(dns()),
        termination_grace_period_seconds: Some(pod.grace_secs),
        image_pull_secrets: some(
            pull_secrets.map(|secret| LocalObjectReference { name: secret.name.clone() }).collect(),
        ),
        affinity: Some(overrides.affinity.clone().unwrap_or_else(|| apart(valid, pod.component))),
        topology_spread_constraints: Some(spread(valid, pod.component, overrides)),
        tolerations: some(overrides.tolerations.clone()),
        node_selector: Some(overrides.node_selector.clone()).filter(|labels| !labels.is_empty()),
        priority_class_name: overrides.priority_class_name.clone(),
        init_containers: some(pod.init_containers.into_iter().map(&secured).collect()),
        containers: pod.containers.into_iter().map(secured).collect(),
        volumes: some(pod.volumes),
        ..PodSpec::default()
    }
}

fn pod_security() -> PodSecurityContext {
    PodSecurityContext {
        run_as_non_root: Some(true),
        run_as_user: Some(NOBODY),
        run_as_group: Some(NOBODY),
        fs_group: Some(NOBODY),
        fs_group_change_policy: Some("OnRootMismatch".to_owned()),
        seccomp_profile: Some(SeccompProfile { type_: "RuntimeDefault".to_owned(), localhost_profile: None }),
        ..PodSecurityContext::default()
    }
}

fn secured(valid: &Valid, container: Container) -> Container {
    Container {
        image_pull_policy: valid.spec.image_pull_policy.map(|policy| policy.as_str().to_owned()),
        security_context: Some(SecurityContext {
            allow_privilege_escalation: Some(false),
            read_only_root_filesystem: Some(true),
            run_as_non_root: Some(true),
            capabilities: Some(Capabilities { drop: Some(vec!["ALL".to_owned()]), add: None }),
            ..SecurityContext::default()
        }),
        ..container
    }
}

/// A name server that does not answer is given up soon, because Sentinel and Redis stand still while they wait
/// for it.
fn dns() -> PodDNSConfig {
    let option = |name: &str, value: &str| PodDNSConfigOption {
        name: Some(name.to_owned()),
        value: Some(value.to_owned()),
    };
    PodDNSConfig {
        options: Some(vec![option("timeout", "1"), option("attempts", "2")]),
        ..PodDNSConfig::default()
    }
}

/// Preferred and not required: a small cluster has fewer nodes than a shard has members.
fn apart(valid: &Valid, component: Component) -> Affinity {
    let term = PodAffinityTerm {
        label_selector: Some(match_labels(selector(&valid.names, component))),
        topology_key: HOST_TOPOLOGY.to_owned(),
        ..PodAffinityTerm::default()
    };
    Affinity {
        pod_anti_affinity: Some(PodAntiAffinity {
            preferred_during_scheduling_ignored_during_execution: Some(vec![WeightedPodAffinityTerm {
                weight: 100,
                pod_affinity_term: term,
            }]),
            ..PodAntiAffinity::default()
        }),
        ..Affinity::default()
    }
}

fn spread(valid: &Valid, component: Component, overrides: &PodTemplate) -> Vec<TopologySpreadConstraint> {
    if !overrides.topology_spread_constraints.is_empty() {
        return overrides.topology_spread_constraints.clone();
    }
    // Else pods of the old template would count while a Deployment rolls.
    let of_template = matches!(component, Component::Server(_)).then(|| vec!["pod-template-hash".to_owned()]);
    let over = |topology: &str| TopologySpreadConstraint {
        max_skew: 1,
        topology_key: topology.to_owned(),
        when_unsatisfiable: "ScheduleAnyway".to_owned(),
        label_selector: Some(match_labels(selector(&valid.names, component))),
        match_label_keys: of_template.clone(),
        ..TopologySpreadConstraint::default()
    };
    vec![over(ZONE_TOPOLOGY), over(HOST_TOPOLOGY)]
}

const fn account(component: Component) -> &'static str {
    match component {
        Component::Shard(_) => "redis",
        Component::Sentinel => "sentinel",
        Component::Server(_) => "server",
    }
}

/// Accounts without rights, so that nothing in these pods ever acts as the namespace's default account.
pub(super) fn service_accounts(valid: &Valid, objects: &mut Objects) {
    let components = [Component::Shard(0), Component::Sentinel, Component::Server(super::Role::Frontend)];
    for component in components {
        objects.owned.service_accounts.push(ServiceAccount {
            metadata: super::labels::cluster_meta(valid, valid.names.with(account(component))),
            automount_service_account_token: Some(false),
            ..ServiceAccount::default()
        });
    }
}

pub(super) fn some<T>(items: Vec<T>) -> Option<Vec<T>> {
    Some(items).filter(|items| !items.is_empty())
}

pub(super) fn words<const N: usize>(words: [&str; N]) -> Vec<String> {
    words.map(str::to_owned).to_vec()
}

pub(super) fn requirements(resources: &Resources) -> ResourceRequirements {
    ResourceRequirements {
        requests: quantities(&resources.requests),
        limits: quantities(&resources.limits),
        ..ResourceRequirements::default()
    }
}

fn quantities(list: &ResourceList) -> Option<BTreeMap<String, Quantity>> {
    let pairs = [("cpu", &list.cpu), ("memory", &list.memory)];
    let given = pairs.into_iter().filter_map(|(name, quantity)| Some((name, quantity.as_ref()?)));
    let given: BTreeMap<_, _> =
        given.map(|(name, quantity)| (name.to_owned(), Quantity(quantity.0.clone()))).collect();
    Some(given).filter(|given| !given.is_empty())
}

pub(super) fn port(name: &str, number: u16) -> ContainerPort {
    ContainerPort {
        name: Some(name.to_owned()),
        container_port: number.into(),
        protocol: Some("TCP".to_owned()),
        ..ContainerPort::default()
    }
}

pub(super) fn mount(volume: &str, path: &str, read_only: bool) -> VolumeMount {
    VolumeMount {
        name: volume.to_owned(),
        mount_path: path.to_owned(),
        read_only: Some(read_only).filter(|read_only| *read_only),
        ..VolumeMount::default()
    }
}

/// How often and how long something is asked before its answer counts.
#[derive(Clone, Copy)]
pub(super) struct Pace {
    pub(super) period_secs: i32,
    pub(super) timeout_secs: i32,
    pub(super) failures: i32,
}

pub(super) fn http_probe(path: &str, port: &str, pace: Pace) -> Probe {
    let get = HTTPGetAction {
        path: Some(path.to_owned()),
        port: IntOrString::String(port.to_owned()),
        ..HTTPGetAction::default()
    };
    Probe { http_get: Some(get), ..probe(pace) }
}

pub(super) fn tcp_probe(port: &str, pace: Pace) -> Probe {
    let socket = TCPSocketAction { port: IntOrString::String(port.to_owned()), host: None };
    Probe { tcp_socket: Some(socket), ..probe(pace) }
}

pub(super) fn exec_probe(command: Vec<String>, pace: Pace) -> Probe {
    Probe { exec: Some(ExecAction { command: Some(command) }), ..probe(pace) }
}

fn probe(pace: Pace) -> Probe {
    Probe {
        period_seconds: Some(pace.period_secs),
        timeout_seconds: Some(pace.timeout_secs),
        failure_threshold: Some(pace.failures),
        ..Probe::default()
    }
}

/// The pod's own name, as `$(POD_NAME)` in arguments.
pub(super) fn pod_name() -> EnvVar {
    EnvVar {
        name: "POD_NAME".to_owned(),
        value_from: Some(EnvVarSource {
            field_ref: Some(ObjectFieldSelector {
                field_path: "metadata.name".to_owned(),
                api_version: Some("v1".to_owned()),
            }),
            ..EnvVarSource::default()
        }),
        value: None,
    }
}
