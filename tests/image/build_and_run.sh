#!/usr/bin/env bash
# Build the image, and run every part of it as a restricted pod would, with a real Redis and PostgreSQL.
set -euo pipefail

usage() {
  cat <<'END'
Usage: tests/image/build_and_run.sh [--measure] [-- BUILDAH-BUILD-OPTION...]

Builds the image (see tests/image/build.sh --help for what may follow --, and for the environment),
then runs tests/image/scenario.py on it in a network of its own, so that no port of this machine is
used. With --measure it runs tests/image/measure.py instead. Needs root, debootstrap, buildah, iproute2,
and the tests' requirements in PYTHON.

Environment:
  PYTHON  the Python that runs the tests (default: .venv/bin/python)
END
}

run=(-m pytest -q -p no:cacheprovider --timeout=300 tests/image/scenario.py)
case "${1:-}" in
  -h | --help) usage && exit 0 ;;
  --measure) run=(-m tests.image.measure) && shift ;;
esac

here=$(cd "$(dirname "$0")" && pwd)
repository=$(cd "$here/../.." && pwd)
# shellcheck source=tests/image/storage.sh
. "$here/storage.sh"
cd "$repository"

"$here/build.sh" "$@"

scratch=$(mktemp -d)
container=$(image_tool from --pull-never "$IMAGE_NAME")
clean_up() {
  image_tool rm "$container" >/dev/null
  rm -rf "$scratch"
}
trap clean_up EXIT

root=$(image_tool mount "$container")
image_tool inspect --type image "$IMAGE_NAME" >"$scratch/image.json"
# What a container engine would make for its own mounts.
touch "$root/etc/hosts"
megabytes() { du -s --block-size=1M "$1" | cut -f1; }
echo "size: $(megabytes "$root") MB, of which $(megabytes "$root/opt") MB are not the base's"

# Nothing that the tests start outlives them: the kernel ends all of a process namespace at once.
IMAGE_ROOT=$root IMAGE_DESCRIPTION=$scratch/image.json \
  unshare --net --pid --mount-proc --fork --kill-child -- sh -c '
    ip link set lo up
    "$@"
  ' sh "${PYTHON:-.venv/bin/python}" "${run[@]}"
