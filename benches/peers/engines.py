"""The engines behind one face: `Engine(file)`, `set_image(pixels)`, `run(times)`, `outputs()`. Each works in a process of its
own (`Worker`), on one thread, with its own default optimisations. Inputs and outputs are bound once where the package
can, so that little more than the network is measured; what a call from Python costs all the same is measured with a
network of one small convolution.
"""

import json
import multiprocessing
import subprocess
import time
import traceback

import numpy as np


def image_floats(pixels):
    """The network's float input for height x width x 3 bytes: (byte - 128) / 128 in planes, as the model cards say."""
    return np.ascontiguousarray(((pixels.astype(np.float32) - 128) / 128).transpose(2, 0, 1)[None])


class OnnxRuntime:
    def __init__(self, file):
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.log_severity_level = 3
        self.runtime = onnxruntime
        self.session = onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])

    def set_image(self, pixels):
        self.binding = self.session.io_binding()
        self.value = self.runtime.OrtValue.ortvalue_from_numpy(image_floats(pixels))
        self.binding.bind_ortvalue_input(self.session.get_inputs()[0].name, self.value)
        for output in self.session.get_outputs():
            self.binding.bind_ortvalue_output(
                output.name, self.runtime.OrtValue.ortvalue_from_shape_and_type(output.shape, np.float32))

    def run(self, times):
        # The bare session: the wrapper around it checks its arguments anew in each call.
        session, binding = self.session._sess, self.binding._iobinding
        for _ in range(times):
            session.run_with_iobinding(binding, None)

    def outputs(self):
        names = [output.name for output in self.session.get_outputs()]
        return dict(zip(names, (value.numpy() for value in self.binding.get_outputs())))


class OpenVino:
    def __init__(self, file):
        import openvino

        self.openvino = openvino
        self.compiled = openvino.Core().compile_model(file, "CPU", {
            "INFERENCE_NUM_THREADS": 1, "NUM_STREAMS": 1, "PERFORMANCE_HINT": "LATENCY",
            "INFERENCE_PRECISION_HINT": "f32"})
        self.request = self.compiled.create_infer_request()

    def set_image(self, pixels):
        self.request.set_input_tensor(self.openvino.Tensor(image_floats(pixels)))

    def run(self, times):
        # The binding's own call with nothing to set; the wrapper around it makes a dictionary of the outputs.
        infer, request = self.openvino._pyopenvino.InferRequest.infer, self.request
        for _ in range(times):
            infer(request, {}, True, False)

    def outputs(self):
        return {port.get_any_name(): self.request.get_tensor(port).data.copy() for port in self.compiled.outputs}


class LiteRt:
    """LiteRT (TensorFlow Lite) with XNNPACK, its default on the CPU. An int8 file takes and gives int8."""

    def __init__(self, file):
        from ai_edge_litert.interpreter import Interpreter

        self.interpreter = Interpreter(model_path=file, num_threads=1)
        self.interpreter.allocate_tensors()
        with open(file + ".names") as names:
            self.names = names.read().split()

    def set_image(self, pixels):
        (port,) = self.interpreter.get_input_details()
        if port["dtype"] == np.int8:
            image = (pixels.astype(np.int16) - 128).astype(np.int8)[None]
        else:
            image = (pixels[None].astype(np.float32) - 128) / 128
        self.interpreter.set_tensor(port["index"], image)

    def run(self, times):
        invoke = self.interpreter._interpreter.Invoke
        for _ in range(times):
            invoke()

    def outputs(self):
        results = {}
        for name, port in zip(self.names, self.interpreter.get_output_details()):
            values = self.interpreter.get_tensor(port["index"])
            scale, zero_point = port["quantization"]
            if values.dtype == np.int8:
                values = np.float32(scale) * (values.astype(np.float32) - zero_point)
            results[name] = values.transpose(0, 3, 1, 2) if values.ndim == 4 else values
        return results


class Ncnn:
    def __init__(self, file):
        import ncnn

        self.ncnn = ncnn
        self.net = ncnn.Net()
        self.net.opt.num_threads = 1
        if self.net.load_param(file) or self.net.load_model(file.removesuffix(".param") + ".bin"):
            raise RuntimeError(f"{file} does not load")
        with open(file + ".names") as names:
            # The file's own blob names beside ONNX's, input first.
            self.names = [line.split() for line in names.read().splitlines()]

    def set_image(self, pixels):
        # A Mat only borrows the array, which must outlive the copy.
        planes = image_floats(pixels)[0]
        self.image = self.ncnn.Mat(planes).clone()

    def run(self, times):
        (_, source), *results = self.names
        for _ in range(times):
            extractor = self.net.create_extractor()
            extractor.input(source, self.image)
            self.results = {name: extractor.extract(blob)[1] for name, blob in results}

    def outputs(self):
        return {name: np.array(values)[None] for name, values in self.results.items()}


class Facemark:
    """The program's own `bench`, started anew for each round; it warms up before its clock starts."""

    def __init__(self, file, binary="target/release/facemark"):
        self.command = [binary, "bench", file, "--json", "--iterations"]

    def cpu_ms(self, times):
        done = subprocess.run([*self.command, str(times)], check=True, capture_output=True, text=True)
        return json.loads(done.stdout)["stages"]["model"]["cpu_ms"]


PEERS = {"onnxruntime": OnnxRuntime, "openvino": OpenVino, "litert": LiteRt, "ncnn": Ncnn}


def _serve(engine, file, pipe):
    try:
        served = PEERS[engine](file)
        pipe.send("ready")
        while (request := pipe.recv()) is not None:
            what, argument = request
            if what == "image":
                served.set_image(argument)
                served.run(1)
                pipe.send(served.outputs())
            else:
                before = time.process_time_ns()
                served.run(argument)
                pipe.send((time.process_time_ns() - before) / argument / 1e6)
    except (EOFError, BrokenPipeError):
        return  # The comparison was broken off.
    except Exception:
        pipe.send(traceback.format_exc(limit=3))


class Worker:
    """A peer with one file in a process of its own."""

    def __init__(self, engine, file):
        self.pipe, other = multiprocessing.get_context("spawn").Pipe()
        self.process = multiprocessing.get_context("spawn").Process(
            target=_serve, args=(engine, str(file), other), daemon=True)
        self.process.start()
        other.close()
        ready = self._receive()
        if ready != "ready":
            raise RuntimeError(ready)

    def _receive(self):
        try:
            answer = self.pipe.recv()
        except EOFError:
            self.process.join()
            raise RuntimeError(f"the process ended with {self.process.exitcode}") from None
        if isinstance(answer, str) and answer != "ready":
            raise RuntimeError(answer)
        return answer

    def infer(self, pixels):
        """Outputs by name, float."""
        self.pipe.send(("image", pixels))
        return self._receive()

    def cpu_ms(self, times):
        """CPU time of the whole process for one of `times` runs."""
        self.pipe.send(("run", times))
        return self._receive()

    def close(self):
        self.pipe.send(None)
        self.process.join(5)
