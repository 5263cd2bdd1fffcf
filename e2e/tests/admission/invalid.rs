//! Specs that are refused, the place that the answer names, and what it says.

const NAME: &str = "metadata.name must have at most 40 lower-case letters";
const SUFFIX: &str = "metadata.name must not end in -s0";
const QUANTITY: &str = "must be a quantity above 0, such as 500m, 2 or 10Gi";
const XOR: &str = "replicas and autoscaling exclude each other";
const DOWN_AFTER: &str = "sentinel.downAfter must be a number with ms, s or m, from 1s to 1m";
const ODD: &str = "sentinel.replicas must be odd and at least 3";
const LABEL_VALUE: &str = "podTemplate.labels values have at most 63";
const IMAGE: &str = "must be the name of an image, without blanks";

/// Name, spec, place, message.
pub const NAMES: &[(&str, &str, &str, &str)] = &[
    ("a2345678901234567890123456789012345678901", "{}", "<nil>", NAME),
    ("'1main'", "{}", "<nil>", NAME),
    ("main.metrics", "{}", "<nil>", NAME),
    ("main-s0", "{}", "<nil>", SUFFIX),
    ("main-s12", "{}", "<nil>", SUFFIX),
    ("main-sentinel", "{}", "<nil>", SUFFIX),
    ("main-frontend", "{}", "<nil>", SUFFIX),
    ("main-control", "{}", "<nil>", SUFFIX),
];

/// Spec, place, message.
pub const SPECS: &[(&str, &str, &str)] = &[
    ("{image: 'a b'}", "spec.image", IMAGE),
    ("{imagePullPolicy: Sometimes}", "spec.imagePullPolicy", "supported values"),
    ("{imagePullSecrets: [{name: a}, {name: a}]}", "spec.imagePullSecrets[1]", "Duplicate value"),
    ("{imagePullSecrets: [{name: ''}]}", "spec.imagePullSecrets[0].name", "at least 1 chars long"),
    ("{imagePullSecrets: [{}]}", "spec.imagePullSecrets[0].name", "Required value"),
    ("{redis: {image: ''}}", "spec.redis.image", IMAGE),
    ("{redis: {image: 'redis 7'}}", "spec.redis.image", IMAGE),
    ("{redis: {shards: 0}}", "spec.redis.shards", "greater than or equal to 1"),
    ("{redis: {shards: 65}}", "spec.redis.shards", "less than or equal to 64"),
    ("{redis: {shards: two}}", "spec.redis.shards", "must be of type integer"),
    ("{redis: {shards: 2, vbuckets: 1}}", "spec.redis", "redis.shards must not be above redis.vbuckets"),
    ("{redis: {vbuckets: 0, shards: 1}}", "spec.redis.vbuckets", "greater than or equal to 1"),
    ("{redis: {vbuckets: 4097}}", "spec.redis.vbuckets", "less than or equal to 4096"),
    ("{redis: {replicas: -1}}", "spec.redis.replicas", "greater than or equal to 0"),
    ("{redis: {replicas: 8}}", "spec.redis.replicas", "less than or equal to 7"),
    ("{redis: {minInSync: -1}}", "spec.redis.minInSync", "greater than or equal to 0"),
    ("{redis: {minInSync: 3}}", "spec.redis", "redis.minInSync must not be above redis.replicas"),
    ("{redis: {replicas: 0}}", "spec.redis", "lower minInSync or raise replicas"),
    ("{redis: {storage: {size: big}}}", "spec.redis.storage.size", QUANTITY),
    ("{redis: {storage: {size: '-1Gi'}}}", "spec.redis.storage.size", QUANTITY),
    ("{redis: {storage: {size: 10GB}}}", "spec.redis.storage.size", QUANTITY),
    ("{redis: {storage: {size: 63Mi}}}", "spec.redis.storage", "storage.size must be at least 64Mi"),
    ("{redis: {storage: {size: 1000}}}", "spec.redis.storage", "storage.size must be at least 64Mi"),
    ("{redis: {storage: {size: true}}}", "spec.redis.storage.size", "must be of type"),
    ("{redis: {storage: {storageClassName: ''}}}", "spec.redis.storage.storageClassName", "at least 1 chars"),
    ("{redis: {resources: {}}}", "spec.redis", "redis.resources.limits.memory is needed"),
    (
        "{redis: {resources: {requests: {memory: 1Gi}}}}",
        "spec.redis",
        "redis.resources.limits.memory is needed",
    ),
    ("{redis: {resources: {limits: {memory: 100Mi}}}}", "spec.redis", "limits.memory must be at least 128Mi"),
    ("{redis: {resources: {limits: {memory: lots}}}}", "spec.redis.resources.limits.memory", QUANTITY),
    (
        "{redis: {resources: {requests: {memory: 2Gi}, limits: {memory: 1Gi}}}}",
        "spec.redis.resources",
        "requests.memory must not be above limits.memory",
    ),
    (
        "{frontend: {resources: {requests: {cpu: 1500m}, limits: {cpu: 1}}}}",
        "spec.frontend.resources",
        "requests.cpu must not be above limits.cpu",
    ),
    ("{backend: {resources: {limits: {cpu: 0}}}}", "spec.backend.resources.limits.cpu", QUANTITY),
    (
        "{control: {resources: {requests: {memory: '1 Gi'}}}}",
        "spec.control.resources.requests.memory",
        QUANTITY,
    ),
    (
        "{backend: {resources: {limits: {cpu: 0.5}}}}",
        "spec.backend.resources.limits.cpu",
        "of type integer,string",
    ),
    ("{redis: {shard: 3}}", r#"unknown field "spec.redis.shard""#, "strict decoding error"),
    (
        "{redis: {storage: {sise: 3Gi}}}",
        r#"unknown field "spec.redis.storage.sise""#,
        "strict decoding error",
    ),
    (
        "{backend: {resources: {limits: {gpu: 1}}}}",
        r#"unknown field "spec.backend.resources.limits.gpu""#,
        "strict",
    ),
    ("{sentinel: {replicas: 1}}", "spec.sentinel.replicas", ODD),
    ("{sentinel: {replicas: 2}}", "spec.sentinel.replicas", ODD),
    ("{sentinel: {replicas: 4}}", "spec.sentinel.replicas", ODD),
    ("{sentinel: {replicas: 11}}", "spec.sentinel.replicas", "less than or equal to 9"),
    ("{sentinel: {downAfter: 3}}", "spec.sentinel.downAfter", "must be of type string"),
    ("{sentinel: {downAfter: '3'}}", "spec.sentinel.downAfter", DOWN_AFTER),
    ("{sentinel: {downAfter: soon}}", "spec.sentinel.downAfter", DOWN_AFTER),
    ("{sentinel: {downAfter: 999ms}}", "spec.sentinel.downAfter", DOWN_AFTER),
    ("{sentinel: {downAfter: 61s}}", "spec.sentinel.downAfter", DOWN_AFTER),
    ("{sentinel: {downAfter: 1h}}", "spec.sentinel.downAfter", DOWN_AFTER),
    ("{frontend: {replicas: 0}}", "spec.frontend.replicas", "greater than or equal to 1"),
    ("{backend: {replicas: 1001}}", "spec.backend.replicas", "less than or equal to 1000"),
    ("{frontend: {replicas: 2, autoscaling: {}}}", "spec.frontend", XOR),
    ("{backend: {replicas: 2, autoscaling: {maxReplicas: 9}}}", "spec.backend", XOR),
    ("{control: {replicas: 2, autoscaling: {}}}", "spec.control", XOR),
    (
        "{frontend: {autoscaling: {minReplicas: 5, maxReplicas: 4}}}",
        "spec.frontend.autoscaling",
        "autoscaling.minReplicas must not be above maxReplicas",
    ),
    ("{frontend: {autoscaling: {minReplicas: 0}}}", "spec.frontend.autoscaling.minReplicas", "equal to 1"),
    ("{frontend: {autoscaling: {cpuPercent: 0}}}", "spec.frontend.autoscaling.cpuPercent", "equal to 1"),
    (
        "{frontend: {autoscaling: {}, resources: {limits: {memory: 1Gi}}}}",
        "spec.frontend",
        "set resources.requests.cpu",
    ),
    (
        "{frontend: {autoscaling: {memoryPercent: 80}, resources: {requests: {cpu: 1}}}}",
        "spec.frontend",
        "set resources.requests.memory",
    ),
    (
        "{frontend: {podTemplate: {labels: {app.kubernetes.io/name: mine}}}}",
        "spec.frontend.podTemplate.labels",
        "must not hold labels of app.kubernetes.io/",
    ),
    (
        "{redis: {podTemplate: {labels: {taba.dev/shard: s9}}}}",
        "spec.redis.podTemplate.labels",
        "by which the operator finds pods",
    ),
    ("{backend: {podTemplate: {labels: {team: 'a b'}}}}", "spec.backend.podTemplate.labels", LABEL_VALUE),
    ("{backend: {podTemplate: {labels: {team: '-a'}}}}", "spec.backend.podTemplate.labels", LABEL_VALUE),
    (
        "{backend: {podTemplate: {labels: {'a b': c}}}}",
        "spec.backend.podTemplate.labels",
        "podTemplate.labels keys are names",
    ),
    (
        "{sentinel: {podTemplate: {annotations: {taba.dev/sentinel-config: x}}}}",
        "spec.sentinel.podTemplate.annotations",
        "must not hold annotations of taba.dev/",
    ),
    (
        "{backend: {podTemplate: {topologySpreadConstraints: [{maxSkew: 1, topologyKey: zone}]}}}",
        "spec.backend.podTemplate.topologySpreadConstraints[0].whenUnsatisfiable",
        "Required value",
    ),
    ("{durability: Best}", "spec.durability", "supported values"),
    ("{durability: replicated}", "spec.durability", "supported values"),
    ("{paused: 'yes'}", "spec.paused", "must be of type boolean"),
    ("{deletionPolicy: Forget}", "spec.deletionPolicy", "supported values"),
];
