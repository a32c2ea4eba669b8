"""Times facemark and other engines on the released networks, float and int8, interleaved, one thread; see run.sh.

Every engine first runs the demo's picture, and its outputs are compared with ONNX Runtime's on the float file (facemark's
int8 also with ONNX Runtime's int8, which must agree bit for bit). Then rounds: in each, every engine does the same
number of runs, in an order that moves on by one. A figure is the CPU time of the engine's whole process for one run,
the median over the rounds; a ratio is the median of the rounds' ratios, so that a slow moment of the machine hits both sides.
"""

import argparse
import importlib.metadata
import json
import pathlib
import platform
import statistics
import subprocess
import sys
import tempfile

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from PIL import Image

from engines import Facemark, Worker, image_floats
from ncnn_writer import to_ncnn
from network import Network
from qdq import to_qdq
from tflite_writer import to_tflite

ROOT = pathlib.Path(__file__).resolve().parents[2]
# The face in the demo's picture (left, top, right, bottom), with the landmark network's margin.
FACE = (147, 46, 295, 194)
# Greatest distance of outputs from those of the float file, relative to their length.
FLOAT_TOLERANCE, INT8_TOLERANCE = 1e-3, 0.25
# Of int8 heat maps' mean places, in sides of the crop, between two ways to sum the same softmax.
PLACES_TOLERANCE = 1e-5
PACKAGES = {"onnxruntime": "onnxruntime", "openvino": "openvino", "litert": "ai-edge-litert", "ncnn": "ncnn"}


def picture(network):
    """The demo's picture as the network's input: bytes, height x width x 3."""
    _, _, height, width = network.maps[network.input].shape
    with Image.open(ROOT / "samples/astronaut.jpg") as image:
        image = image.convert("RGB")
        if network.metadata.get("facemark.task") == "landmarks":
            return np.asarray(image.crop(FACE).resize((width, height), Image.Resampling.BILINEAR))
        side = min(width, height)
        canvas = Image.new("RGB", (width, height), (128, 128, 128))
        canvas.paste(image.resize((side, side), Image.Resampling.BILINEAR), ((width - side) // 2, (height - side) // 2))
        return np.asarray(canvas)


def distance(outputs, reference):
    """Length of the difference over the length of the reference, over all outputs together."""
    flat = lambda values: np.concatenate([np.ravel(values[name]) for name in sorted(reference)])
    return float(np.linalg.norm(flat(outputs) - flat(reference)) / np.linalg.norm(flat(reference)))


def convert(network, folder, float_ranges):
    """The network's files for the peers: engine -> [(form, path)]."""
    stem = pathlib.Path(network.path).stem
    files = {"onnxruntime": [("onnx", network.path)], "openvino": [("onnx", network.path)]}
    if network.quantized:
        qdq = folder / f"{stem}.qdq.onnx"
        onnx.save(to_qdq(network), qdq)
        files["onnxruntime"] = [("qoperator", network.path), ("qdq", qdq)]
        files["openvino"] = [("qdq", qdq)]
    tflite = folder / f"{stem}.tflite"
    tflite.write_bytes(to_tflite(network, float_ranges))
    pathlib.Path(f"{tflite}.names").write_text(" ".join(network.outputs))
    files["litert"] = [("tflite", tflite)]
    param = folder / f"{stem}.param"
    text, weights, names = to_ncnn(network)
    param.write_text(text)
    param.with_suffix(".bin").write_bytes(weights)
    pathlib.Path(f"{param}.names").write_text("".join(f"{ours} {theirs}\n" for ours, theirs in names))
    files["ncnn"] = [("param", param)]
    return files


def facemark_outputs(binary, file, pixels, folder):
    """What `facemark infer` gives."""
    np.save(folder / "image.npy", image_floats(pixels))
    for old in folder.glob("result*.npy"):
        old.unlink()
    subprocess.run([binary, "infer", file, "--input", folder / "image.npy", "--output", folder / "result.npy"], check=True)
    results = sorted(folder.glob("result*.npy"))
    return {path.name.split(".")[1] if len(results) > 1 else "": np.load(path) for path in results}


def tiny_network(path):
    """One small convolution: what is left of a run is the call."""
    weight = numpy_helper.from_array(np.ones((8, 3, 1, 1), np.float32), "weight")
    bias = numpy_helper.from_array(np.zeros(8, np.float32), "bias")
    node = helper.make_node("Conv", ["image", "weight", "bias"], ["out"], kernel_shape=[1, 1])
    graph = helper.make_graph(
        [node], "tiny", [helper.make_tensor_value_info("image", TensorProto.FLOAT, [1, 3, 4, 4])],
        [helper.make_tensor_value_info("out", TensorProto.FLOAT, [1, 8, 4, 4])], [weight, bias])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9), path)
    return Network(str(path))


class Contestant:
    """An engine with a file, and what was measured of it."""

    def __init__(self, engine, precision, form, runner, agreement):
        self.engine, self.precision, self.form, self.runner, self.agreement = engine, precision, form, runner, agreement
        self.times = []

    @property
    def label(self):
        return f"{self.engine} {self.form}"

    @property
    def median(self):
        return statistics.median(self.times)

    def ratio(self, other):
        return statistics.median(mine / theirs for mine, theirs in zip(self.times, other.times))


def contestants(float_file, int8_file, binaries, folder, problems):
    """All of them for one network, each checked."""
    found, reference, float_ranges = [], None, {}
    for precision, file in (("float", float_file), ("int8", int8_file)):
        if file is None:
            continue
        network = Network(str(file))
        pixels = picture(network)
        ours = None
        for engine, forms in convert(network, folder, float_ranges).items():
            for form, path in forms:
                try:
                    worker = Worker(engine, path)
                    outputs = worker.infer(pixels)
                except RuntimeError as error:
                    problems.append(f"{file.name}: {engine} {form}: {str(error).strip().splitlines()[-1]}")
                    continue
                if reference is None:
                    reference = outputs
                    float_ranges = {name: (min(0.0, 1.5 * float(values.min())), max(0.0, 1.5 * float(values.max())))
                                    for name, values in outputs.items()}
                ours = outputs if ours is None else ours
                away = distance(outputs, reference)
                tolerance = FLOAT_TOLERANCE if precision == "float" else INT8_TOLERANCE
                if not away <= tolerance:
                    problems.append(f"{file.name}: {engine} {form} is {away:.3g} away from the float file, more than {tolerance}")
                found.append(Contestant(engine, precision, form, worker, f"{away:.2g}"))
        for label, binary in binaries.items():
            try:
                outputs = facemark_outputs(binary, file, pixels, folder)
            except subprocess.CalledProcessError as error:
                problems.append(f"{file.name}: {label}: exit code {error.returncode}")
                continue
            if set(outputs) == {""}:
                outputs = {name: outputs[""] for name in reference}
            away = distance(outputs, reference)
            agreement = f"{away:.2g}"
            if precision == "int8":
                # Integers agree bit for bit; the softmax of heat maps is float, and its sums are rounded in another order.
                differing = max(float(np.abs(outputs[name].ravel() - ours[name].ravel()).max()) for name in ours)
                agreement += f", {differing:.1g} from onnxruntime's" if differing else ", same bits as onnxruntime"
                places = {layer.output for layer in network.layers if layer.kind == "places"}
                for name in ours:
                    tolerance = PLACES_TOLERANCE if name in places else 0
                    if not np.abs(outputs[name].ravel() - ours[name].ravel()).max() <= tolerance:
                        problems.append(f"{file.name}: {label} and ONNX Runtime differ in {name}")
            elif not away <= FLOAT_TOLERANCE:
                problems.append(f"{file.name}: {label} is {away:.3g} away from ONNX Runtime")
            found.append(Contestant(label, precision, "onnx", Facemark(str(file), str(binary)), agreement))
    return found


def measure(group, rounds, iterations):
    for contestant in group:
        contestant.runner.cpu_ms(max(iterations // 4, 1))
    for turn in range(rounds):
        start = turn % len(group)
        for contestant in group[start:] + group[:start]:
            contestant.times.append(contestant.runner.cpu_ms(iterations))


def report(name, group, own):
    """Prints the table of a network; the same as a dictionary."""
    base = next((c for c in group if c.engine == own and c.precision == "int8"), None) or next(
        c for c in group if c.engine == own)
    print(f"\n{name}: CPU time of one run in milliseconds, one thread")
    print(f"{'':8}{'engine':28}{'median':>8}{'least':>8}{'most':>8}{f'{own} {base.precision} /':>18}   distance from float outputs")
    rows = []
    for c in sorted(group, key=lambda c: (c.precision, c.median)):
        ratio = base.ratio(c)
        print(f"{c.precision:8}{c.label:28}{c.median:8.3f}{min(c.times):8.3f}{max(c.times):8.3f}{ratio:18.3f}   {c.agreement}")
        rows.append({"precision": c.precision, "engine": c.engine, "form": c.form, "cpu_ms_median": c.median,
                     "cpu_ms_rounds": c.times, "ratio": ratio, "agreement": c.agreement})
    peers = [c for c in group if c.precision == "int8" and c.engine in PACKAGES]
    if base.precision == "int8" and peers:
        best = min(peers, key=lambda c: c.median)
        print(f"{own} int8 / best peer's int8 ({best.label}): {base.ratio(best):.3f}")
        for c in group:
            if c.engine not in PACKAGES and c.precision == "float":
                print(f"{own} int8 / {c.engine} float: {base.ratio(c):.3f}")
    return {"network": name, "ratio_of": f"{own} {base.precision}", "rows": rows}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=25)
    parser.add_argument("--iterations", type=int, default=200, help="runs of an engine in a round")
    parser.add_argument("--facemark", type=pathlib.Path, default=ROOT / "target/release/facemark")
    parser.add_argument("--binary", action="append", default=[], metavar="LABEL=PATH", help="a further facemark to time")
    parser.add_argument("--models", nargs="+", default=["landmarks68", "face-detector"])
    parser.add_argument("--folder", type=pathlib.Path, default=ROOT / "models",
                        help="holds NAME.onnx and NAME-int8.onnx for each of --models")
    parser.add_argument("--json", type=pathlib.Path, help="write everything measured to this file")
    arguments = parser.parse_args()
    binaries = {"facemark": arguments.facemark} | {
        label: pathlib.Path(path) for label, path in (entry.split("=", 1) for entry in arguments.binary)}

    versions = {engine: importlib.metadata.version(package) for engine, package in PACKAGES.items()}
    print(", ".join(f"{engine} {version}" for engine, version in versions.items()))
    problems, tables = [], []
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        tiny = tiny_network(folder / "tiny.onnx")
        calls = {}
        for engine, forms in convert(tiny, folder, {}).items():
            worker = Worker(engine, forms[0][1])
            worker.infer(np.zeros((4, 4, 3), np.uint8))
            worker.cpu_ms(100)
            calls[engine] = statistics.median(worker.cpu_ms(200) for _ in range(9))
            worker.close()
        print("call with next to nothing to compute: " + ", ".join(f"{e} {ms:.3f} ms" for e, ms in calls.items()))
        for name in arguments.models:
            int8 = arguments.folder / f"{name}-int8.onnx"
            if not int8.exists():
                problems.append(f"{int8} is not there")
                int8 = None
            group = contestants(arguments.folder / f"{name}.onnx", int8, binaries, folder, problems)
            measure(group, arguments.rounds, arguments.iterations)
            tables.append(report(name, group, "facemark"))
            for contestant in group:
                if isinstance(contestant.runner, Worker):
                    contestant.runner.close()
    if arguments.json:
        result = {"machine": platform.processor() or platform.machine(), "versions": versions, "call_ms": calls,
                  "rounds": arguments.rounds, "iterations": arguments.iterations, "networks": tables, "problems": problems}
        arguments.json.write_text(json.dumps(result, indent=1) + "\n")
    for problem in problems:
        print(f"problem: {problem}", file=sys.stderr)
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
