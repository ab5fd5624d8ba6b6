"""The configuration that our side of the benchmark runs with: one profile for the bench's table, and who takes part."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import schemas

SOURCE, TARGET = "bench-source", "bench-target"
PROFILE = "bench-dossier"
# The bench's statuses and ours; `hub_view.sql` turns them back.
STATUSES = {0: 1, 1: 2, 2: 4, 3: 5, 4: 6, 5: 9, 6: 10}
BASIS = "benchmark: the source's word counts"

FIELDS: dict[str, object] = {
    "national_code": "dossier_code",
    "procedure_code": "procedure_code",
    "processing_agency_code": "agency_code",
    "applicant_name": "applicant_name",
    "applicant_personal_number": {"column": "citizen_id", "read": "personal_number"},
    "status": {"column": "status", "values": STATUSES},
    "submitted_at": "submitted_at",
    "due_at": "due_at",
    "finished_at": "finished_at",
    "receiving_agency_code": "ward_code",
    "note": "note",
    "status_at": "updated_at",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Party:
    """One system: where it is, how it is captured, and whether (and with which units) it receives dossiers."""

    name: str
    kind: Literal["department", "ward"]
    dsn: str
    capture: Literal["wal", "outbox", "none"]
    receives: bool = False
    units: tuple[str, ...] = ()

    @property
    def variable(self) -> str:
        """The environment variable that holds its DSN."""
        return f"{self.name.upper().replace('-', '_')}_DSN"


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """How the twelve columns are mapped, whose word counts for a field group (the source's unless another is named), and the shape of topics."""

    fields: Mapping[str, object] = field(default_factory=lambda: FIELDS)
    orders: Mapping[str, list[str]] = field(default_factory=dict)
    kafka: Mapping[str, int] = field(default_factory=dict)


def write_config(folder: Path, parties: list[Party], terms: Terms) -> dict[str, str]:
    """Write the four files, and return the variables they name. JSON is YAML, and quotes every code."""
    receivers = [party for party in parties if party.receives]
    entity = {"table": "dossier", "key": "dossier_code", "fields": terms.fields}
    (folder / "profiles").mkdir(parents=True)
    _write(folder / f"profiles/{PROFILE}.yaml", {"profile": PROFILE, "entities": {"dossier": entity}})
    _write(
        folder / "systems.yaml",
        {
            "hub": {"dsn": "${HUB_DSN}"},
            "kafka": {"bootstrap": "${KAFKA_BOOTSTRAP}", **terms.kafka},
            "systems": {party.name: _system(party) for party in parties},
        },
    )
    groups = ("record", *schemas.groups("dossier"))
    rules = {group: [{"order": terms.orders.get(group, [SOURCE]), "basis": BASIS}] for group in groups}
    _write(folder / "authority.yaml", {"authority": {"dossier": rules}})
    _write(folder / "contracts.yaml", {"contracts": {party.name: _contract(party) for party in receivers}})
    return {party.variable: party.dsn for party in parties}


def _system(party: Party) -> dict[str, object]:
    return {
        "profile": PROFILE,
        "kind": party.kind,
        "dsn": f"${{{party.variable}}}",
        "capture": party.capture,
        "units": list(party.units),
        "apply": party.receives,
    }


def _contract(party: Party) -> dict[str, object]:
    grant = {"fields": "all", "where": {"units": "own"} if party.units else {}}
    return {"system": party.name, "purpose": "benchmark", "legal_ground": "benchmark", "entities": {"dossier": grant}}


def _write(path: Path, content: Mapping[str, object]) -> None:
    path.write_text(json.dumps({"version": 1, **content}, indent=2, ensure_ascii=False) + "\n")
