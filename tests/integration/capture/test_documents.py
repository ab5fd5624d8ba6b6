# ruff: noqa: S608 - names and numbers of our own in statements
"""Records that are elements of a document, captured in both forms."""

from __future__ import annotations

from lienthong.parked_again import Again
from lienthong.vault import Vault
from tests.capture_kit import Site
from tests.capture_scenes import (
    NewSite,
    document_site,
    work_through,
)


# ------------------------------------------------------------------ values
def test_json_that_cannot_be_read_refuses_its_own_record_only(form: str, new_site: NewSite) -> None:
    site = document_site(form, new_site)
    line = site.line()
    site.sql(
        """INSERT INTO dossier (id, paper) SELECT n, '{"summary": "fine", "parts": [{"no": "A", "name": "đơn"}, {"no": "B"}]}'
           FROM generate_series(1, 30) n""",
        r"""UPDATE dossier SET paper = '{"summary": "a\u0000b"}' WHERE id IN (7, 20)""",
    )
    published = site.drain(line)
    assert set(published.refused()) >= {("7", "summary", "nul_character"), ("20", "summary", "nul_character")}
    assert len(site.in_hub()) == 28
    assert len(site.in_hub("dossier_component")) == 56
    assert {entry.parent for entry in published.entries if entry.entity == "dossier_component"} == set(site.in_hub())
    site.sql("""UPDATE dossier SET paper = '{"summary": "cured", "parts": [{"no": "B", "name": "b"}]}' WHERE id IN (1, 7)""")
    site.drain(line)
    assert site.in_hub()["7"]["summary"] == "cured"
    assert {key for key in site.in_hub("dossier_component") if key.startswith(("1|", "7|"))} == {"1|B", "7|B"}
    assert {(p["entity"], p["local_key"]) for p in site.parked()} == {("dossier", "20"), ("dossier_component", "20")}


def papers(count: int, first: int = 1, length: int = 500) -> str:
    """A document of some papers, each with a name of its own that is so many characters long."""
    return f"""(SELECT json_build_object('parts', json_agg(json_build_object('no', rpad(n::text || '-', {length}, 'x'), 'name', 'n' || n)))
               FROM generate_series({first}, {first + count - 1}) n)"""


def refused_lists(site: Site) -> list[tuple[str, str, str]]:
    return [(p["entity"], p["local_key"], p["reason"]) for p in site.parked()]


def in_list(site: Site) -> set[int]:
    return {int(values["name"].removeprefix("n")) for key, values in site.in_hub("dossier_component").items() if key.startswith("1|")}


def test_a_list_of_elements_that_no_message_carries_is_told_in_parts(form: str, new_site: NewSite) -> None:
    """Each part says for itself which elements are gone: at the ends of the list, in the middle of it, at the edges of parts."""
    site = document_site(form, new_site)
    line = site.line()
    site.sql(f"INSERT INTO dossier (id, paper) VALUES (1, {papers(2000)}), (2, {papers(3)})")
    published = site.drain(line)
    parts = [note.content for note in published.notes if note.header.kind == "set_part"]
    assert len(parts) > 2
    assert published.refused() == []
    assert len(site.in_hub("dossier_component")) == 2003
    site.sql(
        f"UPDATE dossier SET paper = {papers(1990, 2)} WHERE id = 1", "UPDATE dossier SET paper = NULL WHERE id = 2", "INSERT INTO dossier VALUES (3)"
    )
    site.drain(line)
    assert set(site.in_hub()) == {"1", "2", "3"}
    assert in_list(site) == set(range(2, 1992))
    assert len(site.in_hub("dossier_component")) == 1990
    edges = [int(part["through"].partition("|")[2].partition("-")[0]) for part in parts if part["through"]]
    gone = {*edges, 500, 1991}
    site.sql(
        f"""UPDATE dossier SET paper = (SELECT json_build_object('parts', json_agg(p)) FROM json_array_elements(paper -> 'parts') p
           WHERE NOT (p ->> 'name') = ANY(ARRAY{[f"n{number}" for number in sorted(gone)]})) WHERE id = 1"""
    )
    site.drain(line)
    assert in_list(site) == set(range(2, 1992)) - gone
    again = Again(site.settings, site.system, Vault(None))
    assert again.read("dossier_component", "1").words == ""
    again.close()
    site.published()
    assert in_list(site) == set(range(2, 1992)) - gone
    site.sql(f"UPDATE dossier SET paper = {papers(2, 7)} WHERE id = 1")
    site.drain(line)
    assert refused_lists(site) == []
    assert in_list(site) == {7, 8}


def test_what_was_refused_before_it_was_cured_is_of_the_past_when_it_comes_late(form: str, new_site: NewSite) -> None:
    site = document_site(form, new_site)
    line = site.line()
    site.sql(r"""INSERT INTO dossier (id, paper) VALUES (1, '{"parts": [{"no": "A", "name": "a\u0000b"}]}')""")
    work_through(site, line)
    late = site.messages()
    site.merge(late)
    site.sql(f"UPDATE dossier SET paper = {papers(2)} WHERE id = 1")
    site.drain(line)
    site.merge(late)  # the line had not saved how far it was, and sends it again
    assert refused_lists(site) == []
    assert len(site.in_hub("dossier_component")) == 2
