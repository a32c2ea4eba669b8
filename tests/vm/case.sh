# What every case uses, read by it as /checks.sh. A case prints one line a check, `ok` or `FAILED`, and ends with `finish`.
failures=0
. /settings

# check WORDS COMMAND...: whether the command succeeds.
check() {
    words=$1
    shift
    if "$@"; then
        echo "ok      $words"
    else
        echo "FAILED  $words"
        failures=$((failures + 1))
    fi
}

finish() {
    [ "$failures" = 0 ]
    exit
}

# Hundredths of seconds since the machine was started.
now() {
    cut -d' ' -f1 /proc/uptime | tr -d .
}

# until_within SECONDS COMMAND...: waits until the command succeeds.
until_within() {
    deadline=$(($(now) + $1 * 100))
    shift
    until "$@"; do
        [ "$(now)" -lt "$deadline" ] || return 1
        usleep 20000
    done
}

# count PATTERN FILE: lines with the pattern.
count() {
    grep -c "$1" "$2" 2>/dev/null || true
}

# has_lines COUNT PATTERN FILE
has_lines() {
    [ "$(count "$2" "$3")" -ge "$1" ]
}

# start NAME ARGUMENTS...: facemark in the background; what it says goes to /tmp/NAME.log, its number into $facemark.
start() {
    name=$1
    shift
    RUST_LOG=warn,tract=error,facemark=debug facemark "$@" --no-window >"/tmp/$name.log" 2>&1 &
    facemark=$!
}

# stop: ends it as Ctrl-C does; whether it ended well and in time.
stop() {
    kill -INT "$facemark"
    until_within 15 dead "$facemark" || { kill -KILL "$facemark"; return 1; }
    wait "$facemark"
}

dead() {
    # A zombie is dead, though it can still be asked for.
    ! grep -q '^State:.[RSD]' "/proc/$1/status" 2>/dev/null
}

# dead NUMBER: whether a program has ended. One whose end nobody asked for yet can still be seen.
dead() {
    ! grep -q '^State:.[RSD]' "/proc/$1/status" 2>/dev/null
}

# streams NAME: waits until facemark says that it reads frames.
analysed() {
    grep -c '"frame"' "$1" 2>/dev/null || echo 0
}

# lost LOG: pictures that the driver made and nobody read, over all plugs.
lost() {
    sed -n 's/.* read, \([0-9]*\) lost before.*/\1/p' "$1" | awk '{ sum += $1 } END { print sum + 0 }'
}
