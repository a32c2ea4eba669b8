# shellcheck shell=dash disable=SC1091,SC2154
# Every pixel format that is read, on the way from a driver to a face; settings that nokhwa stumbles over.
# drivers: vivid n_devs=1 node_types=0x1 num_inputs=1 input_types=0x0; v4l2loopback video_nr=9
. /checks.sh

facemark cameras >/tmp/cameras.log
head -n 12 /tmp/cameras.log | told
check "cameras lists vivid" grep -q '^0  vivid' /tmp/cameras.log
check "cameras says what it would use, and why" grep -q 'would use  640x480 YUYV at .* fps: .*VGA' /tmp/cameras.log
facemark cameras --json >/tmp/cameras.json
check "cameras --json has the choice" grep -q '"mode": "640x480 YUYV' /tmp/cameras.json

# take NAME CAMERA: ten frames.
take() {
    start "$1" run --input "camera:$2" --frames 10 --json "/tmp/$1.jsonl"
    ends_within 60 && has_lines 10 '"frame"' "/tmp/$1.jsonl"
}

check "vivid gives frames" take vivid 0
check "they are 640x480 YUYV" grep -q 'camera 0 is open as 640x480 YUYV' /tmp/vivid.log
v4l2-ctl -d /dev/video0 --set-parm 12.5 >/dev/null
check "a camera whose current rate is a fraction gives frames" take fraction 0
check "and is said to be so" grep -q 'rate is a fraction' /tmp/fraction.log
v4l2-ctl -d /dev/video0 --set-fmt-video width=640,height=480,pixelformat=HSV3
check "a camera that is set to an unknown format gives frames" take unknown 0
check "and is said to be so" grep -q 'pixel format HSV3' /tmp/unknown.log

# box FILE: the place of the face in the last frame.
box() {
    tail -n 1 "$1" | sed -n 's/.*"box": *\[\([^]]*\)\].*/\1/p' | tr ',' ' '
}

# near BOX BOX: whether they agree within 8 pixels.
near() {
    echo "$1 $2" | awk '{ if (NF != 8) exit 1; for (i = 1; i <= 4; i++) { d = $i - $(i + 4); if (d * d > 64) exit 1 } }'
}

# NV21 is the one that v4l2loopback does not know.
reference=
for code in YUYV UYVY YVYU NV12 YU12 RGB3 BGR3 GREY MJPG; do
    feed /dev/video9 "$code" "/feed/face.$code"
    check "$code gives frames" take "$code" 9
    check "they were read as $code" grep -q "camera 9 is open as 640x480 $(echo $code | sed 's/MJPG/MJPEG/; s/3$//') " "/tmp/$code.log"
    found=$(box "/tmp/$code.jsonl")
    reference=${reference:-$found}
    check "$code shows the face at $found" near "$found" "$reference"
    unfeed
done
finish
