"""The runbook's commands that back a hub and Airflow's metadata up, and bring them back, run as they stand there."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from lienthong.embedded import PostgresCluster
from lienthong.embedded.postgres import _servant
from tests.city import wait
from tests.compose_kit import ROOT

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]

RUNBOOK = (ROOT / "docs" / "runbook.md").read_text("utf-8")


def block(word: str) -> str:
    """The one shell block of the runbook in which a word stands."""
    (found,) = [text for text in re.findall(r"```sh\n(.*?)```", RUNBOOK, flags=re.S) if word in text]
    return found


def shell(commands: str, folder: Path, bin_: Path, **told: str) -> None:
    """Run a block in a folder, with the server's own programs."""
    environment = {**os.environ, "PATH": f"{bin_}:{os.environ['PATH']}", **told}
    subprocess.run(["bash", "-euc", commands], cwd=folder, env=environment, check=True, timeout=120)


def test_a_base_backup_with_its_log_comes_back_to_the_last_commit_and_a_dump_as_it_was(stack_root: Path) -> None:
    folder = stack_root / "restore"
    archive = folder / "archive"
    archive.mkdir(parents=True)
    archive.chmod(0o777)
    archiving = {"archive_mode": "on", "archive_command": f"cp %p {archive}/%f"}
    with PostgresCluster(folder / "first", name="first", settings=archiving) as first:
        hub, airflow = first.create_database("hub"), first.create_database("airflow")
        first.execute("CREATE TABLE said AS SELECT 'before' AS word", "hub")
        first.execute("CREATE TABLE run AS SELECT 1 AS id", "airflow")
        tools = first.psql_path.parent
        shell(block("pg_basebackup"), folder, tools, HUB_DSN=hub, AIRFLOW_DSN=airflow)
        first.execute("INSERT INTO said VALUES ('after the backup')", "hub")
        assert "`SELECT pg_switch_wal()`" in RUNBOOK
        segment = first.execute("SELECT pg_walfile_name(pg_switch_wal())")
        wait(lambda: (archive / segment.strip()).exists(), 30, first.log.read_text)
        moved = first.create_database("moved")
        planned = block("pg_restore")
        shell(planned, folder, tools, HUB_DSN=hub, NEW_HUB_DSN=moved)
        assert first.execute("SELECT word FROM said ORDER BY 1", "moved").splitlines() == ["after the backup", "before"]
        fresh = first.create_database("airflow_again")
        shell('pg_restore --exit-on-error --no-owner --dbname "$AIRFLOW_DSN" airflow.dump', folder, tools, AIRFLOW_DSN=fresh)
        assert first.execute("SELECT id FROM run", "airflow_again") == "1\n"
        first.kill()
    shell(block("recovery.signal"), folder, tools, ARCHIVE=str(archive))
    restored = folder / "restored"
    restored.mkdir()
    shutil.move(folder / "backup", restored / "data")
    if (servant := _servant()) is not None:
        for place in (restored / "data", *(restored / "data").rglob("*")):
            shutil.chown(place, user=servant)
    with PostgresCluster(restored, name="restored") as back:
        wait(lambda: back.execute("SELECT pg_is_in_recovery()").strip() == "f", 60, back.log.read_text)
        assert back.execute("SELECT word FROM said ORDER BY 1", "hub").splitlines() == ["after the backup", "before"]
