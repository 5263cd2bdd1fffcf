//! The values, their schema and the page about them say the same.

use serde_json::{Map, Value};

use super::support::{parse, read};

fn values() -> Value {
    parse(&read("charts/taba/values.yaml")).remove(0)
}

fn schema() -> Value {
    serde_json::from_str(&read("charts/taba/values.schema.json")).expect("it is JSON")
}

fn object(value: &Value) -> &Map<String, Value> {
    value.as_object().expect("an object")
}

/// Walks both at once and collects what one of them lacks.
fn compare(path: &str, values: &Value, schema: &Value, wrong: &mut Vec<String>) {
    let Some(properties) = schema["properties"].as_object() else { return };
    if schema["additionalProperties"] != false {
        wrong.push(format!("{path}: takes unknown fields"));
    }
    for (name, value) in object(values) {
        match properties.get(name) {
            Some(property) => compare(&format!("{path}.{name}"), value, property, wrong),
            None => wrong.push(format!("{path}.{name}: not in the schema")),
        }
    }
    for (name, property) in properties {
        if property["description"].as_str().is_none_or(str::is_empty) {
            wrong.push(format!("{path}.{name}: no description"));
        }
        // Helm itself adds it.
        if name != "global" && !optional(path, name) && !object(values).contains_key(name) {
            wrong.push(format!("{path}.{name}: no default"));
        }
    }
}

/// Fields whose absence is their default.
fn optional(path: &str, name: &str) -> bool {
    path.starts_with(".resources.") && matches!(name, "cpu" | "ephemeral-storage")
}

#[test]
fn every_value_is_described_and_every_field_has_a_default() {
    let mut wrong = Vec::new();
    compare("", &values(), &schema(), &mut wrong);
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn the_readme_has_a_row_for_every_value() {
    let readme = read("charts/taba/README.md");
    let mut missing = Vec::new();
    for (name, value) in object(&values()) {
        let fields: Vec<String> = match value.as_object() {
            Some(fields) if !fields.is_empty() && name != "resources" => {
                fields.keys().map(|field| format!("{name}.{field}")).collect()
            }
            _ => vec![name.clone()],
        };
        missing.extend(fields.into_iter().filter(|field| !readme.contains(&format!("| `{field}"))));
    }
    assert!(missing.is_empty(), "not in the README: {missing:?}");
}
