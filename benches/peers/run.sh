#!/bin/sh
# Times facemark and other engines on the released networks: benches/peers/run.sh [options of compare.py]
#
# ONNX Runtime, OpenVINO, LiteRT (XNNPACK) and ncnn go into a virtual environment in .venv/peers of the project (ignored
# by git); nothing else is changed. Needs python3 with venv, and Rust.
set -eu
root=$(cd "$(dirname "$0")/../.." && pwd)
cd "$root"
environment=.venv/peers
if [ ! -e "$environment/complete" ]; then
    echo "setting up the other engines in $environment"
    python3 -m venv "$environment"
    "$environment/bin/python" -m pip install --quiet --disable-pip-version-check --requirement benches/peers/requirements.txt
    touch "$environment/complete"
fi
cargo build --release --locked --bin facemark
exec "$environment/bin/python" benches/peers/compare.py "$@"
