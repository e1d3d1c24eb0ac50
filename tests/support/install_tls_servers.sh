#!/bin/sh
# Make sure there are a Redis and a PostgreSQL that speak TLS: those from wheels, which the other tests
# use, are built without it. Nothing is started, and no cluster is made.
set -eu
is_there() {
    { command -v redis-server || command -v redis-check-rdb; } >/dev/null 2>&1 &&
        ls /usr/lib/postgresql/*/bin/postgres >/dev/null 2>&1
}
is_there && exit 0
as_root=
[ "$(id -u)" = 0 ] || as_root="sudo -n"
export DEBIAN_FRONTEND=noninteractive
$as_root apt-get update -qq
# In this package redis-check-rdb is the server itself, under another name, and there is no service.
$as_root apt-get install -y -qq --no-install-recommends openssl redis-tools postgresql-common >/dev/null
if ! ls /usr/lib/postgresql/*/bin/postgres >/dev/null 2>&1; then
    $as_root sed -ri 's/^#?(create_main_cluster) .*/\1 = false/' /etc/postgresql-common/createcluster.conf
    $as_root apt-get install -y -qq --no-install-recommends postgresql >/dev/null
fi
is_there
