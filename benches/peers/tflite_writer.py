"""Writes a network as a .tflite file: float, or full-integer int8 with one scale an output channel.

Maps become NHWC. An int8 map has the zero point of its u8 form less 128, so that both hold the same numbers. ReLU is fused;
padding that TensorFlow's SAME cannot say is a PAD before the convolution, as TensorFlow's own exporters write it. Inputs and outputs of an int8 file are int8, which is what is cheapest for the runtime; a dense
layer whose result is float in the ONNX file gets the range that the caller measured.
"""

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as schema


class Writer:
    def __init__(self, network, float_ranges):
        self.network = network
        self.float_ranges = float_ranges  # output name -> (low, high), for an int8 file
        self.quantized = network.quantized
        self.buffers = [schema.BufferT()]  # the first is empty by definition
        self.tensors, self.operators, self.codes = [], [], []
        self.index = {}

    def tensor(self, name, shape, kind, values=None, scale=None, zero_point=None, axis=0):
        tensor = schema.TensorT()
        tensor.name = name.encode()
        tensor.shape = np.array(shape, np.int32)
        tensor.type = kind
        if values is not None:
            buffer = schema.BufferT()
            buffer.data = np.frombuffer(np.ascontiguousarray(values).tobytes(), np.uint8)
            self.buffers.append(buffer)
            tensor.buffer = len(self.buffers) - 1
        if scale is not None:
            quantization = schema.QuantizationParametersT()
            quantization.scale = np.atleast_1d(np.asarray(scale, np.float32))
            quantization.zeroPoint = np.zeros(len(quantization.scale), np.int64)
            quantization.zeroPoint[:] = zero_point
            quantization.quantizedDimension = axis
            tensor.quantization = quantization
        self.tensors.append(tensor)
        return len(self.tensors) - 1

    def map(self, name):
        """The tensor of a map, made when it is first named."""
        if name in self.index:
            return self.index[name]
        value = self.network.maps[name]
        shape = value.shape if len(value.shape) < 4 else [value.shape[i] for i in (0, 2, 3, 1)]
        kind = schema.TensorType.INT8 if self.quantized else schema.TensorType.FLOAT32
        scale, zero_point = value.scale, value.zero_point
        if self.quantized and scale is None:
            low, high = self.float_ranges[name]
            scale = max(high - low, 1e-6) / 255
            zero_point = int(np.clip(round(-low / scale), 0, 255))
        zero_point = None if scale is None else zero_point - 128
        self.index[name] = self.tensor(name, shape, kind, scale=scale, zero_point=zero_point)
        return self.index[name]

    def constant(self, name, values, kind=None):
        kinds = {np.dtype(np.float32): schema.TensorType.FLOAT32, np.dtype(np.int32): schema.TensorType.INT32}
        values = np.asarray(values)
        return self.tensor(name, values.shape, kinds[values.dtype] if kind is None else kind, values)

    def operator(self, builtin, inputs, outputs, options_type=0, options=None, version=1):
        for index, code in enumerate(self.codes):
            if code.builtinCode == builtin:
                code.version = max(code.version, version)
                break
        else:
            code = schema.OperatorCodeT()
            code.builtinCode, code.deprecatedBuiltinCode, code.version = builtin, min(builtin, 127), version
            self.codes.append(code)
            index = len(self.codes) - 1
        operator = schema.OperatorT()
        operator.opcodeIndex = index
        operator.inputs, operator.outputs = np.array(inputs, np.int32), np.array(outputs, np.int32)
        operator.builtinOptionsType, operator.builtinOptions = options_type, options
        self.operators.append(operator)

    def weights(self, layer, weight, axis):
        """The tensors of weight and bias."""
        if layer.weight_scale is None:
            return [self.constant(f"{layer.name}/weight", weight.astype(np.float32)),
                    self.constant(f"{layer.name}/bias", layer.bias.astype(np.float32))]
        bias_scale = np.float32(self.network.maps[layer.inputs[0]].scale) * layer.weight_scale
        return [self.tensor(f"{layer.name}/weight", weight.shape, schema.TensorType.INT8, weight.astype(np.int8),
                            layer.weight_scale, 0, axis),
                self.tensor(f"{layer.name}/bias", layer.bias.shape, schema.TensorType.INT32, layer.bias.astype(np.int32),
                            bias_scale, 0)]

    def activation(self, layer):
        relu = schema.ActivationFunctionType.RELU
        return relu if layer.relu else schema.ActivationFunctionType.NONE

    def pad(self, layer):
        """The convolution's input and padding."""
        source = self.network.maps[layer.inputs[0]]
        top, left, bottom, right = layer.attributes["pads"]
        _, _, h, w = source.shape
        strides = layer.attributes["strides"]
        kernel = layer.attributes.get("kernel") or layer.weight.shape[2:]

        def same(size, kernel, stride):
            total = max((-(-size // stride) - 1) * stride + kernel - size, 0)
            return (total // 2, total - total // 2)

        if (top, left, bottom, right) == (0, 0, 0, 0):
            return self.map(layer.inputs[0]), schema.Padding.VALID
        if [same(h, kernel[0], strides[0]), same(w, kernel[1], strides[1])] == [(top, bottom), (left, right)]:
            return self.map(layer.inputs[0]), schema.Padding.SAME
        # What the last window does not reach need not be there.
        out_h = (h + top + bottom - kernel[0]) // strides[0] + 1
        out_w = (w + left + right - kernel[1]) // strides[1] + 1
        bottom = max((out_h - 1) * strides[0] + kernel[0] - h - top, 0)
        right = max((out_w - 1) * strides[1] + kernel[1] - w - left, 0)
        padded = self.tensor(
            f"{layer.name}/padded", [1, h + top + bottom, w + left + right, source.shape[1]],
            schema.TensorType.INT8 if self.quantized else schema.TensorType.FLOAT32,
            scale=source.scale, zero_point=None if source.scale is None else source.zero_point - 128)
        amounts = self.constant(f"{layer.name}/pads", np.array([[0, 0], [top, bottom], [left, right], [0, 0]], np.int32))
        self.operator(schema.BuiltinOperator.PAD, [self.map(layer.inputs[0]), amounts], [padded],
                      schema.BuiltinOptions.PadOptions, schema.PadOptionsT(), 2 if self.quantized else 1)
        return padded, schema.Padding.VALID

    def conv(self, layer):
        source, padding = self.pad(layer)
        channels = self.network.maps[layer.inputs[0]].shape[1]
        if layer.attributes["group"] == channels and channels > 1:
            options = schema.DepthwiseConv2DOptionsT()
            options.depthMultiplier = layer.weight.shape[0] // channels
            options_type, builtin = schema.BuiltinOptions.DepthwiseConv2DOptions, schema.BuiltinOperator.DEPTHWISE_CONV_2D
            weights = self.weights(layer, layer.weight.transpose(1, 2, 3, 0), 3)
        else:
            if layer.attributes["group"] != 1:
                raise ValueError(f"{layer.name}: grouped convolutions are not written")
            options = schema.Conv2DOptionsT()
            options_type, builtin = schema.BuiltinOptions.Conv2DOptions, schema.BuiltinOperator.CONV_2D
            weights = self.weights(layer, layer.weight.transpose(0, 2, 3, 1), 0)
        options.padding = padding
        options.strideH, options.strideW = layer.attributes["strides"]
        options.fusedActivationFunction = self.activation(layer)
        options.dilationHFactor = options.dilationWFactor = 1
        self.operator(builtin, [source, *weights], [self.map(layer.output)], options_type, options, 3)

    def dense(self, layer):
        weight = layer.weight
        # A flattened map comes in the order height, width, channels here.
        producer = next((other for other in self.network.layers if other.output == layer.inputs[0]), None)
        if producer is not None and producer.kind == "flatten":
            _, c, h, w = self.network.maps[producer.inputs[0]].shape
            weight = weight.reshape(-1, c, h, w).transpose(0, 2, 3, 1).reshape(len(weight), -1)
        options = schema.FullyConnectedOptionsT()
        options.fusedActivationFunction = self.activation(layer)
        self.operator(schema.BuiltinOperator.FULLY_CONNECTED,
                      [self.map(layer.inputs[0]), *self.weights(layer, weight, 0)], [self.map(layer.output)],
                      schema.BuiltinOptions.FullyConnectedOptions, options, 5 if self.quantized else 1)

    def add(self, layer):
        options = schema.AddOptionsT()
        options.fusedActivationFunction = self.activation(layer)
        self.operator(schema.BuiltinOperator.ADD, [self.map(name) for name in layer.inputs], [self.map(layer.output)],
                      schema.BuiltinOptions.AddOptions, options, 2 if self.quantized else 1)

    def average(self, layer):
        options = schema.ReducerOptionsT()
        options.keepDims = True
        axes = self.constant(f"{layer.name}/axes", np.array([1, 2], np.int32))
        self.operator(schema.BuiltinOperator.MEAN, [self.map(layer.inputs[0]), axes], [self.map(layer.output)],
                      schema.BuiltinOptions.ReducerOptions, options, 2 if self.quantized else 1)

    def max_pool(self, layer):
        source, padding = self.pad(layer)
        options = schema.Pool2DOptionsT()
        options.padding = padding
        options.strideH, options.strideW = layer.attributes["strides"]
        options.filterHeight, options.filterWidth = layer.attributes["kernel"]
        self.operator(schema.BuiltinOperator.MAX_POOL_2D, [source], [self.map(layer.output)],
                      schema.BuiltinOptions.Pool2DOptions, options, 2 if self.quantized else 1)

    def resize(self, layer):
        _, _, h, w = self.network.maps[layer.output].shape
        size = self.constant(f"{layer.name}/size", np.array([h, w], np.int32))
        self.operator(schema.BuiltinOperator.RESIZE_NEAREST_NEIGHBOR, [self.map(layer.inputs[0]), size],
                      [self.map(layer.output)], schema.BuiltinOptions.ResizeNearestNeighborOptions,
                      schema.ResizeNearestNeighborOptionsT(), 2 if self.quantized else 1)

    def concat(self, layer):
        options = schema.ConcatenationOptionsT()
        options.axis = 3
        self.operator(schema.BuiltinOperator.CONCATENATION, [self.map(name) for name in layer.inputs],
                      [self.map(layer.output)], schema.BuiltinOptions.ConcatenationOptions, options,
                      2 if self.quantized else 1)

    def flatten(self, layer):
        self.reshape(f"{layer.name}/shape", self.map(layer.inputs[0]), self.map(layer.output),
                     self.network.maps[layer.output].shape)

    def reshape(self, name, source, target, shape):
        shape = np.array(shape, np.int32)
        options = schema.ReshapeOptionsT()
        options.newShape = shape
        self.operator(schema.BuiltinOperator.RESHAPE, [source, self.constant(name, shape)], [target],
                      schema.BuiltinOptions.ReshapeOptions, options)

    def places(self, layer):
        """In float, as in the ONNX file: softmax and mean are of few numbers."""
        source = self.network.maps[layer.inputs[0]]
        _, count, h, w = source.shape
        real = schema.TensorType.FLOAT32
        kind = schema.TensorType.INT8 if self.quantized else real
        tensor = self.tensors[self.map(layer.inputs[0])]
        scale = None if tensor.quantization is None else tensor.quantization.scale
        zero_point = None if tensor.quantization is None else tensor.quantization.zeroPoint
        turned = self.tensor(f"{layer.name}/turned", [1, count, h, w], kind, scale=scale, zero_point=zero_point)
        order = self.constant(f"{layer.name}/order", np.array([0, 3, 1, 2], np.int32))
        self.operator(schema.BuiltinOperator.TRANSPOSE, [self.map(layer.inputs[0]), order], [turned],
                      schema.BuiltinOptions.TransposeOptions, schema.TransposeOptionsT(), 2 if self.quantized else 1)
        if self.quantized:
            scores = self.tensor(f"{layer.name}/scores", [1, count, h, w], real)
            self.operator(schema.BuiltinOperator.DEQUANTIZE, [turned], [scores],
                          schema.BuiltinOptions.DequantizeOptions, schema.DequantizeOptionsT(), 2)
        else:
            scores = turned
        rows, weights = (self.tensor(f"{layer.name}/{part}", [count, h * w], real) for part in ("rows", "weights"))
        self.reshape(f"{layer.name}/rows_shape", scores, rows, [count, h * w])
        softmax = schema.SoftmaxOptionsT()
        softmax.beta = 1.0
        self.operator(schema.BuiltinOperator.SOFTMAX, [rows], [weights], schema.BuiltinOptions.SoftmaxOptions, softmax)
        points = self.tensor(f"{layer.name}/points", [count, len(layer.weight)], real)
        self.operator(schema.BuiltinOperator.FULLY_CONNECTED,
                      [weights, self.constant(f"{layer.name}/places", np.ascontiguousarray(layer.weight)), -1], [points],
                      schema.BuiltinOptions.FullyConnectedOptions, schema.FullyConnectedOptionsT())
        shape = self.network.maps[layer.output].shape
        self.index[layer.output] = self.tensor(layer.output, shape, real)
        self.reshape(f"{layer.name}/shape", points, self.index[layer.output], shape)

    def write(self):
        """The file's bytes."""
        # Quantising the image and dequantising a result are left to the caller: both sides are one tensor.
        for layer in self.network.layers:
            if layer.kind == "quantize":
                if layer.inputs[0] != self.network.input:
                    raise ValueError(f"{layer.name}: only the image may be quantised")
                self.index[layer.inputs[0]] = self.map(layer.output)
            elif layer.kind == "dequantize":
                self.index[layer.output] = self.map(layer.inputs[0])
            else:
                getattr(self, layer.kind)(layer)
        graph = schema.SubGraphT()
        graph.name = b"main"
        graph.tensors, graph.operators = self.tensors, self.operators
        graph.inputs = np.array([self.map(self.network.input)], np.int32)
        graph.outputs = np.array([self.map(name) for name in self.network.outputs], np.int32)
        model = schema.ModelT()
        model.version, model.description = 3, b"facemark"
        model.operatorCodes, model.subgraphs, model.buffers = self.codes, [graph], self.buffers
        builder = flatbuffers.Builder(1 << 20)
        builder.Finish(model.Pack(builder), file_identifier=b"TFL3")
        return bytes(builder.Output())


def to_tflite(network, float_ranges=None):
    """The .tflite file of a `network.Network`, as bytes."""
    return Writer(network, float_ranges or {}).write()
