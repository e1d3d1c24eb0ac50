#!/bin/sh
# Runs a command of the folder `parts` with the first Python that is new enough; PYTHON names another.
set -eu
folder=$(dirname "$0")
if [ -n "${PYTHON:-}" ]; then
  exec "$PYTHON" "$folder/parts" "$@"
fi
# On Windows, `python3` may be a placeholder that only opens a shop.
for python in python3 python py; do
  if "$python" -c 'import sys; sys.exit(sys.version_info < (3, 8))' >/dev/null 2>&1; then
    exec "$python" "$folder/parts" "$@"
  fi
done
echo "Python 3.8 or newer is needed. Install it, or name its program in the variable PYTHON." >&2
exit 1
