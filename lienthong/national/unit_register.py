"""The statistics office's register of administrative units (DMDVHC), as of any date, compared with ours. Differences are listed, never applied."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import date
from typing import Literal

from tenacity import retry, retry_if_exception_type, stop_after_attempt, wait_random_exponential

from connectors.http import Busy, NotSent, Refused
from connectors.soap import SoapDoor
from lienthong import units
from lienthong.errors import ConfigError
from lienthong.gate import Gate
from lienthong.national.population import door, proof_of
from lienthong.settings import Settings

CONTRACT, ROW, SERVICE = "unit_register", "TABLE", "unit register"
PROVINCES = (units.CITY, *units.FORMER_PROVINCES)
KINDS = ("added", "removed", "renamed", "spelling", "moved")

Level = Literal["province", "district", "ward"]
Kind = Literal["added", "removed", "renamed", "spelling", "moved"]

_OPERATIONS: dict[Level, tuple[str, str, str, str | None]] = {
    "province": ("DanhMucTinh", "MaTinh", "TenTinh", None),
    "district": ("DanhMucQuanHuyen", "MaQuanHuyen", "TenQuanHuyen", "MaTinh"),
    "ward": ("DanhMucPhuongXa", "MaPhuongXa", "TenPhuongXa", "MaQuanHuyen"),
}
_again = retry(
    retry=retry_if_exception_type((NotSent, Busy)), stop=stop_after_attempt(3), wait=wait_random_exponential(multiplier=0.2, max=2), reraise=True
)


@dataclass(frozen=True, slots=True)
class Listed:
    """A unit as a register lists it."""

    code: str
    name: str
    level: Level
    parent: str | None


@dataclass(frozen=True, slots=True)
class Difference:
    """One difference, for a person to look at. `ours` and `theirs` are names, or codes of the parent where the unit moved."""

    kind: Kind
    code: str
    level: Level
    ours: str | None
    theirs: str | None


# ------------------------------------------------------------------ fetching
class UnitRegister:
    """The service; every call waits at the gate."""

    def __init__(self, service: SoapDoor, gate: Gate, stop: Callable[[], bool] = lambda: False) -> None:
        self._service, self._gate, self._stop = service, gate, stop

    def units_on(self, on: date, provinces: Iterable[str]) -> dict[str, Listed]:
        """The units of some provinces as of a day; raises `Refused` for an answer that cannot be a register."""
        wanted = sorted(provinces)
        found = [unit for unit in self._listed("province", on, None) if unit.code in wanted]
        for province in wanted:
            found += self._listed("district", on, province)
            wards = list(self._listed("ward", on, province))
            if not wards and any(unit.code == province for unit in found):
                raise Refused("answer", "the register lists a province without any ward; nothing is compared with that")
            found += wards
        by_code = {unit.code: unit for unit in found}
        if len(by_code) != len(found):
            raise Refused("answer", "the register lists a code twice")
        return by_code

    def _listed(self, level: Level, on: date, province: str | None) -> Iterator[Listed]:
        operation, code, name, parent = _OPERATIONS[level]
        fields = {"DenNgay": f"{on:%d/%m/%Y}", **({} if province is None else {"Tinh": province})}
        for row in self._rows(operation, fields):
            if not row.get(code) or not row.get(name):
                raise Refused("answer", f"a row without {code} or {name}")
            above = row.get(parent) if parent else None
            yield Listed(row[code], " ".join(row[name].split()), level, above or (row.get("MaTinh") if parent else None) or None)

    @_again
    def _rows(self, operation: str, fields: Mapping[str, str]) -> list[dict[str, str]]:
        self._gate.enter(self._stop)
        try:
            found = self._service.rows(operation, fields, ROW)
        except Refused:
            self._gate.succeeded()
            raise
        except Exception:
            self._gate.failed()
            raise
        self._gate.succeeded()
        return found


# ------------------------------------------------------------------ comparing
def held_on(on: date) -> dict[str, Listed]:
    """The units of the city as we hold them for a day."""
    here = units.register().eras[units.era_of(on)]
    return {code: Listed(code, unit.full_name, unit.level, unit.parent_code) for code, unit in here.items()}  # type: ignore[arg-type]


def differences(ours: Mapping[str, Listed], theirs: Mapping[str, Listed]) -> list[Difference]:
    """What the two registers say differently, by code."""
    found: list[Difference] = []
    for code in sorted(ours.keys() | theirs.keys()):
        mine, other = ours.get(code), theirs.get(code)
        if mine is None and other is not None:
            found.append(Difference("added", code, other.level, None, other.name))
        elif other is None and mine is not None:
            found.append(Difference("removed", code, mine.level, mine.name, None))
        elif mine is not None and other is not None:
            found += _changes(mine, other)
    return found


def _changes(mine: Listed, other: Listed) -> Iterator[Difference]:
    if mine.name != other.name:
        kind: Kind = "spelling" if sound(mine.name) == sound(other.name) else "renamed"
        yield Difference(kind, mine.code, mine.level, mine.name, other.name)
    if mine.parent != other.parent:
        yield Difference("moved", mine.code, mine.level, mine.parent, other.parent)


def sound(name: str) -> list[list[str]]:
    """A name whatever its spelling: case, where the tone mark stands (Hoà, Hòa), zeros before a number (Phường 01, Phường 1)."""
    plain = re.sub(r"\b0+(?=\d)", "", unicodedata.normalize("NFC", name).casefold())
    return [sorted(unicodedata.normalize("NFD", word)) for word in plain.split()]


def compare(settings: Settings, on: date) -> list[Difference]:
    """Fetch the register as of a day and compare it with ours; raises `ConfigError` where no register is configured."""
    configured = settings.national.unit_register if settings.national is not None else None
    if configured is None:
        raise ConfigError("no register of units is configured: national.yaml has no section `unit_register`")
    service = door(CONTRACT, configured, proof_of(configured.auth))
    gate = Gate(settings.hub.dsn, SERVICE, configured.rate_per_second, rest_seconds=configured.rest_seconds)
    try:
        return differences(held_on(on), UnitRegister(service, gate).units_on(on, PROVINCES))
    finally:
        service.close()
        gate.close()
