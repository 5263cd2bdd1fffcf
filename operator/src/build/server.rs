//! Servers: Deployments that roll surge-first, so that there are never fewer than wanted.

use k8s_openapi::api::apps::v1::{Deployment, DeploymentSpec, DeploymentStrategy, RollingUpdateDeployment};
use k8s_openapi::api::core::v1::{
    Container, EnvVar, EnvVarSource, Lifecycle, LifecycleHandler, SecretKeySelector, SleepAction,
};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use super::labels::{Component, match_labels, meta, selector};
use super::pods::{self, Pace, Pod, http_probe, mount, port, requirements, words};
use super::secrets::{PASSWORD, PASSWORDS, TOKEN};
use super::services::{budget, service};
use super::volumes::{self, SECRETS, SECRETS_PATH, SecretFile};
use super::{Facts, Objects, Role, SERVER_PORT, Valid};
use crate::api::Durability;

/// How long a server may take to end: open requests, and what is queued.
const DRAIN_SECS: i64 = 30;

/// How long a server still takes requests after it was told to stop: so long others may not know yet.
const LINGER_SECS: i64 = 5;

/// Both, and some room.
const GRACE_SECS: i64 = LINGER_SECS + DRAIN_SECS + 10;

pub(super) fn build(valid: &Valid, facts: &Facts, role: Role, objects: &mut Objects) {
    let (name, component) = (valid.names.role(role), Component::Server(role));
    let ports = [("http", SERVER_PORT)];
    match role {
        Role::Frontend => {
            objects.owned.services.push(service(valid, valid.names.cluster().to_owned(), component, &ports));
        }
        Role::Control => objects.owned.services.push(service(valid, name.clone(), component, &ports)),
        // Nobody asks backends.
        Role::Backend => {}
    }
    let quarter = IntOrString::String("25%".to_owned());
    objects.owned.pod_disruption_budgets.push(budget(valid, name.clone(), component, quarter));
    objects.owned.deployments.push(Deployment {
        metadata: meta(valid, name, component),
        spec: Some(DeploymentSpec {
            strategy: Some(DeploymentStrategy {
                type_: Some("RollingUpdate".to_owned()),
                rolling_update: Some(RollingUpdateDeployment {
                    max_surge: Some(IntOrString::Int(1)),
                    max_unavailable: Some(IntOrString::Int(0)),
                }),
            }),
            selector: match_labels(selector(&valid.names, component)),
            template: pods::template(valid, pod(valid, facts, role)),
            revision_history_limit: Some(3),
            ..DeploymentSpec::default()
        }),
        ..Deployment::default()
    });
}

fn pod<'a>(valid: &'a Valid, facts: &Facts, role: Role) -> Pod<'a> {
    let names = &valid.names;
    let file = |secret, key, file| SecretFile { secret, key, file };
    Pod {
        component: Component::Server(role),
        overrides: &valid.role(role).pod_template,
        annotations: [].into(),
        grace_secs: GRACE_SECS,
        init_containers: Vec::new(),
        containers: vec![server(valid, facts, role)],
        volumes: vec![volumes::secrets(vec![
            file(names.passwords(), PASSWORDS, "passwords"),
            file(names.sentinel(), PASSWORD, "sentinel-password"),
        ])],
    }
}

fn server(valid: &Valid, facts: &Facts, role: Role) -> Container {
    // A backend is asked by nobody, so it need not wait until others know that it goes.
    let lingers = role != Role::Backend;
    let pre_stop =
        LifecycleHandler { sleep: Some(SleepAction { seconds: LINGER_SECS }), ..LifecycleHandler::default() };
    Container {
        name: "taba".to_owned(),
        image: Some(facts.image.clone()),
        command: Some(words(["taba", "server"])),
        args: Some(arguments(valid, role)),
        env: Some(vec![EnvVar {
            name: "TABA_ADMIN_TOKEN".to_owned(),
            value_from: Some(EnvVarSource {
                secret_key_ref: Some(SecretKeySelector {
                    name: valid.names.admin(),
                    key: TOKEN.to_owned(),
                    optional: None,
                }),
                ..EnvVarSource::default()
            }),
            value: None,
        }]),
        ports: Some(vec![port("http", SERVER_PORT)]),
        lifecycle: lingers.then(|| Lifecycle { pre_stop: Some(pre_stop), ..Lifecycle::default() }),
        liveness_probe: Some(http_probe(
            "/livez",
            "http",
            Pace { period_secs: 10, timeout_secs: 5, failures: 3 },
        )),
        readiness_probe: Some(http_probe(
            "/readyz",
            "http",
            Pace { period_secs: 2, timeout_secs: 2, failures: 3 },
        )),
        resources: Some(requirements(&valid.role(role).resources)),
        volume_mounts: Some(vec![mount(SECRETS, SECRETS_PATH, true)]),
        ..Container::default()
    }
}

fn arguments(valid: &Valid, role: Role) -> Vec<String> {
    let names = &valid.names;
    let durability = match valid.spec.durability {
        Durability::Replicated => "replicated",
        Durability::Primary => "primary",
        Durability::Fsync => "fsync",
    };
    let shards: Vec<_> = (0..valid.shards()).map(|index| names.master(index)).collect();
    let mut arguments = vec![
        format!("--roles={role}"),
        format!("--listen=0.0.0.0:{SERVER_PORT}"),
        format!("--sentinel={}", names.sentinels(valid.sentinels())),
        format!("--shards={}", shards.join(",")),
        format!("--redis-vbuckets={}", valid.spec.redis.vbuckets),
        format!("--redis-password-file={SECRETS_PATH}/passwords"),
        format!("--redis-sentinel-password-file={SECRETS_PATH}/sentinel-password"),
        format!("--redis-durability={durability}"),
        format!("--drain-timeout={DRAIN_SECS}s"),
        "--log-format=json".to_owned(),
    ];
    if let Some(memory) = valid.server_memory(role) {
        arguments.extend([
            format!("--limits-inflight-bytes-max={}MiB", memory.inflight_mib),
            format!("--limits-parts-bytes-max={}MiB", memory.parts_mib),
            format!("--pipeline-cache-bytes-max={}MiB", memory.cache_mib),
        ]);
    }
    arguments
}
