//! Values that cannot be meant are refused, with the name of the field.

use super::support::refusal;

#[test]
fn bad_values_are_refused_by_name() {
    let cases: &[(&str, &str)] = &[
        ("imagee.tag=1", "imagee"),
        ("image.tags=1", "tags"),
        ("image.repository=", "repository"),
        ("image.repository=a b", "repository"),
        ("image.tag=a/b", "tag"),
        ("image.digest=sha256:abc", "digest"),
        ("image.pullPolicy=Sometimes", "pullPolicy"),
        ("imagePullSecrets[0]=login", "imagePullSecrets"),
        ("imagePullSecrets[0].names=login", "imagePullSecrets"),
        ("replicas=-1", "replicas"),
        ("replicas=100", "replicas"),
        ("replicas=many", "replicas"),
        ("watchNamespaces=blue", "watchNamespaces"),
        ("watchNamespaces={Blue}", "watchNamespaces"),
        ("watchNamespaces={a,a}", "watchNamespaces"),
        ("clusterDomain=a b", "clusterDomain"),
        ("clusterDomain=", "clusterDomain"),
        ("logLevel=", "logLevel"),
        ("crds.install=maybe", "install"),
        ("crds.enabled=true", "enabled"),
        ("rbac.create=no", "create"),
        ("serviceAccount.create=false", "serviceAccount"),
        ("serviceAccount.name=Upper", "name"),
        ("resources.limits.memory=lots", "memory"),
        ("resources.limits.gpu=1", "gpu"),
        ("resources.limit.memory=1Gi", "limit"),
        ("podLabels.a=1", "podLabels"),
        ("podLabels.app\\.kubernetes\\.io/name=x", "app.kubernetes.io/name"),
        ("extraEnv[0].value=x", "extraEnv"),
        ("podDisruptionBudget.minAvailable=0", "minAvailable"),
        ("networkPolicy.enable=true", "enable"),
        ("monitoring.serviceMonitor.interval=often", "interval"),
        ("monitoring.podMonitor.interval=15", "interval"),
        ("monitoring.dashboard.enabled=true", "dashboard"),
        ("test=false", "test"),
    ];
    for (set, field) in cases {
        let said = refusal(&[set]);
        assert!(said.contains(field), "{set}: {said}");
        assert!(said.contains("schema"), "{set} got past the schema: {said}");
    }
}

#[test]
fn a_budget_that_would_stop_every_drain_is_refused_with_what_to_do() {
    let said = refusal(&["podDisruptionBudget.enabled=true"]);
    assert!(said.contains("raise replicas"), "{said}");
}
