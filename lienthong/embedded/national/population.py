"""The stand-in of the national population database: `python -m lienthong.embedded.national.population --dsn …`."""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from functools import partial

from lxml import etree

from connectors.postgres import Cursor, one, rows
from lienthong.embedded.national.contract import Contract
from lienthong.embedded.national.envelope import Element, text
from lienthong.embedded.national.people import PRACTICE, STANDARD, Profile, Row, citizen, collection, family
from lienthong.embedded.national.process import options, serve
from lienthong.embedded.national.service import Endpoint, Operation
from lienthong.embedded.national.store import Store

SCHEMA = "population"
PATHS = {"practice": "/population", "qcvn109": "/population/qcvn109"}
PAGE_MAX = 500
_REQUEST = "http://dancuquocgia.bca"
_YEAR = 4


def look_up(request: Element, cursor: Cursor, now: datetime, *, profile: Profile) -> Element:
    """One person whose number, name and birth date are these, or a page of those whose data changed in a period."""
    if text(request, "TuNgay") is not None:
        return _period(request, cursor, now, profile)
    return _answer(request, _matching(request, cursor), now, profile, citizen)


def relatives(request: Element, cursor: Cursor, now: datetime, *, profile: Profile) -> Element:
    """The family of one person."""
    return _answer(request, _matching(request, cursor), now, profile, family)


def verify(request: Element, cursor: Cursor, _now: datetime) -> Element:
    """Whether there is a person of this number, name and birth date."""
    answer = etree.Element(f"{{{_REQUEST}}}KetQuaXacThuc", nsmap={"dan": _REQUEST})
    etree.SubElement(answer, f"{{{_REQUEST}}}TonTai").text = "false" if _matching(request, cursor) is None else "true"
    return answer


def endpoint(contract: str, profile: Profile) -> Endpoint:
    """The service in one message profile."""
    operations: dict[str, Operation] = {
        "TraCuuThongTinCongDan": partial(look_up, profile=profile),
        "XacThucThongTinCongDan": verify,
        "XacMinhThongTinNhanThan": partial(relatives, profile=profile),
    }
    return Endpoint(Contract(contract), operations)


def _matching(request: Element, cursor: Cursor) -> Row | None:
    number, old = text(request, "SoDinhDanh"), text(request, "SoCMND")
    condition, value = ("personal_number = %s", number) if number else ("old_identity_number = %s", old)
    found = one(cursor, f"SELECT to_jsonb(person) FROM person WHERE {condition}", (value,))  # noqa: S608 - one of two texts above
    if found is None:
        return None
    row: Row = found[0]
    same = _upper(row["full_name"]) == _upper(text(request, "HoVaTen") or "") and _same_birth(row["birth_date"], request)
    return row if same else None


def _same_birth(born: str, request: Element) -> bool:
    """A year alone, on either side, is compared with the other's year."""
    year, date = text(request, "Nam"), text(request, "NgayThangNam")
    if date is None or len(born) == _YEAR:
        return born[:_YEAR] == (year or (date or "")[:_YEAR])
    return born.replace("-", "") == date


def _upper(name: str) -> str:
    return " ".join(unicodedata.normalize("NFC", name).upper().split())


def _answer(request: Element, row: Row | None, now: datetime, profile: Profile, shown: Callable[[Row, Profile], Element]) -> Element:
    people = [] if row is None else [shown(row, profile)]
    at = now if row is None else datetime.fromisoformat(row["as_of"])
    return collection(people, request_id=text(request, "MaYeuCau"), at=profile.time(at))


def _period(request: Element, cursor: Cursor, now: datetime, profile: Profile) -> Element:
    """A page, in order of change; a page that is not full is the last."""
    first, last = (datetime.fromtimestamp(int(text(request, name) or 0) / 1000, UTC) for name in ("TuNgay", "DenNgay"))
    page, size = int(text(request, "Trang") or 1), min(int(text(request, "SoBanGhi") or PAGE_MAX), PAGE_MAX)
    statement = "SELECT to_jsonb(person) FROM person WHERE as_of >= %s AND as_of < %s ORDER BY as_of, personal_number LIMIT %s OFFSET %s"
    found = [row for (row,) in rows(cursor, statement, (first, last, size, (page - 1) * size))]
    people = [citizen(row, profile) for row in found]
    return collection(people, request_id=text(request, "MaYeuCau"), at=profile.time(min(now, last)))


def main(arguments: Sequence[str] | None = None) -> None:
    """Serve both message profiles until the process is ended."""
    asked = options("population", arguments)
    store = Store(asked.dsn, asked.schema or SCHEMA, "person.sql")
    serve(asked, store, {PATHS["practice"]: endpoint("population", PRACTICE), PATHS["qcvn109"]: endpoint("population_qcvn109", STANDARD)})


if __name__ == "__main__":
    main()
