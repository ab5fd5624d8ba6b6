#!/bin/sh
# Run once by the image of the primary, when the data folder is new: the role, the slot and the permission of the server that follows it.
set -eu
secrets=${SECRETS_FOLDER:-/run/secrets}
psql --no-psqlrc --quiet --set ON_ERROR_STOP=1 --username "${POSTGRES_USER:-postgres}" --dbname postgres \
    --set password="$(cat "$secrets/replication_password")" <<'SQL'
CREATE ROLE replication LOGIN REPLICATION PASSWORD :'password';
SELECT pg_create_physical_replication_slot('replica') \g /dev/null
SQL
echo "host replication replication all scram-sha-256" >>"$PGDATA/pg_hba.conf"
