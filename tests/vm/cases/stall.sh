# shellcheck shell=dash disable=SC1091,SC2154
# A camera that falls silent, and one whose feeding program dies.
# drivers: v4l2loopback video_nr=0
. /checks.sh
log=/tmp/run.log

feed /dev/video0 MJPG /feed/face.MJPG
start run run --input camera:0 --json /tmp/run.jsonl
need "the camera is open" opens run 0
sleep 3
kill -STOP "$feeder"
check "silence is noticed" until_within 8 has_lines 1 'gone: it gave no picture for 2 s' $log
sleep 3
kill -CONT "$feeder"
check "frames come again" until_within 8 has_lines 1 'is back' $log
sleep 2
unfeed KILL
check "a dead feeder is noticed" until_within 8 has_lines 2 'is gone' $log
sleep 4
feed /dev/video0 MJPG /feed/face.MJPG
check "frames come again from its successor" until_within 8 has_lines 2 'is back' $log
sleep 2
check "it ends when asked to" stop
unfeed
check "the face is there at the end" [ "$(tail -n 1 /tmp/run.jsonl | grep -c '"landmarks"')" = 1 ]
finish
