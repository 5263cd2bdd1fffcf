//! Asking Sentinels for the members of a shard. What they say is a hint: the shard itself proves who is primary
//! (`bind`).

use std::time::Duration;

use futures::stream::{FuturesUnordered, StreamExt};
use redis::{Pipeline, Value};

use super::call::{CallError, checked};
use super::link::{Dialer, Login};
use super::options::RedisOptions;
use super::reply;

/// Members of a shard that are looked at: far more than it has, but Sentinels never forget one.
const MEMBERS_MAX: usize = 16;

/// The members of a shard: first those that Sentinels name as primary, most often named first, then the
/// replicas. A Sentinel that was cut off may name an old one, so all are asked at once.
pub(super) async fn members(
    dialer: &Dialer,
    options: &RedisOptions,
    shard: &str,
) -> Result<Vec<String>, CallError> {
    let mut asking: FuturesUnordered<_> =
        options.sentinels.iter().map(|sentinel| ask(dialer, options, sentinel, shard)).collect();
    let mut named: Vec<(String, usize)> = Vec::new();
    let mut replicas = Vec::new();
    let mut failure = CallError::Unbound("no Sentinel was asked".to_owned());
    while let Some(answer) = asking.next().await {
        match answer {
            Ok((address, others)) => {
                let votes = vote(&mut named, address);
                replicas.extend(others);
                // The rest may be slow or gone, and could not outvote this.
                if votes * 2 > options.sentinels.len() {
                    break;
                }
            }
            Err(error) => failure = error,
        }
    }
    if named.is_empty() {
        return Err(CallError::Unbound(format!("no Sentinel names a primary of {shard}: {failure}")));
    }
    named.sort_by_key(|(_, votes)| std::cmp::Reverse(*votes));
    let mut members: Vec<String> = Vec::new();
    for address in named.into_iter().map(|(address, _)| address).chain(replicas) {
        if !members.contains(&address) {
            members.push(address);
        }
    }
    members.truncate(MEMBERS_MAX);
    Ok(members)
}

fn vote(named: &mut Vec<(String, usize)>, address: String) -> usize {
    if let Some((_, votes)) = named.iter_mut().find(|(known, _)| *known == address) {
        *votes += 1;
        return *votes;
    }
    named.push((address, 1));
    1
}

/// The primary, as one Sentinel sees it, and the replicas.
async fn ask(
    dialer: &Dialer,
    options: &RedisOptions,
    sentinel: &str,
    shard: &str,
) -> Result<(String, Vec<String>), CallError> {
    let login =
        Login { user: options.sentinel_user.as_deref(), password: options.sentinel_password.as_ref() };
    let link = dialer.connect(sentinel, login).await?;
    let mut commands = Pipeline::new();
    commands.cmd("SENTINEL").arg("GET-MASTER-ADDR-BY-NAME").arg(shard);
    commands.cmd("SENTINEL").arg("REPLICAS").arg(shard);
    let answers = link.send_all(&commands, Duration::ZERO).await?;
    let [primary, replicas] = answers.try_into().map_err(|_| CallError::Unexpected("answers are missing"))?;
    if primary == Value::Nil {
        return Err(CallError::Unbound(format!("{sentinel} does not know {shard}")));
    }
    let [host, port] = reply::exactly(checked(primary)?)?;
    let primary = format!("{}:{}", reply::text(host)?, reply::text(port)?);
    let replicas = reply::list(checked(replicas)?)?.into_iter().map(replica);
    Ok((primary, replicas.collect::<Result<_, _>>()?))
}

/// The address in `name … ip … port …`.
fn replica(fields: Value) -> Result<String, CallError> {
    let fields = reply::texts(fields)?;
    let (pairs, _) = fields.as_chunks::<2>();
    let field = |name: &str| pairs.iter().find(|[key, _]| key == name).map(|[_, value]| value);
    match (field("ip"), field("port")) {
        (Some(host), Some(port)) => Ok(format!("{host}:{port}")),
        _ => Err(CallError::Unexpected("a replica has no address")),
    }
}
