//! What is rendered from which values.

use serde_json::{Value, json};

use super::support::{ALL, NAMESPACE, lint, names, objects, of_kind, operator, text, text_as, the, variable};

#[test]
fn defaults_make_exactly_these_objects() {
    let expected = [
        "ClusterRole/taba-operator",
        "ClusterRole/taba-operator-edit",
        "ClusterRole/taba-operator-view",
        "ClusterRoleBinding/taba-operator",
        "CustomResourceDefinition/tabaclusters.taba.dev",
        "Deployment/taba-operator",
        "Pod/taba-operator-test",
        "Role/taba-operator-leader",
        "RoleBinding/taba-operator-leader",
        "Service/taba-operator",
        "ServiceAccount/taba-operator",
    ];
    assert_eq!(names(&objects(&[])), expected);
}

#[test]
fn each_toggle_adds_or_removes_what_it_says_and_nothing_else() {
    let added = [
        (&["podDisruptionBudget.enabled=true", "replicas=2"][..], "PodDisruptionBudget/taba-operator"),
        (&["networkPolicy.enabled=true"], "NetworkPolicy/taba-operator"),
        (&["monitoring.serviceMonitor.enabled=true"], "ServiceMonitor/taba-operator"),
        (&["monitoring.podMonitor.enabled=true"], "PodMonitor/taba-operator-clusters"),
        (&["monitoring.prometheusRule.enabled=true"], "PrometheusRule/taba-operator"),
        (&["monitoring.dashboards.enabled=true"], "ConfigMap/taba-operator-dashboards"),
    ];
    let plain = names(&objects(&[]));
    for (sets, object) in added {
        let mut expected = plain.clone();
        expected.push(object.to_owned());
        expected.sort();
        assert_eq!(names(&objects(sets)), expected, "{sets:?}");
    }
    let removed: [(&str, &[&str]); 5] = [
        ("crds.install=false", &["CustomResourceDefinition/"]),
        ("rbac.create=false", &["ClusterRole/", "ClusterRoleBinding/", "Role/", "RoleBinding/"]),
        ("rbac.aggregate=false", &["ClusterRole/taba-operator-edit", "ClusterRole/taba-operator-view"]),
        ("serviceAccount.create=false,serviceAccount.name=given", &["ServiceAccount/"]),
        ("test.enabled=false", &["Pod/"]),
    ];
    for (set, gone) in removed {
        let is_gone = |name: &&String| gone.iter().any(|begin| name.starts_with(begin));
        let expected: Vec<_> = plain.iter().filter(|name| !is_gone(name)).cloned().collect();
        assert!(expected.len() < plain.len(), "{set} is about nothing");
        assert_eq!(names(&objects(&[set])), expected, "{set}");
    }
}

#[test]
fn every_pod_would_be_admitted_under_the_level_restricted() {
    let objects = objects(&ALL);
    let mut pods: Vec<_> = of_kind(&objects, "Pod").iter().map(|pod| &pod["spec"]).collect();
    pods.push(&the(&objects, "Deployment")["spec"]["template"]["spec"]);
    assert_eq!(pods.len(), 2);
    for pod in pods {
        assert_eq!(pod["securityContext"]["runAsNonRoot"], true);
        assert_eq!(pod["securityContext"]["seccompProfile"]["type"], "RuntimeDefault");
        for forbidden in ["hostNetwork", "hostPID", "hostIPC", "volumes"] {
            assert_eq!(pod[forbidden], Value::Null, "{forbidden}");
        }
        for container in pod["containers"].as_array().expect("it has containers") {
            let security = &container["securityContext"];
            assert_eq!(security["allowPrivilegeEscalation"], false);
            assert_eq!(security["capabilities"], json!({"drop": ["ALL"]}));
            assert_eq!(security["readOnlyRootFilesystem"], true);
            assert_ne!(container["resources"]["limits"]["memory"], Value::Null);
        }
    }
}

#[test]
fn only_the_operator_gets_a_token() {
    let objects = objects(&ALL);
    assert_eq!(the(&objects, "Deployment")["spec"]["template"]["spec"]["automountServiceAccountToken"], true);
    assert_eq!(the(&objects, "ServiceAccount")["automountServiceAccountToken"], false);
    assert_eq!(the(&objects, "Pod")["spec"]["automountServiceAccountToken"], false);
}

#[test]
fn the_operator_is_told_its_own_image_as_default_for_clusters() {
    let digest = format!("sha256:{}", "a".repeat(64));
    let pinned = format!("image.digest={digest}");
    for (sets, image) in [
        (vec![], "taba:0.1.0".to_owned()),
        (
            vec!["image.repository=registry.example/taba", "image.tag=1.2.3"],
            "registry.example/taba:1.2.3".to_owned(),
        ),
        (vec![pinned.as_str(), "image.tag=1.2.3"], format!("taba@{digest}")),
    ] {
        let objects = objects(&sets);
        assert_eq!(text(operator(&objects), "/image"), image);
        assert_eq!(variable(&objects, "TABA_OPERATOR_IMAGE"), Some(image.as_str()));
        assert_eq!(text(the(&objects, "Pod"), "/spec/containers/0/image"), image);
    }
}

#[test]
fn probes_ask_the_port_that_is_listened_on() {
    let objects = objects(&[]);
    let operator = operator(&objects);
    assert_eq!(operator["ports"], json!([{"name": "http", "containerPort": 8080, "protocol": "TCP"}]));
    assert_eq!(variable(&objects, "TABA_OPERATOR_LISTEN"), Some("0.0.0.0:8080"));
    for (probe, path) in
        [("startupProbe", "/livez"), ("livenessProbe", "/livez"), ("readinessProbe", "/readyz")]
    {
        assert_eq!(operator[probe]["httpGet"], json!({"path": path, "port": "http"}), "{probe}");
    }
    let url = text(the(&objects, "Pod"), "/spec/containers/0/args/0");
    assert_eq!(url, format!("http://taba-operator.{NAMESPACE}.svc.cluster.local:8080/readyz"));
}

#[test]
fn selectors_find_the_operators_pods_and_never_change_with_values() {
    let sets = [ALL.as_slice(), &["podLabels.team=a", "image.tag=v2"]].concat();
    let objects = objects(&sets);
    let labels = &the(&objects, "Deployment")["spec"]["template"]["metadata"]["labels"];
    let selector = json!({"app.kubernetes.io/name": "taba-operator", "app.kubernetes.io/instance": "taba"});
    assert_eq!(labels["team"], "a");
    for (kind, pointer) in [
        ("Deployment", "/spec/selector/matchLabels"),
        ("Service", "/spec/selector"),
        ("PodDisruptionBudget", "/spec/selector/matchLabels"),
        ("NetworkPolicy", "/spec/podSelector/matchLabels"),
        ("ServiceMonitor", "/spec/selector/matchLabels"),
    ] {
        assert_eq!(the(&objects, kind).pointer(pointer), Some(&selector), "{kind}");
    }
    for (key, value) in selector.as_object().expect("an object") {
        assert_eq!(&labels[key], value);
    }
}

#[test]
fn monitors_and_rules_carry_the_labels_that_prometheus_looks_for() {
    let objects = objects(&ALL);
    for kind in ["ServiceMonitor", "PodMonitor", "PrometheusRule"] {
        assert_eq!(the(&objects, kind)["metadata"]["labels"]["release"], "prometheus", "{kind}");
    }
    assert_eq!(the(&objects, "PodMonitor")["spec"]["namespaceSelector"], json!({"any": true}));
}

#[test]
fn what_users_add_arrives_in_the_pod() {
    let objects = objects(&[
        "nodeSelector.disk=ssd",
        "tolerations[0].key=infra",
        "priorityClassName=high",
        "imagePullSecrets[0].name=login",
        "extraEnv[0].name=A",
        "extraEnv[0].value=b",
        "podAnnotations.note=x",
    ]);
    let template = &the(&objects, "Deployment")["spec"]["template"];
    assert_eq!(template["metadata"]["annotations"], json!({"note": "x"}));
    let pod = &template["spec"];
    assert_eq!(pod["nodeSelector"], json!({"disk": "ssd"}));
    assert_eq!(pod["tolerations"], json!([{"key": "infra"}]));
    assert_eq!(pod["priorityClassName"], "high");
    assert_eq!(pod["imagePullSecrets"], json!([{"name": "login"}]));
    assert_eq!(variable(&objects, "A"), Some("b"));
}

#[test]
fn names_of_long_releases_fit() {
    let release = "a-release-with-a-name-as-long-as-helm-takes-it-53-lett";
    let rendered = super::support::parse(&text_as(&release[..53], &[]));
    for object in &rendered {
        let name = text(object, "/metadata/name");
        assert!(name.len() <= 63 && !name.ends_with('-'), "{name}");
    }
}

#[test]
fn lint_finds_nothing_with_defaults_and_with_everything_on() {
    for sets in [&[][..], &ALL, &["watchNamespaces={a,b}"]] {
        let (clean, said) = lint(sets);
        assert!(clean, "{said}");
    }
}
