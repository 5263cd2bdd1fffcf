//! The Helm chart: what it renders from which values, and what it refuses. `cargo xtask test chart` runs it.
//!
//! Helm renders; no cluster is needed. What a cluster makes of it is tested with the operator.

mod crds;
mod metrics;
mod objects;
mod refusals;
mod rights;
mod support;
mod values;
