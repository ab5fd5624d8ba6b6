"""What must stand where, worked out from the systems themselves: authority and contracts, written a second time.

A dossier is born where its receiving agency is (and at the portal too, when it has a national code); the desk that
handles it owns processing, result and payment. A citizen's identity belongs to the department, the residence to the
ward, the contact to the portal.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from lienthong.demo.holdings import Fields, Holdings, code_of, refusal, unit_today

PORTAL, ONE_STOP, JUSTICE = "city-portal", "one-stop", "dept-justice"
WARD_UNITS = {"ward-tan-dinh": "26737", "ward-sai-gon": "26740", "ward-binh-thoi": "27232"}
WARDS = tuple(WARD_UNITS)
BORN = {"H29.99": PORTAL, "H29.01": ONE_STOP, "H29.15": JUSTICE, **{f"H29.{unit}": ward for ward, unit in WARD_UNITS.items()}}

GROUPS: dict[str, tuple[str, ...]] = {
    "routing": ("processing_agency_code", "processing_unit_code", "receiving_agency_code"),
    "intake": (
        "national_code", "local_code", "linked_code", "procedure_code", "procedure_name", "channel", "submitted_at",
        "received_at",
        "applicant_kind", "applicant_name", "applicant_personal_number", "applicant_birth_date", "applicant_phone",
        "applicant_email",
        "applicant_address", "applicant_unit_code", "summary", "note",
    ),
    "processing": ("status", "status_at", "due_at", "finished_at", "handler_name", "handler_note"),
    "result": ("result_code", "result_link", "returned_at"),
    "payment": ("fee_total", "payment_status", "paid_at"),
    "identity": (
        "personal_number", "old_identity_number", "full_name", "sex", "birth_date", "birth_place", "nationality",
        "marital_status",
        "identity_as_of",
    ),
    "residence": ("residence_address", "residence_unit_code", "residence_as_of"),
    "contact": ("phone", "email", "contact_as_of"),
    "dossier_event": ("handler_name", "agency_code", "note"),
    "dossier_component": ("name", "quantity", "digitised", "reused", "file_link", "file_hash", "valid_until"),
    "fee": ("name", "amount", "method", "paid_at"),
    "evaluation": ("score", "comment"),
    "procedure": ("name", "field_code", "level", "agency_code", "days_limit", "days_kind"),
}  # fmt: skip
DOSSIER_GROUPS = ("routing", "intake", "processing", "result", "payment")
CITIZEN_ORDER = {
    "identity": (JUSTICE, *WARDS, ONE_STOP, PORTAL),
    "residence": (*WARDS, JUSTICE, ONE_STOP, PORTAL),
    "contact": (PORTAL, *WARDS, JUSTICE, ONE_STOP),
}
CHILD_KEYS: dict[str, tuple[str, ...]] = {
    "dossier_event": ("status", "occurred_at"), "dossier_component": ("component_code",), "fee": ("fee_code",),
    "evaluation": ("rated_at",),
}  # fmt: skip
CHILD_TARGETS: dict[str, tuple[str, ...]] = {
    "dossier_event": (PORTAL, ONE_STOP, JUSTICE, "ward-tan-dinh", "ward-sai-gon"),
    "dossier_component": (PORTAL, ONE_STOP, JUSTICE, *WARDS),
    "fee": (PORTAL, ONE_STOP, JUSTICE, *WARDS),
    "evaluation": (PORTAL, ONE_STOP, "ward-tan-dinh", "ward-sai-gon"),
}


@dataclass(slots=True)
class Root:
    """One dossier or citizen: who holds it, who must, and what each field must be there."""

    held: dict[str, Fields]
    entitled: frozenset[str]
    born: tuple[str, ...]
    fields: Fields
    processing: str | None = None


@dataclass(slots=True)
class Truth:
    """Everything that must be, and the rows that take no part: refused ones and those whose identifiers collide."""

    dossiers: dict[str, Root] = field(default_factory=dict)
    citizens: dict[str, Root] = field(default_factory=dict)
    refused: Counter[tuple[str, str]] = field(default_factory=Counter)
    disputed: dict[str, set[str]] = field(default_factory=lambda: {"dossier": set(), "citizen": set()})
    doubled: Counter[tuple[str, str]] = field(default_factory=Counter)
    orphans: list[tuple[str, str, str]] = field(default_factory=list)  # system, entity, code: held, but nowhere born


def truth_of(holdings: Holdings) -> Truth:
    """Work out what must be, from what every system says about what is its own."""
    truth = Truth()
    for code, held in _sound(holdings, "dossier", truth).items():
        root = _dossier(held)
        if root is None:
            truth.orphans += [(system, "dossier", code) for system in held]
        else:
            truth.dossiers[code] = root
    for code, held in _sound(holdings, "citizen", truth).items():
        truth.citizens[code] = _citizen(held)
    return truth


def name_of(entity: str, row: Fields) -> str:
    """The code by which a root is known in every system."""
    return code_of(row) if entity == "dossier" else str(row["personal_number"])


def _sound(holdings: Holdings, entity: str, truth: Truth) -> dict[str, dict[str, Fields]]:
    """The acceptable rows by code and system; counts refused rows and doubles on the way."""
    found: dict[str, dict[str, list[Fields]]] = defaultdict(lambda: defaultdict(list))
    for system, entities in holdings.items():
        for row in entities.get(entity, ()):
            if refusal(entity, row) is not None:
                truth.refused[system, entity] += 1
            else:
                found[name_of(entity, row)][system].append(row)
    out: dict[str, dict[str, Fields]] = {}
    for code, held in found.items():
        if _collide(entity, [row for rows in held.values() for row in rows]):
            truth.disputed[entity].add(code)
            continue
        out[code] = {system: rows[0] for system, rows in held.items()}
        for system, rows in held.items():
            truth.doubled[system, entity] += len(rows) - 1
    return out


def _collide(entity: str, rows: list[Fields]) -> bool:
    """Whether one code stands for different things: other procedures, other years of birth."""
    if entity == "dossier":
        return len({row["procedure_code"] for row in rows}) > 1
    return len({str(row["birth_date"])[:4] for row in rows}) > 1


# ------------------------------------------------------------------ dossiers
def _dossier(held: dict[str, Fields]) -> Root | None:
    born = tuple(system for system, row in held.items() if system in _born(row))
    if not born:
        return None
    fields: Fields = {}
    _take(fields, "routing", held, _first((ONE_STOP, PORTAL, *WARDS, JUSTICE), born))
    processing = _processing(fields, held[born[0]])
    handler = processing if processing in held else None
    decided = _first((ONE_STOP, PORTAL, *WARDS, JUSTICE), born)
    _take(fields, "intake", held, _first((PORTAL, ONE_STOP, *WARDS, JUSTICE), born))
    _take(fields, "processing", held, handler or decided)
    _take(fields, "result", held, handler or decided)
    _take(fields, "payment", held, handler or _first((PORTAL, ONE_STOP, *WARDS, JUSTICE), born))
    entitled = {PORTAL, ONE_STOP}
    if fields["processing_agency_code"] == "H29.15":
        entitled.add(JUSTICE)
    unit = unit_today(fields["processing_unit_code"], fields["submitted_at"])
    entitled |= {ward for ward, own in WARD_UNITS.items() if own == unit}
    return Root(held, frozenset(entitled), born, fields, processing)


def _born(row: Fields) -> set[str]:
    """Where a dossier was handed in, by its own words."""
    counter = BORN.get(row["receiving_agency_code"])
    if counter is None:  # the agency of a district that is gone: its ward of today
        unit = unit_today(row["processing_unit_code"], row["submitted_at"])
        counter = next((ward for ward, own in WARD_UNITS.items() if own == unit), None)
    return {name for name in (counter, PORTAL if row["national_code"] else None) if name}


def _processing(routing: Fields, row: Fields) -> str | None:
    by_agency = BORN.get(routing["processing_agency_code"])
    unit = unit_today(routing["processing_unit_code"], row["submitted_at"])
    return by_agency or next((ward for ward, own in WARD_UNITS.items() if own == unit), None)


def _first(order: Iterable[str], among: Iterable[str]) -> str:
    present = set(among)
    return next(system for system in order if system in present)


def _take(fields: Fields, group: str, held: Mapping[str, Fields], system: str) -> None:
    for name in GROUPS[group]:
        fields[name] = held[system][name]


# ------------------------------------------------------------------ citizens
def _citizen(held: dict[str, Fields]) -> Root:
    fields: Fields = {}
    for group, order in CITIZEN_ORDER.items():
        ranked = _ranked(order, held)
        for name in GROUPS[group]:
            holder = next((system for system in ranked if name in held[system]), None)
            if holder is not None:
                fields[name] = held[holder][name]
    unit = unit_today(fields["residence_unit_code"], fields["residence_as_of"])
    entitled = {PORTAL, ONE_STOP, JUSTICE} | {ward for ward, own in WARD_UNITS.items() if own == unit}
    return Root(held, frozenset(entitled), (), fields)


def _ranked(order: tuple[str, ...], held: Mapping[str, Fields]) -> list[str]:
    """Holders in order of authority; of two wards, the one that knows the newer residence."""
    first_ward = min(order.index(ward) for ward in WARDS)
    place = {system: first_ward if system in WARDS else position for position, system in enumerate(order)}
    return sorted(held, key=lambda system: (place[system], -(held[system].get("residence_as_of") or 0)))
