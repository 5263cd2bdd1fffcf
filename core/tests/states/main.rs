//! States of all tab types: their laws, a naive model beside them, their bytes, and what the first Taba
//! printed or got wrong.

mod bytes;
mod hostile;
mod laws;
mod model;
mod sketches;
mod support;
mod vectors;
mod weaknesses;
