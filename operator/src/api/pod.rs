//! What users may add to pods.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Affinity, Toleration, TopologySpreadConstraint};
use kube::KubeSchema;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// What is added to pods. Changing it restarts them.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PodTemplate {
    /// Further labels. Those that begin with `app.kubernetes.io/` or `taba.dev/` are the operator's.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(schema_with = "labels")]
    #[x_kube(
        validation = Rule::new(
            "self.all(key, !key.startsWith('app.kubernetes.io/') && !key.startsWith('taba.dev/'))"
        ).message(
            "podTemplate.labels must not hold labels of app.kubernetes.io/ or taba.dev/, by which the operator finds \
             pods: use another prefix"
        ),
        validation = Rule::new(
            "self.all(key, size(self[key]) <= 63 && self[key].matches('^(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?$'))"
        ).message(
            "podTemplate.labels values have at most 63 letters, digits, '-', '_' and '.', and begin and end with a \
             letter or digit: correct the value"
        ),
        validation = Rule::new(KEYS_ARE_QUALIFIED).message(
            "podTemplate.labels keys are names such as team or example.org/team: correct the key"
        )
    )]
    pub labels: BTreeMap<String, String>,

    /// Further annotations. Those that begin with `taba.dev/` are the operator's.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(schema_with = "annotations")]
    #[x_kube(
        validation = Rule::new("self.all(key, !key.startsWith('taba.dev/'))").message(
            "podTemplate.annotations must not hold annotations of taba.dev/, which are the operator's: use another \
             prefix"
        ),
        validation = Rule::new(KEYS_ARE_QUALIFIED).message(
            "podTemplate.annotations keys are names such as team or example.org/team: correct the key"
        )
    )]
    pub annotations: BTreeMap<String, String>,

    /// Labels that a node must have to run these pods.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(schema_with = "labels")]
    pub node_selector: BTreeMap<String, String>,

    /// Which nodes and neighbours are wanted. Given, it replaces the default as a whole, by which pods of one
    /// kind avoid each other's nodes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "without_words::<Affinity>")]
    pub affinity: Option<Affinity>,

    /// Taints of nodes that these pods put up with.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "list_without_words::<Toleration>")]
    pub tolerations: Vec<Toleration>,

    /// How pods are spread. Given, it replaces the default as a whole, which spreads over zones and nodes as well
    /// as can be.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "list_without_words::<TopologySpreadConstraint>")]
    pub topology_spread_constraints: Vec<TopologySpreadConstraint>,

    /// Name of the PriorityClass of these pods. Default: the cluster's default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub priority_class_name: Option<String>,
}

const KEYS_ARE_QUALIFIED: &str = "self.all(key, size(key) <= 317 && \
    key.matches('^([a-z0-9][-a-z0-9.]*/)?[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?$'))";

fn labels(_: &mut SchemaGenerator) -> Schema {
    map_of_text(63)
}

fn annotations(_: &mut SchemaGenerator) -> Schema {
    map_of_text(4096)
}

/// The bounds are what lets the API server bound the cost of rules.
fn map_of_text(value_length_max: u32) -> Schema {
    json_schema!({
        "type": "object",
        "maxProperties": 32,
        "additionalProperties": {"type": "string", "maxLength": value_length_max},
    })
}

fn list_without_words<T: JsonSchema>(generator: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "array",
        "maxItems": 32,
        "items": without_words::<T>(generator),
    })
}

/// Kubernetes' own schema without its descriptions, which are longer than all the rest of the CRD.
fn without_words<T: JsonSchema>(generator: &mut SchemaGenerator) -> Schema {
    let mut schema = generator.subschema_for::<T>();
    if let Some(object) = schema.as_object_mut() {
        for (name, value) in object.iter_mut() {
            strip(name == "properties", value);
        }
        object.remove("description");
    }
    schema
}

/// `named`: the keys of `value` are names of properties and not keywords.
fn strip(named: bool, value: &mut Value) {
    match value {
        Value::Object(object) => {
            if !named {
                object.remove("description");
            }
            for (name, value) in object.iter_mut() {
                strip(!named && name == "properties", value);
            }
        }
        Value::Array(items) => items.iter_mut().for_each(|item| strip(false, item)),
        _ => {}
    }
}
