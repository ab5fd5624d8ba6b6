"""Every service's exact command line and health check from compose.yaml, as processes of this machine on embedded servers.

What an engine would do is done by `Host`: mounted folders, names and ports are those of this machine. Nothing else differs, so a wrong flag, a secret
that is not mounted, a role that the user of the hub may not play or a health check that never passes shows here.
"""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Iterator
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import pytest

from connectors.postgres import connect, rows, transaction
from lienthong.embedded import KafkaBroker, PostgresCluster, Stack
from lienthong.embedded.ports import claim_port
from tests.city import wait
from tests.compose_kit import DOCKER, ONE, ROOT, Host, compose, filled, service

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]

ROLES = ("capture", "merge", "route", "apply", "watch", "registry")
STOP_SECONDS = 20.0  # less than the stop_grace_period
DDL = ROOT / "lienthong" / "demo" / "ddl"
LAYOUTS = {"city_portal": ("city-portal.sql",), "ward_tan_dinh": ("ward-one-stop-v2.sql", "ward-tan-dinh.sql")}
PLACES = ("log.dirs", "listeners", "advertised.listeners", "controller.quorum.voters")


def server_settings() -> dict[str, str]:
    """The arguments of the postgres service."""
    words = [filled(word) for word in compose(ONE)["services"]["postgres"]["command"]]
    assert words[0] == "postgres"
    assert words[1::2] == ["-c"] * (len(words) // 2)
    return dict(word.split("=", 1) for word in words[2::2])


def broker_settings() -> dict[str, str]:
    """The environment of the kafka service as its image turns it into server.properties; without the places, which are ours here."""
    given = compose(ONE)["services"]["kafka"]["environment"]
    named = {key.removeprefix("KAFKA_").lower().replace("_", "."): filled(value) for key, value in given.items() if key.startswith("KAFKA_")}
    assert set(PLACES) <= set(named)
    return {name: value for name, value in named.items() if name not in {*PLACES, "heap.opts"}}


def script(stack: Stack, name: str, folder: Path) -> None:
    """Run one of the scripts that the database's image runs when its folder is new."""
    server = stack.postgres["postgres"]
    tools = str(server.psql_path.parent)
    told = {"PGHOST": "127.0.0.1", "PGPORT": str(server.port), "SECRETS_FOLDER": str(folder), "PGDATA": str(server.directory / "data")}
    call = [str(DOCKER / "postgres" / name)]
    subprocess.run(call, env={**os.environ, **told, "PATH": f"{tools}:{os.environ['PATH']}"}, check=True, timeout=60)


def make_systems(host: Host, server: PostgresCluster) -> None:
    """The two systems of the example configuration, with tables as their vendors have them."""
    for name, layouts in LAYOUTS.items():
        dsn = server.create_database(name)
        for layout in layouts:
            subprocess.run(
                [str(server.psql_path), "-X", "-q", "-1", "-v", "ON_ERROR_STOP=1", "-d", dsn, "-f", str(DDL / layout)], check=True, timeout=60
            )
        host.secret(f"{name}_dsn", dsn)


def lienthong(host: Host, *arguments: str) -> subprocess.CompletedProcess[str]:
    """A command of the operator, as `docker compose run --rm watch …` starts it: the same environment."""
    made = service("watch")
    call = [str(word) for word in ("lienthong", *arguments)]
    return subprocess.run(call, env=host.environment(made), capture_output=True, text=True, timeout=120, check=False, cwd=host.folder)


@pytest.fixture(scope="module")
def host(stack_root: Path) -> Iterator[Host]:
    """Servers with the settings of compose.yaml, secrets by docker/new-secrets, and this machine in place of the engine."""
    folder = stack_root / "compose"
    with Stack(folder / "servers", clusters=("postgres",), settings=server_settings(), with_kafka=False) as stack:
        broker = KafkaBroker(folder / "servers" / "kafka", settings=broker_settings())
        made = Host(folder)
        with broker:
            server, port = stack.postgres["postgres"], str(claim_port(folder / "registry-port"))
            made.texts |= {"postgres:5432": f"127.0.0.1:{server.port}", "kafka:9092": broker.bootstrap, "0.0.0.0": "127.0.0.1", "8081": port}
            subprocess.run([str(DOCKER / "new-secrets"), str(folder / "secrets")], capture_output=True, check=False, timeout=60)
            script(stack, "create-databases.sh", folder / "secrets")
            for secret in list((folder / "secrets").iterdir()):
                text = made.here(secret.read_text("utf-8"))
                secret.chmod(0o600)
                secret.write_text(text, "utf-8")
            make_systems(made, server)
            made.mount(DOCKER / "config")
            for system in ("city-portal", "ward-tan-dinh"):
                asked = lienthong(made, "check", "--sql", system)
                assert asked.returncode == 0, asked.stderr
                dsn = (folder / "secrets" / f"{system.replace('-', '_')}_dsn").read_text("utf-8")
                call = [str(server.psql_path), "-X", "-q", "-1", "-v", "ON_ERROR_STOP=1", "-d", dsn, "-f", "-"]
                subprocess.run(call, input=asked.stdout, text=True, check=True, timeout=60)
            try:
                yield made
            finally:
                end(made)


def end(host: Host, number: int = signal.SIGTERM) -> dict[str, int]:
    """Ask everything that runs to end, as an engine does; the exit codes."""
    for process in host.running.values():
        if process.poll() is None:
            process.send_signal(number)
    codes, until = {}, time.monotonic() + STOP_SECONDS
    for name, process in host.running.items():
        try:
            codes[name] = process.wait(max(until - time.monotonic(), 0.1))
        except subprocess.TimeoutExpired:
            process.kill()
            codes[name] = process.wait()
    host.running.clear()
    return codes


def is_healthy(host: Host, name: str, more: dict[str, str] | None = None) -> bool:
    process = host.running[name]
    assert process.poll() is None, f"{name} has ended with {process.returncode}:\n{host.log(name)[-3000:]}"
    return host.check(service(name), more or {}).returncode == 0


def ask(host: Host, path: str) -> tuple[int, str]:
    connection = HTTPConnection("127.0.0.1", int(host.texts["8081"]), timeout=10)
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        return answer.status, answer.read().decode()
    finally:
        connection.close()


def hub(host: Host, statement: str) -> list[tuple[Any, ...]]:
    connection = connect((host.folder / "secrets" / "hub_dsn").read_text("utf-8"), application_name="test")
    try:
        with transaction(connection) as cursor:
            return rows(cursor, statement)
    finally:
        connection.close()


def test_every_role_comes_up_healthy_works_and_ends_when_told(host: Host) -> None:
    host.environment(service("merge"))
    assert host.check(service("merge")).returncode == 1
    for name in ROLES:
        host.start(service(name))
    for name in ROLES:
        wait(lambda name=name: is_healthy(host, name), 60, lambda name=name: host.log(name)[-3000:])  # type: ignore[misc]
    loaded = lienthong(host, "load", "--all")
    assert loaded.returncode == 0, loaded.stderr
    wait(lambda: lienthong(host, "status").returncode == 0, 60, lambda: lienthong(host, "status").stdout)
    status, body = ask(host, "/metrics")
    assert status == 200
    assert 'lienthong_line_state{stage="apply",state="normal",system="ward-tan-dinh"} 1.0' in body
    assert ask(host, "/subjects")[0] == 200
    assert hub(host, "SELECT tableowner FROM pg_tables WHERE schemaname = 'hub' GROUP BY 1") == [("lienthong",)]
    assert lienthong(host, "health", "--ready", "--state", str(signs_of(host, "merge"))).returncode == 0
    assert end(host) == dict.fromkeys(ROLES, 0)
    assert [list(signs_of(host, name).glob("*.alive")) for name in ROLES] == [[]] * len(ROLES)


def signs_of(host: Host, name: str) -> Path:
    return host.folder / "tmp" / name / f"lienthong-alive-{os.geteuid()}"


def test_a_process_that_stands_still_is_not_alive_and_one_without_its_hub_is(host: Host) -> None:
    made = service("merge")
    process = host.start(made)
    wait(lambda: is_healthy(host, "merge"), 60, lambda: host.log("merge")[-3000:])
    process.send_signal(signal.SIGSTOP)
    time.sleep(2.5)
    assert lienthong(host, "health", "merge", "--limit-seconds", "2", "--state", str(signs_of(host, "merge"))).returncode == 1
    process.send_signal(signal.SIGCONT)
    assert end(host) == {"merge": 0}
    away = {"KAFKA_BOOTSTRAP": "127.0.0.1:1"}
    host.start(made, away)
    wait(lambda: is_healthy(host, "merge", away), 60, lambda: host.log("merge")[-3000:])
    asked = subprocess.run(
        ["lienthong", "health", "--ready", "merge"], env=host.environment(made, away), capture_output=True, text=True, timeout=60, check=False
    )
    assert asked.returncode == 3, asked.stderr
    assert end(host) == {"merge": 0}
