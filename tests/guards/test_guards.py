"""Every rule of the data flow is necessary: with one of them switched off, the suite goes red. `make guards` tries them all."""

from __future__ import annotations

import pytest

from tests.guards.table import MUTATIONS, RULES
from tests.guards.trial import ROOT, Edit, Mutation, attempt, mutated

QUICK = [mutation for mutation in MUTATIONS if mutation.quick]
REST = [mutation for mutation in MUTATIONS if not mutation.quick]


def test_every_rule_has_a_mutation_and_every_mutation_a_rule() -> None:
    assert {mutation.guard for mutation in MUTATIONS} == set(RULES)
    assert len({mutation.name for mutation in MUTATIONS}) == len(MUTATIONS)


@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda m: m.name)
def test_the_text_of_the_rule_is_where_the_table_says(mutation: Mutation) -> None:
    for edit in mutation.edits:
        mutated((ROOT / edit.file).read_text("utf-8"), edit)
    assert mutation.caught_by
    for test in mutation.caught_by:
        file, _, name = test.partition("::")
        assert f"\ndef {name.partition('[')[0]}(" in (ROOT / file).read_text("utf-8"), test


@pytest.mark.parametrize("text", ["", "a = 1\na = 1\n"], ids=["gone", "twice"])
def test_text_that_is_gone_or_there_twice_is_an_error(text: str) -> None:
    with pytest.raises(ValueError, match="once expected"):
        mutated(text, Edit("lienthong/x.py", "a = 1", "a = 2"))


@pytest.mark.parametrize("mutation", QUICK, ids=lambda m: m.name)
def test_a_rule_that_is_switched_off_is_noticed(mutation: Mutation) -> None:
    tried = attempt(mutation)
    assert tried.is_caught, tried.ended


@pytest.mark.guards
@pytest.mark.timeout(900)
@pytest.mark.parametrize("mutation", REST, ids=lambda m: m.name)
def test_each_other_rule_that_is_switched_off_is_noticed(mutation: Mutation) -> None:
    tried = attempt(mutation)
    assert tried.is_caught, tried.ended
