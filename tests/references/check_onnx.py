"""Checks ONNX files as their readers do: onnx.checker with shape inference, and loading in ONNX Runtime.

Needs onnx and onnxruntime. Run: python tests/references/check_onnx.py FILE..
A file with operators of the domain `facemark` is only read by facemark-train; it is checked without loading it.
"""

import sys

import onnx
import onnxruntime


def main(paths):
    onnxruntime.set_default_logger_severity(3)
    for path in paths:
        model = onnx.load(path)
        domains = {imported.domain for imported in model.opset_import}
        onnx.checker.check_model(model, full_check=not domains - {""})
        if "facemark" not in domains:
            onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
        print(f"{path}: good, {len(model.graph.node)} nodes")


if __name__ == "__main__":
    main(sys.argv[1:])
