//! Where the int8 form of a float graph rounds: which nodes compute with integers, and which values lie on a grid of 256
//! levels. The one place that decides it: the int8 file and quantisation-aware training both follow it.

use crate::train::graph::{Graph, Node};
use std::collections::{BTreeSet, HashMap, HashSet};

/// How the int8 form computes a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NodeForm {
    /// With integers: Conv, Gemm, Add, GlobalAveragePool.
    Integer,
    /// Not at all: the range of the integer node before it does what it did (Relu, Clip).
    Absorbed,
    /// On bytes, whatever they mean: MaxPool, Concat, Resize, Flatten, Reshape.
    Passing,
    /// As before, with floats.
    Float,
}

/// Values that are rounded to one grid.
#[derive(Clone, Debug, PartialEq)]
pub struct Point {
    /// The values that are rounded, in the order in which they are computed; several when a Concat joins them.
    pub members: Vec<String>,
    /// No member lies below; 0 after a ReLU. Ranges are cut here, which is what absorbs the node.
    pub lowest: f32,
    /// No member lies above.
    pub highest: f32,
    /// The values are an input of the graph: its grid is the model card's.
    pub is_input: bool,
}

impl Point {
    /// Its name: the first value's.
    pub fn name(&self) -> &str {
        &self.members[0]
    }
}

/// What [`quantization_points`] decides.
#[derive(Clone, Debug, Default)]
pub struct QuantizationPoints {
    /// The form of each node, in the graph's order.
    pub forms: Vec<NodeForm>,
    /// The grids.
    pub points: Vec<Point>,
    by_value: HashMap<String, usize>,
}

impl QuantizationPoints {
    /// The index of the grid on which a value lies, when it lies on one: members, and what passing nodes make of them.
    pub fn index_of(&self, value: &str) -> Option<usize> {
        self.by_value.get(value).copied()
    }

    /// The grid on which a value lies.
    pub fn point_of(&self, value: &str) -> Option<&Point> {
        self.index_of(value).map(|index| &self.points[index])
    }

    fn add(&mut self, value: &str, (lowest, highest): (f32, f32), is_input: bool) -> usize {
        let index = self.points.len();
        self.points.push(Point {
            members: vec![value.to_owned()],
            lowest,
            highest,
            is_input,
        });
        self.by_value.insert(value.to_owned(), index);
        index
    }

    /// Makes one grid of those of `values`, and puts `joined` on it.
    fn join(&mut self, values: &[String], joined: &str) {
        let first = self.by_value[&values[0]];
        for value in &values[1..] {
            let other = self.by_value[value];
            if other != first {
                let members = std::mem::take(&mut self.points[other].members);
                self.points[first].members.extend(members);
                for index in self.by_value.values_mut().filter(|index| **index == other) {
                    *index = first;
                }
            }
        }
        self.by_value.insert(joined.to_owned(), first);
    }

    /// Drops the grids that others have taken over.
    fn without_empty(mut self) -> Self {
        let mut new_index = Vec::with_capacity(self.points.len());
        let mut count = 0;
        for point in &self.points {
            new_index.push(count);
            count += usize::from(!point.members.is_empty());
        }
        self.points.retain(|point| !point.members.is_empty());
        for index in self.by_value.values_mut() {
            *index = new_index[*index];
        }
        self
    }
}

/// Decides for a graph without batch normalisation which nodes compute with integers and which values are rounded.
///
/// - Integer: Conv and Gemm with constant weight and bias, Add of two computed values of one shape, GlobalAveragePool.
///   An Add of vectors that no integer node reads stays float: it is an answer, and 256 levels are few for a place.
/// - A Relu or a Clip around 0 that alone reads an integer node is absorbed.
/// - Every result of an integer node is rounded, except that of a Gemm which no integer node reads: it stays float.
/// - Concat puts all that it joins on one grid, when none of it is an input and all has the same bounds.
/// - What a float node computes is rounded where an integer node reads it.
///
/// Nodes whose label is in `kept_in_float` are float.
pub fn quantization_points(graph: &Graph, kept_in_float: &BTreeSet<String>) -> QuantizationPoints {
    let flow = Flow::new(graph, kept_in_float);
    let mut found = QuantizationPoints::default();
    // Results of integer nodes that the next node, an absorbed one, rounds.
    let mut waiting: HashSet<&str> = HashSet::new();
    for node in &graph.nodes {
        let form = flow.form(node, &found, &waiting);
        found.forms.push(form);
        let output = node.outputs[0].as_str();
        match form {
            NodeForm::Float => {}
            NodeForm::Passing => {
                let values = &node.inputs[..flow.data_inputs(node)];
                found.join(values, output);
            }
            NodeForm::Absorbed => {
                found.add(output, flow.bounds(node), false);
            }
            NodeForm::Integer => {
                for value in &node.inputs[..flow.data_inputs(node)] {
                    if found.index_of(value).is_none() {
                        found.add(value, UNBOUNDED, flow.inputs.contains(value.as_str()));
                    }
                }
                if flow.absorber(node).is_some() {
                    waiting.insert(output);
                } else if !flow.stays_float(node) {
                    found.add(output, UNBOUNDED, false);
                }
            }
        }
    }
    found.without_empty()
}

const UNBOUNDED: (f32, f32) = (f32::NEG_INFINITY, f32::INFINITY);

/// Who reads what, and what is constant.
struct Flow<'a> {
    graph: &'a Graph,
    kept_in_float: &'a BTreeSet<String>,
    readers: HashMap<&'a str, Vec<&'a Node>>,
    inputs: HashSet<&'a str>,
}

impl<'a> Flow<'a> {
    fn new(graph: &'a Graph, kept_in_float: &'a BTreeSet<String>) -> Self {
        let mut readers: HashMap<&str, Vec<&Node>> = HashMap::new();
        for node in &graph.nodes {
            for value in &node.inputs {
                readers.entry(value).or_default().push(node);
            }
        }
        Self {
            graph,
            kept_in_float,
            readers,
            inputs: graph.inputs.iter().map(|(name, _)| name.as_str()).collect(),
        }
    }

    fn form(&self, node: &Node, found: &QuantizationPoints, waiting: &HashSet<&str>) -> NodeForm {
        if self.can_be_integer(node) {
            NodeForm::Integer
        } else if waiting.contains(node.inputs[0].as_str()) {
            NodeForm::Absorbed
        } else if self.can_pass(node) && self.passes(node, found) {
            NodeForm::Passing
        } else {
            NodeForm::Float
        }
    }

    /// How many of a node's inputs are data; the others are constants.
    fn data_inputs(&self, node: &Node) -> usize {
        match node.op.as_str() {
            "Add" => 2,
            "Concat" => node.inputs.len(),
            _ => 1,
        }
    }

    fn is_constant(&self, value: Option<&str>) -> bool {
        value.is_some_and(|name| self.graph.initializers.contains_key(name))
    }

    fn is_kept(&self, node: &Node) -> bool {
        !node.domain.is_empty() || self.kept_in_float.contains(node.label())
    }

    fn can_be_integer(&self, node: &Node) -> bool {
        if self.is_kept(node) {
            return false;
        }
        let is_image = |value: &str| self.graph.shape(value).len() == 4;
        let data = &node.inputs[0];
        let bias_fits = node.input(2).is_none() || self.is_constant(node.input(2));
        match node.op.as_str() {
            "Conv" => is_image(data) && self.is_constant(node.input(1)) && bias_fits,
            "Gemm" => {
                self.is_constant(node.input(1))
                    && bias_fits
                    && node.int("transA").unwrap_or(0) == 0
                    && node.float("alpha").unwrap_or(1.0) == 1.0
                    && node.float("beta").unwrap_or(1.0) == 1.0
            }
            "Add" => {
                let other = &node.inputs[1];
                !self.is_constant(Some(data))
                    && !self.is_constant(Some(other))
                    && self.graph.shape(data) == self.graph.shape(other)
                    && (is_image(data)
                        || self.absorber(node).is_some()
                        || self.feeds_bytes(&node.outputs[0]))
            }
            "GlobalAveragePool" => is_image(data),
            _ => false,
        }
    }

    /// Whether the operator moves or compares bytes without looking at what they mean.
    fn can_pass(&self, node: &Node) -> bool {
        if self.is_kept(node) {
            return false;
        }
        match node.op.as_str() {
            "MaxPool" => node.outputs.len() == 1,
            "Flatten" => true,
            // The engine's tensors of bytes are maps and vectors.
            "Reshape" => matches!(self.graph.shape(&node.outputs[0]).len(), 2 | 4),
            "Concat" => node.int("axis") == Some(1),
            "Resize" => {
                node.text("mode").unwrap_or("nearest") == "nearest"
                    && node.text("coordinate_transformation_mode") == Some("asymmetric")
                    && node.text("nearest_mode") == Some("floor")
            }
            _ => false,
        }
    }

    /// Whether a node that can pass has data on grids that it may join.
    fn passes(&self, node: &Node, found: &QuantizationPoints) -> bool {
        let points: Vec<Option<&Point>> = node.inputs[..self.data_inputs(node)]
            .iter()
            .map(|value| found.point_of(value))
            .collect();
        let Some(Some(first)) = points.first() else {
            return false;
        };
        // A ReLU is absorbed by a range that begins at 0: it must not be widened by one that does not.
        points.len() == 1
            || points.iter().all(|point| {
                point.is_some_and(|point| {
                    !point.is_input
                        && point.lowest == first.lowest
                        && point.highest == first.highest
                })
            })
    }

    /// The node that the range of integer node `node` absorbs.
    fn absorber(&self, node: &Node) -> Option<&'a Node> {
        let output = &node.outputs[0];
        let [next] = self.readers.get(output.as_str())?.as_slice() else {
            return None;
        };
        let fits = match next.op.as_str() {
            "Relu" => true,
            "Clip" => {
                let (low, high) = self.clip_bounds(next)?;
                low <= 0.0 && high > 0.0
            }
            _ => false,
        };
        let absorbed = fits
            && !self.is_kept(next)
            && !self.graph.outputs.contains(output)
            && (node.op != "Gemm" || self.feeds_bytes(&next.outputs[0]));
        absorbed.then_some(*next)
    }

    /// Whether the result of an integer node is not rounded.
    fn stays_float(&self, node: &Node) -> bool {
        node.op == "Gemm" && !self.feeds_bytes(&node.outputs[0])
    }

    /// Whether a node that can work on bytes reads `value`.
    fn feeds_bytes(&self, value: &str) -> bool {
        self.readers.get(value).is_some_and(|readers| {
            readers
                .iter()
                .any(|node| self.can_be_integer(node) || self.can_pass(node))
        })
    }

    fn bounds(&self, node: &Node) -> (f32, f32) {
        match node.op.as_str() {
            "Clip" => self.clip_bounds(node).unwrap_or(UNBOUNDED),
            _ => (0.0, f32::INFINITY),
        }
    }

    /// The constant bounds of a Clip.
    fn clip_bounds(&self, node: &Node) -> Option<(f32, f32)> {
        let bound = |index: usize, default: f32| match node.input(index) {
            None => Some(default),
            Some(name) => self
                .graph
                .initializers
                .get(name)?
                .as_f32()?
                .first()
                .copied(),
        };
        Some((bound(1, f32::NEG_INFINITY)?, bound(2, f32::INFINITY)?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::train::graph::{Attribute, Tensor, TensorType};

    /// A graph of 4-channel images; `steps` are (operator, inputs, output).
    fn graph(steps: &[(&str, &[&str], &str)], outputs: &[&str]) -> Graph {
        let mut graph = Graph::new("points");
        graph
            .input("image", TensorType::f32(&[1, 4, 6, 6]))
            .unwrap();
        graph
            .parameter("w", Tensor::f32(&[4, 4, 1, 1], vec![0.1; 16]))
            .unwrap();
        graph
            .parameter("fc", Tensor::f32(&[4, 4], vec![0.1; 16]))
            .unwrap();
        graph.parameter("six", Tensor::f32(&[], vec![6.0])).unwrap();
        graph
            .parameter("zero", Tensor::f32(&[], vec![0.0]))
            .unwrap();
        for (op, inputs, output) in steps {
            let attributes: Vec<(&str, Attribute)> = match *op {
                "Concat" => vec![("axis", Attribute::Int(1))],
                "MaxPool" => vec![("kernel_shape", Attribute::Ints(vec![2, 2]))],
                _ => Vec::new(),
            };
            graph.apply_named(op, inputs, &attributes, output).unwrap();
        }
        graph.outputs = outputs.iter().map(|&name| name.to_owned()).collect();
        graph
    }

    fn decide(graph: &Graph) -> QuantizationPoints {
        quantization_points(graph, &BTreeSet::new())
    }

    fn members(found: &QuantizationPoints) -> Vec<Vec<&str>> {
        found
            .points
            .iter()
            .map(|point| point.members.iter().map(String::as_str).collect())
            .collect()
    }

    #[test]
    fn a_relu_is_absorbed_and_the_last_gemm_stays_float() {
        let graph = graph(
            &[
                ("Conv", &["image", "w"], "c"),
                ("Relu", &["c"], "r"),
                ("Conv", &["r", "w"], "d"),
                ("Add", &["r", "d"], "a"),
                ("GlobalAveragePool", &["a"], "g"),
                ("Flatten", &["g"], "f"),
                ("Gemm", &["f", "fc"], "y"),
            ],
            &["y"],
        );
        let found = decide(&graph);
        use NodeForm::{Absorbed, Integer, Passing};
        assert_eq!(
            found.forms,
            [
                Integer, Absorbed, Integer, Integer, Integer, Passing, Integer
            ]
        );
        assert_eq!(
            members(&found),
            [vec!["image"], vec!["r"], vec!["d"], vec!["a"], vec!["g"]]
        );
        assert!(found.points[0].is_input && !found.points[1].is_input);
        assert_eq!(found.points[1].lowest, 0.0);
        assert_eq!(found.points[2].lowest, f32::NEG_INFINITY);
        assert_eq!(found.point_of("f").map(Point::name), Some("g"));
        assert_eq!(found.point_of("c"), None);
        assert_eq!(found.point_of("y"), None);
    }

    #[test]
    fn an_addition_of_vectors_that_is_the_answer_stays_float() {
        let sum_of_gemms = |last: &[(&str, &[&str], &str)], output| {
            let steps: &[(&str, &[&str], &str)] = &[
                ("GlobalAveragePool", &["image"], "g"),
                ("Flatten", &["g"], "f"),
                ("Gemm", &["f", "fc"], "guess"),
                ("Gemm", &["guess", "fc"], "correction"),
                ("Add", &["guess", "correction"], "sum"),
            ];
            decide(&graph(&[steps, last].concat(), &[output]))
        };
        let answer = sum_of_gemms(&[], "sum");
        assert_eq!(answer.forms[4], NodeForm::Float);
        assert_eq!(answer.point_of("correction"), None);
        assert_eq!(answer.point_of("sum"), None);
        let read = sum_of_gemms(&[("Gemm", &["sum", "fc"], "y")], "y");
        assert_eq!(read.forms[4], NodeForm::Integer);
        assert!(read.point_of("sum").is_some());
    }

    #[test]
    fn a_value_that_others_read_or_the_caller_sees_is_not_absorbed() {
        for outputs in [&["e", "r"][..], &["r", "c"]] {
            let graph = graph(
                &[
                    ("Conv", &["image", "w"], "c"),
                    ("Relu", &["c"], "r"),
                    ("Conv", &["c", "w"], "e"),
                ],
                outputs,
            );
            let found = decide(&graph);
            assert_eq!(found.forms[1], NodeForm::Float);
            assert!(found.point_of("c").is_some());
        }
    }

    #[test]
    fn a_clip_around_zero_bounds_its_range() {
        let graph = graph(
            &[
                ("Conv", &["image", "w"], "c"),
                ("Clip", &["c", "zero", "six"], "r"),
                ("Conv", &["r", "w"], "d"),
                ("Clip", &["d", "six"], "e"),
            ],
            &["e"],
        );
        let found = decide(&graph);
        assert_eq!(found.forms[1], NodeForm::Absorbed);
        let point = found.point_of("r").unwrap();
        assert_eq!((point.lowest, point.highest), (0.0, 6.0));
        assert_eq!(found.forms[3], NodeForm::Float, "6 is not around 0");
    }

    #[test]
    fn a_concat_joins_grids_of_the_same_bounds_only() {
        let steps: &[(&str, &[&str], &str)] = &[
            ("Conv", &["image", "w"], "a"),
            ("Conv", &["image", "w"], "b"),
            ("MaxPool", &["b"], "m"),
            ("MaxPool", &["a"], "n"),
            ("Concat", &["n", "m"], "j"),
        ];
        let found = decide(&graph(steps, &["j"]));
        assert_eq!(found.forms[4], NodeForm::Passing);
        assert_eq!(members(&found), [vec!["image"], vec!["a", "b"]]);
        for value in ["a", "b", "m", "n", "j"] {
            assert_eq!(found.index_of(value), Some(1), "{value}");
        }

        let mixed: &[(&str, &[&str], &str)] = &[
            ("Conv", &["image", "w"], "a"),
            ("Conv", &["image", "w"], "b"),
            ("Relu", &["b"], "r"),
            ("Concat", &["a", "r"], "j"),
        ];
        let found = decide(&graph(mixed, &["j"]));
        assert_eq!(found.forms[3], NodeForm::Float);
        assert_eq!(found.point_of("j"), None);
    }

    #[test]
    fn a_node_kept_in_float_is_rounded_where_integers_read_it() {
        let graph = graph(
            &[
                ("Conv", &["image", "w"], "c"),
                ("Conv", &["c", "w"], "d"),
                ("Conv", &["d", "w"], "e"),
                ("Conv", &["d", "w"], "f"),
            ],
            &["e", "f"],
        );
        let kept = BTreeSet::from(["d".to_owned(), "f".to_owned()]);
        let found = quantization_points(&graph, &kept);
        use NodeForm::{Float, Integer};
        assert_eq!(found.forms, [Integer, Float, Integer, Float]);
        assert_eq!(
            members(&found),
            [vec!["image"], vec!["c"], vec!["d"], vec!["e"]]
        );
    }
}
