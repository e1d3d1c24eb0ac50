#!/bin/sh
# Become one program of an image, confined as a restricted pod is: a read-only root file system, /tmp
# of its own, a user id that the image does not know, group 0, no capabilities, no way to gain any.
# Runs inside new namespaces (`unshare --mount --pid --fork`), so nothing of this is seen outside.
#
# Usage: enter.sh ROOT HOSTS-FILE USER-ID FOLDER [NAME=VALUE...] PROGRAM [ARGUMENT...]
set -eu
root=$1 hosts=$2 user=$3 folder=$4
shift 4

mount --bind "$root" "$root"
mount --bind "$hosts" "$root/etc/hosts"
mount -t proc -o nosuid,nodev,noexec proc "$root/proc"
mount -t tmpfs -o nosuid,mode=755 tmpfs "$root/dev"
for device in null zero full random urandom; do
  : >"$root/dev/$device"
  mount --bind "/dev/$device" "$root/dev/$device"
done
mkdir "$root/dev/shm"
ln -s /proc/self/fd "$root/dev/fd"
mount -t tmpfs -o nosuid,nodev,mode=1777 tmpfs "$root/dev/shm"
mount -t tmpfs -o nosuid,nodev,mode=1777 tmpfs "$root/tmp"
mount -o remount,ro,bind "$root"

# Each of these takes the place of the one before, so the program is process 1 in the end.
exec chroot "$root" setpriv --reuid "$user" --regid 0 --clear-groups \
  --bounding-set=-all --inh-caps=-all --no-new-privs \
  env --ignore-environment --chdir="$folder" "$@"
