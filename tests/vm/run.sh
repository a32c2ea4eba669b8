#!/bin/bash
# facemark's release program against real camera drivers, in a virtual machine: vivid, a camera of the kernel's own that can be
# unplugged, and v4l2loopback, a camera that a program feeds.
#
#     tests/vm/run.sh short    # under two minutes; skipped when a package or the kernel is missing
#     tests/vm/run.sh all      # every case but the slow one; `make test-vm` installs what it needs first
#     tests/vm/run.sh slow     # half an hour of frames
set -euo pipefail
cd "$(dirname "$0")/../.."
kernel=target/vm/kernel results=target/vm/results

case ${1:-} in
    short) cases="replug busy damaged" replugs=2 ;;
    all) cases="formats replug busy stall damaged" replugs=10 ;;
    slow) cases="minutes" replugs=0 ;;
    *) sed -n 's/^#  *tests/tests/p' "$0" >&2; exit 2 ;;
esac
if [ "$1" = short ]; then
    for needed in qemu-system-x86_64 busybox cpio v4l2-ctl ffmpeg gcc /sbin/modprobe; do
        command -v "$needed" >/dev/null || { echo "skipped: $needed is not installed; \`make test-vm\` installs it"; exit 0; }
    done
    [ -e $kernel/complete ] || { echo "skipped: no kernel in $kernel; \`make test-vm\` puts one there"; exit 0; }
fi

cargo build --release --locked --bin facemark
mkdir -p $results
gcc -O2 -Wall -Werror -static -o target/vm/feed tests/vm/feed.c

# One picture of a face as each format, and the damaged ones.
feed=target/vm/feed-files
rm -rf $feed
mkdir -p $feed
picture() {
    ffmpeg -v error -y -i samples/astronaut.jpg -vf "$1" -frames:v 1 -update 1 "${@:2}"
}
size="scale=640:480:force_original_aspect_ratio=decrease,pad=640:480:-1:-1"
while read -r code pixels; do
    picture "$size" -f rawvideo -pix_fmt "$pixels" "$feed/face.$code"
done <<'FORMATS'
YUYV yuyv422
UYVY uyvy422
YVYU yvyu422
NV12 nv12
NV21 nv21
YU12 yuv420p
RGB3 rgb24
BGR3 bgr24
GREY gray
FORMATS
picture "$size" -c:v mjpeg -q:v 3 -pix_fmt yuvj422p -f image2 "$feed/face.MJPG"
bytes=$(stat -c %s $feed/face.MJPG)
head -c $((bytes / 2)) $feed/face.MJPG >$feed/cut.MJPG
# A run of foreign bytes in the middle, as when packets of the stream are lost.
{ head -c $((bytes / 3)) $feed/face.MJPG
  printf '\377\304\377\330%.0s' {1..50}
  tail -c +$((bytes / 3 + 200)) $feed/face.MJPG; } >$feed/garbled.MJPG
head -c 20000 /dev/zero | tr '\0' '\245' >$feed/noise.MJPG

failed=0 summary=$results/summary
: >$summary
for name in $cases; do
    mkdir -p "$results/$name"
    rm -rf "$results/$name/feed"
    cp -r $feed "$results/$name/feed"
    begun=$SECONDS
    limit=600
    [ "$name" != minutes ] || limit=2400
    status=0
    SETTINGS="replugs=$replugs; minutes=30" tests/vm/boot.sh $kernel "$results/$name" $limit \
        "tests/vm/cases/$name.sh" target/release/facemark target/vm/feed "$(command -v v4l2-ctl)" || status=$?
    rm -rf "$results/$name/feed"
    {
        echo "== $name: status $status, $((SECONDS - begun)) s"
        cat "$results/$name/log" 2>/dev/null || echo "no log: the machine did not start; see $results/$name/console"
    } | tee -a $summary
    [ "$status" = 0 ] || failed=$((failed + 1))
done
if [ "$failed" != 0 ]; then
    echo "error: $failed cases failed; logs in $results" >&2
    exit 1
fi
echo "all $(echo "$cases" | wc -w) cases passed; logs in $results"
