//! From a file's graph to tract's typed model: float nodes by tract's own translation, int8 regions by [`super::qops`].

use super::{
    EngineOptions,
    float_ops::replace_depthwise,
    plan::{OnnxFile, PlanPort},
    qops::{Cut, Element, NodeError, Operator, Region, RegionExpansion, RegionOp, Shape},
};
use crate::{crop::Normalization, model::ModelError};
use std::{collections::HashSet, sync::Arc};
use tract_core::internal::{Datum, DatumExt, SpecialOps, TractError, TypedFact, TypedModel};
use tract_onnx::{
    pb::{
        GraphProto, NodeProto, TensorShapeProto,
        tensor_proto::DataType,
        tensor_shape_proto::{Dimension, dimension::Value as Edge},
        type_proto::Value as TypeValue,
    },
    prelude::InferenceModelExt,
    tract_hir::ops::expandable::expand,
};

/// A model that tract can plan.
pub(super) struct Translation {
    pub(super) model: TypedModel,
    /// The file's inputs as it states them, when the model's differ: its image comes as a crop's bytes.
    pub(super) byte_image: Option<PlanPort>,
}

/// Translates `file`. With the `normalization` of the image, an image that is quantised just so comes as bytes
/// `[1, height, width, channels]`.
pub(super) fn translate(
    file: &OnnxFile,
    options: &EngineOptions,
    normalization: Option<Normalization>,
) -> Result<Translation, ModelError> {
    let graph = file.graph();
    let cut = Cut::of(graph).map_err(|error| error.in_file(&file.path))?;
    let image = normalization.and_then(|of| quantized_image(graph, &cut, of));
    match (&cut.regions[..], &cut.others[..]) {
        ([], _) => Ok(Translation {
            model: optimized(file, file.parse()?)?,
            byte_image: None,
        }),
        ([region], []) if is_whole(region, graph) => whole(file, region, image, options),
        _ => mixed(file, &cut, image, options),
    }
}

/// The input of a graph that comes as bytes.
struct Image<'a> {
    name: &'a str,
    region: usize,
}

/// The graph's only input, when nothing but quantisation with `normalization` reads it.
fn quantized_image<'a>(
    graph: &'a GraphProto,
    cut: &Cut,
    normalization: Normalization,
) -> Option<Image<'a>> {
    let name = match &*inputs(graph) {
        [only] => *only,
        _ => return None,
    };
    let read_elsewhere = cut
        .others
        .iter()
        .flat_map(|&node| &graph.node[node].input)
        .chain(graph.output.iter().map(|output| &output.name))
        .any(|read| read == name);
    let mut regions = (0..cut.regions.len())
        .filter(|&region| cut.regions[region].inputs.iter().any(|input| input == name));
    let (region, None) = (regions.next()?, regions.next()) else {
        return None;
    };
    let Region { inputs, nodes, .. } = &cut.regions[region];
    let number = inputs.iter().position(|input| input == name)?;
    let mut readers = nodes.iter().filter(|node| node.inputs.contains(&number));
    let same = readers.all(|node| match node.operator {
        Operator::Quantize(found) => {
            found.scale == normalization.scale && found.zero == normalization.zero_point
        }
        _ => false,
    });
    (same && !read_elsewhere).then_some(Image { name, region })
}

/// Names of the inputs that are not weights.
fn inputs(graph: &GraphProto) -> Vec<&str> {
    let weights: HashSet<&str> = graph.initializer.iter().map(|i| i.name.as_str()).collect();
    let names = graph.input.iter().map(|input| input.name.as_str());
    names.filter(|name| !weights.contains(name)).collect()
}

/// Whether the region's inputs and outputs are the graph's.
fn is_whole(region: &Region, graph: &GraphProto) -> bool {
    let region_inputs: Vec<&str> = region.inputs.iter().map(String::as_str).collect();
    let written = |name: &String| region.outputs.contains(name);
    region_inputs == inputs(graph) && graph.output.iter().all(|output| written(&output.name))
}

/// A graph that is one region: tract's translation, inference and optimisation would find nothing to do.
fn whole(
    file: &OnnxFile,
    region: &Region,
    image: Option<Image<'_>>,
    options: &EngineOptions,
) -> Result<Translation, ModelError> {
    let mut model = TypedModel::default();
    let mut shapes = Vec::new();
    let mut sources = Vec::new();
    let mut byte_image = None;
    let prepare = |error: TractError| file.refused(format!("{error:#}"));
    for (name, &element) in region.inputs.iter().zip(&region.input_elements) {
        let edges = stated_shape(file, name)?;
        let shape = Shape::from_edges(&edges);
        let shape = shape.map_err(|reason| region.error(0, reason).in_file(&file.path))?;
        let fact: TypedFact = match (&image, element) {
            (Some(_), _) => {
                let (height, width, channels) = shape.pixels();
                byte_image = Some(f32_port(name, &edges));
                u8::fact([1, height, width, channels])
            }
            (None, Element::U8) => u8::fact(&edges),
            (None, Element::F32) => f32::fact(&edges),
        };
        sources.push(model.add_source(name, fact).map_err(prepare)?);
        shapes.push(shape);
    }
    let operator = RegionOp::new(region, &shapes, image.map(|_| 0), options)
        .map_err(|error| error.in_file(&file.path))?;
    let written = model
        .wire_node("int8", operator, &sources)
        .map_err(prepare)?;
    let graph = file.graph();
    let outputs: Vec<_> = graph
        .output
        .iter()
        .filter_map(|output| region.outputs.iter().position(|name| *name == output.name))
        .map(|position| written[position])
        .collect();
    model.select_output_outlets(&outputs).map_err(prepare)?;
    Ok(Translation { model, byte_image })
}

fn f32_port(name: &str, shape: &[usize]) -> PlanPort {
    PlanPort {
        name: name.to_owned(),
        shape: shape.to_vec(),
        element: f32::datum_type(),
    }
}

/// The fixed shape that the file states for an input.
fn stated_shape(file: &OnnxFile, name: &str) -> Result<Vec<usize>, ModelError> {
    let graph = file.graph();
    let input = graph.input.iter().find(|input| input.name == name);
    let Some(TypeValue::TensorType(tensor)) =
        input.and_then(|input| input.r#type.as_ref()?.value.as_ref())
    else {
        return Err(file.refused(format!("input {name:?} has no type")));
    };
    let edges = tensor.shape.iter().flat_map(|shape| &shape.dim);
    let sizes: Option<Vec<usize>> = edges
        .clone()
        .map(|edge| match edge.value {
            Some(Edge::DimValue(size)) => usize::try_from(size).ok(),
            _ => None,
        })
        .collect();
    sizes.ok_or_else(|| {
        let found = edges.map(|edge| match &edge.value {
            Some(Edge::DimValue(size)) => size.to_string(),
            Some(Edge::DimParam(name)) => name.clone(),
            None => "?".to_owned(),
        });
        ModelError::Interface {
            path: file.path.clone(),
            what: format!("shape of {name:?}"),
            expected: "fixed sizes".to_owned(),
            found: found.collect::<Vec<_>>().join(","),
        }
    })
}

/// A graph with regions and float nodes: each region stands as one node while tract infers the shapes.
fn mixed(
    file: &OnnxFile,
    cut: &Cut,
    image: Option<Image<'_>>,
    options: &EngineOptions,
) -> Result<Translation, ModelError> {
    let mut graph = without_regions(file.graph(), cut);
    let byte_image = match &image {
        Some(image) => {
            let edges = stated_shape(file, image.name)?;
            let [batch, channels, height, width] = *edges else {
                return Err(file.refused(format!("input {:?} has shape {edges:?}", image.name)));
            };
            state_bytes(&mut graph, image.name, [batch, height, width, channels]);
            Some(f32_port(image.name, &edges))
        }
        None => None,
    };
    let mut model = file.with_graph(graph).parse()?;
    for node in model.nodes_mut() {
        let name = node.op.name().into_owned();
        let Some(index) = placeholder_index(&name) else {
            continue;
        };
        let region = cut.regions[index].clone();
        let of_region = image.as_ref().filter(|image| image.region == index);
        let number = of_region.and_then(|image| {
            let mut inputs = region.inputs.iter();
            inputs.position(|input| input == image.name)
        });
        node.op = expand(RegionExpansion {
            region: Arc::new(region),
            image: number,
            options: options.clone(),
        });
    }
    Ok(Translation {
        model: optimized(file, model)?,
        byte_image,
    })
}

/// tract knows no such operator and keeps its node as it is.
const PLACEHOLDER: &str = "facemark.Int8Region.";

fn placeholder_index(operator: &str) -> Option<usize> {
    let (_, rest) = operator.split_once(PLACEHOLDER)?;
    rest.trim_end_matches(')').parse().ok()
}

/// The graph with a node for each region, without the constants that only regions read.
fn without_regions(graph: &GraphProto, cut: &Cut) -> GraphProto {
    let regions = cut
        .regions
        .iter()
        .enumerate()
        .map(|(index, region)| NodeProto {
            name: format!("int8 region {index}"),
            op_type: format!("{PLACEHOLDER}{index}"),
            input: region.inputs.clone(),
            output: region.outputs.clone(),
            ..NodeProto::default()
        });
    let others = cut.others.iter().map(|&index| graph.node[index].clone());
    let node: Vec<NodeProto> = regions.chain(others).collect();
    let read: HashSet<&str> = node
        .iter()
        .flat_map(|node| node.input.iter().map(String::as_str))
        .chain(graph.output.iter().map(|output| output.name.as_str()))
        .collect();
    let weights = graph.initializer.iter();
    GraphProto {
        initializer: weights
            .filter(|weight| read.contains(weight.name.as_str()))
            .cloned()
            .collect(),
        name: graph.name.clone(),
        input: graph.input.clone(),
        output: graph.output.clone(),
        node,
        ..GraphProto::default()
    }
}

/// States that input `name` is of bytes of this shape.
fn state_bytes(graph: &mut GraphProto, name: &str, shape: [usize; 4]) {
    for input in graph.input.iter_mut().filter(|input| input.name == name) {
        if let Some(TypeValue::TensorType(tensor)) =
            input.r#type.as_mut().and_then(|of| of.value.as_mut())
        {
            tensor.elem_type = DataType::Uint8 as i32;
            let dim = shape.map(|edge| Dimension {
                value: Some(Edge::DimValue(edge as i64)),
                ..Dimension::default()
            });
            tensor.shape = Some(TensorShapeProto { dim: dim.to_vec() });
        }
    }
}

fn optimized(
    file: &OnnxFile,
    model: tract_onnx::prelude::InferenceModel,
) -> Result<TypedModel, ModelError> {
    let prepare = |error: TractError| {
        let broken = error
            .chain()
            .find_map(|cause| cause.downcast_ref::<NodeError>());
        match broken {
            Some(broken) => broken.clone().in_file(&file.path),
            None => file.refused(format!("{error:#}")),
        }
    };
    let mut typed = model
        .into_typed()
        .and_then(TypedModel::into_decluttered)
        .map_err(prepare)?;
    replace_depthwise(&mut typed).map_err(prepare)?;
    typed.into_optimized().map_err(prepare)
}
