//! The engine on small files whose results can be computed by hand, and on damaged ones.

use super::{Engine, EngineOptions, Inspection, RawModel, RawTensor};
use crate::{
    crop::{Color, CropRule, Normalization},
    model::{Infer, InferError, ModelCard, ModelError, Outputs, Task},
    onnx::{
        AttributeProto, DimensionProto, GraphProto, ModelProto, NodeProto, OperatorSetIdProto,
        TensorProto, TensorShapeProto, TensorTypeProto, TypeProto, ValueInfoProto, attribute_type,
        data_type, entries_from_map,
    },
    scheme::Scheme,
};
use prost::Message;
use std::path::{Path, PathBuf};

fn value(name: &str, shape: &[i64]) -> ValueInfoProto {
    let dim = |&size: &i64| DimensionProto {
        dim_value: (size >= 0).then_some(size),
        dim_param: (size < 0).then(|| "n".to_owned()),
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

fn weight(name: &str, shape: &[i64], values: &[f32]) -> TensorProto {
    TensorProto {
        dims: shape.to_vec(),
        data_type: Some(data_type::FLOAT),
        name: Some(name.to_owned()),
        raw_data: Some(
            values
                .iter()
                .flat_map(|value| value.to_le_bytes())
                .collect(),
        ),
        ..TensorProto::default()
    }
}

fn node(operator: &str, inputs: &[&str], output: &str) -> NodeProto {
    NodeProto {
        input: inputs.iter().map(|&name| name.to_owned()).collect(),
        output: vec![output.to_owned()],
        name: Some(format!("{operator}_{output}")),
        op_type: Some(operator.to_owned()),
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

fn card(scheme: Scheme) -> ModelCard {
    ModelCard {
        name: "tiny".to_owned(),
        task: Task::Landmarks {
            scheme,
            crop: CropRule::AroundFace { margin: 1.3 },
        },
        input_width: 8,
        input_height: 6,
        color: Color::Rgb,
        normalization: Normalization::SYMMETRIC,
        training_data: "none: weights set by hand".to_owned(),
    }
}

/// Mean of each colour (by a 1x1 convolution to planes red, green, blue, then global average) times a matrix:
/// landmarks = (red, green), presence = 2 blue + 0.5.
fn tiny() -> ModelProto {
    let identity = [1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0];
    let graph = GraphProto {
        name: Some("tiny".to_owned()),
        input: vec![value("image", &[1, 3, 6, 8])],
        output: vec![value("landmarks", &[1, 2]), value("presence", &[1, 1])],
        initializer: vec![
            weight("conv.weight", &[3, 3, 1, 1], &identity),
            weight("point.weight", &[3, 2], &[1.0, 0.0, 0.0, 1.0, 0.0, 0.0]),
            weight("presence.weight", &[3, 1], &[0.0, 0.0, 2.0]),
            weight("presence.bias", &[1], &[0.5]),
        ],
        node: vec![
            NodeProto {
                attribute: vec![ints("kernel_shape", &[1, 1])],
                ..node("Conv", &["image", "conv.weight"], "planes")
            },
            node("GlobalAveragePool", &["planes"], "pooled"),
            node("Flatten", &["pooled"], "features"),
            node("MatMul", &["features", "point.weight"], "landmarks"),
            node(
                "Gemm",
                &["features", "presence.weight", "presence.bias"],
                "presence",
            ),
        ],
        ..GraphProto::default()
    };
    ModelProto {
        ir_version: Some(9),
        opset_import: vec![OperatorSetIdProto {
            domain: None,
            version: Some(18),
        }],
        graph: Some(graph),
        metadata_props: entries_from_map(&card(Scheme::Nose1).to_metadata()),
        ..ModelProto::default()
    }
}

fn written(bytes: &[u8]) -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.onnx");
    std::fs::write(&path, bytes).unwrap();
    (folder, path)
}

fn load(model: &ModelProto) -> Result<Engine, ModelError> {
    let (_folder, path) = written(&model.encode_to_vec());
    Engine::load(&path)
}

fn error_of(model: &ModelProto) -> ModelError {
    load(model).err().expect("the file is refused")
}

#[test]
fn a_network_gives_what_its_weights_say() {
    let mut engine = load(&tiny()).unwrap();
    assert_eq!(engine.card(), &card(Scheme::Nose1));
    let mut crop = engine.card().new_crop();
    let mut outputs = Outputs::default();
    for rgb in [[192u8, 64, 128], [0, 128, 255]] {
        for pixel in crop.bytes_mut().chunks_exact_mut(3) {
            pixel.copy_from_slice(&rgb);
        }
        engine.infer(&crop, &mut outputs).unwrap();
        let [red, green, blue] = rgb.map(|byte| (f32::from(byte) - 128.0) / 128.0);
        let landmarks = outputs.get("landmarks").unwrap();
        assert_eq!(landmarks.shape, [1, 2]);
        assert!((landmarks.values[0] - red).abs() < 1e-6);
        assert!((landmarks.values[1] - green).abs() < 1e-6);
        let presence = outputs.get("presence").unwrap().values[0];
        assert!((presence - (2.0 * blue + 0.5)).abs() < 1e-6);
    }
}

#[test]
fn a_crop_of_another_size_is_refused() {
    let mut engine = load(&tiny()).unwrap();
    let crop = crate::crop::Crop::new(6, 8, Color::Rgb);
    let error = engine.infer(&crop, &mut Outputs::default()).unwrap_err();
    assert!(matches!(error, InferError::Input { .. }));
    let text = error.to_string();
    assert!(
        text.contains("8x6 rgb") && text.contains("6x8 rgb"),
        "{text}"
    );
}

#[test]
fn a_raw_model_needs_no_card_and_names_its_outputs() {
    let mut model = tiny();
    model.metadata_props.clear();
    let (_folder, path) = written(&model.encode_to_vec());
    let mut raw = RawModel::load(&path).unwrap();
    assert_eq!(raw.inputs()[0].shape, [1, 3, 6, 8]);
    let input = RawTensor {
        shape: vec![1, 3, 6, 8],
        values: (0..144).map(|i| i as f32).collect(),
    };
    let outputs = raw.run(std::slice::from_ref(&input)).unwrap();
    let names: Vec<&str> = outputs.iter().map(|output| output.name.as_str()).collect();
    assert_eq!(names, ["landmarks", "presence"]);
    // Means of 0..48, 48..96 and 96..144.
    assert_eq!(outputs[0].values, [23.5, 71.5]);
    assert_eq!(outputs[1].values, [2.0 * 119.5 + 0.5]);
    let flat = RawTensor {
        shape: vec![144],
        ..input
    };
    assert!(matches!(raw.run(&[flat]), Err(InferError::Input { .. })));
}

#[test]
fn damaged_files_are_not_onnx() {
    let whole = tiny().encode_to_vec();
    let mut no_graph = tiny();
    no_graph.graph = None;
    let cases: [(&str, Vec<u8>); 5] = [
        ("empty", Vec::new()),
        ("text", b"this is a text file\n".to_vec()),
        ("cut in half", whole[..whole.len() / 2].to_vec()),
        ("without a graph", no_graph.encode_to_vec()),
        ("a JPEG's first bytes", vec![0xff, 0xd8, 0xff, 0xe0, 0, 16]),
    ];
    for (name, bytes) in cases {
        let (_folder, path) = written(&bytes);
        let error = Engine::load(&path).err().expect(name);
        assert!(
            matches!(error, ModelError::NotOnnx { .. }),
            "{name}: {error}"
        );
        assert!(error.to_string().contains("model.onnx"), "{error}");
    }
}

#[test]
fn every_cut_of_a_file_is_an_error() {
    let whole = tiny().encode_to_vec();
    for end in 0..whole.len() {
        let (_folder, path) = written(&whole[..end]);
        assert!(
            Engine::load(&path).is_err(),
            "{end} of {} bytes",
            whole.len()
        );
    }
}

#[test]
fn a_missing_file_is_named() {
    let error = Engine::load(Path::new("nowhere/model.onnx")).err().unwrap();
    assert!(matches!(error, ModelError::Read { .. }));
    assert!(error.to_string().contains("nowhere/model.onnx"));
}

#[test]
fn a_foreign_file_is_refused_with_the_missing_key() {
    let mut model = tiny();
    model.metadata_props.clear();
    let error = error_of(&model);
    assert!(matches!(error, ModelError::MissingKey { key, .. } if key.starts_with("facemark.")));
}

#[test]
fn an_unsupported_operator_is_named_with_its_node() {
    for (operator, domain) in [
        ("Frobnicate", None),
        ("Conv", Some("com.example".to_owned())),
    ] {
        let mut model = tiny();
        let node = &mut model.graph.as_mut().unwrap().node[0];
        node.op_type = Some(operator.to_owned());
        node.domain = domain;
        let error = error_of(&model);
        assert!(matches!(error, ModelError::UnsupportedOperator { .. }));
        let text = error.to_string();
        assert!(
            text.contains(operator) && text.contains("Conv_planes"),
            "{text}"
        );
    }
}

#[test]
fn an_operator_with_bad_attributes_is_named_with_its_node() {
    let mut model = tiny();
    let node = &mut model.graph.as_mut().unwrap().node[0];
    node.attribute.push(AttributeProto {
        name: Some("auto_pad".to_owned()),
        s: Some(b"SIDEWAYS".to_vec()),
        r#type: Some(attribute_type::STRING),
        ..AttributeProto::default()
    });
    let text = error_of(&model).to_string();
    assert!(
        text.contains("Conv_planes") && text.contains("SIDEWAYS"),
        "{text}"
    );
}

#[test]
fn a_graph_that_does_not_hold_together_is_an_error() {
    let mut dangling = tiny();
    dangling.graph.as_mut().unwrap().node[1].input[0] = "nothing".to_owned();
    let mut no_output = tiny();
    no_output.graph.as_mut().unwrap().output[0].name = Some("nowhere".to_owned());
    let mut cycle = tiny();
    cycle.graph.as_mut().unwrap().node[0].input[0] = "features".to_owned();
    for (model, named) in [
        (dangling, "nothing"),
        (no_output, "nowhere"),
        (cycle, "features"),
    ] {
        let text = error_of(&model).to_string();
        assert!(text.contains(named), "{text}");
    }
    let mut shapes = tiny();
    shapes.graph.as_mut().unwrap().initializer[1] = weight("point.weight", &[4, 2], &[0.0; 8]);
    assert!(matches!(error_of(&shapes), ModelError::Prepare { .. }));
}

#[test]
fn a_graph_that_breaks_its_cards_promise_is_refused() {
    let mut other_scheme = tiny();
    other_scheme.metadata_props = entries_from_map(&card(Scheme::Mtfl5).to_metadata());
    let mut other_size = tiny();
    other_size.metadata_props = entries_from_map(
        &ModelCard {
            input_width: 16,
            ..card(Scheme::Nose1)
        }
        .to_metadata(),
    );
    let mut other_task = tiny();
    other_task.metadata_props = entries_from_map(
        &ModelCard {
            task: Task::FaceDetection { strides: vec![2] },
            ..card(Scheme::Nose1)
        }
        .to_metadata(),
    );
    let mut free_batch = tiny();
    free_batch.graph.as_mut().unwrap().input[0] = value("image", &[-1, 3, 6, 8]);
    let cases = [
        (other_scheme, ["landmarks", "[1, 10]", "[1, 2]"]),
        (other_size, ["image", "[1, 3, 6, 16]", "[1, 3, 6, 8]"]),
        (other_task, ["score_2", "[1, 1, 3, 4]", "landmarks"]),
        (free_batch, ["image", "fixed sizes", "n"]),
    ];
    for (model, words) in cases {
        let error = error_of(&model);
        assert!(matches!(error, ModelError::Interface { .. }), "{error}");
        for word in words {
            assert!(error.to_string().contains(word), "{word}: {error}");
        }
    }
}

#[test]
fn an_inspection_counts_the_work() {
    let (_folder, path) = written(&tiny().encode_to_vec());
    let inspection = Inspection::of(&path, &EngineOptions::default()).unwrap();
    assert_eq!(inspection.card_error, None);
    assert_eq!(inspection.operators["Conv"], 1);
    assert_eq!(inspection.parameters, 9 + 6 + 3 + 1);
    // Convolution: 48 pixels x 3 x 3; two products: 3 x 2 and 3 x 1.
    assert!(
        (inspection.mmac * 1e6 - (432.0 + 6.0 + 3.0)).abs() < 0.5,
        "{inspection:#?}"
    );
    assert!(inspection.nodes.iter().all(|node| !node.kernel.is_empty()));
}
