#!/usr/bin/env bash
# Delete all parts or some; data and secrets stay unless --data is given.
set -euo pipefail
# shellcheck source=openshift/scripts/parts.sh
. "$(dirname "$0")/parts.sh"

usage() {
  cat <<'END'
Usage: delete.sh [OPTION...] [PART...]

Deletes the parts that are named, or all of them:
  secrets redis postgresql web usrregworker dbworker todoworker taskworker
Volumes, secrets and the image that was built stay, so that deploy.sh brings back what was there.

Options:
  -n, --namespace PROJECT   the project (default: the one that oc is in)
      --app-name NAME       the installation's name (default: app-srvc)
      --data                also delete volumes, secrets and images. What they hold is lost.
  -h, --help                this text
END
}

DATA=no
NAMED=()
while [ $# -gt 0 ]; do
  case "$1" in
    -h | --help) usage && exit 0 ;;
    -n | --namespace) need_value "$@" && NAMESPACE=$2 && shift 2 ;;
    --app-name) need_value "$@" && APP_NAME=$2 && shift 2 ;;
    --data) DATA=yes && shift ;;
    -*) die "There is no option '$1'. See --help." ;;
    *) NAMED+=("$1") && shift ;;
  esac
done

choose_parts ${NAMED[@]+"${NAMED[@]}"}
choose_namespace

delete() { oc_here delete "$1" -l "$(labels_of "$2")" --ignore-not-found --wait; }

# The last part to come is the first to go: workers stop while Redis and the ledger still answer.
for ((i = ${#PARTS[@]} - 1; i >= 0; i--)); do
  part=${PARTS[i]}
  if has_deployment "$part"; then
    kinds=deployment,service,configmap
    [ "$part" != web ] || kinds=$kinds,route
    delete "$kinds" "$part"
  fi
  [ "$DATA" = yes ] || continue
  case "$part" in
    secrets) delete secret secrets ;;
    redis | postgresql) delete persistentvolumeclaim "$part" ;;
    web) delete buildconfig,imagestream image ;;
  esac
done
say "Deleted: ${PARTS[*]}."
[ "$DATA" = yes ] || say "Volumes, secrets and images were kept; --data deletes them too."
