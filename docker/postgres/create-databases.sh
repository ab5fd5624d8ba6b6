#!/bin/sh
# Run once by the image, when the data folder is new: our role and database, and Airflow's. Passwords come from mounted secrets.
set -eu
secrets=${SECRETS_FOLDER:-/run/secrets}
psql --no-psqlrc --quiet --set ON_ERROR_STOP=1 --username "${POSTGRES_USER:-postgres}" --dbname postgres \
    --set hub_password="$(cat "$secrets/hub_password")" --set airflow_password="$(cat "$secrets/airflow_password")" <<'SQL'
CREATE ROLE lienthong LOGIN PASSWORD :'hub_password';
CREATE DATABASE hub OWNER lienthong TEMPLATE template0 ENCODING 'UTF8';
REVOKE CONNECT ON DATABASE hub FROM PUBLIC;
CREATE ROLE airflow LOGIN PASSWORD :'airflow_password';
CREATE DATABASE airflow OWNER airflow TEMPLATE template0 ENCODING 'UTF8';
REVOKE CONNECT ON DATABASE airflow FROM PUBLIC;
SQL
