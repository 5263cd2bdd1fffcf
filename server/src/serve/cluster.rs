//! A server of a cluster: its data is in Redis shards, and it holds nothing that it has acknowledged.
//!
//! It starts whether or not the shards answer: until they do, posts get 503 and queries say that they are
//! incomplete.

mod passwords;

use std::net::SocketAddr;
use std::sync::Arc;

use prometheus_client::registry::Registry;
use rand::random;

use super::{Backing, ServeError, server_name};
use crate::config::{Config, PipelineConfig, ServerConfig};
use crate::pipeline::Pipeline;
use crate::pipeline::metrics::PipelineMetrics;
use crate::store::redis::{RedisOptions, RedisStore, RedisTls};

/// Finds the shards and starts the pipeline on them.
pub(super) fn start(config: &Config, address: SocketAddr) -> Result<Backing, ServeError> {
    let store = RedisStore::open(options(config)?).map_err(|error| ServeError::Shards(error.to_string()))?;
    let mut registry = Registry::default();
    store.metrics().register(&mut registry);
    let metrics = PipelineMetrics::register(&mut registry);
    let roles = config.server.roles;
    let pipeline = if roles.backend {
        Pipeline::start(Arc::new(store), &owner(address), pipeline_config(config), metrics)
    } else {
        Pipeline::without_owners(Arc::new(store))
    };
    Ok(Backing { pipeline, roles, registry })
}

/// A name no other process has, now or later: what an old process of this address still holds is not ours.
fn owner(address: SocketAddr) -> String {
    format!("{}/{:016x}", server_name(address), random::<u64>())
}

/// Frontends answer from the stored all-clients states, so these are written often, and a lease is short,
/// because another backend waits for its end.
fn pipeline_config(config: &Config) -> PipelineConfig {
    let (pipeline, redis) = (&config.pipeline, &config.redis);
    PipelineConfig {
        aggregate_commit_interval: pipeline.aggregate_commit_interval.min(redis.commit_interval),
        lease_ttl: redis.lease_ttl,
        ..pipeline.clone()
    }
}

fn options(config: &Config) -> Result<RedisOptions, ServeError> {
    let ServerConfig { sentinel, shards, .. } = &config.server;
    if sentinel.is_empty() || shards.is_empty() {
        let what = "name the Sentinels with --sentinel HOST:PORT,… and the shards with --shards NAME,…";
        return Err(ServeError::Shards(what.to_owned()));
    }
    let redis = &config.redis;
    let named = |text: &String| Some(text.clone()).filter(|text| !text.is_empty());
    Ok(RedisOptions {
        user: named(&redis.user),
        passwords: passwords::of_shards(redis, shards)?,
        sentinel_user: named(&redis.sentinel_user),
        sentinel_password: passwords::of_sentinels(redis)?,
        tls: redis
            .tls_ca_file
            .clone()
            .map(|ca_file| RedisTls { ca_file, server_name: named(&redis.tls_server_name) }),
        durability: redis.durability,
        queue_bytes_max: redis.queue_bytes_max,
        producer_retention: redis.producer_retention,
        producers_max: redis.producers_max,
        ack_timeout: redis.ack_timeout,
        connect_timeout: redis.connect_timeout,
        response_timeout: redis.response_timeout,
        ..RedisOptions::new(redis.vbuckets, shards.clone(), sentinel.clone())
    })
}

pub(super) fn greeting(address: SocketAddr, server: &ServerConfig) -> String {
    format!(
        "Taba is ready.\n\n  address  http://{address}\n  roles    {}\n  shards   {}\n",
        server.roles,
        server.shards.join(", ")
    )
}
