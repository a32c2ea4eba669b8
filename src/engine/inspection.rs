//! What a model file becomes in the engine: which kernel runs which node, and how much work it is.

use super::{
    EngineOptions,
    plan::{OnnxFile, Plan, PlanPort, operator_counts},
    qops::{RegionOp, Step},
};
use crate::model::{ModelCard, ModelError};
use serde::Serialize;
use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};
use tract_core::{internal::TypedNode, ops::Cost};

/// An input or output.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Port {
    /// Name in the file.
    pub name: String,
    /// Shape.
    pub shape: Vec<usize>,
    /// Element type: `f32`, `u8`, ...
    pub element: String,
}

impl From<&PlanPort> for Port {
    fn from(port: &PlanPort) -> Self {
        Self {
            name: port.name.clone(),
            shape: port.shape.clone(),
            element: format!("{:?}", port.element).to_lowercase(),
        }
    }
}

/// A node of the optimised graph.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct InspectedNode {
    /// Its name; tract keeps the ONNX node's and adds to it where it splits one.
    pub name: String,
    /// The kernel that runs it.
    pub kernel: String,
    /// Element type of its first output.
    pub element: String,
    /// Shape of its first output.
    pub shape: Vec<String>,
    /// Multiplications with addition in a run.
    pub multiply_adds: u64,
    /// Whether it computes on bytes, with integer kernels of ours.
    pub integer: bool,
}

/// A model file seen from the engine.
#[derive(Clone, Debug, Serialize)]
pub struct Inspection {
    /// The file.
    pub path: PathBuf,
    /// Its metadata.
    pub metadata: BTreeMap<String, String>,
    /// Why the metadata make no card of ours; absent when they do.
    pub card_error: Option<String>,
    /// Inputs.
    pub inputs: Vec<Port>,
    /// Outputs.
    pub outputs: Vec<Port>,
    /// ONNX operators and how many nodes use them.
    pub operators: BTreeMap<String, usize>,
    /// The optimised graph in the order it runs, without weights.
    pub nodes: Vec<InspectedNode>,
    /// Values in the weights.
    pub parameters: usize,
    /// Millions of multiplications with addition a run, in convolutions and matrix products.
    pub mmac: f64,
}

impl Inspection {
    /// Loads `path` and looks at it.
    ///
    /// # Errors
    /// See [`ModelError`]; a file without a card is no error.
    pub fn of(path: &Path, options: &EngineOptions) -> Result<Self, ModelError> {
        let file = OnnxFile::read(path)?;
        let metadata = file.metadata();
        let card = ModelCard::from_metadata(&metadata, path);
        // As an engine loads it, if it does.
        let normalization = card.as_ref().ok().map(|card| card.normalization);
        let plan = file.plan(options, normalization)?;
        let nodes = inspect_nodes(&plan);
        let counts = |node: &&InspectedNode| {
            node.integer || node.kernel.contains("MatMul") || node.kernel.contains("Conv")
        };
        let work: u64 = nodes
            .iter()
            .filter(counts)
            .map(|node| node.multiply_adds)
            .sum();
        Ok(Self {
            path: path.to_owned(),
            card_error: card.err().map(|error| error.to_string()),
            metadata,
            inputs: plan.inputs.iter().map(Port::from).collect(),
            outputs: plan.outputs.iter().map(Port::from).collect(),
            operators: operator_counts(&file).into_iter().collect(),
            nodes,
            parameters: file.parameter_count(),
            mmac: work as f64 / 1e6,
        })
    }
}

/// The nodes of a plan in the order they run, with the steps of an int8 region in its place.
pub(super) fn inspect_nodes(plan: &Plan) -> Vec<InspectedNode> {
    let model = plan.plan.model();
    let inspect = |node: &TypedNode| {
        if let Some(region) = node.op_as::<RegionOp>() {
            return region.program().steps().iter().map(inspect_step).collect();
        }
        let facts = model.node_input_facts(node.id).unwrap_or_default();
        let costs = node.op.cost(&facts).unwrap_or_default();
        vec![inspect_node(node, &costs)]
    };
    plan.order().flat_map(inspect).collect()
}

fn inspect_node(node: &TypedNode, costs: &[(Cost, tract_core::internal::TDim)]) -> InspectedNode {
    let multiply_adds = costs
        .iter()
        .filter(|(cost, _)| matches!(cost, Cost::FMA(_)))
        .filter_map(|(_, count)| count.to_i64().ok())
        .sum::<i64>();
    let fact = node.outputs.first().map(|output| &output.fact);
    InspectedNode {
        name: node.name.clone(),
        kernel: node.op.name().to_string(),
        element: fact.map_or(String::new(), |fact| {
            format!("{:?}", fact.datum_type).to_lowercase()
        }),
        shape: fact.map_or_else(Vec::new, |fact| {
            fact.shape.iter().map(|edge| edge.to_string()).collect()
        }),
        multiply_adds: multiply_adds.max(0) as u64,
        integer: false,
    }
}

fn inspect_step(step: &Step) -> InspectedNode {
    InspectedNode {
        name: step.name.clone(),
        kernel: step.describe(),
        element: step.element().to_owned(),
        shape: step.shape.iter().map(usize::to_string).collect(),
        multiply_adds: step.multiply_adds,
        integer: true,
    }
}
