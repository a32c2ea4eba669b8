#!/bin/sh
# Compares the time of a training step with PyTorch's: benches/training_step/run.sh [options of compare.py]
#
# PyTorch, numpy and onnx go into a virtual environment in .venv/ of the project (ignored by git); nothing else is
# changed. Needs python3 with venv, Rust, and ONNX Runtime's library (fetched when missing).
set -eu
root=$(cd "$(dirname "$0")/../.." && pwd)
cd "$root"
python=.venv/bin/python
if ! "$python" -c 'import torch, onnx, numpy' 2>/dev/null; then
    echo "setting up PyTorch in .venv"
    python3 -m venv .venv
    # The CPU build is a tenth of the size; where its index cannot be reached, PyPI's build does as well.
    "$python" -m pip install --quiet --index-url https://download.pytorch.org/whl/cpu torch==2.15.0 ||
        "$python" -m pip install --quiet torch==2.15.0
    "$python" -m pip install --quiet numpy==2.4.6 onnx==1.23.2
fi
scripts/fetch-onnxruntime.sh
cargo build --release --locked --features train --bench training_step
binary=$(ls -t target/release/deps/training_step-* | grep -v '\.d$' | head -n 1)
exec "$python" benches/training_step/compare.py "$binary" "$@"
