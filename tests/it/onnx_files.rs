//! Reading ONNX files of other programs (tests/references/import.json, made by the script beside it).

use facemark::{
    onnx::{GraphProto, ModelProto, NodeProto, OperatorSetIdProto, decode_model},
    train::{
        graph::{Graph, GraphError},
        session::{Device, ForwardSession},
    },
};
use prost::Message;
use serde::Deserialize;

#[derive(Deserialize)]
struct File {
    name: String,
    file: String,
    image_shape: Vec<usize>,
    image: Vec<f32>,
    output_shape: Vec<usize>,
    output: Vec<f32>,
}

impl File {
    fn all() -> Vec<Self> {
        serde_json::from_str(include_str!("../references/import.json")).unwrap()
    }

    fn bytes(&self) -> Vec<u8> {
        (0..self.file.len())
            .step_by(2)
            .map(|at| u8::from_str_radix(&self.file[at..at + 2], 16).unwrap())
            .collect()
    }

    fn graph(&self) -> Graph {
        Graph::from_onnx(&self.bytes(), self.name.as_ref()).unwrap()
    }
}

/// Runs `graph` on `copies` of the file's images and compares with as many copies of its output.
fn check(file: &File, graph: &Graph, copies: usize) {
    let mut session = ForwardSession::new(graph, Device::Cpu, 1).unwrap();
    let mut shape = file.image_shape.clone();
    shape[0] *= copies;
    let outputs = session
        .run(&[("image", &shape, &file.image.repeat(copies))])
        .unwrap();
    let (found_shape, found) = &outputs["y"];
    let mut output_shape = file.output_shape.clone();
    output_shape[0] *= copies;
    assert_eq!(found_shape, &output_shape, "{}", file.name);
    assert_eq!(graph.shape("y"), output_shape, "{}", file.name);
    for (index, (found, expected)) in found.iter().zip(file.output.repeat(copies)).enumerate() {
        assert!(
            (found - expected).abs() < 1e-5,
            "{}: output {index}: {found}, not {expected}",
            file.name
        );
    }
}

#[test]
fn files_of_many_opsets_give_what_onnx_runtime_gives() {
    for file in File::all() {
        let graph = file.graph().with_batch(file.image_shape[0]).unwrap();
        check(&file, &graph, 1);
        let bytes = graph.to_onnx();
        assert_eq!(
            Graph::from_onnx(&bytes, file.name.as_ref()).unwrap(),
            graph,
            "{}",
            file.name
        );
    }
}

#[test]
fn a_batch_gives_what_its_images_give() {
    for file in File::all() {
        let batch = 3 * file.image_shape[0];
        check(&file, &file.graph().with_batch(batch).unwrap(), 3);
    }
}

#[test]
fn a_cut_file_is_an_error_that_names_it() {
    for file in File::all() {
        let bytes = file.bytes();
        for length in [0, 1, bytes.len() / 2, bytes.len() - 1] {
            let error = Graph::from_onnx(&bytes[..length], "models/cut.onnx".as_ref()).unwrap_err();
            let text = error.to_string();
            assert!(
                text.starts_with("models/cut.onnx: "),
                "{length} bytes: {text}"
            );
        }
    }
}

#[test]
fn what_is_not_supported_is_named() {
    let with_node = |node: NodeProto, opset| {
        let mut model = decode_model(&File::all()[3].bytes()).unwrap();
        model.graph.as_mut().unwrap().node.insert(1, node);
        model.opset_import[0].version = Some(opset);
        Graph::from_onnx(&model.encode_to_vec(), "net.onnx".as_ref())
    };
    let node = |op: &str, domain: &str| NodeProto {
        input: vec!["c".to_owned()],
        output: vec!["k".to_owned()],
        name: Some("the node".to_owned()),
        op_type: Some(op.to_owned()),
        domain: Some(domain.to_owned()),
        ..NodeProto::default()
    };
    let cases = [
        (
            with_node(node("LSTM", ""), 21),
            vec!["net.onnx", "operator LSTM", "\"the node\""],
        ),
        (
            with_node(node("Relu", "com.example"), 21),
            vec!["net.onnx", "operator com.example.Relu", "\"the node\""],
        ),
        (
            with_node(node("Split", ""), 9),
            vec!["net.onnx", "operator set 9", "11 to 21"],
        ),
        (
            with_node(node("Conv", ""), 21),
            vec!["net.onnx", "operator Conv", "\"the node\"", "input 1"],
        ),
    ];
    for (result, parts) in cases {
        let text = result.unwrap_err().to_string();
        for part in parts {
            assert!(text.contains(part), "{part:?} is not in: {text}");
        }
    }
    let empty = ModelProto {
        ir_version: Some(9),
        graph: Some(GraphProto::default()),
        opset_import: vec![OperatorSetIdProto {
            domain: None,
            version: Some(18),
        }],
        ..ModelProto::default()
    };
    assert!(Graph::from_onnx(&empty.encode_to_vec(), "empty.onnx".as_ref()).is_ok());
}

#[test]
fn an_operator_without_an_adjoint_is_named() {
    let mut graph = File::all()[3].graph();
    let loss = graph.reduce("ReduceSum", "y", &[], false).unwrap();
    let error = facemark::train::autodiff::gradients(
        &mut graph,
        &loss,
        &["w".to_owned()],
        facemark::train::autodiff::Backend::Cpu,
    )
    .unwrap_err();
    assert!(
        matches!(&error, GraphError::NoGradient { operator, node, .. } if operator == "ReduceMax" && node == "m"),
        "{error}"
    );
}
