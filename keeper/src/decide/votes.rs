//! The election: how many votes are enough, and what a count of them allows.
//!
//! Any `m + 1` members and any [`Rules::enough`] voters have a member in common. It has every acknowledged
//! write, and after its vote it takes none of an older term. So who has enough votes and the highest
//! position among them lacks nothing that was acknowledged.

use crate::shard::Position;

use super::Millis;

/// How long after the last acknowledgement of a replica a gate may still be renewed.
pub const ACK_FRESH_MS: Millis = 1_000;

/// How far ahead a gate is set.
pub const GATE_AHEAD_MS: Millis = 1_500;

/// Room for the time between observing a link and its end.
const LINK_SLACK_MS: Millis = 200;

/// Size of the shard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rules {
    /// How many members there are.
    pub members: usize,
    /// Replicas that must hold a write besides the primary; below `members`.
    pub min_in_sync: usize,
}

impl Rules {
    /// How many settled members, the candidate included, must have voted.
    #[must_use]
    pub fn enough(self) -> usize {
        if self.min_in_sync + 1 >= self.members {
            return 1;
        }
        (self.members - self.min_in_sync).max(self.members / 2 + 1)
    }

    /// The first term above `known` that only the member with this index may use. So no two members ever
    /// open the same term, even where one vote is enough.
    #[must_use]
    pub fn next_term(self, known: u64, index: usize) -> u64 {
        let members = self.members as u64;
        let above = known + 1;
        let class = (index as u64 + 1) % members;
        above + (class + members - above % members) % members
    }
}

/// A vote that was given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Vote {
    /// Its data are whole and on disk, and belong to this shard.
    pub settled: bool,
    /// It never held data of any shard.
    pub fresh: bool,
    /// How far its data go.
    pub position: Position,
    /// How long ago its link to a primary was last up.
    pub heard_ms: Millis,
}

/// What became of one request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// No answer in time.
    Silent,
    /// No, and why.
    Refused(String),
    /// Yes.
    Granted(Vote),
}

/// One member's answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ballot {
    /// The member's name.
    pub member: String,
    /// Whether it opened the term that the candidate's data end in.
    pub was_primary: bool,
    /// What it said.
    pub answer: Answer,
}

/// What the count allows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Open, after this wait: until then a primary that did not vote may still answer queries.
    Open {
        /// How long to wait.
        wait_ms: Millis,
    },
    /// This member has more.
    Better(String),
    /// Too few count; the text says whom the shard waits for.
    Waiting(String),
}

/// Counts. `own` is the candidate's ballot, `never_grew` whether its data prove that no replica ever had to
/// hold a write (a founding that was interrupted).
#[must_use]
pub fn count(rules: Rules, own: &Ballot, others: &[Ballot], never_grew: bool) -> Verdict {
    let Answer::Granted(own_vote) = &own.answer else {
        return Verdict::Waiting(format!("{}: own data cannot be read", own.member));
    };
    let given = || others.iter().filter_map(|ballot| granted(ballot).map(|vote| (ballot, vote)));
    let settled = usize::from(own_vote.settled) + given().filter(|(_, vote)| vote.settled).count();
    let founding =
        never_grew && own_vote.settled && given().filter(|(_, vote)| vote.fresh).count() == rules.members - 1;
    if settled < rules.enough() && !founding {
        return Verdict::Waiting(missing(rules, settled, own, others));
    }
    let best = given().filter(|(_, vote)| vote.settled).max_by_key(|(_, vote)| vote.position);
    match best {
        Some((ballot, vote)) if !own_vote.settled || vote.position > own_vote.position => {
            Verdict::Better(ballot.member.clone())
        }
        _ if !own_vote.settled => Verdict::Waiting(missing(rules, settled, own, others)),
        _ => Verdict::Open { wait_ms: gate_wait(own, own_vote, others) },
    }
}

const fn granted(ballot: &Ballot) -> Option<&Vote> {
    match &ballot.answer {
        Answer::Granted(vote) => Some(vote),
        _ => None,
    }
}

/// A primary that did not vote renews its gate while replicas acknowledge. Each voter's link was cut, so
/// the last renewal is bounded by the last link.
fn gate_wait(own: &Ballot, own_vote: &Vote, others: &[Ballot]) -> Millis {
    let votes = || others.iter().filter_map(granted).chain([own_vote]);
    let is_last_term = votes().all(|vote| vote.position.term <= own_vote.position.term);
    let closed =
        own.was_primary || others.iter().any(|ballot| ballot.was_primary && granted(ballot).is_some());
    if (closed && is_last_term) || own_vote.position.term == 0 {
        return 0;
    }
    let heard_ms = votes().map(|vote| vote.heard_ms).min().unwrap_or(0);
    (ACK_FRESH_MS + GATE_AHEAD_MS + LINK_SLACK_MS).saturating_sub(heard_ms)
}

fn missing(rules: Rules, settled: usize, own: &Ballot, others: &[Ballot]) -> String {
    let mut lacking = Vec::new();
    for ballot in others.iter().chain([own]) {
        let member = &ballot.member;
        match &ballot.answer {
            Answer::Silent => lacking.push(format!("{member} does not answer")),
            Answer::Refused(why) => lacking.push(format!("{member} refuses: {why}")),
            Answer::Granted(vote) if vote.fresh => lacking.push(format!("{member} has no data")),
            Answer::Granted(vote) if !vote.settled => {
                lacking.push(format!("{member} has no whole copy on disk"));
            }
            Answer::Granted(_) => {}
        }
    }
    format!("{settled} of {} votes needed; {}", rules.enough(), lacking.join(", "))
}

#[cfg(test)]
mod tests;
