"""Named readers: how a local value becomes a unified one, and back. Pure functions, one registry.

A reader gets the column's text (never None) and the profile's zone; it raises `Unreadable` with the *kind* of problem, never the
value. Columns of a native type (timestamptz, date, integer, boolean) arrive already converted, see `lienthong.reading`.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

Value = str | int | bool | None

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
EPOCH_DAY = date(1970, 1, 1).toordinal()
_MICRO = timedelta(microseconds=1)
_YEAR_MIN, _YEAR_MAX = 1800, 2200


class Unreadable(ValueError):
    """A value cannot be read; the message names its kind, never the value."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Reader:
    """One named reader: the unified types it yields, reading and writing."""

    doc: str
    types: tuple[str, ...]
    read: Callable[[str, ZoneInfo], Value]
    write: Callable[[Value, ZoneInfo], Value]


def to_micros(moment: datetime) -> int:
    """Microseconds since 1970 in UTC, exactly."""
    return (moment - EPOCH) // _MICRO


def from_micros(micros: int) -> datetime:
    """The instant of a number of microseconds since 1970."""
    return EPOCH + timedelta(microseconds=micros)


def day_of(micros: int, zone: ZoneInfo) -> date:
    """The local day of an instant."""
    return from_micros(micros).astimezone(zone).date()


def _text(value: str, _zone: ZoneInfo) -> Value:
    return value


def _same(value: Value, _zone: ZoneInfo) -> Value:
    return value


def _trimmed(value: str, _zone: ZoneInfo) -> Value:
    return value.strip() or None


def _upper(value: str, _zone: ZoneInfo) -> Value:
    return value.strip().upper() or None


def _name(value: str, _zone: ZoneInfo) -> Value:
    return " ".join(unicodedata.normalize("NFC", value).split()) or None


def _integer(value: str, _zone: ZoneInfo) -> Value:
    try:
        return int(value)
    except ValueError:
        pass
    try:
        whole, _, fraction = value.strip().partition(".")
        if fraction.strip("0") == "":
            return int(whole)
    except ValueError:
        pass
    raise Unreadable("not_a_number", f"{len(value)} characters that are not a whole number")


_TRUE = {"t", "true", "1", "y", "yes", "x", "có", "co", "đúng"}
_FALSE = {"f", "false", "0", "n", "no", "", "không", "khong", "sai"}


def _boolean(value: str, _zone: ZoneInfo) -> Value:
    word = value.strip().lower()
    if word in _TRUE:
        return True
    if word in _FALSE:
        return False
    raise Unreadable("not_a_boolean", "a word that is neither yes nor no; map it with `values`")


def _checked(moment: datetime) -> int:
    if not _YEAR_MIN <= moment.year <= _YEAR_MAX:
        raise Unreadable("impossible_date", f"a year outside {_YEAR_MIN} to {_YEAR_MAX}")
    return to_micros(moment)


def _local_reader(form: str, what: str) -> Callable[[str, ZoneInfo], Value]:
    def read(value: str, zone: ZoneInfo) -> Value:
        if value.strip() == "":
            return None
        try:
            return _checked(datetime.strptime(value.strip(), form).replace(tzinfo=zone))
        except Unreadable:
            raise
        except ValueError:
            raise Unreadable("impossible_date", f"{len(value)} characters that are not a real {what}") from None

    return read


def _instant(value: str, zone: ZoneInfo) -> Value:
    try:
        moment = datetime.fromisoformat(value.strip())
    except ValueError:
        raise Unreadable("impossible_date", f"{len(value)} characters that are not an ISO 8601 instant") from None
    return _checked(moment if moment.tzinfo else moment.replace(tzinfo=zone))


def _write_instant(value: Value, _zone: ZoneInfo) -> Value:
    return None if value is None else from_micros(int(value)).isoformat()


def _write_local(form: str) -> Callable[[Value, ZoneInfo], Value]:
    def write(value: Value, zone: ZoneInfo) -> Value:
        return None if value is None else from_micros(int(value)).astimezone(zone).strftime(form)

    return write


def _day(moment: date) -> int:
    if not _YEAR_MIN <= moment.year <= _YEAR_MAX:
        raise Unreadable("impossible_date", f"a year outside {_YEAR_MIN} to {_YEAR_MAX}")
    return moment.toordinal() - EPOCH_DAY


def _date_reader(form: str, what: str) -> Callable[[str, ZoneInfo], Value]:
    def read(value: str, _zone: ZoneInfo) -> Value:
        if value.strip() == "":
            return None
        try:
            return _day(datetime.strptime(value.strip(), form).date())  # noqa: DTZ007 - a local date has no zone
        except Unreadable:
            raise
        except ValueError:
            raise Unreadable("impossible_date", f"{len(value)} characters that are not a real {what} date") from None

    return read


def to_date(days: int) -> date:
    """The date of a number of days since 1970."""
    return date.fromordinal(days + EPOCH_DAY)


def _write_date(form: str) -> Callable[[Value, ZoneInfo], Value]:
    def write(value: Value, _zone: ZoneInfo) -> Value:
        return None if value is None else to_date(int(value)).strftime(form)

    return write


_PARTIAL = (
    (re.compile(r"^(\d{4})$"), "{0}"),
    (re.compile(r"^(\d{4})-(\d{2})$"), "{0}-{1}"),
    (re.compile(r"^(\d{4})-(\d{2})-(\d{2})(?:[ T].*)?$"), "{0}-{1}-{2}"),
    (re.compile(r"^(\d{4})(\d{2})(\d{2})$"), "{0}-{1}-{2}"),
    (re.compile(r"^(\d{2})/(\d{2})/(\d{4})$"), "{2}-{1}-{0}"),
    (re.compile(r"^(\d{2})/(\d{4})$"), "{1}-{0}"),
)


def _partial_date(value: str, _zone: ZoneInfo) -> Value:
    text = value.strip()
    if text in ("", "0"):
        return None
    for pattern, form in _PARTIAL:
        found = pattern.match(text)
        if found:
            iso = form.format(*found.groups())
            return _real_partial(iso)
    raise Unreadable("impossible_date", f"{len(text)} characters in none of the forms yyyy, yyyyMMdd, dd/MM/yyyy, yyyy-MM-dd")


def _real_partial(iso: str) -> str:
    if iso.endswith("-00-00"):  # the year only, written as a date with zeros
        iso = iso[:4]
    try:
        _day(date.fromisoformat((iso + "-01-01")[:10] if len(iso) == 4 else (iso + "-01")[:10]))
    except Unreadable:
        raise
    except ValueError:
        raise Unreadable("impossible_date", "a day or month that does not exist") from None
    return iso


def _partial_writer(separator: str, *, year_last: bool) -> Callable[[Value, ZoneInfo], Value]:
    def write(value: Value, _zone: ZoneInfo) -> Value:
        if value is None:
            return None
        parts = str(value).split("-")
        if len(parts) == 2 and not separator:
            return str(value)  # yyyyMM could be taken for ddMMyy, so a month is written in ISO form
        return separator.join(reversed(parts) if year_last else parts)

    return write


_PLACEHOLDERS = {"000000001", "000000000", "000000000000", "000000000001", "123456789", "999999999999"}


def _personal_number(value: str, _zone: ZoneInfo) -> Value:
    text = value.strip()
    if text == "" or text in _PLACEHOLDERS:  # real adapters send these when the number is missing (domain.md §1.3)
        return None
    if len(text) == 12 and text.isascii() and text.isdigit():
        return text
    kind = "digits" if text.isdigit() else "characters, not all of them digits,"
    raise Unreadable("malformed_personal_number", f"{len(text)} {kind} where 12 digits are required")


_MONEY = re.compile(r"^(-?\d{1,3}(?:[.,]\d{3})+|-?\d+)(?:[.,]0{1,2})?\s*(?:đ|₫|d|vnd|vnđ|đồng)?\.?$", re.IGNORECASE)


def _money(value: str, _zone: ZoneInfo) -> Value:
    text = value.strip()
    if text == "":
        return None
    found = _MONEY.match(text)
    if not found:
        raise Unreadable("not_an_amount", f"{len(text)} characters that are not an amount of đồng")
    return int(found.group(1).replace(".", "").replace(",", ""))


def _write_money(value: Value, _zone: ZoneInfo) -> Value:
    return None if value is None else f"{int(value):,}".replace(",", ".") + " đ"


def _unit_code(value: str, _zone: ZoneInfo) -> Value:
    text = value.strip()
    if text == "":
        return None
    if not (text.isdigit() and len(text) in (2, 3, 5)):
        raise Unreadable("malformed_unit_code", f"{len(text)} characters where 5 digits are required")
    return text


def _local(words: str, form: str, meaning: str) -> Reader:
    return Reader(f"{words}: {meaning}", ("instant",), _local_reader(form, words), _write_local(form))


READERS: dict[str, Reader] = {
    "text": Reader("The text as it is.", ("string",), _text, _same),
    "trimmed": Reader("Text without space around it; empty becomes null.", ("string",), _trimmed, _same),
    "upper": Reader("Trimmed text in upper case.", ("string",), _upper, _same),
    "vietnamese_name": Reader("A name: Unicode NFC, single spaces.", ("string",), _name, _same),
    "integer": Reader("A whole number.", ("int", "long"), _integer, _same),
    "boolean": Reader("t/f, true/false, 1/0, yes/no, có/không.", ("boolean",), _boolean, _same),
    "instant": Reader("timestamptz, a local timestamp in the profile's zone, or ISO 8601 text.", ("instant",), _instant, _write_instant),
    "datetime_compact": _local("yyyyMMddHHmmss", "%Y%m%d%H%M%S", "local time."),
    "datetime_text": _local("dd/MM/yyyy HH:mm:ss", "%d/%m/%Y %H:%M:%S", "local time."),
    "day_compact": _local("yyyyMMdd", "%Y%m%d", "the beginning of that local day."),
    "day_text": _local("dd/MM/yyyy", "%d/%m/%Y", "the beginning of that local day."),
    "date": Reader("A date column or ISO text.", ("date",), _date_reader("%Y-%m-%d", "yyyy-MM-dd"), _write_date("%Y-%m-%d")),
    "date_compact": Reader("yyyyMMdd.", ("date",), _date_reader("%Y%m%d", "yyyyMMdd"), _write_date("%Y%m%d")),
    "date_text": Reader("dd/MM/yyyy.", ("date",), _date_reader("%d/%m/%Y", "dd/MM/yyyy"), _write_date("%d/%m/%Y")),
    "partial_date": Reader(
        "A date of which perhaps only the year is known: yyyy, yyyyMMdd, dd/MM/yyyy, ISO; written as ISO.",
        ("partial-date",),
        _partial_date,
        _partial_writer("-", year_last=False),
    ),
    "partial_date_compact": Reader(
        "As partial_date; written as yyyyMMdd or yyyy.", ("partial-date",), _partial_date, _partial_writer("", year_last=False)
    ),
    "partial_date_text": Reader(
        "As partial_date; written as dd/MM/yyyy or yyyy.", ("partial-date",), _partial_date, _partial_writer("/", year_last=True)
    ),
    "money_text": Reader("An amount such as '1.200.000 đ'.", ("long", "int"), _money, _write_money),
    "personal_number": Reader("12 digits (decree 137/2015 art. 13); known placeholders become null.", ("string",), _personal_number, _same),
    "unit_code": Reader("A code of the register of administrative units.", ("string",), _unit_code, _same),
}

DEFAULTS = {
    "string": "text",
    "int": "integer",
    "long": "integer",
    "boolean": "boolean",
    "instant": "instant",
    "date": "date",
    "partial-date": "partial_date",
}
