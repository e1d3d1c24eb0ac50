#!/usr/bin/env bash
# Build the image with buildah on a base that debootstrap makes; no image registry is needed.
set -euo pipefail

usage() {
  cat <<'END'
Usage: tests/image/build.sh [-- BUILDAH-BUILD-OPTION...]

Builds localhost/app-srvc:test on localhost/app-srvc-base, and prints the image's name last.
Needs root, debootstrap and buildah.

What follows -- goes to `buildah build`, such as the configuration that pip needs on this machine:
  -- --volume /etc/pip.conf:/etc/pip.conf:ro

Environment:
  IMAGE_CACHE    where base and image storage are kept (default: ~/.cache/app-srvc-image)
  DEBIAN_MIRROR  where debootstrap gets its packages (default: http://deb.debian.org/debian)
  DEBIAN_SUITE   the release (default: bookworm)
END
}

case "${1:-}" in
  -h | --help) usage && exit 0 ;;
  --) shift ;;
  "") ;;
  *) usage >&2 && exit 2 ;;
esac

[ "$(id -u)" = 0 ] || {
  echo "build.sh needs root, as debootstrap does." >&2
  exit 1
}
for program in debootstrap buildah; do
  command -v "$program" >/dev/null || {
    echo "The program $program is needed: apt-get install $program" >&2
    exit 1
  }
done

here=$(cd "$(dirname "$0")" && pwd)
repository=$(cd "$here/../.." && pwd)
# shellcheck source=tests/image/storage.sh
. "$here/storage.sh"

suite=${DEBIAN_SUITE:-bookworm}
tarball=$IMAGE_CACHE/base-$suite.tar

make_tarball() {
  local rootfs
  rootfs=$(mktemp -d "$IMAGE_CACHE/debootstrap.XXXXXX")
  debootstrap --variant=minbase --include=python3,python3-venv,ca-certificates \
    "$suite" "$rootfs" "${DEBIAN_MIRROR:-http://deb.debian.org/debian}" >&2
  rm -rf "$rootfs"/var/cache/apt/archives/*.deb "$rootfs"/var/lib/apt/lists/*
  # Renamed when it is whole: a run that was cut short leaves nothing that looks like a base.
  tar --create --numeric-owner --one-file-system --directory "$rootfs" --file "$tarball.part" .
  mv "$tarball.part" "$tarball"
  rm -rf "$rootfs"
}

import_base() {
  local container
  container=$(image_tool from scratch)
  image_tool add --quiet "$container" "$tarball" / >&2
  image_tool commit --quiet --rm "$container" "$BASE_NAME" >&2
}

[ -f "$tarball" ] || make_tarball
image_tool inspect --type image "$BASE_NAME" >/dev/null 2>&1 || import_base

# Docker's format, since OCI's has no place for the health check.
image_tool build --layers --format docker --build-arg "BASE_IMAGE=$BASE_NAME" --pull-never \
  --build-arg "VERSION=$(sed -n 's/^__version__ = "\(.*\)"/\1/p' "$repository/app_srvc/__init__.py")" \
  --build-arg "REVISION=$(git -C "$repository" rev-parse HEAD 2>/dev/null || echo unknown)" \
  --tag "$IMAGE_NAME" "$@" "$repository" >&2
echo "$IMAGE_NAME"
