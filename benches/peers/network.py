"""A facemark ONNX file, float or int8 (QOperator form), as a plain list of layers that the converters walk.

Names are the ONNX file's. Shapes are NCHW. An int8 map is described by the scale and zero point of its bytes (u8);
a float one has none. ReLU is a flag of the layer before it.
"""

from dataclasses import dataclass, field

import numpy as np
import onnx
from onnx import numpy_helper


@dataclass
class Map:
    """A value between layers."""

    name: str
    shape: tuple
    scale: float | None = None
    zero_point: int | None = None

    @property
    def quantized(self):
        return self.scale is not None


@dataclass
class Layer:
    """One layer; `kind` is one of KINDS."""

    kind: str
    name: str
    inputs: list
    output: str
    weight: np.ndarray | None = None  # conv: OIHW; dense: [out, in]; places: [2, cells], the cells' places
    bias: np.ndarray | None = None  # int8: i32 in units of input scale * weight scale
    weight_scale: np.ndarray | None = None
    relu: bool = False
    attributes: dict = field(default_factory=dict)


KINDS = ["conv", "dense", "add", "average", "max_pool", "resize", "concat", "flatten", "places", "quantize",
         "dequantize"]


class Network:
    """The layers in order, the maps by name."""

    def __init__(self, path):
        model = onnx.load(path)
        self.path = path
        self.model = model
        self.metadata = {entry.key: entry.value for entry in model.metadata_props}
        self.constants = {c.name: numpy_helper.to_array(c) for c in model.graph.initializer}
        self.maps, self.layers = {}, []
        (image,) = [i for i in model.graph.input if i.name not in self.constants]
        self.input = image.name
        self.outputs = [output.name for output in model.graph.output]
        self._map(image.name, tuple(d.dim_value for d in image.type.tensor_type.shape.dim))
        for node in model.graph.node:
            if node.op_type == "Constant":
                self.constants[node.output[0]] = numpy_helper.to_array(node.attribute[0].t)
                continue
            read = getattr(self, f"_read_{node.op_type}", None)
            if read is None:
                raise ValueError(f"{path}: no converter for {node.op_type} (node {node.name or node.output[0]})")
            read(node, {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute})

    @property
    def quantized(self):
        return any(m.quantized for m in self.maps.values())

    def _map(self, name, shape, scale=None, zero_point=None):
        scale = None if scale is None else float(self.constants[scale])
        zero_point = None if zero_point is None else int(self.constants[zero_point])
        self.maps[name] = Map(name, tuple(int(s) for s in shape), scale, zero_point)

    def _like(self, name, shape, source):
        source = self.maps[source]
        self.maps[name] = Map(name, tuple(int(s) for s in shape), source.scale, source.zero_point)

    def _add(self, kind, node, inputs, **more):
        self.layers.append(Layer(kind, node.name or node.output[0], inputs, node.output[0], **more))

    def _conv(self, node, attributes, source, weight, bias, weight_scale, output_range):
        n, _, h, w = self.maps[source].shape
        out, _, kh, kw = weight.shape
        strides = tuple(attributes.get("strides", (1, 1)))
        top, left, bottom, right = attributes.get("pads", (0, 0, 0, 0))
        if attributes.get("auto_pad", b"NOTSET") != b"NOTSET" or set(attributes.get("dilations", [1])) != {1}:
            raise ValueError(f"{self.path}: {node.name}: auto_pad and dilations are not converted")
        shape = (n, out, (h + top + bottom - kh) // strides[0] + 1, (w + left + right - kw) // strides[1] + 1)
        self._map(node.output[0], shape, *output_range)
        self._add("conv", node, [source], weight=weight, bias=bias, weight_scale=weight_scale,
                  attributes={"strides": strides, "pads": (top, left, bottom, right),
                              "group": attributes.get("group", 1)})

    def _read_Conv(self, node, attributes):
        weight = self.constants[node.input[1]]
        bias = self.constants[node.input[2]] if len(node.input) > 2 else np.zeros(len(weight), np.float32)
        self._conv(node, attributes, node.input[0], weight, bias, None, ())

    def _read_QLinearConv(self, node, attributes):
        weight = self.constants[node.input[3]]
        bias = self.constants[node.input[8]] if len(node.input) > 8 else np.zeros(len(weight), np.int32)
        scale = np.broadcast_to(self.constants[node.input[4]].ravel(), len(weight))
        self._conv(node, attributes, node.input[0], weight, bias, scale, (node.input[6], node.input[7]))

    def _read_Relu(self, node, _):
        last = self.layers[-1]
        if last.output != node.input[0] or last.kind not in ("conv", "dense", "add"):
            raise ValueError(f"{self.path}: ReLU {node.output[0]} does not follow its convolution or addition")
        if sum(node.input[0] in other.input for other in self.model.graph.node) != 1:
            raise ValueError(f"{self.path}: the input of ReLU {node.output[0]} is read elsewhere too")
        self._like(node.output[0], self.maps[node.input[0]].shape, node.input[0])
        last.relu, last.output = True, node.output[0]

    def _read_Add(self, node, _):
        self._like(node.output[0], self.maps[node.input[0]].shape, node.input[0])
        self._add("add", node, list(node.input))

    def _read_QLinearAdd(self, node, _):
        self._map(node.output[0], self.maps[node.input[0]].shape, node.input[6], node.input[7])
        self._add("add", node, [node.input[0], node.input[3]])

    def _read_GlobalAveragePool(self, node, _):
        n, c, _, _ = self.maps[node.input[0]].shape
        self._like(node.output[0], (n, c, 1, 1), node.input[0])
        self._add("average", node, [node.input[0]])

    def _read_QLinearGlobalAveragePool(self, node, _):
        n, c, _, _ = self.maps[node.input[0]].shape
        self._map(node.output[0], (n, c, 1, 1), node.input[3], node.input[4])
        self._add("average", node, [node.input[0]])

    def _dense(self, node, source, weight, bias, weight_scale, output_range):
        self._map(node.output[0], (1, len(weight)), *output_range)
        self._add("dense", node, [source], weight=weight, bias=bias, weight_scale=weight_scale)

    def _read_Gemm(self, node, attributes):
        weight = self.constants[node.input[1]]
        weight = weight if attributes.get("transB", 0) else weight.T
        bias = self.constants[node.input[2]] if len(node.input) > 2 else np.zeros(len(weight), np.float32)
        self._dense(node, node.input[0], weight, bias, None, ())

    def _read_QGemm(self, node, attributes):
        weight = self.constants[node.input[3]]
        weight = weight if attributes.get("transB", 0) else weight.T
        has_bias = len(node.input) > 6 and node.input[6]
        bias = self.constants[node.input[6]] if has_bias else np.zeros(len(weight), np.int32)
        scale = np.broadcast_to(self.constants[node.input[4]].ravel(), len(weight))
        self._dense(node, node.input[0], weight, bias, scale, tuple(node.input[7:9]) if len(node.input) > 8 else ())

    def _read_QLinearMatMul(self, node, _):
        weight = self.constants[node.input[3]].T
        scale = np.broadcast_to(self.constants[node.input[4]].ravel(), len(weight))
        self._dense(node, node.input[0], weight, np.zeros(len(weight), np.int32), scale, (node.input[6], node.input[7]))

    def _read_MaxPool(self, node, attributes):
        n, c, h, w = self.maps[node.input[0]].shape
        kh, kw = attributes["kernel_shape"]
        strides = tuple(attributes.get("strides", (1, 1)))
        top, left, bottom, right = attributes.get("pads", (0, 0, 0, 0))
        shape = (n, c, (h + top + bottom - kh) // strides[0] + 1, (w + left + right - kw) // strides[1] + 1)
        self._like(node.output[0], shape, node.input[0])
        self._add("max_pool", node, [node.input[0]],
                  attributes={"kernel": (kh, kw), "strides": strides, "pads": (top, left, bottom, right)})

    def _read_Resize(self, node, attributes):
        if attributes.get("mode", b"nearest") != b"nearest":
            raise ValueError(f"{self.path}: {node.name}: only nearest resizing is converted")
        n, c, h, w = self.maps[node.input[0]].shape
        if len(node.input) > 3 and node.input[3]:
            _, _, height, width = self.constants[node.input[3]]
        else:
            factors = self.constants[node.input[2]]
            height, width = h * factors[2], w * factors[3]
        self._like(node.output[0], (n, c, height, width), node.input[0])
        self._add("resize", node, [node.input[0]])

    def _read_Concat(self, node, _):
        n, _, h, w = self.maps[node.input[0]].shape
        channels = sum(self.maps[name].shape[1] for name in node.input)
        self._like(node.output[0], (n, channels, h, w), node.input[0])
        self._add("concat", node, list(node.input))

    def _read_Flatten(self, node, _):
        if self.layers[-1].kind == "places" and self.layers[-1].output == node.input[0]:
            self._pass(node)
            return
        shape = self.maps[node.input[0]].shape
        self._like(node.output[0], (1, int(np.prod(shape))), node.input[0])
        self._add("flatten", node, [node.input[0]])

    _read_Reshape = _read_Flatten

    def _read_Softmax(self, node, attributes):
        """Heat maps, reshaped to rows of cells, whose mean places follow: one layer on the maps, whose result is float."""
        rows = self.layers.pop()
        _, c, h, w = self.maps[rows.inputs[0]].shape
        if rows.kind != "flatten" or attributes.get("axis", -1) not in (2, -1):
            raise ValueError(f"{self.path}: {node.name}: only a softmax over the cells of maps is converted")
        self._map(node.output[0], (1, c, h * w))
        self._add("places", node, rows.inputs)

    def _read_MatMul(self, node, _):
        last = self.layers[-1]
        if last.kind != "places" or last.output != node.input[0]:
            raise ValueError(f"{self.path}: {node.name}: only the product of a softmax over cells and their places is converted")
        last.weight = self.constants[node.input[1]].T.astype(np.float32)
        self._pass(node)

    def _pass(self, node):
        """The last layer gives this node's result."""
        last = self.layers[-1]
        _, count, *_ = self.maps[last.inputs[0]].shape
        self._map(node.output[0], (1, count * len(last.weight)))
        last.output = node.output[0]

    def _read_QuantizeLinear(self, node, _):
        self._map(node.output[0], self.maps[node.input[0]].shape, node.input[1], node.input[2])
        self._add("quantize", node, [node.input[0]])

    def _read_DequantizeLinear(self, node, _):
        self._map(node.output[0], self.maps[node.input[0]].shape)
        self._add("dequantize", node, [node.input[0]])

    def multiply_adds(self):
        """Of the convolutions and dense layers."""
        total = 0
        for layer in self.layers:
            if layer.kind == "conv":
                _, _, h, w = self.maps[layer.output].shape
                total += layer.weight.size * h * w
            elif layer.kind == "dense":
                total += layer.weight.size
        return total
