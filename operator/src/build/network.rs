//! Who may speak with whom. Pods of a cluster take no connection that is not named here, so that no pod of
//! another cluster, whatever address it has, reaches a Redis of this one.
//!
//! ```text
//! anyone ──▶ frontend          servers, keepers, Sentinels ──▶ Sentinel
//! servers, Sentinels, members of the shard ──▶ Redis
//! members of the shard, operator, monitoring ──▶ keeper
//! servers, operator, monitoring ──▶ backend, control
//! ```

use k8s_openapi::api::networking::v1::{
    NetworkPolicy, NetworkPolicyIngressRule, NetworkPolicyPeer, NetworkPolicyPort, NetworkPolicySpec,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use super::labels::{
    COMPONENT_LABEL, Component, Labels, OPERATOR_NAME, SCRAPES_LABEL, cluster_meta, labels, match_labels,
    meta, of_cluster, selector,
};
use super::{KEEPER_PORT, Objects, REDIS_PORT, Role, SENTINEL_PORT, SERVER_PORT, Valid};

pub(super) fn build(valid: &Valid, objects: &mut Objects) {
    let names = &valid.names;
    let mut policies = vec![NetworkPolicy {
        metadata: cluster_meta(valid, names.cluster().to_owned()),
        spec: Some(spec(of_cluster(names), Vec::new())),
    }];
    let mut add = |name: String, component: Component, rules: Vec<NetworkPolicyIngressRule>| {
        policies.push(NetworkPolicy {
            metadata: meta(valid, name, component),
            spec: Some(spec(selector(names, component), rules)),
        });
    };
    for index in 0..valid.shards() {
        add(names.shard(index), Component::Shard(index), shard(valid, index));
    }
    let everyone = ["redis", "sentinel", "frontend", "backend", "control"];
    let sentinels = vec![part(valid, &everyone), operator(valid)];
    add(names.sentinel(), Component::Sentinel, vec![rule(sentinels, SENTINEL_PORT)]);
    for role in Role::ALL {
        let from = match role {
            // No peers: everyone.
            Role::Frontend => Vec::new(),
            Role::Backend | Role::Control => vec![servers(valid), operator(valid), monitoring()],
        };
        add(names.role(role), Component::Server(role), vec![rule(from, SERVER_PORT)]);
    }
    objects.owned.network_policies.append(&mut policies);
}

fn shard(valid: &Valid, index: usize) -> Vec<NetworkPolicyIngressRule> {
    let members = peer(selector(&valid.names, Component::Shard(index)));
    let redis = vec![members.clone(), part(valid, &["sentinel"]), servers(valid)];
    let keeper = vec![members, operator(valid), monitoring()];
    vec![rule(redis, REDIS_PORT), rule(keeper, KEEPER_PORT)]
}

fn spec(pods: Labels, rules: Vec<NetworkPolicyIngressRule>) -> NetworkPolicySpec {
    NetworkPolicySpec {
        pod_selector: Some(match_labels(pods)),
        policy_types: Some(vec!["Ingress".to_owned()]),
        ingress: Some(rules).filter(|rules| !rules.is_empty()),
        egress: None,
    }
}

fn rule(from: Vec<NetworkPolicyPeer>, port: u16) -> NetworkPolicyIngressRule {
    NetworkPolicyIngressRule {
        from: Some(from).filter(|peers| !peers.is_empty()),
        ports: Some(vec![NetworkPolicyPort {
            port: Some(IntOrString::Int(port.into())),
            protocol: Some("TCP".to_owned()),
            end_port: None,
        }]),
    }
}

fn servers(valid: &Valid) -> NetworkPolicyPeer {
    part(valid, &Role::ALL.map(Role::as_str))
}

/// Pods of these components.
fn part(valid: &Valid, components: &[&str]) -> NetworkPolicyPeer {
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelectorRequirement;
    let among = LabelSelectorRequirement {
        key: COMPONENT_LABEL.to_owned(),
        operator: "In".to_owned(),
        values: Some(components.iter().map(|&name| name.to_owned()).collect()),
    };
    NetworkPolicyPeer {
        pod_selector: Some(LabelSelector {
            match_labels: Some(of_cluster(&valid.names)),
            match_expressions: Some(vec![among]),
        }),
        ..NetworkPolicyPeer::default()
    }
}

fn operator(valid: &Valid) -> NetworkPolicyPeer {
    let namespace = labels([("kubernetes.io/metadata.name", &valid.operator_namespace)]);
    NetworkPolicyPeer {
        namespace_selector: Some(match_labels(namespace)),
        ..peer(labels([("app.kubernetes.io/name", OPERATOR_NAME)]))
    }
}

fn monitoring() -> NetworkPolicyPeer {
    NetworkPolicyPeer {
        namespace_selector: Some(LabelSelector::default()),
        ..peer(labels([(SCRAPES_LABEL, "true")]))
    }
}

fn peer(pods: Labels) -> NetworkPolicyPeer {
    NetworkPolicyPeer { pod_selector: Some(match_labels(pods)), ..NetworkPolicyPeer::default() }
}
