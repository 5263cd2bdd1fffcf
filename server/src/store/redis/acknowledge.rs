//! Proving that the in-sync set holds a write (`docs/shard.md`, "What a server does", 3).
//!
//! Fast: `WAIT` says that all members have it. Otherwise the offsets of the members of `in_sync` are
//! compared with the primary's, taken after the write, until they are there or time is up.

use std::sync::Arc;
use std::time::Duration;

use redis::{Cmd, Pipeline, Value};
use tokio::time::Instant;

use super::bind::{Bound, Proof, count_members};
use super::call::{CallError, checked};
use super::link::Link;
use super::reply;
use crate::mutants::Mutant;

/// How long one `WAIT` may block its lane before offsets are looked at: a member that left the in-sync set
/// a moment ago must not hold up every group for the whole time.
const WAIT_MAX: Duration = Duration::from_millis(100);
/// Pauses between looks at offsets.
const LOOK_PAUSE_MIN: Duration = Duration::from_millis(2);
const LOOK_PAUSE_MAX: Duration = Duration::from_millis(20);

impl Bound {
    /// The command that waits for replicas, to follow writes on the same link; `None` if none is needed.
    pub(super) fn wait(&self, ack_timeout: Duration) -> Option<Cmd> {
        // As many as should have it. If the set shrank since, the wait ends by time, once.
        let replicas = self.in_sync().saturating_sub(1).max(self.min_in_sync).min(self.others());
        self.wait_for(replicas, ack_timeout.min(WAIT_MAX))
    }

    fn wait_for(&self, replicas: u64, time: Duration) -> Option<Cmd> {
        let millis = u64::try_from(time.as_millis()).unwrap_or(u64::MAX).max(1);
        match self.proof {
            Proof::Primary => None,
            Proof::Wait => {
                let mut command = redis::cmd("WAIT");
                command.arg(replicas).arg(millis);
                Some(command)
            }
            Proof::WaitAof => {
                let mut command = redis::cmd("WAITAOF");
                command.arg(1).arg(replicas).arg(millis);
                Some(command)
            }
        }
    }

    /// Members besides the primary.
    fn others(&self) -> u64 {
        self.members.saturating_sub(1)
    }

    /// Whether what was written on `link` before is held by the in-sync set, given the answer to
    /// [`Bound::wait`]. Gives whether offsets had to be looked at.
    pub(super) async fn acknowledged(
        self: &Arc<Self>,
        link: &Link,
        waited: Option<Value>,
        ack_timeout: Duration,
    ) -> Result<bool, CallError> {
        let Some(waited) = waited else { return Ok(false) };
        let mut waited = Waited::read(waited, self.proof)?;
        let one_is_enough = Mutant::WaitOne.is_on() || Mutant::BareFailover.is_on();
        if one_is_enough && waited.replicas >= 1 {
            return Ok(false);
        }
        if waited.is_local && waited.replicas >= self.others() {
            return Ok(false);
        }
        let deadline = Instant::now() + ack_timeout;
        let mut look = Look::take(self).await?;
        // Taken after the write: whoever has come this far has it.
        let target = look.offset;
        let mut pause = LOOK_PAUSE_MIN;
        loop {
            self.note_in_sync(look.in_sync_count());
            if look.proves(self, target, &waited) {
                return Ok(true);
            }
            if Instant::now() + pause > deadline {
                return Err(CallError::Unacknowledged);
            }
            // Waiting for more than there are asks all replicas how far they are; else they say it once a
            // second. So it is the pause as well.
            let Some(command) = self.wait_for(self.others() + 1, pause) else { return Ok(false) };
            waited = Waited::read(link.send(&command).await?, self.proof)?;
            pause = (pause * 2).min(LOOK_PAUSE_MAX);
            look = Look::take(self).await?;
        }
    }
}

/// What `WAIT` or `WAITAOF` answered.
struct Waited {
    /// The primary has it as durable as asked.
    is_local: bool,
    replicas: u64,
}

impl Waited {
    fn read(answer: Value, proof: Proof) -> Result<Self, CallError> {
        let answer = checked(answer)?;
        if proof == Proof::WaitAof {
            let [local, replicas] = reply::exactly(answer)?;
            return Ok(Self { is_local: reply::number(&local)? >= 1, replicas: reply::number(&replicas)? });
        }
        Ok(Self { is_local: true, replicas: reply::number(&answer)? })
    }
}

/// The in-sync set and how far each replica has come, at one moment of the primary.
struct Look {
    in_sync: String,
    min_in_sync: u64,
    offset: u64,
    replicas: Vec<(String, u64)>,
}

impl Look {
    /// Not on the lane's own link: it may be blocked.
    async fn take(bound: &Bound) -> Result<Self, CallError> {
        let mut set = redis::cmd("HMGET");
        set.arg("taba:shard").arg(&["term", "in_sync", "min_in_sync"]);
        let mut info = redis::cmd("INFO");
        info.arg("replication");
        let mut commands = Pipeline::new();
        commands.add_command(set).add_command(info);
        let answers = bound.owners.send_all(&commands, Duration::ZERO).await?;
        let [set, info] = answers.try_into().map_err(|_| CallError::Unexpected("answers are missing"))?;
        let [term, in_sync, min_in_sync] = reply::exactly(checked(set)?)?;
        if reply::number(&term)? != bound.term {
            let detail = "the shard has another term".to_owned();
            return Err(CallError::Refused { code: "TABATERM".to_owned(), detail });
        }
        let (offset, replicas) = offsets(&reply::text(checked(info)?)?)?;
        Ok(Self {
            in_sync: reply::optional_text(in_sync)?.unwrap_or_default(),
            min_in_sync: reply::number(&min_in_sync)?,
            offset,
            replicas,
        })
    }

    fn in_sync_count(&self) -> u64 {
        count_members(&self.in_sync)
    }

    fn proves(&self, bound: &Bound, target: u64, waited: &Waited) -> bool {
        let has = |member: &str| {
            self.replicas.iter().any(|(address, offset)| address == member && *offset >= target)
        };
        let mut others =
            self.in_sync.split(',').filter(|member| !member.is_empty() && *member != bound.address);
        // `WAITAOF` counts replicas and does not name them: only all that are connected prove these.
        let is_on_disk = bound.proof != Proof::WaitAof
            || (waited.is_local && waited.replicas >= self.replicas.len() as u64);
        self.in_sync_count() > self.min_in_sync && is_on_disk && others.all(has)
    }
}

/// The primary's offset and that of each replica that is online, from `INFO replication`.
fn offsets(info: &str) -> Result<(u64, Vec<(String, u64)>), CallError> {
    let mut offset = None;
    let mut replicas = Vec::new();
    for line in info.lines() {
        let Some((name, value)) = line.trim_end().split_once(':') else { continue };
        if name == "role" && value != "master" {
            return Err(CallError::Refused { code: "READONLY".to_owned(), detail: value.to_owned() });
        }
        if name == "master_repl_offset" {
            offset = value.parse().ok();
        } else if name.strip_prefix("slave").is_some_and(|number| number.parse::<u32>().is_ok()) {
            replicas.extend(replica(value));
        }
    }
    Ok((offset.ok_or(CallError::Unexpected("no offset in INFO"))?, replicas))
}

/// Address and offset of an online replica in `ip=…,port=…,state=online,offset=…,lag=…`.
fn replica(line: &str) -> Option<(String, u64)> {
    let field = |name: &str| {
        line.split(',').find_map(|field| field.strip_prefix(name).and_then(|rest| rest.strip_prefix('=')))
    };
    let address = format!("{}:{}", field("ip")?, field("port")?);
    (field("state")? == "online").then_some(())?;
    Some((address, field("offset")?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    const INFO: &str = "# Replication\r\nrole:master\r\nconnected_slaves:3\r\n\
        slave0:ip=10.0.0.2,port=6379,state=online,offset=100,lag=0\r\n\
        slave1:ip=10.0.0.3,port=6379,state=wait_bgsave,offset=0,lag=0\r\n\
        slave2:ip=fd00::2,port=6379,state=online,offset=90,lag=1\r\n\
        master_repl_offset:120\r\nslave_read_only:1\r\n";

    #[test]
    fn offsets_of_replicas_that_are_online_are_read() {
        let (offset, replicas) = offsets(INFO).unwrap();
        assert_eq!(offset, 120);
        assert_eq!(replicas, [("10.0.0.2:6379".to_owned(), 100), ("fd00::2:6379".to_owned(), 90)]);
    }

    #[test]
    fn a_member_that_became_a_replica_proves_nothing() {
        let info = INFO.replace("role:master", "role:slave");
        assert!(matches!(offsets(&info), Err(CallError::Refused { code, .. }) if code == "READONLY"));
    }
}
