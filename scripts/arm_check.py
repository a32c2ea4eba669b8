"""Checks a facemark that runs under an emulator: which kernels it chooses, parity with ONNX Runtime, a small pipeline.

    arm_check.py --kernels NAME EMULATOR [OPTION...] FACEMARK

The released models run on seeded noise: int8 must agree with ONNX Runtime in every bit, float within 1e-4. The demo's first
frames must show a face.
"""

import argparse
import json
import pathlib
import subprocess
import sys
import tempfile

import numpy as np
import onnxruntime

ROOT = pathlib.Path(__file__).resolve().parents[1]
FLOAT_TOLERANCE = 1e-4
FRAMES = 3


def facemark(command, *arguments):
    done = subprocess.run([*command, *map(str, arguments)], capture_output=True, text=True)
    if done.returncode != 0:
        sys.exit(f"error: facemark {arguments[0]} ended with {done.returncode}: {done.stderr}")
    return done.stdout


def check_kernels(command, model, expected):
    """Every convolution of an int8 model runs on the expected kernels."""
    nodes = json.loads(facemark(command, "inspect", model, "--json"))["nodes"]
    kernels = [node["kernel"] for node in nodes if node["integer"]]
    kernels = [kernel for kernel in kernels if kernel.startswith(("conv", "grouped conv", "depthwise"))]
    # Such as "conv3x3/2 neon-dot" and "depthwise3x3 neon + add".
    wrong = [kernel for kernel in kernels if expected not in kernel.split()]
    if wrong or not kernels:
        sys.exit(f"error: {model.name}: expected {expected} for {len(kernels)} convolutions, found {wrong}")
    print(f"{model.name}: {len(kernels)} convolutions on {expected}")


def check_parity(command, model, folder):
    session = onnxruntime.InferenceSession(str(model))
    (port,) = session.get_inputs()
    pixels = np.random.default_rng(1).integers(0, 256, port.shape)
    image = ((pixels - 128) / 128).astype(np.float32)
    np.save(folder / "x.npy", image)
    facemark(command, "infer", model, "--input", folder / "x.npy", "--output", folder / "y.npy")
    greatest = 0.0
    for output, expected in zip(session.get_outputs(), session.run(None, {port.name: image})):
        found = np.load(folder / f"y.{output.name}.npy")
        greatest = max(greatest, float(np.abs(found - expected).max()))
    allowed = 0.0 if "int8" in model.name else FLOAT_TOLERANCE
    if not greatest <= allowed:
        sys.exit(f"error: {model.name}: {greatest} away from ONNX Runtime, allowed {allowed}")
    print(f"{model.name}: {greatest:.2g} away from ONNX Runtime, allowed {allowed:g}")


def check_pipeline(command, folder):
    record = folder / "faces.jsonl"
    facemark(command, "run", "--input", "demo", "--frames", FRAMES, "--no-window", "--json", record)
    frames = [json.loads(line) for line in record.read_text().splitlines()]
    faces = [len(frame["faces"]) for frame in frames]
    if faces != [1] * FRAMES or len(frames[-1]["faces"][0]["landmarks"]) != 68:
        sys.exit(f"error: the demo's first frames show {faces} faces")
    print(f"demo: one face with 68 landmarks in each of {FRAMES} frames")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kernels", required=True, choices=["portable", "neon", "neon-dot"])
    parser.add_argument("command", nargs=argparse.REMAINDER, help="emulator with its options, then facemark")
    arguments = parser.parse_args()
    models = sorted((ROOT / "models").glob("*.onnx"))
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        for model in models:
            if "int8" in model.name:
                check_kernels(arguments.command, model, arguments.kernels)
            check_parity(arguments.command, model, folder)
        check_pipeline(arguments.command, folder)


if __name__ == "__main__":
    main()
