//! How many servers there are: a number, or an autoscaler. One of them decides, never both.

use k8s_openapi::api::autoscaling::v2::{
    CrossVersionObjectReference, HPAScalingPolicy, HPAScalingRules, HorizontalPodAutoscaler,
    HorizontalPodAutoscalerBehavior, HorizontalPodAutoscalerSpec, MetricSpec, MetricTarget,
    ResourceMetricSource,
};

use super::labels::{Component, meta};
use super::{Facts, Objects, Role, Valid, WantedReplicas};
use crate::api::Autoscaling;

/// Pods of a role for which the spec names no number, when the cluster is made.
const REPLICAS_DEFAULT: i32 = 2;

/// Load must have been low for so long before a pod goes.
const CALM_SECS: i32 = 120;

/// A pod goes at most this often: each drains, and its work moves to the others.
const STEP_SECS: i32 = 30;

pub(super) fn build(valid: &Valid, facts: &Facts, role: Role, objects: &mut Objects) {
    let spec = valid.role(role);
    let present = facts.replicas.get(&role).copied();
    let wanted = match (&spec.autoscaling, spec.replicas, present) {
        (None, Some(number), _) => Some(number),
        // Whoever chose the present number, it stays.
        (_, _, Some(_)) => None,
        (Some(scaling), ..) => Some(scaling.min_replicas),
        (None, None, None) => Some(REPLICAS_DEFAULT),
    };
    if let Some(replicas) = wanted.filter(|number| present != Some(*number)) {
        objects.replicas.push(WantedReplicas { role, deployment: valid.names.role(role), replicas });
    }
    if let Some(scaling) = &spec.autoscaling {
        objects.owned.autoscalers.push(autoscaler(valid, role, scaling));
    }
}

fn autoscaler(valid: &Valid, role: Role, scaling: &Autoscaling) -> HorizontalPodAutoscaler {
    let name = valid.names.role(role);
    let mut metrics = vec![utilization("cpu", scaling.cpu_percent)];
    metrics.extend(scaling.memory_percent.map(|percent| utilization("memory", percent)));
    HorizontalPodAutoscaler {
        metadata: meta(valid, name.clone(), Component::Server(role)),
        spec: Some(HorizontalPodAutoscalerSpec {
            scale_target_ref: CrossVersionObjectReference {
                api_version: Some("apps/v1".to_owned()),
                kind: "Deployment".to_owned(),
                name,
            },
            min_replicas: Some(scaling.min_replicas),
            max_replicas: scaling.max_replicas,
            metrics: Some(metrics),
            behavior: Some(HorizontalPodAutoscalerBehavior { scale_down: Some(slowly()), scale_up: None }),
        }),
        ..HorizontalPodAutoscaler::default()
    }
}

fn utilization(name: &str, percent: i32) -> MetricSpec {
    MetricSpec {
        type_: "Resource".to_owned(),
        resource: Some(ResourceMetricSource {
            name: name.to_owned(),
            target: MetricTarget {
                type_: "Utilization".to_owned(),
                average_utilization: Some(percent),
                ..MetricTarget::default()
            },
        }),
        ..MetricSpec::default()
    }
}

fn slowly() -> HPAScalingRules {
    HPAScalingRules {
        stabilization_window_seconds: Some(CALM_SECS),
        policies: Some(vec![HPAScalingPolicy {
            type_: "Pods".to_owned(),
            value: 1,
            period_seconds: STEP_SECS,
        }]),
        ..HPAScalingRules::default()
    }
}
