//! Labels and the metadata of objects.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta};

use super::{Names, Valid};

/// Whose label it is to name the cluster.
pub const CLUSTER_LABEL: &str = "app.kubernetes.io/instance";
/// Which part of the cluster something is.
pub const COMPONENT_LABEL: &str = "app.kubernetes.io/component";
/// Who made something.
pub const MANAGER_LABEL: &str = "app.kubernetes.io/managed-by";
/// The operator, as maker of things.
pub const MANAGER: &str = "taba-operator";
/// The operator, as `app.kubernetes.io/name` of its own pods.
pub const OPERATOR_NAME: &str = "taba-operator";
/// The shard of a pod: `s0`.
pub const SHARD_LABEL: &str = "taba.dev/shard";
/// Pods with this label set to `true`, in any namespace, may read `/metrics` of keepers and servers.
pub const SCRAPES_LABEL: &str = "taba.dev/scrapes";

const NAME_LABEL: &str = "app.kubernetes.io/name";
const NAME: &str = "taba";

pub(super) type Labels = BTreeMap<String, String>;

/// A part of the cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Component {
    /// A shard, by its index.
    Shard(usize),
    /// The Sentinels.
    Sentinel,
    /// Servers of a role.
    Server(super::Role),
}

impl Component {
    /// As labels have it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Shard(_) => "redis",
            Self::Sentinel => "sentinel",
            Self::Server(role) => role.as_str(),
        }
    }
}

/// What finds all pods of a cluster.
pub(super) fn of_cluster(names: &Names) -> Labels {
    labels([(NAME_LABEL, NAME), (CLUSTER_LABEL, names.cluster())])
}

/// What finds the pods of a component.
pub(super) fn selector(names: &Names, component: Component) -> Labels {
    let mut found = of_cluster(names);
    found.insert(COMPONENT_LABEL.to_owned(), component.as_str().to_owned());
    if let Component::Shard(index) = component {
        found.insert(SHARD_LABEL.to_owned(), Names::shard_short(index));
    }
    found
}

/// The selector as the `scale` subresource wants it.
#[must_use]
pub fn selector_text(names: &Names, component: Component) -> String {
    let pairs = selector(names, component).into_iter().map(|(key, value)| format!("{key}={value}"));
    pairs.collect::<Vec<_>>().join(",")
}

/// What objects of a component carry.
pub(super) fn of_component(names: &Names, component: Component) -> Labels {
    managed(selector(names, component))
}

/// Metadata of an object of a component, owned by the cluster.
pub(super) fn meta(valid: &Valid, name: String, component: Component) -> ObjectMeta {
    owned(valid, name, of_component(&valid.names, component))
}

/// Metadata of an object that belongs to no component.
pub(super) fn cluster_meta(valid: &Valid, name: String) -> ObjectMeta {
    owned(valid, name, managed(of_cluster(&valid.names)))
}

pub(super) fn match_labels(labels: Labels) -> LabelSelector {
    LabelSelector { match_labels: Some(labels), ..LabelSelector::default() }
}

pub(super) fn labels<const N: usize>(pairs: [(&str, &str); N]) -> Labels {
    pairs.into_iter().map(|(key, value)| (key.to_owned(), value.to_owned())).collect()
}

fn managed(mut labels: Labels) -> Labels {
    labels.insert("app.kubernetes.io/part-of".to_owned(), NAME.to_owned());
    labels.insert(MANAGER_LABEL.to_owned(), MANAGER.to_owned());
    labels
}

fn owned(valid: &Valid, name: String, labels: Labels) -> ObjectMeta {
    ObjectMeta {
        name: Some(name),
        namespace: Some(valid.names.namespace().to_owned()),
        labels: Some(labels),
        owner_references: Some(vec![valid.owner.clone()]),
        ..ObjectMeta::default()
    }
}
