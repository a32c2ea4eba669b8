//! Building graphs: what is refused at the line that adds it, names, constants and parameters.

use facemark::train::graph::{Attribute, ElementType, Graph, GraphError, Tensor, TensorType};

/// Inputs `image` [2, 3, 5, 4] and `matrix` [2, 6], truth values `mask` [2, 6], weights of a 3x3 and of a matrix.
fn graph() -> Graph {
    let mut graph = Graph::new("test");
    graph
        .input("image", TensorType::f32(&[2, 3, 5, 4]))
        .unwrap();
    graph.input("matrix", TensorType::f32(&[2, 6])).unwrap();
    graph
        .input("mask", TensorType::new(ElementType::Bool, &[2, 6]))
        .unwrap();
    let weight = |shape: &[usize]| Tensor::f32(shape, vec![0.5; shape.iter().product()]);
    graph.parameter("kernel", weight(&[4, 3, 3, 3])).unwrap();
    graph.parameter("dense", weight(&[6, 5])).unwrap();
    graph.parameter("offset", weight(&[5])).unwrap();
    graph
}

struct Misuse {
    op: &'static str,
    inputs: &'static [&'static str],
    attributes: Vec<(&'static str, Attribute)>,
    /// What the error says beside operator and node.
    says: &'static [&'static str],
}

#[test]
fn misuse_is_refused_with_operator_node_and_what_was_expected() {
    let ints = |values: &[i64]| Attribute::Ints(values.to_vec());
    let cases = [
        Misuse {
            op: "LSTM",
            inputs: &["matrix"],
            attributes: vec![],
            says: &["is not supported"],
        },
        Misuse {
            op: "Add",
            inputs: &["image", "matrix"],
            attributes: vec![],
            says: &["broadcast", "[2, 3, 5, 4]", "[2, 6]"],
        },
        Misuse {
            op: "Add",
            inputs: &["matrix", "mask"],
            attributes: vec![],
            says: &["input 1", "F32", "Bool[2, 6]"],
        },
        Misuse {
            op: "Add",
            inputs: &["matrix"],
            attributes: vec![],
            says: &["input 1", "none"],
        },
        Misuse {
            op: "Sigmoid",
            inputs: &["mask"],
            attributes: vec![],
            says: &["floats", "Bool"],
        },
        Misuse {
            op: "MatMul",
            inputs: &["matrix", "matrix"],
            attributes: vec![],
            says: &["multiply", "F32[2, 6]"],
        },
        Misuse {
            op: "Gemm",
            inputs: &["matrix", "dense", "matrix"],
            attributes: vec![],
            says: &["shapes that broadcast"],
        },
        Misuse {
            op: "Conv",
            inputs: &["matrix", "kernel"],
            attributes: vec![],
            says: &["equal ranks"],
        },
        Misuse {
            op: "Conv",
            inputs: &["image", "kernel"],
            attributes: vec![("group", Attribute::Int(3))],
            says: &["weight", "3 channels in 3 groups"],
        },
        Misuse {
            op: "Conv",
            inputs: &["image", "kernel", "dense"],
            attributes: vec![],
            says: &["input 2", "[4]"],
        },
        Misuse {
            op: "Conv",
            inputs: &["image", "kernel"],
            attributes: vec![("dilations", ints(&[3, 1]))],
            says: &["at least 7", "axis 0"],
        },
        Misuse {
            op: "Conv",
            inputs: &["image", "kernel"],
            attributes: vec![("strides", ints(&[0, 1]))],
            says: &["strides", "[0, 1]"],
        },
        Misuse {
            op: "Conv",
            inputs: &["image", "kernel"],
            attributes: vec![("pads", ints(&[1, 1]))],
            says: &["pads", "4 numbers"],
        },
        Misuse {
            op: "ConvTranspose",
            inputs: &["image", "kernel"],
            attributes: vec![],
            says: &["input 1", "3 channels"],
        },
        Misuse {
            op: "MaxPool",
            inputs: &["image"],
            attributes: vec![],
            says: &["kernel_shape"],
        },
        Misuse {
            op: "Concat",
            inputs: &["image", "matrix"],
            attributes: vec![("axis", Attribute::Int(0))],
            says: &["input 1"],
        },
        Misuse {
            op: "Concat",
            inputs: &["image", "image"],
            attributes: vec![("axis", Attribute::Int(4))],
            says: &["axis", "below 4"],
        },
        Misuse {
            op: "Reshape",
            inputs: &["matrix", "image"],
            attributes: vec![],
            says: &["input 1", "constant", "computed"],
        },
        Misuse {
            op: "Transpose",
            inputs: &["matrix"],
            attributes: vec![("perm", ints(&[0, 0]))],
            says: &["each axis once"],
        },
        Misuse {
            op: "Cast",
            inputs: &["matrix"],
            attributes: vec![("to", Attribute::Int(16))],
            says: &["to", "16"],
        },
        Misuse {
            op: "BatchNormalization",
            inputs: &["image", "offset", "offset", "offset", "offset"],
            attributes: vec![],
            says: &["input 1", "[3]", "F32[5]"],
        },
        Misuse {
            op: "Softmax",
            inputs: &["matrix"],
            attributes: vec![("axis", Attribute::Int(2))],
            says: &["axis"],
        },
    ];
    for case in cases {
        let mut graph = graph();
        let before = graph.clone();
        let error = graph
            .apply_named(case.op, case.inputs, &case.attributes, "the node")
            .unwrap_err()
            .to_string();
        for part in case.says.iter().chain(&[case.op, "\"the node\""]) {
            assert!(
                error.contains(part),
                "{} {:?}: {part:?} is not in: {error}",
                case.op,
                case.inputs
            );
        }
        assert_eq!(graph, before, "{}: the graph has changed", case.op);
    }
}

#[test]
fn names_are_defined_once_and_before_they_are_used() {
    let mut graph = graph();
    let unknown = graph.apply("Relu", &["nothing"], &[]).unwrap_err();
    assert!(matches!(unknown, GraphError::UnknownValue { value, .. } if value == "nothing"));
    for taken in [
        graph.apply_named("Relu", &["image"], &[], "matrix"),
        graph.input("kernel", TensorType::f32(&[1])),
        graph.parameter("image", Tensor::f32(&[1], vec![0.0])),
    ] {
        assert!(matches!(
            taken.unwrap_err(),
            GraphError::DuplicateValue { .. }
        ));
    }
    let y = graph.unary("Relu", "image").unwrap();
    let z = graph.add(&y, &y).unwrap();
    graph.outputs = vec![y.clone(), z];
    graph.rename_output(&y, "features").unwrap();
    assert_eq!(graph.nodes[1].inputs, ["features", "features"]);
    assert_eq!(graph.outputs[0], "features");
    assert_eq!(graph.shape("features"), [2, 3, 5, 4]);
    assert!(graph.find_type(&y).is_none());
    assert!(graph.rename_output("features", "matrix").is_err());
    assert!(
        graph.rename_output("image", "picture").is_err(),
        "an input is no node's output"
    );
    assert_eq!(graph.shape("image"), [2, 3, 5, 4]);
}

#[test]
fn equal_constants_are_one() {
    let mut graph = graph();
    let one = graph.scalar(1.0);
    assert_eq!(graph.scalar(1.0), one);
    assert_ne!(graph.scalar(-1.0), one);
    assert_ne!(graph.constant_f32(&[1.0], &[1]), one, "another shape");
    assert_ne!(
        graph.ints(&[1]),
        graph.constant_f32(&[1.0], &[1]),
        "another type"
    );
    let read = Graph::from_onnx(&graph.to_onnx(), "a.onnx".as_ref()).unwrap();
    let mut read = read;
    assert_eq!(read.scalar(1.0), one, "also after a round trip");
}

#[test]
fn parameters_are_what_nodes_use_as_weights_in_their_order() {
    let mut graph = graph();
    let flat = graph.apply("Flatten", &["matrix"], &[]).unwrap();
    let y = graph
        .apply("Gemm", &[&flat, "dense", "offset"], &[])
        .unwrap();
    let half = graph.constant_f32(&[0.5; 5], &[5]);
    let y = graph.mul(&y, &half).unwrap();
    graph
        .parameter("scalar", Tensor::f32(&[], vec![2.0]))
        .unwrap();
    let y = graph.mul(&y, "scalar").unwrap();
    graph
        .parameter("late", Tensor::f32(&[5, 1], vec![1.0; 5]))
        .unwrap();
    let row = graph.reshape("late", &[1, 5]).unwrap();
    let y = graph.add(&y, &row).unwrap();
    graph.outputs = vec![y, graph.apply("Conv", &["image", "kernel"], &[]).unwrap()];
    let expected = ["dense", "offset", "late", "kernel"];
    assert_eq!(graph.parameters(), expected);
    let read = Graph::from_onnx(&graph.to_onnx(), "a.onnx".as_ref()).unwrap();
    assert_eq!(read.parameters(), expected, "also after a round trip");
}

#[test]
fn another_batch_reaches_every_value_and_reshape() {
    let mut graph = Graph::new("net");
    graph
        .input("image", TensorType::f32(&[1, 4, 3, 2]))
        .unwrap();
    let (open, kept, fixed) = (
        graph.ints(&[-1, 24]),
        graph.ints(&[0, 2, 12]),
        graph.ints(&[1, 24]),
    );
    let a = graph.apply("Reshape", &["image", &open], &[]).unwrap();
    let b = graph.apply("Reshape", &["image", &kept], &[]).unwrap();
    let c = graph.apply("Reshape", &["image", &fixed], &[]).unwrap();
    graph
        .parameter("weight", Tensor::f32(&[24], vec![1.0; 24]))
        .unwrap();
    let w = graph.apply("Reshape", &["weight", &fixed], &[]).unwrap();
    let d = graph.add(&c, &w).unwrap();
    graph.outputs = vec![a, b, c, d];
    let batch = graph.with_batch(7).unwrap();
    let shapes: Vec<&[usize]> = batch.outputs.iter().map(|name| batch.shape(name)).collect();
    assert_eq!(shapes, [&[7, 24][..], &[7, 2, 12], &[7, 24], &[7, 24]]);
    assert_eq!(batch.shape(&w), [1, 24], "a weight has no batch");
    assert_eq!(
        batch.with_batch(1).unwrap().shape(&graph.outputs[3]),
        [1, 24]
    );
}
