//! A mergeable distribution sketch.

/// A mergeable summary of a distribution of finite numbers.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Sketch {}

impl Sketch {
    /// The value at quantile `q` (0 to 1); 0.0 when empty.
    #[must_use]
    pub fn quantile(&self, _q: f64) -> f64 {
        todo!()
    }

    /// The bound on the relative error of [`Sketch::quantile`]: 0 while exact.
    #[must_use]
    pub fn relative_error(&self) -> f64 {
        todo!()
    }

    /// How many values it has seen.
    #[must_use]
    pub fn count(&self) -> u64 {
        todo!()
    }
}
