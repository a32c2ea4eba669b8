//! Broken int8 files are refused when they are read, with node and reason: no panic, no memory that the file does not hold.

use crate::{fixtures::root, int8_models::landmark_model};
use facemark::{
    engine::RawModel,
    model::ModelError,
    onnx::{GraphProto, ModelProto, NodeProto, TensorProto, data_type},
};
use prost::Message;
use std::path::Path;

fn load(model: &ModelProto) -> Result<RawModel, ModelError> {
    RawModel::from_bytes(&model.encode_to_vec(), Path::new("hostile.onnx"))
}

fn graph(model: &mut ModelProto) -> &mut GraphProto {
    model.graph.as_mut().expect("a graph")
}

/// The first node with this operator.
fn node<'a>(model: &'a mut ModelProto, operator: &str) -> &'a mut NodeProto {
    let mut nodes = graph(model).node.iter_mut();
    nodes
        .find(|node| node.op_type.as_deref() == Some(operator))
        .expect("such a node")
}

/// The constant that is an input of the first node with this operator.
fn constant<'a>(model: &'a mut ModelProto, operator: &str, input: usize) -> &'a mut TensorProto {
    let name = node(model, operator).input[input].clone();
    let mut constants = graph(model).initializer.iter_mut();
    constants
        .find(|tensor| tensor.name.as_ref() == Some(&name))
        .expect("such a constant")
}

fn set_f32(tensor: &mut TensorProto, values: &[f32]) {
    tensor.raw_data = Some(values.iter().flat_map(|v| v.to_le_bytes()).collect());
}

/// What is done to a sound model, the operator whose node is to be named, and a word of the reason.
type Case = (
    &'static str,
    &'static str,
    &'static str,
    Box<dyn Fn(&mut ModelProto)>,
);

fn cases() -> Vec<Case> {
    let mut cases: Vec<Case> = Vec::new();
    let scales = [
        ("QuantizeLinear", 1),
        ("QLinearConv", 1),
        ("QLinearConv", 6),
        ("QLinearAdd", 1),
        ("QLinearAdd", 4),
        ("QLinearAdd", 6),
        ("QLinearGlobalAveragePool", 1),
        ("QLinearGlobalAveragePool", 3),
        ("QGemm", 1),
    ];
    for (operator, input) in scales {
        for bad in [0.0, -0.5, f32::NAN, f32::INFINITY] {
            cases.push((
                "a scale that is no positive number",
                operator,
                "positive",
                Box::new(move |model| set_f32(constant(model, operator, input), &[bad])),
            ));
        }
        cases.push((
            "a zero point that is missing",
            operator,
            "missing",
            Box::new(move |model| node(model, operator).input[input + 1].clear()),
        ));
        cases.push((
            "a zero point of another type",
            operator,
            "uint8",
            Box::new(move |model| {
                constant(model, operator, input + 1).data_type = Some(data_type::INT8);
            }),
        ));
        cases.push((
            "a scale that is not in the file",
            operator,
            "constant",
            Box::new(move |model| {
                let name = node(model, operator).input[input].clone();
                let constants = &mut graph(model).initializer;
                constants.retain(|tensor| tensor.name.as_ref() != Some(&name));
                // The value must come from somewhere, or the file does not hold together at all.
                node(model, operator).input[input] = "image".to_owned();
            }),
        ));
        cases.push((
            "more scales than one",
            operator,
            "one value",
            Box::new(move |model| {
                let scale = constant(model, operator, input);
                scale.dims = vec![2];
                set_f32(scale, &[0.1, 0.1]);
            }),
        ));
    }
    let mut add = |what, operator, reason, change: fn(&mut ModelProto)| {
        cases.push((what, operator, reason, Box::new(change)));
    };
    add("scales that overflow", "QLinearConv", "factor", |model| {
        set_f32(constant(model, "QLinearConv", 1), &[1e30]);
        set_f32(constant(model, "QLinearConv", 6), &[1e-30]);
    });
    add(
        "zero points of weights",
        "QLinearConv",
        "weight zero point",
        |model| {
            let zeros = constant(model, "QLinearConv", 5);
            zeros.dims = vec![];
            zeros.raw_data = Some(vec![1]);
        },
    );
    add(
        "too few scales of weights",
        "QLinearConv",
        "weight scale",
        |model| {
            let scales = constant(model, "QLinearConv", 4);
            scales.dims = vec![5];
            set_f32(scales, &[0.1; 5]);
        },
    );
    add("a bias of another length", "QGemm", "bias", |model| {
        let bias = constant(model, "QGemm", 6);
        bias.dims = vec![3];
        bias.raw_data = Some(vec![0; 12]);
    });
    add("edges of 2^31", "QLinearConv", "not possible", |model| {
        constant(model, "QLinearConv", 3).dims = vec![1 << 31, 1 << 31, 3, 3];
    });
    add(
        "edges that multiply to more than 2^64",
        "QLinearConv",
        "not possible",
        |model| {
            constant(model, "QLinearConv", 3).dims = vec![1 << 40; 4];
        },
    );
    add("negative edges", "QLinearConv", "not possible", |model| {
        constant(model, "QLinearConv", 3).dims = vec![-1, 3, 3, 3];
    });
    add(
        "less data than the shape says",
        "QLinearConv",
        "does not fit",
        |model| {
            constant(model, "QLinearConv", 3).raw_data = Some(vec![1; 7]);
        },
    );
    add(
        "weights of no channels",
        "QLinearConv",
        "weights of shape",
        |model| {
            let weights = constant(model, "QLinearConv", 3);
            weights.dims = vec![0, 3, 1, 1];
            weights.raw_data = Some(vec![]);
        },
    );
    add("no groups", "QLinearConv", "groups", |model| {
        attribute(model, "QLinearConv", "group").i = Some(0);
    });
    add(
        "groups that do not divide",
        "QLinearConv",
        "groups",
        |model| {
            attribute(model, "QLinearConv", "group").i = Some(7);
        },
    );
    add("groups without end", "QLinearConv", "groups", |model| {
        attribute(model, "QLinearConv", "group").i = Some(i64::MAX);
    });
    add("no stride", "QLinearConv", "strides", |model| {
        attribute(model, "QLinearConv", "strides").ints = vec![0, 1];
    });
    add("negative padding", "QLinearConv", "pads", |model| {
        attribute(model, "QLinearConv", "pads").ints = vec![-1, 0, 0, 0];
    });
    add("padding without end", "QLinearConv", "pads", |model| {
        attribute(model, "QLinearConv", "pads").ints = vec![1 << 40; 4];
    });
    add(
        "padding of another length",
        "QLinearConv",
        "pads",
        |model| {
            attribute(model, "QLinearConv", "pads").ints = vec![1, 1];
        },
    );
    add(
        "a kernel that the weights are not for",
        "QLinearConv",
        "kernel_shape",
        |model| {
            attribute(model, "QLinearConv", "kernel_shape").ints = vec![9, 9];
        },
    );
    add(
        "an attribute that nobody knows",
        "MaxPool",
        "sideways",
        |model| {
            let mut other = attribute(model, "MaxPool", "strides").clone();
            other.name = Some("sideways".to_owned());
            node(model, "MaxPool").attribute.push(other);
        },
    );
    add(
        "padding as large as the window",
        "MaxPool",
        "padding",
        |model| {
            let window = attribute(model, "MaxPool", "kernel_shape").ints.clone();
            attribute(model, "MaxPool", "pads").ints = [window.clone(), window].concat();
        },
    );
    add("a factor of 1e9", "Resize", "factors", |model| {
        set_f32(constant(model, "Resize", 2), &[1.0, 1.0, 1e9, 1.0]);
    });
    add("a factor that is not whole", "Resize", "factors", |model| {
        set_f32(constant(model, "Resize", 2), &[1.0, 1.0, 1.5, 2.0]);
    });
    add("a factor that is no number", "Resize", "factors", |model| {
        set_f32(constant(model, "Resize", 2), &[1.0, 1.0, f32::NAN, 2.0]);
    });
    add(
        "a matrix for another input",
        "QGemm",
        "weights are for",
        |model| {
            let weights = constant(model, "QGemm", 3);
            weights.dims = vec![2, 3];
            weights.raw_data = Some(vec![1; 6]);
        },
    );
    add(
        "an image of two billion rows",
        "QuantizeLinear",
        "too large",
        |model| {
            dimension(model, 2, 1 << 31);
        },
    );
    add("a batch", "QuantizeLinear", "expected a tensor", |model| {
        dimension(model, 0, 2);
    });
    add("an empty image", "QuantizeLinear", "empty", |model| {
        dimension(model, 3, 0);
    });
    add(
        "an image of another number of channels",
        "QLinearConv",
        "channels",
        |model| {
            dimension(model, 1, 4);
        },
    );
    add(
        "an image smaller than the windows",
        "MaxPool",
        "does not fit",
        |model| {
            dimension(model, 2, 1);
            attribute(model, "MaxPool", "kernel_shape").ints = vec![3, 1];
            attribute(model, "MaxPool", "pads").ints = vec![0; 4];
        },
    );
    add(
        "maps that need more memory than allowed",
        "QuantizeLinear",
        "MiB",
        |model| {
            dimension(model, 2, 2500);
            dimension(model, 3, 2500);
        },
    );
    add(
        "an output that is not there",
        "QLinearAdd",
        "one output",
        |model| {
            node(model, "QLinearAdd").output.push("spare".to_owned());
        },
    );
    add("too few inputs", "QLinearAdd", "inputs", |model| {
        node(model, "QLinearAdd").input.truncate(5);
    });
    add("floats where bytes belong", "QLinearConv", "u8", |model| {
        node(model, "QLinearConv").input[0] = "image".to_owned();
    });
    cases
}

fn attribute<'a>(
    model: &'a mut ModelProto,
    operator: &str,
    name: &str,
) -> &'a mut facemark::onnx::AttributeProto {
    let mut attributes = node(model, operator).attribute.iter_mut();
    attributes
        .find(|attribute| attribute.name.as_deref() == Some(name))
        .expect("such an attribute")
}

fn dimension(model: &mut ModelProto, axis: usize, size: i64) {
    let of = graph(model).input[0].r#type.as_mut().expect("a type");
    let shape = of
        .tensor_type
        .as_mut()
        .and_then(|tensor| tensor.shape.as_mut());
    shape.expect("a shape").dim[axis].dim_value = Some(size);
}

#[test]
fn what_is_broken_is_refused_with_node_and_reason() {
    load(&landmark_model())
        .map_err(|error| error.to_string())
        .expect("the sound model loads");
    let mut failures = Vec::new();
    for (what, operator, reason, change) in cases() {
        let mut model = landmark_model();
        change(&mut model);
        let error = match load(&model) {
            Ok(_) => {
                failures.push(format!("{what} ({operator}): loads"));
                continue;
            }
            Err(error) => error,
        };
        let text = error.to_string();
        let named =
            matches!(&error, ModelError::BadNode { node, .. } if node.starts_with(operator));
        if !named || !text.contains(reason) {
            failures.push(format!("{what} ({operator}, {reason}): {text}"));
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

#[test]
fn graphs_that_do_not_hold_together_are_refused() {
    let mut cycle = landmark_model();
    let last = graph(&mut cycle).node.len() - 1;
    let output = graph(&mut cycle).node[last].output[0].clone();
    node(&mut cycle, "QLinearConv").input[0] = output;
    let mut missing = landmark_model();
    let name = node(&mut missing, "QLinearConv").input[3].clone();
    graph(&mut missing)
        .initializer
        .retain(|tensor| tensor.name.as_ref() != Some(&name));
    let mut unknown = landmark_model();
    node(&mut unknown, "QLinearAdd").op_type = Some("QLinearFrobnicate".to_owned());
    let mut twice = landmark_model();
    let first = node(&mut twice, "QuantizeLinear").output[0].clone();
    node(&mut twice, "QLinearConv").output[0] = first;
    for (what, model, word) in [
        ("a cycle", cycle, "nothing before it writes"),
        ("missing weights", missing, "nothing before it writes"),
        ("an unknown operator", unknown, "QLinearFrobnicate"),
        ("a value that is written twice", twice, "twice"),
    ] {
        let error = load(&model).map(|_| ()).expect_err(what).to_string();
        assert!(error.contains(word), "{what}: {error}");
    }
}

/// A small file that asks for the same weights again and again, and one whose groups hide a huge dense convolution.
#[test]
fn weights_without_end_are_refused() {
    let mut shared = landmark_model();
    let weights = constant(&mut shared, "QLinearConv", 3);
    weights.dims = vec![13, 40_000, 1, 1];
    weights.raw_data = Some(vec![1; 13 * 40_000]);
    attribute(&mut shared, "QLinearConv", "kernel_shape").ints = vec![1, 1];
    let conv = node(&mut shared, "QLinearConv").clone();
    for copy in 0..150 {
        let mut conv = conv.clone();
        conv.name = Some(format!("copy {copy}"));
        conv.output = vec![format!("copy {copy}")];
        graph(&mut shared).node.push(conv);
    }
    let mut grouped = landmark_model();
    let weights = constant(&mut grouped, "QLinearConv", 3);
    weights.dims = vec![60_000, 2, 1, 1];
    weights.raw_data = Some(vec![1; 120_000]);
    let conv = node(&mut grouped, "QLinearConv");
    conv.input.truncate(8);
    attribute(&mut grouped, "QLinearConv", "kernel_shape").ints = vec![1, 1];
    attribute(&mut grouped, "QLinearConv", "group").i = Some(30_000);
    for input in [4, 5] {
        let constant = constant(&mut grouped, "QLinearConv", input);
        let one = constant.raw_data.take().expect("data");
        constant.dims = vec![];
        constant.raw_data = Some(one[..if input == 4 { 4 } else { 1 }].to_vec());
    }
    for model in [shared, grouped] {
        let error = load(&model).map(|_| ()).expect_err("too large").to_string();
        assert!(
            error.contains("QLinearConv") && error.contains("MiB"),
            "{error}"
        );
    }
}

/// Every byte of the file changed in three ways, and every cut: whatever is read runs or is refused.
#[test]
fn changed_bytes_never_panic() {
    let bytes = landmark_model().encode_to_vec();
    let mut loaded = 0;
    for at in (0..bytes.len()).step_by(3) {
        for change in [0x01u8, 0x80, 0xff] {
            let mut changed = bytes.clone();
            changed[at] ^= change;
            loaded +=
                usize::from(RawModel::from_bytes(&changed, Path::new("changed.onnx")).is_ok());
        }
    }
    // Weights may hold anything.
    assert!(loaded > 100, "{loaded}");
    for end in (0..bytes.len()).step_by(7) {
        let _ = RawModel::from_bytes(&bytes[..end], Path::new("cut.onnx"));
    }
}

/// The fuzzer's int8 seeds load; whatever else lies beside them (what once broke the loader, float files with open
/// sizes) is loaded or refused, without a panic.
#[test]
fn the_fuzzers_files_are_loaded_or_refused() {
    let folder = root().join("fuzz/corpus/load_model");
    let mut seeds = 0;
    for entry in std::fs::read_dir(&folder).expect("the fuzzer's corpus") {
        let path = entry.expect("readable").path();
        let bytes = std::fs::read(&path).expect("readable");
        let loaded = RawModel::from_bytes(&bytes, &path);
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if name.starts_with("int8-") {
            assert!(loaded.is_ok(), "{}: {:?}", path.display(), loaded.err());
            seeds += 1;
        }
    }
    assert!(seeds > 20, "{seeds} seeds in {}", folder.display());
}
