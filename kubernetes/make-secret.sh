#!/bin/sh
# Print the Secret that all parts read, with new passwords and tokens: make-secret.sh | kubectl create -f -
# Made once: other passwords would lock the parts out of the Redis and PostgreSQL that run.
set -eu

case "${1:-}" in
  "") ;;
  -h | --help)
    echo "Usage: [REDIS_URL=…] [DATABASE_URL=…] [SOURCE_TOKEN=…] make-secret.sh | kubectl -n NAMESPACE create -f -"
    exit 0
    ;;
  *)
    echo "make-secret.sh takes no arguments, got '$1'. See --help." >&2
    exit 2
    ;;
esac

random() { od -An -N32 -tx1 /dev/urandom | tr -d ' \n'; }

# A value as YAML in single quotes.
quoted() { printf "'%s'" "$(printf %s "$1" | sed "s/'/''/g")"; }

redis_password=$(random)
cat <<END
apiVersion: v1
kind: Secret
metadata:
  name: app-srvc
  labels:
    app.kubernetes.io/name: app-srvc
    app.kubernetes.io/instance: app-srvc
    app.kubernetes.io/component: secrets
    app.kubernetes.io/part-of: app-srvc
type: Opaque
stringData:
  redis-password: '$redis_password'
  # The same password in the form that the server includes in its configuration.
  redis.conf: |
    requirepass $redis_password
  redis-url: $(quoted "${REDIS_URL:-}")
  database-url: $(quoted "${DATABASE_URL:-}")
  database-user: appsrvc
  database-password: '$(random)'
  secret-key: '$(random)'
  api-token: '$(random)'
  source-token: $(quoted "${SOURCE_TOKEN:-}")
END
