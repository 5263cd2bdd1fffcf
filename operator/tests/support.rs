//! Clusters to build from, with facts that never change.

use std::collections::BTreeMap;

use taba_operator::api::TabaCluster;
use taba_operator::build::{Facts, Names, Objects, Secrets, Settings, Valid, build, image};

/// A name and nothing else, as it comes back from an API server.
pub fn bare() -> TabaCluster {
    read(
        "{apiVersion: taba.dev/v1alpha1, kind: TabaCluster, spec: {}, metadata: {name: main, namespace: metrics, \
         uid: 0c5e1d4e-9d7b-4a57-8f0e-0d3a5b7c9e11}}",
    )
}

/// Everything that can be set.
pub fn full() -> TabaCluster {
    read(include_str!("full.yaml"))
}

pub fn read(text: &str) -> TabaCluster {
    serde_yaml::from_str(text).expect("a cluster")
}

pub fn settings() -> Settings {
    Settings { operator_namespace: "taba-system".to_owned(), cluster_domain: "cluster.local".to_owned() }
}

pub fn valid(cluster: &TabaCluster) -> Valid {
    Valid::new(cluster, &settings()).expect("a valid spec")
}

/// Nothing exists yet.
pub fn facts(cluster: &TabaCluster, names: &Names, shards: usize) -> Facts {
    let mut made = 0;
    let fresh = || {
        made += 1;
        format!("secret{made}")
    };
    Facts {
        image: image(cluster, "registry.example/taba:1.0.0"),
        secrets: Secrets::complete(names, shards, &BTreeMap::new(), fresh),
        claim_sizes: BTreeMap::new(),
        replicas: BTreeMap::new(),
    }
}

pub fn built(cluster: &TabaCluster) -> Objects {
    built_with(cluster, |_| ())
}

pub fn built_with(cluster: &TabaCluster, change: impl FnOnce(&mut Facts)) -> Objects {
    let valid = valid(cluster);
    let mut facts = facts(cluster, &valid.names, valid.shards());
    change(&mut facts);
    build(&valid, &facts)
}
