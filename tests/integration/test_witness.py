"""What a source must show to go on after it was stopped for going back in time."""

from collections.abc import Iterator

import pytest

from connectors.postgres import Connection, connect
from lienthong import hub_schema
from lienthong.capture import witness
from lienthong.capture.witness import Mark, WentBack


@pytest.fixture
def hub(database: str) -> Iterator[Connection]:
    hub_schema.install(database)
    connection = connect(database, application_name="test")
    yield connection
    connection.close()


def fenced(hub: Connection, before: Mark, copy: Mark) -> None:
    witness.accept(hub, "ward", before, new_life=False)
    with pytest.raises(WentBack):
        witness.Witness(hub, "ward").went_back(witness.missing(before, copy), copy)


def test_the_right_database_goes_on(hub: Connection) -> None:
    fenced(hub, Mark(1, 1000, 70), Mark(1, 500, 60))
    witness.resume(hub, "ward", Mark(1, 1200, 70))
    assert witness.load(hub, "ward").fenced is None


def test_the_wrong_one_does_not_however_long_its_log_has_grown(hub: Connection) -> None:
    fenced(hub, Mark(1, 1000, 60), Mark(1, 500, 60))  # no probe came between the copy and the last look
    with pytest.raises(WentBack, match="does not show anything that it had lost"):
        witness.resume(hub, "ward", Mark(1, 5000, 60))
    assert witness.load(hub, "ward").fenced is not None


def test_one_that_still_lacks_something_does_not(hub: Connection) -> None:
    fenced(hub, Mark(1, 1000, 70), Mark(1, 500, 60))
    with pytest.raises(WentBack, match="a mark that was written there is gone"):
        witness.resume(hub, "ward", Mark(1, 5000, 65))
