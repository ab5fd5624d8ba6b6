"""What a system's administrator runs once: our schema, the triggers or the publication of capture, and the grants."""

from __future__ import annotations

import getpass
import json
import re
from collections.abc import Iterable
from importlib.resources import files
from urllib.parse import unquote, urlsplit

from lienthong.layout import table_parts
from lienthong.settings import EntityMap, Profile, Settings

TARGET = "sql/target.sql"

OWN_TABLES: dict[str, tuple[str, ...]] = {
    "lienthong.consumer_offset": ("topic", "partition"),
    "lienthong.overwritten": ("id",),
    "lienthong.probe": ("leg", "number"),
}
"""Tables of our own schema that are captured like the profile's, with the columns that name a row."""

TRIGGER = "lienthong_note_change"
TRUNCATE_TRIGGER = "lienthong_note_truncate"
PUBLICATION = "lienthong"

HEADER = """\
-- For the administrator of the database of {system} (profile {profile}, capture: {capture}).
-- Run as the owner of the tables{privilege}, for example: psql -1 -v ON_ERROR_STOP=1 -f this-file DATABASE
-- It may be run again at any time; it changes no data.
"""


def notification_columns(profile: Profile) -> dict[str, tuple[str, ...]]:
    """Per table, the columns that say which records a change belongs to: keys of roots, join columns of parts."""
    found: dict[str, dict[str, None]] = {}
    for mapping in profile.entities.values():
        found.setdefault(mapping.table, {}).update(dict.fromkeys(mapping.key))
        for part in mapping.parts.values():
            found.setdefault(part.table, {}).update(dict.fromkeys(part.on))
    return {table: tuple(columns) for table, columns in found.items()}


def image_columns(profile: Profile) -> dict[str, tuple[str, ...]]:
    """Per table, the columns whose every value counts: statuses without a history table."""
    found: dict[str, dict[str, None]] = {table: {} for table in notification_columns(profile)}
    for mapping in profile.entities.values():
        if mapping.events is not None:
            found[mapping.table][mapping.events] = None
    return {table: tuple(columns) for table, columns in found.items()}


def written_tables(profile: Profile) -> tuple[str, ...]:
    """The tables that records of this profile are written to."""
    tables = [table for mapping in profile.entities.values() for table in _written(mapping)]
    return tuple(dict.fromkeys(tables))


def _written(mapping: EntityMap) -> Iterable[str]:
    if not mapping.write or mapping.each is not None:
        return ()
    return (mapping.table, *(part.table for part in mapping.parts.values() if part.pick is None))


def trigger_arguments(profile: Profile) -> dict[str, tuple[str, str, str]]:
    """The arguments of the row trigger of each captured table, our own included."""
    images = image_columns(profile)
    columns = {**notification_columns(profile), **OWN_TABLES}
    return {table: (table, _list(names), _list(images.get(table, ()))) for table, names in columns.items()}


def ddl_for(system: str, settings: Settings) -> str:
    """The SQL that the administrator of a system runs, once or again."""
    party, profile = settings.systems[system], settings.profile_of(system)
    role = user_of(settings.dsn_of(system))
    privilege = " and of publications (a superuser is simplest)" if party.capture == "wal" else ""
    sections = [
        HEADER.format(system=system, profile=party.profile, capture=party.capture, privilege=privilege),
        (files("lienthong") / TARGET).read_text("utf-8"),
        *(_triggers(profile) if party.capture == "outbox" else _no_triggers(profile)),
        *(_publication(profile) if party.capture == "wal" else ()),
        *_grants(profile, role, writes=party.apply),
    ]
    if party.capture == "wal":
        sections.append(_replication(role))
    return "\n".join(sections) + "\n"


# ------------------------------------------------------------------ the parts of the script
def _triggers(profile: Profile) -> list[str]:
    out = ["-- Capture by triggers: one for the rows of each table, one that tells of a TRUNCATE."]
    for table, arguments in trigger_arguments(profile).items():
        name, given = quoted(table), ", ".join(literal(one) for one in arguments)
        for trigger, events, level in (
            (TRIGGER, "INSERT OR UPDATE OR DELETE", "ROW"),
            (TRUNCATE_TRIGGER, "TRUNCATE", "STATEMENT"),
        ):
            out.append(
                f"CREATE OR REPLACE TRIGGER {trigger} AFTER {events} ON {name}\n"
                f"    FOR EACH {level} EXECUTE FUNCTION lienthong.note_change({given});\n"
                f"ALTER TABLE {name} ENABLE ALWAYS TRIGGER {trigger};"
            )
    return out


def _no_triggers(profile: Profile) -> list[str]:
    """Triggers of an earlier capture form would fill a list that nobody reads."""
    return [
        f"DROP TRIGGER IF EXISTS {trigger} ON {quoted(table)};" for table in trigger_arguments(profile) for trigger in (TRIGGER, TRUNCATE_TRIGGER)
    ]


def _publication(profile: Profile) -> list[str]:
    images = image_columns(profile)
    out = ["-- Capture from the log: deletes that name their record, and the publication."]
    for table, columns in {**notification_columns(profile), **OWN_TABLES}.items():
        regclass, wanted = literal(quoted(table)), (*columns, *images.get(table, ()))
        out.append(f"SELECT lienthong.ensure_identity({regclass}, {_array(columns)});")
        out.append(f"SELECT lienthong.ensure_published({regclass}, {_array(dict.fromkeys(wanted))});")
    return out


def _grants(profile: Profile, role: str, *, writes: bool) -> list[str]:
    user = _ident(role)
    written = written_tables(profile) if writes else ()
    schemas = dict.fromkeys(table_parts(table)[0] for table in notification_columns(profile))
    out = [
        "-- What our user may do.",
        *(f"GRANT USAGE ON SCHEMA {_ident(name)} TO {user};" for name in ("lienthong", *schemas)),
        f"GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA lienthong TO {user};",
        f"GRANT USAGE ON ALL SEQUENCES IN SCHEMA lienthong TO {user};",
    ]
    for table in notification_columns(profile):
        if table in written:
            out.append(f"SELECT lienthong.ensure_writable({literal(quoted(table))}, {literal(role)});")
        else:
            out.append(f"GRANT SELECT ON {quoted(table)} TO {user};")
    return out


def _replication(role: str) -> str:
    return f"-- Reading the log.\nSELECT lienthong.ensure_replication({literal(role)});"


# ------------------------------------------------------------------ names in SQL (there is no connection to quote with)
def user_of(dsn: str) -> str:
    """The user a DSN connects as; where it names none, libpq takes the one who runs the service."""
    if "://" in dsn:
        address = urlsplit(dsn)
        query = re.search(r"(?:^|&)user=([^&]*)", address.query)
        named = address.username or (query[1] if query else "")
        return unquote(named) or getpass.getuser()
    found = re.search(r"(?:^|\s)user\s*=\s*(?:'((?:[^'\\]|\\.)*)'|(\S+))", dsn)
    return re.sub(r"\\(.)", r"\1", found[1] or found[2]) if found else getpass.getuser()


def quoted(table: str) -> str:
    """A profile's table as `"schema"."name"`."""
    return ".".join(_ident(part) for part in table_parts(table))


def literal(text: str) -> str:
    """A text constant of SQL."""
    escaped = text.replace("'", "''")
    return f"E'{escaped}'".replace("\\", "\\\\") if "\\" in text else f"'{escaped}'"


def _ident(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _list(names: Iterable[str]) -> str:
    return json.dumps(list(names), ensure_ascii=False)


def _array(names: Iterable[str]) -> str:
    return "ARRAY[" + ", ".join(literal(name) for name in names) + "]::text[]"
