"""A city whose only line is delivery: the test fills the out-topic of the national portal, the service delivers, the stand-in counts."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import count
from pathlib import Path
from typing import Any

import schemas
from connectors.avro import DIGEST, digest_of, frame, out_codec
from connectors.kafka import Ends, Producer
from lienthong.config import load_settings
from lienthong.embedded import Stack
from lienthong.embedded.national.portal import FAULTS
from lienthong.embedded.national.process import StandIn
from lienthong.readers import to_micros
from lienthong.run import prepare
from tests.city import City, wait
from tests.national_kit import National

SYSTEM = "national-portal"
TOPIC = f"lienthong.out.{SYSTEM}"
DAY = to_micros(datetime(2026, 3, 5, 3, tzinfo=UTC))
HOUR = 3_600_000_000
CANARY = "CANARY Nguyễn Văn Mật"
DOSSIER: dict[str, Any] = {
    "procedure_code": "1.004222",
    "processing_agency_code": "H29.01",
    "applicant_kind": 1,
    "applicant_name": CANARY,
    "applicant_personal_number": "079200000001",
    "submitted_at": DAY,
    "received_at": DAY,
    "status": 2,
}
EVENT: dict[str, Any] = {"handler_name": "Trần Thị Bình", "agency_code": "H29.01"}

SYSTEMS = """
version: 1
hub: {dsn: "${HUB_DSN}"}
kafka: {bootstrap: "${KAFKA_BOOTSTRAP}", partitions: 1}
systems:
  portal: {profile: full, dsn: "${PORTAL_DSN}", kind: portal, capture: wal}
  national-portal: {kind: national-portal, capture: none, apply: false}
  population: {kind: population, capture: none, apply: false}
"""
PROFILE = """
version: 1
profile: full
entities:
  dossier:
    table: ho_so
    key: ma
    identifiers: {national: ma}
    events: tt
    fields:
      procedure_code: tthc
      submitted_at: nop
      applicant_name: ten
      applicant_kind: {constant: 1}
      processing_agency_code: {constant: "H29.01"}
      status: tt
      status_at: luc
"""
TABLE = """
CREATE TABLE ho_so (
  ma text PRIMARY KEY, tthc text NOT NULL, nop timestamptz NOT NULL, ten text NOT NULL, tt int NOT NULL, luc timestamptz NOT NULL DEFAULT now()
)
"""
CONTRACTS = """
version: 1
contracts:
  national:
    system: national-portal
    purpose: progress reaches the national portal
    legal_ground: decree 118/2025
    entities:
      dossier: {fields: all}
      dossier_event: {fields: all}
      dossier_component: {fields: all}
      fee: {fields: all}
"""
NATIONAL = """
version: 1
portal:
  system: national-portal
  endpoint: "${NATIONAL_PORTAL_URL}"
  user: city
  secret: "${NATIONAL_PORTAL_SECRET}"
  unit: "000.00.00.H29"
  deadline_seconds: 1.5
  rest_seconds: 1
"""


class PortalStandIn(National):
    """The running stand-in of the portal."""

    def fault(self, kind: str, times: int = 1, *, operation: str | None = None, **argument: Any) -> None:
        """Let the next requests meet a fault of `portal.FAULTS`."""
        assert kind in FAULTS
        self.sql("INSERT INTO fault (kind, times, argument, operation) VALUES (%s, %s, %s, %s)", (kind, times, json.dumps(argument), operation))

    def steps(self, code: str) -> list[str]:
        """The statuses of a dossier's steps, as they arrived."""
        return [status for (status,) in self.sql("SELECT fields ->> 'TrangThai' FROM progress WHERE code = %s ORDER BY number", (code,))]

    def states(self, code: str) -> list[str]:
        """The statuses a dossier was ever given, as they arrived."""
        return [status for (status,) in self.sql("SELECT status FROM history WHERE code = %s ORDER BY number", (code,))]

    def holds(self, code: str) -> dict[str, Any] | None:
        """The fields of a dossier."""
        found = self.sql("SELECT fields FROM dossier WHERE code = %s", (code,))
        return dict(found[0][0]) if found else None


class PaperServer:
    """Where a ward keeps its papers: what is at which path, and what was asked for."""

    def __init__(self) -> None:
        self.papers: dict[str, bytes] = {}
        self.asked: list[str] = []
        self.status: dict[str, int] = {}
        told = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                told.asked.append(self.path)
                path = self.path.partition("?")[0]
                body = told.papers.get(path, b"")
                self.send_response(told.status.get(path, 200 if path in told.papers else 404))
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                """Say nothing."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}/papers/"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def put(self, name: str, content: bytes, *, status: int = 200) -> str:
        """Put a paper there; its link."""
        self.papers[f"/papers/{name}"], self.status[f"/papers/{name}"] = content, status
        return f"{self.url}{name}?t=1"

    def close(self) -> None:
        """End."""
        self._server.shutdown()
        self._server.server_close()


class Delivery:
    """What a test says, and what the ledger says."""

    def __init__(self, city: City, portal: PortalStandIn) -> None:
        self.city, self.portal = city, portal
        self._records, self._versions = count(10_000_000), count(10_000_000)
        self.producer = Producer(city.environment["KAFKA_BOOTSTRAP"], client_id="test", linger_ms=5)

    # ------------------------------------------------------------ the out-topic
    def dossier(self, code: str, record: int | None = None, **values: Any) -> int:
        """Say a state of a dossier; its record."""
        return self.say("dossier", record, {**DOSSIER, "national_code": code, **values})

    def step(self, dossier: int, status: int, hour: int, record: int | None = None, **values: Any) -> int:
        """Say a step of a dossier; its record."""
        return self.say("dossier_event", record, {**EVENT, "status": status, "occurred_at": DAY + hour * HOUR, **values}, parent=dossier)

    def filed(self, record: int | None, *papers: Mapping[str, Any], **values: Any) -> int:
        """Say a dossier with its papers, as one routing pass does; its record."""
        version = next(self._versions)
        record = self.say("dossier", record, {**DOSSIER, **values}, version=version)
        for number, paper in enumerate(papers, start=1):
            self.say("dossier_component", record * 10 + number, paper, parent=record, version=version)
        return record

    def say(self, kind: str, record: int | None, values: Mapping[str, Any], parent: int | None = None, version: int | None = None) -> int:
        """Say anything."""
        record = next(self._records) if record is None else record
        version = next(self._versions) if version is None else version
        meta = {"record": record, "parent": parent, "epoch": 1, "version": version, "withheld": [], "held": [], "yields": []}
        value = {**meta, **values} if kind in ("removed", "merged") else {"meta": meta, **values}
        body = frame(schemas.schema_id(kind), out_codec(kind).encode(value))
        self.producer.send(TOPIC, body, key=f"{kind}:{record}".encode(), partition=0, headers=[(DIGEST, digest_of(body))])
        return record

    def said(self) -> None:
        """Everything said is in the topic, and the hub knows how far it has come, as after the router's turn."""
        self.producer.flush()
        with closing(Ends(self.city.environment["KAFKA_BOOTSTRAP"])) as ends:
            end = ends.of(TOPIC)[0]
        self.city.sql(
            "hub", "INSERT INTO hub.out_topic VALUES (%s, %s) ON CONFLICT (topic) DO UPDATE SET next = excluded.next", arguments=[TOPIC, end]
        )

    def life(self, code: str, *statuses: int) -> int:
        """A dossier with a state and a step for each status."""
        record = self.dossier(code, status=statuses[0])
        self.step(record, statuses[0], 0)
        for hour, status in enumerate(statuses[1:], start=1):
            self.dossier(code, record, status=status)
            self.step(record, status, hour)
        return record

    # ------------------------------------------------------------ the ledger
    def ledger(self, record: int) -> list[tuple[str, str]]:
        """Kind and state of a dossier's messages."""
        rows = self.city.sql("hub", "SELECT kind, state FROM hub.delivery WHERE dossier = %s ORDER BY id", arguments=[record])
        return [(str(kind), str(state)) for kind, state in rows]

    def is_settled(self, *records: int) -> bool:
        """Whether everything said of these dossiers is confirmed or refused."""
        statement = """SELECT count(DISTINCT dossier), count(*) FILTER (WHERE state NOT IN ('confirmed', 'refused'))
                       FROM hub.delivery WHERE dossier = ANY(%s)"""
        ((there, unsettled),) = self.city.sql("hub", statement, arguments=[list(records)])
        return bool(there == len(set(records)) and unsettled == 0)

    def settled(self, *records: int, seconds: float = 45.0) -> None:
        """Wait until it is."""
        self.said()
        wait(
            lambda: self.is_settled(*records),
            seconds,
            lambda: f"{[self.ledger(r) for r in records[:5]]}\n{self.reasons()}\n{self.city.logs()[-3000:]}",
        )

    def story(self) -> str:
        """What a person would look at when it does not go on."""
        gates = self.city.sql("hub", "SELECT service, failures, opened_until, probe_until, clock_timestamp(), openings FROM hub.gate")
        lines = self.city.sql("hub", "SELECT system, stage, state, reason, beat FROM hub.line")
        counts = self.city.sql("hub", "SELECT state, count(*) FROM hub.delivery GROUP BY state")
        return f"{self.reasons()}\n{gates}\n{lines}\n{counts}\n{self.portal.seen()[-15:]}\n{self.city.logs()[-3000:]}"

    def reasons(self) -> list[tuple[Any, ...]]:
        """Why what is not confirmed is not."""
        return self.city.sql("hub", "SELECT id, kind, state, attempts, reason FROM hub.delivery WHERE state <> 'confirmed' ORDER BY id LIMIT 20")

    @contextmanager
    def running(self, processes: int = 1) -> Iterator[None]:
        """Deliver meanwhile."""
        self.said()
        for _ in range(processes):
            self.city.start("run", "deliver")
        try:
            yield
        finally:
            self.city.stop()


@contextmanager
def delivery(folder: Path, *, national: str = NATIONAL, arguments: tuple[str, ...] = ()) -> Iterator[Delivery]:
    """A city, a portal, and the schema and topics of both."""
    with Stack(folder / "servers", clusters=("hub",)) as stack:
        city = City(stack, folder)
        city.write("systems.yaml", SYSTEMS)
        city.write("contracts.yaml", CONTRACTS)
        city.write("authority.yaml", AUTHORITY)
        city.write("national.yaml", national)
        city.write("profiles/full.yaml", PROFILE)
        city.database("hub", "portal", TABLE)
        state = city.database("hub", "national")
        with StandIn(folder / "national", module="portal", dsn=state, arguments=["--account", "city", "portal-s3cret", *arguments]) as server:
            city.environment |= {"NATIONAL_PORTAL_URL": server.address.replace("localhost", "127.0.0.1"), "NATIONAL_PORTAL_SECRET": "portal-s3cret"}
            portal = PortalStandIn(server, state, "portal")
            prepare(load_settings(city.config, city.environment))
            made = Delivery(city, portal)
            try:
                yield made
            finally:
                made.producer.close()
                city.stop()
                portal.close()


AUTHORITY = """
version: 1
authority:
  dossier:
    record: &any [{order: [portal], basis: "a test"}]
    routing: *any
    intake: *any
    processing: *any
    result: *any
    payment: *any
  dossier_event: {record: *any, step: *any}
"""


def now() -> float:
    """For measuring."""
    return time.monotonic()
