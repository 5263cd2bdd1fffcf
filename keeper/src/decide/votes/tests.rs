//! The election rule against a model: writes are acknowledged by a primary and any `m` replicas, some
//! members answer, and whoever may open must hold every acknowledged write.

use proptest::prelude::*;

use super::*;

fn vote(term: u64, writes: u64) -> Vote {
    Vote { settled: true, fresh: false, position: Position { term, writes }, heard_ms: 60_000 }
}

fn ballot(member: &str, answer: Answer) -> Ballot {
    Ballot { member: member.to_owned(), was_primary: false, answer }
}

const THREE: Rules = Rules { members: 3, min_in_sync: 1 };

#[test]
fn enough_is_one_where_every_member_must_hold_a_write_else_what_any_write_meets() {
    let enough = |members, min_in_sync| Rules { members, min_in_sync }.enough();
    assert_eq!((enough(1, 0), enough(2, 1), enough(3, 2)), (1, 1, 1));
    assert_eq!((enough(3, 1), enough(3, 0), enough(5, 2), enough(5, 1), enough(5, 3)), (2, 3, 3, 4, 3));
}

#[test]
fn a_member_with_a_higher_position_is_named_instead_of_opening() {
    let own = ballot("a", Answer::Granted(vote(7, 10)));
    let others = [ballot("b", Answer::Granted(vote(7, 11))), ballot("c", Answer::Silent)];
    assert_eq!(count(THREE, &own, &others, false), Verdict::Better("b".to_owned()));
}

#[test]
fn a_fresh_member_answers_but_does_not_count() {
    let own = ballot("a", Answer::Granted(vote(7, 10)));
    let fresh = Vote { settled: false, fresh: true, ..vote(0, 0) };
    let others = [ballot("b", Answer::Granted(fresh)), ballot("c", Answer::Silent)];
    let Verdict::Waiting(why) = count(THREE, &own, &others, false) else { panic!("opened") };
    assert_eq!(why, "1 of 2 votes needed; b has no data, c does not answer");
}

#[test]
fn an_interrupted_founding_is_finished_only_if_all_others_are_fresh() {
    let own = ballot("a", Answer::Granted(vote(1, 1)));
    let fresh = |name| ballot(name, Answer::Granted(Vote { settled: false, fresh: true, ..vote(0, 0) }));
    assert_eq!(count(THREE, &own, &[fresh("b"), fresh("c")], true), Verdict::Open { wait_ms: 2_700 - 2_700 });
    let silent = [fresh("b"), ballot("c", Answer::Silent)];
    assert!(matches!(count(THREE, &own, &silent, true), Verdict::Waiting(_)));
}

#[test]
fn opening_waits_for_the_gate_of_a_primary_that_did_not_vote() {
    let heard = |heard_ms| Answer::Granted(Vote { heard_ms, ..vote(7, 10) });
    let own = ballot("a", heard(900));
    let others = [ballot("b", heard(1_000)), ballot("c", Answer::Silent)];
    assert_eq!(count(THREE, &own, &others, false), Verdict::Open { wait_ms: 1_800 });
    let voted = [Ballot { was_primary: true, ..others[0].clone() }, others[1].clone()];
    assert_eq!(count(THREE, &own, &voted, false), Verdict::Open { wait_ms: 0 });
}

proptest! {
    /// forall n, m < n, primary, acknowledging sets, answering voters, lagging voters: who may open holds
    /// the last acknowledged write.
    #[test]
    fn whoever_may_open_holds_every_acknowledged_write(
        members in 1_usize..6,
        min_in_sync in 0_usize..5,
        acks in proptest::collection::vec(any::<u8>(), 1..8),
        answers in any::<u8>(),
        settled in any::<u8>(),
        candidate in 0_usize..6,
    ) {
        prop_assume!(min_in_sync < members && candidate < members);
        let rules = Rules { members, min_in_sync };
        let mut position = vec![0_u64; members];
        let mut acknowledged = 0;
        // Member 0 is the primary and takes every write; replicas take a prefix, as replication does.
        for (write, mask) in (1_u64..).zip(&acks) {
            position[0] = write;
            let mut holders = 0;
            for (member, held) in position.iter_mut().enumerate().skip(1) {
                if mask >> member & 1 == 1 {
                    *held = write;
                    holders += 1;
                }
            }
            if holders >= min_in_sync {
                acknowledged = write;
            }
        }
        // A member that is not settled may have any position and must never decide.
        let ballots: Vec<_> = (0..members).map(|member| {
            let is_settled = settled >> member & 1 == 1;
            let given = Vote { settled: is_settled, ..vote(1, if is_settled { position[member] } else { 99 }) };
            let answered = member == candidate || answers >> member & 1 == 1;
            ballot(&member.to_string(), if answered { Answer::Granted(given) } else { Answer::Silent })
        }).collect();
        let others: Vec<_> = ballots.iter().enumerate().filter(|(i, _)| *i != candidate).map(|(_, b)| b.clone()).collect();
        if let Verdict::Open { .. } = count(rules, &ballots[candidate], &others, false) {
            prop_assert!(position[candidate] >= acknowledged);
        }
    }

    /// forall known, two members: their next terms are above what is known and never the same.
    #[test]
    fn terms_of_two_members_never_meet(known in 0_u64..1_000, other in 0_u64..1_000, members in 2_usize..8) {
        let rules = Rules { members, min_in_sync: 0 };
        for a in 0..members {
            let term = rules.next_term(known, a);
            prop_assert!(term > known && term <= known + members as u64);
            for b in (0..members).filter(|b| *b != a) {
                prop_assert_ne!(term, rules.next_term(other, b));
            }
        }
    }
}

#[test]
fn the_first_member_founds_in_term_one() {
    assert_eq!(THREE.next_term(0, 0), 1);
    assert_eq!(THREE.next_term(0, 2), 3);
    assert_eq!(Rules { members: 1, min_in_sync: 0 }.next_term(4, 0), 5);
}
