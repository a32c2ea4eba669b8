# Pictures that are cut off, garbled or empty of sense between good ones.
# drivers: v4l2loopback video_nr=0
. /checks.sh
feed /dev/video0 640 480 15 MJPG /feed/face.MJPG /feed/cut.MJPG /feed/face.MJPG /feed/garbled.MJPG /feed/noise.MJPG &
feeder=$!
sleep 1
start run run --input camera:0 --frames 30 --json /tmp/run.jsonl
check "it ends after its frames" until_within 90 dead "$facemark"
wait "$facemark"
check "with status 0" [ $? = 0 ]
check "30 frames are used" [ "$(count '"frame"' /tmp/run.jsonl)" = 30 ]
check "each shows the face" [ "$(count '"landmarks"' /tmp/run.jsonl)" = 30 ]
check "damage is said" grep -q 'a damaged picture is skipped' /tmp/run.log
check "and counted" grep 'damaged pictures, the last' /tmp/run.log
check "the camera was never lost" [ "$(count 'is gone' /tmp/run.log)" = 0 ]
kill "$feeder"
wait "$feeder"

# Nothing but damage.
feed /dev/video0 640 480 15 MJPG /feed/cut.MJPG /feed/noise.MJPG &
feeder=$!
sleep 1
start worse run --input camera:0 --give-up-after 5
check "a camera that gives damaged pictures only is given up" until_within 60 dead "$facemark"
wait "$facemark"
check "with status 1" [ $? = 1 ]
check "and says why" grep 'error: .*damaged pictures only' /tmp/worse.log
kill "$feeder"
cp /tmp/*.log /results/
finish
