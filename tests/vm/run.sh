#!/bin/bash
# facemark against real camera drivers, in a virtual machine: vivid, a camera of the kernel's own that can be unplugged, and
# v4l2loopback, a camera that a program feeds.
#
#     tests/vm/run.sh short [FACEMARK]    # under two minutes; skipped when a package or the kernel is missing
#     tests/vm/run.sh all [FACEMARK]      # every case but the slow one
#     tests/vm/run.sh slow [FACEMARK]     # half an hour of frames
#     tests/vm/run.sh kernel              # where the kernel belongs that kernel.sh makes
#
# FACEMARK is the program to test; without it the release program is built. `make test-vm` installs what all this needs.
set -euo pipefail
cd "$(dirname "$0")/../.."
# Not in target/, so that every checkout of this machine finds it.
kernel=${XDG_CACHE_HOME:-$HOME/.cache}/facemark-vm

minutes=30 replugs=10
case ${1:-} in
    short) cases="replug busy damaged" replugs=2 ;;
    all) cases="formats replug busy stall damaged" ;;
    slow) cases="minutes" ;;
    kernel) echo "$kernel"; exit ;;
    *) sed -n 's/^#  *tests/tests/p' "$0" >&2; exit 2 ;;
esac
missing=
for needed in qemu-system-x86_64 busybox cpio v4l2-ctl ffmpeg gcc; do
    command -v "$needed" >/dev/null || missing="$needed is not installed"
done
[ -e "$kernel/complete" ] || missing="no kernel in $kernel"
if [ -n "$missing" ]; then
    [ "$1" = short ] || { echo "error: $missing; \`make test-vm\` installs it" >&2; exit 1; }
    echo "skipped: $missing; \`make test-vm\` installs it"
    exit 0
fi

facemark=${2:-target/release/facemark}
[ $# -ge 2 ] || cargo build --release --locked --bin facemark
begun=$SECONDS
# A folder a set: they may run at the same time.
results=target/vm/$1
feed=$results/feed
rm -rf "$results"
mkdir -p "$feed" "$results/bin"
# A copy, which no build changes meanwhile.
cp "$facemark" "$results/bin/facemark"
gcc -O2 -Wall -Werror -static -o "$results/bin/feeder" tests/vm/feeder.c

# One picture of a face as each format, and the damaged ones.
picture() {
    ffmpeg -nostdin -v error -y -i samples/astronaut.jpg -vf "$1" -frames:v 1 "${@:2}"
}
size="scale=640:480:force_original_aspect_ratio=decrease,pad=640:480:-1:-1"
while read -r code pixels; do
    picture "$size" -f rawvideo -pix_fmt "$pixels" "$feed/face.$code"
done <<'FORMATS'
YUYV yuyv422
UYVY uyvy422
YVYU yvyu422
NV12 nv12
YU12 yuv420p
RGB3 rgb24
BGR3 bgr24
GREY gray
FORMATS
picture "$size" -c:v mjpeg -q:v 3 -pix_fmt yuvj422p -update 1 -f image2 "$feed/face.MJPG"
bytes=$(stat -c %s "$feed/face.MJPG")
head -c $((bytes / 2)) "$feed/face.MJPG" >"$feed/cut.MJPG"
# A run of foreign bytes in the middle, as when packets of the stream are lost.
{ head -c $((bytes / 3)) "$feed/face.MJPG"
  printf '\377\304\377\330%.0s' {1..50}
  tail -c +$((bytes / 3 + 200)) "$feed/face.MJPG"; } >"$feed/garbled.MJPG"
head -c 20000 /dev/zero | tr '\0' '\245' >"$feed/noise.MJPG"

failed=0
for name in $cases; do
    started=$SECONDS
    limit=600
    [ "$name" != minutes ] || limit=$((minutes * 60 + 600))
    status=0
    SETTINGS="replugs=$replugs minutes=$minutes" FEED=$feed tests/vm/boot.sh "$kernel" "$results/$name" $limit \
        "tests/vm/cases/$name.sh" "$results"/bin/* "$(command -v v4l2-ctl)" || status=$?
    echo "== $name: status $status, $((SECONDS - started)) s"
    cat "$results/$name/log" 2>/dev/null || echo "no log: the machine did not start; see $results/$name/console"
    [ "$status" = 0 ] || failed=$((failed + 1))
done
if [ "$failed" != 0 ]; then
    echo "error: $failed cases failed; logs in $results" >&2
    exit 1
fi
echo "all $(echo "$cases" | wc -w) cases passed in $((SECONDS - begun)) s; logs in $results"
