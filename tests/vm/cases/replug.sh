# shellcheck shell=dash disable=SC1091,SC2154
# A camera that is unplugged and plugged in again, $replugs times, the fifth time under another number.
# drivers: vivid n_devs=1 node_types=0x1 num_inputs=1 input_types=0x0
. /checks.sh
driver=/sys/bus/platform/drivers/vivid
trace=/sys/kernel/tracing
log=/tmp/run.log
mount -t tracefs tracefs $trace
echo 1 >$trace/events/vb2/vb2_buf_done/enable

# starved: pictures that vivid could not make because it had no empty buffer (`owned_by_drv` after each picture): nobody had
# read in time. There are 25 a second. Others it leaves out itself, when the machine is too busy for its thread.
starved() {
    sed -n 's/^ *vivid-.* \([0-9.]*\): vb2_buf_done: .*owned_by_drv = \([0-9]*\),.*/\1 \2/p' $trace/trace | awk '
        NR > 1 && left == 0 && $1 - last < 1.5 { sum += int(($1 - last) * 25 + 0.5) - 1 }
        { last = $1; left = $2 }
        END { print sum + 0 }'
}

start run run --input camera:0 --json /tmp/run.jsonl
need "the camera is open" opens run 0
sleep 5
recovered=0 slowest=0 plug=1
while [ "$plug" -le "$replugs" ]; do
    echo vivid.0 >$driver/unbind
    check "plug $plug: it is noticed" until_within 10 has_lines "$plug" 'camera 0 is gone' $log
    # Somebody else takes its number.
    [ "$plug" != 5 ] || modprobe v4l2loopback video_nr=0
    sleep 2
    echo vivid.0 >$driver/bind
    back=$(now)
    until_within 20 has_lines "$plug" 'camera 0 is back' $log
    took=$(($(now) - back))
    check "plug $plug: frames again after $took hundredths of a second" [ "$took" -le 300 ]
    [ "$took" -gt 300 ] || recovered=$((recovered + 1))
    [ "$took" -le "$slowest" ] || slowest=$took
    sleep 3
    if [ "$plug" = 5 ]; then
        check "it was found under its new number" grep -q 'is now /dev/video1' $log
        rmmod v4l2loopback
    fi
    plug=$((plug + 1))
done
check "it ends when asked to" stop
starved=$(starved)
sed -n 's/^.*camera 0: \([0-9]* pictures read.*\)/\1/p' $log | told
check "$recovered of $replugs replugs recovered within 3 s, the slowest in $slowest hundredths" [ "$recovered" = "$replugs" ]
check "each outage was noticed and ended" [ "$(count 'camera 0 is back' $log)" = "$replugs" ]
check "$starved pictures were lost between plugs; $(($(lost $log) - starved)) more vivid never made" [ "$starved" = 0 ]
check "there is a line a frame" [ "$(count '"frame"' /tmp/run.jsonl)" -gt "$replugs" ]

start patience run --input camera:0 --give-up-after 3
need "the camera is open" opens patience 0
sleep 2
echo >$trace/trace
kill -STOP "$facemark"
sleep 1
kill -CONT "$facemark"
sleep 1
echo vivid.0 >$driver/unbind
until_within 20 dead "$facemark"
check "--give-up-after ends the wait" dead "$facemark"
ends_within 1
check "with status 1" [ $? = 1 ]
check "and says why" grep -q 'error: .*not plugged in' /tmp/patience.log
starved=$(starved)
check "$starved pictures of a second in which it was held up count as lost" [ "$starved" -ge 10 ]
check "and it says so" [ "$(lost /tmp/patience.log)" -ge 10 ]
finish
