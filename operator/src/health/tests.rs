//! When the operator counts as stuck.

use super::*;

#[test]
fn an_operator_without_clusters_is_well_as_long_as_its_loop_turns() {
    let begin = Instant::now();
    let health = Health::new("the API", begin);
    assert_eq!(health.stuck(begin + STILL), None);
    assert!(health.stuck(begin + STILL + Duration::from_secs(1)).is_some());
    health.beat(begin + STILL);
    assert_eq!(health.stuck(begin + STILL * 2), None);
}

#[test]
fn a_cluster_that_is_not_looked_at_when_due_means_stuck_until_it_is_or_is_gone() {
    let begin = Instant::now();
    let health = Health::new("the API", begin);
    health.due("ns", "main", begin + Duration::from_secs(30));
    let late = begin + Duration::from_secs(31) + OVERDUE;
    health.beat(late);
    assert!(health.stuck(late).is_some_and(|why| why.contains("ns/main")));
    health.due("ns", "main", late + Duration::from_secs(30));
    assert_eq!(health.stuck(late), None);
    health.due("ns", "main", begin);
    health.forget("ns", "main");
    assert_eq!(health.stuck(late), None);
}
