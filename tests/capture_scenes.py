# ruff: noqa: S608 - names and numbers of our own in statements
"""What befalls a captured source in tests: work at it, brokers that are away, waiting."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Event, Thread
from typing import Any

import pytest

from connectors.postgres import transaction
from lienthong.capture import wal
from lienthong.capture.line import Line
from lienthong.errors import TransientError
from lienthong.load import Loader
from lienthong.vault import Vault
from tests.capture_kit import PROFILE, STATUSES, TABLES, Site

NewSite = Callable[..., Site]


def document_site(form: str, new_site: NewSite, key: str = "id") -> Site:
    """Dossiers with a document of papers each."""
    fields = {**PROFILE["entities"]["dossier"]["fields"], "summary": {"column": "paper", "path": ["summary"]}}
    papers = {
        "table": "dossier",
        "key": key,
        "each": {"column": "paper", "path": ["parts"], "key": "no"},
        "fields": {"component_code": "no", "name": "name"},
        "write": False,
    }
    dossier = {**PROFILE["entities"]["dossier"], "key": key, "fields": fields}
    site = new_site(form, {**PROFILE, "entities": {"dossier": dossier, "dossier_component": papers}})
    site.install(TABLES, "ALTER TABLE dossier ADD paper json")
    return site


def forget_the_position(monkeypatch: pytest.MonkeyPatch, line: Line) -> None:
    """A crash after publishing: the frames are out, the resume point of this line has not moved."""
    monkeypatch.setattr(line, "_confirm", lambda _position: None, raising=False)
    monkeypatch.setattr(line, "_save", lambda **_: None)


def wait_until(true: Callable[[], bool], seconds: float = 10.0) -> None:
    give_up = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < give_up
        time.sleep(0.01)


def work_for(line: Line, seconds: float) -> None:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        line.work()
        time.sleep(0.002)


def resume_point(site: Site) -> str:
    if site.form == "outbox":
        return str(site.state()["position"])
    return str(site.ask(f"SELECT confirmed_flush_lsn FROM pg_replication_slots WHERE slot_name = '{wal.slot_name(site.system)}'")[0][0])


def work_through(site: Site, line: Line) -> None:
    end = time.monotonic() + 60
    site.sql("SELECT 1")
    target = int(site.ask("SELECT pg_current_wal_lsn() - '0/0'::pg_lsn")[0][0])
    while not site._work_once(line, target):
        assert time.monotonic() < end


def the_broker_is_away(monkeypatch: pytest.MonkeyPatch, producer: Any) -> None:
    """What is sent is lost, and the wait for its acknowledgement fails."""

    def refuse() -> None:
        raise TransientError("the broker is away")

    monkeypatch.setattr(producer, "send", lambda *_, **__: None)
    monkeypatch.setattr(producer, "flush", refuse)


class Load(Thread):
    """A vendor's users: they insert, change, move and delete until stopped."""

    def __init__(self, site: Site) -> None:
        super().__init__(daemon=True)
        self.session, self.failed = site.open(), None
        self._stopped = Event()

    def run(self) -> None:
        choice = random.Random(4)
        words = list(STATUSES)
        number = 0
        while not self._stopped.is_set():
            number += 1
            key = choice.randrange(60)
            with transaction(self.session) as cursor:
                cursor.execute(
                    "INSERT INTO dossier (id, note, status) VALUES (%s, %s, 'new') ON CONFLICT (id) DO UPDATE SET note = excluded.note",
                    [key, f"n{number}"],
                )
                cursor.execute("UPDATE dossier SET status = %s WHERE id = %s", [choice.choice(words), key])
                cursor.execute("DELETE FROM officer WHERE dossier_id = %s", [key])
                cursor.execute("UPDATE officer SET dossier_id = %s WHERE id = (SELECT min(id) FROM officer)", [key])
                if choice.random() < 0.3:
                    cursor.execute("DELETE FROM officer WHERE dossier_id = %s", [key])
                    cursor.execute("INSERT INTO officer (dossier_id, name) VALUES (%s, %s)", [key, f"o{number}"])
            time.sleep(0.002)

    def stop(self) -> None:
        self._stopped.set()
        self.join()


@contextmanager
def loader_of(site: Site) -> Iterator[Loader]:
    loader = Loader(site.settings, site.system, Vault(None))
    try:
        yield loader
    finally:
        loader.close()
