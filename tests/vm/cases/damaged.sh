# shellcheck shell=dash disable=SC1091,SC2154
# Pictures that are cut off, garbled or empty of sense between good ones.
# drivers: v4l2loopback video_nr=0
. /checks.sh
feed /dev/video0 MJPG /feed/face.MJPG /feed/cut.MJPG /feed/face.MJPG /feed/garbled.MJPG /feed/noise.MJPG
start run run --input camera:0 --frames 12 --json /tmp/run.jsonl
check "it ends after its frames with status 0" ends_within 90
check "12 frames are used" [ "$(count '"frame"' /tmp/run.jsonl)" = 12 ]
check "each shows the face" [ "$(count '"landmarks"' /tmp/run.jsonl)" = 12 ]
check "damage is said" grep -q 'a damaged picture is skipped' /tmp/run.log
check "and counted" grep -q 'damaged pictures, the last' /tmp/run.log
grep 'damaged pictures, the last' /tmp/run.log | told
check "the camera was never lost" [ "$(count 'is gone' /tmp/run.log)" = 0 ]
unfeed

# Nothing but damage.
feed /dev/video0 MJPG /feed/cut.MJPG /feed/noise.MJPG
start worse run --input camera:0 --give-up-after 5
until_within 60 dead "$facemark"
check "a camera that gives damaged pictures only is given up" dead "$facemark"
ends_within 1
check "with status 1" [ $? = 1 ]
check "and says why" grep -q 'error: .*damaged pictures only' /tmp/worse.log
unfeed
finish
