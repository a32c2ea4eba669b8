//! Kernels: the only place of the engine with `unsafe`.

pub(super) mod float_depthwise;
