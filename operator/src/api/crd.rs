//! The CRD as it is written to `crds/`.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::CustomResourceExt as _;
use serde_json::Value;

use super::TabaCluster;

/// Says where the file comes from.
const HEAD: &str = "# Made by `taba-operator crdgen` from operator/src/api. Do not edit.\n";

/// The definition.
///
/// No field may be `null`: Kubernetes then drops a null before it applies defaults and checks rules, so that
/// `has()` in a rule means what it says and a null is the same as a field that is not there.
#[must_use]
pub fn crd() -> CustomResourceDefinition {
    let crd = serde_json::to_value(TabaCluster::crd()).expect("a definition is plain data");
    serde_json::from_value(without_null(crd)).expect("less of a definition is still one")
}

/// The definition as the text of a file.
///
/// # Errors
/// If it cannot be written as YAML.
pub fn crd_yaml() -> Result<String, serde_yaml::Error> {
    Ok(format!("{HEAD}{}", serde_yaml::to_string(&crd())?))
}

fn without_null(value: Value) -> Value {
    match value {
        Value::Object(object) => {
            let is_null = |name: &str, value: &Value| name == "nullable" && value.is_boolean();
            let kept = object.into_iter().filter(|(name, value)| !is_null(name, value));
            Value::Object(kept.map(|(name, value)| (name, without_null(value))).collect())
        }
        Value::Array(items) => Value::Array(items.into_iter().map(without_null).collect()),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_committed_file_is_what_the_types_say() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../crds/tabaclusters.taba.dev.yaml");
        let committed = std::fs::read_to_string(path).unwrap_or_default();
        let expected = crd_yaml().expect("the definition is written");
        assert!(committed == expected, "{path} is stale: run `cargo run -p taba-operator -- crdgen`");
    }
}
