#!/bin/bash
# Builds facemark without camera and window for ARM boards on an x86-64 Debian 12, and runs the builds under qemu.
#
#     scripts/arm.sh build [aarch64|armv7]...
#     scripts/arm.sh test [aarch64|armv7]...
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

# arm_cargo TARGET SUBCOMMAND ARGUMENTS... : Debian's cargo for a target, whatever else is installed.
arm_cargo() {
    local target=$1 subcommand=$2
    shift 2
    case $target in
        aarch64)
            CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER=aarch64-linux-gnu-gcc \
                RUSTC=/usr/bin/rustc /usr/bin/cargo "$subcommand" --locked --release --no-default-features \
                --target aarch64-unknown-linux-gnu --target-dir target-aarch64 "$@" ;;
        armv7)
            CARGO_TARGET_ARMV7_UNKNOWN_LINUX_GNUEABIHF_LINKER=arm-linux-gnueabihf-gcc \
                CARGO_TARGET_ARMV7_UNKNOWN_LINUX_GNUEABIHF_RUSTFLAGS="--cfg facemark_arm_neon" \
                RUSTC_BOOTSTRAP=1 RUSTC=/usr/bin/rustc /usr/bin/cargo "$subcommand" -Zbuild-std=std,panic_abort \
                --locked --release --no-default-features \
                --target armv7-unknown-linux-gnueabihf --target-dir target-armv7 "$@" ;;
    esac
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
    *) echo "usage: scripts/arm.sh build|test [aarch64|armv7]..." >&2; exit 2 ;;
esac
