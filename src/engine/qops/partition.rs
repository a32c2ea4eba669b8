//! Which nodes of a file are int8, and the regions they form.
//!
//! A region becomes one operator, so no path may leave it and come back. Nodes are therefore numbered by stage, the number
//! of float nodes (and of f32 results of int8 nodes) that lie before them on the longest path: every path that leaves the
//! nodes of one stage comes back at a later one. All int8 nodes of a stage are a region.

use super::{
    constants::Constants,
    error::NodeError,
    heat_map,
    onnx::{is_known, translate, works_on_bytes},
    operators::{Element, Operator},
};
use crate::engine::plan::node_name;
use std::collections::{BTreeMap, HashMap, HashSet};
use tract_onnx::pb::{
    GraphProto, NodeProto, tensor_proto::DataType, type_proto::Value as TypeValue,
};

/// Bytes that the packed weights of a file may take.
const MOST_WEIGHTS: usize = 1 << 26;

/// A node inside a region. Values are numbered: first the region's inputs, then the nodes' outputs in order.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct RegionNode {
    pub(crate) name: String,
    /// ONNX's name of the operator, for errors.
    pub(crate) onnx_operator: String,
    pub(crate) operator: Operator,
    pub(crate) inputs: Vec<usize>,
}

/// A maximal part of a graph that computes on bytes.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Region {
    /// Names of the tensors it reads from outside.
    pub(crate) inputs: Vec<String>,
    /// Their element types.
    pub(crate) input_elements: Vec<Element>,
    /// In an order in which they can run.
    pub(crate) nodes: Vec<RegionNode>,
    /// Names of the tensors that are read outside.
    pub(crate) outputs: Vec<String>,
    /// Their values.
    pub(crate) output_values: Vec<usize>,
}

impl Region {
    /// Element type of a value.
    pub(crate) fn element(&self, value: usize) -> Element {
        match value.checked_sub(self.inputs.len()) {
            None => self.input_elements[value],
            Some(node) => self.nodes[node].operator.output_element(),
        }
    }

    /// An error about node `index`.
    pub(crate) fn error(&self, index: usize, reason: String) -> NodeError {
        NodeError {
            operator: self.nodes[index].onnx_operator.clone(),
            node: self.nodes[index].name.clone(),
            reason,
        }
    }
}

/// A graph cut into int8 regions and what lies between.
pub(crate) struct Cut {
    /// By stage.
    pub(crate) regions: Vec<Region>,
    /// Nodes of the file that are in no region, by index.
    pub(crate) others: Vec<usize>,
}

impl Cut {
    /// Cuts a graph whose nodes are in an order in which they can run.
    pub(crate) fn of(graph: &GraphProto) -> Result<Self, NodeError> {
        let constants = Constants::of(graph);
        let mut values = Values::of(graph);
        let mut stages: BTreeMap<usize, Vec<(usize, super::onnx::Translated)>> = BTreeMap::new();
        let mut others = Vec::new();
        let mut weights = 0usize;
        let mut chains = heat_map::chains(graph, &constants);
        let absorbed: HashSet<usize> = chains
            .values()
            .flat_map(|chain| chain.absorbed.iter().copied())
            .collect();
        for (index, node) in graph.node.iter().enumerate() {
            if absorbed.contains(&index) {
                continue;
            }
            let chain = chains.remove(&index);
            if chain.is_some() || values.is_int8(node, &constants) {
                let translated = match chain {
                    Some(chain) => chain.translated,
                    None => translate(node, node_name(node), &constants)?,
                };
                // Nodes may share a constant, so the file's size bounds nothing.
                weights = weights.saturating_add(translated.operator.packed_weights());
                if weights > MOST_WEIGHTS {
                    return Err(NodeError {
                        operator: node.op_type.clone(),
                        node: node_name(node).to_owned(),
                        reason: format!(
                            "the weights up to here need more than {} MiB",
                            MOST_WEIGHTS >> 20
                        ),
                    });
                }
                let stage = values.int8_stage(&translated.inputs, &translated.operator);
                values.write_int8(node, stage, translated.operator.output_element());
                stages.entry(stage).or_default().push((index, translated));
            } else {
                values.write_float(node);
                others.push(index);
            }
        }
        let mut cut = Self {
            regions: Vec::new(),
            others,
        };
        for nodes in stages.into_values() {
            cut.regions.push(region(graph, &values, &absorbed, nodes)?);
        }
        Ok(cut)
    }
}

/// What is known of a named value.
#[derive(Clone, Copy)]
struct Known {
    element: Option<Element>,
    stage: usize,
    /// An int8 node that reads it is a stage later.
    ends_stage: bool,
}

struct Values<'a> {
    known: HashMap<&'a str, Known>,
}

impl<'a> Values<'a> {
    fn of(graph: &'a GraphProto) -> Self {
        let known = graph.input.iter().map(|input| {
            let element = match input.r#type.as_ref().and_then(|of| of.value.as_ref()) {
                Some(TypeValue::TensorType(tensor)) => match tensor.elem_type {
                    of if of == DataType::Uint8 as i32 => Some(Element::U8),
                    of if of == DataType::Float as i32 => Some(Element::F32),
                    _ => None,
                },
                None => None,
            };
            let known = Known {
                element,
                stage: 0,
                ends_stage: false,
            };
            (input.name.as_str(), known)
        });
        Self {
            known: known.collect(),
        }
    }

    fn get(&self, name: &str) -> Option<&Known> {
        self.known.get(name)
    }

    fn is_int8(&self, node: &NodeProto, constants: &Constants<'_>) -> bool {
        let first = node.input.first().map_or("", String::as_str);
        if is_known(&node.domain, &node.op_type) {
            // Weights that are stored as bytes and used as floats.
            return node.op_type != "DequantizeLinear" || !constants.contains(first);
        }
        let bytes = self
            .get(first)
            .is_some_and(|known| known.element == Some(Element::U8));
        bytes && works_on_bytes(&node.op_type)
    }

    fn int8_stage(&self, inputs: &[String], operator: &Operator) -> usize {
        let after = |name: &String| {
            let known = self.get(name)?;
            let f32 = operator.input_element() == Element::F32 && known.ends_stage;
            let late = f32 || known.element.is_none();
            Some(known.stage + usize::from(late))
        };
        inputs.iter().filter_map(after).max().unwrap_or(0)
    }

    fn write_int8(&mut self, node: &'a NodeProto, stage: usize, element: Element) {
        for output in &node.output {
            let known = Known {
                element: Some(element),
                stage,
                ends_stage: element == Element::F32,
            };
            self.known.insert(output, known);
        }
    }

    fn write_float(&mut self, node: &'a NodeProto) {
        let stages = node.input.iter().filter_map(|input| self.get(input));
        let stage = stages.map(|known| known.stage).max().unwrap_or(0);
        for output in &node.output {
            let known = Known {
                element: None,
                stage,
                ends_stage: true,
            };
            self.known.insert(output, known);
        }
    }
}

fn region(
    graph: &GraphProto,
    values: &Values<'_>,
    absorbed: &HashSet<usize>,
    nodes: Vec<(usize, super::onnx::Translated)>,
) -> Result<Region, NodeError> {
    let members: HashSet<usize> = nodes.iter().map(|(index, _)| *index).collect();
    let written: HashSet<&str> = nodes
        .iter()
        .map(|(index, _)| graph.node[*index].output[0].as_str())
        .collect();
    let mut region = Region::default();
    let mut numbers: HashMap<String, usize> = HashMap::new();
    for (index, translated) in &nodes {
        for input in &translated.inputs {
            if written.contains(input.as_str()) || numbers.contains_key(input) {
                continue;
            }
            numbers.insert(input.clone(), region.inputs.len());
            region.inputs.push(input.clone());
            let element = values.get(input).and_then(|known| known.element);
            // What a float node writes is what its reader says; tract holds it to that.
            let element = element.unwrap_or(translated.operator.input_element());
            region.input_elements.push(element);
            let _ = index;
        }
    }
    let first_output = region.inputs.len();
    for (position, (index, _)) in nodes.iter().enumerate() {
        let output = graph.node[*index].output[0].clone();
        numbers.insert(output, first_output + position);
    }
    for (index, translated) in nodes {
        let node = &graph.node[index];
        region.nodes.push(RegionNode {
            name: node_name(node).to_owned(),
            onnx_operator: node.op_type.clone(),
            inputs: translated.inputs.iter().map(|name| numbers[name]).collect(),
            operator: translated.operator,
        });
    }
    for position in 0..region.nodes.len() {
        let expected = region.nodes[position].operator.input_element();
        for &input in &region.nodes[position].inputs {
            if region.element(input) != expected {
                let reason = format!("expected an input of {expected:?}").to_lowercase();
                return Err(region.error(position, reason));
            }
        }
    }
    let outside = graph
        .node
        .iter()
        .enumerate()
        .filter(|(index, _)| !members.contains(index) && !absorbed.contains(index))
        .flat_map(|(_, node)| node.input.iter().map(String::as_str));
    let wanted: HashSet<&str> = outside
        .chain(graph.output.iter().map(|output| output.name.as_str()))
        .collect();
    for (position, index) in sorted(&members).into_iter().enumerate() {
        let output = &graph.node[index].output[0];
        if wanted.contains(output.as_str()) {
            region.outputs.push(output.clone());
            region.output_values.push(first_output + position);
        }
    }
    Ok(region)
}

fn sorted(members: &HashSet<usize>) -> Vec<usize> {
    let mut members: Vec<usize> = members.iter().copied().collect();
    members.sort_unstable();
    members
}
