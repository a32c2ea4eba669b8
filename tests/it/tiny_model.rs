//! Models of a few hundred bytes, written by hand: they answer the same whatever they see. They stand in for trained
//! ones where a test is about files and commands.

use facemark::{
    crop::{Color, CropRule, Normalization},
    engine::Engine,
    model::{Infer, ModelCard, Outputs, Task},
    onnx::{
        AttributeProto, DimensionProto, GraphProto, ModelProto, NodeProto, OperatorSetIdProto,
        TensorProto, TensorShapeProto, TensorTypeProto, TypeProto, ValueInfoProto, attribute_type,
        data_type, entries_from_map,
    },
    scheme::Scheme,
};
use prost::Message;

/// Side of the landmark model's input and both sides of the detector's, in pixels.
const SIDE: usize = 32;
const STRIDE: usize = 16;

/// A landmark model in the ibug68 scheme that puts every landmark on a circle and is sure that it sees a face.
pub(crate) fn landmarks() -> Vec<u8> {
    let card = card(
        "tiny-landmarks",
        Task::Landmarks {
            scheme: Scheme::Ibug68,
            crop: CropRule::AroundFace { margin: 1.3 },
        },
    );
    let points = 2 * 68;
    let circle = (0..68).flat_map(|index| {
        let angle = index as f32 * std::f32::consts::TAU / 68.0;
        [0.3 * angle.cos(), 0.3 * angle.sin()]
    });
    let graph = GraphProto {
        name: Some("tiny".to_owned()),
        node: vec![
            node("GlobalAveragePool", &["image"], "mean", vec![]),
            node("Flatten", &["mean"], "features", vec![]),
            node("Gemm", &["features", "w", "b"], "landmarks", vec![]),
            node("Gemm", &["features", "pw", "pb"], "presence", vec![]),
        ],
        initializer: vec![
            tensor("w", &[3, points], vec![0.0; 3 * points]),
            tensor("b", &[points], circle.collect()),
            tensor("pw", &[3, 1], vec![0.0; 3]),
            tensor("pb", &[1], vec![4.0]),
        ],
        input: vec![value("image", &[1, 3, SIDE, SIDE])],
        output: vec![value("landmarks", &[1, points]), value("presence", &[1, 1])],
        ..GraphProto::default()
    };
    encode(graph, &card)
}

/// A detector with one head that finds a face in every cell and gives it the cell's middle and the input's size.
pub(crate) fn detector() -> Vec<u8> {
    let task = Task::FaceDetection {
        strides: vec![STRIDE],
    };
    let card = card("tiny-detector", task);
    let cells = SIDE / STRIDE;
    let window = |channels: usize| vec![0.0; channels * 3 * STRIDE * STRIDE];
    let size = ((SIDE / STRIDE) as f32).ln();
    let conv = |inputs: &[&str], output: &str| {
        let side = STRIDE as i64;
        let attributes = vec![
            ints("kernel_shape", &[side, side]),
            ints("strides", &[side, side]),
        ];
        node("Conv", inputs, output, attributes)
    };
    let graph = GraphProto {
        name: Some("tiny".to_owned()),
        node: vec![
            conv(&["image", "sw", "sb"], "score_16"),
            conv(&["image", "bw", "bb"], "box_16"),
        ],
        initializer: vec![
            tensor("sw", &[1, 3, STRIDE, STRIDE], window(1)),
            tensor("sb", &[1], vec![4.0]),
            tensor("bw", &[4, 3, STRIDE, STRIDE], window(4)),
            tensor("bb", &[4], vec![0.0, 0.0, size, size]),
        ],
        input: vec![value("image", &[1, 3, SIDE, SIDE])],
        output: vec![
            value("score_16", &[1, 1, cells, cells]),
            value("box_16", &[1, 4, cells, cells]),
        ],
        ..GraphProto::default()
    };
    encode(graph, &card)
}

/// `model` with its metadata changed.
pub(crate) fn with_metadata(
    model: &[u8],
    change: impl FnOnce(&mut std::collections::BTreeMap<String, String>),
) -> Vec<u8> {
    let mut model = ModelProto::decode(model).expect("a model");
    let mut metadata = facemark::onnx::entries_to_map(&model.metadata_props);
    change(&mut metadata);
    model.metadata_props = entries_from_map(&metadata);
    model.encode_to_vec()
}

/// `model` with the operator of its last node changed to one that does not exist.
pub(crate) fn with_unknown_operator(model: &[u8]) -> Vec<u8> {
    let mut model = ModelProto::decode(model).expect("a model");
    let graph = model.graph.as_mut().expect("a graph");
    let node = graph.node.last_mut().expect("a node");
    node.op_type = Some("Frobnicate".to_owned());
    model.encode_to_vec()
}

fn card(name: &str, task: Task) -> ModelCard {
    ModelCard {
        name: name.to_owned(),
        task,
        input_width: SIDE,
        input_height: SIDE,
        color: Color::Rgb,
        normalization: Normalization::SYMMETRIC,
        training_data: "none: written by hand for a test".to_owned(),
    }
}

fn encode(graph: GraphProto, card: &ModelCard) -> Vec<u8> {
    ModelProto {
        ir_version: Some(9),
        graph: Some(graph),
        opset_import: vec![OperatorSetIdProto {
            domain: Some(String::new()),
            version: Some(18),
        }],
        metadata_props: entries_from_map(&card.to_metadata()),
        ..ModelProto::default()
    }
    .encode_to_vec()
}

fn node(op: &str, inputs: &[&str], output: &str, attribute: Vec<AttributeProto>) -> NodeProto {
    NodeProto {
        input: inputs.iter().map(|&name| name.to_owned()).collect(),
        output: vec![output.to_owned()],
        name: Some(format!("make_{output}")),
        op_type: Some(op.to_owned()),
        attribute,
        ..NodeProto::default()
    }
}

fn ints(name: &str, values: &[i64]) -> AttributeProto {
    AttributeProto {
        name: Some(name.to_owned()),
        ints: values.to_vec(),
        r#type: Some(attribute_type::INTS),
        ..AttributeProto::default()
    }
}

fn tensor(name: &str, shape: &[usize], values: Vec<f32>) -> TensorProto {
    assert_eq!(shape.iter().product::<usize>(), values.len(), "{name}");
    TensorProto {
        dims: shape.iter().map(|&axis| axis as i64).collect(),
        data_type: Some(data_type::FLOAT),
        raw_data: Some(
            values
                .iter()
                .flat_map(|value| value.to_le_bytes())
                .collect(),
        ),
        name: Some(name.to_owned()),
        ..TensorProto::default()
    }
}

fn value(name: &str, shape: &[usize]) -> ValueInfoProto {
    let dim = |&axis: &usize| DimensionProto {
        dim_value: Some(axis as i64),
        dim_param: None,
    };
    ValueInfoProto {
        name: Some(name.to_owned()),
        r#type: Some(TypeProto {
            tensor_type: Some(TensorTypeProto {
                elem_type: Some(data_type::FLOAT),
                shape: Some(TensorShapeProto {
                    dim: shape.iter().map(dim).collect(),
                }),
            }),
        }),
    }
}

#[test]
fn both_run_in_the_engine_and_answer_what_they_say() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let run = |name: &str, model: Vec<u8>, output: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, model).expect("written");
        let mut engine = Engine::load(&path).expect("loads");
        let mut outputs = Outputs::default();
        let crop = engine.card().new_crop();
        engine.infer(&crop, &mut outputs).expect("runs");
        outputs.get(output).expect("an output").values.clone()
    };
    let points = run("l.onnx", landmarks(), "landmarks");
    assert_eq!(points.len(), 136);
    assert!((points[0] - 0.3).abs() < 1e-6 && points[1].abs() < 1e-6);
    assert_eq!(run("d.onnx", detector(), "score_16"), [4.0; 4]);
}
