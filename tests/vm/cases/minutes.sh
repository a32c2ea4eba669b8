# shellcheck shell=dash disable=SC1091,SC2154
# $minutes of frames without a pause: nothing grows.
# drivers: vivid n_devs=1 node_types=0x1 num_inputs=1 input_types=0x0
. /checks.sh
log=/tmp/run.log
resident() { sed -n 's/^VmRSS:[^0-9]*\([0-9]*\) kB/\1/p' "/proc/$facemark/status"; }
descriptors() { find "/proc/$facemark/fd" -type l | wc -l; }

start run run --input camera:0
need "the camera is open" opens run 0
sleep 60
begun=$(resident) open=$(descriptors) minute=1
while [ "$minute" -lt "$minutes" ]; do
    sleep 60
    minute=$((minute + 1))
    echo "        minute $minute: $(resident) KiB, $(descriptors) descriptors"
done
check "memory does not grow by more than 2 MiB" [ "$(resident)" -le $((begun + 2048)) ]
check "descriptors stay as they were" [ "$(descriptors)" = "$open" ]
check "it ends when asked to" stop
check "the camera was never lost" [ "$(count 'is gone' $log)" = 0 ]
sed -n 's/^.*camera 0: \([0-9]* pictures read.*\)/\1/p; /^frames/,$p' $log | told
finish
