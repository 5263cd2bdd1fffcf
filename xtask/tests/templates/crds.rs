//! The CRD in the chart, and examples that it would take.

use serde_json::Value;

use super::support::{objects, parse, read, root, the};

const CRD: &str = "crds/tabaclusters.taba.dev.yaml";

fn committed() -> Value {
    parse(&read(CRD)).remove(0)
}

#[test]
fn the_chart_installs_the_committed_definition_unchanged() {
    let rendered = plain_numbers(the(&objects(&[]), "CustomResourceDefinition")["spec"].clone());
    assert_eq!(rendered, plain_numbers(committed()["spec"].clone()));
}

/// Helm knows one kind of number, the types behind the definition two: 1.0 and 1 are the same bound.
fn plain_numbers(value: Value) -> Value {
    match value {
        Value::Number(number) => number.as_f64().map_or(Value::Null, Value::from),
        Value::Array(items) => items.into_iter().map(plain_numbers).collect(),
        Value::Object(fields) => {
            fields.into_iter().map(|(name, value)| (name, plain_numbers(value))).collect()
        }
        other => other,
    }
}

#[test]
fn definitions_stay_when_the_chart_goes_unless_told_otherwise() {
    let policy = |sets: &[&str]| {
        let objects = objects(sets);
        the(&objects, "CustomResourceDefinition")
            .pointer("/metadata/annotations/helm.sh~1resource-policy")
            .cloned()
    };
    assert_eq!(policy(&[]), Some("keep".into()));
    assert_eq!(policy(&["crds.keep=false"]), None);
}

/// The fields of a value that a schema does not know.
fn unknown(path: &str, value: &Value, schema: &Value, found: &mut Vec<String>) {
    match value {
        Value::Object(fields) if schema["x-kubernetes-preserve-unknown-fields"] != true => {
            for (name, value) in fields {
                let property = schema["properties"].get(name).or_else(|| schema.get("additionalProperties"));
                match property {
                    Some(property) => unknown(&format!("{path}.{name}"), value, property, found),
                    None => found.push(format!("{path}.{name}")),
                }
            }
        }
        Value::Array(items) => items.iter().for_each(|item| unknown(path, item, &schema["items"], found)),
        _ => {}
    }
}

#[test]
fn examples_use_only_fields_that_exist() {
    let crd = committed();
    let schema = crd.pointer("/spec/versions/0/schema/openAPIV3Schema").expect("the definition has a schema");
    let folder = root().join("charts/taba/examples");
    let mut examples = 0;
    for entry in std::fs::read_dir(folder).expect("there are examples").flatten() {
        let text = std::fs::read_to_string(entry.path()).expect("it can be read");
        for example in parse(&text) {
            assert_eq!(example["kind"], "TabaCluster");
            let mut found = Vec::new();
            unknown(".spec", &example["spec"], &schema["properties"]["spec"], &mut found);
            assert!(found.is_empty(), "{}: {found:?}", entry.path().display());
            examples += 1;
        }
    }
    assert!(examples >= 3, "only {examples} examples");
}
