#!/bin/bash
# Boots a virtual machine with camera drivers, runs one case in it, and ends with the case's exit status (125: it did not end).
# The machine is busybox and the given programs in memory; there is no disk and no network. qemu emulates the processor, so
# that the host needs no rights.
#
#     tests/vm/boot.sh KERNEL RESULTS SECONDS CASE.sh PROGRAM...
#
# KERNEL: what kernel.sh made. RESULTS: a folder for what the case leaves in /results. Files of the folder FEED are in /feed;
# the variable SETTINGS is read by the case as shell text.
set -euo pipefail
kernel=$1 results=$(realpath -m "$2") limit=$3 case=$4
shift 4
here=$(cd "$(dirname "$0")" && pwd)
version=$(cat "$kernel/complete")
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
root=$work/root
mkdir -p "$root"/{bin,dev,etc,proc,sys,tmp,results,feed,models} "$results"

cp "$(command -v busybox)" "$root/bin/busybox"
for program in "$@"; do
    cp -L "$program" "$root/bin/"
    # The libraries that it is linked to, with the loader.
    { ldd "$program" 2>/dev/null || true; } | { grep -o '/[^ )]*' || true; } | while read -r library; do
        [ -e "$root$library" ] || install -D "$(realpath "$library")" "$root$library"
    done
done
cp "$here"/../../models/{face-detector,landmarks68}-int8.onnx "$root/models/"
cp -r "$kernel/lib/modules" "$root/lib/"
cp "$here/init" "$root/init"
cp "$here/case.sh" "$root/checks.sh"
cp "$case" "$root/case.sh"
printf '%s\n' "${SETTINGS:-}" >"$root/settings"
chmod +x "$root/init"
if [ -n "${FEED:-}" ]; then cp "$FEED"/* "$root/feed/"; fi
# The drivers that the case names in its line `# drivers:`, separated by semicolons, are loaded at the start.
sed -n 's/^# drivers: //p' "$case" | tr ';' '\n' | sed 's/^ *//' >"$root/drivers"
(cd "$root" && find . | cpio --quiet -o -H newc | gzip -1) >"$work/initrd"

rm -f "$results"/{booted,status,log,kernel-log,console}
timeout "$limit" qemu-system-x86_64 -M q35,accel=tcg -cpu max,-erms,-fsrm -smp 2 -m 1024 -nodefaults -no-reboot -display none \
    -kernel "$kernel/boot/vmlinuz-$version" -initrd "$work/initrd" -append "console=ttyS0 quiet panic=-1" \
    -serial "file:$results/console" -virtfs "local,path=$results,mount_tag=results,security_model=none" || true
exit "$(cat "$results/status" 2>/dev/null || echo 125)"
