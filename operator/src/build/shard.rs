//! A shard: pods with a keeper that starts Redis, each with a name and a volume of its own.
//!
//! Kubernetes replaces no pod of a shard by itself (`OnDelete`): the controller does, replicas first, and the
//! primary last after a handover.

use k8s_openapi::api::apps::v1::{StatefulSet, StatefulSetSpec, StatefulSetUpdateStrategy};
use k8s_openapi::api::core::v1::{Container, PodTemplateSpec};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use super::labels::{Component, match_labels, meta, selector};
use super::pods::{self, Pace, Pod, http_probe, mount, pod_name, port, requirements, words};
use super::secrets::{PASSWORD, TOKEN};
use super::services::{budget, headless};
use super::volumes::{self, DATA, DATA_PATH, SECRETS, SECRETS_PATH, SecretFile};
use super::{Facts, KEEPER_PORT, Objects, REDIS_PORT, Valid, WantedClaim};
use crate::api::Durability;

const PROGRAMS: &str = "programs";
const PROGRAMS_PATH: &str = "/taba";

/// A handover or a leave, then Redis' own end: the keeper gives that 20 s.
const GRACE_SECS: i64 = 90;

pub(super) fn build(valid: &Valid, facts: &Facts, index: usize, objects: &mut Objects) {
    let (name, component) = (valid.names.shard(index), Component::Shard(index));
    let ports = [("redis", REDIS_PORT), ("keeper", KEEPER_PORT)];
    objects.owned.services.push(headless(valid, name.clone(), component, &ports));
    objects.owned.pod_disruption_budgets.push(budget(valid, name.clone(), component, IntOrString::Int(1)));
    let wanted = &valid.spec.redis.storage.size;
    objects.claims.extend(
        (0..valid.members())
            .map(|ordinal| WantedClaim { claim: valid.names.claim(index, ordinal), size: wanted.0.clone() }),
    );
    let size = facts.claim_sizes.get(&name).unwrap_or(wanted);
    objects.owned.stateful_sets.push(StatefulSet {
        metadata: meta(valid, name.clone(), component),
        spec: Some(StatefulSetSpec {
            service_name: Some(name),
            replicas: Some(valid.spec.redis.replicas + 1),
            // Members need each other to get ready.
            pod_management_policy: Some("Parallel".to_owned()),
            update_strategy: Some(StatefulSetUpdateStrategy {
                type_: Some("OnDelete".to_owned()),
                rolling_update: None,
            }),
            selector: match_labels(selector(&valid.names, component)),
            template: template(valid, facts, index),
            volume_claim_templates: Some(vec![volumes::claim_template(valid, component, &size.0)]),
            persistent_volume_claim_retention_policy: Some(volumes::retention(valid)),
            revision_history_limit: Some(3),
            ..StatefulSetSpec::default()
        }),
        ..StatefulSet::default()
    });
}

fn template(valid: &Valid, facts: &Facts, index: usize) -> PodTemplateSpec {
    let names = &valid.names;
    let file = |secret, key, file| SecretFile { secret, key, file };
    pods::template(
        valid,
        Pod {
            component: Component::Shard(index),
            overrides: &valid.spec.redis.pod_template,
            annotations: [].into(),
            grace_secs: GRACE_SECS,
            init_containers: vec![install(valid, facts)],
            containers: vec![keeper(valid, index)],
            volumes: vec![
                volumes::empty(PROGRAMS, "256Mi"),
                volumes::secrets(vec![
                    file(names.shard(index), PASSWORD, "password"),
                    file(names.keeper(), TOKEN, "token"),
                    file(names.sentinel(), PASSWORD, "sentinel-password"),
                ]),
            ],
        },
    )
}

/// Brings the keeper into the pod, so that any image of Redis will do.
fn install(valid: &Valid, facts: &Facts) -> Container {
    Container {
        name: "install".to_owned(),
        image: Some(facts.image.clone()),
        command: Some(words(["taba-keeper", "install", PROGRAMS_PATH])),
        resources: Some(requirements(&valid.spec.redis.resources)),
        volume_mounts: Some(vec![mount(PROGRAMS, PROGRAMS_PATH, false)]),
        ..Container::default()
    }
}

fn keeper(valid: &Valid, index: usize) -> Container {
    Container {
        name: "redis".to_owned(),
        image: Some(valid.spec.redis.image.clone()),
        command: Some(vec![format!("{PROGRAMS_PATH}/taba-keeper")]),
        args: Some(arguments(valid, index)),
        env: Some(vec![pod_name()]),
        ports: Some(vec![port("redis", REDIS_PORT), port("keeper", KEEPER_PORT)]),
        // It follows the keeper's own loop, so a Redis that loads for an hour is left alone.
        liveness_probe: Some(http_probe(
            "/livez",
            "keeper",
            Pace { period_secs: 10, timeout_secs: 5, failures: 6 },
        )),
        readiness_probe: Some(http_probe(
            "/readyz",
            "keeper",
            Pace { period_secs: 2, timeout_secs: 2, failures: 3 },
        )),
        resources: Some(requirements(&valid.spec.redis.resources)),
        volume_mounts: Some(vec![
            mount(DATA, DATA_PATH, false),
            mount(PROGRAMS, PROGRAMS_PATH, true),
            mount(SECRETS, SECRETS_PATH, true),
        ]),
        ..Container::default()
    }
}

/// As docs/shard.md has them.
fn arguments(valid: &Valid, index: usize) -> Vec<String> {
    let (names, redis) = (&valid.names, &valid.spec.redis);
    let durability = match valid.spec.durability {
        // `Primary` is a matter of what servers wait for.
        Durability::Replicated | Durability::Primary => "replicated",
        Durability::Fsync => "fsync",
    };
    vec![
        format!("--shard={}", names.master(index)),
        "--member=$(POD_NAME)".to_owned(),
        format!("--members={}", names.members(index, valid.members())),
        format!("--sentinels={}", names.sentinels(valid.sentinels())),
        format!("--min-in-sync={}", redis.min_in_sync),
        format!("--data={DATA_PATH}"),
        format!("--password-file={SECRETS_PATH}/password"),
        format!("--token-file={SECRETS_PATH}/token"),
        format!("--sentinel-password-file={SECRETS_PATH}/sentinel-password"),
        format!("--durability={durability}"),
        format!("--maxmemory={}", valid.maxmemory_bytes),
    ]
}
