"""The day for which what was captured counts: the day of its commit, also where both sides of midnight are read at once."""

from __future__ import annotations

from lienthong.capture.line import Line
from lienthong.capture.wal import WalLine
from lienthong.certificates.chain import counted
from lienthong.days import DAY_MICROS, date_of, day_number
from tests.capture_kit import Site
from tests.capture_scenes import wait_until


def a_day_earlier(site: Site, line: Line, transactions: int) -> None:
    """The first transaction that is not read yet was committed a day before the others; the clock of the server is not ours to set."""
    if not isinstance(line, WalLine):
        site.sql("UPDATE lienthong.change SET at = at - interval '1 day' WHERE xid = (SELECT xid FROM lienthong.change ORDER BY id LIMIT 1)")
        return

    def received() -> bool:
        line._receive()
        return len(line._waiting) >= transactions

    wait_until(received)
    line._waiting[0].at -= DAY_MICROS


def test_what_was_committed_before_midnight_and_read_after_it_counts_for_its_own_day(site: Site) -> None:
    line = site.line()
    site.sql("INSERT INTO dossier (id, note, status) VALUES (1, 'a', 'new'), (2, 'a', 'new')")
    site.sql("INSERT INTO dossier (id, note, status) VALUES (3, 'a', 'new')")
    site.sql("UPDATE dossier SET note = 'b' WHERE id = 2")
    a_day_earlier(site, line, 3)
    published = site.drain(line)
    days = {(entry.key, date_of(day_number(entry.at))) for entry in published.entries if entry.entity == "dossier"}
    today = max(day for _, day in days)
    yesterday = date_of(day_number(min(entry.at for entry in published.entries)))
    assert days == {("1", yesterday), ("2", yesterday), ("2", today), ("3", today)}
    assert (today - yesterday).days == 1
    with site.hub.cursor() as cursor:
        sums = {day: counts for (entity, day), (counts, _) in counted(cursor, site.system, None, today).items() if entity == "dossier"}
    site.hub.rollback()
    assert {day: counts.captured for day, counts in sums.items()} == {yesterday: 2, today: 2}
    assert all(counts.is_exact for counts in sums.values())
    site.assert_same()
