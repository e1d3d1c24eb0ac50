#!/bin/sh
# Make sure that an image can be built and run here without a registry: Debian's debootstrap and buildah.
set -eu
missing=
for program in debootstrap buildah ip; do
    command -v "$program" >/dev/null 2>&1 || missing="$missing $program"
done
[ -n "$missing" ] || exit 0
if ! command -v apt-get >/dev/null 2>&1 || [ "$(id -u)" != 0 ]; then
    echo "Not here:$missing. Install them (Debian: apt-get install debootstrap buildah iproute2)." >&2
    exit 1
fi
apt-get update -qq
DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends \
    debootstrap buildah iproute2 >/dev/null
