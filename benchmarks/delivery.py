"""The job `delivery`: whole lives of dossiers in the out-topic, one process that delivers them, and the stand-in of the portal that counts."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from psycopg2.extensions import cursor

import schemas
from benchmarks.jobs import JobError
from benchmarks.meters import Cost, Meter
from benchmarks.ours import Processes, remake_hub
from benchmarks.servers import Servers
from benchmarks.work import Place, Work
from connectors.avro import DIGEST, digest_of, frame, out_codec
from connectors.kafka import Producer
from lienthong import run
from lienthong.config import load_settings
from lienthong.embedded.national.process import StandIn
from lienthong.embedded.process import ENVIRONMENT
from lienthong.readers import to_micros

SYSTEM, DATABASE = "national-portal", "national"
DOSSIERS = 400
STATUSES = (1, 2, 4, 9, 10)
WARM_MESSAGES = 200
TIMEOUT_SECONDS = 240
POLL_SECONDS = 0.25
HOUR = 3_600_000_000
START = to_micros(datetime(2026, 3, 5, 1, tzinfo=UTC))

SYSTEMS = """
version: 1
hub: {dsn: "${HUB_DSN}"}
kafka: {bootstrap: "${KAFKA_BOOTSTRAP}", partitions: 1}
systems:
  national-portal: {kind: national-portal, capture: none, apply: false}
"""
AUTHORITY = "version: 1\nauthority: {}\n"
CONTRACTS = """
version: 1
contracts:
  national:
    system: national-portal
    purpose: progress reaches the national portal
    legal_ground: decree 118/2025
    entities: {dossier: {fields: all}, dossier_event: {fields: all}}
"""
NATIONAL = """
version: 1
portal:
  system: national-portal
  endpoint: "${NATIONAL_PORTAL_URL}"
  user: bench
  secret: "${NATIONAL_PORTAL_SECRET}"
  unit: "000.00.00.H29"
  rate_per_second: 5000
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivered:
    """Messages a second of one process, the first ones left out: it starts meanwhile. `equal`: each arrived once, each dossier's in order."""

    messages: int
    seconds: float
    messages_per_second: float
    equal: bool
    cpu_us_per_message: dict[str, float]
    cost: Cost


def measure_delivery(servers: Servers) -> Delivered:
    """Let one process deliver, and look at the portal until it has everything."""
    with _office(servers) as (processes, portal):
        total = DOSSIERS * 2 * len(STATUSES)
        processes.start_roles(["deliver"])
        first, start = _await(processes, portal, WARM_MESSAGES)
        with Meter(lambda: servers.groups() | processes.groups() | {"portal": [portal.pid]}) as meter:
            last, end = _await(processes, portal, total)
            cost = meter.stop()
        messages, seconds = last - first, end - start
        used = {name: round(used / messages * 1e6, 1) for name, used in cost.cpu_seconds.items()}
        return Delivered(
            messages=messages,
            seconds=round(seconds, 2),
            messages_per_second=round(messages / seconds, 1),
            equal=last == total and portal.is_in_order(),
            cpu_us_per_message=used,
            cost=cost,
        )


class _Portal:
    """The stand-in, and what it counts."""

    def __init__(self, server: StandIn, place: Place) -> None:
        self._server, self.place = server, place
        self.address = server.address.replace("localhost", "127.0.0.1")

    @property
    def pid(self) -> int:
        return self._server.pid

    def taken(self, at: cursor) -> int:
        """States and steps it took."""
        at.execute("SELECT (SELECT count(*) FROM portal.history) + (SELECT count(*) FROM portal.progress)")
        ((count,),) = at.fetchall()
        return int(count)

    def is_in_order(self) -> bool:
        """Whether every dossier was told every state and every step once and in order."""
        told = "SELECT count(*) FROM (SELECT string_agg({0}, ',' ORDER BY number) AS told FROM portal.{1} GROUP BY code) o WHERE told = %s"
        whole = ",".join(map(str, STATUSES))
        with self.place.open() as at:
            for column, table in (("status", "history"), ("fields ->> 'TrangThai'", "progress")):
                at.execute(told.format(column, table), (whole,))
                if at.fetchall() != [(DOSSIERS,)]:
                    return False
        return True


def _await(processes: Processes, portal: _Portal, count: int) -> tuple[int, float]:
    """Wait until the portal has so many messages; how many it has then, and when that was."""
    end, taken = time.monotonic() + TIMEOUT_SECONDS, 0
    with portal.place.open() as at:
        while time.monotonic() < end:
            if (taken := portal.taken(at)) >= count:
                return taken, time.monotonic()
            processes.check()
            time.sleep(POLL_SECONDS)
    raise JobError(f"the portal has {taken} of {count} messages after {TIMEOUT_SECONDS} seconds")


@contextmanager
def _office(servers: Servers) -> Iterator[tuple[Processes, _Portal]]:
    """Hub, broker, portal and a topic that holds everything to deliver; all ended afterwards."""
    servers.prepare(Work(rows=1000, changes=0, latency_seconds=0))
    servers.target.drop_database(DATABASE)
    place = Place(dsn=servers.target.create_database(DATABASE))
    processes = Processes(servers.folder / "ours")
    server = StandIn(servers.folder / DATABASE, module="portal", dsn=place.dsn, arguments=["--account", "bench", "bench-s3cret"])
    server.start()
    try:
        portal = _Portal(server, place)
        variables = {
            "HUB_DSN": remake_hub(servers),
            "KAFKA_BOOTSTRAP": servers.broker.bootstrap,
            "NATIONAL_PORTAL_URL": portal.address,
            "NATIONAL_PORTAL_SECRET": "bench-s3cret",
        }
        _configure(processes, variables)
        run.prepare(load_settings(processes.config, variables))
        _say_lives(servers.broker.bootstrap)
        yield processes, portal
    finally:
        processes.stop()
        server.stop()
        servers.stop_broker()


def _configure(processes: Processes, variables: Mapping[str, str]) -> None:
    folder: Path = processes.config
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in (("systems", SYSTEMS), ("authority", AUTHORITY), ("contracts", CONTRACTS), ("national", NATIONAL)):
        (folder / f"{name}.yaml").write_text(text)
    processes.environment = {**ENVIRONMENT, "PATH": os.environ.get("PATH", os.defpath), **variables}


def _say_lives(bootstrap: str) -> None:
    """Everything the portal is to know, as the router writes it: a state and a step for each status of each dossier."""
    producer = Producer(bootstrap, client_id="bench", linger_ms=5)
    version = 0
    for hour, status in enumerate(STATUSES):
        for number in range(1, DOSSIERS + 1):
            version += 1
            step = number * 100 + hour
            code = f"H29.01-260305-{number:06}"
            dossier = {
                "national_code": code, "procedure_code": "1.004222", "processing_agency_code": "H29.01", "applicant_kind": 1,
                "applicant_name": "Nguyễn Văn An", "submitted_at": START, "received_at": START, "status": status,
            }  # fmt: skip
            event = {"status": status, "occurred_at": START + hour * HOUR, "handler_name": "Trần Thị Bình", "agency_code": "H29.01"}
            _say(producer, "dossier", number, None, version, dossier)
            _say(producer, "dossier_event", 1_000_000 + step, number, version, event)
    producer.flush()
    producer.close()


def _say(producer: Producer, kind: str, record: int, parent: int | None, version: int, values: Mapping[str, object]) -> None:
    meta: dict[str, object] = {"record": record, "parent": parent, "epoch": 1, "version": version, "withheld": [], "held": [], "yields": []}
    body = frame(schemas.schema_id(kind), out_codec(kind).encode({"meta": meta, **values}))
    headers = [(DIGEST, digest_of(body))]
    producer.send(f"lienthong.out.{SYSTEM}", body, key=f"{kind}:{record}".encode(), partition=0, headers=headers)
