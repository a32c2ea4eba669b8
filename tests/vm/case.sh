# shellcheck shell=dash
# What every case uses, read by it as /checks.sh. A case prints one line a check, `ok` or `FAILED`, and ends with `finish`.
failures=0
# shellcheck disable=SC1091 # what run.sh sets
. /settings

# check WORDS COMMAND...: whether the command succeeds.
check() {
    local words="$1"
    shift
    if "$@"; then
        echo "ok      $words"
    else
        echo "FAILED  $words"
        failures=$((failures + 1))
        return 1
    fi
}

# need WORDS COMMAND...: the same; nothing that follows makes sense without it.
need() {
    check "$@" || finish
}

# told: its input beneath the checks.
told() {
    sed 's/^/        /'
}

# Ends the case; what the programs said is kept.
finish() {
    cp /tmp/*.log /results/
    [ "$failures" = 0 ]
    exit
}

# Hundredths of seconds since the machine was started.
now() {
    cut -d' ' -f1 /proc/uptime | tr -d .
}

# until_within SECONDS COMMAND...: waits until the command succeeds.
until_within() {
    local deadline=$(($(now) + $1 * 100))
    shift
    until "$@"; do
        [ "$(now)" -lt "$deadline" ] || return 1
        usleep 20000
    done
}

# count PATTERN FILE: lines with the pattern.
count() {
    grep -c "$1" "$2" 2>/dev/null || [ -e "$2" ] || echo 0
}

# has_lines COUNT PATTERN FILE
has_lines() {
    [ "$(count "$2" "$3")" -ge "$1" ]
}

# start NAME ARGUMENTS...: facemark in the background; what it says goes to /tmp/NAME.log, its number into $facemark.
start() {
    local log="/tmp/$1.log"
    shift
    NO_COLOR=1 RUST_LOG=warn,tract=error,facemark=debug facemark "$@" --no-window >"$log" 2>&1 &
    facemark=$!
}

# opens NAME CAMERA: whether the facemark that was started under that name opens the camera.
opens() {
    until_within 60 grep -q "camera $2 is open" "/tmp/$1.log" && grep "camera $2 is open" "/tmp/$1.log" | told
}

# ends_within SECONDS: whether facemark ends by itself, and with status 0.
ends_within() {
    until_within "$1" dead "$facemark" || kill -KILL "$facemark"
    wait "$facemark"
}

# stop: ends it as Ctrl-C does; whether it ended well and in time.
stop() {
    kill -INT "$facemark"
    ends_within 15
}

# dead NUMBER: whether a program has ended. One whose end nobody asked for yet can still be seen.
dead() {
    ! grep -q '^State:.[RSD]' "/proc/$1/status" 2>/dev/null
}

# feed DEVICE FOURCC FILE...: pictures into a device of v4l2loopback, as a camera would give them; the number of the program
# goes into $feeder.
feed() {
    local device="$1" code="$2"
    shift 2
    feeder "$device" 640 480 15 "$code" "$@" &
    feeder=$!
    sleep 1
}

# unfeed [SIGNAL]: ends it.
unfeed() {
    kill "-${1:-TERM}" "$feeder"
    wait "$feeder" 2>/dev/null
}

# lost LOG: pictures that the driver made and nobody read, over all plugs.
lost() {
    sed -n 's/.* read, \([0-9]*\) lost before.*/\1/p' "$1" | awk '{ sum += $1 } END { print sum + 0 }'
}
