#!/usr/bin/env bash
# Process and apply the templates of all parts or of some, and wait until they run.
set -euo pipefail
# shellcheck source=openshift/scripts/parts.sh
. "$(dirname "$0")/parts.sh"

usage() {
  cat <<'END'
Usage: deploy.sh [OPTION...] [PART...]

Brings up the parts that are named, in order, or all of them:
  secrets redis postgresql web usrregworker dbworker todoworker taskworker
May be run again at any time: what is already as it should be is left alone.

Options:
  -n, --namespace PROJECT   the project (default: the one that oc is in)
      --app-name NAME       the installation's name, which groups its parts (default: app-srvc)
      --git-url URL         repository to build from (default: this clone's origin)
      --git-branch NAME     branch, tag or commit to build (default: main)
      --source-secret NAME  Secret for cloning a private repository (default: an empty one is made)
      --hostname NAME       public host name (default: the cluster chooses)
      --image IMAGE         run this image, and build none and follow none
      --build               build a new image even if there is one
  -p, --param NAME=VALUE    any parameter of the templates; may be repeated
      --timeout TIME        how long each part may take to come up (default: 5m)
  -h, --help                this text
END
}

TIMEOUT=5m
BUILD=when-missing
IMAGE=
SOURCE_SECRET=app-srvc-source
IMAGE_NAME=app-srvc
SECRET_NAME=app-srvc
GIVEN=()
NAMED=()

while [ $# -gt 0 ]; do
  case "$1" in
    -h | --help) usage && exit 0 ;;
    -n | --namespace) need_value "$@" && NAMESPACE=$2 && shift 2 ;;
    --app-name) need_value "$@" && GIVEN+=("APP_NAME=$2") && shift 2 ;;
    --git-url) need_value "$@" && GIVEN+=("GIT_URL=$2") && shift 2 ;;
    --git-branch) need_value "$@" && GIVEN+=("GIT_BRANCH=$2") && shift 2 ;;
    --source-secret) need_value "$@" && GIVEN+=("SOURCE_SECRET=$2") && shift 2 ;;
    --hostname) need_value "$@" && GIVEN+=("HOSTNAME=$2") && shift 2 ;;
    --image) need_value "$@" && IMAGE=$2 BUILD=never && shift 2 ;;
    --build) BUILD=always && shift ;;
    -p | --param) need_value "$@" && GIVEN+=("$2") && shift 2 ;;
    --timeout) need_value "$@" && TIMEOUT=$2 && shift 2 ;;
    -*) die "There is no option '$1'. See --help." ;;
    *) NAMED+=("$1") && shift ;;
  esac
done

has_parameter() { grep -q "^  - name: $2\$" "$1"; }

# Each parameter that was given must be known to some template; a misspelt one is not dropped.
check_parameters() {
  local assignment name
  for assignment in ${GIVEN[@]+"${GIVEN[@]}"}; do
    name=${assignment%%=*}
    [ "$name" != "$assignment" ] || die "--param needs NAME=VALUE, got '$assignment'."
    grep -qh "^  - name: $name\$" "$TEMPLATES"/*.yaml || die "No template has a parameter '$name'."
    case "$name" in
      APP_NAME) APP_NAME=${assignment#*=} ;;
      SECRET_NAME) SECRET_NAME=${assignment#*=} ;;
      SOURCE_SECRET) SOURCE_SECRET=${assignment#*=} ;;
      IMAGE_NAME) IMAGE_NAME=${assignment#*=} ;;
      NAMESPACE) die "Name the project with --namespace, not with --param." ;;
      IMAGE) die "Name the image with --image, not with --param." ;;
      APP_SERVICE_NAME | WORKER_RUNNER | TRIGGER_PAUSED) die "The scripts set $name themselves, for each part." ;;
    esac
  done
}

# A name of its own for everything when there are several installations in one project.
name_deployment() {
  case "$1" in
    redis) value_of REDIS_SERVICE_NAME redis ;;
    postgresql) value_of DATABASE_SERVICE_NAME postgresql ;;
    *) say "$1" ;;
  esac
}

# The value given for a parameter, or the default.
value_of() {
  local assignment value=$2
  for assignment in ${GIVEN[@]+"${GIVEN[@]}"}; do
    [ "${assignment%%=*}" != "$1" ] || value=${assignment#*=}
  done
  say "$value"
}

# The repository's address: required for the web part, a link in the console for the others.
find_git_url() {
  [ -z "$(value_of GIT_URL "")" ] || return 0
  local origin
  origin=$(git -C "$TEMPLATES" remote get-url origin 2>/dev/null) || origin=
  if [ -n "$origin" ]; then
    GIVEN+=("GIT_URL=$origin")
  elif is_chosen web; then
    die "Name the repository to build from with --git-url, since this clone has no origin."
  fi
}

# What a Deployment runs now. Applying another value would start it twice: once with the tag, and
# again when the trigger puts the built image in its place.
running_image() {
  local image
  image=$(oc_here get deployment "$1" --ignore-not-found \
    -o "jsonpath={.spec.template.spec.containers[0].image}") || die "Cannot ask the cluster for $1."
  say "${image:-$IMAGE_NAME:latest}"
}

process() {
  local part=$1 template assignment image
  template=$(template_of "$part")
  local arguments=(-p "NAMESPACE=$NAMESPACE")
  for assignment in ${GIVEN[@]+"${GIVEN[@]}"}; do
    if has_parameter "$template" "${assignment%%=*}"; then arguments+=(-p "$assignment"); fi
  done
  if is_application "$part"; then
    arguments+=(-p "APP_SERVICE_NAME=$part")
    if [ -n "$IMAGE" ]; then
      arguments+=(-p "IMAGE=$IMAGE" -p TRIGGER_PAUSED=true)
    else
      image=$(running_image "$part")
      arguments+=(-p "IMAGE=$image")
    fi
  fi
  case "$part" in *worker) arguments+=(-p "WORKER_RUNNER=$part.py") ;; esac
  oc process --local -f "$template" "${arguments[@]}"
}

# Only made, never changed: new passwords would lock the parts out of Redis and PostgreSQL.
deploy_secrets() {
  if exists secret "$SECRET_NAME"; then
    say "secrets: $SECRET_NAME is there and stays as it is"
  else
    process secrets | oc_here create -f -
  fi
}

# A build always names a Secret. For a public repository this one holds an empty configuration.
ensure_source_secret() {
  exists secret "$SOURCE_SECRET" || oc_here create secret generic "$SOURCE_SECRET" \
    --from-literal=.gitconfig="# No credentials: the repository is public."
}

build_image() {
  if [ "$BUILD" = never ]; then return 0; fi
  if [ "$BUILD" = when-missing ] && exists istag "$IMAGE_NAME:latest"; then return 0; fi
  exists buildconfig "$IMAGE_NAME" \
    || die "There is no image yet. Deploy the part web first: it builds it."
  say "image: building $IMAGE_NAME from Git"
  oc_here start-build "$IMAGE_NAME" --wait --follow \
    || die "The build failed. Its log is above; 'oc logs buildconfig/$IMAGE_NAME' shows it again."
  BUILD=never
}

deploy() {
  say "$1: applying"
  if [ "$1" = secrets ]; then
    deploy_secrets
    return
  fi
  if [ "$1" = web ]; then ensure_source_secret; fi
  process "$1" | oc_here apply -f -
  if is_application "$1"; then build_image; fi
}

explain() {
  warn "$1: did not come up within $TIMEOUT. Its pods, and the last lines that they wrote:"
  oc_here get pods -l "$(labels_of "$1")" >&2 || true
  oc_here logs "deployment/$2" --all-containers --tail=20 >&2 || true
}

wait_for() {
  local deployment
  deployment=$(name_deployment "$1")
  if oc_here rollout status "deployment/$deployment" --timeout "$TIMEOUT"; then return 0; fi
  explain "$1" "$deployment"
  return 1
}

# Applies the chosen ones of these parts, and then waits for all of them together.
bring_up() {
  local part failed=()
  for part in "$@"; do
    if is_chosen "$part"; then deploy "$part"; fi
  done
  for part in "$@"; do
    if is_chosen "$part" && has_deployment "$part"; then wait_for "$part" || failed+=("$part"); fi
  done
  [ ${#failed[@]} -eq 0 ] || die "Not running: ${failed[*]}."
}

show_address() {
  local host
  host=$(oc_here get route "$(value_of ROUTENAME web)" --ignore-not-found -o "jsonpath={.spec.host}")
  [ -z "$host" ] || say "web: https://$host"
}

choose_parts ${NAMED[@]+"${NAMED[@]}"}
check_parameters
choose_namespace
find_git_url
bring_up secrets redis postgresql
bring_up web usrregworker dbworker todoworker taskworker
if is_chosen web; then show_address; fi
