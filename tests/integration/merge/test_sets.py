"""The elements of a document that its set does not name, when the set comes alone, in a batch after the elements."""

from __future__ import annotations

import pytest

from lienthong.frames import Header, Kind, note_frame
from tests.merge_kit import DAY, DOSSIER, Hub, state


def paper(key: str) -> bytes:
    return state("ward-a", f"X|{key}", 1, {"component_code": key}, entity="dossier_component", parent="X")


def named(kind: Kind, *keys: str, **edges: str | None) -> bytes:
    content = {"root": "X", "keys": [f"X|{key}" for key in keys], **edges}
    return note_frame(Header("ward-a", "dossier_component", kind, 1, 2, 0, DAY), [content])[0]


@pytest.mark.parametrize("kind", ["set", "set_part"])
def test_what_a_set_ends_stays_under_its_dossier_so_that_it_is_taken_back_everywhere(city: Hub, kind: Kind) -> None:
    city.merge(state("ward-a", "X", 1, DOSSIER), *(paper(key) for key in "ABC"))
    (dossier,) = city.sql("SELECT record FROM hub.record WHERE entity = 'dossier'")
    city.sql("DELETE FROM hub.changed RETURNING 1")
    city.merge(named(kind, "B", above=None, through=None))
    assert city.sql("SELECT DISTINCT parent FROM hub.record WHERE entity = 'dossier_component'") == [dossier]
    assert city.sql("SELECT count(*) FROM hub.record") == [(4,)], "no other dossier was promised to them"
    told = "SELECT c.local_key FROM hub.changed h JOIN hub.contribution c USING (record) WHERE c.op = 'd' ORDER BY 1"
    assert city.sql(told) == [("X|A",), ("X|C",)]


def test_each_part_answers_for_the_keys_between_its_edges(city: Hub) -> None:
    city.merge(state("ward-a", "X", 1, DOSSIER), *(paper(key) for key in "ABCDEF"))
    city.merge(named("set_part", "B", above=None, through="X|C"))
    assert sorted(p["component_code"] for p in city.golden("dossier_component")) == ["B", "D", "E", "F"]
    city.merge(named("set_part", "E", above="X|C", through="X|E"))
    assert sorted(p["component_code"] for p in city.golden("dossier_component")) == ["B", "E", "F"]
    city.merge(named("set_part", above="X|E", through=None))
    assert sorted(p["component_code"] for p in city.golden("dossier_component")) == ["B", "E"]
