//! What a pod's status says, in the words of decisions.

use k8s_openapi::api::core::v1::{ContainerStatus, Pod as KubePod};
use k8s_openapi::jiff::{SignedDuration, Timestamp};
use kube::ResourceExt as _;
use kube::api::ObjectMeta;

use super::world::{Pod, Trouble};

/// The label with which a StatefulSet's controller marks the template of a pod.
const REVISION_LABEL: &str = "controller-revision-hash";

/// Longest message of Kubernetes that is passed on.
const MESSAGE_CHARS_MAX: usize = 200;

/// A pod may take so long to start before its absence is more than that: images are fetched, volumes are made and
/// data copied meanwhile.
const YOUNG: SignedDuration = SignedDuration::from_secs(120);

/// Waiting for these is no trouble.
const STARTING: [&str; 2] = ["ContainerCreating", "PodInitializing"];

/// Reads a pod at the time `now`. `newest` is the revision that it should be of, where that matters.
#[must_use]
pub fn pod(found: &KubePod, newest: Option<&str>, now: Timestamp) -> Pod {
    let status = found.status.clone().unwrap_or_default();
    let revision = found.labels().get(REVISION_LABEL).map(String::as_str);
    let conditions = status.conditions.as_deref().unwrap_or_default();
    let is_ready = conditions.iter().any(|one| one.type_ == "Ready" && one.status == "True");
    let containers = status.container_statuses.as_deref().unwrap_or_default();
    let is_running =
        containers.iter().any(|one| one.state.as_ref().is_some_and(|state| state.running.is_some()));
    Pod {
        name: found.name_any(),
        uid: found.uid().unwrap_or_default(),
        ip: status.pod_ip.as_deref().and_then(|ip| ip.parse().ok()),
        is_outdated: newest.is_some() && revision != newest,
        is_terminating: found.metadata.deletion_timestamp.is_some(),
        is_ready,
        is_running,
        is_young: is_young(found, now),
        trouble: trouble(found),
    }
}

/// Whether something was made so lately that it may still be starting.
pub(super) fn is_new(metadata: &ObjectMeta, now: Timestamp) -> bool {
    let made = metadata.creation_timestamp.as_ref().map(|time| time.0);
    made.is_some_and(|made| now.duration_since(made) < YOUNG)
}

fn is_young(found: &KubePod, now: Timestamp) -> bool {
    let statuses = found.status.as_ref().and_then(|status| status.container_statuses.as_ref());
    is_new(&found.metadata, now)
        && !statuses.into_iter().flatten().any(|container| container.restart_count > 0)
}

fn trouble(found: &KubePod) -> Option<Trouble> {
    let status = found.status.as_ref()?;
    let conditions = status.conditions.as_deref().unwrap_or_default();
    let unscheduled = conditions.iter().find(|one| one.type_ == "PodScheduled" && one.status == "False");
    if let Some(condition) = unscheduled {
        let reason = condition.reason.clone().unwrap_or_else(|| "Unschedulable".to_owned());
        return Some(Trouble { reason, message: short(condition.message.as_deref()) });
    }
    let inits = status.init_container_statuses.as_deref().unwrap_or_default();
    let containers = status.container_statuses.as_deref().unwrap_or_default();
    inits.iter().chain(containers).find_map(waiting)
}

fn waiting(container: &ContainerStatus) -> Option<Trouble> {
    let waiting = container.state.as_ref()?.waiting.as_ref()?;
    let mut reason = waiting.reason.clone().filter(|reason| !STARTING.contains(&reason.as_str()))?;
    // The two take turns, and their messages grow.
    if reason == "ErrImagePull" {
        "ImagePullBackOff".clone_into(&mut reason);
    }
    // The delay in the message of a crash loop grows: not worth a new status each time.
    let message = match reason.as_str() {
        "CrashLoopBackOff" => ended(container),
        "ImagePullBackOff" => format!("the image {} cannot be pulled", container.image),
        _ => short(waiting.message.as_deref()),
    };
    Some(Trouble { reason, message: format!("container {}: {message}", container.name) })
}

fn ended(container: &ContainerStatus) -> String {
    let last = container.last_state.as_ref().and_then(|state| state.terminated.as_ref());
    last.map_or_else(
        || "it ends again and again".to_owned(),
        |ended| format!("it ended with exit code {}; see its logs", ended.exit_code),
    )
}

fn short(message: Option<&str>) -> String {
    let text = message.unwrap_or_default();
    let mut short: String = text.chars().take(MESSAGE_CHARS_MAX).collect();
    if short.len() < text.len() {
        short.push('…');
    }
    short
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn read(status: &Value) -> Pod {
        read_after(0, status)
    }

    fn read_after(secs: i64, status: &Value) -> Pod {
        let found = serde_json::from_value(json!({
            "metadata": {
                "name": "main-s0-0", "uid": "u", "labels": {"controller-revision-hash": "main-s0-1"},
                "creationTimestamp": "1970-01-01T00:00:00Z"
            },
            "status": status
        }));
        let now = Timestamp::from_second(secs).expect("a time");
        pod(&found.expect("a pod"), Some("main-s0-2"), now)
    }

    #[test]
    fn a_pod_is_young_until_it_had_time_to_start_or_a_container_ended() {
        let restarted = |restarts: i32| {
            json!({"containerStatuses": [{
                "name": "redis", "image": "", "imageID": "", "ready": false, "restartCount": restarts,
                "state": {"running": {}}
            }]})
        };
        assert!(read_after(119, &restarted(0)).is_young);
        assert!(!read_after(120, &restarted(0)).is_young);
        assert!(!read_after(1, &restarted(1)).is_young);
    }

    #[test]
    fn a_pod_that_runs_has_no_trouble() {
        let pod = read(&json!({
            "podIP": "10.0.0.7",
            "conditions": [{"type": "Ready", "status": "True"}],
            "containerStatuses": [{
                "name": "redis", "image": "", "imageID": "", "ready": true, "restartCount": 0,
                "state": {"running": {}}
            }]
        }));
        assert!(pod.is_ready && pod.is_running && pod.is_outdated && !pod.is_terminating);
        assert_eq!((pod.ip.map(|ip| ip.to_string()).as_deref(), pod.trouble), (Some("10.0.0.7"), None));
    }

    #[test]
    fn trouble_is_named_as_kubernetes_names_it() {
        let unscheduled = read(&json!({"conditions": [{
            "type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "0/2 nodes"
        }]}));
        let trouble = unscheduled.trouble.expect("trouble");
        assert_eq!((trouble.reason.as_str(), trouble.message.as_str()), ("Unschedulable", "0/2 nodes"));

        let waits = |reason: &str| {
            let pod = read(&json!({"containerStatuses": [{
                "name": "redis", "image": "no:1", "imageID": "", "ready": false, "restartCount": 0,
                "state": {"waiting": {"reason": reason, "message": "back-off 40s"}}
            }]}));
            pod.trouble.map(|trouble| trouble.message)
        };
        assert_eq!(waits("ContainerCreating"), None);
        assert_eq!(waits("CreateContainerConfigError").as_deref(), Some("container redis: back-off 40s"));
        let pull = waits("ErrImagePull");
        assert_eq!(pull.as_deref(), Some("container redis: the image no:1 cannot be pulled"));
        assert_eq!(pull, waits("ImagePullBackOff"), "the two take turns, which is no news");
        let crash = waits("CrashLoopBackOff").expect("trouble");
        assert!(!crash.contains("40s"), "a message that grows would be written again and again: {crash}");
    }
}
