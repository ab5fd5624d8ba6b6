"""What was refused leaves by itself, and nothing is left behind: the service's own processes, on real servers.

The portal keeps the papers of a dossier in one document; the ward keeps them in a table that refers to the dossier's.
"""

# ruff: noqa: S608 - the SQL is made of constants

from __future__ import annotations

from collections.abc import Iterator
from itertools import count
from pathlib import Path

import pytest

from tests.city import AUTHORITY, City, city, wait

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]

PORTAL = "CREATE TABLE don (ma text PRIMARY KEY, tthc text NOT NULL, nop timestamptz NOT NULL, ten text, tt text NOT NULL, giay json)"
WARD = """
CREATE TABLE ho_so (ma text PRIMARY KEY, tthc text NOT NULL, nop timestamptz NOT NULL, ten text, tt text NOT NULL);
CREATE TABLE giay_to (id bigserial PRIMARY KEY, ho_so text NOT NULL REFERENCES ho_so, ma text, ten text);
"""
DOSSIER = """
version: 1
profile: {profile}
entities:
  dossier:
    table: {table}
    key: ma
    identifiers: {{national: ma}}
    fields:
      procedure_code: tthc
      submitted_at: nop
      applicant_name: ten
      status: {{column: tt, values: {{moi: 1, xong: 9}}}}
"""
DOCUMENT = """
  dossier_component:
    table: don
    key: ma
    each: {column: giay, path: [parts], key: no}
    fields: {component_code: no, name: name, valid_until: until}
    write: false
"""
CHILDREN = """
  dossier_component:
    table: giay_to
    key: id
    parent: {entity: dossier, columns: [ho_so]}
    fields: {component_code: ma, name: ten}
"""
SYSTEMS = """
version: 1
hub: {dsn: "${HUB_DSN}"}
kafka: {bootstrap: "${KAFKA_BOOTSTRAP}"}
systems:
  portal: {profile: papers, dsn: "${PORTAL_DSN}", capture: outbox, kind: portal}
  ward: {profile: own, dsn: "${WARD_DSN}", capture: outbox, kind: ward}
"""
CONTRACTS = """
version: 1
contracts:
  ward: {system: ward, purpose: test, legal_ground: test, entities: {dossier: {}, dossier_component: {}}}
"""
LONG = """
(SELECT json_build_object('parts', json_agg(json_build_object('no', rpad(n::text || '-', 1000, 'x'), 'name', 'n')))
 FROM generate_series({}, {}) n)
"""
_numbers = count(1)


@pytest.fixture(scope="module")
def service(stack_root: Path) -> Iterator[City]:
    """Both systems, loaded."""
    with city(stack_root / "leaves", clusters=("hub", "central")) as made:
        made.database("central", "portal", PORTAL)
        made.database("central", "ward", WARD)
        made.write("profiles/papers.yaml", DOSSIER.format(profile="papers", table="don") + DOCUMENT)
        made.write("profiles/own.yaml", DOSSIER.format(profile="own", table="ho_so") + CHILDREN)
        for name, text in (("systems", SYSTEMS), ("authority", AUTHORITY), ("contracts", CONTRACTS)):
            made.write(f"{name}.yaml", text)
        made.install("portal", "ward")
        made.run()
        for system in ("portal", "ward"):
            wait(lambda system=system: made.cli("load", system).returncode == 0, 30)  # type: ignore[misc]
        yield made


def file(service: City, *papers: str) -> str:
    """A dossier at the portal whose papers have arrived at the ward; its code."""
    code = f"L{next(_numbers):05}"
    service.sql("portal", f"INSERT INTO don VALUES ('{code}', '1.001', '2026-03-05', 'An', 'moi', {document(*papers)})")
    service.until("ward", f"SELECT count(*) FROM ho_so WHERE ma = '{code}'", 1)
    service.until("ward", papers_of(code), [(paper,) for paper in papers])
    return code


def document(*papers: str, more: str = "") -> str:
    parts = ", ".join([*(f'{{"no": "{paper}", "name": "n{paper}"}}' for paper in papers), *([more] if more else [])])
    return f"""'{{"parts": [{parts}]}}'"""


def papers_of(code: str) -> str:
    return f"SELECT ma FROM giay_to WHERE ho_so = '{code}' ORDER BY ma"


def refused(service: City, code: str) -> list[tuple[str, ...]]:
    found = "SELECT local_key, reason FROM hub.parked WHERE state = 'open' AND entity = 'dossier_component' AND starts_with(local_key, %s)"
    return service.sql("hub", found, arguments=[code])


def write(service: City, code: str, document: str) -> None:
    service.sql("portal", f"UPDATE don SET giay = {document} WHERE ma = '{code}'")


def test_a_root_that_a_child_nobody_had_heard_of_kept_goes_when_the_child_has_gone(service: City) -> None:
    code = file(service)
    unheard = f"INSERT INTO giay_to (ho_so, ma, ten) VALUES ('{code}', 'X', 'of the ward')"
    service.sql("ward", "BEGIN", unheard, "DELETE FROM lienthong.change WHERE xid = pg_current_xact_id()", "COMMIT")
    service.sql("portal", f"DELETE FROM don WHERE ma = '{code}'")
    at_ward = "SELECT entity, reason, field, state FROM lienthong.parked ORDER BY id DESC LIMIT 1"
    service.until("ward", at_ward, [("dossier", "refused_by_target", "giay_to_ho_so_fkey", "parked")])
    assert service.sql("ward", f"SELECT count(*) FROM ho_so WHERE ma = '{code}'") == [(1,)]
    service.sql("ward", f"UPDATE giay_to SET ten = 'now it is heard of' WHERE ho_so = '{code}'")
    service.until("ward", f"SELECT count(*) FROM ho_so WHERE ma = '{code}'", 0)
    service.until("ward", at_ward, [("dossier", "refused_by_target", "giay_to_ho_so_fkey", "replayed")])
    assert service.sql("ward", papers_of(code)) == []


def test_elements_that_went_while_another_was_refused_are_gone_everywhere(service: City) -> None:
    code = file(service, "A", "B")
    write(service, code, document("B", more='{"no": "C", "name": "c", "until": "2026-02-31"}'))
    wait(lambda: refused(service, code) == [(f"{code}|C", "impossible_date")], 30, service.logs)
    service.until("ward", papers_of(code), [("B",)])
    write(service, code, document("C"))
    service.until("ward", papers_of(code), [("C",)])
    wait(lambda: refused(service, code) == [], 30, service.logs)


def test_elements_that_went_while_their_document_could_not_be_read_are_gone_everywhere_when_it_can(service: City) -> None:
    code = file(service, "A", "B", "C")
    write(service, code, r"""'{"parts": [{"no": "B", "name": "a\u0000b"}]}'""")
    wait(lambda: refused(service, code) == [(code, "nul_character")], 30, service.logs)
    assert service.sql("ward", papers_of(code)) == [("A",), ("B",), ("C",)], "nothing is known of them"
    write(service, code, document("B"))
    service.until("ward", papers_of(code), [("B",)])
    assert refused(service, code) == []
    write(service, code, r"""'{"parts": [{"no": "B", "name": "a\u0000b"}]}'""")
    wait(lambda: refused(service, code) == [(code, "nul_character")], 30, service.logs)
    service.sql("portal", f"DELETE FROM don WHERE ma = '{code}'")
    service.until("ward", f"SELECT count(*) FROM ho_so WHERE ma = '{code}'", 0)
    assert (service.sql("ward", papers_of(code)), refused(service, code)) == ([], [])


def test_elements_that_went_from_a_list_that_no_message_carries_are_gone_everywhere(service: City) -> None:
    code = file(service, "A", "B")
    write(service, code, LONG.format(1, 700))
    service.until("ward", f"SELECT count(*) FROM giay_to WHERE ho_so = '{code}'", 700)
    assert service.sql("ward", f"SELECT count(*) FROM giay_to WHERE ho_so = '{code}' AND length(ma) < 1000") == [(0,)]
    write(service, code, LONG.format(5, 704))
    service.until(
        "ward", f"SELECT min(split_part(ma, '-', 1)::int), max(split_part(ma, '-', 1)::int) FROM giay_to WHERE ho_so = '{code}'", [(5, 704)]
    )
    write(service, code, document("A"))
    service.until("ward", papers_of(code), [("A",)])
    assert refused(service, code) == []
