#!/bin/bash
# Puts Debian's own kernel, which holds the camera driver vivid, and a v4l2loopback built for it into DIR. Nothing of it is
# installed but the headers that the module is built with. Does nothing when DIR is complete.
#
#     tests/vm/kernel.sh DIR
set -euo pipefail
dir=$(realpath -m "$1")
here=$(cd "$(dirname "$0")" && pwd)
if [ -e "$dir/complete" ]; then
    exit 0
fi

# Mirrors fail now and then: three tries, with a pause.
again() {
    local try
    for try in 1 2 3; do
        "$@" && return
        [ "$try" = 3 ] || { echo "failed: $*; trying again in 10 seconds" >&2; sleep 10; }
    done
    return 1
}

image=$(apt-cache depends linux-image-amd64 | awk '/Depends: linux-image/ { print $2; exit }')
version=${image#linux-image-}
[ -n "$image" ] || { echo "error: apt knows no linux-image-amd64" >&2; exit 1; }
"$here/../../scripts/install-debian-packages.sh" "linux-headers-$version"

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
again apt-get -q download "$image" v4l2loopback-dkms
rm -rf "$dir"
mkdir -p "$dir"
dpkg-deb -x linux-image-*.deb "$dir"
dpkg-deb -x v4l2loopback-dkms_*.deb loopback
cd loopback/usr/src/v4l2loopback-*
make -s -C "/usr/src/linux-headers-$version" M="$PWD" modules
module=$dir/lib/modules/$version/updates/v4l2loopback.ko
install -D v4l2loopback.ko "$module"
strip --strip-debug "$module"
depmod -b "$dir" "$version"
echo "$version" >"$dir/complete"
echo "kernel $version with v4l2loopback in $dir"
