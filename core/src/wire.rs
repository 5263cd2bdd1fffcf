//! Wire formats and the primitives they share. `docs/wire.md` describes them byte by byte.

pub mod bytes;
pub mod v1;
pub mod v2;
