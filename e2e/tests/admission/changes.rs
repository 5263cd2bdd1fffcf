//! Changes of a spec that is there: `None` if let in, else the place that the answer names, and what it says.

/// New spec, and place and message of the refusal.
type Change = (&'static str, Option<(&'static str, &'static str)>);

const SHARDS: (&str, &str) = ("spec.redis.shards", "redis.shards cannot be changed yet");
const VBUCKETS: (&str, &str) = ("spec.redis.vbuckets", "redis.vbuckets can never be changed");
const IN_SYNC: (&str, &str) = ("spec.redis.minInSync", "redis.minInSync cannot be changed yet");
const REPLICAS: (&str, &str) = ("spec.redis.replicas", "redis.replicas can only grow");
const SENTINELS: (&str, &str) = ("spec.sentinel.replicas", "sentinel.replicas can only grow");
const SIZE: (&str, &str) = ("spec.redis.storage", "storage.size can only grow");
const CLASS: (&str, &str) = ("spec.redis.storage", "storage.storageClassName cannot be changed");

/// Old spec, and what it is changed to.
pub const CHANGES: &[(&str, &[Change])] = &[
    (
        "{}",
        &[
            ("{redis: {}}", None),
            ("{redis: {shards: 3}}", Some(SHARDS)),
            ("{redis: {shards: 1}}", Some(SHARDS)),
            ("{redis: {vbuckets: 512}}", Some(VBUCKETS)),
            ("{redis: {replicas: 3}}", None),
            ("{redis: {replicas: 1}}", Some(REPLICAS)),
            ("{redis: {minInSync: 2}}", Some(IN_SYNC)),
            ("{redis: {minInSync: 0}}", Some(IN_SYNC)),
            ("{redis: {storage: {size: 11Gi}}}", None),
            ("{redis: {storage: {size: 10240Mi}}}", None),
            ("{redis: {storage: {size: 9Gi}}}", Some(SIZE)),
            ("{redis: {storage: {storageClassName: fast}}}", Some(CLASS)),
            ("{sentinel: {replicas: 5}}", None),
            ("{sentinel: {downAfter: 10s}}", None),
            ("{frontend: {autoscaling: {}}, durability: Fsync, deletionPolicy: Delete, paused: true}", None),
        ],
    ),
    (
        "{redis: {shards: 1, vbuckets: 16, replicas: 4, storage: {size: 20Gi, storageClassName: fast}}, \
         sentinel: {replicas: 5}, frontend: {replicas: 3}}",
        &[
            (
                "{redis: {shards: 1, vbuckets: 16, replicas: 4, storage: {size: 20Gi}}, sentinel: {replicas: 5}}",
                Some(CLASS),
            ),
            (
                "{redis: {shards: 1, vbuckets: 16, replicas: 4, storage: {size: 20Gi, storageClassName: slow}}, \
                 sentinel: {replicas: 5}}",
                Some(CLASS),
            ),
            (
                "{redis: {shards: 1, vbuckets: 16, replicas: 4, storage: {size: 20Gi, storageClassName: fast}}}",
                Some(SENTINELS),
            ),
            (
                "{redis: {shards: 1, vbuckets: 16, replicas: 4, storage: {size: 20Gi, storageClassName: fast}}, \
                 sentinel: {replicas: 5}, frontend: {autoscaling: {}}}",
                None,
            ),
            (
                "{redis: {shards: 1, vbuckets: 16, replicas: 7, storage: {size: 1Ti, storageClassName: fast}}, \
                 sentinel: {replicas: 9}, backend: {replicas: 9}}",
                None,
            ),
        ],
    ),
];
