//! Float operators of ours inside tract's plan, for the spots where tract's own are slow; everything else stays tract's.

mod depthwise;

pub(super) use depthwise::replace_depthwise;
