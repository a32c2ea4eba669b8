//! From a trained float graph to the int8 form that the runtime runs.

pub mod grid;
pub mod points;
