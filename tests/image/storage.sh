# shellcheck shell=bash
# Where the image tests keep base, layers and containers; sourced by the scripts beside it.
# shellcheck disable=SC2034  # those scripts use the names
IMAGE_CACHE=${IMAGE_CACHE:-$HOME/.cache/app-srvc-image}
BASE_NAME=localhost/app-srvc-base
IMAGE_NAME=localhost/app-srvc:test
mkdir -p "$IMAGE_CACHE"

# Without a user namespace or an OCI runtime underneath, so that it also works inside a container.
export BUILDAH_ISOLATION=${BUILDAH_ISOLATION:-chroot}

# Apart from the machine's own images: deleting IMAGE_CACHE removes every trace.
image_tool() {
  buildah --root "$IMAGE_CACHE/storage" --runroot "$IMAGE_CACHE/run" "$@"
}
