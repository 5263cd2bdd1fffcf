//! What the operator may do: everything it makes, nothing beyond.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::support::{ALL, names, objects, of_kind, read, text, variable};

/// Verbs by `group/resource`.
fn rights(role: &Value) -> BTreeMap<String, BTreeSet<String>> {
    let words = |value: &Value| -> Vec<String> {
        let words = value.as_array().expect("a list").iter();
        words.map(|word| word.as_str().expect("a word").to_owned()).collect()
    };
    let mut rights = BTreeMap::<_, BTreeSet<_>>::new();
    for rule in role["rules"].as_array().expect("a role has rules") {
        for group in words(&rule["apiGroups"]) {
            for resource in words(&rule["resources"]) {
                rights.entry(format!("{group}/{resource}")).or_default().extend(words(&rule["verbs"]));
            }
        }
    }
    rights
}

fn role<'a>(objects: &'a [Value], kind: &str, name: &str) -> &'a Value {
    let mut roles = of_kind(objects, kind).into_iter();
    roles.find(|role| text(role, "/metadata/name") == name).unwrap_or_else(|| panic!("no {kind} {name}"))
}

#[test]
fn in_namespaced_mode_nothing_is_granted_outside_of_the_named_namespaces() {
    let sets = [ALL.as_slice(), &["watchNamespaces={blue,green}"]].concat();
    let objects = objects(&sets);
    let found = names(&objects);
    assert!(!found.iter().any(|name| name.starts_with("ClusterRole")), "{found:?}");
    let places = |kind: &str| -> Vec<(String, String)> {
        let mut places: Vec<_> = of_kind(&objects, kind)
            .iter()
            .map(|role| {
                (text(role, "/metadata/namespace").to_owned(), text(role, "/metadata/name").to_owned())
            })
            .collect();
        places.sort();
        places
    };
    let expected =
        [("blue", "taba-operator"), ("green", "taba-operator"), ("taba-system", "taba-operator-leader")];
    let expected = expected.map(|(namespace, name)| (namespace.to_owned(), name.to_owned()));
    assert_eq!(places("Role"), expected);
    assert_eq!(places("RoleBinding"), expected);
    for binding in of_kind(&objects, "RoleBinding") {
        assert_eq!(text(binding, "/subjects/0/namespace"), "taba-system");
    }
    assert_eq!(variable(&objects, "TABA_OPERATOR_NAMESPACES"), Some("blue,green"));
    let monitor = of_kind(&objects, "PodMonitor")[0];
    assert_eq!(monitor["spec"]["namespaceSelector"], serde_json::json!({"matchNames": ["blue", "green"]}));
}

#[test]
fn both_modes_grant_the_same_in_a_namespace() {
    let everywhere = objects(&[]);
    let wide = rights(role(&everywhere, "ClusterRole", "taba-operator"));
    let namespaced = objects(&["watchNamespaces={blue}"]);
    assert_eq!(wide, rights(role(&namespaced, "Role", "taba-operator")));
    assert_eq!(variable(&everywhere, "TABA_OPERATOR_NAMESPACES"), None);
}

#[test]
fn nothing_is_granted_with_a_star_nor_a_way_to_more_rights() {
    let objects = objects(&ALL);
    for kind in ["Role", "ClusterRole"] {
        for role in of_kind(&objects, kind) {
            let rights = rights(role);
            assert!(!rights.is_empty());
            for (resource, verbs) in rights {
                assert!(!resource.contains('*') && !verbs.contains("*"), "{resource}: {verbs:?}");
                for group in ["rbac.authorization.k8s.io/", "admissionregistration.k8s.io/"] {
                    assert!(!resource.starts_with(group), "{resource}");
                }
                for verb in ["escalate", "bind", "impersonate"] {
                    assert!(!verbs.contains(verb), "{resource}: {verb}");
                }
                assert_ne!(resource, "/pods/exec");
            }
        }
    }
}

/// The kinds in the list of what a build makes, with their groups.
fn kinds_made() -> Vec<(String, String)> {
    let source = read("operator/src/build/objects.rs");
    let mut kinds = Vec::new();
    for line in source.lines().filter_map(|line| line.strip_prefix("use k8s_openapi::api::")) {
        let (path, list) = line
            .split_once("::")
            .and_then(|(group, rest)| {
                let (_version, names) = rest.split_once("::")?;
                Some((group, names))
            })
            .expect("group::version::names");
        let group = match path {
            "core" => "",
            "networking" => "networking.k8s.io",
            "rbac" => "rbac.authorization.k8s.io",
            other => other,
        };
        let names = list.trim_end_matches(';').trim_matches(['{', '}']).split(", ");
        kinds.extend(names.map(|name| (group.to_owned(), name.to_owned())));
    }
    kinds
}

#[test]
fn all_that_the_operator_makes_it_may_make_and_remove() {
    let kinds = kinds_made();
    assert!(kinds.len() >= 8, "only {kinds:?} were found: has the file changed?");
    let objects = objects(&[]);
    let rights = rights(role(&objects, "ClusterRole", "taba-operator"));
    for (group, kind) in kinds {
        let plural = match kind.to_lowercase() {
            kind if kind.ends_with('y') => format!("{}ies", kind.trim_end_matches('y')),
            kind => format!("{kind}s"),
        };
        let resource = format!("{group}/{plural}");
        let verbs = rights.get(&resource).unwrap_or_else(|| panic!("no right on {resource}"));
        for verb in ["get", "list", "watch", "create", "patch", "delete"] {
            assert!(verbs.contains(verb), "{resource}: {verb}");
        }
    }
}
