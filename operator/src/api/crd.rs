//! The CRD as it is written to `crds/`.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{CustomResourceDefinition, JSON};
use kube::CustomResourceExt as _;
use serde_json::{Value, json};

use super::TabaCluster;

/// Says where the file comes from.
const HEAD: &str = "# Made by `taba-operator crdgen` from operator/src/api. Do not edit.\n";

/// The definition.
///
/// No field may be `null`: Kubernetes then drops a null before it applies defaults and checks rules, so that
/// `has()` in a rule means what it says and a null is the same as a field that is not there. And `spec` may be
/// left out, so that a name is a cluster.
#[must_use]
pub fn crd() -> CustomResourceDefinition {
    let crd = serde_json::to_value(TabaCluster::crd()).expect("a definition is plain data");
    let mut crd: CustomResourceDefinition =
        serde_json::from_value(tidied(crd)).expect("less of a definition is still one");
    for version in &mut crd.spec.versions {
        let root = version.schema.as_mut().and_then(|schema| schema.open_api_v3_schema.as_mut());
        let root = root.expect("a derived definition has a schema");
        root.required = None;
        let spec = root.properties.as_mut().and_then(|properties| properties.get_mut("spec"));
        spec.expect("the root has a spec").default = Some(JSON(json!({})));
    }
    crd
}

/// The definition as the text of a file.
///
/// # Errors
/// If it cannot be written as YAML.
pub fn crd_yaml() -> Result<String, serde_yaml::Error> {
    Ok(format!("{HEAD}{}", serde_yaml::to_string(&crd())?))
}

/// Without `nullable`, and with descriptions that break lines where the reader's screen does.
fn tidied(value: Value) -> Value {
    match value {
        Value::Object(object) => {
            let is_null = |name: &str, value: &Value| name == "nullable" && value.is_boolean();
            let kept = object.into_iter().filter(|(name, value)| !is_null(name, value));
            let tidied = kept.map(|(name, value)| match value {
                Value::String(text) if name == "description" => (name, unwrapped(&text).into()),
                value => (name, tidied(value)),
            });
            Value::Object(tidied.collect())
        }
        Value::Array(items) => Value::Array(items.into_iter().map(tidied).collect()),
        other => other,
    }
}

/// Paragraphs as one line each.
fn unwrapped(text: &str) -> String {
    text.split("\n\n").map(|paragraph| paragraph.replace('\n', " ")).collect::<Vec<_>>().join("\n\n")
}

#[cfg(test)]
mod tests;
