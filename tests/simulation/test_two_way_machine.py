"""Both ways at once under any schedule: a portal and a ward that edit the same dossiers, and every stage between them.

Readings, merge, routing and applying are the product's own. In the end both hold the golden record as far as they are entitled to it,
messages stop, deleted records stay deleted, and an edit that did not prevail has left a correction request.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from unittest.mock import patch

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, precondition, rule

from lienthong import frames, hub, route
from lienthong.apply.target import Target
from lienthong.capture.outbox import OutboxLine
from lienthong.errors import FencedError
from lienthong.frames import Header
from lienthong.merge import Merger
from lienthong.merging import moves_of
from lienthong.route import Router
from lienthong.settings import Settings
from lienthong.vault import Vault
from tests.simulation import histories, system_tables
from tests.simulation.clock import CLOCK
from tests.simulation.database import Crash, Fuse, MemoryConnection
from tests.simulation.hub_tables import empty_hub, view
from tests.simulation.system_tables import Row, System
from tests.simulation.topics import Topics

UNIT = "26737"
SYSTEMS = ("portal", "ward")
ROUNDS_MAX = 12
FIELDS = {
    "national_code": "code",
    "procedure_code": "procedure",
    "processing_unit_code": "unit",
    "status": "status",
    "submitted_at": {"column": "submitted", "read": "datetime_compact"},
    "applicant_name": "name",
    "note": "note",
}
TEXT = "varchar(40)"
COLUMNS = {
    "dossier": {"id": "int8", "code": TEXT, "procedure": TEXT, "unit": TEXT, "status": "int4", "submitted": TEXT, "name": TEXT, "note": TEXT},
    "fee": {"id": "int8", "dossier_id": TEXT, "code": TEXT, "amount": "int8"},
}
PROFILE: dict[str, Any] = {
    "profile": "vendor",
    "entities": {
        "dossier": {"table": "dossier", "key": "id", "fields": FIELDS},
        "fee": {
            "table": "fee", "key": "id", "parent": {"entity": "dossier", "columns": "dossier_id"},
            "fields": {"fee_code": "code", "amount": "amount"},
        },
    },
}  # fmt: skip
CODES = ("N1", "N2")
UNIFIED = {"name": "applicant_name"}
SUBMITTED: Row = {"procedure": "1.001", "unit": UNIT, "submitted": "20260305100000", "name": "An", "status": 1, "note": "first"}
EDITS = [
    (system, code, *edit)
    for system in SYSTEMS
    for code in CODES
    for edit in (("status", 2), ("status", 3), ("note", "a"), ("note", "b"), ("name", "Ba"))
]


def settings() -> Settings:
    city = {"order": ["portal", "kind:ward"], "basis": "Decree 118: the place of intake keeps the dossier"}
    handler = {"order": ["@processing", "portal", "kind:ward"], "basis": "Decree 61: the competent agency decides"}
    own = {entity: {"where": {"units": "own"}} for entity in ("dossier", "fee")}
    every: dict[str, Any] = {"dossier": {}, "fee": {}}
    legal = {"purpose": "handling dossiers", "legal_ground": "Decree 118/2025"}
    return Settings.model_validate(
        {
            "hub": {"dsn": "hub"},
            "kafka": {"bootstrap": "none", "partitions": 1},
            "profiles": {"vendor": PROFILE},
            "systems": {
                "portal": {"profile": "vendor", "kind": "portal", "dsn": "portal"},
                "ward": {"profile": "vendor", "kind": "ward", "dsn": "ward", "units": [UNIT]},
            },
            "authority": {
                "dossier": {
                    **{group: [city] for group in ("record", "routing", "intake", "payment")},
                    **{group: [handler] for group in ("processing", "result")},
                },
                "fee": {"record": [handler], "content": [handler]},
            },
            "contracts": {
                "portal": {"system": "portal", **legal, "entities": every},
                "ward": {"system": "ward", **legal, "entities": own},
            },
        }
    )


def upper(_table: str, row: Row) -> None:
    """The ward's product keeps names in capitals."""
    if row.get("name"):
        row["name"] = row["name"].upper()


def notes(_table: str, row: Row) -> tuple[Row, Row]:
    """A row is named by its key alone."""
    return {"id": str(row["id"])}, {}


@dataclass
class Edit:
    """What somebody wrote, and where."""

    system: str
    code: str
    column: str
    value: Any
    superseded: bool = False  # by the same people, later


class TwoWay(RuleBasedStateMachine):
    """Two systems, their lines, one merge process, the router and two appliers."""

    def __init__(self) -> None:
        super().__init__()
        CLOCK.reset()
        self.fuse = Fuse()
        self.settings, self.bus = settings(), Topics(self.fuse)
        self.systems = {name: System(COLUMNS, self.fuse, trigger=upper if name == "ward" else None) for name in SYSTEMS}
        self.database = empty_hub(self.fuse)
        system_tables.SYSTEMS |= {"hub": self.database, **self.systems}
        self.hub = MemoryConnection(self.database)
        self.lines: dict[str, OutboxLine] = {}
        self.targets: dict[str, Target] = {}
        self.edits: list[Edit] = []
        self.deleted: set[str] = set()
        self.merger = Merger(self.settings, self.hub)  # type: ignore[arg-type]
        for name, system in self.systems.items():
            system.notes = notes
            self._start_line(name)
            self.targets[name] = Target(self.settings, name, Vault(None))
            header = Header(name, "?", "load_complete", 1, 1, 0, 0)
            self.bus.send(frames.TOPIC, frames.note_frame(header, [{"partition": 0, "counts": {}, "entities": [], "epoch": 1}])[0])
        self._start_router()
        self._merge()

    def _start_line(self, name: str) -> None:
        line = OutboxLine(self.settings, name, MemoryConnection(self.database), self.bus, Vault(None))  # type: ignore[arg-type]
        line.start()
        self.lines[name] = line

    def _start_router(self) -> None:
        self.bus.sender_ends()
        with patch.object(route, "Producer", lambda *_, **__: self.bus):
            self.router = Router(self.settings)

    # ------------------------------------------------------------ what people do
    @rule(place=st.sampled_from([(s, c) for s in SYSTEMS for c in CODES]))
    def enter(self, place: tuple[str, str]) -> None:
        """A dossier is entered where it is not yet."""
        name, code = place
        if self._key(name, code) is None and code not in self.deleted:
            system = self.systems[name]
            key = str(next(system.serial))
            system.commit("dossier", key, SUBMITTED | {"id": key, "code": code})

    @rule(edit=st.sampled_from(EDITS))
    def edit(self, edit: tuple[str, str, str, Any]) -> None:
        """Somebody changes a column, whether it is theirs to decide or not."""
        name, code, column, value = edit
        key, system = self._key(name, code), self.systems[name]
        if key is None or system["dossier"][key][column] == value:
            return
        for before in self.edits:
            before.superseded |= (before.system, before.code, before.column) == (name, code, column)
        system.commit("dossier", key, system["dossier"][key] | {column: value})
        if self._delivered(name, key, column):
            self.edits.append(Edit(name, code, column, value))

    def _delivered(self, name: str, key: str, column: str) -> bool:
        """Whether the service wrote this column before; else what stands there is the system's own word, and the hub has it."""
        applied = [a for (entity, _), a in self.systems[name]["applied"].items() if entity == "dossier" and a["local_key"] == key]
        return any(a["state"] == "applied" and UNIFIED.get(column, column) in a["base"] for a in applied)

    @rule(place=st.sampled_from([(s, c) for s in SYSTEMS for c in CODES]), amount=st.integers(1, 2))
    def charge(self, place: tuple[str, str], amount: int) -> None:
        """A fee is asked for, or changed."""
        name, code = place
        key, system = self._key(name, code), self.systems[name]
        if key is not None:
            fee = next((k for k, row in system["fee"].items() if row["dossier_id"] == key), None) or str(next(system.serial))
            system.commit("fee", fee, {"id": fee, "dossier_id": key, "code": "LP1", "amount": amount})

    @rule(code=st.sampled_from(CODES))
    def delete(self, code: str) -> None:
        """The portal, which decides that, deletes a dossier for good; nobody enters it again.

        One that comes and goes between two readings was never in the city and says nothing about what others hold; nor does the end of a
        copy that we delivered (lienthong/authority.py).
        """
        key, system = self._key("portal", code), self.systems["portal"]
        copies = {a["local_key"] for (entity, _), a in system["applied"].items() if entity == "dossier" and a["inserted"]}
        if key is not None and key not in copies and ("portal", "dossier", key) in self.database["contribution"]:
            for fee in [k for k, row in system["fee"].items() if row["dossier_id"] == key]:
                system.commit("fee", fee, None)
            system.commit("dossier", key, None)
            self.deleted.add(code)

    def _key(self, name: str, code: str) -> str | None:
        return next((key for key, row in self.systems[name]["dossier"].items() if row["code"] == code), None)

    # ------------------------------------------------------------ the service
    @precondition(lambda self: any(s["change"] for s in self.systems.values()))
    @rule(name=st.sampled_from(SYSTEMS), crash=st.sampled_from([None, *range(25)]))
    def capture(self, name: str, crash: int | None) -> None:
        """A line reads what has changed."""
        if not self._ends(lambda: self._capture(name), crash):
            self._start_line(name)

    def _capture(self, name: str) -> None:
        self.lines[name]._next_poll = 0.0
        self.lines[name].work()

    @rule(crash=st.sampled_from([None, *range(40)]))
    def merge(self, crash: int | None) -> None:
        """The merge takes what there is."""
        if not self._ends(self._merge, crash):
            self.merger = Merger(self.settings, self.hub)  # type: ignore[arg-type]

    def _merge(self) -> None:
        at = hub.stored_offset(self.hub, frames.TOPIC, 0)  # type: ignore[arg-type]
        messages = self.bus.topics[frames.TOPIC][at or 0 :]
        if messages:
            self.merger.merge(messages, moves_of(messages, {(frames.TOPIC, 0): at}))

    @precondition(lambda self: self.database["changed"])
    @rule(crash=st.sampled_from([None, *range(25)]))
    def route(self, crash: int | None) -> None:
        """The router takes the change list."""
        if not self._ends(self._route, crash):
            self._start_router()

    def _route(self) -> None:
        self.router.open_loaded()
        while self._routed():
            pass

    def _routed(self) -> int:
        try:
            return self.router.step()
        except FencedError:  # a message came twice: the router looks at its topics again, as `lienthong.route.run` lets it
            return 1

    @precondition(lambda self: len(self.bus.topics) > 1)
    @rule(name=st.sampled_from(SYSTEMS), limit=st.sampled_from([9, 1]), crash=st.sampled_from([None, *range(40)]))
    def apply(self, name: str, limit: int, crash: int | None) -> None:
        """An applier takes some messages."""
        if not self._ends(lambda: self._apply(name, limit), crash):
            self.targets[name] = Target(self.settings, name, Vault(None))

    def _apply(self, name: str, limit: int) -> None:
        topic = route.topic_of(name)
        at = self.targets[name].stored(topic, 0)
        messages = self.bus.topics[topic][at or 0 :][:limit]
        if messages:
            self.targets[name].apply(messages, moves_of(messages, {(topic, 0): at}))

    @precondition(lambda self: len(self.bus.topics) > 1)
    @rule(name=st.sampled_from(SYSTEMS), back=st.integers(1, 4))
    def repeat(self, name: str, back: int) -> None:
        """An earlier message comes once more."""
        log = self.bus.topics[route.topic_of(name)]
        if len(log) >= back:
            self.bus.send(route.topic_of(name), log[-back].value, key=log[-back].key)

    def _ends(self, work: Callable[[], Any], crash: int | None) -> bool:
        self.fuse.left = crash
        try:
            work()
        except Crash:
            return False
        finally:
            self.fuse.left = None
        return True

    # ------------------------------------------------------------ in the end
    @precondition(lambda self: any(s["change"] for s in self.systems.values()))
    @rule()
    def settle(self) -> None:
        """All stages until nothing moves: every echo must die."""
        for _ in range(ROUNDS_MAX):
            before = self.bus.total()
            for name in SYSTEMS:
                self._capture(name)
            self._merge()
            self._route()
            for name in SYSTEMS:
                self._apply(name, 10_000)
            if self.bus.total() == before:
                return
        raise AssertionError(f"still moving after {ROUNDS_MAX} rounds: an echo goes round")

    def teardown(self) -> None:
        """All is quiet in the end."""
        self.settle()
        golden = {r["body"].get("national_code"): r for r in view(self.hub, "record") if r["entity"] == "dossier" and r["merged_into"] is None}
        for code, record in golden.items():
            if not record["deleted"]:
                self._both_hold(code, record["body"])
        for code in self.deleted:
            assert self._key("portal", code) is None, f"{code} was deleted and is there again"
            claimed = {i["record"] for i in view(self.hub, "identifier") if i["claim"] == f"dossier:{code}"}
            sent = any(e["system"] == "ward" and e["record"] in claimed for e in view(self.hub, "entitled"))
            assert not sent or self._key("ward", code) is None, f"{code} was deleted, and the ward keeps what it was sent"
        for name in SYSTEMS:
            codes = [row["code"] for row in self.systems[name]["dossier"].values()]
            assert len(codes) == len(set(codes)), f"{name} has a dossier twice"
        self._no_edit_without_a_trace(golden)

    def _both_hold(self, code: str, body: dict[str, Any]) -> None:
        for name in SYSTEMS:
            key = self._key(name, code)
            assert key is not None, f"{name} does not have {code}"
            row = self.systems[name]["dossier"][key]
            held = {"status": row["status"], "note": row["note"], "applicant_name": row["name"]}
            due = {n: body[n] for n in held}
            if name == "ward" and due["applicant_name"]:
                due["applicant_name"] = due["applicant_name"].upper()
            assert held == due, f"{name} does not hold the golden record of {code}"

    def _no_edit_without_a_trace(self, golden: dict[str, dict[str, Any]]) -> None:
        asked = [(c["system"], c["record"], c["field"], c["asked"]) for c in view(self.hub, "correction")]
        for edit in self.edits:
            record = golden.get(edit.code)
            if edit.superseded or record is None or record["deleted"]:
                continue
            name = UNIFIED.get(edit.column, edit.column)
            value = edit.value.upper() if (edit.system, edit.column) == ("ward", "name") else edit.value
            prevailed = record["body"].get(name) == value
            assert prevailed or (edit.system, record["record"], name, value) in asked, f"{edit} is lost without a trace"


def test_both_ways_end_the_same_under_any_schedule() -> None:
    histories.run(TwoWay)
