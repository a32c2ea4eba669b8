#!/bin/bash
# Puts Debian's own kernel with the modules that the machine needs into DIR: the camera driver vivid, which it holds, and a
# v4l2loopback built for it. Nothing of it is installed but the headers that the module is built with. Does nothing when DIR
# is complete.
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
dpkg-deb -x linux-image-*.deb image
dpkg-deb -x v4l2loopback-dkms_*.deb loopback
modules=lib/modules/$version
make -s -C "/usr/src/linux-headers-$version" M="$(echo "$work"/loopback/usr/src/v4l2loopback-*)" modules
install -D loopback/usr/src/v4l2loopback-*/v4l2loopback.ko "image/$modules/updates/v4l2loopback.ko"
strip --strip-debug "image/$modules/updates/v4l2loopback.ko"
/sbin/depmod -b image "$version"

# Of some thousand modules few are needed: those that boot.sh and the cases name, with what they need themselves.
new=$dir.$$
trap 'rm -rf "$work" "$new"' EXIT
mkdir -p "$new/boot" "$new/$modules"
cp "image/boot/vmlinuz-$version" "$new/boot/"
cp "image/$modules"/modules.{order,builtin,builtin.modinfo} "$new/$modules/"
for module in virtio_pci 9pnet_virtio 9p vivid v4l2loopback; do
    /sbin/modprobe -d "$work/image" -S "$version" --show-depends "$module"
done | awk '$1 == "insmod" { print $2 }' | sort -u | while read -r module; do
    install -D "$module" "$new${module#"$work/image"}"
done
/sbin/depmod -b "$new" "$version"
echo "$version" >"$new/complete"
rm -rf "$dir"
mv "$new" "$dir"
echo "kernel $version with v4l2loopback in $dir"
