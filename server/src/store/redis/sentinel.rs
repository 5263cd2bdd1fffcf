//! Asking Sentinels who is primary. What they say is a hint: the shard itself proves it (`bind`).

use futures::stream::{FuturesUnordered, StreamExt};
use redis::Value;

use super::call::{CallError, checked};
use super::link::{Dialer, Login};
use super::options::RedisOptions;
use super::reply;

/// The addresses that Sentinels name as primary of a shard, most often named first. A Sentinel that was cut
/// off may name an old one, so all are asked at once and none is believed alone.
pub(super) async fn candidates(
    dialer: &Dialer,
    options: &RedisOptions,
    shard: &str,
) -> Result<Vec<String>, CallError> {
    let mut asking: FuturesUnordered<_> =
        options.sentinels.iter().map(|sentinel| ask(dialer, options, sentinel, shard)).collect();
    let mut named: Vec<(String, usize)> = Vec::new();
    let mut failure = CallError::Unbound("no Sentinel was asked".to_owned());
    while let Some(answer) = asking.next().await {
        match answer {
            Ok(address) => {
                let votes = vote(&mut named, address);
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
    Ok(named.into_iter().map(|(address, _)| address).collect())
}

fn vote(named: &mut Vec<(String, usize)>, address: String) -> usize {
    if let Some((_, votes)) = named.iter_mut().find(|(known, _)| *known == address) {
        *votes += 1;
        return *votes;
    }
    named.push((address, 1));
    1
}

async fn ask(
    dialer: &Dialer,
    options: &RedisOptions,
    sentinel: &str,
    shard: &str,
) -> Result<String, CallError> {
    let login =
        Login { user: options.sentinel_user.as_deref(), password: options.sentinel_password.as_ref() };
    let link = dialer.connect(sentinel, login).await?;
    let mut command = redis::cmd("SENTINEL");
    command.arg("GET-MASTER-ADDR-BY-NAME").arg(shard);
    match checked(link.send(&command).await?)? {
        Value::Nil => Err(CallError::Unbound(format!("{sentinel} does not know {shard}"))),
        answer => {
            let [host, port] = reply::exactly(answer)?;
            Ok(format!("{}:{}", reply::text(host)?, reply::text(port)?))
        }
    }
}
