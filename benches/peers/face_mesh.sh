#!/bin/sh
# Times tracking beside MediaPipe Face Mesh: benches/peers/face_mesh.sh CLIP... [options of face_mesh.py]
#
# MediaPipe goes into a virtual environment in .venv/face-mesh of the project (ignored by git); nothing else is changed. Needs
# python3 (a version that this MediaPipe has wheels for: 3.8 to 3.12) with venv, ffmpeg, and Rust.
set -eu
root=$(cd "$(dirname "$0")/../.." && pwd)
cd "$root"
environment=.venv/face-mesh
if [ ! -e "$environment/complete" ]; then
    echo "setting up MediaPipe in $environment"
    python3 -m venv "$environment"
    "$environment/bin/python" -m pip install --quiet --disable-pip-version-check \
        --requirement benches/peers/requirements-face-mesh.txt
    touch "$environment/complete"
fi
program=$(cargo bench --locked --bench tracking --no-run --message-format=json |
    "$environment/bin/python" -c '
import json, sys
artifacts = (json.loads(line) for line in sys.stdin)
print([a["executable"] for a in artifacts if a.get("target", {}).get("name") == "tracking"][-1])')
exec "$environment/bin/python" benches/peers/face_mesh.py --facemark "$program" "$@"
