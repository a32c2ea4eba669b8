"""Writes import.json: small ONNX files as other programs write them (opsets 11 to 21), with ONNX Runtime's outputs.

Needs numpy, onnx and onnxruntime. Run: python tests/references/import.py
"""

import json
import pathlib

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

RNG = np.random.default_rng(7)
FLOAT = TensorProto.FLOAT


def weight(*shape):
    return np.round(RNG.uniform(-0.6, 0.6, shape), 3).astype(np.float32)


def node(op, inputs, outputs, **attributes):
    return helper.make_node(op, inputs.split(), outputs.split(), **attributes)


def constant(name, value):
    return helper.make_node("Constant", [], [name], value=numpy_helper.from_array(np.asarray(value)))


def opset_11():
    """Axes, splits and bounds as attributes; Constant nodes; Dropout; auto_pad; a named batch axis."""
    nodes = [
        node("Conv", "image w b", "c", kernel_shape=[3, 3], strides=[2, 2], auto_pad="SAME_UPPER"),
        constant("low", np.float32(0)),
        constant("high", np.float32(1.5)),
        node("Clip", "c low high", "r"),
        node("MaxPool", "r", "m", kernel_shape=[2, 2], strides=[2, 2], auto_pad="SAME_LOWER"),
        node("Split", "m", "p q", axis=1, split=[1, 3]),
        node("ReduceMean", "q", "a", axes=[2, 3], keepdims=1),
        node("Mul", "p a", "t"),
        node("ReduceSum", "t", "s", axes=[3], keepdims=1),
        node("Squeeze", "s", "z", axes=[3]),
        node("Unsqueeze", "z", "u", axes=[1]),
        node("Dropout", "u", "d", ratio=0.4),
        node("Flatten", "d", "f", axis=1),
        node("Softmax", "f", "y"),
    ]
    return nodes, {"w": weight(4, 3, 3, 3), "b": weight(4)}, ["batch", 3, 9, 7], [2, 3, 9, 7]


def opset_13():
    """A shape computed in the graph, as torch.onnx writes x.view(x.size(0), -1); Resize with sizes."""
    nodes = [
        node("Conv", "image w", "c", pads=[1, 0, 0, 1], group=2),
        node("HardSigmoid", "c", "h", alpha=0.25, beta=0.4),
        node("Resize", "h  sizes", "g", mode="nearest", coordinate_transformation_mode="asymmetric", nearest_mode="floor"),
        node("AveragePool", "g", "a", kernel_shape=[3, 3], strides=[2, 2], ceil_mode=1),
        node("Shape", "a", "s"),
        constant("zero", np.int64(0)),
        node("Gather", "s zero", "n", axis=0),
        constant("first", np.asarray([0])),
        node("Unsqueeze", "n first", "n1"),
        constant("open", np.asarray([-1])),
        node("Concat", "n1 open", "v", axis=0),
        node("Reshape", "a v", "f"),
        node("Gemm", "f dense offset", "e", transB=1),
        node("LeakyRelu", "e", "y", alpha=0.1),
    ]
    nodes[2].input[:] = ["h", "", "", "sizes"]
    weights = {"w": weight(4, 1, 2, 2), "sizes": np.asarray([1, 4, 10, 12]), "dense": weight(3, 120), "offset": weight(3)}
    return nodes, weights, [1, 2, 5, 6], [1, 2, 5, 6]


def opset_17():
    """Batch normalisation, PRelu, ConvTranspose, Where, Slice, Transpose, Pad."""
    nodes = [
        node("ConvTranspose", "image w", "c", kernel_shape=[2, 2], strides=[2, 2]),
        node("BatchNormalization", "c scale bias mean variance", "n", epsilon=1e-3, momentum=0.8),
        node("PRelu", "n slope", "r"),
        node("Greater", "r half", "g"),
        node("Where", "g r half", "h"),
        node("Slice", "h starts ends axes steps", "l"),
        node("Pad", "l pads", "p"),
        node("Transpose", "p", "y", perm=[0, 2, 3, 1]),
    ]
    weights = {
        "w": weight(2, 3, 2, 2),
        "scale": weight(3),
        "bias": weight(3),
        "mean": weight(3),
        "variance": np.abs(weight(3)) + np.float32(0.5),
        "slope": weight(3, 1, 1),
        "half": np.float32(0.1),
        "starts": np.asarray([1, -1]),
        "ends": np.asarray([5, -100]),
        "axes": np.asarray([2, 3]),
        "steps": np.asarray([2, -1]),
        "pads": np.asarray([0, 0, 1, 0, 0, 0, 0, 2]),
    }
    return nodes, weights, [1, 2, 4, 3], [1, 2, 4, 3]


def opset_21():
    """What opset 18 does not have: Cast's saturate; reductions with axes as input; HardSwish; GlobalAveragePool."""
    nodes = [
        node("Conv", "image w", "c", strides=[2, 1], dilations=[1, 2]),
        node("HardSwish", "c", "h"),
        node("ReduceMax", "h last", "m", keepdims=1),
        node("Sub", "h m", "s"),
        node("Cast", "s", "d", to=TensorProto.DOUBLE, saturate=1),
        node("Exp", "d", "e"),
        node("Cast", "e", "g", to=FLOAT),
        node("GlobalAveragePool", "g", "a"),
        node("Identity", "a", "y"),
    ]
    return nodes, {"w": weight(4, 2, 3, 2), "last": np.asarray([-1])}, [1, 2, 6, 7], [1, 2, 6, 7]


def main():
    cases = []
    for opset, build in [(11, opset_11), (13, opset_13), (17, opset_17), (21, opset_21)]:
        nodes, weights, declared, shape = build()
        graph = helper.make_graph(
            nodes,
            f"opset {opset}",
            [helper.make_tensor_value_info("image", FLOAT, declared)],
            [helper.make_empty_tensor_value_info("y")],
            [numpy_helper.from_array(np.asarray(value), name) for name, value in weights.items()],
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=min(opset - 4, 10))
        model = onnx.shape_inference.infer_shapes(model)
        onnx.checker.check_model(model)
        data = model.SerializeToString()
        image = np.round(RNG.uniform(-1, 1, shape), 3).astype(np.float32)
        session = onnxruntime.InferenceSession(data, providers=["CPUExecutionProvider"])
        (output,) = session.run(None, {"image": image})
        cases.append(
            {
                "name": build.__name__,
                "file": data.hex(),
                "image_shape": shape,
                "image": [float(f"{value:.7g}") for value in image.ravel().tolist()],
                "output_shape": list(output.shape),
                "output": [float(f"{value:.7g}") for value in output.ravel().tolist()],
            }
        )
    path = pathlib.Path(__file__).with_suffix(".json")
    lines = ",\n".join(json.dumps(case, separators=(",", ":")) for case in cases)
    path.write_text(f"[\n{lines}\n]\n")
    print(f"{path}: {len(cases)} files, {path.stat().st_size} bytes")


if __name__ == "__main__":
    main()
