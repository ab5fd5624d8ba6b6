"""A hub that looks like a city's on an ordinary bad day, made by plain SQL, and people who visit its pages."""

from __future__ import annotations

import re
import shutil
from collections.abc import Sequence
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from fastapi.testclient import TestClient

from connectors.postgres import connect, rows, transaction
from lienthong import hub_schema
from lienthong.certificates import chain
from lienthong.certificates.form import Counts, Holding, Reason, Statement, Target
from lienthong.certificates.keys import Signer, new_key
from lienthong.config import load_settings
from lienthong.demo.parties import CONFIG
from lienthong.settings import Settings
from lienthong.web import accounts, app
from lienthong.web.accounts import Account
from lienthong.web.words import ZONE

PASSWORD = "một câu đủ dài để thử"
PEOPLE = {
    "an": Account("an", "viewer"),
    "binh": Account("binh", "operator"),
    "chi": Account("chi", "auditor"),
    "dung": Account("dung", "operator", ("H29.26737",)),
}
"""Who may log in; the last belongs to the ward Tân Định."""

BROKEN = "ward-sai-gon"
SYSTEMS = ("city-portal", "one-stop", "dept-justice", "ward-tan-dinh", "ward-sai-gon", "ward-binh-thoi")

_LINES = """
INSERT INTO hub.line (system, stage, part, through, beat, state, reason, since)
SELECT s, stage, 0, clock_timestamp() - INTERVAL '0.4 s', clock_timestamp() + INTERVAL '1 day', 'running', NULL, clock_timestamp() - INTERVAL '1 day'
FROM unnest(%(systems)s::text[]) s CROSS JOIN unnest(ARRAY['capture', 'apply']) stage
UNION ALL SELECT '*', stage, 0, clock_timestamp() - INTERVAL '0.2 s', clock_timestamp() + INTERVAL '1 day', 'running', NULL, clock_timestamp()
FROM unnest(ARRAY['merge', 'route']) stage
"""
_BREAK = """
UPDATE hub.line SET through = clock_timestamp() - INTERVAL '12 minutes', state = 'retrying', since = clock_timestamp() - INTERVAL '11 minutes',
  reason = 'LT-DB-001: connection to server at "10.0.0.5", port 5432 failed: Connection refused' WHERE system = %(broken)s AND stage = 'apply'
"""
_PROBES = """
INSERT INTO hub.probe (system, leg, number, arrived, arrived_at, took_seconds, state, at)
SELECT s, leg, 1, 1, clock_timestamp(), 0.8, 'normal', clock_timestamp() + INTERVAL '1 day'
FROM unnest(%(systems)s::text[]) s CROSS JOIN unnest(ARRAY['in', 'out']) leg
"""
_COUNTS = """
INSERT INTO hub.day_count (day, system, entity, outcome, n, reading)
SELECT (clock_timestamp() AT TIME ZONE 'Asia/Ho_Chi_Minh')::date - d, s, e, o,
  CASE o WHEN 'captured' THEN 400 + 37 * (d % 7) ELSE 390 + 37 * (d % 7) END, 1
FROM generate_series(0, 40) d CROSS JOIN unnest(%(systems)s::text[]) s CROSS JOIN unnest(ARRAY['dossier', 'citizen', 'fee']) e
CROSS JOIN unnest(ARRAY['captured', 'merged']) o
"""
_PARKED = """
INSERT INTO hub.parked (system, entity, local_key, kind, field, reason, message, version, payload, parked_at)
SELECT CASE WHEN n % 3 = 0 THEN 'ward-tan-dinh' ELSE 'one-stop' END, 'dossier', 'HS-' || n, CASE WHEN n = 7 THEN 'ghost' ELSE 'refused' END,
  CASE WHEN n % 2 = 0 THEN 'status' ELSE 'submitted_at' END,
  CASE WHEN n = 7 THEN 'not_in_new_epoch' WHEN n % 2 = 0 THEN 'unmapped_word' ELSE 'impossible_date' END,
  CASE WHEN n = 7 THEN 'the restored source does not hold it any more; a person decides whether it was lost there or is really gone'
    WHEN n % 2 = 0 THEN 'the local word ''lạ'' has no mapping: add it to `values` in the profile' ELSE 'a day or month that does not exist' END,
  n, '\\x00'::bytea || convert_to('{"ten": "Nguyễn Thị Bí Mật", "tt": "lạ"}', 'UTF8'),
  clock_timestamp() - n * INTERVAL '40 minutes'
FROM generate_series(1, %(parked)s) n
"""
_DIFFERENCES = """
INSERT INTO hub.difference (system, entity, local_key, record, hop, kind, fields)
SELECT CASE WHEN n % 2 = 0 THEN 'ward-tan-dinh' ELSE 'dept-justice' END, 'dossier', 'HS-' || n, n, 'delivery',
  CASE WHEN n % 3 = 0 THEN 'missing' ELSE 'different' END,
  ARRAY['status', 'note']
FROM generate_series(1, %(differences)s) n
"""
_CORRECTIONS = """
INSERT INTO hub.correction (system, entity, record, field, asked, golden, owner, version)
SELECT 'ward-tan-dinh', 'citizen', n, 'phone', '"0900000000"', '"0911111111"', 'population', n FROM generate_series(1, 3) n
"""
_LOST = """
INSERT INTO hub.lost_dossier (kind, system, record, local_code, agency, unit, since, limit_at, holder, cause, reason, advice, found_at)
SELECT (ARRAY['not_received', 'not_acknowledged', 'not_confirmed', 'not_shown', 'not_seen'])[1 + n % 5], %(broken)s, n,
  'H29.26740-261101-' || n,
  CASE WHEN n % 2 = 0 THEN 'H29.26740' ELSE 'H29.26737' END, CASE WHEN n % 2 = 0 THEN '26740' ELSE '26737' END,
  clock_timestamp() - n * INTERVAL '1 day', clock_timestamp() - n * INTERVAL '6 hours', 'hub', 'line',
  'apply of ' || %(broken)s || ' is retrying: connection to server at "10.0.0.5", port 5432 failed: Connection refused',
  'lienthong status says what a person has to do', clock_timestamp() FROM generate_series(1, %(lost)s) n;
INSERT INTO hub.lost_sweep (at, took_seconds, dossiers, found, unasked) VALUES (clock_timestamp(), 1.2, 1000, %(lost)s, ARRAY[%(broken)s])
"""
_DOSSIERS = """
INSERT INTO hub.record (record, entity, sole, version, body)
SELECT n, 'dossier', 'ward-tan-dinh', 1, jsonb_build_object(
  'national_code', 'H29.26737-261101-' || lpad(n::text, 7, '0'), 'procedure_code', '1.00' || n % 400,
  'applicant_name', 'Nguyễn Thị Bí Mật', 'applicant_phone', '0900000000', 'status', 4, 'processing_agency_code',
  CASE WHEN n % 2 = 0 THEN 'H29.26740' ELSE 'H29.26737' END, 
  'submitted_at', (extract(epoch FROM now())::bigint - 90000 - n::bigint * 7919 % 80000000) * 1000000,
  'channel', 1 + n % 3, 'finished_at', CASE WHEN n % 4 = 0 THEN (extract(epoch FROM now())::bigint - 86400) * 1000000 END,
  'due_at', (extract(epoch FROM now())::bigint + 864000) * 1000000)
FROM generate_series(1, %(dossiers)s) n;
INSERT INTO hub.contribution (system, entity, local_key, record, epoch, version, op)
SELECT CASE WHEN n % 2 = 0 THEN %(broken)s ELSE 'ward-tan-dinh' END, 'dossier', 'HS-' || n, n, 1, 1, 's' FROM generate_series(1, %(dossiers)s) n;
INSERT INTO hub.identifier SELECT 'dossier:H29.26737-261101-' || lpad(n::text, 7, '0'), n FROM generate_series(1, %(dossiers)s) n;
INSERT INTO hub.entitled (system, record, entity, version, state)
SELECT 'city-portal', n, 'dossier', 1, 's' FROM generate_series(1, %(dossiers)s) n
"""


def settings_of(folder: Path, hub_dsn: str, web: str | None = None) -> Settings:
    """The demo's configuration with this hub; its systems' addresses lead nowhere."""
    if not folder.exists():
        shutil.copytree(CONFIG, folder, ignore=shutil.ignore_patterns("national.yaml"))
    if web is not None:
        (folder / "web.yaml").write_text(web, "utf-8")
    nowhere = "host=127.0.0.1 port=1 dbname=nowhere connect_timeout=1"
    names = re.findall(r"\$\{(\w+)\}", "".join(file.read_text("utf-8") for file in folder.glob("*.yaml")))
    return load_settings(folder, {**dict.fromkeys(names, nowhere), "HUB_DSN": hub_dsn, "KAFKA_BOOTSTRAP": "127.0.0.1:1", "WEB_OIDC_SECRET": "secret"})


def fill(hub_dsn: str, *, dossiers: int = 20, parked: int = 10, differences: int = 5, lost: int = 10) -> None:
    """Tables, people, and an ordinary bad day."""
    hub_schema.install(hub_dsn)
    sizes = {"systems": list(SYSTEMS), "broken": BROKEN, "dossiers": dossiers, "parked": parked, "differences": differences, "lost": lost}
    with closing(connect(hub_dsn, application_name="test")) as connection:
        with transaction(connection) as cursor:
            for statement in map(_percent, (_LINES, _BREAK, _PROBES, _COUNTS, _PARKED, _DIFFERENCES, _CORRECTIONS, _LOST, _DOSSIERS)):
                cursor.execute(statement, sizes)
        for account in PEOPLE.values():
            accounts.add(connection, account, PASSWORD)
        _certify(connection)


def _percent(statement: str) -> str:
    """A modulo is written %% where values are filled in."""
    return re.sub(r"([nd]|7919) % (\d)", r"\1 %% \2", statement)


def _certify(connection: Any) -> None:
    """Twenty days of certificates; the last but one of the ward Bình Thới is open."""
    signer = Signer(new_key())
    today = datetime.now(ZONE).date()
    made = []
    for back in range(20, 0, -1):
        for system in SYSTEMS:
            is_open = (system, back) == ("ward-binh-thoi", 2)
            n = 400 + 37 * (back % 7)
            held = Holding(1000, "0" * 32)
            made.append(
                Statement(
                    system=system, entity="dossier", day=today - timedelta(days=back), reading=1, counts=Counts(captured=n, merged=n),
                    target=Target(held, held), reasons=(Reason("parked", 3),) if is_open else (),
                )
            )  # fmt: skip
    chain.add(connection, signer, made, datetime.now(UTC))


def sql(hub_dsn: str, statement: str, arguments: Sequence[Any] | None = None) -> list[tuple[Any, ...]]:
    """Rows of one statement."""
    with closing(connect(hub_dsn, application_name="test")) as connection, transaction(connection) as cursor:
        if arguments is None:
            cursor.execute(statement)
        else:
            cursor.execute(statement, arguments)
        return cursor.fetchall() if cursor.description else []


def only(hub_dsn: str, statement: str, arguments: Sequence[Any] | None = None) -> Any:
    """The one value of a statement."""
    return sql(hub_dsn, statement, arguments)[0][0]


class Person:
    """Somebody with a browser of their own, as far as HTTP goes."""

    def __init__(self, settings: Settings, language: str = "en", address: str = "testclient") -> None:
        headers = {"Accept": "text/html,application/xhtml+xml", "Accept-Language": language}
        self.client = TestClient(
            app.create(settings), headers=headers, follow_redirects=False, raise_server_exceptions=False, client=(address, 50000)
        )

    def get(self, path: str) -> Any:
        """A page."""
        return self.client.get(path)

    def secret(self, path: str) -> str:
        """What the forms of a page bring back."""
        found = re.search(r'name="form" value="([^"]+)"', self.get(path).text)
        assert found is not None, f"no form on {path}"
        return found[1]

    def post(self, path: str, *, at: str = "/overview", **fields: str) -> Any:
        """A form of a page, sent."""
        return self.client.post(path, data={"form": self.secret(at), **fields})

    def log_in(self, name: str, password: str = PASSWORD, onward: str = "/overview") -> Any:
        """Name and password."""
        return self.post("/login", at="/login", name=name, password=password, next=onward)


def visitor(settings: Settings, name: str, language: str = "en") -> Person:
    """Somebody who is logged in."""
    person = Person(settings, language)
    answer = person.log_in(name)
    assert (answer.status_code, answer.headers["location"]) == (303, "/overview"), answer.text
    return person


def text_of(page: str) -> str:
    """What stands on a page, without its marks."""
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", page))


def tally(hub_dsn: str) -> dict[str, int]:
    """What the pages count, counted by plain SQL."""
    with closing(connect(hub_dsn, application_name="test")) as connection, transaction(connection) as cursor:
        return {
            name: int(rows(cursor, statement)[0][0])
            for name, statement in {
                "parked": "SELECT count(*) FROM hub.parked WHERE state = 'open'",
                "differences": "SELECT count(*) FROM hub.difference",
                "corrections": "SELECT count(*) FROM hub.correction WHERE state = 'open'",
                "lost": "SELECT count(*) FROM hub.lost_dossier WHERE limit_at <= now()",
                "today": "SELECT sum(n) FROM hub.day_count WHERE outcome = 'captured' AND day = (now() AT TIME ZONE 'Asia/Ho_Chi_Minh')::date",
            }.items()
        }
