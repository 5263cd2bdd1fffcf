//! A TabaCluster, its pods, and waiting for it.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use taba_e2e::api::{get, list, path};
use taba_e2e::runner::run;

use crate::dump;
use crate::kubectl::{apply, condition, is_true, kubectl, text, until};

/// The images that scenarios begin with.
pub const IMAGE: &str = "localhost/taba:test";
/// That of Redis.
pub const REDIS_IMAGE: &str = "localhost/redis:test";

/// Longest wait for a cluster to be as its spec says: fifteen pods, one after the other, on a busy machine.
pub const SETTLED: Duration = Duration::from_secs(420);

/// A cluster.
#[derive(Clone, Debug)]
pub struct Taba {
    /// Where.
    pub namespace: String,
    /// What it is called.
    pub name: String,
}

/// One of its pods.
#[derive(Clone, Debug)]
pub struct Pod {
    /// Its name.
    pub name: String,
    /// Which pod of this name.
    pub uid: String,
    /// `redis`, `sentinel`, `frontend`, `backend` or `control`.
    pub component: String,
    /// Where it runs, once it does.
    pub node: String,
    /// Its address, once it has one.
    pub ip: String,
    /// It is ready and is not being deleted.
    pub is_ready: bool,
    /// How often its container was started again.
    pub restarts: u64,
    /// Images of its containers, the first ones' too.
    pub images: BTreeSet<String>,
}

impl Pod {
    /// Reads one.
    pub fn read(pod: &Value) -> Self {
        let own = |pointer: &str| text(pod, pointer).to_owned();
        let containers = ["initContainers", "containers"].map(|kind| pod["spec"][kind].as_array());
        let images = containers.into_iter().flatten().flatten().map(|one| text(one, "/image").to_owned());
        Self {
            name: own("/metadata/name"),
            uid: own("/metadata/uid"),
            component: own("/metadata/labels/app.kubernetes.io~1component"),
            node: own("/spec/nodeName"),
            ip: own("/status/podIP"),
            is_ready: is_true(pod, "Ready") && pod["metadata"]["deletionTimestamp"].is_null(),
            restarts: pod["status"]["containerStatuses"][0]["restartCount"].as_u64().unwrap_or(0),
            images: images.collect(),
        }
    }

    /// Whether it is another life of a pod: another pod of the name, or its container was started again.
    pub fn is_later_than(&self, other: &Self) -> bool {
        self.uid != other.uid || self.restarts > other.restarts
    }
}

/// A cluster of one shard with two replicas that asks for little.
pub fn small() -> Value {
    let role = json!({"replicas": 2, "resources": little("256Mi")});
    json!({
        "image": IMAGE,
        "redis": {
            "image": REDIS_IMAGE, "shards": 1, "replicas": 2, "vbuckets": 4, "storage": {"size": "256Mi"},
            "resources": little("256Mi"),
        },
        "sentinel": {"resources": little("64Mi")},
        "frontend": role,
        "backend": role,
        "control": {"replicas": 1, "resources": little("256Mi")},
    })
}

fn little(memory: &str) -> Value {
    json!({"requests": {"cpu": "20m", "memory": "32Mi"}, "limits": {"memory": memory}})
}

/// The small one, changed.
pub fn small_but(change: &Value) -> Value {
    let mut spec = small();
    merge(&mut spec, change);
    spec
}

/// As a merge patch does it.
pub fn merge(into: &mut Value, change: &Value) {
    let (Some(object), Some(changes)) = (into.as_object_mut(), change.as_object()) else {
        *into = change.clone();
        return;
    };
    for (name, value) in changes {
        if value.is_null() {
            object.remove(name);
            continue;
        }
        merge(object.entry(name).or_insert(Value::Null), value);
    }
}

impl Taba {
    /// Makes one.
    pub fn create(namespace: &str, name: &str, spec: &Value) -> Result<Self> {
        apply(&json!({
            "apiVersion": "taba.dev/v1alpha1",
            "kind": "TabaCluster",
            "metadata": {"name": name, "namespace": namespace},
            "spec": spec,
        }))?;
        Ok(Self { namespace: namespace.to_owned(), name: name.to_owned() })
    }

    /// Where posts and queries go, by name.
    pub fn url(&self) -> String {
        format!("http://{}.{}.svc.cluster.local:8300", self.name, self.namespace)
    }

    /// The same by the Service's address, for who would look its name up again for every request.
    pub fn url_by_address(&self) -> Result<String> {
        let service = get(&path(&self.namespace, &format!("services/{}", self.name)))?;
        Ok(format!("http://{}:8300", text(&service, "/spec/clusterIP")))
    }

    /// The object.
    pub fn object(&self) -> Result<Value> {
        get(&path(&self.namespace, &format!("taba.dev/v1alpha1 tabaclusters/{}", self.name)))
    }

    /// Changes the spec by a merge patch.
    pub fn patch(&self, spec: &Value) -> Result<()> {
        let patch = json!({"spec": spec}).to_string();
        let words = ["patch", "tabacluster", &self.name, "--namespace", &self.namespace, "--type=merge"];
        kubectl(&[&words[..], &["--patch", &patch]].concat()).map(drop)
    }

    /// Its pods, by name.
    pub fn pods(&self) -> Result<Vec<Pod>> {
        let name = &self.name;
        let what =
            format!("pods?labelSelector=app.kubernetes.io/name=taba,app.kubernetes.io/instance={name}");
        // A list comes in the order of names.
        Ok(list(&path(&self.namespace, &what))?.iter().map(Pod::read).collect())
    }

    /// Its pods of a component.
    pub fn pods_of(&self, component: &str) -> Result<Vec<Pod>> {
        Ok(self.pods()?.into_iter().filter(|pod| pod.component == component).collect())
    }

    /// The pod whose Redis is the primary of a shard.
    pub fn primary(&self, shard: usize) -> Result<Pod> {
        let name = self.object()?["status"]["shards"][shard]["primary"].as_str().map(str::to_owned);
        let name = name.with_context(|| format!("shard {shard} has no primary"))?;
        self.pods()?.into_iter().find(|pod| pod.name == name).context("the primary has a pod")
    }

    /// Waits until it serves, and says how long that took.
    pub fn available(&self) -> Result<Duration> {
        let begin = Instant::now();
        self.wait("is Available", || {
            let object = self.object()?;
            ensure!(is_true(&object, "Available"), "{}", conditions(&object));
            Ok(())
        })?;
        Ok(begin.elapsed())
    }

    /// Waits until the status is about the newest spec and says that there is nothing left to do, and every pod
    /// is ready. How long that took.
    pub fn settled(&self) -> Result<Duration> {
        let begin = Instant::now();
        self.wait("is as its spec says", || self.is_settled())?;
        Ok(begin.elapsed())
    }

    fn is_settled(&self) -> Result<()> {
        let object = self.object()?;
        let said = conditions(&object);
        let is_new = object["status"]["observedGeneration"] == object["metadata"]["generation"];
        ensure!(is_new, "the status is about an old spec: {said}");
        let is_at_rest = condition(&object, "Progressing").is_some_and(|one| one["reason"] == "UpToDate");
        ensure!(is_true(&object, "Available") && is_at_rest && !is_true(&object, "Degraded"), "{said}");
        let members = object["spec"]["redis"]["replicas"].as_u64().map_or(0, |replicas| replicas + 1);
        for shard in object["status"]["shards"].as_array().context("no shards")? {
            let in_sync = shard["inSync"].as_array().map_or(0, Vec::len) as u64;
            ensure!(in_sync == members, "in sync: {shard}");
        }
        let pods = self.pods()?;
        let waiting: Vec<_> = pods.iter().filter(|pod| !pod.is_ready).map(|pod| &pod.name).collect();
        ensure!(waiting.is_empty(), "not ready: {waiting:?}");
        // The status may be older than a death.
        for (component, wanted) in wanted(&object["spec"]) {
            let there = pods.iter().filter(|pod| pod.component == component).count() as u64;
            ensure!(there >= wanted, "{there} pods of {component}, not {wanted}");
        }
        Ok(())
    }

    /// Waits until something is so of it.
    pub fn wait<T>(&self, what: &str, attempt: impl FnMut() -> Result<T>) -> Result<T> {
        until(&format!("{} {what}", self.name), SETTLED, attempt)
            .with_context(|| format!("pods:\n{}", dump::pods(&self.namespace)))
    }

    /// Waits until a pod lives another life, and everything is as it should be.
    pub fn healed_after(&self, before: &Pod) -> Result<()> {
        self.wait(&format!("has replaced {}", before.name), || {
            let pods = self.pods()?;
            let is_over = match pods.iter().find(|pod| pod.name == before.name) {
                // Pods of a Deployment get new names.
                None => true,
                Some(now) => now.is_later_than(before),
            };
            ensure!(is_over, "{} is as it was", before.name);
            Ok(())
        })?;
        self.settled().map(drop)
    }
}

/// How many pods of each component a spec asks for; those that an autoscaler counts are left out.
fn wanted(spec: &Value) -> Vec<(&'static str, u64)> {
    let number = |of: &str, what: &str| spec[of][what].as_u64();
    let members = number("redis", "shards").zip(number("redis", "replicas"));
    let shards = members.map(|(shards, replicas)| ("redis", shards * (replicas + 1)));
    let others = ["sentinel", "frontend", "backend", "control"];
    let others = others.into_iter().filter_map(|of| Some((of, number(of, "replicas")?)));
    shards.into_iter().chain(others).collect()
}

/// What an object's conditions say, in a line.
pub fn conditions(object: &Value) -> String {
    let conditions = object["status"]["conditions"].as_array().cloned().unwrap_or_default();
    let one = |one: &Value| {
        let part = |name: &str| one[name].as_str().unwrap_or_default().to_owned();
        format!("{}={} {}: {}", part("type"), part("status"), part("reason"), part("message"))
    };
    conditions.iter().map(one).collect::<Vec<_>>().join(" | ")
}

/// Kills what runs in pods with SIGKILL; their sandboxes, addresses and volumes stay.
pub fn kill(pods: &[&Pod]) -> Result<()> {
    pods.iter().try_for_each(|pod| run(&["cluster", "kill", &format!("pod/{}", pod.uid)]).map(drop))
}
