//! Sketches: exact while small, within the error bound beyond, and a function of the values alone.

use proptest::prelude::*;
use taba_core::sketch::{EXACT_MAX, Sketch};

/// A small generator, so that every run sees the same values.
struct Random(u64);

impl Random {
    fn uniform(&mut self) -> f64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// Close enough to a normal distribution: the sum of twelve uniform numbers.
    fn normal(&mut self) -> f64 {
        (0..12).map(|_| self.uniform()).sum::<f64>() - 6.0
    }
}

fn sketch_of(values: &[f64]) -> Sketch {
    let mut sketch = Sketch::default();
    sketch.insert_all(values);
    sketch
}

#[track_caller]
fn check_quantiles(values: &mut [f64], bound: f64) {
    let sketch = sketch_of(values);
    values.sort_by(f64::total_cmp);
    assert!(sketch.relative_error() <= bound);
    assert_eq!(sketch.count(), values.len() as u64);
    assert_eq!((sketch.min(), sketch.max()), (values.first().copied(), values.last().copied()));
    for permille in 0..=1000 {
        let q = f64::from(permille) / 1000.0;
        let exact = values[((q * values.len() as f64) as usize).min(values.len() - 1)];
        let off = (sketch.quantile(q) - exact).abs();
        assert!(off <= exact.abs() * bound, "quantile {q}: {} for {exact}", sketch.quantile(q));
    }
}

fn values(mut value: impl FnMut(&mut Random) -> f64) -> Vec<f64> {
    let mut random = Random(3);
    (0..20_000).map(|_| value(&mut random)).collect()
}

#[test]
fn quantiles_of_uniform_values_are_within_the_bound() {
    check_quantiles(&mut values(|random| 1.0 + 999.0 * random.uniform()), 0.0055);
}

#[test]
fn quantiles_of_lognormal_values_over_many_decades_are_within_the_bound() {
    check_quantiles(&mut values(|random| (random.normal() * 5.0).exp()), 0.0055);
}

#[test]
fn quantiles_of_negative_and_mixed_values_are_within_the_bound() {
    check_quantiles(&mut values(|random| -1000.0 * random.uniform() - 1.0), 0.0055);
    check_quantiles(&mut values(|random| (random.normal() * 1000.0).round()), 0.0055);
}

#[test]
fn one_far_outlier_does_not_change_the_bound() {
    let mut values = values(|random| 1.0 + random.uniform());
    values.extend([1e300, -1e300, 1e-300, 0.0, f64::MAX, f64::MIN_POSITIVE / 8.0]);
    check_quantiles(&mut values, 0.0055);
}

#[test]
fn values_over_all_floats_coarsen_the_buckets_and_keep_the_stated_bound() {
    let mut values: Vec<f64> = values(|random| {
        (random.uniform() * 1400.0 - 700.0).exp() * if random.uniform() < 0.5 { -1.0 } else { 1.0 }
    });
    let bound = sketch_of(&values).relative_error();
    assert!(bound > 0.0055 && bound < 0.7, "{bound}");
    check_quantiles(&mut values, bound * (1.0 + 1e-12));
}

#[test]
fn up_to_128_distinct_values_are_exact_however_often_they_come() {
    let distinct: Vec<f64> = (0..EXACT_MAX).map(|value| value as f64 * 1.1).collect();
    let mut sketch = Sketch::default();
    for _ in 0..1000 {
        sketch.insert_all(&distinct);
    }
    assert_eq!(sketch.relative_error(), 0.0);
    assert_eq!(sketch.quantile(0.5), distinct[64]);
    sketch.insert_all(&[-1.0]);
    assert!(sketch.relative_error() > 0.0);
    assert_eq!(sketch.count(), 1000 * 128 + 1);
}

#[test]
fn an_empty_sketch_has_zero_quantiles() {
    let empty = Sketch::default();
    assert_eq!((empty.quantile(0.5), empty.count(), empty.sum()), (0.0, 0, 0.0));
    assert_eq!((empty.min(), empty.max()), (None, None));
}

fn any_values() -> impl Strategy<Value = Vec<f64>> {
    let value = prop_oneof![
        -3.0..3.0_f64,
        (-2000_i32..2000).prop_map(f64::from),
        any::<f64>().prop_filter("finite", |value| value.is_finite()),
    ];
    proptest::collection::vec(value, 0..400)
}

proptest! {
    /// forall a, b: sketch(a ++ b) == sketch(a) + sketch(b) == sketch(b) + sketch(a).
    #[test]
    fn a_sketch_is_a_function_of_its_values(a in any_values(), b in any_values()) {
        let mut all = a.clone();
        all.extend(&b);
        let mut merged = sketch_of(&a);
        merged.merge(&sketch_of(&b));
        prop_assert_eq!(&merged, &sketch_of(&all));
        all.reverse();
        prop_assert_eq!(&merged, &sketch_of(&all));
        let mut other_way = sketch_of(&b);
        other_way.merge(&sketch_of(&a));
        prop_assert_eq!(&merged, &other_way);
    }
}

/// Too many buckets for the finest scale come together only by merging; order must not matter then.
#[test]
fn coarsened_sketches_merge_to_the_same_in_any_order() {
    let spread = |seed: u64, from: f64| {
        let mut random = Random(seed);
        let values: Vec<f64> = (0..6000).map(|_| (from + random.uniform() * 60.0).exp2()).collect();
        sketch_of(&values)
    };
    let parts = [spread(1, -60.0), spread(2, 0.0), spread(3, 60.0), spread(4, -500.0)];
    assert!(parts.iter().all(|part| part.relative_error() < 0.0055));
    let merge_all = |order: [usize; 4]| {
        let mut all = Sketch::default();
        order.iter().for_each(|place| all.merge(&parts[*place]));
        all
    };
    let expected = merge_all([0, 1, 2, 3]);
    assert!(expected.relative_error() > 0.01);
    for order in [[3, 2, 1, 0], [1, 3, 0, 2], [2, 0, 3, 1]] {
        assert_eq!(merge_all(order), expected);
    }
}
