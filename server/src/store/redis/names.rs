//! Addresses of names, remembered for when name servers are silent.
//!
//! A server needs some ten connections to bind to another primary, and the name servers may have gone with the old one.
//! An address is only a hint here: whoever answers there must know the password and prove that it is the shard.

use std::collections::HashMap;
use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::net::lookup_host;
use tokio::time::{Instant, timeout};

/// What was said so lately is not asked again: the connections of one binding go to the same place.
const FRESH: Duration = Duration::from_secs(1);

/// How long an answer is waited for where an older one is known.
const PATIENCE: Duration = Duration::from_millis(250);

/// More names than shards have members; with more, all are forgotten.
const NAMES_MAX: usize = 4096;

/// What name servers said last.
#[derive(Debug, Default)]
pub(super) struct Names(Mutex<HashMap<String, Known>>);

#[derive(Clone, Debug)]
struct Known {
    addresses: Vec<IpAddr>,
    at: Instant,
    /// Someone is asking.
    asking: bool,
}

impl Names {
    /// The addresses of a name or address.
    pub(super) async fn addresses(self: &Arc<Self>, host: &str) -> io::Result<Vec<IpAddr>> {
        if let Ok(address) = host.parse() {
            return Ok(vec![address]);
        }
        let name = host.to_owned();
        let asked = async move {
            let found = lookup_host((name, 0)).await?;
            Ok(found.map(|socket| socket.ip()).collect())
        };
        self.unless_silent(host, asked).await
    }

    /// What `asked` answers. If that takes long, what was known before, and the answer is for the next time.
    async fn unless_silent<F>(self: &Arc<Self>, host: &str, asked: F) -> io::Result<Vec<IpAddr>>
    where
        F: Future<Output = io::Result<Vec<IpAddr>>> + Send + 'static,
    {
        let Some(known) = self.ask(host) else {
            let addresses = asked.await?;
            self.learn(host, Some(&addresses));
            return Ok(addresses);
        };
        if known.asking || known.at.elapsed() < FRESH {
            return Ok(known.addresses);
        }
        let (names, name) = (Arc::clone(self), host.to_owned());
        let asking = tokio::spawn(async move {
            let answer = asked.await;
            names.learn(&name, answer.as_ref().ok());
            answer
        });
        match timeout(PATIENCE, asking).await {
            Ok(Ok(Ok(addresses))) => Ok(addresses),
            _ => Ok(known.addresses),
        }
    }

    /// What is known, as it was before. From now on someone asks, unless it is fresh.
    fn ask(&self, host: &str) -> Option<Known> {
        let mut names = self.0.lock();
        let known = names.get_mut(host)?;
        let before = known.clone();
        known.asking |= known.at.elapsed() >= FRESH;
        Some(before)
    }

    fn learn(&self, host: &str, addresses: Option<&Vec<IpAddr>>) {
        let mut names = self.0.lock();
        match addresses.filter(|addresses| !addresses.is_empty()) {
            Some(addresses) => {
                if names.len() >= NAMES_MAX {
                    names.clear();
                }
                let known = Known { addresses: addresses.clone(), at: Instant::now(), asking: false };
                names.insert(host.to_owned(), known);
            }
            None => {
                if let Some(known) = names.get_mut(host) {
                    known.asking = false;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::{pending, ready};

    use tokio::time::advance;

    use super::*;

    const NAME: &str = "main-s0-0.main-s0.ns.svc.cluster.local.";

    fn address(last: u8) -> IpAddr {
        IpAddr::from([10, 0, 0, last])
    }

    async fn told(names: &Arc<Names>, last: u8) -> Vec<IpAddr> {
        names.unless_silent(NAME, ready(Ok(vec![address(last)]))).await.expect("told")
    }

    async fn silent(names: &Arc<Names>) -> Vec<IpAddr> {
        names.unless_silent(NAME, pending()).await.expect("known")
    }

    #[tokio::test(start_paused = true)]
    async fn silence_and_errors_leave_what_was_said_before() {
        let names = Arc::new(Names::default());
        assert_eq!(told(&names, 1).await, [address(1)]);
        advance(FRESH * 2).await;
        let refused = names.unless_silent(NAME, ready(Err(io::Error::other("no such name"))));
        assert_eq!(refused.await.expect("known"), [address(1)]);
        let begun = Instant::now();
        assert_eq!(silent(&names).await, [address(1)]);
        assert_eq!(begun.elapsed(), PATIENCE);
        // That one is still asking, and nobody waits for it a second time.
        assert_eq!(silent(&names).await, [address(1)]);
        assert_eq!(begun.elapsed(), PATIENCE);
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_counts_once_it_is_there_even_if_nobody_waited_for_it() {
        let names = Arc::new(Names::default());
        assert_eq!(told(&names, 1).await, [address(1)]);
        // So lately that nobody asks.
        assert_eq!(told(&names, 2).await, [address(1)]);
        advance(FRESH).await;
        assert_eq!(told(&names, 2).await, [address(2)]);
        advance(FRESH).await;
        let late = async {
            tokio::time::sleep(PATIENCE * 4).await;
            Ok(vec![address(3)])
        };
        assert_eq!(names.unless_silent(NAME, late).await.expect("known"), [address(2)]);
        tokio::time::sleep(PATIENCE * 4).await;
        assert_eq!(silent(&names).await, [address(3)]);
    }

    #[tokio::test(start_paused = true)]
    async fn whoever_was_never_told_waits_and_learns_why_not() {
        let names = Arc::new(Names::default());
        let refused = names.unless_silent(NAME, ready(Err(io::Error::other("no such name")))).await;
        assert_eq!(refused.expect_err("unknown").to_string(), "no such name");
        assert!(timeout(PATIENCE * 2, silent(&names)).await.is_err());
        assert_eq!(names.addresses("10.0.0.9").await.expect("an address"), [address(9)]);
    }
}
