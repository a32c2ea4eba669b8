#!/bin/sh
# Puts ONNX Runtime's shared library, which the training binary loads at run time, into .onnxruntime/ of this project.
#
# It comes out of the PyPI wheel `onnxruntime`: the wheel is pinned with its SHA-256 hash, checked by pip, and only
# libonnxruntime.so.* is unpacked (a wheel is a zip file). Nothing is installed into Python. Needs python3 with pip, or
# python3-venv to make a pip of its own. Does nothing when the library is already there; `--force` fetches it again.
set -eu

version=1.31.1
# The library does not depend on the Python version of the wheel: one wheel a processor is enough.
python=3.12
abi=cp312
platform=manylinux_2_28
case "$(uname -s)-$(uname -m)" in
    Linux-x86_64)  machine=x86_64;  sha256=1f3dea47f2f0e5117c2404cea7d21fd253ae7836a3bf167a501cdfbb2600d536 ;;
    Linux-aarch64) machine=aarch64; sha256=0b9a492176886992e0e875f06bc0367e333f5fff11711a2d642e18b02f3009cc ;;
    *) echo "fetch-onnxruntime: no pinned wheel for $(uname -s) $(uname -m): give the library with --onnxruntime PATH" >&2
       exit 1 ;;
esac

root=$(cd "$(dirname "$0")/.." && pwd)
folder="$root/.onnxruntime"
library="$folder/libonnxruntime.so.$version"

case "${1:-}" in
    '') if [ -s "$library" ]; then echo "ONNX Runtime $version is already there: $library"; exit 0; fi ;;
    --force) ;;
    *) echo "usage: scripts/fetch-onnxruntime.sh [--force]" >&2; exit 2 ;;
esac

command -v python3 >/dev/null || {
    echo "fetch-onnxruntime: python3 is missing: install the packages python3 and python3-pip" >&2; exit 1; }

mkdir -p "$folder"
scratch=$(mktemp -d "$folder/fetch.XXXXXX")
trap 'rm -rf "$scratch"' EXIT INT TERM

if python3 -m pip --version >/dev/null 2>&1; then
    pip="python3 -m pip"
elif python3 -m venv "$scratch/venv" >/dev/null 2>&1; then
    pip="$scratch/venv/bin/python -m pip"
else
    echo "fetch-onnxruntime: pip is missing: install the package python3-pip (or python3-venv)" >&2; exit 1
fi

echo "fetching ONNX Runtime $version ($machine) from the PyPI wheel onnxruntime, SHA-256 $sha256"
printf 'onnxruntime==%s --hash=sha256:%s\n' "$version" "$sha256" > "$scratch/requirements.txt"

# An index may be out of order for a moment: try again with growing pauses before giving up.
attempt=1
until $pip --disable-pip-version-check download --quiet --no-deps --only-binary=:all: --require-hashes \
        --python-version "$python" --implementation cp --abi "$abi" --platform "${platform}_$machine" \
        --dest "$scratch" --requirement "$scratch/requirements.txt"; do
    if [ "$attempt" -ge 5 ]; then
        echo "fetch-onnxruntime: the wheel could not be fetched in $attempt attempts (see pip's messages above)" >&2
        exit 1
    fi
    pause=$((attempt * 10))
    echo "fetch-onnxruntime: attempt $attempt failed, trying again in $pause s" >&2
    sleep "$pause"
    attempt=$((attempt + 1))
done

python3 - "$scratch" "$version" <<'PYTHON'
import pathlib, shutil, sys, zipfile

scratch, version = pathlib.Path(sys.argv[1]), sys.argv[2]
wheel = next(scratch.glob("*.whl"))
with zipfile.ZipFile(wheel) as archive:
    member = f"onnxruntime/capi/libonnxruntime.so.{version}"
    with archive.open(member) as source, open(scratch / "library", "wb") as target:
        shutil.copyfileobj(source, target)
PYTHON

# Renaming is the last step, so that an interrupted run leaves no half library behind.
chmod 644 "$scratch/library"
mv "$scratch/library" "$library"
echo "ONNX Runtime $version is at $library"
