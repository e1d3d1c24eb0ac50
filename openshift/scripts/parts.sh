# shellcheck shell=bash
# The parts of an installation, and what the scripts beside this file share; sourced, not run.
# shellcheck disable=SC2034  # the scripts that source this use them

ALL_PARTS=(secrets redis postgresql web usrregworker dbworker todoworker taskworker)
TEMPLATES=$(cd "$(dirname "${BASH_SOURCE[0]}")/../templates" && pwd)

APP_NAME=app-srvc
NAMESPACE=
PARTS=()

say() { printf '%s\n' "$*"; }
warn() { printf '%s\n' "$*" >&2; }

die() {
  warn "$*"
  exit 1
}

# The file that a part is made from.
template_of() {
  case "$1" in
    *worker) say "$TEMPLATES/worker.yaml" ;;
    *) say "$TEMPLATES/$1.yaml" ;;
  esac
}

is_application() {
  case "$1" in
    web | *worker) return 0 ;;
    *) return 1 ;;
  esac
}

has_deployment() { [ "$1" != secrets ]; }

# The labels of one part's objects.
labels_of() { say "app.kubernetes.io/instance=$APP_NAME,app.kubernetes.io/component=$1"; }

# Fills PARTS with those that are named, in the order in which they come up; none means all.
choose_parts() {
  local part
  for part in "$@"; do
    case " ${ALL_PARTS[*]} " in
      *" $part "*) ;;
      *) die "There is no part '$part'. The parts are: ${ALL_PARTS[*]}." ;;
    esac
  done
  for part in "${ALL_PARTS[@]}"; do
    case " ${*:-$part} " in *" $part "*) PARTS+=("$part") ;; esac
  done
}

is_chosen() { case " ${PARTS[*]} " in *" $1 "*) return 0 ;; *) return 1 ;; esac; }

# Fills NAMESPACE from the project that oc is in, unless it was given, and says so when that fails.
choose_namespace() {
  command -v oc >/dev/null || die "The program oc is needed. Install it, and log in with 'oc login'."
  [ -n "$NAMESPACE" ] || NAMESPACE=$(oc project -q) \
    || die "No project is chosen. Log in with 'oc login', or name one with --namespace."
}

# oc in the chosen project.
oc_here() { oc --namespace "$NAMESPACE" "$@"; }

# Whether an object exists. A cluster that does not answer is an error, never a "no".
exists() {
  local found
  found=$(oc_here get "$1" "$2" --ignore-not-found -o name) || die "Cannot ask the cluster for $1 $2."
  [ -n "$found" ]
}

need_value() { [ -n "${2:-}" ] || die "$1 needs a value. See --help."; }
