#!/usr/bin/env bash
# Say of each part whether it runs; exit 1 if one does not.
set -euo pipefail
# shellcheck source=openshift/scripts/parts.sh
. "$(dirname "$0")/parts.sh"

usage() {
  cat <<'END'
Usage: status.sh [OPTION...] [PART...]

Shows how many pods of each part are ready, of all parts or of those named:
  secrets redis postgresql web usrregworker dbworker todoworker taskworker
Exits with 1 if one of them is missing or not ready.

Options:
  -n, --namespace PROJECT   the project (default: the one that oc is in)
      --app-name NAME       the installation's name (default: app-srvc)
  -h, --help                this text
END
}

NAMED=()
while [ $# -gt 0 ]; do
  case "$1" in
    -h | --help) usage && exit 0 ;;
    -n | --namespace) need_value "$@" && NAMESPACE=$2 && shift 2 ;;
    --app-name) need_value "$@" && APP_NAME=$2 && shift 2 ;;
    -*) die "There is no option '$1'. See --help." ;;
    *) NAMED+=("$1") && shift ;;
  esac
done

choose_parts ${NAMED[@]+"${NAMED[@]}"}
choose_namespace

# Prints "ready/wanted" of a part's Deployment, and nothing if there is none.
pods_of() {
  oc_here get deployment -l "$(labels_of "$1")" \
    -o "jsonpath={range .items[*]}{.status.readyReplicas}/{.spec.replicas}{end}"
}

is_well=yes
for part in "${PARTS[@]}"; do
  if has_deployment "$part"; then
    pods=$(pods_of "$part") || die "Cannot ask the cluster."
    ready=${pods%/*} wanted=${pods#*/}
    if [ -z "$pods" ]; then
      state="missing"
    elif [ "${ready:-0}" = "$wanted" ]; then
      state="running, $ready of $wanted ready"
    else
      state="not ready, ${ready:-0} of $wanted ready"
    fi
  else
    found=$(oc_here get secret -l "$(labels_of "$part")" -o name) || die "Cannot ask the cluster."
    state=${found:+there}
    state=${state:-missing}
  fi
  case "$state" in running* | there) ;; *) is_well=no ;; esac
  printf '%-14s %s\n' "$part" "$state"
done
[ "$is_well" = yes ]
