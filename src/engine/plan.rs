//! An ONNX file on its way into a tract plan, with errors that name file, operator and node. What it means is the
//! callers' business.

use super::{
    EngineOptions,
    qops::{MICROSOFT, RegionOp, RegionState, is_known},
    translate::{Translation, translate},
};
use crate::{crop::Normalization, model::ModelError};
use std::{
    collections::{BTreeMap, HashMap, HashSet},
    panic::{AssertUnwindSafe, catch_unwind},
    path::{Path, PathBuf},
    sync::Arc,
    time::Instant,
};
use tract_core::internal::{
    DatumType, Framework, TValue, Tensor, TractResult, TypedModel, TypedNode, TypedSimplePlan,
    TypedSimpleState,
};
use tract_core::ops::source::TypedSource;
use tract_onnx::{
    model::ParsingContext,
    pb::{
        GraphProto, ModelProto, NodeProto, tensor_shape_proto::dimension::Value as Edge,
        type_proto::Value as TypeValue,
    },
    prelude::InferenceModel,
};

/// An ONNX file that has been decoded and whose graph holds together.
pub(super) struct OnnxFile {
    pub(super) path: PathBuf,
    pub(super) proto: ModelProto,
}

impl OnnxFile {
    /// Reads and decodes `path`.
    pub(super) fn read(path: &Path) -> Result<Self, ModelError> {
        let bytes = std::fs::read(path).map_err(|source| ModelError::Read {
            path: path.to_owned(),
            source,
        })?;
        Self::decode(&bytes, path)
    }

    /// Decodes the bytes of an ONNX file; errors call it `path`.
    pub(super) fn decode(bytes: &[u8], path: &Path) -> Result<Self, ModelError> {
        let not_onnx = |reason: &str| ModelError::NotOnnx {
            path: path.to_owned(),
            reason: reason.to_owned(),
        };
        if bytes.is_empty() {
            return Err(not_onnx("the file is empty"));
        }
        let proto = tract_onnx::onnx()
            .proto_model_for_read(&mut &*bytes)
            .map_err(|_| not_onnx("the bytes do not decode; is the file cut off?"))?;
        if proto.ir_version <= 0 {
            return Err(not_onnx("there is no IR version"));
        }
        if proto.graph.is_none() {
            return Err(not_onnx("there is no graph"));
        }
        let file = Self {
            path: path.to_owned(),
            proto,
        };
        file.check_values()?;
        Ok(file)
    }

    /// Its `metadata_props`.
    pub(super) fn metadata(&self) -> BTreeMap<String, String> {
        let entries = self.proto.metadata_props.iter();
        entries
            .map(|entry| (entry.key.clone(), entry.value.clone()))
            .collect()
    }

    pub(super) fn graph(&self) -> &GraphProto {
        self.proto
            .graph
            .as_ref()
            .expect("checked when the file was decoded")
    }

    /// The same file with another graph.
    pub(super) fn with_graph(&self, graph: GraphProto) -> Self {
        let proto = ModelProto {
            ir_version: self.proto.ir_version,
            opset_import: self.proto.opset_import.clone(),
            graph: Some(graph),
            ..ModelProto::default()
        };
        Self {
            path: self.path.clone(),
            proto,
        }
    }

    /// The same file stating inputs of another size: for images, `[batch, channels, height, width]`. What it stated of
    /// later values goes, since it followed from the size.
    pub(super) fn with_image_size(&self, width: usize, height: usize) -> Self {
        let mut graph = self.graph().clone();
        graph.value_info.clear();
        for input in &mut graph.input {
            if let Some(TypeValue::TensorType(tensor)) =
                input.r#type.as_mut().and_then(|of| of.value.as_mut())
                && let Some(shape) = &mut tensor.shape
                && let [_, _, rows, columns] = shape.dim.as_mut_slice()
            {
                rows.value = Some(Edge::DimValue(height as i64));
                columns.value = Some(Edge::DimValue(width as i64));
            }
        }
        for output in &mut graph.output {
            if let Some(TypeValue::TensorType(tensor)) =
                output.r#type.as_mut().and_then(|of| of.value.as_mut())
            {
                tensor.shape = None;
            }
        }
        self.with_graph(graph)
    }

    pub(super) fn nodes(&self) -> &[NodeProto] {
        &self.graph().node
    }

    pub(super) fn output_names(&self) -> Vec<String> {
        let outputs = self.proto.graph.iter().flat_map(|graph| &graph.output);
        outputs.map(|output| output.name.clone()).collect()
    }

    /// The inputs that are not weights.
    pub(super) fn input_names(&self) -> Vec<String> {
        let Some(graph) = &self.proto.graph else {
            return Vec::new();
        };
        let weights: HashSet<&str> = graph.initializer.iter().map(|i| i.name.as_str()).collect();
        let inputs = graph.input.iter().map(|input| input.name.clone());
        inputs
            .filter(|name| !weights.contains(name.as_str()))
            .collect()
    }

    /// Number of trained values: the elements of the float weights.
    pub(super) fn parameter_count(&self) -> usize {
        let weights = self.proto.graph.iter().flat_map(|graph| &graph.initializer);
        // ONNX data types 1 (float32), 2 and 3 (bytes), 10 (float16), 11 (float64); the rest are shapes and axes.
        weights
            .filter(|tensor| matches!(tensor.data_type, 1..=3 | 10 | 11))
            .map(|tensor| {
                tensor
                    .dims
                    .iter()
                    .map(|&d| d.max(0) as usize)
                    .product::<usize>()
            })
            .sum()
    }

    /// Every value that is read is written before, as ONNX demands: tract panics otherwise.
    fn check_values(&self) -> Result<(), ModelError> {
        let Some(graph) = &self.proto.graph else {
            return Ok(());
        };
        let undefined = |reader: &str, value: &str| ModelError::NotOnnx {
            path: self.path.clone(),
            reason: format!("{reader} reads {value:?}, which nothing before it writes"),
        };
        let mut known: HashSet<&str> = graph
            .input
            .iter()
            .map(|input| input.name.as_str())
            .chain(graph.initializer.iter().map(|weight| weight.name.as_str()))
            .collect();
        for node in &graph.node {
            for input in node.input.iter().filter(|name| !name.is_empty()) {
                if !known.contains(input.as_str()) {
                    return Err(undefined(&format!("node {:?}", node_name(node)), input));
                }
            }
            for output in node.output.iter().filter(|name| !name.is_empty()) {
                if !known.insert(output) {
                    return Err(ModelError::NotOnnx {
                        path: self.path.clone(),
                        reason: format!("{output:?} is written twice"),
                    });
                }
            }
        }
        for output in &graph.output {
            if !known.contains(output.name.as_str()) {
                return Err(undefined("the graph's output list", &output.name));
            }
        }
        Ok(())
    }

    /// Translates the graph for tract and optimises it. With the `normalization` of its image, a graph that quantises the
    /// image just so takes a crop's bytes instead.
    pub(super) fn plan(
        &self,
        options: &EngineOptions,
        normalization: Option<Normalization>,
    ) -> Result<Plan, ModelError> {
        self.check_operators()?;
        // Files from elsewhere reach corners of tract that assert instead of returning an error.
        let prepare = AssertUnwindSafe(|| self.prepare(options, normalization));
        catch_unwind(prepare).unwrap_or_else(|panic| {
            let reason = panic
                .downcast_ref::<String>()
                .cloned()
                .or_else(|| panic.downcast_ref::<&str>().map(|&text| text.to_owned()))
                .unwrap_or_default();
            Err(self.refused(format!("the engine gave up: {reason}")))
        })
    }

    fn prepare(
        &self,
        options: &EngineOptions,
        normalization: Option<Normalization>,
    ) -> Result<Plan, ModelError> {
        let Translation { model, byte_image } = translate(self, options, normalization)?;
        let takes_bytes = byte_image.is_some();
        let inputs = match byte_image {
            Some(image) => vec![image],
            None => self.ports(&model, &model.inputs, &self.input_names())?,
        };
        let outputs = self.ports(&model, &model.outputs, &self.output_names())?;
        let prepare = |error: tract_core::internal::TractError| self.refused(format!("{error:#}"));
        let plan = TypedSimplePlan::new(model).map_err(prepare)?;
        let state = plan.spawn().map_err(prepare)?;
        Ok(Plan {
            plan,
            state,
            inputs,
            outputs,
            takes_bytes,
        })
    }

    pub(super) fn refused(&self, reason: String) -> ModelError {
        ModelError::Prepare {
            path: self.path.clone(),
            reason,
        }
    }

    fn unsupported(&self, node: &NodeProto, reason: String) -> ModelError {
        ModelError::UnsupportedOperator {
            path: self.path.clone(),
            operator: if is_standard(&node.domain) {
                node.op_type.clone()
            } else {
                format!("{}.{}", node.domain, node.op_type)
            },
            node: node_name(node).to_owned(),
            reason,
        }
    }

    fn check_operators(&self) -> Result<(), ModelError> {
        let register = tract_onnx::onnx().op_register;
        for node in self.nodes() {
            let known = if is_standard(&node.domain) {
                is_known("", &node.op_type) || register.0.contains_key(&node.op_type)
            } else {
                node.domain == MICROSOFT && is_known(MICROSOFT, &node.op_type)
            };
            if !known {
                return Err(self.unsupported(node, "the engine has no such operator".to_owned()));
            }
        }
        Ok(())
    }

    pub(super) fn parse(&self) -> Result<InferenceModel, ModelError> {
        let framework = tract_onnx::onnx();
        framework
            .model_for_proto_model(&self.proto)
            .map_err(|error| match self.node_that_fails(&framework) {
                Some((node, reason)) => self.unsupported(node, reason),
                None => self.refused(format!("{error:#}")),
            })
    }

    /// tract's own error does not tell apart which node it is about, so each is translated alone.
    fn node_that_fails(&self, framework: &tract_onnx::Onnx) -> Option<(&NodeProto, String)> {
        let opset = self.proto.opset_import.iter();
        let context = ParsingContext {
            onnx_operator_set_version: opset
                .filter(|import| is_standard(&import.domain))
                .map(|import| import.version)
                .next()
                .unwrap_or(0),
            framework,
            model: &self.proto,
            parent_graphs: self.proto.graph.iter().collect(),
            model_dir: None,
            template: InferenceModel::default(),
        };
        self.nodes().iter().find_map(|node| {
            let build = framework.op_register.0.get(&node.op_type)?;
            let error = build(&context, node).err()?;
            Some((node, format!("{error:#}")))
        })
    }

    fn ports(
        &self,
        model: &TypedModel,
        outlets: &[tract_core::internal::OutletId],
        names: &[String],
    ) -> Result<Vec<PlanPort>, ModelError> {
        if outlets.len() != names.len() {
            return Err(self.refused(format!(
                "expected {} inputs or outputs, found {}",
                names.len(),
                outlets.len()
            )));
        }
        let port = |(outlet, name): (&tract_core::internal::OutletId, &String)| {
            let fact = model
                .outlet_fact(*outlet)
                .map_err(|error| self.refused(format!("{error:#}")))?;
            let shape = fact
                .shape
                .as_concrete()
                .ok_or_else(|| ModelError::Interface {
                    path: self.path.clone(),
                    what: format!("shape of {name:?}"),
                    expected: "fixed sizes".to_owned(),
                    found: format!("{:?}", fact.shape),
                })?;
            Ok(PlanPort {
                name: name.clone(),
                shape: shape.to_vec(),
                element: fact.datum_type,
            })
        };
        outlets.iter().zip(names).map(port).collect()
    }
}

fn is_standard(domain: &str) -> bool {
    domain.is_empty() || domain == "ai.onnx"
}

/// The node's name; a nameless node goes by its first output.
pub(super) fn node_name(node: &NodeProto) -> &str {
    if node.name.is_empty() {
        node.output.first().map_or("", String::as_str)
    } else {
        &node.name
    }
}

/// An input or output of a plan.
#[derive(Clone, Debug)]
pub(super) struct PlanPort {
    pub(super) name: String,
    pub(super) shape: Vec<usize>,
    pub(super) element: DatumType,
}

/// A graph that is ready to run, with its state.
pub(super) struct Plan {
    pub(super) plan: Arc<TypedSimplePlan>,
    state: TypedSimpleState,
    /// The inputs as the file states them.
    pub(super) inputs: Vec<PlanPort>,
    pub(super) outputs: Vec<PlanPort>,
    /// Whether the one input comes as a crop's bytes `[1, height, width, channels]`.
    pub(super) takes_bytes: bool,
}

impl Plan {
    /// Runs on `inputs`, one a port; `visit` sees each output with its port.
    pub(super) fn run(
        &mut self,
        inputs: impl IntoIterator<Item = Arc<Tensor>>,
        mut visit: impl FnMut(&PlanPort, &Tensor) -> TractResult<()>,
    ) -> TractResult<()> {
        let values = inputs.into_iter().map(TValue::from_const).collect();
        let results = match self.state.run(values) {
            Ok(results) => results,
            Err(error) => {
                // A run that failed half-way leaves values behind that the next run would trip over.
                self.state.reset_turn()?;
                return Err(error);
            }
        };
        for (port, value) in self.outputs.iter().zip(&results) {
            visit(port, value)?;
        }
        Ok(())
    }

    /// Runs on `inputs` and gives the seconds of each node in the order they run; an int8 region gives those of its steps.
    pub(super) fn time_nodes(
        &mut self,
        inputs: impl IntoIterator<Item = Arc<Tensor>>,
    ) -> TractResult<Vec<f64>> {
        for &index in self.plan.order_without_consts() {
            if let (Some(operator), Some(state)) = (
                self.plan.model().node(index).op_as::<RegionOp>(),
                &mut self.state.op_states[index],
            ) && let Some(state) = state.downcast_mut::<RegionState>()
            {
                state.start_timing(operator.program().steps().len());
            }
        }
        let values = inputs.into_iter().map(TValue::from_const).collect();
        let mut secs = Vec::new();
        self.state
            .run_plan_with_eval(values, |context, mut state, node, inputs| {
                let start = Instant::now();
                let outputs = match &mut state {
                    Some(state) => state.eval(context, node.op.as_op(), inputs),
                    None => node.op.eval(context, inputs),
                };
                let elapsed_secs = start.elapsed().as_secs_f64();
                match state.and_then(|state| state.downcast_mut::<RegionState>()) {
                    Some(region) => secs.extend_from_slice(&region.take_timing()),
                    None if node.op_is::<TypedSource>() => {}
                    None => secs.push(elapsed_secs),
                }
                outputs
            })?;
        Ok(secs)
    }

    /// Nodes of the optimised graph that do something, in the order they run.
    pub(super) fn order(&self) -> impl Iterator<Item = &TypedNode> {
        let nodes = self.plan.order_without_consts().iter();
        nodes
            .map(|&index| self.plan.model().node(index))
            .filter(|node| !node.op_is::<TypedSource>())
    }
}

/// How many ONNX nodes a file has of each operator.
pub(super) fn operator_counts(file: &OnnxFile) -> HashMap<String, usize> {
    let mut counts = HashMap::new();
    for node in file.nodes() {
        *counts.entry(node.op_type.clone()).or_default() += 1;
    }
    counts
}
