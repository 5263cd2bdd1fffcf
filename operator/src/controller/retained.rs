//! Claims that an earlier cluster of the same name left, before anything is made on top of them.
//!
//! A cluster of fewer shards or members would serve a part of that data as if it were all. Fewer claims than the
//! spec asks for say nothing: a cluster that was deleted while it came up leaves as many as it got to.

use k8s_openapi::api::core::v1::PersistentVolumeClaim;
use kube::ResourceExt as _;

use super::observe::Children;
use crate::build::{Names, Valid};

/// Shards, and members of the largest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Shape {
    shards: usize,
    members: usize,
}

/// What to do about claims that the spec has no place for, while no StatefulSet is there.
#[must_use]
pub fn misfit(valid: &Valid, children: &Children) -> Option<String> {
    if !children.owned.stateful_sets.is_empty() {
        return None;
    }
    let wanted = Shape { shards: valid.shards(), members: valid.members() };
    misfit_of(&valid.names, wanted, &children.claims)
}

fn misfit_of(names: &Names, wanted: Shape, claims: &[PersistentVolumeClaim]) -> Option<String> {
    let stays = |claim: &&PersistentVolumeClaim| claim.metadata.deletion_timestamp.is_none();
    let places: Vec<_> =
        claims.iter().filter(stays).filter_map(|claim| names.place_of(&claim.name_any())).collect();
    let shards = places.iter().map(|(shard, _)| shard + 1).max()?;
    let members = places.iter().map(|(_, ordinal)| ordinal + 1).max()?;
    if shards <= wanted.shards && members <= wanted.members {
        return None;
    }
    Some(format!(
        "an earlier cluster of this name left claims of {shards} shards with {members} members each, and the spec asks \
         for {} with {}: make redis.shards and redis.replicas what they were, or give all of that data up with `kubectl \
         delete pvc --selector app.kubernetes.io/instance={},app.kubernetes.io/name=taba`",
        wanted.shards,
        wanted.members,
        names.cluster(),
    ))
}

#[cfg(test)]
mod tests {
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
    use k8s_openapi::jiff::Timestamp;

    use super::*;

    fn claim(name: &str) -> PersistentVolumeClaim {
        let metadata = ObjectMeta { name: Some(name.to_owned()), ..ObjectMeta::default() };
        PersistentVolumeClaim { metadata, ..PersistentVolumeClaim::default() }
    }

    fn claims(shards: std::ops::Range<usize>, members: usize) -> Vec<PersistentVolumeClaim> {
        let of = |shard| (0..members).map(move |ordinal| claim(&format!("data-main-s{shard}-{ordinal}")));
        // Sentinels keep what they know in claims too, which fit every cluster.
        shards.flat_map(of).chain([claim("data-main-sentinel-0")]).collect()
    }

    fn said(shards: usize, members: usize, claims: &[PersistentVolumeClaim]) -> Option<String> {
        let names = Names::new("main", "metrics", "cluster.local");
        misfit_of(&names, Shape { shards, members }, claims)
    }

    #[test]
    fn no_claims_and_no_more_than_the_spec_asks_for_fit() {
        for there in [claims(0..0, 0), claims(0..2, 3), claims(0..2, 2), claims(0..1, 3)] {
            assert_eq!(said(2, 3, &there), None, "{there:?}");
        }
    }

    #[test]
    fn more_shards_and_more_members_do_not_fit_and_what_to_do_is_said() {
        let more = said(1, 3, &claims(0..2, 3)).expect("too many shards");
        assert!(more.contains("of 2 shards with 3 members each, and the spec asks for 1 with 3"), "{more}");
        assert!(more.contains("--selector app.kubernetes.io/instance=main,"), "{more}");
        assert!(said(2, 2, &claims(0..2, 3)).is_some());
    }

    #[test]
    fn claims_that_go_are_no_longer_there() {
        let mut there = claims(0..2, 3);
        for claim in &mut there {
            claim.metadata.deletion_timestamp = Some(Time(Timestamp::UNIX_EPOCH));
        }
        assert_eq!(said(1, 3, &there), None);
    }
}
