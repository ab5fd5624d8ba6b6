"""A chain of certificates: what was altered, removed, added, reordered or signed by somebody else is named; and days are the city's days."""

from __future__ import annotations

import base64
import json
import re
import shutil
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from datetime import date, datetime
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from cryptography.hazmat.primitives.serialization import load_pem_public_key
from hypothesis import given
from hypothesis import strategies as some

from lienthong import frames
from lienthong.batch import Batch, newest, read_messages
from lienthong.certificates.form import (
    NONE_BEFORE,
    Counts,
    Holding,
    NoCertificate,
    Reason,
    Signed,
    Statement,
    Target,
    body_of,
    canonical,
    hash_of,
    read_line,
)
from lienthong.certificates.keys import Signer, name_of, new_key, public_keys
from lienthong.certificates.standing import NOT_COMPARED, WAITS
from lienthong.certificates.verify import Verified, lines_of, verify
from lienthong.days import date_of, day_number, end_micros
from lienthong.errors import ConfigError
from lienthong.reconcile.judge import CAPTURE, DELIVERY, MERGE
from tests.merge_kit import DAY, DOSSIER, framed, gone, message, refused, state

DAYS = [date(2026, 11, 1 + n) for n in range(6)]
EQUAL = Target(Holding(60, "0" * 31 + "7"), Holding(60, "0" * 31 + "7"))


def said(day: date, **more: Any) -> Statement:
    counts = Counts(captured=6, merged=1, unchanged=1, older=1, duplicate=1, refused=1, parked=1)
    statement = Statement(system="ward", entity="dossier", day=day, reading=1_763_000, counts=counts, target=EQUAL, reasons=())
    return replace(statement, **more)


class Made:
    """A signer and the chain that it has made."""

    def __init__(self) -> None:
        self.signer = Signer(new_key())
        self.keys = {self.signer.name: load_pem_public_key(self.signer.public_pem().encode())}
        self.signed: list[Signed] = []

    def add(self, statement: Statement, *, issue: int = 1, previous: str | None = None) -> Made:
        before = previous or (self.signed[-1].hash if self.signed else NONE_BEFORE)
        body = body_of(statement, number=len(self.signed) + 1, previous=before, issue=issue, issued_at="2026-11-23T01:00:00Z")
        self.signed.append(Signed(body, self.signer.name, self.signer.sign(body)))
        return self

    def lines(self) -> list[bytes]:
        return [signed.line() for signed in self.signed]

    def verify(self, lines: list[bytes], **given: str) -> Verified:
        return verify([(f"f:{n}", line) for n, line in enumerate(lines, 1)], self.keys, **given)  # type: ignore[arg-type]


@pytest.fixture
def made() -> Made:
    chain = Made()
    for day in DAYS:
        chain.add(said(day))
    return chain


def bad(found: Verified) -> tuple[str, str | None, str]:
    assert found.bad is not None
    return found.bad.place, found.bad.certificate, found.bad.what


def test_a_whole_chain_is_right(made: Made) -> None:
    found = made.verify(made.lines(), last=made.signed[-1].hash)
    assert (found.bad, found.certificates, found.first, found.last) == (None, 6, 1, 6)
    assert found.last_hash == made.signed[-1].hash


@pytest.mark.parametrize(
    ("old", "new"), [('"captured":6', '"captured":7'), ('"state":"closed"', '"state":"opened"'), ("2026-11-03", "2026-11-30"), ("ward", "wart")]
)
def test_an_altered_certificate_is_named(made: Made, old: str, new: str) -> None:
    third = made.signed[2]
    lines = made.lines()
    lines[2] = replace(third, body=third.body.replace(old, new)).line()
    place, certificate, what = bad(made.verify(lines))
    assert place == "f:3"
    assert certificate is not None
    assert certificate.startswith("number 3 ")
    assert "signature" in what
    assert made.verify(lines).certificates == 2


def test_a_removed_certificate_is_named_wherever_it_stood(made: Made) -> None:
    lines = made.lines()
    for place in range(5):
        where, certificate, what = bad(made.verify(lines[:place] + lines[place + 1 :]))
        assert where == f"f:{place + 1}"
        assert certificate is not None
        assert certificate.startswith(f"number {place + 2} ")
        assert what.startswith(f"number {place + 1} is missing")
    assert bad(made.verify(lines[3:]))[2].startswith("numbers 1 to 3 are missing")


def test_certificates_missing_at_the_end_show_against_the_newest_hash(made: Made) -> None:
    lines = made.lines()[:4]
    assert made.verify(lines).bad is None
    assert "missing after this line" in bad(made.verify(lines, last=made.signed[-1].hash))[2]


def test_certificates_in_another_order_are_named(made: Made) -> None:
    lines = made.lines()
    lines[1], lines[2] = lines[2], lines[1]
    assert bad(made.verify(lines))[:2] == ("f:2", "number 3 (ward dossier 2026-11-03 issue 1)")


def test_a_part_of_a_chain_follows_the_hash_that_is_given(made: Made) -> None:
    lines = made.lines()[3:]
    assert made.verify(lines, previous=made.signed[2].hash).bad is None
    assert "does not follow" in bad(made.verify(lines, previous=made.signed[1].hash))[2]


def test_one_of_another_key_is_named_even_if_it_says_otherwise(made: Made) -> None:
    other, lines = Signer(new_key()), made.lines()
    stranger = Signed(made.signed[1].body, other.name, other.sign(made.signed[1].body))
    lines[1] = stranger.line()
    assert bad(made.verify(lines))[0] == "f:2"
    assert other.name in bad(made.verify(lines))[2]
    lines[1] = replace(stranger, key=made.signer.name).line()
    assert "signature does not fit" in bad(made.verify(lines))[2]
    assert bad(verify([("f:1", made.lines()[0])], {}))[0] == "f:1"


def test_one_that_was_replaced_and_signed_anew_breaks_the_link_of_the_next(made: Made) -> None:
    """The holder of the key rewrites the past: the hash that the next one holds tells it."""
    body = made.signed[2].body.replace('"captured":6', '"captured":5').replace('"parked":1', '"parked":0')
    lines = made.lines()
    lines[2] = Signed(body, made.signer.name, made.signer.sign(body)).line()
    assert bad(made.verify(lines))[:2] == ("f:4", "number 4 (ward dossier 2026-11-04 issue 1)")


def test_the_same_certificate_twice_is_no_fault_and_another_of_its_number_is(made: Made) -> None:
    lines = made.lines()
    assert made.verify([*lines[:3], *lines[1:]]).certificates == 6
    fork = Made()
    fork.signer, fork.keys = made.signer, made.keys
    fork.add(said(DAYS[0])).add(said(DAYS[5]))
    assert "another certificate of this number" in bad(made.verify([*lines[:2], fork.lines()[1], *lines[2:]]))[2]


def test_a_closed_certificate_must_be_exact_and_equal() -> None:
    unequal = Target(EQUAL.entitled, Holding(59, EQUAL.held.digest))
    assert "entitled" in bad(_verified(said(DAYS[0], target=unequal)))[2]
    assert "sum" in bad(_verified(said(DAYS[0], counts=Counts(captured=6, merged=5))))[2]
    reasons = (Reason("digests_differ", 1),)
    assert _verified(said(DAYS[0], target=unequal, reasons=reasons)).bad is None


def _verified(statement: Statement) -> Verified:
    chain = Made().add(statement)
    return chain.verify(chain.lines())


def test_issues_of_a_day_are_counted_one_by_one() -> None:
    late = said(DAYS[0], reasons=(Reason("late_arrivals", 1),))
    chain = Made().add(said(DAYS[0])).add(late, issue=2).add(said(DAYS[0]), issue=3)
    assert chain.verify(chain.lines()).bad is None
    chain = Made().add(said(DAYS[0])).add(late, issue=3)
    assert "issue 2 was to come" in bad(chain.verify(chain.lines()))[2]


@pytest.mark.parametrize("line", [b"", b"{}", b"[1]", b"\xff", b'{"body":1,"key":"","signature":""}', b'{"body":"{}","key":"","signature":"%"}'])
def test_a_line_that_is_none_is_named(made: Made, line: bytes) -> None:
    assert bad(made.verify([*made.lines()[:2], line]))[:2] == ("f:3", None)


@given(some.integers(0, 5), some.integers(0, 10_000), some.integers(1, 255))
def test_any_flipped_byte_is_found(place: int, at: int, flip: int) -> None:
    lines = CHAIN.lines()
    line = bytearray(lines[place])
    line[at % len(line)] ^= flip
    lines[place] = bytes(line)
    found = CHAIN.verify(lines)
    assert found.bad is not None
    assert found.bad.place == f"f:{place + 1}"


CHAIN = Made()
for one_day in DAYS:
    CHAIN.add(said(one_day))


# ------------------------------------------------------------------ form and keys
def test_the_signed_bytes_never_change() -> None:
    """What was signed years ago must stay what is checked: this text may be changed by a new schema number only."""
    statement = said(DAYS[0], reasons=(Reason("delivery_differs", 2),))
    assert body_of(statement, number=7, previous="ab", issue=2, issued_at="2026-11-23T01:00:00Z") == (
        '{"counts":{"captured":6,"duplicate":1,"merged":1,"older":1,"parked":1,"refused":1,"unchanged":1},"day":"2026-11-01","entity":"dossier",'
        '"issue":2,"issued_at":"2026-11-23T01:00:00Z","number":7,"previous":"ab","reading":1763000,'
        '"reasons":[{"code":"delivery_differs","records":2}],"schema":"lienthong/certificate/1","state":"open","system":"ward",'
        '"target":{"entitled":{"digest":"00000000000000000000000000000007","records":60},"held":{"digest":"00000000000000000000000000000007","records":60}}}'
    )


def test_the_form_holds_no_fractions_and_is_what_plain_json_makes() -> None:
    with pytest.raises(NoCertificate):
        canonical({"a": 1.0})
    with pytest.raises(NoCertificate):
        canonical({"a": [True]})
    document = {"b": [1, None, "Tân Định"], "a": {"d": 1, "c": 2}}
    assert canonical(document) == json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def test_a_line_comes_back_as_it_was(made: Made) -> None:
    assert [read_line(line) for line in made.lines()] == made.signed
    assert hash_of(made.signed[0].body) == made.signed[1].document()["previous"]


def test_without_a_key_or_with_a_wrong_one_the_command_to_make_one_is_named() -> None:
    for wrong in (None, "", "abc", "%%%", base64.b64encode(b"short").decode()):
        with pytest.raises(ConfigError, match="lienthong certificate key"):
            Signer(wrong)


def test_public_keys_come_from_pem_files(tmp_path: Path) -> None:
    signer, file = Signer(new_key()), tmp_path / "public.pem"
    file.write_text(signer.public_pem())
    keys = public_keys([file])
    assert list(keys) == [signer.name] == [name_of(keys[signer.name])]
    file.write_text("no key")
    with pytest.raises(ConfigError, match="public-key"):
        public_keys([file])
    with pytest.raises(ConfigError, match="cannot be read"):
        public_keys([tmp_path / "none"])


def test_files_are_one_chain(made: Made, tmp_path: Path) -> None:
    first, second = tmp_path / "a", tmp_path / "b"
    first.write_bytes(b"\n".join(made.lines()[:4]) + b"\n\n")
    second.write_bytes(b"\n".join(made.lines()[5:]))
    found = verify(lines_of([first, second]), made.keys)  # type: ignore[arg-type]
    assert bad(found)[0] == f"{second}:1"


def test_openssl_alone_can_check_a_signature(made: Made, tmp_path: Path) -> None:
    assert shutil.which("openssl"), "the command that docs/certificates.md gives to auditors is not here: install the package openssl"
    line = json.loads(made.lines()[0])
    (tmp_path / "body").write_text(line["body"], "utf-8")
    (tmp_path / "signature").write_bytes(base64.b64decode(line["signature"]))
    (tmp_path / "public.pem").write_text(made.signer.public_pem())
    call = ["openssl", "pkeyutl", "-verify", "-pubin", "-inkey", "public.pem", "-rawin", "-in", "body", "-sigfile", "signature"]
    assert subprocess.run(call, cwd=tmp_path, capture_output=True, check=False).returncode == 0
    (tmp_path / "body").write_text(line["body"].replace('"captured":6', '"captured":7'), "utf-8")
    assert subprocess.run(call, cwd=tmp_path, capture_output=True, check=False).returncode != 0


# ------------------------------------------------------------------ days and counts
@given(some.integers(315_532_800, 4_102_444_800))
def test_a_day_is_the_calendars_day_in_the_city(at_seconds: int) -> None:
    micros = at_seconds * 1_000_000
    day = date_of(day_number(micros))
    assert day == datetime.fromtimestamp(at_seconds, ZoneInfo("Asia/Ho_Chi_Minh")).date()
    assert date_of(day_number(end_micros(day) - 1)) == day
    assert date_of(day_number(end_micros(day))) > day


def by_outcome(batch: Batch) -> dict[str, int]:
    found: Counter[str] = Counter()
    for (_, _, _, outcome), n in batch.counts.items():
        found[outcome] += n
    return dict(found)


def test_an_entry_that_a_newer_one_of_the_next_day_replaces_is_counted_on_its_own_day() -> None:
    batch = Batch()
    entries, _ = read_messages([message(state("portal", "1", 1, DOSSIER)), message(state("portal", "1", 2, DOSSIER))])
    entries[1].at += 1
    newest(entries, batch)
    assert batch.counts == {
        (DAY, "portal", "dossier", "captured"): 1, (DAY, "portal", "dossier", "older"): 1, (DAY + 1, "portal", "dossier", "captured"): 1,
    }  # fmt: skip


def test_the_entries_of_a_damaged_frame_are_parked_when_its_rest_proves_whose_they_were() -> None:
    header, packed = frames.open_frame(state("ward-a", "1", 1, DOSSIER))
    frame = bytearray(framed(header, packed[0], packed[0], packed[0]))
    frame[-1] ^= 1  # inside of the last entry
    _, batch = read_messages([message(bytes(frame))])
    assert len(batch.damaged) == 1
    assert by_outcome(batch) == {"captured": 3, "parked": 3}
    frame[20] ^= 1  # and the header: it may be anybody's now
    _, batch = read_messages([message(bytes(frame))])
    assert (len(batch.damaged), by_outcome(batch)) == (1, {})


def test_a_damaged_frame_that_is_cut_belongs_to_nobody() -> None:
    whole = state("ward-a", "1", 1, DOSSIER)
    for end in range(len(whole)):
        _, batch = read_messages([message(whole[:end])])
        assert (len(batch.damaged), by_outcome(batch)) == (1, {})


def test_the_newest_reading_of_each_day_is_kept() -> None:
    sent = [state("portal", "1", 7, DOSSIER), state("portal", "2", 5, DOSSIER), gone("portal", "3", 6), refused("portal", "4", 9)]
    _, batch = read_messages([message(frame) for frame in sent])
    assert batch.readings == {(DAY, "portal", "dossier"): 9}


# ------------------------------------------------------------------ the page
ROOT = Path(__file__).resolve().parents[2]


def test_every_reason_for_an_open_day_stands_on_the_page() -> None:
    page = (ROOT / "docs" / "certificates.md").read_text("utf-8")
    code = "".join(file.read_text("utf-8") for file in (ROOT / "lienthong" / "certificates").glob("*.py"))
    reasons = {*re.findall(r'Reason\("(\w+)"', code), *(f"{hop}_differs" for hop in (CAPTURE, MERGE, DELIVERY)), NOT_COMPARED}
    reasons |= {code or "refused" for code in WAITS.values()}
    assert len(reasons) >= 12
    assert [reason for reason in sorted(reasons) if f"`{reason}`" not in page] == []


def test_the_python_on_the_page_checks_a_chain_and_finds_an_altered_one(made: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page = (ROOT / "docs" / "certificates.md").read_text("utf-8")
    (example,) = re.findall(r"```python\n(.*?)```", page, flags=re.S)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "certificates.pem").write_text(made.signer.public_pem())
    (tmp_path / "chain.jsonl").write_bytes(b"\n".join(made.lines()) + b"\n")
    call = [sys.executable, "-W", "ignore", "-c", example]
    assert subprocess.run(call, capture_output=True, check=False).returncode == 0
    (tmp_path / "chain.jsonl").write_bytes(b"\n".join(made.lines()[:2] + made.lines()[3:]))
    assert subprocess.run(call, capture_output=True, check=False).returncode != 0
