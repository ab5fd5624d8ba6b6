"""The national side of the demo: a population database and a portal as processes of their own, one outage, and a judgement by plain SQL."""

from __future__ import annotations

import threading
from collections import Counter, defaultdict
from collections.abc import Collection, Mapping
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from cryptography.fernet import Fernet

from connectors.postgres import connect, rows, transaction
from lienthong.demo.holdings import VIETNAM, Fields, Holdings
from lienthong.demo.truth import JUSTICE, ONE_STOP, truth_of
from lienthong.demo.verify import Verdict
from lienthong.embedded.national.process import StandIn
from lienthong.embedded.postgres import PostgresCluster
from lienthong.national.access import Caller
from lienthong.national.answers import Asked
from lienthong.national.lookup import LookUp
from lienthong.settings import Settings
from lienthong.vault import KEY_NAME, Vault

SYSTEM = "national-portal"
USER, SECRET = "lienthong", "only-of-the-demo"  # noqa: S105 - of stand-ins that end with the demo
PEOPLE = 60
UNKNOWN_EVERY, WRONG_EVERY = 10, 15  # so many of the city's people the database does not know, or knows with another birth date
CALLER = Caller("demo", "H29.26737", "checking the applicants of open dossiers")
OUTAGE_AFTER_SECONDS, OUTAGE_SECONDS = 4.0, 6.0
Step = tuple[int, str, str | None]  # seconds since 1970, status, agency


class NationalSide:
    """The stand-ins and their database."""

    def __init__(self, cluster: PostgresCluster, folder: Path) -> None:
        cluster.create_database("national")
        self.dsn = cluster.dsn("national")
        self._population = StandIn(folder / "population", module="population", dsn=self.dsn, arguments=("--auth", "hmac"))
        self._portal = StandIn(folder / "portal", module="portal", dsn=self.dsn, arguments=("--account", USER, SECRET))
        self._outage: threading.Thread | None = None
        self._ended = threading.Event()
        self.outage_seconds = 0.0

    def start(self) -> dict[str, str]:
        """Start both; the variables with which the configuration finds them."""
        self._population.start()
        self._portal.start()
        self._run("INSERT INTO population.account (name, secret) VALUES (%s, %s)", [USER, SECRET])
        return {
            KEY_NAME: Fernet.generate_key().decode(),
            "POPULATION_URL": f"{self._population.address}/population", "NATIONAL_PORTAL_URL": self._portal.address,
            "POPULATION_SECRET": SECRET, "NATIONAL_PORTAL_SECRET": SECRET,
        }  # fmt: skip

    @property
    def addresses(self) -> dict[str, str]:
        """Where they listen."""
        return {"population database": self._population.address, "national portal": self._portal.address}

    def stop(self) -> None:
        """End both."""
        self._ended.set()
        if self._outage is not None:
            self._outage.join()
        self._portal.stop()
        self._population.stop()

    # ------------------------------------------------------------ citizens
    def verify_citizens(self, settings: Settings, holdings: Holdings) -> dict[str, int]:
        """Ask about some of the department's people; how many answers were yes and no, and how many were not what the database holds."""
        asked = _askable(holdings[JUSTICE]["citizen"])[:PEOPLE]
        expected = {who.number: self._enter(place, who) for place, who in enumerate(asked)}
        answers: Counter[str] = Counter(yes=0, no=0, wrong=0)
        service = LookUp(settings, Vault.from_environment())
        try:
            for who in asked:
                is_known = service.verify(who, CALLER).is_known
                answers["yes" if is_known else "no"] += 1
                answers["wrong"] += is_known != expected[who.number]
        finally:
            service.close()
        return dict(answers)

    def _enter(self, place: int, who: Asked) -> bool:
        """Put somebody into the population database as he is, with another birth date, or not at all; whether a verification must say yes."""
        if place % UNKNOWN_EVERY == UNKNOWN_EVERY - 1:
            return False
        is_wrong = place % WRONG_EVERY == WRONG_EVERY - 2
        values = [who.number, who.name, "1901-01-01" if is_wrong else who.birth]
        self._run("INSERT INTO population.person (personal_number, full_name, birth_date) VALUES (%s, %s, %s)", values)
        return not is_wrong

    # ------------------------------------------------------------ the outage
    def begin_outage(self) -> None:
        """The portal goes away in a moment, and comes back by itself."""

        def outage() -> None:
            if self._ended.wait(OUTAGE_AFTER_SECONDS):
                return
            self._portal.kill()
            self._ended.wait(OUTAGE_SECONDS)
            self._portal.start()
            self.outage_seconds = OUTAGE_SECONDS

        self._outage = threading.Thread(target=outage, name="outage")
        self._outage.start()

    def end_outage(self) -> None:
        """Wait until the portal is back."""
        if self._outage is not None:
            self._outage.join()

    # ------------------------------------------------------------ judgement
    def judge(self, holdings: Holdings, deleted: Collection[str]) -> list[Any]:
        """What the portal holds against what the city's own systems say; of dossiers that were `deleted` it was told, and cannot be untold."""
        truth, verdict = truth_of(holdings), Verdict()
        held = {fields["MaHoSo"]: fields for (fields,) in self._run("SELECT fields FROM portal.dossier")}
        steps, city = defaultdict[str, list[Step]](list), defaultdict[str, list[Step]](list)
        for code, moment, status, agency in self._run(
            "SELECT code, fields->>'ThoiDiemXuLy', fields->>'TrangThai', fields->>'PhongBanXuLy' FROM portal.progress"
        ):
            told = datetime.strptime(moment, "%Y%m%d%H%M%S").replace(tzinfo=VIETNAM)
            steps[code].append((int(told.timestamp()), status, agency))
        for event in holdings[ONE_STOP]["dossier_event"]:
            city[event["code"]].append((event["occurred_at"], str(event["status"]), event["agency_code"]))
        for code, root in truth.dossiers.items():
            if code not in held:
                verdict.missing(SYSTEM, "dossier", code)
                continue
            expected = _told(root.fields)
            verdict.compare(SYSTEM, "dossier", code, expected, expected, {name: held[code].get(name) for name in expected})
            _judge_steps(verdict, code, city[code], steps[code])
        for code in held.keys() - truth.dossiers.keys() - set(deleted) - truth.disputed["dossier"]:
            verdict.extra(SYSTEM, "dossier", code)
        return verdict.lines()

    def _run(self, statement: str, values: list[Any] | None = None) -> list[tuple[Any, ...]]:
        with closing(connect(self.dsn, application_name="lienthong demo")) as connection, transaction(connection) as cursor:
            if statement.startswith("SELECT"):
                return rows(cursor, statement, values)
            cursor.execute(statement, values)
            return []


def _askable(citizens: list[Fields]) -> list[Asked]:
    """Those with a sound number, a name and a full birth date, in the order of their numbers."""
    sound = [row for row in citizens if len(row["personal_number"] or "") == 12 and row["full_name"] and len(str(row["birth_date"] or "")) == 10]
    return [Asked(row["personal_number"], row["full_name"], str(row["birth_date"])) for row in sorted(sound, key=lambda row: row["personal_number"])]


def _told(fields: Mapping[str, Any]) -> dict[str, str | None]:
    """The fields of `DongBoHoSoMC` that are compared, from those of a dossier."""
    return {
        "MaTTHC": fields["procedure_code"], "DonViXuLy": fields["processing_agency_code"], "TrangThaiHoSo": str(fields["status"]),
        "ChuHoSo": fields["applicant_name"], "LoaiDoiTuong": str(fields["applicant_kind"]), "NgayTiepNhan": _moment(fields["received_at"]),
        "NgayHenTra": _moment(fields["due_at"]), "NgayKetThucXuLy": _moment(fields["finished_at"]), "NgayTra": _moment(fields["returned_at"]),
    }  # fmt: skip


def _moment(seconds: int | None) -> str | None:
    return None if seconds is None else datetime.fromtimestamp(seconds, UTC).astimezone(VIETNAM).strftime("%Y%m%d%H%M%S")


def _judge_steps(verdict: Verdict, code: str, expected: list[Step], held: list[Step]) -> None:
    """Each step once; where a system's column has whole seconds it rounds, and the portal's messages do not."""
    row = verdict.at(SYSTEM, "dossier_event")
    row.expected += len(expected)
    left = sorted(held)
    for moment, status, agency in sorted(expected):
        found = next((step for step in left if step[1:] == (status, agency) and abs(step[0] - moment) <= 1), None)
        if found is None:
            row.missing += 1
            row.note(f"{code} step {status}: missing")
        else:
            left.remove(found)
            row.equal += 1
    for _, status, _ in left:
        verdict.extra(SYSTEM, "dossier_event", f"{code} step {status}")
