#!/bin/bash
# Installs the named Debian packages that are missing; does nothing, and needs no rights, when all are there.
#
#     scripts/install-debian-packages.sh PACKAGE...
set -euo pipefail

missing=()
for package in "$@"; do
    status=$(dpkg-query --show --showformat='${db:Status-Status}' "$package" 2>/dev/null || true)
    [ "$status" = installed ] || missing+=("$package")
done
if [ ${#missing[@]} -eq 0 ]; then
    exit 0
fi

echo "Installing the missing Debian packages: ${missing[*]}"
as_root=()
if [ "$(id -u)" -ne 0 ]; then
    if ! command -v sudo >/dev/null; then
        echo "error: this needs root and sudo is not there; as root: apt-get install ${missing[*]}" >&2
        exit 1
    fi
    as_root=(sudo)
fi

# Mirrors fail now and then: three tries, with a pause.
for try in 1 2 3; do
    if "${as_root[@]}" apt-get update -q &&
        "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive \
            apt-get install -q -y --no-install-recommends "${missing[@]}"; then
        exit 0
    fi
    [ "$try" = 3 ] || { echo "Installing failed; trying again in 10 seconds"; sleep 10; }
done
echo "error: could not install ${missing[*]}" >&2
exit 1
