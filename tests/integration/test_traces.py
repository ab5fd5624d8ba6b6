"""One trace from the commit at the source to the systems it reaches: real lines as processes, and a real OTLP receiver as another."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from lienthong.embedded.ports import free_port
from tests.city import wait
from tests.lines_kit import ALL_ROLES, Lines, lines
from tests.otlp_receiver import received, receiving

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]

CANARY = "CANARY Nguyễn Văn Mật"
FOLLOWED = {"lienthong.system", "lienthong.entity", "lienthong.record", "lienthong.records"}


class Traced:
    """The lines, and what the receiver has got of them."""

    def __init__(self, made: Lines, file: Path) -> None:
        self.lines, self.file = made, file

    def spans(self) -> list[dict[str, Any]]:
        """Every span so far."""
        return received(self.file)

    def trace_of(self, system: str, code: str) -> dict[tuple[str, str], dict[str, Any]]:
        """The spans of the newest trace that captured this dossier, by name and system."""
        (record,) = self.lines.city.sql("hub", f"SELECT record FROM hub.contribution WHERE (system, local_key) = ('{system}', '{code}')")[0]  # noqa: S608
        mine = [s for s in self.spans() if s["name"] == "merge" and s["attributes"]["lienthong.record"] == record]
        newest = max((s for s in mine if s["attributes"]["lienthong.system"] == system), key=lambda s: s["begun"], default={"trace": ""})["trace"]
        return {(s["name"], s["attributes"]["lienthong.system"]): s for s in self.spans() if s["trace"] == newest}


@pytest.fixture(scope="module")
def traced(stack_root: Path) -> Iterator[Traced]:
    """A portal (log) and two wards (triggers, log) whose processes follow every commit."""
    file = stack_root / "spans.jsonl"
    with lines(stack_root / "traces") as made, receiving(file) as environment:
        made.stop()
        made.city.environment |= environment
        made.start(*ALL_ROLES)
        yield Traced(made, file)


HOPS = {("capture", "portal"), ("merge", "portal"), ("route", "ward-near"), ("route", "ward-far"), ("apply", "ward-near"), ("apply", "ward-far")}


def test_a_new_dossier_is_one_trace_from_its_commit_to_both_wards(traced: Traced) -> None:
    code = traced.lines.submit(name=CANARY)
    traced.lines.city.until("ward_near", f"SELECT ten FROM ho_so WHERE ma = '{code}'", CANARY)  # noqa: S608
    traced.lines.city.until("ward_far", f"SELECT ten FROM ho_so WHERE ma = '{code}'", CANARY)  # noqa: S608
    wait(lambda: traced.trace_of("portal", code).keys() >= HOPS, 30, lambda: f"{traced.spans()}\n{traced.lines.city.logs()[-3000:]}")
    trace = traced.trace_of("portal", code)
    assert trace.keys() == HOPS
    capture, merge = trace["capture", "portal"], trace["merge", "portal"]
    assert capture["parent"] == ""
    assert merge["parent"] == capture["span"]
    for ward in ("ward-near", "ward-far"):
        assert trace["route", ward]["parent"] == merge["span"]
        assert trace["apply", ward]["parent"] == trace["route", ward]["span"]
        chain = [capture, merge, trace["route", ward], trace["apply", ward]]
        assert all(before["begun"] <= hop["begun"] <= hop["ended"] for before, hop in zip(chain, chain[1:], strict=False))
    assert [hop["service"] for hop in chain] == [f"lienthong-{role}" for role in ALL_ROLES]
    (committed,) = traced.lines.city.sql(
        "hub",
        f"SELECT at FROM hub.contribution WHERE (system, local_key) = ('portal', '{code}')",  # noqa: S608
    )[0]
    assert capture["begun"] == committed * 1000  # the commit at the source itself


def test_a_change_at_a_ward_read_from_triggers_is_followed_to_the_portal(traced: Traced) -> None:
    code = traced.lines.submit("ward_near")
    traced.lines.city.until("portal", f"SELECT tt FROM ho_so WHERE ma = '{code}'", "moi")  # noqa: S608
    traced.lines.city.sql("ward_near", f"UPDATE ho_so SET tt = 'xong' WHERE ma = '{code}'")  # noqa: S608
    traced.lines.city.until("portal", f"SELECT tt FROM ho_so WHERE ma = '{code}'", "xong")  # noqa: S608
    hops = {("capture", "ward-near"), ("merge", "ward-near"), ("route", "portal"), ("apply", "portal")}
    wait(lambda: traced.trace_of("ward-near", code).keys() >= hops, 30, lambda: str(traced.spans()[-10:]))


def test_spans_say_nothing_about_a_person(traced: Traced) -> None:
    spans = traced.spans()
    assert len(spans) > 6
    assert {name for span in spans for name in span["attributes"]} <= FOLLOWED
    text = traced.file.read_text("utf-8")
    assert "CANARY" not in text
    assert "H29-" not in text  # codes of dossiers


def test_a_collector_that_is_away_holds_nothing_up(traced: Traced) -> None:
    traced.lines.stop()
    traced.lines.city.environment["OTEL_EXPORTER_OTLP_ENDPOINT"] = f"http://127.0.0.1:{free_port()}"
    traced.lines.start(*ALL_ROLES)
    code = traced.lines.submit()
    traced.lines.city.until("ward_far", f"SELECT tt FROM ho_so WHERE ma = '{code}'", "moi")  # noqa: S608
    traced.lines.stop()  # within the time that a clean end has, or this raises
