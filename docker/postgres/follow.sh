#!/bin/sh
# The server that follows the primary: a copy of it when the data folder is new, then the server itself with the arguments given.
set -eu
secrets=${SECRETS_FOLDER:-/run/secrets}
if [ ! -s "$PGDATA/PG_VERSION" ]; then
    mkdir -p "$PGDATA"
    chmod 700 "$PGDATA"
    PGPASSWORD=$(cat "$secrets/replication_password") pg_basebackup --host "$PRIMARY_HOST" --port "$PRIMARY_PORT" --username replication \
        --pgdata "$PGDATA" --checkpoint fast --wal-method stream --slot replica --write-recovery-conf
fi
exec "$@"
