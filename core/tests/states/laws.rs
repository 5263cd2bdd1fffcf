//! The laws of states, for every type, at one fixed `now`.

use proptest::prelude::*;
use taba_core::{State, TabType};

use crate::support::{NOW, rendered};
use crate::support::{Sent, any_events, any_type, assert_same, at, encoded, folded, merged};

fn two_lists() -> impl Strategy<Value = (TabType, Vec<Sent>, Vec<Sent>)> {
    any_type().prop_flat_map(|tab_type| (Just(tab_type), any_events(tab_type), any_events(tab_type)))
}

fn three_states() -> impl Strategy<Value = [State; 3]> {
    let lists = any_type().prop_flat_map(|tab_type| {
        (Just(tab_type), any_events(tab_type), any_events(tab_type), any_events(tab_type))
    });
    lists.prop_map(|(tab_type, a, b, c)| [a, b, c].map(|events| folded(tab_type, &events)))
}

fn one_state() -> impl Strategy<Value = State> {
    let lists = any_type().prop_flat_map(|tab_type| (Just(tab_type), any_events(tab_type)));
    lists.prop_map(|(tab_type, events)| folded(tab_type, &events))
}

fn numeric_events() -> impl Strategy<Value = (TabType, Vec<Sent>)> {
    any_type()
        .prop_filter("numbers only", |tab_type| tab_type.takes_numbers())
        .prop_flat_map(|tab_type| (Just(tab_type), any_events(tab_type)))
}

proptest! {
    /// forall a, b: fold(a ++ b) == fold a + fold b, where + is `merge`.
    #[test]
    fn folding_all_events_equals_merging_the_folds_of_some((tab_type, a, b) in two_lists()) {
        let all: Vec<Sent> = a.iter().chain(&b).cloned().collect();
        assert_same(&folded(tab_type, &all), &merged(&folded(tab_type, &a), &folded(tab_type, &b)));
    }

    /// forall a, b: a + b == b + a.
    #[test]
    fn merge_is_commutative([a, b, _] in three_states()) {
        assert_same(&merged(&a, &b), &merged(&b, &a));
    }

    /// forall a, b, c: (a + b) + c == a + (b + c).
    #[test]
    fn merge_is_associative([a, b, c] in three_states()) {
        assert_same(&merged(&merged(&a, &b), &c), &merged(&a, &merged(&b, &c)));
    }

    /// forall a: new + a == a == a + new.
    #[test]
    fn a_new_state_is_the_identity(a in one_state()) {
        let new = State::new(a.tab_type());
        assert_same(&merged(&new, &a), &a);
        assert_same(&merged(&a, &new), &a);
    }

    /// forall a, b: merging b's bytes into a == a + b.
    #[test]
    fn merging_bytes_equals_merging_states([a, b, _] in three_states()) {
        let mut from_bytes = a.clone();
        from_bytes.merge_encoded(&encoded(&b), NOW).expect("bytes of a state of the same type");
        assert_same(&from_bytes, &merged(&a, &b));
    }

    /// forall a: decode(encode a) == a, and its bytes are the same again.
    #[test]
    fn states_survive_their_bytes(a in one_state()) {
        let bytes = encoded(&a);
        let decoded = State::decode(&bytes).expect("bytes of a state");
        assert_same(&decoded, &a);
        prop_assert_eq!(encoded(&decoded), bytes);
        prop_assert_eq!(State::peek_type(&encoded(&a)), Ok(a.tab_type()));
    }

    /// forall a: expire at now changes no answer from now on, settle and a second expire change nothing.
    #[test]
    fn what_expires_was_never_to_be_shown_again(a in one_state()) {
        let mut expired = a.clone();
        expired.expire(NOW);
        expired.settle();
        assert_same(&expired, &a);
    }

    /// forall a: if it is prunable at some time, it shows nothing at any later time.
    #[test]
    fn what_is_prunable_shows_nothing_any_more(a in one_state()) {
        prop_assume!(!matches!(a.tab_type(), TabType::TotalsCounter | TabType::PercentileCounter));
        let nothing = State::new(a.tab_type());
        for later in [0, 1_000, 20_000, 86_400, 100_000, 173_000, 373_000] {
            let shows_nothing = rendered(&a, at(later)) == rendered(&nothing, at(later));
            prop_assert_eq!(a.prunable(at(later)), shows_nothing);
        }
        prop_assert!(a.prunable(at(400_000)));
    }

    /// forall a: a cleared state is a new one, whatever it held.
    #[test]
    fn a_cleared_state_is_a_new_one([a, b, _] in three_states()) {
        let mut cleared = a.clone();
        cleared.clear();
        assert_same(&cleared, &State::new(a.tab_type()));
        cleared.merge(&b, NOW).expect("states of one type");
        assert_same(&cleared, &b);
    }

    /// forall events: the fast path for numbers == folding one by one.
    #[test]
    fn folding_numbers_at_once_equals_folding_one_by_one((tab_type, events) in numeric_events()) {
        let secs: Vec<i64> = events.iter().map(|sent| sent.time.as_secs()).collect();
        let values: Vec<f64> = events.iter().map(|sent| sent.payload.parse().expect("a number")).collect();
        let mut at_once = State::new(tab_type);
        at_once.fold_numbers(&secs, &values, NOW);
        assert_same(&at_once, &folded(tab_type, &events));
    }

    /// forall decimals: counts are exact and sums agree up to rounding, in whatever grouping.
    #[test]
    fn sums_of_decimals_agree_up_to_rounding(
        cents in proptest::collection::vec(-1_000_000_i64..1_000_000, 1..200),
        cut in 0_usize..200,
    ) {
        let values: Vec<f64> = cents.iter().map(|cents| *cents as f64 / 100.0).collect();
        let (left, right) = values.split_at(cut.min(values.len()));
        let fold = |values: &[f64]| {
            let mut state = State::new(TabType::CounterGroup);
            state.fold_numbers(&vec![NOW.as_secs(); values.len()], values, NOW);
            State::decode(&encoded(&state)).expect("bytes of a state")
        };
        let exact = cents.iter().sum::<i64>() as f64 / 100.0;
        // Each addition rounds by at most 2^-53 of what is summed so far.
        let tolerance = values.iter().map(|value| value.abs()).sum::<f64>() * values.len() as f64 / 2_f64.powi(50);
        for window in merged(&fold(left), &fold(right)).windows(NOW) {
            prop_assert_eq!(window.count, values.len() as u64);
            prop_assert!((window.sum - exact).abs() <= tolerance, "{} is not {}", window.sum, exact);
        }
    }
}

#[test]
fn states_of_two_types_do_not_merge() {
    for left in TabType::ALL {
        for right in TabType::ALL.iter().filter(|right| *right != left) {
            let mut state = State::new(*left);
            assert!(state.merge(&State::new(*right), NOW).is_err());
            assert!(state.merge_encoded(&encoded(&State::new(*right)), NOW).is_err());
        }
    }
}
