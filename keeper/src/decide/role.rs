//! Whom to follow, and when to ask for votes. Sentinel decides who is primary; this only obeys it.

use crate::address::Address;

use super::Millis;

/// A higher promise of another member must stand for so long before an open primary asks for votes again.
/// A candidate that Sentinel has just made opens within this time, and then there is nothing to repair.
pub const OUTVOTED_MS: Millis = 1_500;

/// A member that is named and not open gets so long. Sentinel replaces a dead one within its `down-after`, 3 s
/// by default, and a second or two.
pub const LEADERLESS_MS: Millis = 6_000;

/// What another member's keeper said last.
#[derive(Clone, Debug)]
pub struct Peer {
    /// Its name.
    pub member: String,
    /// Its Redis.
    pub address: Address,
    /// The term in which it is open.
    pub open: Option<u64>,
    /// The term it has promised.
    pub promised: u64,
    /// Its shard.
    pub shard_id: Option<String>,
    /// Its data are whole and on disk.
    pub settled: bool,
}

/// What the rule looks at.
#[derive(Clone, Debug)]
pub struct Facts<'a> {
    /// This member's Redis.
    pub me: &'a Address,
    /// Own Redis is a primary.
    pub is_primary: bool,
    /// Own Redis has its link to a primary.
    pub link_up: bool,
    /// Own Redis reads its data from disk.
    pub loading: bool,
    /// Own data are whole and on disk.
    pub settled: bool,
    /// Nothing to lose: no data, and no shard noted.
    pub fresh: bool,
    /// The term in which this member is open.
    pub open: Option<u64>,
    /// The term this member has promised, and whether to itself.
    pub promised: u64,
    /// Whether it is promised to itself.
    pub promised_to_me: bool,
    /// The term that own data end in, and who was its primary.
    pub data: Option<(u64, &'a Address)>,
    /// Own shard.
    pub shard_id: Option<&'a str>,
    /// Whom a majority of all Sentinels names.
    pub named: Option<&'a Address>,
    /// The other members, as far as they answered lately.
    pub peers: &'a [Peer],
    /// How long another member has had a higher promise than the own open term.
    pub outvoted_ms: Millis,
    /// How long the member that Sentinels name has not been known to be open.
    pub leaderless_ms: Millis,
}

/// What to do next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Next {
    /// All is as it should be.
    Stay,
    /// Follow this member, which is open in this term.
    Follow {
        /// Its name.
        member: String,
        /// Its term.
        term: u64,
    },
    /// Ask for votes.
    Elect,
    /// Sentinel names this member, which lacks what others have: ask it to choose again.
    Yield,
    /// Nothing can be done; the text says what is missing.
    Wait(String),
}

/// The rule.
#[must_use]
pub fn next(facts: &Facts<'_>) -> Next {
    if let Some(follow) = leader(facts) {
        return follow;
    }
    match facts.open {
        Some(_) if facts.outvoted_ms > OUTVOTED_MS && facts.named == Some(facts.me) => Next::Elect,
        Some(_) => Next::Stay,
        None if is_candidate(facts) => Next::Elect,
        None if must_yield(facts) || must_replace(facts) => Next::Yield,
        None => Next::Wait(waiting(facts)),
    }
}

/// The open member that Sentinels name, if it may be followed.
fn leader(facts: &Facts<'_>) -> Option<Next> {
    let named = facts.named.filter(|named| *named != facts.me)?;
    let peer = facts.peers.iter().find(|peer| peer.address == *named)?;
    let term = peer.open?;
    // Own data come from that very primary, and still Redis is a primary now: Sentinel has promoted it, and
    // goes on naming the old one for a second.
    if facts.is_primary && facts.data == Some((term, &peer.address)) {
        return None;
    }
    let is_newer = term >= facts.promised && facts.open.is_none_or(|own| term > own);
    let same_shard = match facts.shard_id {
        Some(id) => peer.shard_id.as_deref() == Some(id),
        None => facts.fresh,
    };
    (is_newer && same_shard).then(|| Next::Follow { member: peer.member.clone(), term })
}

fn is_candidate(facts: &Facts<'_>) -> bool {
    if facts.loading {
        return false;
    }
    if facts.is_primary {
        // A primary that gave its vote away stays closed until Sentinel names it again; that it hears no
        // majority is no word for it.
        let is_named = facts.named == Some(facts.me);
        let data_are_mine = facts.data.is_some_and(|(_, primary)| primary == facts.me);
        let deposed = data_are_mine && !facts.promised_to_me && !is_named;
        return !deposed && facts.shard_id.is_some();
    }
    facts.named == Some(facts.me) && facts.settled && !facts.link_up
}

/// Sentinel looks at Redis alone. It does not see a keeper that is stopped, or a primary that cannot open, so
/// a member that could be primary asks it to choose again.
fn must_replace(facts: &Facts<'_>) -> bool {
    let names_other = facts.named.is_some_and(|named| named != facts.me);
    names_other && facts.settled && !facts.loading && facts.leaderless_ms > LEADERLESS_MS
}

/// Sentinel would find out by itself that the primary it names is none, but only after 20 s and more.
fn must_yield(facts: &Facts<'_>) -> bool {
    let is_of_shard = |peer: &Peer| facts.shard_id.is_none() || peer.shard_id.as_deref() == facts.shard_id;
    let has_other = facts.peers.iter().any(|peer| peer.settled && is_of_shard(peer));
    facts.named == Some(facts.me) && !facts.loading && !facts.settled && !facts.link_up && has_other
}

fn waiting(facts: &Facts<'_>) -> String {
    let Some(named) = facts.named else {
        return "no majority of sentinels names a primary".to_owned();
    };
    if facts.loading {
        return "redis loads its data".to_owned();
    }
    if named == facts.me {
        return if facts.shard_id.is_none() {
            "the shard was not founded".to_owned()
        } else {
            "named by sentinel, but without a whole copy on disk".to_owned()
        };
    }
    match facts.peers.iter().find(|peer| peer.address == *named) {
        None => format!("the keeper of {named}, which sentinel names, does not answer"),
        Some(Peer { open: None, .. }) => format!("{named}, which sentinel names, is not open"),
        Some(Peer { open: Some(term), .. }) if *term < facts.promised => {
            format!("{named} is open in term {term}, but term {} is promised", facts.promised)
        }
        Some(_) => format!("{named}, which sentinel names, belongs to another shard"),
    }
}

#[cfg(test)]
mod tests;
