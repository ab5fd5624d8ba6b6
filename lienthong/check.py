"""Connects to the hub, the brokers and every system, and says everything that would go wrong later."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal

from connectors.brokers import BrokerRefuses
from connectors.kafka import Admin
from connectors.postgres import Cursor, LoginRefused, connect, transaction
from lienthong import topics
from lienthong.catalogue import Catalogue, Server, read_catalogue, read_server
from lienthong.check_tables import Against, captured_columns, table_problems
from lienthong.ddl import OWN_TABLES, PUBLICATION, TRIGGER, TRUNCATE_TRIGGER, notification_columns, trigger_arguments
from lienthong.errors import ConfigError, FatalError, LienThongError, TransientError
from lienthong.problems import Problem, did_you_mean, in_order, listed
from lienthong.settings import Kafka, Settings

IN_TOPIC = "lienthong.in"

CONNECTIONS_MAX = 24
"""Systems looked at in the same moment; the time goes into waiting for their servers."""

CONNECT_TIMEOUT_SECONDS = 8

VERSION_MIN = 140000

TABLES = ("applied", "overwritten", "consumer_offset", "parked", "counter", "change")


@dataclass(frozen=True, slots=True)
class Finding:
    """What one check found, with the server for sums over systems that share it."""

    problems: tuple[Problem, ...]
    server: Server | None = None


def check_live(settings: Settings, systems: Sequence[str] | None) -> list[Problem]:
    """All problems of the named systems (None = all), the hub and the brokers; one that is down stops no other.

    Of a system without a database there is only its topic to look at, with the brokers.
    """
    unknown = [name for name in systems or () if name not in settings.systems]
    if unknown:
        return [_unknown(name, settings) for name in unknown]
    names = tuple(name for name in settings.with_database() if systems is None or name in systems)
    tasks: list[tuple[str, Callable[[], Finding]]] = [
        ("hub", lambda: _hub(settings.hub.dsn)),
        ("kafka", lambda: _kafka(settings.kafka, tuple(s for s in settings.systems if settings.contract_of(s)))),
        *((name, _task(settings, name)) for name in names),
    ]
    with ThreadPoolExecutor(max_workers=min(CONNECTIONS_MAX, len(tasks)), thread_name_prefix="check") as pool:
        findings = dict(zip(dict(tasks), pool.map(lambda task: _guarded(*task), tasks), strict=True))
    problems = [problem for finding in findings.values() for problem in finding.problems]
    servers = {name: findings[name].server for name in names}
    problems += _room(settings, {name: server for name, server in servers.items() if server is not None})
    return list(in_order(problems))


def _unknown(name: str, settings: Settings) -> Problem:
    hint = did_you_mean(name, settings.systems)
    message = f"there is no system {name}"
    return Problem(file="systems.yaml", path=f"systems.{name}", code="CFG-SYSTEM", message=message, hint=hint)


def _task(settings: Settings, name: str) -> Callable[[], Finding]:
    return lambda: _system(settings, name)


def _guarded(name: str, look: Callable[[], Finding]) -> Finding:
    try:
        return look()
    except TransientError as error:
        hint = "" if name == "kafka" else "does it run, and is the dsn right?"
        code = "CHK-LOGIN" if isinstance(error, BrokerRefuses) else "CHK-DOWN"
        return Finding((_dependency(name, f"cannot be reached: {error}", hint, code),))
    except LoginRefused as error:
        return Finding((_dependency(name, f"cannot be reached: {error}", "the other systems were still checked", "CHK-LOGIN"),))
    except LienThongError as error:
        return Finding((_dependency(name, f"cannot be checked: {error}", ""),))
    except (OSError, ValueError) as error:  # a server's message in another encoding, an address that is none
        return Finding((_dependency(name, f"cannot be checked: {type(error).__name__}", "is the address right?"),))


def _dependency(name: str, message: str, hint: str, code: str = "CHK-DOWN") -> Problem:
    return Problem(file=name, path="", code=code, message=message, hint=hint, dependency=True)


# ------------------------------------------------------------------ the hub and the brokers
def _hub(dsn: str) -> Finding:
    with _reading(dsn) as cursor:
        server = read_server(cursor)
    problems = list(_server("hub", server))
    if not server.may_create:
        message = f"{server.user} may not create schemas there"
        problems.append(Problem(file="hub", path="", code="CHK-RIGHT", message=message, hint="GRANT CREATE ON DATABASE … TO it"))
    return Finding(tuple(problems), server)


def _kafka(kafka: Kafka, systems: tuple[str, ...]) -> Finding:
    admin = Admin(kafka.brokers)
    try:
        found = admin.partitions(IN_TOPIC)
        missing = [name for name in systems if admin.partitions(f"lienthong.out.{name}") is None]
        there = [f"lienthong.out.{name}" for name in systems if name not in missing]
        kept = admin.settings([*there, *([IN_TOPIC] if found is not None else [])])
    finally:
        admin.close()
    problems = list(_kept(kept))
    if found is None or missing:
        absent = ([] if found is not None else [IN_TOPIC]) + [f"lienthong.out.{name}" for name in missing]
        problems.append(Problem(
            file="kafka", path="", code="CHK-TOPIC", severity="warning", message=f"there is no topic {listed(absent)}",
            hint="they are made at the first start"))  # fmt: skip
    if found is not None and found != kafka.partitions:
        problems.append(Problem(
            file="kafka", path=IN_TOPIC, code="CHK-TOPIC",
            message=f"the topic has {found} partitions where kafka.partitions says {kafka.partitions}",
            hint=f"write partitions: {found}; changing the count would mix up the order of records"))  # fmt: skip
    return Finding(tuple(problems))


def _kept(found: Mapping[str, Mapping[str, str]]) -> Iterator[Problem]:
    """Topics whose settings let go of what somebody still needs."""
    for topic, settings in sorted(found.items()):
        is_in = topic == IN_TOPIC
        wrong = topics.wrong_in(settings) if is_in else topics.wrong_out(settings)
        if wrong:
            right = f"cleanup.policy=delete,retention.ms={topics.IN['retention.ms']}" if is_in else "cleanup.policy=compact"
            hint = f"kafka-configs.sh --bootstrap-server … --alter --entity-type topics --entity-name {topic} --add-config {right}"
            yield Problem(file="kafka", path=topic, code="CHK-TOPIC", message=wrong, hint=hint)


# ------------------------------------------------------------------ one system
def _system(settings: Settings, name: str) -> Finding:
    party, profile = settings.systems[name], settings.profile_of(name)
    with _reading(settings.dsn_of(name)) as cursor:
        server = read_server(cursor)
        live = read_catalogue(cursor, [*notification_columns(profile), *OWN_TABLES], server)
    against = Against(system=name, party=party, profile=profile, live=live)
    problems = [*_server(name, server), *_log(against, server), *table_problems(against), *_installation(against, live)]
    return Finding(tuple(problems), server)


@contextmanager
def _reading(dsn: str) -> Iterator[Cursor]:
    """A transaction on a server that is new enough for our questions."""
    try:
        connection = connect(dsn, application_name="lienthong check", connect_timeout_seconds=CONNECT_TIMEOUT_SECONDS)
    except FatalError:  # the driver quotes the connection string here, which may hold the password
        raise ConfigError("the connection string is not valid; see the variable of its dsn") from None
    try:
        if connection.server_version < VERSION_MIN:
            raise ConfigError(f"PostgreSQL {connection.server_version // 10000} is too old; 14 or later is needed")
        connection.set_client_encoding("UTF8")  # a SQL_ASCII database would else refuse names with accents
        with transaction(connection) as cursor:
            cursor.execute("SET TRANSACTION READ ONLY")
            yield cursor
    finally:
        connection.close()


def _server(name: str, server: Server) -> Iterator[Problem]:
    def problem(code: str, message: str, hint: str, severity: Literal["error", "warning"] = "error") -> Problem:
        return Problem(file=name, path="", code=code, message=message, hint=hint, severity=severity)

    if server.is_standby:
        yield problem("CHK-STANDBY", "this is a standby: it shows changes late and cannot be written", "connect to the primary")
    if server.encoding == "SQL_ASCII":
        yield problem(
            "CHK-ENCODING", "the database is SQL_ASCII: it checks no text, records that are not UTF-8 will be parked",
            "dump it and restore into a UTF8 database", "warning",
        )  # fmt: skip
    elif server.encoding != "UTF8":
        yield problem(
            "CHK-ENCODING", f"the database is {server.encoding}: names it has no letters for will be refused there",
            "dump it and restore into a UTF8 database", "warning",
        )  # fmt: skip


def _log(against: Against, server: Server) -> Iterator[Problem]:
    """What reading the log needs of the server (protocol R2, R3)."""
    if against.party.capture != "wal":
        return
    if server.wal_level != "logical":
        hint = "ALTER SYSTEM SET wal_level = logical; and restart, or set capture: outbox"
        yield against.problem("capture", "CHK-WAL", f"wal_level is {server.wal_level}", hint)
    if not server.may_replicate:
        hint = f"a superuser runs: ALTER ROLE {server.user} REPLICATION; or set capture: outbox"
        yield against.problem("capture", "CHK-RIGHT", f"{server.user} may not read the log", hint)
    for slot in server.two_phase_slots:
        hint = f"SELECT pg_drop_replication_slot('{slot}'); it is made again without two_phase"
        yield against.problem("capture", "CHK-SLOT", f"slot {slot} has two_phase on: rows would come before their commit", hint)
    for slot in server.lost_slots:
        hint = f"SELECT pg_drop_replication_slot('{slot}'); then lienthong load {against.system}"
        yield against.problem("capture", "CHK-SLOT", f"slot {slot} was invalidated: changes were missed", hint)
    if server.wal_keep_mb < 0:
        hint = "ALTER SYSTEM SET max_slot_wal_keep_size = '20GB'; then SELECT pg_reload_conf();"
        message = "max_slot_wal_keep_size is not set: while we are away, our slot could fill the server's disk"
        yield against.problem("capture", "CHK-SLOT", message, hint, "warning")


def _room(settings: Settings, servers: dict[str, Server]) -> Iterator[Problem]:
    """Slots and senders that are still to be made must fit into what each server has free."""
    needing: dict[int, list[str]] = defaultdict(list)
    for name, server in servers.items():
        if settings.systems[name].capture == "wal" and not server.own_slots:
            needing[server.identity].append(name)
    for names in needing.values():
        server = servers[names[0]]
        for setting, free in (("max_replication_slots", server.free_slots), ("max_wal_senders", server.free_senders)):
            if free < len(names):
                yield Problem(
                    file=names[0], path="capture", code="CHK-SLOT",
                    message=f"its server has {max(free, 0)} of {setting} free; {len(names)} needed: {listed(names)}",
                    hint=f"raise {setting} and restart, or use capture: outbox for small databases of one server",
                )  # fmt: skip


# ------------------------------------------------------------------ our schema in it
def _installation(against: Against, live: Catalogue) -> Iterator[Problem]:
    """Our schema, triggers and publication are as `check --sql` would make them."""
    party, run = against.party, f"run what `lienthong check --sql {against.system}` prints"
    if party.capture == "none" and not party.apply:
        return
    if live.ours is None:
        yield against.problem("lienthong", "CHK-SCHEMA", "the schema lienthong is not there yet", run)
        return
    absent = [table for table in TABLES if table not in live.ours.tables]
    if absent:
        yield against.problem("lienthong", "CHK-SCHEMA", f"tables of ours are missing: {listed(absent)}", run)
    if not live.ours.usable or live.ours.forbidden:
        what = listed(live.ours.forbidden) or "the schema lienthong"
        yield against.problem("lienthong", "CHK-RIGHT", f"{live.server.user} may not use {what}", run)
    if party.capture == "outbox":
        yield from _triggers(against, live, run)
    elif party.capture == "wal":
        yield from _publication(against, live, run)


def _triggers(against: Against, live: Catalogue, run: str) -> Iterator[Problem]:
    for name, arguments in trigger_arguments(against.profile).items():
        table = live.tables.get(name)
        if table is None:
            continue
        for trigger in (TRIGGER, TRUNCATE_TRIGGER):
            given, enabled = table.triggers.get(trigger, ((), ""))
            if not enabled:
                yield against.problem(name, "CHK-TRIGGER", f"the trigger {trigger} is missing: changes would go unseen", run)
            elif enabled == "D":
                hint = f"ALTER TABLE {name} ENABLE ALWAYS TRIGGER {trigger};"
                yield against.problem(name, "CHK-TRIGGER", f"the trigger {trigger} is switched off: changes go unseen", hint)
            elif given != arguments:
                yield against.problem(name, "CHK-TRIGGER", f"the trigger {trigger} is of an older profile", run)


def _publication(against: Against, live: Catalogue, run: str) -> Iterator[Problem]:
    if live.ours is not None and not live.ours.has_publication:
        yield against.problem("capture", "CHK-PUBLICATION", f"the publication {PUBLICATION} is not there yet", run)
        return
    needed = {**captured_columns(against.profile), **{name: frozenset(columns) for name, columns in OWN_TABLES.items()}}
    for name, columns in needed.items():
        table = live.tables.get(name)
        if table is None:
            continue
        if table.published is None:
            yield against.problem(name, "CHK-PUBLICATION", "the table is not published: changes would go unseen", run)
        elif not columns & set(table.columns) <= table.published:
            message = f"the publication leaves out {listed(sorted(columns - table.published))}"
            yield against.problem(name, "CHK-PUBLICATION", message, run)


def is_dependency_down(problems: Sequence[Problem]) -> bool:
    """Whether something could not be reached at all (exit code 3)."""
    return any(problem.dependency for problem in problems)
