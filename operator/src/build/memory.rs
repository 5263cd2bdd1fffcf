//! What follows from memory limits.

const MIB: u64 = 1 << 20;

/// Percent of a Redis' memory limit that data may use. While Redis forks to write its file anew, every page
/// written meanwhile exists twice, and the buffers of replicas and the keeper come on top; peers keep to 60 to 70.
const MAXMEMORY_PERCENT: u64 = 60;

/// Redis' `maxmemory` in bytes.
pub(super) const fn maxmemory(limit_bytes: u64) -> u64 {
    limit_bytes / 100 * MAXMEMORY_PERCENT
}

/// Bounds of a server in MiB.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct ServerMemory {
    /// All-clients states kept ready: two fifths of the limit.
    pub(super) cache_mib: u64,
    /// Partial states of open posts: a quarter of the limit.
    pub(super) inflight_mib: u64,
    /// Partial states of one post: the server's default where there is room for it.
    pub(super) parts_mib: u64,
}

impl ServerMemory {
    pub(super) fn of(limit_bytes: u64) -> Self {
        let limit_mib = limit_bytes / MIB;
        let inflight_mib = (limit_mib / 4).max(1);
        Self { cache_mib: (limit_mib * 2 / 5).max(1), inflight_mib, parts_mib: inflight_mib.min(64) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_third_of_the_limit_and_more_is_left_for_forks_and_buffers() {
        assert_eq!(maxmemory(1_000_000_000), 600_000_000);
        let server = ServerMemory::of(512 * MIB);
        assert_eq!(server, ServerMemory { cache_mib: 204, inflight_mib: 128, parts_mib: 64 });
        assert_eq!(ServerMemory::of(128 * MIB).parts_mib, 32, "one post never exceeds what all may hold");
    }
}
