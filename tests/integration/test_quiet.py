"""What is still on its way: frames that come while one looks, as signs of life do all the time, are not waited for."""

from __future__ import annotations

from connectors.postgres import connect, transaction
from lienthong import hub_schema
from lienthong.quiet import what_moves
from tests.merge_kit import settings


class BusyTopic:
    """A topic into which a frame is written, and merged, whenever somebody asks for its end."""

    def __init__(self, dsn: str, *, is_merged: bool) -> None:
        self.dsn, self.is_merged, self.end = dsn, is_merged, 0

    def of(self, topic: str) -> dict[int, int]:
        self.end += 1
        connection = connect(self.dsn, application_name="test")
        with transaction(connection) as cursor:
            cursor.execute(
                """INSERT INTO hub.consumer_offset (topic, partition, next) VALUES (%s, 0, %s)
                   ON CONFLICT (topic, partition) DO UPDATE SET next = excluded.next""",
                [topic, self.end if self.is_merged else 0],
            )
        connection.close()
        return {0: self.end}


def test_a_frame_that_comes_while_one_looks_is_not_waited_for(database: str) -> None:
    hub_schema.install(database)
    busy = BusyTopic(database, is_merged=True)
    assert what_moves(settings(database), 0, busy) is None  # type: ignore[arg-type]
    assert busy.end == 1
    assert what_moves(settings(database), 0, BusyTopic(database, is_merged=False)) == "merge"  # type: ignore[arg-type]
