//! What a spec becomes. Golden files show it whole; the other tests say what must hold whatever they show.

mod support;

use std::path::PathBuf;
use std::{env, fs};

use k8s_openapi::api::core::v1::{PodSpec, PodTemplateSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde_json::Value;
use support::{bare, built, built_with, full, read, settings, valid};
use taba_operator::api::{Quantity, TabaCluster, TabaClusterStatus};
use taba_operator::build::{Invalid, Objects, Role, Valid, image};
use xxhash_rust::xxh3::xxh3_64;

/// Compares with the committed file, or writes it if `TABA_BLESS` is set.
#[track_caller]
fn golden(name: &str, text: &str) {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name);
    if env::var_os("TABA_BLESS").is_some() {
        fs::write(&path, text).expect("written");
    }
    let committed = fs::read_to_string(&path).unwrap_or_default();
    let differs = text.lines().zip(committed.lines()).enumerate().find(|(_, (new, old))| new != old);
    let place = differs.map(|(line, (new, old))| format!("line {}:\n- {old}\n+ {new}", line + 1));
    assert!(
        committed == text,
        "{} differs, {}\nIf that is meant, run the test with TABA_BLESS=1 and read the difference.",
        path.display(),
        place.unwrap_or_else(|| "in length".to_owned()),
    );
}

fn documents(objects: &Objects) -> String {
    let Value::Object(lists) = serde_json::to_value(objects).expect("plain data") else {
        panic!("objects are lists by name")
    };
    let mut text = String::new();
    for (list, items) in lists {
        for item in items.as_array().expect("a list") {
            text.push_str(&format!("--- # {list}\n{}", serde_yaml::to_string(item).expect("plain data")));
        }
    }
    text
}

fn templates(objects: &Objects) -> Vec<(String, &PodTemplateSpec)> {
    let name = |meta: &ObjectMeta| meta.name.clone().unwrap_or_default();
    let sets = objects.owned.stateful_sets.iter();
    let sets = sets.filter_map(|set| Some((name(&set.metadata), &set.spec.as_ref()?.template)));
    let deployments = objects.owned.deployments.iter();
    let deployments = deployments.filter_map(|one| Some((name(&one.metadata), &one.spec.as_ref()?.template)));
    sets.chain(deployments).collect()
}

fn metas(objects: &Objects) -> Vec<&ObjectMeta> {
    let mut metas: Vec<&ObjectMeta> = Vec::new();
    metas.extend(objects.owned.service_accounts.iter().map(|one| &one.metadata));
    metas.extend(objects.owned.secrets.iter().map(|one| &one.metadata));
    metas.extend(objects.owned.config_maps.iter().map(|one| &one.metadata));
    metas.extend(objects.owned.services.iter().map(|one| &one.metadata));
    metas.extend(objects.owned.network_policies.iter().map(|one| &one.metadata));
    metas.extend(objects.owned.stateful_sets.iter().map(|one| &one.metadata));
    metas.extend(objects.owned.deployments.iter().map(|one| &one.metadata));
    metas.extend(objects.owned.pod_disruption_budgets.iter().map(|one| &one.metadata));
    metas.extend(objects.owned.autoscalers.iter().map(|one| &one.metadata));
    metas
}

#[test]
fn a_name_becomes_a_whole_cluster() {
    golden("bare.yaml", &documents(&built(&bare())));
}

#[test]
fn everything_that_can_be_set_arrives_somewhere() {
    golden("full.yaml", &documents(&built(&full())));
}

/// A template that changes for the same spec restarts every cluster when the operator is upgraded. So this file
/// may change only together with a line in the changelog that says what restarts.
#[test]
fn an_upgrade_of_the_operator_restarts_nothing() {
    let mut text = String::new();
    for (case, cluster) in [("bare", bare()), ("full", full())] {
        for (name, template) in templates(&built(&cluster)) {
            let bytes = serde_json::to_vec(template).expect("plain data");
            text.push_str(&format!("{case} {name} {:016x}\n", xxh3_64(&bytes)));
        }
    }
    golden("pod-templates.txt", &text);
}

/// The settings that a running Sentinel can be told.
#[test]
fn what_is_set_live_restarts_no_sentinel() {
    #[track_caller]
    fn check(change: impl FnOnce(&mut TabaCluster)) {
        let mut cluster = bare();
        change(&mut cluster);
        let (before, after) = (built(&bare()), built(&cluster));
        assert_ne!(before.owned.config_maps, after.owned.config_maps, "those that start read it");
        let template = |objects: &Objects| {
            let found = templates(objects).into_iter().find(|(name, _)| name == "main-sentinel");
            found.map(|(_, template)| template.clone()).expect("it is built")
        };
        assert_eq!(template(&before), template(&after));
    }
    check(|cluster| cluster.spec.sentinel.down_after = "4s".to_owned());
    check(|cluster| cluster.spec.sentinel.replicas = 5);
    check(|cluster| cluster.spec.redis.replicas = 3);
}

#[test]
fn the_same_input_gives_the_same_objects() {
    assert_eq!(built(&full()), built(&full()));
}

#[test]
fn everything_is_owned_labelled_and_named_once() {
    for cluster in [bare(), full()] {
        let objects = built(&cluster);
        for meta in metas(&objects) {
            let owners = meta.owner_references.as_deref().unwrap_or_default();
            assert_eq!(owners.len(), 1, "{meta:?}");
            assert_eq!(Some(&owners[0].uid), cluster.metadata.uid.as_ref());
            assert_eq!(owners[0].controller, Some(true));
            let labels = meta.labels.as_ref().expect("labels");
            assert_eq!(labels["app.kubernetes.io/managed-by"], "taba-operator", "{meta:?}");
            assert_eq!(Some(&labels["app.kubernetes.io/instance"]), cluster.metadata.name.as_ref());
            assert_eq!(meta.namespace.as_deref(), Some("metrics"));
        }
        let names = |objects: &[k8s_openapi::api::core::v1::Service]| {
            objects.iter().filter_map(|one| one.metadata.name.clone()).collect::<Vec<_>>()
        };
        let mut services = names(&objects.owned.services);
        let count = services.len();
        services.sort();
        services.dedup();
        assert_eq!(services.len(), count, "a name is used twice");
    }
}

/// What the level `restricted` of the Pod Security Standards asks for, and a root that nothing writes to.
#[track_caller]
fn is_restricted(spec: &PodSpec) {
    let pod = spec.security_context.as_ref().expect("a security context");
    assert_eq!(pod.run_as_non_root, Some(true));
    assert_ne!(pod.run_as_user, Some(0));
    assert_eq!(pod.seccomp_profile.as_ref().map(|profile| profile.type_.as_str()), Some("RuntimeDefault"));
    for container in spec.containers.iter().chain(spec.init_containers.iter().flatten()) {
        let context = container.security_context.as_ref().expect("a security context");
        assert_eq!(context.allow_privilege_escalation, Some(false));
        assert_eq!(context.read_only_root_filesystem, Some(true));
        assert_eq!(context.privileged, None);
        let drop = context.capabilities.as_ref().and_then(|all| all.drop.clone());
        assert_eq!(drop, Some(vec!["ALL".to_owned()]));
        assert!(container.ports.iter().flatten().all(|port| port.host_port.is_none()));
    }
    for volume in spec.volumes.iter().flatten() {
        let allowed = [volume.empty_dir.is_some(), volume.projected.is_some(), volume.config_map.is_some()];
        assert!(allowed.contains(&true), "{volume:?}");
    }
    assert_eq!((spec.host_network, spec.host_pid, spec.host_ipc), (None, None, None));
}

#[test]
fn pods_are_restricted_and_hold_no_token_of_the_api_server() {
    for cluster in [bare(), full()] {
        let objects = built(&cluster);
        for (name, template) in templates(&objects) {
            let spec = template.spec.as_ref().expect("a spec");
            is_restricted(spec);
            assert_eq!(spec.automount_service_account_token, Some(false), "{name}");
            assert_eq!(
                spec.enable_service_links,
                Some(false),
                "{name}: TABA_* of Services would be settings"
            );
        }
        for account in &objects.owned.service_accounts {
            assert_eq!(account.automount_service_account_token, Some(false));
        }
    }
}

#[test]
fn a_pod_sees_only_the_secrets_it_needs() {
    let objects = built(&bare());
    assert_eq!(referenced(&objects, "main-s0"), ["main-keeper", "main-s0", "main-sentinel"]);
    assert_eq!(referenced(&objects, "main-sentinel"), ["main-passwords", "main-sentinel"]);
    assert_eq!(referenced(&objects, "main-frontend"), ["main-admin", "main-passwords", "main-sentinel"]);
}

/// The Secrets in a pod's volumes and environment.
fn referenced(objects: &Objects, workload: &str) -> Vec<String> {
    let templates = templates(objects);
    let (_, template) = templates.iter().find(|(name, _)| name == workload).expect("it is built");
    let spec = template.spec.as_ref().expect("a spec");
    let projected = spec.volumes.iter().flatten().filter_map(|volume| volume.projected.as_ref());
    let sources = projected.flat_map(|projected| projected.sources.iter().flatten());
    let mounted = sources.filter_map(|source| source.secret.as_ref()).map(|secret| secret.name.clone());
    let variables = spec.containers.iter().flat_map(|container| container.env.iter().flatten());
    let read = variables.filter_map(|one| one.value_from.as_ref()?.secret_key_ref.as_ref());
    let mut names: Vec<_> = mounted.chain(read.map(|key| key.name.clone())).collect();
    names.sort();
    names
}

/// Whom a role's Deployment and autoscaler leave the number of pods to.
#[track_caller]
fn scales(role: &str, present: Option<i32>, expected: Option<i32>) {
    let mut cluster = bare();
    cluster.spec.frontend = serde_yaml::from_str(role).expect("a role");
    let objects = built_with(&cluster, |facts| {
        facts.replicas.extend(present.map(|number| (Role::Frontend, number)));
    });
    let wanted = objects.replicas.iter().find(|one| one.role == Role::Frontend).map(|one| one.replicas);
    assert_eq!(wanted, expected, "{role} with {present:?}");
    assert_eq!(objects.owned.autoscalers.len(), usize::from(role.contains("autoscaling")));
    for deployment in &objects.owned.deployments {
        assert_eq!(deployment.spec.as_ref().and_then(|spec| spec.replicas), None);
    }
}

#[test]
fn one_decides_how_many_servers_there_are() {
    scales("{}", None, Some(2));
    scales("{}", Some(5), None);
    scales("{replicas: 4}", None, Some(4));
    scales("{replicas: 4}", Some(9), Some(4));
    scales("{replicas: 4}", Some(4), None);
    scales("{autoscaling: {minReplicas: 3}}", None, Some(3));
    scales("{autoscaling: {minReplicas: 3}}", Some(17), None);
}

#[test]
fn a_claim_template_keeps_the_size_it_was_made_with_and_claims_grow() {
    let mut cluster = bare();
    cluster.spec.redis.storage.size = Quantity("50Gi".to_owned());
    let objects = built_with(&cluster, |facts| {
        facts.claim_sizes.insert("main-s0".to_owned(), Quantity("10Gi".to_owned()));
    });
    let size = |set: &str| {
        let found = objects.owned.stateful_sets.iter().find(|one| one.metadata.name.as_deref() == Some(set));
        let template = found.and_then(|set| set.spec.clone()?.volume_claim_templates?.into_iter().next());
        template.and_then(|claim| claim.spec?.resources?.requests?.remove("storage")).map(|size| size.0)
    };
    assert_eq!(size("main-s0").as_deref(), Some("10Gi"));
    assert_eq!(size("main-s1").as_deref(), Some("50Gi"));
    let claims: Vec<_> = objects.claims.iter().map(|one| (one.claim.as_str(), one.size.as_str())).collect();
    assert_eq!(claims.len(), 6);
    assert_eq!(claims[0], ("data-main-s0-0", "50Gi"));
}

#[test]
fn volumes_go_with_the_cluster_only_if_the_user_said_so() {
    for (cluster, expected) in [(bare(), "Retain"), (full(), "Delete")] {
        for set in built(&cluster).owned.stateful_sets {
            let policy = set.spec.and_then(|spec| spec.persistent_volume_claim_retention_policy);
            let policy = policy.expect("a policy");
            assert_eq!(policy.when_deleted.as_deref(), Some(expected));
            assert_eq!(policy.when_scaled.as_deref(), Some("Retain"));
        }
    }
}

#[test]
fn an_image_is_kept_until_the_spec_names_another() {
    let mut cluster = bare();
    assert_eq!(image(&cluster, "own:2"), "own:2");
    cluster.status =
        Some(TabaClusterStatus { image: Some("own:1".to_owned()), ..TabaClusterStatus::default() });
    assert_eq!(image(&cluster, "own:2"), "own:1");
    cluster.spec.image = Some(String::new());
    assert_eq!(image(&cluster, "own:2"), "own:1");
    cluster.spec.image = Some("mine:3".to_owned());
    assert_eq!(image(&cluster, "own:2"), "mine:3");
}

#[test]
fn what_the_rules_of_the_crd_would_refuse_is_refused_with_a_reason() {
    #[track_caller]
    fn refused(change: impl FnOnce(&mut TabaCluster), why: &str) {
        let mut cluster = bare();
        change(&mut cluster);
        let error: Invalid = Valid::new(&cluster, &settings()).expect_err("refused");
        assert!(error.to_string().contains(why), "{error}");
    }
    refused(|cluster| cluster.metadata.uid = None, "uid is missing");
    refused(|cluster| cluster.spec.redis.replicas = -1, "redis.replicas is -1");
    refused(|cluster| cluster.spec.redis.min_in_sync = 3, "redis.minInSync is 3, which must be from 0 to 2");
    refused(|cluster| cluster.spec.redis.shards = 0, "redis.shards is 0");
    refused(|cluster| cluster.spec.redis.resources.limits.memory = None, "limits.memory is needed");
    refused(|cluster| cluster.spec.sentinel.down_after = "soon".to_owned(), "downAfter is `soon`");
    refused(|cluster| cluster.spec.redis.storage.size = Quantity("big".to_owned()), "storage.size cannot");
    let none = read("{apiVersion: taba.dev/v1alpha1, kind: TabaCluster, spec: {}, metadata: {name: main}}");
    assert!(Valid::new(&none, &settings()).is_err());
    assert_eq!(valid(&bare()).members(), 3);
}
