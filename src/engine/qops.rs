//! The int8 form of a network: what its operators are in an ONNX file, and how they run in a tract plan.
//!
//! The int8 part of a file is cut out before tract sees it ([`Cut`]): each maximal region of operators on bytes becomes one
//! operator of ours ([`RegionOp`]) that runs a compiled [`Program`]. From the outside in:
//!
//! - `onnx` translates nodes and refuses what is broken, with operator and node; `constants` reads what they refer to.
//! - `operators` are the translated operators with the shapes they make.
//! - `heat_map` finds float operators behind int8 scores that are one step of a program.
//! - `partition` finds the regions; `region_op` puts one into a plan.
//! - `lower` turns a region into a program: layouts, fusion, buffers, packed kernels; `program` runs it.
//!
//! Arithmetic is in [`crate::engine::kernels`] alone: ONNX Runtime's on x86-64, bit for bit, on every machine.

mod constants;
mod error;
mod heat_map;
mod lower;
mod onnx;
mod operators;
mod partition;
mod program;
mod region_op;
mod reorder;

pub(super) use self::{
    error::NodeError,
    onnx::{MICROSOFT, is_known},
    operators::{Element, Operator, Shape},
    partition::{Cut, Region},
    program::Step,
    region_op::{RegionExpansion, RegionOp, RegionState},
};
