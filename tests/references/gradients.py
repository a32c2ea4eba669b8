"""Writes gradients.json: for each operator with an adjoint rule small graphs with PyTorch's float64 gradients.

Needs numpy and torch (CPU). Run: python tests/references/gradients.py

A case is a graph in ONNX's terms, its float inputs, constants, the output's cotangent and what PyTorch says of
sum(cotangent * output): the output and the gradient of each input. The Rust test builds the graph from the same
description, so the two sides share nothing but ONNX's meaning of the operators.
"""

import json
import pathlib

import numpy as np
import torch
import torch.nn.functional as F

RNG = np.random.default_rng(20240607)
CASES = []


def spread(*shape, low=-2.0, high=2.0):
    """Distinct values over a range in random order: no ties, and none on a kink at a whole number."""
    count = int(np.prod(shape))
    values = low + (high - low) * (np.arange(count) + 0.37) / count
    return np.round(RNG.permutation(values), 4).reshape(shape)


def plain(array):
    array = np.asarray(array)
    kind = {"f": "f32", "i": "i64", "b": "bool"}[array.dtype.kind]
    values = array.ravel().tolist()
    if kind == "f32":
        values = [float(f"{value:.7g}") for value in values]
    return {"shape": list(array.shape), kind: values}


def case(name, nodes, inputs, reference, constants=None, output="y", training=False, statistics=None):
    """nodes: (operator, inputs, outputs, attributes); reference: float64 tensors by name -> output tensor."""
    tensors = {key: torch.tensor(value, dtype=torch.float64, requires_grad=True) for key, value in inputs.items()}
    y = reference(**tensors)
    cotangent = spread(*y.shape) if y.ndim else np.asarray(1.3)
    (y * torch.tensor(cotangent)).sum().backward()
    gradients = {key: tensor.grad for key, tensor in tensors.items()}
    entry = {
        "name": name,
        "nodes": [
            {"op": op, "inputs": ins, "outputs": outs, "attributes": attributes} for op, ins, outs, attributes in nodes
        ],
        "inputs": {key: plain(value) for key, value in inputs.items()},
        "constants": {key: plain(value) for key, value in (constants or {}).items()},
        "output": output,
        "training": training,
        "cotangent": plain(cotangent),
        "expected_output": plain(y.detach().numpy()),
        "expected_gradients": {key: plain(value.numpy()) for key, value in gradients.items()},
    }
    if statistics is not None:
        entry["expected_statistics"] = {key: plain(value) for key, value in statistics.items()}
    CASES.append(entry)


def unary(name, op, function, attributes=None, shape=(2, 3, 5), **bounds):
    case(name, [(op, ["x"], ["y"], attributes or {})], {"x": spread(*shape, **bounds)}, lambda x: function(x))


# --- element by element ---------------------------------------------------------------------------------------------

unary("neg", "Neg", torch.neg)
unary("abs", "Abs", torch.abs)
unary("sqrt", "Sqrt", torch.sqrt, low=0.2, high=3)
unary("exp", "Exp", torch.exp)
unary("log", "Log", torch.log, low=0.2, high=3)
unary("reciprocal", "Reciprocal", torch.reciprocal, low=0.3, high=3)
unary("sigmoid", "Sigmoid", torch.sigmoid, low=-5, high=5)
unary("tanh", "Tanh", torch.tanh)
unary("softplus", "Softplus", F.softplus, low=-6, high=6)
unary("erf", "Erf", torch.erf)
unary("identity", "Identity", lambda x: x * 1)
unary("relu", "Relu", F.relu)
unary("leaky relu", "LeakyRelu", lambda x: F.leaky_relu(x, 0.2), {"alpha": 0.2})
unary("leaky relu by default", "LeakyRelu", lambda x: F.leaky_relu(x, 0.01))
unary("hard sigmoid", "HardSigmoid", lambda x: torch.clamp(0.25 * x + 0.4, 0, 1), {"alpha": 0.25, "beta": 0.4}, low=-4, high=4)
unary("hard sigmoid by default", "HardSigmoid", lambda x: torch.clamp(0.2 * x + 0.5, 0, 1), low=-4, high=4)
unary("hard swish", "HardSwish", F.hardswish, low=-4.5, high=4.5)
case(
    "cast there and back",
    [("Cast", ["x"], ["d"], {"to": 11}), ("Mul", ["d", "d"], ["e"], {}), ("Cast", ["e"], ["y"], {"to": 1})],
    {"x": spread(2, 5)},
    lambda x: x * x,
)

for name, op, function in [
    ("add", "Add", torch.add),
    ("sub", "Sub", torch.sub),
    ("mul", "Mul", torch.mul),
    ("div", "Div", torch.div),
    ("min", "Min", torch.minimum),
    ("max", "Max", torch.maximum),
]:
    for suffix, a, b in [
        ("", (2, 3, 4), (2, 3, 4)),
        (", channels", (2, 3, 2, 3), (3, 1, 1)),
        (", both broadcast", (2, 1, 3), (4, 1)),
        (", scalar", (2, 3), ()),
    ]:
        low = 0.3 if op == "Div" else -2.0
        right = spread(*b, low=low + 0.013) if b else np.asarray(0.731)
        case(
            name + suffix,
            [(op, ["a", "b"], ["y"], {})],
            {"a": spread(*a), "b": right},
            lambda a, b, function=function: function(a, b),
        )
case("a value used twice", [("Mul", ["x", "x"], ["y"], {})], {"x": spread(3, 4)}, lambda x: x * x)
case(
    "max of three",
    [("Max", ["a", "b", "c"], ["y"], {})],
    {"a": spread(3, 5), "b": spread(3, 5, low=-1.9), "c": spread(5, low=-1.8)},
    lambda a, b, c: torch.maximum(torch.maximum(a, b), c),
)
case("pow, square", [("Pow", ["x", "p"], ["y"], {})], {"x": spread(3, 5)}, lambda x: x**2, {"p": np.asarray(2.0)})
case(
    "pow, broken exponents",
    [("Pow", ["x", "p"], ["y"], {})],
    {"x": spread(3, 4, low=0.2)},
    lambda x: x ** torch.tensor([0.5, 1.5, -1.0, 3.0], dtype=torch.float64),
    {"p": np.asarray([0.5, 1.5, -1.0, 3.0])},
)
case("pow, integer exponent", [("Pow", ["x", "p"], ["y"], {})], {"x": spread(3, 4)}, lambda x: x**3, {"p": np.asarray(3)})
for name, low, high in [("relu6", 0.0, 6.0), ("clip below", -0.5, None), ("clip above", None, 0.5), ("clip nothing", None, None)]:
    constants = {key: np.asarray(value) for key, value in [("low", low), ("high", high)] if value is not None}
    names = ["x", "low" if low is not None else "", "high" if high is not None else ""]
    case(
        name,
        [("Clip", names, ["y"], {})],
        {"x": spread(3, 7, low=-3, high=9)},
        lambda x, low=low, high=high: torch.clamp(x, low, high) if (low, high) != (None, None) else x * 1,
        constants,
    )
for name, slope in [("prelu, channels", (3, 1, 1)), ("prelu, one slope", (1,))]:
    case(
        name,
        [("PRelu", ["x", "slope"], ["y"], {})],
        {"x": spread(2, 3, 3, 2), "slope": spread(*slope, low=0.1, high=0.4)},
        lambda x, slope: F.prelu(x, slope.reshape(-1)),
    )
CONDITION = RNG.integers(0, 2, (2, 1, 4)).astype(bool)
case(
    "where",
    [("Where", ["c", "a", "b"], ["y"], {})],
    {"a": spread(2, 3, 4), "b": spread(3, 1)},
    lambda a, b: torch.where(torch.tensor(CONDITION), a, b),
    {"c": CONDITION},
)
for axis in (1, -1):
    attributes = {"axis": axis}
    unary(f"softmax on axis {axis}", "Softmax", lambda x: torch.softmax(x, axis), attributes)
    unary(f"log softmax on axis {axis}", "LogSoftmax", lambda x: torch.log_softmax(x, axis), attributes)

# --- moving elements ------------------------------------------------------------------------------------------------


def ints(*values):
    return np.asarray(values, dtype=np.int64)


def moved(name, op, function, constants=None, attributes=None, shape=(2, 3, 4)):
    names = list((constants or {}).keys())
    case(name, [(op, ["x"] + names, ["y"], attributes or {})], {"x": spread(*shape)}, function, constants)


moved("reshape", "Reshape", lambda x: x.reshape(2, 2, 6), {"s": ints(0, 2, -1)})
moved("flatten", "Flatten", lambda x: x.reshape(2, 12))
moved("flatten on axis 2", "Flatten", lambda x: x.reshape(6, 4), attributes={"axis": 2})
moved("transpose", "Transpose", lambda x: x.permute(1, 2, 0), attributes={"perm": [1, 2, 0]})
moved("transpose by default", "Transpose", lambda x: x.permute(2, 1, 0))
moved("squeeze", "Squeeze", lambda x: x.reshape(2, 3, 1), {"a": ints(1)}, shape=(2, 1, 3, 1))
moved("squeeze all", "Squeeze", lambda x: x.reshape(2, 3), shape=(2, 1, 3, 1))
moved("unsqueeze", "Unsqueeze", lambda x: x.reshape(2, 1, 3, 1), {"a": ints(1, -1)}, shape=(2, 3))
moved("expand", "Expand", lambda x: x.expand(2, 3, 4), {"s": ints(2, 1, 4)}, shape=(3, 1))
moved("slice", "Slice", lambda x: x[:, 1:3, 2:], {"s": ints(1, -3), "e": ints(3, 2**62), "a": ints(1, 2)}, shape=(2, 4, 5))
moved(
    "slice with steps",
    "Slice",
    lambda x: x[1:7:2, 0:8:3],
    {"s": ints(1, 0), "e": ints(7, 8), "a": ints(0, 1), "t": ints(2, 3)},
    shape=(7, 9),
)
moved("slice backwards", "Slice", lambda x: x.flip(0)[::2], {"s": ints(-1), "e": ints(-(2**62)), "a": ints(0), "t": ints(-2)}, shape=(6, 3))
moved("pad", "Pad", lambda x: F.pad(x, (1, 2, 0, 3)), {"p": ints(0, 0, 1, 0, 3, 2)})
moved("pad that cuts", "Pad", lambda x: F.pad(x, (-1, 2, 1, -1)), {"p": ints(0, 1, -1, 0, -1, 2)})
case(
    "concat",
    [("Concat", ["a", "b", "c"], ["y"], {"axis": 1})],
    {"a": spread(2, 1, 3), "b": spread(2, 2, 3), "c": spread(2, 3, 3)},
    lambda a, b, c: torch.cat([a, b, c], 1),
)
case(
    "split, one part unused",
    [("Split", ["x", "s"], ["p", "q", "r"], {"axis": -1}), ("Mul", ["p", "r"], ["y"], {})],
    {"x": spread(2, 7)},
    lambda x: x[:, 0:2] * x[:, 5:7],
    {"s": ints(2, 3, 2)},
)

# --- reductions -----------------------------------------------------------------------------------------------------

for op, function in [
    ("ReduceSum", lambda x, axes, keep: x.sum(axes, keepdim=keep)),
    ("ReduceMean", lambda x, axes, keep: x.mean(axes, keepdim=keep)),
    ("ReduceSumSquare", lambda x, axes, keep: (x * x).sum(axes, keepdim=keep)),
    ("ReduceL2", lambda x, axes, keep: (x * x).sum(axes, keepdim=keep).sqrt()),
]:
    for axes, keep in [((1,), True), ((0, 2), False), ((-1, 1), False)]:
        moved(
            f"{op} over {list(axes)}" + (" kept" if keep else ""),
            op,
            lambda x: function(x, axes, keep),
            {"a": ints(*axes)},
            {"keepdims": int(keep)},
        )
    moved(f"{op} over all", op, lambda x: function(x, (0, 1, 2), False), attributes={"keepdims": 0})

# --- matrix products ------------------------------------------------------------------------------------------------

for name, a, b in [
    ("matrices", (3, 4), (4, 5)),
    ("stacks", (2, 3, 4), (2, 4, 5)),
    ("a matrix and a stack", (3, 4), (2, 2, 4, 5)),
    ("stacks that broadcast", (2, 1, 3, 4), (3, 4, 2)),
    ("a vector on the left", (4,), (2, 4, 3)),
    ("a vector on the right", (2, 3, 4), (4,)),
    ("two vectors", (4,), (4,)),
]:
    case(
        f"matmul of {name}",
        [("MatMul", ["a", "b"], ["y"], {})],
        {"a": spread(*a), "b": spread(*b)},
        lambda a, b: a @ b,
    )
for ta in (0, 1):
    for tb in (0, 1):
        attributes = {"transA": ta, "transB": tb, "alpha": 0.7}
        a = spread(2, *((4, 3) if ta else (3, 4)))
        b = spread(2, *((5, 4) if tb else (4, 5)))
        turn = lambda m, t: m.transpose(-1, -2) if t else m
        case(
            f"fused matmul {ta}{tb}",
            [("FusedMatMul", ["a", "b"], ["y"], attributes)],
            {"a": a, "b": b},
            lambda a, b: 0.7 * turn(a, ta) @ turn(b, tb),
        )
        case(
            f"gemm {ta}{tb}",
            [("Gemm", ["a", "b", "c"], ["y"], attributes | {"beta": 1.5})],
            {"a": a[0], "b": b[0], "c": spread(5) if ta else spread(3, 1)},
            lambda a, b, c: 0.7 * turn(a, ta) @ turn(b, tb) + 1.5 * c,
        )
case("gemm without bias", [("Gemm", ["a", "b"], ["y"], {})], {"a": spread(3, 4), "b": spread(4, 2)}, lambda a, b: a @ b)

# --- convolutions ---------------------------------------------------------------------------------------------------


def padded(x, pads):
    """ONNX pads (begins, then ends) on the spatial axes."""
    count = len(pads) // 2
    flat = [size for axis in reversed(range(count)) for size in (pads[axis], pads[count + axis])]
    return F.pad(x, flat)


def conv(name, x, w, pads=(0, 0, 0, 0), strides=(1, 1), dilations=(1, 1), groups=1, bias=False):
    function = {3: F.conv1d, 4: F.conv2d, 5: F.conv3d}[len(x)]
    inputs = {"x": spread(*x), "w": spread(*w, low=-1, high=1)} | ({"b": spread(w[0])} if bias else {})
    attributes = {
        "kernel_shape": list(w[2:]),
        "pads": list(pads),
        "strides": list(strides),
        "dilations": list(dilations),
        "group": groups,
    }
    case(
        "conv " + name,
        [("Conv", list(inputs), ["y"], attributes)],
        inputs,
        lambda x, w, b=None: function(padded(x, pads), w, b, strides, 0, dilations, groups),
    )


conv("pointwise", (2, 3, 3, 4), (5, 3, 1, 1))
conv("pointwise with bias", (2, 3, 3, 4), (5, 3, 1, 1), bias=True)
conv("pointwise with stride 2", (2, 3, 4, 5), (2, 3, 1, 1), strides=(2, 2))
conv("pointwise in groups", (2, 4, 3, 3), (6, 2, 1, 1), groups=2)
conv("pointwise with pads", (1, 2, 3, 3), (2, 2, 1, 1), pads=(1, 0, 0, 1))
conv("dense 3x3", (2, 2, 5, 4), (3, 2, 3, 3), pads=(1, 1, 1, 1), bias=True)
conv("dense 3x3 of one pixel", (2, 2, 1, 1), (3, 2, 3, 3), pads=(1, 1, 1, 1))
conv("dense 3x3 with stride 2 on an odd size", (2, 2, 7, 5), (3, 2, 3, 3), pads=(1, 1, 1, 1), strides=(2, 2))
conv("dense 3x3 with stride 2 on an even size", (2, 2, 6, 8), (3, 2, 3, 3), pads=(1, 1, 1, 1), strides=(2, 2))
conv("dense 3x3 with stride 3 that does not divide", (1, 2, 9, 8), (2, 2, 3, 3), strides=(3, 3))
conv("dense 2x3 with unlike strides and pads", (2, 2, 6, 7), (3, 2, 2, 3), pads=(1, 0, 2, 1), strides=(1, 3))
conv("dense 3x3 dilated", (1, 2, 8, 7), (2, 2, 3, 3), pads=(2, 1, 2, 1), dilations=(2, 1))
conv("dense 3x3 dilated with stride 2", (1, 2, 9, 8), (2, 2, 3, 3), pads=(2, 2, 2, 2), dilations=(2, 2), strides=(2, 2))
conv("3x3 in groups", (2, 4, 5, 5), (6, 2, 3, 3), pads=(1, 1, 1, 1), groups=2, bias=True)
conv("3x3 in groups with stride 2", (2, 6, 6, 5), (3, 2, 3, 3), pads=(0, 1, 1, 0), groups=3, strides=(2, 2))
conv("depthwise 3x3", (2, 3, 5, 6), (3, 1, 3, 3), pads=(1, 1, 1, 1), groups=3, bias=True)
conv("depthwise 3x3 with stride 2 on an odd size", (2, 3, 7, 5), (3, 1, 3, 3), pads=(1, 1, 1, 1), groups=3, strides=(2, 2))
conv("depthwise 3x3 with stride 2 on an even size", (2, 3, 6, 4), (3, 1, 3, 3), pads=(1, 1, 1, 1), groups=3, strides=(2, 2))
conv("depthwise 3x3 with stride 2 and unlike pads", (2, 3, 6, 8), (3, 1, 3, 3), pads=(0, 0, 1, 1), groups=3, strides=(2, 2))
conv("depthwise 3x3 with more pads than taps", (1, 2, 3, 4), (2, 1, 3, 3), pads=(3, 1, 1, 4), groups=2)
conv("depthwise 5x5", (1, 2, 6, 7), (2, 1, 5, 5), pads=(2, 2, 2, 2), groups=2)
conv("depthwise 5x5 with stride 2", (1, 2, 9, 7), (2, 1, 5, 5), pads=(2, 2, 2, 2), groups=2, strides=(2, 2))
conv("depthwise 3x3 dilated", (1, 2, 7, 8), (2, 1, 3, 3), pads=(2, 2, 2, 2), groups=2, dilations=(2, 2))
conv("depthwise with two filters a channel", (2, 3, 4, 5), (6, 1, 3, 3), pads=(1, 1, 1, 1), groups=3)
conv("on one axis", (2, 2, 7), (3, 2, 3), pads=(1, 1), strides=(2,), dilations=(1,))
conv("depthwise on one axis", (2, 3, 7), (3, 1, 3), pads=(1, 1), strides=(2,), dilations=(1,), groups=3)
conv("on three axes", (1, 2, 3, 4, 3), (2, 2, 2, 2, 2), pads=(0,) * 6, strides=(1, 2, 1), dilations=(1,) * 3)


def conv_transpose(name, x, w, padding=(0, 0), strides=(1, 1), extra=(0, 0), dilations=(1, 1), groups=1, bias=False):
    inputs = {"x": spread(*x), "w": spread(*w, low=-1, high=1)} | ({"b": spread(w[1] * groups)} if bias else {})
    attributes = {
        "kernel_shape": list(w[2:]),
        "pads": list(padding) * 2,
        "strides": list(strides),
        "dilations": list(dilations),
        "output_padding": list(extra),
        "group": groups,
    }
    case(
        "conv transpose " + name,
        [("ConvTranspose", list(inputs), ["y"], attributes)],
        inputs,
        lambda x, w, b=None: F.conv_transpose2d(x, w, b, strides, padding, extra, groups, dilations),
    )


conv_transpose("2x2 with stride 2", (2, 3, 3, 4), (3, 2, 2, 2), strides=(2, 2), bias=True)
conv_transpose("3x3 with stride 2 and output padding", (2, 3, 3, 4), (3, 2, 3, 3), (1, 1), (2, 2), (1, 1))
conv_transpose("4x4 with stride 2", (1, 2, 3, 3), (2, 2, 4, 4), (1, 1), (2, 2))
conv_transpose("3x3 in groups", (2, 4, 3, 4), (4, 3, 3, 3), (1, 1), groups=2, bias=True)
conv_transpose("depthwise 3x3", (2, 3, 3, 4), (3, 1, 3, 3), (1, 1), (2, 2), (1, 0), groups=3)
conv_transpose("3x3 dilated", (1, 2, 4, 3), (2, 2, 3, 3), (1, 2), dilations=(1, 2))

# --- pooling --------------------------------------------------------------------------------------------------------


def pool(name, op, function, x=(2, 2, 6, 7), **attributes):
    attributes = {key: list(value) if isinstance(value, tuple) else value for key, value in attributes.items()}
    case(name, [(op, ["x"], ["y"], attributes)], {"x": spread(*x)}, function)


pool("max pool 2x2", "MaxPool", lambda x: F.max_pool2d(x, 2), kernel_shape=(2, 2), strides=(2, 2))
pool("max pool 3x3 with stride 2", "MaxPool", lambda x: F.max_pool2d(x, 3, 2, 1), kernel_shape=(3, 3), strides=(2, 2), pads=(1, 1, 1, 1))
pool("max pool 3x2 that overlaps", "MaxPool", lambda x: F.max_pool2d(x, (3, 2), 1), kernel_shape=(3, 2), strides=(1, 1))
pool("max pool rounded up", "MaxPool", lambda x: F.max_pool2d(x, 3, 2, ceil_mode=True), kernel_shape=(3, 3), strides=(2, 2), ceil_mode=1)
case(
    "max pool with ties: the first of the equals",
    [("MaxPool", ["x"], ["y"], {"kernel_shape": [2, 2], "strides": [2, 2]})],
    {"x": np.asarray([[[[1.0, 1, 0, 2], [1, 1, 2, 2]]]])},
    lambda x: F.max_pool2d(x, 2),
)
pool("average pool 2x2", "AveragePool", lambda x: F.avg_pool2d(x, 2), kernel_shape=(2, 2), strides=(2, 2))
pool(
    "average pool 3x3 with pads not counted",
    "AveragePool",
    lambda x: F.avg_pool2d(x, 3, 2, 1, count_include_pad=False),
    kernel_shape=(3, 3),
    strides=(2, 2),
    pads=(1, 1, 1, 1),
)
pool(
    "average pool 3x3 with pads counted",
    "AveragePool",
    lambda x: F.avg_pool2d(x, 3, 2, 1, count_include_pad=True),
    kernel_shape=(3, 3),
    strides=(2, 2),
    pads=(1, 1, 1, 1),
    count_include_pad=1,
)
pool(
    "average pool rounded up",
    "AveragePool",
    lambda x: F.avg_pool2d(x, 3, 2, ceil_mode=True, count_include_pad=False),
    kernel_shape=(3, 3),
    strides=(2, 2),
    ceil_mode=1,
)
pool("average pool 3x2 that overlaps", "AveragePool", lambda x: F.avg_pool2d(x, (3, 2), (1, 2)), kernel_shape=(3, 2), strides=(1, 2))
pool("global average pool", "GlobalAveragePool", lambda x: x.mean((2, 3), keepdim=True), x=(2, 3, 3, 5))
for name, scales, shape in [
    ("x2", (1, 1, 2, 2), (2, 2, 3, 4)),
    ("x3 and x1", (1, 1, 3, 1), (1, 2, 2, 3)),
    ("x2 on three axes", (1, 2, 2), (2, 3, 4)),
]:
    mode = {"mode": "nearest", "coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}

    def repeated(x, scales=scales):
        for axis, times in enumerate(scales):
            x = x.repeat_interleave(times, axis)
        return x

    case(
        "resize " + name,
        [("Resize", ["x", "", "s"], ["y"], mode)],
        {"x": spread(*shape)},
        repeated,
        {"s": np.asarray(scales, dtype=np.float64)},
    )

# --- batch normalisation --------------------------------------------------------------------------------------------

for name, shape in [("", (3, 2, 3, 5)), (" of one axis", (4, 3, 5)), (" of vectors", (7, 3))]:
    channels = shape[1]
    inputs = {
        "x": spread(*shape) + np.arange(channels).reshape([-1] + [1] * (len(shape) - 2)),
        "scale": spread(channels, low=0.5, high=1.5),
        "bias": spread(channels),
    }
    running = {"mean": spread(channels), "variance": spread(channels, low=0.5, high=2)}
    fixed = {key: torch.tensor(value) for key, value in running.items()}
    nodes = [("BatchNormalization", ["x", "scale", "bias", "mean", "variance"], ["y"], {"epsilon": 1e-3})]
    case(
        "batch norm by constants" + name,
        nodes,
        inputs,
        lambda x, scale, bias: F.batch_norm(x, fixed["mean"], fixed["variance"], scale, bias, False, 0, 1e-3),
        running,
    )
    # With momentum 1 PyTorch's running averages are the statistics of the batch, the variance unbiased.
    last = {key: value.clone() for key, value in fixed.items()}
    F.batch_norm(torch.tensor(inputs["x"]), last["mean"], last["variance"], None, None, True, 1.0, 1e-3)
    case(
        "batch norm by the batch" + name,
        nodes,
        inputs,
        lambda x, scale, bias: F.batch_norm(x, None, None, scale, bias, True, 0, 1e-3),
        running,
        training=True,
        statistics={key: value.numpy() for key, value in last.items()},
    )

# --- rounding as the int8 form does it, with straight-through gradients ------------------------------------------------


def fake_quantize(x, low, high, rectify):
    """Rounded to 256 levels; the gradient passes where the level is not saturated (and above 0 behind a ReLU)."""
    z = F.relu(x) if rectify else x
    scale = (max(high, 0.0) - min(low, 0.0)) / 255
    if scale == 0:
        return z
    zero_point = round(-min(low, 0.0) / scale)
    level = torch.round(z / scale) + zero_point
    inside = (level >= 0) & (level <= 255)
    rounded = (level.clamp(0, 255) - zero_point) * scale
    return rounded.detach() + inside * (z - z.detach())


def fake_quantize_weight(w, axis, largest):
    others = [other for other in range(w.ndim) if other != axis]
    scale = w.detach().abs().amax(others, keepdim=True) / largest
    return (torch.round(w / scale) * scale).detach() + w - w.detach()


for name, low, high, rectify in [
    ("on both sides", -0.75, 1.3, 0),
    ("everything inside", -2.5, 2.5, 0),
    ("from 0 on", 0.0, 1.1, 0),
    ("behind a relu", 0.0, 1.1, 1),
    ("behind a relu, range below 0", -0.4, 1.1, 1),
    ("without width", 0.0, 0.0, 0),
    ("without width behind a relu", 0.0, 0.0, 1),
]:
    case(
        "fake quantize " + name,
        [("FakeQuantize", ["x", "range"], ["y", "observed"], {"rectify": rectify})],
        {"x": spread(3, 5, 7)},
        lambda x, low=low, high=high, rectify=rectify: fake_quantize(x, low, high, rectify),
        {"range": np.asarray([low, high])},
    )
for name, shape, axis, largest in [
    ("of a convolution", (4, 3, 3, 3), 0, 127),
    ("of seven bits", (5, 1, 3, 3), 0, 63),
    ("of columns", (7, 4), 1, 127),
]:
    case(
        "fake quantize weights " + name,
        [("FakeQuantizeWeight", ["w"], ["y"], {"axis": axis, "largest": largest})],
        {"w": spread(*shape)},
        lambda w, axis=axis, largest=largest: fake_quantize_weight(w, axis, largest),
    )


def rounded_net(x, stem, offset, point, dense):
    h = fake_quantize(F.conv2d(x, fake_quantize_weight(stem, 0, 127), offset, 2, 1), 0.0, 0.9, 1)
    g = fake_quantize(F.conv2d(h, fake_quantize_weight(point, 0, 127)), -0.8, 0.8, 0)
    s = fake_quantize(h + g, -1.1, 1.4, 0)
    return fake_quantize(s.mean((2, 3)), -0.3, 0.6, 0) @ fake_quantize_weight(dense, 0, 127).T


case(
    "a residual net that rounds",
    [
        ("FakeQuantizeWeight", ["stem"], ["stem_q"], {}),
        ("FakeQuantizeWeight", ["point"], ["point_q"], {}),
        ("FakeQuantizeWeight", ["dense"], ["dense_q"], {}),
        ("Conv", ["x", "stem_q", "offset"], ["c0"], {"kernel_shape": [3, 3], "strides": [2, 2], "pads": [1, 1, 1, 1]}),
        ("FakeQuantize", ["c0", "range0"], ["h", "o0"], {"rectify": 1}),
        ("Conv", ["h", "point_q"], ["c1"], {"kernel_shape": [1, 1]}),
        ("FakeQuantize", ["c1", "range1"], ["g", "o1"], {}),
        ("Add", ["h", "g"], ["a"], {}),
        ("FakeQuantize", ["a", "range2"], ["s", "o2"], {}),
        ("GlobalAveragePool", ["s"], ["p"], {}),
        ("FakeQuantize", ["p", "range3"], ["q", "o3"], {}),
        ("Flatten", ["q"], ["f"], {}),
        ("Gemm", ["f", "dense_q"], ["y"], {"transB": 1}),
    ],
    {
        "x": spread(2, 3, 9, 7),
        "stem": spread(4, 3, 3, 3, low=-0.2, high=0.2),
        "offset": spread(4, low=-0.1, high=0.3),
        "point": spread(4, 4, 1, 1, low=-0.5, high=0.5),
        "dense": spread(5, 4, low=-1, high=1),
    },
    rounded_net,
    {f"range{i}": np.asarray(r) for i, r in enumerate([[0.0, 0.9], [-0.8, 0.8], [-1.1, 1.4], [-0.3, 0.6]])},
)

# --- a small net: several rules and sums of gradients at once -----------------------------------------------------------


def net(x, stem, depth, point, scale, bias, dense, offset):
    h = F.relu(F.conv2d(x, stem, None, 2, 1))
    g = F.conv2d(F.conv2d(h, depth, None, 1, 1, 1, 4), point)
    g = F.relu(F.batch_norm(g, None, None, scale, bias, True, 0, 1e-5))
    return (h + g).mean((2, 3)) @ dense.T + offset


case(
    "a residual net",
    [
        ("Conv", ["x", "stem"], ["c0"], {"kernel_shape": [3, 3], "strides": [2, 2], "pads": [1, 1, 1, 1]}),
        ("Relu", ["c0"], ["h"], {}),
        ("Conv", ["h", "depth"], ["c1"], {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1], "group": 4}),
        ("Conv", ["c1", "point"], ["c2"], {"kernel_shape": [1, 1]}),
        ("BatchNormalization", ["c2", "scale", "bias", "mean", "variance"], ["n"], {"epsilon": 1e-5}),
        ("Relu", ["n"], ["g"], {}),
        ("Add", ["h", "g"], ["s"], {}),
        ("GlobalAveragePool", ["s"], ["p"], {}),
        ("Flatten", ["p"], ["f"], {}),
        ("Gemm", ["f", "dense", "offset"], ["y"], {"transB": 1}),
    ],
    {
        "x": spread(3, 3, 9, 7),
        "stem": spread(4, 3, 3, 3, low=-0.5, high=0.5),
        "depth": spread(4, 1, 3, 3, low=-0.5, high=0.5),
        "point": spread(4, 4, 1, 1, low=-1, high=1),
        "scale": spread(4, low=0.5, high=1.5),
        "bias": spread(4),
        "dense": spread(5, 4),
        "offset": spread(5),
    },
    net,
    {"mean": np.zeros(4), "variance": np.ones(4)},
    training=True,
)

if __name__ == "__main__":
    path = pathlib.Path(__file__).with_suffix(".json")
    lines = ",\n".join(json.dumps(entry, separators=(",", ":")) for entry in CASES)
    path.write_text(f"[\n{lines}\n]\n")
    print(f"{path}: {len(CASES)} cases, {path.stat().st_size} bytes")
