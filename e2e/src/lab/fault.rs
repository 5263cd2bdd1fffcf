//! The faults that the lab knows: one kind for each thing of the field that is to be survived.

use std::fmt;

use super::net::Mode;

/// A kind of fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// SIGKILL of a primary's Redis; its keeper lives.
    KillPrimaryRedis,
    /// SIGKILL of a replica's Redis; its keeper lives.
    KillReplicaRedis,
    /// SIGKILL of a primary's keeper, and with it of its Redis.
    KillPrimary,
    /// SIGKILL of a replica's keeper, and with it of its Redis.
    KillReplica,
    /// SIGKILL of a Sentinel.
    KillSentinel,
    /// SIGKILL of a frontend.
    KillFrontend,
    /// SIGKILL of a backend.
    KillBackend,
    /// SIGKILL of an agent.
    KillAgent,
    /// SIGSTOP of a primary's Redis for a while.
    StopPrimaryRedis,
    /// SIGSTOP of a replica's Redis for a while.
    StopReplicaRedis,
    /// SIGSTOP of a keeper for a while; its Redis runs.
    StopKeeper,
    /// SIGSTOP of a primary's Redis and keeper, as when its machine stalls.
    StopPrimary,
    /// SIGSTOP of a frontend or backend.
    StopServer,
    /// SIGSTOP of a Sentinel.
    StopSentinel,
    /// A primary's host is cut off: no packet in, none out, or neither.
    CutPrimary,
    /// A replica's host is cut off.
    CutReplica,
    /// A frontend's or backend's host is cut off.
    CutServer,
    /// The hosts of one or two Sentinels are cut off.
    CutSentinels,
    /// A link becomes slow.
    SlowLink,
    /// A link loses packets.
    LossyLink,
    /// A member is stopped gracefully and started again over its data.
    RestartMember,
    /// A replica is killed, loses its data and starts again.
    LoseReplicaData,
    /// A primary is killed, loses its data and starts again.
    LosePrimaryData,
    /// All members of a shard are killed and started again, in any order.
    StopShard,
    /// Every process is killed and started again, in any order.
    StopAll,
    /// A member's disk is full for a while.
    DiskFull,
    /// The clock of a host jumps and later jumps back.
    ClockJump,
    /// A dead replica's address is given to a member of another shard.
    ReuseAddress,
    /// Backends are added and taken away.
    ScaleBackends,
    /// Frontends are added and taken away.
    ScaleFrontends,
    /// A primary hands over on command.
    Handover,
    /// All members of a shard restart gracefully, replicas first.
    RollShard,
    /// All frontends and backends restart gracefully.
    RollServers,
    /// All Sentinels restart, one at a time.
    RollSentinels,
    /// Redis does what a frontend asked, and the reply is lost.
    LoseAcceptReply,
    /// Redis does what a backend asked, and the reply is lost.
    LoseCommitReply,
    /// A frontend stores a batch, and its answer is lost.
    LosePostReply,
    /// An agent's host is cut off, or the agent stops for a while.
    CutAgent,
    /// More copies are lost than the design promises to survive: the shard must refuse to open.
    LoseTooMuch,
    /// All members of a shard but one die, after that one heard nothing for a moment. Where every member must
    /// hold a write, the one that is left has all.
    KeepOne,
    /// A primary hands over on command while the keepers of its replicas stand still: Sentinel and Redis do their parts,
    /// and nobody but the fence keeps the old primary from taking more.
    LoneHandover,
    /// What a backend sends to Redis arrives only when its leases are over, others have taken over and
    /// committed, and these are dead: nobody is left who would write the same states again.
    LateCommit,
}

/// Kinds that take turns as the first fault of a run. Every 20 consecutive seeds meet all of them.
pub const FIRST: [Kind; 20] = [
    Kind::KillPrimaryRedis,
    Kind::CutReplica,
    Kind::StopServer,
    Kind::KillSentinel,
    Kind::CutPrimary,
    Kind::KillBackend,
    Kind::StopReplicaRedis,
    Kind::SlowLink,
    Kind::KillPrimary,
    Kind::StopSentinel,
    Kind::KillFrontend,
    Kind::StopPrimary,
    Kind::CutSentinels,
    Kind::KillReplica,
    Kind::LossyLink,
    Kind::StopPrimaryRedis,
    Kind::KillAgent,
    Kind::CutServer,
    Kind::KillReplicaRedis,
    Kind::StopKeeper,
];

/// Kinds that take turns as the second. Their number shares no factor with that of the first, so that
/// in the long run every pair is met.
pub const SECOND: [Kind; 19] = [
    Kind::Handover,
    Kind::LoseAcceptReply,
    Kind::LoseReplicaData,
    Kind::ScaleBackends,
    Kind::RollShard,
    Kind::LosePostReply,
    Kind::StopAll,
    Kind::DiskFull,
    Kind::ScaleFrontends,
    Kind::LosePrimaryData,
    Kind::LoseCommitReply,
    Kind::RestartMember,
    Kind::ReuseAddress,
    Kind::RollServers,
    Kind::StopShard,
    Kind::ClockJump,
    Kind::RollSentinels,
    Kind::LoseTooMuch,
    Kind::CutAgent,
];

/// Kinds that only come when asked for: each makes things meet that seldom meet by chance.
pub const ASKED_FOR: [Kind; 3] = [Kind::KeepOne, Kind::LoneHandover, Kind::LateCommit];

impl Kind {
    /// Every kind.
    pub fn all() -> impl Iterator<Item = Self> {
        Self::drawn().chain(ASKED_FOR)
    }

    /// Every kind that seeds draw.
    pub fn drawn() -> impl Iterator<Item = Self> {
        FIRST.into_iter().chain(SECOND)
    }

    /// Its name in reports.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::KillPrimaryRedis => "kill_primary_redis",
            Self::KillReplicaRedis => "kill_replica_redis",
            Self::KillPrimary => "kill_primary",
            Self::KillReplica => "kill_replica",
            Self::KillSentinel => "kill_sentinel",
            Self::KillFrontend => "kill_frontend",
            Self::KillBackend => "kill_backend",
            Self::KillAgent => "kill_agent",
            Self::StopPrimaryRedis => "stop_primary_redis",
            Self::StopReplicaRedis => "stop_replica_redis",
            Self::StopKeeper => "stop_keeper",
            Self::StopPrimary => "stop_primary",
            Self::StopServer => "stop_server",
            Self::StopSentinel => "stop_sentinel",
            Self::CutPrimary => "cut_primary",
            Self::CutReplica => "cut_replica",
            Self::CutServer => "cut_server",
            Self::CutSentinels => "cut_sentinels",
            Self::SlowLink => "slow_link",
            Self::LossyLink => "lossy_link",
            Self::RestartMember => "restart_member",
            Self::LoseReplicaData => "lose_replica_data",
            Self::LosePrimaryData => "lose_primary_data",
            Self::StopShard => "stop_shard",
            Self::StopAll => "stop_all",
            Self::DiskFull => "disk_full",
            Self::ClockJump => "clock_jump",
            Self::ReuseAddress => "reuse_address",
            Self::ScaleBackends => "scale_backends",
            Self::ScaleFrontends => "scale_frontends",
            Self::Handover => "handover",
            Self::RollShard => "roll_shard",
            Self::RollServers => "roll_servers",
            Self::RollSentinels => "roll_sentinels",
            Self::LoseAcceptReply => "lose_accept_reply",
            Self::LoseCommitReply => "lose_commit_reply",
            Self::LosePostReply => "lose_post_reply",
            Self::CutAgent => "cut_agent",
            Self::LoseTooMuch => "lose_too_much",
            Self::KeepOne => "keep_one",
            Self::LoneHandover => "lone_handover",
            Self::LateCommit => "late_commit",
        }
    }

    /// The kind of this name.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        Self::all().find(|kind| kind.name() == name)
    }

    /// Whether it needs the shard whole before, and nothing else meanwhile: it destroys data, or all is
    /// down anyway.
    #[must_use]
    pub const fn is_alone(self) -> bool {
        matches!(
            self,
            Self::LoseReplicaData
                | Self::LosePrimaryData
                | Self::StopAll
                | Self::ReuseAddress
                | Self::RollShard
                | Self::LoseTooMuch
                | Self::KeepOne
                | Self::LoneHandover
                | Self::LateCommit
        )
    }

    /// Whether the lab can do it in this mode.
    #[must_use]
    pub const fn is_possible(self, mode: Mode) -> bool {
        match mode {
            Mode::Namespaces => true,
            Mode::Loopback => !matches!(
                self,
                Self::CutPrimary
                    | Self::CutReplica
                    | Self::CutServer
                    | Self::CutSentinels
                    | Self::SlowLink
                    | Self::LossyLink
                    | Self::DiskFull
                    | Self::ReuseAddress
                    | Self::LoseAcceptReply
                    | Self::LoseCommitReply
                    | Self::LosePostReply
                    | Self::KeepOne
                    | Self::LateCommit
            ),
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_is_in_one_list_once_and_found_by_its_name() {
        let mut all: Vec<_> = Kind::all().collect();
        all.sort_unstable();
        all.dedup();
        assert_eq!(all.len(), FIRST.len() + SECOND.len() + ASKED_FOR.len());
        for kind in all {
            assert_eq!(Kind::parse(kind.name()), Some(kind));
        }
    }
}
