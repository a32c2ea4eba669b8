# A camera that falls silent, and one whose feeding program dies.
# drivers: v4l2loopback video_nr=0
. /checks.sh
log=/tmp/run.log
feeding() {
    feed /dev/video0 640 480 15 MJPG /feed/face.MJPG &
    feeder=$!
    sleep 1
}

feeding
start run run --input camera:0 --json /tmp/run.jsonl
check "the camera is open" until_within 60 grep -q 'camera 0 is open' $log
sleep 3
kill -STOP "$feeder"
check "silence is noticed" until_within 8 has_lines 1 'gone: it gave no picture for 2 s' $log
sleep 3
kill -CONT "$feeder"
check "frames come again" until_within 8 has_lines 1 'is back' $log
sleep 2
kill -KILL "$feeder"
wait "$feeder"
check "a dead feeder is noticed" until_within 8 has_lines 2 'camera 0 is back\|gone: it gave no picture' $log
sleep 4
feeding
check "frames come again from its successor" until_within 8 has_lines 2 'is back' $log
sleep 2
check "it ends when asked to" stop
kill "$feeder"
check "the face is there at the end" grep -q '"landmarks"' /tmp/run.jsonl
cp /tmp/*.log /results/
finish
