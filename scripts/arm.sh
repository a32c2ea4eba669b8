#!/bin/bash
# Builds facemark without camera and window for ARM boards on an x86-64 Debian 12, and runs the builds under qemu.
#
#     scripts/arm.sh build [aarch64|armv7]...
#     scripts/arm.sh test [aarch64|armv7]...
#
# With FACEMARK_INT8_BUNDLE naming a folder (see tests/it/int8_bundle.rs), its networks are run on every processor too.
#
# Compilers and standard libraries are Debian's packages alone. aarch64 takes the standard library from the arm64 package;
# armv7 has none there and builds it from the packaged source, for which the stable compiler must be told that it may
# (RUSTC_BOOTSTRAP), and so it also gets the NEON intrinsics that are unstable for 32-bit ARM. Each target has a folder of
# its own, target-aarch64/ and target-armv7/. With rustup none of this is needed: see README.md.
set -euo pipefail
cd "$(dirname "$0")/.."

PACKAGES_BUILD=(gcc libc6-dev rustc-web cargo-web)
PACKAGES_aarch64=(libstd-rust-web-dev:arm64 gcc-aarch64-linux-gnu libc6-dev-arm64-cross)
PACKAGES_armv7=(rust-web-src gcc-arm-linux-gnueabihf libc6-dev-armhf-cross)
PACKAGES_TEST=(qemu-user-static python3-venv)

fail() {
    echo "error: $*" >&2
    exit 1
}

# install_packages TARGET... : the compilers of the targets.
install_packages() {
    local target packages=("${PACKAGES_BUILD[@]}")
    for target in "$@"; do
        local -n of_target="PACKAGES_$target"
        packages+=("${of_target[@]}")
        if [ "$target" = aarch64 ] && [[ $'\n'$(dpkg --print-foreign-architectures)$'\n' != *$'\narm64\n'* ]]; then
            echo "Adding arm64 to the architectures of dpkg"
            if [ "$(id -u)" -eq 0 ]; then dpkg --add-architecture arm64; else sudo dpkg --add-architecture arm64; fi
        fi
    done
    scripts/install-debian-packages.sh "${packages[@]}"
}

# arm_cargo TARGET SUBCOMMAND ARGUMENTS... : Debian's cargo for a target, whatever else is installed. RUNNER, when it is
# set, is the command that programs of the target run under.
arm_cargo() {
    local target=$1 subcommand=$2 triple linker name flags=()
    local environment=(RUSTC=/usr/bin/rustc)
    shift 2
    case $target in
        aarch64)
            triple=aarch64-unknown-linux-gnu linker=aarch64-linux-gnu-gcc
            name=CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU ;;
        armv7)
            triple=armv7-unknown-linux-gnueabihf linker=arm-linux-gnueabihf-gcc
            name=CARGO_TARGET_ARMV7_UNKNOWN_LINUX_GNUEABIHF
            flags=(-Zbuild-std=std,panic_abort,test)
            environment+=(RUSTC_BOOTSTRAP=1 "${name}_RUSTFLAGS=--cfg facemark_arm_neon") ;;
    esac
    environment+=("${name}_LINKER=$linker")
    [ -z "${RUNNER:-}" ] || environment+=("${name}_RUNNER=$RUNNER")
    env "${environment[@]}" /usr/bin/cargo "$subcommand" "${flags[@]}" --locked --release --no-default-features \
        --target "$triple" --target-dir "target-$target" "$@"
}

build() {
    local target
    install_packages "$@"
    for target in "$@"; do
        echo "== $target"
        arm_cargo "$target" build --bin facemark
        arm_cargo "$target" test --no-run
        ls -l "target-$target"/*/release/facemark
    done
}

# test_cpu TARGET CPU KERNELS : the tests on one processor of qemu's, on which KERNELS must be the ones that are chosen.
test_cpu() {
    local target=$1 cpu=$2 kernels=$3 qemu libraries runner
    case $target in
        aarch64) qemu=qemu-aarch64-static libraries=/usr/aarch64-linux-gnu ;;
        armv7) qemu=qemu-arm-static libraries=/usr/arm-linux-gnueabihf ;;
    esac
    # The search path too: beside a C library of the same architecture in its usual place, -L alone mixes the two.
    runner="$qemu -cpu $cpu -L $libraries -E LD_LIBRARY_PATH=$libraries/lib"
    echo "== $target on $cpu: $kernels"
    RUNNER=$runner arm_cargo "$target" test --lib
    RUNNER=$runner arm_cargo "$target" test --test it -- --nocapture int8_bundle
    # shellcheck disable=SC2086
    .venv/arm/bin/python scripts/arm_check.py --kernels "$kernels" \
        $runner "$(ls "target-$target"/*/release/facemark)"
}

run_tests() {
    local target
    build "$@"
    scripts/install-debian-packages.sh "${PACKAGES_TEST[@]}"
    if [ ! -e .venv/arm/complete ]; then
        python3 -m venv .venv/arm
        .venv/arm/bin/python -m pip install --quiet --disable-pip-version-check numpy==2.4.6 onnxruntime==1.31.1
        touch .venv/arm/complete
    fi
    for target in "$@"; do
        case $target in
            aarch64)
                test_cpu aarch64 max neon-dot
                test_cpu aarch64 cortex-a53 neon ;;
            armv7)
                test_cpu armv7 cortex-a15 neon
                test_cpu armv7 cortex-a15,neon=off portable ;;
        esac
    done
}

targets() {
    local target
    for target in "$@"; do
        case $target in aarch64 | armv7) ;; *) fail "there is no target $target: aarch64, armv7" ;; esac
    done
}

[ "$(uname -m)" = x86_64 ] && command -v dpkg >/dev/null || fail "this script builds on an x86-64 Debian"
action=${1:-}
[ $# -eq 0 ] || shift
[ $# -gt 0 ] || set -- aarch64 armv7
targets "$@"
case $action in
    build) build "$@" ;;
    test) run_tests "$@" ;;
    *) echo "usage: scripts/arm.sh build|test [aarch64|armv7]..." >&2; exit 2 ;;
esac
