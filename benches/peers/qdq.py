"""The QDQ form of an int8 file in QOperator form: float operators between QuantizeLinear and DequantizeLinear with the
same scales, weights and biases. OpenVINO reads this form only."""

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper


def to_qdq(network):
    """An onnx.ModelProto."""
    nodes, constants = [], []

    def constant(name, values):
        constants.append(numpy_helper.from_array(np.asarray(values), name))
        return name

    def quantize(name, source, scale, zero_point):
        nodes.append(helper.make_node(
            "QuantizeLinear",
            [source, constant(f"{name}.scale", np.float32(scale)), constant(f"{name}.zero", np.uint8(zero_point))], [name]))

    def real(name):
        """The float value of a map: dequantised anew for each reader, as the form's optimisers expect it."""
        value = network.maps[name]
        if not value.quantized:
            return name
        output = f"{name}.real.{len(nodes)}"
        nodes.append(helper.make_node(
            "DequantizeLinear",
            [name, constant(f"{output}.scale", np.float32(value.scale)),
             constant(f"{output}.zero", np.uint8(value.zero_point))], [output]))
        return output

    def real_constant(name, values, scales):
        """Integers with a scale a row, as a float value."""
        nodes.append(helper.make_node(
            "DequantizeLinear",
            [constant(f"{name}.integers", values), constant(f"{name}.scales", scales.astype(np.float32)),
             constant(f"{name}.zeros", np.zeros(len(scales), values.dtype))], [name], axis=0))
        return name

    for layer in network.layers:
        output = network.maps[layer.output]
        if layer.kind == "quantize":
            quantize(layer.output, layer.inputs[0], output.scale, output.zero_point)
            continue
        if layer.kind == "dequantize":
            value = network.maps[layer.inputs[0]]
            nodes.append(helper.make_node(
                "DequantizeLinear",
                [layer.inputs[0], constant(f"{layer.output}.scale", np.float32(value.scale)),
                 constant(f"{layer.output}.zero", np.uint8(value.zero_point))], [layer.output]))
            continue
        inputs = [real(name) for name in layer.inputs]
        target = f"{layer.output}.float" if output.quantized else layer.output
        if layer.kind == "places":
            _, count, h, w = network.maps[layer.inputs[0]].shape
            rows, weights, points = (f"{target}.{part}" for part in ("rows", "weights", "points"))
            shape = constant(f"{target}.shape", np.array([1, count, h * w], np.int64))
            nodes.append(helper.make_node("Reshape", [inputs[0], shape], [rows]))
            nodes.append(helper.make_node("Softmax", [rows], [weights], axis=2))
            cells = constant(f"{target}.places", np.ascontiguousarray(layer.weight.T))
            nodes.append(helper.make_node("MatMul", [weights, cells], [points]))
            nodes.append(helper.make_node("Flatten", [points], [target], axis=1))
            continue
        if layer.weight is not None:
            weight, bias = layer.weight, layer.bias
            if layer.weight_scale is not None:
                source = network.maps[layer.inputs[0]]
                weight = real_constant(f"{layer.name}.weight", weight, layer.weight_scale)
                bias = real_constant(f"{layer.name}.bias", bias, np.float32(source.scale) * layer.weight_scale)
            else:
                weight, bias = constant(f"{layer.name}.weight", weight), constant(f"{layer.name}.bias", bias)
            inputs += [weight, bias]
        attributes = layer.attributes
        if layer.kind == "conv":
            nodes.append(helper.make_node("Conv", inputs, [target], group=attributes["group"],
                                          strides=attributes["strides"], pads=attributes["pads"]))
        elif layer.kind == "dense":
            nodes.append(helper.make_node("Gemm", inputs, [target], transB=1))
        elif layer.kind == "add":
            nodes.append(helper.make_node("Add", inputs, [target]))
        elif layer.kind == "average":
            nodes.append(helper.make_node("GlobalAveragePool", inputs, [target]))
        elif layer.kind == "max_pool":
            nodes.append(helper.make_node("MaxPool", inputs, [target], kernel_shape=attributes["kernel"],
                                          strides=attributes["strides"], pads=attributes["pads"]))
        elif layer.kind == "resize":
            before = network.maps[layer.inputs[0]].shape
            scales = np.array([1, 1, output.shape[2] / before[2], output.shape[3] / before[3]], np.float32)
            nodes.append(helper.make_node(
                "Resize", [inputs[0], "", constant(f"{target}.scales", scales)], [target], mode="nearest",
                coordinate_transformation_mode="asymmetric", nearest_mode="floor"))
        elif layer.kind == "concat":
            nodes.append(helper.make_node("Concat", inputs, [target], axis=1))
        elif layer.kind == "flatten":
            nodes.append(helper.make_node("Flatten", inputs, [target], axis=1))
        if layer.relu:
            nodes[-1].output[0] = f"{target}.linear"
            nodes.append(helper.make_node("Relu", [f"{target}.linear"], [target]))
        if output.quantized:
            quantize(layer.output, target, output.scale, output.zero_point)

    def value_info(name):
        return helper.make_tensor_value_info(name, TensorProto.FLOAT, network.maps[name].shape)

    graph = helper.make_graph(nodes, "qdq", [value_info(network.input)],
                              [value_info(name) for name in network.outputs], constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    onnx.checker.check_model(model)
    return model
