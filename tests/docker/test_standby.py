"""The second PostgreSQL of compose.scale.yaml: its scripts and its command make a server that follows, commits with the first, and takes over."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from connectors.postgres import connect, one, rows, transaction
from lienthong.embedded import PostgresCluster
from lienthong.embedded.ports import claim_port
from lienthong.embedded.postgres import _servant
from lienthong.embedded.process import Command, ServerProcess
from tests.city import wait
from tests.compose_kit import DOCKER, MANY, ROOT, compose, filled

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]

PASSWORDS = {"hub_password": "first", "airflow_password": "second", "replication_password": "third"}


RUNBOOK = (ROOT / "docs" / "runbook.md").read_text("utf-8")


def of_the_runbook() -> list[str]:
    """The statements with which the standby becomes one that commits with the first, and the one that shows it."""
    (block,) = [found for found in re.findall(r"```sql\n(.*?)```", RUNBOOK, flags=re.S) if "synchronous_standby_names" in found]
    statements = [one.strip() for one in block.split(";") if one.strip()]
    assert [one.split()[0] for one in statements] == ["ALTER", "SELECT", "SELECT"]
    return statements


def settings_of(name: str) -> dict[str, str]:
    """The arguments of a postgres service."""
    words = [filled(word) for word in compose(MANY)["services"][name]["command"]]
    assert words[0] == "postgres"
    assert words[1::2] == ["-c"] * (len(words) // 2)
    return dict(word.split("=", 1) for word in words[2::2])


@contextmanager
def first(folder: Path) -> Iterator[PostgresCluster]:
    """The primary, with its settings, and what its image runs when its folder is new."""
    server = PostgresCluster(folder / "first", name="first", settings=settings_of("postgres"))
    with server:
        told = {
            "PGHOST": "127.0.0.1",
            "PGPORT": str(server.port),
            "SECRETS_FOLDER": str(folder / "secrets"),
            "PGDATA": str(server.directory / "data"),
        }
        told["PATH"] = f"{server.psql_path.parent}:{os.environ['PATH']}"
        for script in ("create-databases.sh", "let-follow.sh"):
            subprocess.run([str(DOCKER / "postgres" / script)], env={**os.environ, **told}, check=True, timeout=60)
        server.execute("SELECT pg_reload_conf()")
        yield server


@contextmanager
def second(folder: Path, primary: PostgresCluster) -> Iterator[int]:
    """The one that follows, started as its service is, on a port of its own; the port."""
    service = compose(MANY)["services"]["postgres-replica"]
    assert service["entrypoint"] == ["/usr/local/bin/follow.sh"]
    port = claim_port(folder / "port")
    home = folder / "second"
    home.mkdir()
    servant = _servant()
    if servant is not None:
        shutil.chown(home, user=servant)
    follow = folder / "follow.sh"  # where the server's own user can reach it
    shutil.copy(DOCKER / "postgres" / "follow.sh", follow)
    follow.chmod(0o755)
    mapped = {"PRIMARY_HOST": "127.0.0.1", "PRIMARY_PORT": str(primary.port)}
    assert set(mapped) == set(service["environment"])
    here = ["-c", f"port={port}", "-c", "listen_addresses=127.0.0.1", "-c", "unix_socket_directories="]
    process = ServerProcess(
        Command(
            arguments=[str(follow), *map(filled, service["command"]), *here],
            log=folder / "second.log",
            directory=home,
            environment={
                **mapped,
                "PATH": f"{primary.psql_path.parent}:/usr/bin:/bin",
                "PGDATA": str(home / "18" / "docker"),
                "SECRETS_FOLDER": str(folder / "secrets"),
            },
            user=servant,
        )
    )
    try:
        yield port
    finally:
        process.kill()


def ask(dsn: str, statement: str) -> list[tuple[object, ...]]:
    connection = connect(dsn, application_name="test", autocommit=True)
    try:
        with connection.cursor() as cursor:
            cursor.execute(statement)
            return cursor.fetchall() if cursor.description else []
    finally:
        connection.close()


def answers(dsn: str, statement: str, expected: object) -> bool:
    try:
        return ask(dsn, statement) == [(expected,)]
    except Exception:  # noqa: BLE001 - it does not answer yet
        return False


def test_the_standby_follows_commits_with_the_first_and_takes_over(stack_root: Path) -> None:
    folder = stack_root / "standby"
    (folder / "secrets").mkdir(parents=True)
    for name, password in PASSWORDS.items():
        (folder / "secrets" / name).write_text(password, "utf-8")
    with first(folder) as primary, second(folder, primary) as port:
        follower = f"postgresql://postgres@127.0.0.1:{port}/hub"
        connection = connect(primary.dsn("hub"), application_name="test")
        with transaction(connection) as cursor:
            cursor.execute("CREATE TABLE said (word text)")
            cursor.execute("INSERT INTO said VALUES ('before')")
        wait(lambda: answers(follower, "SELECT word FROM said", "before"), 90, lambda: (folder / "second.log").read_text())
        commands = of_the_runbook()
        for command in commands[:-1]:
            ask(primary.dsn(), command)
        state = commands[-1]
        wait(lambda: ask(primary.dsn(), state) == [("replica", "streaming", "sync")], 30, lambda: str(ask(primary.dsn(), state)))
        assert ask(follower, "SHOW synchronous_standby_names") == [("",)]  # taken before it was set: promoted, this one waits for nobody
        with transaction(connection) as cursor:
            cursor.execute("INSERT INTO said VALUES ('last')")
        connection.close()
        primary.kill()
        assert "`SELECT pg_promote()`" in RUNBOOK
        assert ask(follower, "SELECT pg_promote()") == [(True,)]
        both = f"postgresql://postgres@127.0.0.1:{primary.port},127.0.0.1:{port}/hub?target_session_attrs=read-write"
        connection = connect(both, application_name="test")
        with transaction(connection) as cursor:
            assert rows(cursor, "SELECT word FROM said ORDER BY word") == [("before",), ("last",)]
            cursor.execute("INSERT INTO said VALUES ('after')")
            assert one(cursor, "SELECT count(*) FROM said") == (3,)
        connection.close()
        for command in ("ALTER SYSTEM SET synchronous_standby_names = ''", "ALTER SYSTEM RESET synchronous_standby_names", "SELECT pg_reload_conf()"):
            ask(follower, command)
