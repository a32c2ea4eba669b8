"""Writes a network as ncnn's .param (text) and .bin.

An int8 network becomes what ncnn's own ncnn2int8 makes: convolutions and dense layers in int8 with the ranges of our file,
made symmetric as ncnn knows no zero points, requantised where only int8 layers read on; additions stay float, as ncnn has no others.
"""

import struct

import numpy as np

MATRIX = ("conv", "dense")


class Writer:
    def __init__(self, network):
        self.network = network
        self.lines, self.weights, self.blobs = [], [], 0
        # Quantising and dequantising are the int8 layers' own business in ncnn: both sides are one blob.
        self.alias = {layer.output: layer.inputs[0] for layer in network.layers
                      if layer.kind in ("quantize", "dequantize")}
        self.layers = [layer for layer in network.layers if layer.output not in self.alias]
        self.readers = {}
        for layer in self.layers:
            for name in layer.inputs:
                self.readers.setdefault(self.resolve(name), []).append(layer)
        self.waiting = {}  # map -> blobs that its readers take in turn

    def resolve(self, name):
        while name in self.alias:
            name = self.alias[name]
        return name

    def line(self, kind, inputs, outputs, parameters=""):
        self.blobs += len(outputs)
        name = f"{kind}_{len(self.lines)}"
        self.lines.append(f"{kind} {name} {len(inputs)} {len(outputs)} {' '.join([*inputs, *outputs])} {parameters}".strip())

    def produced(self, name, blob):
        """`blob` holds the map; each further reader needs a copy by name."""
        outputs = sum(self.resolve(output) == name for output in self.network.outputs)
        count = len(self.readers.get(name, [])) + outputs
        if count > 1:
            copies = [f"{blob}_{index}" for index in range(count)]
            self.line("Split", [blob], copies)
            self.waiting[name] = copies
        else:
            self.waiting[name] = [blob]

    def take(self, name):
        return self.waiting[self.resolve(name)].pop(0)

    def int8_scale(self, name):
        """What floats are multiplied with to become ncnn's int8."""
        value = self.network.maps[name]
        return 127 / (value.scale * max(value.zero_point, 255 - value.zero_point))

    def add_weights(self, layer, is_depthwise):
        """The weights, appended; the parameters that tell of int8."""
        weight, bias = layer.weight.astype(np.float32), layer.bias.astype(np.float32)
        if layer.weight_scale is not None:
            scale = layer.weight_scale.astype(np.float32)
            bias = bias * (np.float32(self.network.maps[layer.inputs[0]].scale) * scale)
            weight = weight * scale.reshape(-1, *[1] * (weight.ndim - 1))
        # A tag of 0: 32-bit floats follow. ncnn quantises them when it loads the file.
        self.weights += [struct.pack("<I", 0), weight.tobytes(), bias.tobytes()]
        if layer.weight_scale is None:
            return ""
        self.weights += [(1 / scale).astype(np.float32).tobytes(),
                         struct.pack("<f", self.int8_scale(layer.inputs[0]))]
        term = 1 if is_depthwise else 2
        readers = self.readers.get(self.resolve(layer.output), [])
        is_result = any(self.resolve(output) == layer.output for output in self.network.outputs)
        if layer.kind == "conv" and readers and not is_result and all(reader.kind == "conv" for reader in readers):
            self.weights.append(struct.pack("<f", self.int8_scale(layer.output)))
            term += 100
        return f" 8={term}"

    def activation(self, layer):
        # In the int8 form ReLU is hidden in the output's range; ncnn's own int8 has no range to hide it in.
        output = self.network.maps[layer.output]
        return " 9=1" if layer.relu or (output.quantized and output.zero_point == 0) else ""

    def conv(self, layer, inputs, output):
        out, _, kh, kw = layer.weight.shape
        group = layer.attributes["group"]
        top, left, bottom, right = layer.attributes["pads"]
        strides = layer.attributes["strides"]
        int8 = self.add_weights(layer, group > 1)
        kind = "Convolution" if group == 1 else "ConvolutionDepthWise"
        self.line(kind, inputs, [output],
                  f"0={out} 1={kw} 11={kh} 2=1 12=1 3={strides[1]} 13={strides[0]} 4={left} 14={top} 15={right} 16={bottom} "
                  f"5=1 6={layer.weight.size}" + (f" 7={group}" if group > 1 else "") + int8 + self.activation(layer))

    def dense(self, layer, inputs, output):
        int8 = self.add_weights(layer, False)
        self.line("InnerProduct", inputs, [output],
                  f"0={len(layer.weight)} 1=1 2={layer.weight.size}" + int8 + self.activation(layer))

    def add(self, layer, inputs, output):
        if self.activation(layer):
            self.line("BinaryOp", inputs, [f"{output}_sum"], "0=0")
            self.line("ReLU", [f"{output}_sum"], [output])
        else:
            self.line("BinaryOp", inputs, [output], "0=0")

    def average(self, layer, inputs, output):
        self.line("Pooling", inputs, [output], "0=1 4=1")

    def max_pool(self, layer, inputs, output):
        (kh, kw), (sy, sx) = layer.attributes["kernel"], layer.attributes["strides"]
        top, left, bottom, right = layer.attributes["pads"]
        self.line("Pooling", inputs, [output],
                  f"0=0 1={kw} 11={kh} 2={sx} 12={sy} 3={left} 13={top} 14={right} 15={bottom} 5=1")

    def resize(self, layer, inputs, output):
        before, after = self.network.maps[layer.inputs[0]].shape, self.network.maps[layer.output].shape
        self.line("Interp", inputs, [output], f"0=1 1={after[2] / before[2]} 2={after[3] / before[3]}")

    def concat(self, layer, inputs, output):
        self.line("Concat", inputs, [output], "0=0")

    def flatten(self, layer, inputs, output):
        self.line("Flatten", inputs, [output])

    def places(self, layer, inputs, output):
        _, count, h, w = self.network.maps[layer.inputs[0]].shape
        rows, weights, points = (f"{output}_{part}" for part in ("rows", "weights", "points"))
        self.line("Reshape", inputs, [rows], f"0={h * w} 1={count}")
        self.line("Softmax", [rows], [weights], "0=1 1=1")
        # A dense layer on each row.
        self.line("InnerProduct", [weights], [points], f"0={len(layer.weight)} 1=0 2={layer.weight.size}")
        self.weights += [struct.pack("<I", 0), np.ascontiguousarray(layer.weight).tobytes()]
        self.line("Flatten", [points], [output])

    def write(self):
        """Text, weights, and pairs of ONNX's name and the file's: the input, then the outputs."""
        self.line("Input", [], ["image"])
        self.produced(self.resolve(self.network.input), "image")
        for index, layer in enumerate(self.layers):
            getattr(self, layer.kind)(layer, [self.take(name) for name in layer.inputs], f"b{index}")
            self.produced(layer.output, f"b{index}")
        names = [(self.network.input, "image")] + [(name, self.take(name)) for name in self.network.outputs]
        text = "\n".join(["7767517", f"{len(self.lines)} {self.blobs}", *self.lines]) + "\n"
        return text, b"".join(self.weights), names


def to_ncnn(network):
    """See `Writer.write`."""
    return Writer(network).write()
