#!/bin/sh
# Make sure there is what the tests of the .cmd files run: Wine's command interpreter, and a compiler for a
# small Windows program that stands in for Python.
set -eu
missing=
for program in wine wineserver x86_64-w64-mingw32-gcc; do
  command -v "$program" >/dev/null 2>&1 || missing="$missing $program"
done
[ -n "$missing" ] || exit 0
as_root=
[ "$(id -u)" = 0 ] || as_root=sudo
if ! command -v apt-get >/dev/null 2>&1 || ! $as_root true 2>/dev/null; then
  echo "These programs are needed for the tests of the .cmd scripts:$missing" >&2
  exit 1
fi
$as_root apt-get update -qq
DEBIAN_FRONTEND=noninteractive $as_root apt-get install -y -qq --no-install-recommends \
  wine wine64 gcc-mingw-w64-x86-64-win32 >/dev/null
