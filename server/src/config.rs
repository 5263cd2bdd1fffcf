//! Configuration: every setting is declared once, in the table below, and flags, environment
//! variables, file keys, help texts and `taba config print` are all made from it.
//!
//! ```text
//! key `limits.posts_max`   flag `--limits-posts-max`   environment `TABA_LIMITS_POSTS_MAX`
//! ```
//!
//! Settings of the section `server` have no section name in front: `listen`, `--listen`, `TABA_LISTEN`.
//! Precedence: flag, environment, file (`--config FILE` or `TABA_CONFIG`), default. Values are parsed
//! once, at start; an unknown key or a bad value is refused with its place and what is allowed.

pub mod args;
mod file;
mod kind;
mod load;
mod print;
mod roles;
mod setting;

use std::path::PathBuf;
use std::time::Duration;

use taba_core::VbucketCount;

pub use kind::{LogFormat, Secret, duration as parse_duration};
pub use load::{ConfigError, Loaded, Place, load};
pub use print::{print, print_defaults};
pub use roles::Roles;
pub use setting::{Section, Setting};

use crate::store::redis::Durability;
use kind::{
    address, addresses, count, durability, log_filter, log_format, names, optional_path, path, roles, secret,
    size, span, text, vbuckets,
};
use setting::settings;

settings! {
    /// Everything a server process can be told.
    Config {
        /// The process itself.
        server: ServerConfig {
            /// Address and port to serve HTTP on. Port 0 picks a free one. The default answers this
            /// machine only; use `0.0.0.0:8300` to be reached from others, and then set an admin token.
            listen: String = "127.0.0.1:8300", address();
            /// File to write the address to that is really listened on, for scripts that start Taba on
            /// port 0. It appears when the server is ready and is removed when it stops. Empty: none.
            listen_file: Option<PathBuf> = "", optional_path();
            /// Folder that holds everything Taba stores; made if missing. One process at a time may
            /// use it.
            data: PathBuf = "taba-data", path();
            /// What a server of a cluster does: `frontend` takes posts and queries, `backend` applies
            /// queues, `control` serves what the operator asks. One binary has them all.
            roles: Roles = "frontend,backend,control", roles();
            /// Addresses of the Sentinels that know the shards' primaries; all of them, so that any may die.
            sentinel: Vec<String> = "", addresses();
            /// Names of the Redis shards as Sentinels know them, in an order that never changes: it says
            /// which shard has which tabs.
            shards: Vec<String> = "", names();
            /// Token that requests which delete or change things must carry, as `Authorization: Bearer
            /// TOKEN`. Empty: such requests need none. Prefer the environment to the flag, because
            /// other users of the machine can see flags.
            admin_token: Option<Secret> = "", secret();
            /// How long stopping may take: open requests finish and queued data is applied. What is not
            /// done by then is still on disk and is applied at the next start. Raise it if stopping
            /// reports that it ran out of time.
            drain_timeout: Duration = "30s", span("100ms", "1h");
            /// Threads that serve requests and apply queues. 0: one per core. Lower it to leave cores
            /// to other programs.
            worker_threads: usize = "0", count(0, 1024);
        }
        /// What is logged, to standard error.
        log: LogConfig {
            /// Which messages are logged: `error`, `warn`, `info`, `debug`, `trace` or `off`, also by
            /// module, as in `info,taba_server::http=debug`. One debug line per request, one trace line
            /// per event: not for busy servers.
            level: String = "info", log_filter();
            /// `text` for people or `json`, one object per line, for log collectors.
            format: LogFormat = "text", log_format();
        }
        /// The store on this machine's disk.
        store: StoreConfig {
            /// How many slots tabs are hashed into; work is spread over cores and files by slot. Fixed
            /// when the data folder is made; a folder made with another number is refused.
            vbuckets: VbucketCount = "64", vbuckets();
            /// Most bytes of accepted data that wait to be applied, over all slots. At the bound new
            /// posts get 503 with `Retry-After`. This is disk space, not memory.
            queue_bytes_max: u64 = "2GiB", size("1MiB", "16TiB");
            /// Bytes of disk left free for states; posts get 503 when less is free, because only writing
            /// states can empty the queue. Never more than an eighth of the disk. Keep it above a few
            /// seconds of traffic.
            disk_reserve_bytes: u64 = "256MiB", size("0", "16TiB");
            /// Memory for the newest part of the queue, in bytes: about a second at the highest rate.
            /// What lags further is read from disk.
            newest_bytes_max: usize = "64MiB", size("64KiB", "1TiB");
            /// Memory for pages of the state database, in bytes.
            cache_bytes: usize = "256MiB", size("1MiB", "4TiB");
            /// How long a producer of batches is remembered after its last one. A batch retried later
            /// than this counts twice, so keep it above what clients retry for (24 h at most for ours).
            producer_retention: Duration = "2d", span("1m", "365d");
            /// Most producers remembered, about 300 bytes each. At the bound batches of further ones get
            /// 503 until old ones are forgotten. Raise it with the number of programs that start within
            /// the time above.
            producers_max: usize = "1000000", count(1, 100_000_000);
        }
        /// The Redis shards of a cluster.
        redis: RedisConfig {
            /// How many slots tabs are hashed into; slots are spread over shards and backends. Fixed when
            /// the shards are first used; servers told another number refuse to serve.
            vbuckets: VbucketCount = "256", vbuckets();
            /// User that servers are to Redis.
            user: String = "taba", text();
            /// Password of that user. Prefer the file or the environment to the flag.
            password: Option<Secret> = "", secret();
            /// File with that password on its only line, or with a line `SHARD PASSWORD` for each shard;
            /// looked at if `redis.password` is empty.
            password_file: Option<PathBuf> = "", optional_path();
            /// User that servers are to Sentinels. Empty: none.
            sentinel_user: String = "", text();
            /// Password for Sentinels. Empty: none.
            sentinel_password: Option<Secret> = "", secret();
            /// File whose only line is the password for Sentinels; looked at if
            /// `redis.sentinel_password` is empty.
            sentinel_password_file: Option<PathBuf> = "", optional_path();
            /// File with the certificates (PEM) that sign those of Redis and Sentinels, which are then spoken
            /// to through TLS. Empty: plain TCP.
            tls_ca_file: Option<PathBuf> = "", optional_path();
            /// The name that their certificates must be for. Empty: the host that is connected to.
            tls_server_name: String = "", text();
            /// Who holds an event before it is acknowledged: `replicated`, the primary and every replica in
            /// sync; `primary`, the primary alone, which loses seconds when it dies; `fsync`, all of them on
            /// disk, which survives the loss of power everywhere at once.
            durability: Durability = "replicated", durability();
            /// Most bytes of accepted data that wait in one slot to be applied. At the bound posts get
            /// 503 with `Retry-After`. This is memory of Redis.
            queue_bytes_max: u64 = "16MiB", size("64KiB", "64GiB");
            /// How long replicas may take to confirm a write before the post gets 503 and is tried again.
            ack_timeout: Duration = "2s", span("10ms", "1m");
            /// How long a connection to Redis or a Sentinel may take to come about.
            connect_timeout: Duration = "1s", span("10ms", "1m");
            /// How long Redis may take to answer.
            response_timeout: Duration = "5s", span("10ms", "5m");
            /// How often owners write the all-clients states: frontends answer from them, so this is how
            /// long an event takes to be seen. Shorter costs Redis more. `pipeline.aggregate_commit_interval`
            /// counts if it is shorter.
            commit_interval: Duration = "500ms", span("10ms", "1m");
            /// How long a backend owns a slot without renewing: how long slots rest after it died.
            lease_ttl: Duration = "1500ms", span("500ms", "10m");
            /// How long a producer of batches is remembered after its last one. A batch retried later
            /// than this counts twice.
            producer_retention: Duration = "2d", span("1m", "365d");
            /// Most producers remembered in one shard, about 100 bytes each. At the bound batches of further
            /// ones get 503 until old ones are forgotten.
            producers_max: usize = "1000000", count(1, 100_000_000);
        }
        /// Limits of what one server takes in at once. At a limit the answer is 503 with `Retry-After`,
        /// or an event is dropped and counted.
        limits: Limits {
            /// Most open connections; further ones are closed at once. Each costs one file descriptor
            /// and about 20 kB. Raise it for more clients that keep their connections.
            connections_max: usize = "16384", count(1, 1_000_000);
            /// Longest request body as sent, in bytes; longer ones get 413. Bodies stream, so this
            /// bounds time rather than memory.
            body_bytes_max: u64 = "256MiB", size("1KiB", "1TiB");
            /// Longest request body after decompression, in bytes; longer ones get 413. Guards against
            /// bodies that inflate a thousandfold.
            inflated_bytes_max: u64 = "512MiB", size("1KiB", "1TiB");
            /// Longest event line, in bytes; a longer one is one bad event. Each open post may hold one
            /// line.
            line_bytes_max: usize = "1MiB", size("256B", "256MiB");
            /// Most bytes of partial states one body may fold into; more gets 413. Raise it together
            /// with `limits.inflight_bytes_max` if single posts hold hundreds of thousands of tabs.
            parts_bytes_max: usize = "64MiB", size("64KiB", "4GiB");
            /// Most bytes of partial states held by all open posts and unfinished writes together;
            /// beyond it new posts get 503 before their body is read. This is memory.
            inflight_bytes_max: usize = "256MiB", size("64KiB", "1TiB");
            /// Most posts under way at once; beyond it new ones get 503 before their body is read.
            posts_max: usize = "512", count(1, 1_000_000);
            /// Most queries under way at once; beyond it new ones get 503.
            queries_max: usize = "256", count(1, 1_000_000);
            /// How long a client may take to send its request head. Guards against clients that send
            /// a byte at a time.
            head_timeout: Duration = "10s", span("100ms", "1h");
            /// How long a client may pause while it sends a body before it gets 408.
            body_idle_timeout: Duration = "30s", span("100ms", "1h");
            /// How far ahead of the server's clock an event may lie; a later one is one bad event. Raise
            /// it if clients' clocks are wrong and cannot be set right.
            future_tolerance: Duration = "5m", span("0s", "1d");
        }
        /// How queues are applied to states.
        pipeline: PipelineConfig {
            /// How often the all-clients states are written to the store. Queries read memory in
            /// between, so this is no delay; longer means fewer writes and a longer replay after a
            /// crash.
            aggregate_commit_interval: Duration = "5s", span("10ms", "1h");
            /// How often the states per client are written. Longer means fewer writes, a longer queue
            /// and a longer replay after a crash. At least `pipeline.aggregate_commit_interval`.
            client_commit_interval: Duration = "30s", span("10ms", "1d");
            /// Queue bytes of this server after which the states per client are written at once.
            client_commit_bytes: u64 = "512MiB", size("1MiB", "16TiB");
            /// Memory for all-clients states kept ready, in bytes. If the tabs in use need more, the
            /// least used are read from the store again, which is slower.
            cache_bytes_max: usize = "1GiB", size("1MiB", "4TiB");
            /// How long this process owns a slot without renewing; how long slots rest after their
            /// owner died.
            lease_ttl: Duration = "10s", span("1s", "10m");
            /// How often every tab is looked at for states that can be dropped because nothing in them
            /// can be shown any more.
            prune_interval: Duration = "1h", span("1s", "30d");
            /// Most clients one tab keeps apart; events of further ones count in the tab alone. Raise it
            /// only if clients really are that many and not made up anew at each start.
            clients_per_tab_max: usize = "100000", count(1, 1_000_000_000);
            /// Most tabs one slot may have; events of further ones are dropped and counted.
            tabs_per_vbucket_max: usize = "1000000", count(1, 1_000_000_000);
        }
    }
}

impl Config {
    /// What two settings contradict each other in, if any do.
    fn contradiction(&self) -> Option<&'static str> {
        let (limits, pipeline) = (&self.limits, &self.pipeline);
        if limits.parts_bytes_max > limits.inflight_bytes_max {
            return Some("limits.parts_bytes_max must not be above limits.inflight_bytes_max");
        }
        if limits.line_bytes_max as u64 > limits.inflated_bytes_max {
            return Some("limits.line_bytes_max must not be above limits.inflated_bytes_max");
        }
        if pipeline.aggregate_commit_interval > pipeline.client_commit_interval {
            return Some(
                "pipeline.aggregate_commit_interval must not be above pipeline.client_commit_interval",
            );
        }
        None
    }
}
