//! Accept lanes: batches that wait are written in one go, followed by one wait for the replicas.
//!
//! ```text
//! batches ─▶ bounded queue ─▶ whichever lane is free: EVALSHA … EVALSHA WAIT ─▶ answers
//! ```
//!
//! While one group is under way to the replicas the next one gathers, so the number of waits follows the
//! replicas' speed and not the number of batches.

use std::sync::Arc;
use std::time::Duration;

use redis::{Cmd, Pipeline, Value};
use taba_core::{BatchId, Vbucket};
use tokio::sync::{Mutex, mpsc, oneshot};
use tokio::time::Instant;

use super::bind::Bound;
use super::call::{CallError, checked, is_unloaded};
use super::options::{Durability, RedisOptions};
use super::reply;
use super::scripts::ACCEPT;
use super::shard::Shard;
use crate::mutants::Mutant;
use crate::store::Accepted;

/// Most batches written in one go, and bytes after which no further one is added. A group of 4 MiB takes a
/// primary about 10 ms.
const GROUP_CALLS_MAX: usize = 64;
const GROUP_BYTES_MAX: usize = 4 << 20;

/// What one shard is to accept of a batch.
pub(super) struct AcceptCall {
    pub(super) id: Option<BatchId>,
    pub(super) blocks: Vec<(Vbucket, Vec<u8>)>,
    pub(super) reply: oneshot::Sender<Result<Accepted, CallError>>,
    pub(super) asked: Instant,
}

impl AcceptCall {
    fn bytes(&self) -> usize {
        self.blocks.iter().map(|(_, block)| block.len()).sum()
    }

    fn command(&self, term: u64, options: &RedisOptions) -> Cmd {
        let mut command = ACCEPT.call(term);
        match &self.id {
            Some(id) if !Mutant::NoDedupe.is_on() => command.arg(id.producer.as_str()).arg(id.sequence),
            _ => command.arg("").arg(0),
        };
        command.arg(options.queue_bytes_max);
        command.arg(u64::try_from(options.producer_retention.as_micros()).unwrap_or(u64::MAX >> 12).max(1));
        command.arg(options.producers_max);
        command.arg(u8::from(options.durability != Durability::Primary));
        for (vbucket, block) in &self.blocks {
            command.arg(vbucket.0).arg(block.as_slice());
        }
        command
    }
}

/// Writes groups until the store is stopped.
pub(super) async fn accept_groups(
    shard: Arc<Shard>,
    lane: usize,
    calls: Arc<Mutex<mpsc::Receiver<AcceptCall>>>,
) {
    loop {
        let group = next_group(&calls).await;
        if group.is_empty() {
            return;
        }
        write_group(&shard, lane, group).await;
    }
}

/// The batches that wait, at least one; none if there will be no more.
async fn next_group(calls: &Mutex<mpsc::Receiver<AcceptCall>>) -> Vec<AcceptCall> {
    let mut calls = calls.lock().await;
    let mut group = Vec::from_iter(calls.recv().await);
    let mut bytes = group.iter().map(AcceptCall::bytes).sum::<usize>();
    while !group.is_empty() && group.len() < GROUP_CALLS_MAX && bytes < GROUP_BYTES_MAX {
        let Ok(call) = calls.try_recv() else { break };
        bytes += call.bytes();
        group.push(call);
    }
    group
}

async fn write_group(shard: &Shard, lane: usize, group: Vec<AcceptCall>) {
    let bound = match shard.bound().await {
        Ok(bound) => bound,
        Err(error) => {
            shard.metrics.error(error.kind());
            return answer_all(group, &error);
        }
    };
    shard.metrics.group(group.len());
    match write(shard, &bound, lane, &group).await {
        Ok(outcomes) => {
            for (call, outcome) in group.into_iter().zip(outcomes) {
                match &outcome {
                    Ok(accepted) => shard.metrics.accepted(*accepted, call.asked.elapsed()),
                    Err(error) => shard.note(&bound, error),
                }
                // A caller that gave up will try again with the same id.
                let _ = call.reply.send(outcome);
            }
        }
        Err(error) => {
            shard.note(&bound, &error);
            answer_all(group, &error);
        }
    }
}

fn answer_all(group: Vec<AcceptCall>, error: &CallError) {
    for call in group {
        let _ = call.reply.send(Err(error.clone()));
    }
}

type Outcomes = Vec<Result<Accepted, CallError>>;

/// Writes a group and waits for the in-sync set. An error is one of the whole group.
async fn write(
    shard: &Shard,
    bound: &Arc<Bound>,
    lane: usize,
    group: &[AcceptCall],
) -> Result<Outcomes, CallError> {
    let command = |call: &AcceptCall| call.command(bound.term, &shard.options);
    let (mut answers, mut waited) = send(shard, bound, lane, group.iter().map(command)).await?;
    if answers.iter().any(is_unloaded) {
        // The shard forgot the script, so these did nothing.
        let unloaded: Vec<usize> = (0..answers.len()).filter(|at| is_unloaded(&answers[*at])).collect();
        let again = unloaded.iter().map(|at| ACCEPT.with_text(&command(&group[*at])));
        let (second, wait) = send(shard, bound, lane, again).await?;
        for (at, answer) in unloaded.into_iter().zip(second) {
            answers[at] = answer;
        }
        waited = wait;
    }
    let outcomes: Outcomes = answers.into_iter().map(outcome).collect();
    if outcomes.iter().any(Result::is_ok) {
        let looked = bound.acknowledged(&bound.lanes[lane], waited, shard.options.ack_timeout).await?;
        if looked {
            shard.metrics.slow_acknowledgement();
        }
    }
    Ok(outcomes)
}

/// Sends commands and the wait for replicas after them.
async fn send(
    shard: &Shard,
    bound: &Bound,
    lane: usize,
    commands: impl Iterator<Item = Cmd> + Send,
) -> Result<(Vec<Value>, Option<Value>), CallError> {
    let mut pipeline = Pipeline::new();
    for command in commands {
        pipeline.add_command(command);
    }
    let wait = bound.wait(shard.options.ack_timeout);
    let waits = wait.is_some();
    if let Some(wait) = wait {
        pipeline.add_command(wait);
    }
    let started = Instant::now();
    let mut answers = bound.lanes[lane].send_all(&pipeline, Duration::from_millis(100)).await?;
    shard.metrics.written(started.elapsed());
    let waited = if waits { answers.pop() } else { None };
    Ok((answers, waited))
}

fn outcome(answer: Value) -> Result<Accepted, CallError> {
    match reply::number(&checked(answer)?)? {
        0 => Ok(Accepted::Duplicate),
        _ => Ok(Accepted::New),
    }
}
