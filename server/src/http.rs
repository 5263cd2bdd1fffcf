//! HTTP.
pub mod failure;
pub mod inflate;
pub mod media;
pub mod params;
