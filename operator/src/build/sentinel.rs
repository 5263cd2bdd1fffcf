//! The Sentinels. Each keeps its folder: its identity, its votes and what it learned about shards are in it, and
//! a Sentinel that forgot them would vote twice or count as another.
//!
//! Sentinel writes its own configuration, so the one here is a template: at the start of a pod it is joined with
//! what the Sentinel wrote before, and with the passwords.
//!
//! A second container keeps the addresses of everyone that the Sentinel may meet in its hosts file, so that no name
//! server that is silent keeps it from failing over.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use k8s_openapi::api::apps::v1::{StatefulSet, StatefulSetSpec, StatefulSetUpdateStrategy};
use k8s_openapi::api::core::v1::{
    ConfigMap, ConfigMapVolumeSource, Container, ResourceRequirements, Volume, VolumeMount,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use xxhash_rust::xxh3::xxh3_64;

use super::labels::{Component, match_labels, meta, selector};
use super::pods::{self, Pace, Pod, exec_probe, mount, pod_name, port, requirements, tcp_probe, words};
use super::secrets::{PASSWORD, PASSWORDS};
use super::services::{budget, headless};
use super::volumes::{self, DATA, DATA_PATH, SECRETS, SECRETS_PATH, SecretFile};
use super::{Facts, Objects, REDIS_PORT, SENTINEL_PORT, Valid};

const TEMPLATE: &str = "template";
const TEMPLATE_PATH: &str = "/etc/taba/sentinel";
const FILE: &str = "sentinel.conf";

/// The list of names, and the volume with the hosts file: where the container that keeps it sees it, and where Sentinel
/// does.
const NAMES: &str = "names";
const NAMES_PATH: &str = "/names";
const HOSTS: &str = "hosts";
const HOSTS_PATH: &str = "/etc/hosts";

/// A few kilobytes are used; many provisioners give at least a gigabyte anyway.
const SIZE: &str = "128Mi";

/// Changes when the template does in what is not set live, so that Sentinels are restarted, one by one.
const CONFIG_ANNOTATION: &str = "taba.dev/sentinel-config";

const GRACE_SECS: i64 = 10;

/// A failover that cannot end blocks the next one for twice this.
const FAILOVER_TIMEOUT_MS_MIN: u64 = 5000;

pub(super) fn build(valid: &Valid, facts: &Facts, objects: &mut Objects) {
    let (name, component) = (valid.names.sentinel(), Component::Sentinel);
    let text = configuration(valid, &valid.watch_settings());
    objects.owned.services.push(headless(valid, name.clone(), component, &[("sentinel", SENTINEL_PORT)]));
    objects.owned.pod_disruption_budgets.push(budget(valid, name.clone(), component, IntOrString::Int(1)));
    objects.owned.stateful_sets.push(StatefulSet {
        metadata: meta(valid, name.clone(), component),
        spec: Some(StatefulSetSpec {
            service_name: Some(name.clone()),
            replicas: Some(valid.spec.sentinel.replicas),
            // Ordered, a pod that cannot start would block its own replacement.
            pod_management_policy: Some("Parallel".to_owned()),
            update_strategy: Some(StatefulSetUpdateStrategy {
                type_: Some("RollingUpdate".to_owned()),
                rolling_update: None,
            }),
            // A Sentinel that has just started must meet the others before the next one goes.
            min_ready_seconds: Some(5),
            selector: match_labels(selector(&valid.names, component)),
            template: pods::template(valid, pod(valid, facts)),
            volume_claim_templates: Some(vec![volumes::claim_template(valid, component, SIZE)]),
            persistent_volume_claim_retention_policy: Some(volumes::retention(valid)),
            revision_history_limit: Some(3),
            ..StatefulSetSpec::default()
        }),
        ..StatefulSet::default()
    });
    objects.owned.config_maps.push(ConfigMap {
        metadata: meta(valid, name, component),
        data: Some(BTreeMap::from([(FILE.to_owned(), text), (NAMES.to_owned(), everyone(valid))])),
        ..ConfigMap::default()
    });
}

fn pod<'a>(valid: &'a Valid, facts: &Facts) -> Pod<'a> {
    let names = &valid.names;
    let file = |secret, key, file| SecretFile { secret, key, file };
    // The controller sets the settings at Sentinels that run, so they are no part of what restarts them.
    let fixed = configuration(valid, &WatchSettings::default());
    let hash = format!("{:016x}", xxh3_64(fixed.as_bytes()));
    let template = ConfigMapVolumeSource {
        name: names.sentinel(),
        default_mode: Some(0o440),
        ..ConfigMapVolumeSource::default()
    };
    Pod {
        component: Component::Sentinel,
        overrides: &valid.spec.sentinel.pod_template,
        annotations: BTreeMap::from([(CONFIG_ANNOTATION.to_owned(), hash)]),
        grace_secs: GRACE_SECS,
        init_containers: vec![configure(valid, facts)],
        containers: vec![sentinel(valid), keep_names(facts)],
        volumes: vec![
            volumes::empty(NAMES, "1Mi"),
            Volume { name: TEMPLATE.to_owned(), config_map: Some(template), ..Volume::default() },
            volumes::secrets(vec![
                file(names.passwords(), PASSWORDS, "passwords"),
                file(names.sentinel(), PASSWORD, "sentinel-password"),
            ]),
        ],
    }
}

/// Joins the template with what the Sentinel wrote before.
fn configure(valid: &Valid, facts: &Facts) -> Container {
    let service = valid.names.sentinel();
    let host = valid.names.sentinel_host(0);
    // The same for all pods but for the first label.
    let domain = host.strip_prefix(&format!("{service}-0")).unwrap_or_default();
    Container {
        name: "configure".to_owned(),
        image: Some(facts.image.clone()),
        command: Some(words(["taba-keeper", "sentinel-config"])),
        args: Some(vec![
            format!("--template={TEMPLATE_PATH}/{FILE}"),
            format!("--file={DATA_PATH}/{FILE}"),
            format!("--announce=$(POD_NAME){domain}"),
            format!("--passwords-file={SECRETS_PATH}/passwords"),
            format!("--sentinel-password-file={SECRETS_PATH}/sentinel-password"),
            format!("--hosts={NAMES_PATH}/{HOSTS}"),
        ]),
        env: Some(vec![pod_name()]),
        resources: Some(requirements(&valid.spec.sentinel.resources)),
        volume_mounts: Some(vec![
            mount(DATA, DATA_PATH, false),
            mount(NAMES, NAMES_PATH, false),
            mount(TEMPLATE, TEMPLATE_PATH, true),
            mount(SECRETS, SECRETS_PATH, true),
        ]),
        ..Container::default()
    }
}

fn sentinel(valid: &Valid) -> Container {
    let file = format!("{DATA_PATH}/{FILE}");
    let number = SENTINEL_PORT.to_string();
    Container {
        name: "sentinel".to_owned(),
        image: Some(valid.spec.redis.image.clone()),
        command: Some(words(["redis-server", &file, "--sentinel"])),
        ports: Some(vec![port("sentinel", SENTINEL_PORT)]),
        // A refusal for want of a password is an answer too, so no password is needed. Starting a program in a
        // container takes long on a busy node, where a Sentinel less would be one vote less.
        liveness_probe: Some(exec_probe(
            words(["redis-cli", "-p", &number, "ping"]),
            Pace { period_secs: 30, timeout_secs: 30, failures: 5 },
        )),
        readiness_probe: Some(tcp_probe("sentinel", Pace { period_secs: 3, timeout_secs: 2, failures: 3 })),
        resources: Some(requirements(&valid.spec.sentinel.resources)),
        volume_mounts: Some(vec![
            mount(DATA, DATA_PATH, false),
            // Instead of the kubelet's own file.
            VolumeMount { sub_path: Some(HOSTS.to_owned()), ..mount(NAMES, HOSTS_PATH, true) },
        ]),
        ..Container::default()
    }
}

/// It asks name servers, and is the only one that waits for them.
fn keep_names(facts: &Facts) -> Container {
    Container {
        name: "names".to_owned(),
        image: Some(facts.image.clone()),
        command: Some(words(["taba-keeper", "names"])),
        // The kubelet brings changes of the list, so other members restart no Sentinel.
        args: Some(vec![format!("--names={TEMPLATE_PATH}/{NAMES}"), format!("--hosts={NAMES_PATH}/{HOSTS}")]),
        resources: Some(little()),
        volume_mounts: Some(vec![mount(NAMES, NAMES_PATH, false), mount(TEMPLATE, TEMPLATE_PATH, true)]),
        ..Container::default()
    }
}

/// What a program takes that looks a few names up each second, and room for a hundred shards' names.
fn little() -> ResourceRequirements {
    let quantities = |pairs: &[(&str, &str)]| {
        pairs.iter().map(|(name, amount)| ((*name).to_owned(), Quantity((*amount).to_owned()))).collect()
    };
    ResourceRequirements {
        requests: Some(quantities(&[("cpu", "5m"), ("memory", "8Mi")])),
        limits: Some(quantities(&[("memory", "32Mi")])),
        ..ResourceRequirements::default()
    }
}

/// How Sentinels watch a shard.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct WatchSettings {
    /// How many Sentinels must agree that a primary is down.
    pub quorum: usize,
    /// `down-after-milliseconds`.
    pub down_after_ms: u64,
    /// `failover-timeout`.
    pub failover_timeout_ms: u64,
    /// `parallel-syncs`.
    pub parallel_syncs: usize,
    /// The port of Redis.
    pub port: u16,
}

impl Valid {
    /// How Sentinels watch each shard.
    #[must_use]
    pub fn watch_settings(&self) -> WatchSettings {
        let down_after_ms = u64::try_from(self.down_after.as_millis()).unwrap_or(u64::MAX);
        WatchSettings {
            quorum: self.sentinels() / 2 + 1,
            down_after_ms,
            failover_timeout_ms: down_after_ms.saturating_mul(3).max(FAILOVER_TIMEOUT_MS_MIN),
            parallel_syncs: self.members(),
            port: REDIS_PORT,
        }
    }
}

/// The names of all members and Sentinels, a line each.
fn everyone(valid: &Valid) -> String {
    let names = &valid.names;
    let member = |shard| (0..valid.members()).map(move |ordinal| names.member_host(shard, ordinal));
    let members = (0..valid.shards()).flat_map(member);
    let sentinels = (0..valid.sentinels()).map(|ordinal| names.sentinel_host(ordinal));
    members.chain(sentinels).map(|name| name + "\n").collect()
}

/// The template: a new Sentinel watches the first member of every shard, the one that is founded.
fn configuration(valid: &Valid, settings: &WatchSettings) -> String {
    let names = &valid.names;
    let (quorum, down_after_ms) = (settings.quorum, settings.down_after_ms);
    let (timeout_ms, syncs) = (settings.failover_timeout_ms, settings.parallel_syncs);
    let mut text = format!(
        "port {SENTINEL_PORT}\nprotected-mode no\ndaemonize no\nlogfile \"\"\ndir {DATA_PATH}\n\
         sentinel resolve-hostnames yes\nsentinel announce-hostnames yes\n\
         sentinel announce-port {SENTINEL_PORT}\n"
    );
    for index in 0..valid.shards() {
        let (master, host) = (names.master(index), names.member_host(index, 0));
        write!(
            text,
            "sentinel monitor {master} {host} {REDIS_PORT} {quorum}\n\
             sentinel auth-user {master} sentinel\n\
             sentinel down-after-milliseconds {master} {down_after_ms}\n\
             sentinel failover-timeout {master} {timeout_ms}\n\
             sentinel parallel-syncs {master} {syncs}\n"
        )
        .expect("a string takes everything");
    }
    text
}
