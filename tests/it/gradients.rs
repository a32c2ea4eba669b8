//! Every adjoint rule against PyTorch's float64 gradients (tests/references/gradients.json, made by the script beside it).

use facemark::train::{
    autodiff::{Backend, gradients, training_form},
    graph::{Attribute, Graph, Node, Tensor, TensorData, TensorType},
    session::{Device, ForwardSession},
};
use serde::Deserialize;
use std::collections::{BTreeMap, BTreeSet};

const REFERENCES: &str = include_str!("../references/gradients.json");

/// Largest difference allowed, over the largest number of the expected tensor (or over 1 where that is smaller).
const TOLERANCE: f64 = 1e-4;

#[derive(Deserialize)]
struct Case {
    name: String,
    nodes: Vec<CaseNode>,
    inputs: BTreeMap<String, CaseTensor>,
    constants: BTreeMap<String, CaseTensor>,
    output: String,
    training: bool,
    cotangent: CaseTensor,
    expected_output: CaseTensor,
    expected_gradients: BTreeMap<String, CaseTensor>,
    #[serde(default)]
    expected_statistics: BTreeMap<String, CaseTensor>,
}

#[derive(Deserialize)]
struct CaseNode {
    op: String,
    inputs: Vec<String>,
    outputs: Vec<String>,
    attributes: BTreeMap<String, serde_json::Value>,
}

#[derive(Deserialize)]
struct CaseTensor {
    shape: Vec<usize>,
    f32: Option<Vec<f64>>,
    i64: Option<Vec<i64>>,
    bool: Option<Vec<bool>>,
}

impl CaseTensor {
    fn tensor(&self) -> Tensor {
        let data = match (&self.f32, &self.i64, &self.bool) {
            (Some(values), None, None) => {
                TensorData::F32(values.iter().map(|&v| v as f32).collect())
            }
            (None, Some(values), None) => TensorData::I64(values.clone()),
            (None, None, Some(values)) => TensorData::Bool(values.clone()),
            _ => panic!("a tensor has values of one type"),
        };
        Tensor::new(&self.shape, data)
    }

    fn floats(&self) -> &[f64] {
        self.f32.as_deref().unwrap()
    }
}

fn attribute(value: &serde_json::Value) -> Attribute {
    match value {
        serde_json::Value::String(text) => Attribute::Text(text.clone()),
        serde_json::Value::Array(values) => {
            Attribute::Ints(values.iter().map(|value| value.as_i64().unwrap()).collect())
        }
        value => match value.as_i64() {
            Some(value) => Attribute::Int(value),
            None => Attribute::Float(value.as_f64().unwrap() as f32),
        },
    }
}

impl Case {
    fn all() -> Vec<Self> {
        serde_json::from_str(REFERENCES).unwrap()
    }

    /// The forward graph; the differentiated tensors are its inputs.
    fn graph(&self) -> Graph {
        let mut graph = Graph::new("case");
        for (name, tensor) in &self.inputs {
            graph.input(name, TensorType::f32(&tensor.shape)).unwrap();
        }
        for (name, tensor) in &self.constants {
            graph.parameter(name, tensor.tensor()).unwrap();
        }
        for node in &self.nodes {
            let domain = match node.op.as_str() {
                "FusedMatMul" => "com.microsoft",
                "FakeQuantize" | "FakeQuantizeWeight" => "facemark",
                _ => "",
            };
            let node = Node {
                name: String::new(),
                op: node.op.clone(),
                domain: domain.to_owned(),
                inputs: node.inputs.clone(),
                outputs: node.outputs.clone(),
                attributes: node
                    .attributes
                    .iter()
                    .map(|(name, value)| (name.clone(), attribute(value)))
                    .collect(),
            };
            graph.push(node).unwrap();
        }
        graph.outputs = vec![self.output.clone()];
        graph
    }

    /// The forward graph with the gradients of `sum(cotangent * output)` as further outputs, and what each output should
    /// be.
    fn with_gradients(&self, backend: Backend) -> (Graph, Vec<(String, Vec<f64>)>) {
        let mut graph = self.graph();
        let mut expected = vec![(self.output.clone(), self.expected_output.floats().to_vec())];
        if self.training {
            for statistics in training_form(&mut graph).unwrap() {
                let Some(mean) = self.expected_statistics.get(&statistics.mean_init) else {
                    continue;
                };
                let variance = self.expected_statistics[&statistics.var_init].floats();
                let factor = f64::from(statistics.unbiased_factor);
                let biased = variance.iter().map(|value| value / factor).collect();
                expected.push((statistics.batch_mean, mean.floats().to_vec()));
                expected.push((statistics.batch_var, biased));
            }
        }
        let cotangent = graph.constant(self.cotangent.tensor());
        let product = graph.mul(&self.output, &cotangent).unwrap();
        let loss = graph.reduce("ReduceSum", &product, &[], false).unwrap();
        let values: Vec<String> = self.inputs.keys().cloned().collect();
        let names = gradients(&mut graph, &loss, &values, backend).unwrap();
        for (value, gradient) in values.iter().zip(names) {
            let own = graph.unary("Identity", &gradient).unwrap();
            expected.push((own, self.expected_gradients[value].floats().to_vec()));
        }
        graph.outputs = expected.iter().map(|(name, _)| name.clone()).collect();
        (graph, expected)
    }

    /// What is wrong with the case on `backend`.
    fn faults(&self, backend: Backend) -> Vec<String> {
        let (graph, expected) = self.with_gradients(backend);
        let tensors: Vec<(&str, Tensor)> = self
            .inputs
            .iter()
            .map(|(name, tensor)| (name.as_str(), tensor.tensor()))
            .collect();
        let inputs: Vec<(&str, &[usize], &[f32])> = tensors
            .iter()
            .map(|(name, tensor)| (*name, tensor.shape.as_slice(), tensor.as_f32().unwrap()))
            .collect();
        let mut session = match ForwardSession::new(&graph, Device::Cpu, 1) {
            Ok(session) => session,
            Err(error) => return vec![format!("{}: {error}", self.name)],
        };
        let outputs = session.run(&inputs).unwrap();
        let subjects = ["output".to_owned()]
            .into_iter()
            .chain((expected.len() > 1 + self.inputs.len()).then(|| "batch mean".to_owned()))
            .chain((expected.len() > 1 + self.inputs.len()).then(|| "batch variance".to_owned()))
            .chain(self.inputs.keys().map(|name| format!("gradient of {name}")));
        let mut faults = Vec::new();
        for ((name, expected), subject) in expected.iter().zip(subjects) {
            let (shape, found) = &outputs[name];
            if shape != graph.shape(name) {
                faults.push(format!(
                    "{}: {subject}: inferred {:?}, found {shape:?}",
                    self.name,
                    graph.shape(name)
                ));
            }
            if found.len() != expected.len() {
                faults.push(format!(
                    "{}: {subject}: {} values, not {}",
                    self.name,
                    found.len(),
                    expected.len()
                ));
                continue;
            }
            let scale = expected
                .iter()
                .fold(1.0, |scale: f64, value| scale.max(value.abs()));
            let worst = expected
                .iter()
                .zip(found)
                .map(|(a, &b)| {
                    if b.is_finite() {
                        (a - f64::from(b)).abs()
                    } else {
                        f64::INFINITY
                    }
                })
                .fold(0.0, f64::max);
            if worst > TOLERANCE * scale {
                faults.push(format!(
                    "{}: {subject}: differs by {worst:e} of {scale}",
                    self.name
                ));
            }
        }
        faults
    }
}

#[test]
fn gradients_equal_pytorch() {
    let cases = Case::all();
    for backend in [Backend::Cpu, Backend::Cuda] {
        let faults: Vec<String> = cases.iter().flat_map(|case| case.faults(backend)).collect();
        assert!(faults.is_empty(), "{backend:?}:\n{}", faults.join("\n"));
    }
}

#[test]
fn every_differentiable_operator_has_a_case() {
    let covered: BTreeSet<String> = Case::all()
        .into_iter()
        .flat_map(|case| case.nodes.into_iter().map(|node| node.op))
        .collect();
    let missing: Vec<&str> = facemark::train::graph::differentiable_operators()
        .into_iter()
        .filter(|&op| !covered.contains(op))
        .collect();
    assert!(missing.is_empty(), "without a reference: {missing:?}");
}

#[test]
fn files_hold_whole_graphs() {
    for case in Case::all() {
        let (graph, _) = case.with_gradients(Backend::Cpu);
        let bytes = graph.to_onnx();
        let read = Graph::from_onnx(&bytes, "case.onnx".as_ref()).unwrap();
        assert_eq!(read, graph, "{}", case.name);
        assert_eq!(read.to_onnx(), bytes, "{}", case.name);
    }
}
