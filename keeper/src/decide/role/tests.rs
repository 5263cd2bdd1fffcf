use super::*;

struct World {
    me: Address,
    named: Option<Address>,
    peers: Vec<Peer>,
}

fn address(port: u16) -> Address {
    Address::new("127.0.0.1", port)
}

fn peer(port: u16, open: Option<u64>, promised: u64) -> Peer {
    Peer {
        member: port.to_string(),
        address: address(port),
        open,
        promised,
        shard_id: Some("id".to_owned()),
        settled: true,
    }
}

fn world(named: Option<u16>, peers: Vec<Peer>) -> World {
    World { me: address(1), named: named.map(address), peers }
}

/// A settled replica without a link that has promised term 7.
fn facts(world: &World) -> Facts<'_> {
    Facts {
        me: &world.me,
        is_primary: false,
        link_up: false,
        loading: false,
        settled: true,
        fresh: false,
        open: None,
        promised: 7,
        promised_to_me: false,
        data: None,
        shard_id: Some("id"),
        named: world.named.as_ref(),
        peers: &world.peers,
        outvoted_ms: 0,
        leaderless_ms: 0,
    }
}

fn follow(port: u16, term: u64) -> Next {
    Next::Follow { member: port.to_string(), term }
}

#[test]
fn the_open_member_that_sentinel_names_is_followed_from_the_promised_term_on() {
    let world_7 = world(Some(2), vec![peer(2, Some(7), 7)]);
    assert_eq!(next(&facts(&world_7)), follow(2, 7));
    let world_6 = world(Some(2), vec![peer(2, Some(6), 7)]);
    assert!(matches!(next(&facts(&world_6)), Next::Wait(why) if why.contains("term 7 is promised")));
}

#[test]
fn another_shard_is_never_followed_and_a_fresh_member_follows_any() {
    let mut other = world(Some(2), vec![peer(2, Some(9), 9)]);
    other.peers[0].shard_id = Some("other".to_owned());
    assert!(matches!(next(&facts(&other)), Next::Wait(why) if why.contains("another shard")));
    let fresh = Facts { shard_id: None, settled: false, fresh: true, ..facts(&other) };
    assert_eq!(next(&fresh), follow(2, 9));
    let foreign = Facts { shard_id: None, settled: false, fresh: false, ..facts(&other) };
    assert!(matches!(next(&foreign), Next::Wait(_)));
}

#[test]
fn a_primary_that_sentinel_made_asks_for_votes_though_sentinel_still_names_the_old_one() {
    let old = address(2);
    let promoted = |world: &World| next(&Facts { is_primary: true, data: Some((7, &old)), ..facts(world) });
    assert_eq!(promoted(&world(Some(2), vec![peer(2, None, 7)])), Next::Elect);
    assert_eq!(promoted(&world(Some(2), vec![peer(2, Some(7), 7)])), Next::Elect);
    assert_eq!(promoted(&world(Some(2), vec![peer(2, Some(8), 8)])), follow(2, 8));
}

#[test]
fn a_primary_that_gave_its_vote_away_waits_until_sentinel_names_it_again() {
    let deposed =
        |world: &World| next(&Facts { is_primary: true, data: Some((6, &world.me)), ..facts(world) });
    assert!(matches!(deposed(&world(Some(2), vec![peer(2, None, 7)])), Next::Wait(_)));
    // Hearing no majority is no word for it.
    assert!(matches!(deposed(&world(None, vec![])), Next::Wait(_)));
    assert_eq!(deposed(&world(Some(1), vec![])), Next::Elect);
}

#[test]
fn a_restarted_member_asks_for_votes_only_if_named_and_whole() {
    let named = world(Some(1), vec![]);
    assert_eq!(next(&facts(&named)), Next::Elect);
    assert!(matches!(next(&Facts { settled: false, ..facts(&named) }), Next::Wait(_)));
    assert!(matches!(next(&Facts { loading: true, ..facts(&named) }), Next::Wait(_)));
    assert!(matches!(next(&Facts { link_up: true, ..facts(&named) }), Next::Wait(_)));
    assert!(matches!(next(&facts(&world(None, vec![]))), Next::Wait(_)));
}

#[test]
fn a_named_member_without_data_yields_to_those_that_have_some_and_else_waits() {
    let empty = |world: &World| next(&Facts { settled: false, fresh: true, shard_id: None, ..facts(world) });
    assert_eq!(empty(&world(Some(1), vec![peer(2, None, 7)])), Next::Yield);
    assert!(matches!(empty(&world(Some(1), vec![])), Next::Wait(_)));
    let nobody_has = Peer { settled: false, ..peer(2, None, 7) };
    assert!(matches!(empty(&world(Some(1), vec![nobody_has])), Next::Wait(_)));
}

#[test]
fn an_open_primary_follows_a_newer_one_and_never_an_older() {
    let newer = world(Some(2), vec![peer(2, Some(9), 9)]);
    let open = |world: &World| {
        next(&Facts { is_primary: true, open: Some(8), promised: 8, promised_to_me: true, ..facts(world) })
    };
    assert_eq!(open(&newer), follow(2, 9));
    assert_eq!(open(&world(Some(2), vec![peer(2, Some(6), 6)])), Next::Stay);
    assert_eq!(open(&world(Some(1), vec![peer(2, Some(9), 9)])), Next::Stay);
}

#[test]
fn an_open_primary_that_was_outvoted_for_long_asks_again_in_a_higher_term() {
    let outvoted = |named: Option<u16>| {
        let world = world(named, vec![peer(2, None, 9)]);
        next(&Facts { is_primary: true, open: Some(8), promised: 8, outvoted_ms: 2_000, ..facts(&world) })
    };
    assert_eq!(outvoted(Some(1)), Next::Elect);
    assert_eq!(outvoted(None), Next::Stay);
}

#[test]
fn a_named_member_that_stays_closed_is_replaced_by_whoever_could_be_primary() {
    let silent = world(Some(2), vec![]);
    let next_after = |leaderless_ms, settled| next(&Facts { leaderless_ms, settled, ..facts(&silent) });
    assert_eq!(next_after(LEADERLESS_MS + 1, true), Next::Yield);
    assert!(matches!(next_after(LEADERLESS_MS, true), Next::Wait(_)));
    assert!(matches!(next_after(LEADERLESS_MS + 1, false), Next::Wait(_)));
}
