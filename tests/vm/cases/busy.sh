# shellcheck shell=dash disable=SC1091,SC2154
# A camera that another program uses, one that the user may not open, one that is not there.
# drivers: vivid n_devs=1 node_types=0x1 num_inputs=1 input_types=0x0
. /checks.sh

# refused NAME WORDS ARGUMENTS...: whether facemark ends with status 1 and says WORDS.
refused() {
    local log="/tmp/$1.log" words="$2"
    shift 2
    facemark run --no-window "$@" >"$log" 2>&1
    [ $? = 1 ] && grep -q "$words" "$log" && told <"$log"
}

start first run --input camera:0
need "the camera is open" opens first 0
sleep 3
check "a camera in use says so" refused second 'another program uses it' --input camera:0
check "the first goes on and ends when asked to" stop
check "it never lost the camera" [ "$(count 'is gone' /tmp/first.log)" = 0 ]
start third run --input camera:0 --frames 5
check "then the camera is free and gives frames" ends_within 60
check "a camera that is not there says so" refused absent 'found 0 (vivid' --input camera:7

echo 'somebody:x:1000:1000::/tmp:/bin/sh' >/etc/passwd
chmod 660 /dev/video0
su somebody -c 'facemark run --no-window --input camera:0' >/tmp/denied.log 2>&1
check "without permission it fails with status 1" [ $? = 1 ]
check "and names the group" grep -q 'to the group .video.;' /tmp/denied.log
told </tmp/denied.log
finish
