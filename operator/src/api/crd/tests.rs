use super::*;
use crate::api::TabaClusterSpec;

/// The schema of `TabaCluster` at a JSON pointer.
fn schema(pointer: &str) -> Value {
    let crd = serde_json::to_value(crd()).expect("plain data");
    let root = crd.pointer("/spec/versions/0/schema/openAPIV3Schema").expect("a schema").clone();
    root.pointer(pointer).unwrap_or_else(|| panic!("nothing at {pointer}")).clone()
}

#[test]
fn the_committed_file_is_what_the_types_say() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../crds/tabaclusters.taba.dev.yaml");
    let committed = std::fs::read_to_string(path).unwrap_or_default();
    let expected = crd_yaml().expect("the definition is written");
    assert!(committed == expected, "{path} is stale: run `cargo run -p taba-operator -- crdgen`");
}

/// Fills in defaults as an API server does: of an object first, then within it.
fn with_defaults(schema: &Value, value: &mut Value) {
    let (Some(properties), Some(object)) = (schema["properties"].as_object(), value.as_object_mut()) else {
        return;
    };
    for (name, property) in properties {
        if let Some(default) = property.get("default") {
            object.entry(name).or_insert_with(|| default.clone());
        }
        if let Some(value) = object.get_mut(name) {
            with_defaults(property, value);
        }
    }
}

#[test]
fn an_empty_spec_gets_from_the_schema_what_the_types_default_to() {
    let mut cluster = json!({"metadata": {"name": "main"}});
    with_defaults(&schema(""), &mut cluster);
    let spec = cluster["spec"].clone();
    let by_types: TabaClusterSpec = serde_json::from_value(json!({})).expect("an empty spec is one");
    let by_schema: TabaClusterSpec = serde_json::from_value(spec.clone()).expect("defaults fit");
    assert_eq!(by_schema, by_types);
    assert_eq!(by_schema, TabaClusterSpec::default());
    assert_eq!(spec["redis"]["resources"]["limits"]["memory"], "512Mi");
    assert_eq!(spec["frontend"].get("replicas"), None, "a default here would forbid autoscaling");
}

/// Everything under `properties` has words, but for the parts that Kubernetes documents.
fn described(path: &str, schema: &Value) {
    for (name, property) in schema["properties"].as_object().into_iter().flatten() {
        let path = format!("{path}.{name}");
        let words = property["description"].as_str().unwrap_or_default();
        assert!(!words.is_empty(), "{path} has no description");
        let is_theirs = ["affinity", "tolerations", "topologySpreadConstraints"].contains(&name.as_str());
        if !is_theirs {
            described(&path, property);
            described(&path, &property["items"]);
        }
    }
}

#[test]
fn every_field_is_described() {
    described("spec", &schema("/properties/spec"));
    described("status", &schema("/properties/status"));
}

#[test]
fn every_rule_says_what_is_wrong() {
    fn look(value: &Value) -> usize {
        let rules = value["x-kubernetes-validations"].as_array().map_or(0, |rules| {
            for rule in rules {
                assert!(rule["message"].as_str().is_some_and(|message| message.len() > 20), "{rule}");
            }
            rules.len()
        });
        let inner = match value {
            Value::Object(object) => object.values().map(look).sum(),
            Value::Array(items) => items.iter().map(look).sum(),
            _ => 0,
        };
        rules + inner
    }
    assert!(look(&schema("")) > 40);
}

#[test]
fn no_field_may_be_null() {
    let text = serde_json::to_string(&crd()).expect("plain data");
    assert!(!text.contains(r#""nullable""#));
}
