//! A naive model beside the windows: it keeps every event and computes each answer from the definition.

use proptest::prelude::*;
use taba_core::{State, TabType, Timestamp};

use crate::support::{NOW, Sent, any_events, at, folded, merged};

/// Label, bucket width in seconds, number of buckets, and whether there is a sketch.
type Shape = (&'static str, i64, i64, bool);

const COUNTER_GROUP: [Shape; 5] = [
    ("1m", 1, 60, false),
    ("10m", 10, 60, false),
    ("1h", 30, 120, false),
    ("1d", 900, 96, false),
    ("pct", 10_800, 8, true),
];
const PERCENTILE_GROUP: [Shape; 4] =
    [("1m", 15, 4, true), ("10m", 150, 4, true), ("1h", 900, 4, true), ("1d", 21_600, 4, true)];

/// The values a window shows at `now`, sorted.
fn shown(events: &[Sent], (_, width, buckets, _): Shape, now: Timestamp) -> Vec<f64> {
    let newest_start = now.as_secs().div_euclid(width) * width;
    let is_shown = |sent: &&Sent| {
        let start = sent.time.as_secs().div_euclid(width) * width;
        start > newest_start - width * buckets
    };
    let values = events.iter().filter(is_shown).map(|sent| sent.payload.parse().expect("a number"));
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    values
}

fn check(state: &State, shapes: &[Shape], events: &[Sent], now: Timestamp) {
    let windows = state.windows(now);
    assert_eq!(windows.len(), shapes.len());
    for (window, shape) in windows.iter().zip(shapes) {
        let expected = shown(events, *shape, now);
        assert_eq!((window.label, window.seconds), (shape.0, Some((shape.1 * shape.2) as u64)));
        assert_eq!(window.count, expected.len() as u64, "count of {} at {now:?}", window.label);
        assert_eq!(window.sum, expected.iter().sum::<f64>(), "sum of {} at {now:?}", window.label);
        assert_eq!(window.sketch.is_some(), shape.3);
        let Some(sketch) = &window.sketch else { continue };
        for q in [0.0, 0.25, 0.5, 0.75, 0.9, 0.95, 0.99, 0.999, 1.0] {
            let rank = ((q * expected.len() as f64) as usize).min(expected.len().saturating_sub(1));
            let exact = expected.get(rank).copied().unwrap_or(0.0);
            let off = (sketch.quantile(q) - exact).abs();
            assert!(
                off <= exact.abs() * (sketch.relative_error() + 1e-12),
                "quantile {q} of {}",
                window.label
            );
        }
    }
}

proptest! {
    #[test]
    fn windows_show_what_the_model_shows(
        counted in any_events(TabType::CounterGroup),
        more in any_events(TabType::CounterGroup),
    ) {
        let all: Vec<Sent> = counted.iter().chain(&more).cloned().collect();
        for (tab_type, shapes) in
            [(TabType::CounterGroup, &COUNTER_GROUP[..]), (TabType::PercentileGroup, &PERCENTILE_GROUP[..])]
        {
            let state = merged(&folded(tab_type, &counted), &folded(tab_type, &more));
            for later in [0, 1, 14, 60, 300, 599, 3_600, 40_000, 86_400] {
                check(&state, shapes, &all, at(later));
            }
        }
    }
}

#[test]
fn the_oldest_bucket_leaves_whole() {
    let event = Sent::new(NOW, "1");
    let state = folded(TabType::CounterGroup, std::slice::from_ref(&event));
    let minute = |later| state.windows(at(later))[0].count;
    assert_eq!((minute(0), minute(59), minute(60)), (1, 1, 0));
}
