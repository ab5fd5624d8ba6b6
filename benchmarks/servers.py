"""The servers everybody is measured on: two PostgreSQL clusters with durable defaults and one Kafka broker."""

from __future__ import annotations

import shutil
from pathlib import Path

from benchmarks.meters import server_settings
from benchmarks.work import Place, Work, prepare_source, prepare_target
from lienthong.embedded import KafkaBroker, PostgresCluster
from lienthong.embedded.jars import cache_folder
from lienthong.embedded.postgres import remove_data

SOURCE_DATABASE, TARGET_DATABASE = "src", "dst"


class Servers:
    """Two clusters, kept for the whole run, and a broker that each contender gets anew, empty.

    Only `wal_level` differs from the server's defaults, and only on the source.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.source = PostgresCluster(folder / "source", name="bench-source", settings={"wal_level": "logical"})
        self.target = PostgresCluster(folder / "target", name="bench-target", settings={})
        self._broker: KafkaBroker | None = None

    def start(self) -> None:
        """Start both clusters."""
        self.source.start()
        self.target.start()

    def stop(self) -> None:
        """Stop all that runs."""
        self.stop_broker()
        for cluster in (self.target, self.source):
            cluster.stop()
            remove_data(cluster.directory)

    @property
    def cache(self) -> Path:
        """The folder for what is fetched once and kept, beside the broker's jars."""
        return cache_folder() / "peers"

    @property
    def source_place(self) -> Place:
        """Where the harness writes the work."""
        return Place(dsn=self.source.dsn(SOURCE_DATABASE))

    @property
    def target_place(self) -> Place:
        """Where it arrives with a contender that keeps a copy of the table."""
        return Place(dsn=self.target.dsn(TARGET_DATABASE))

    @property
    def broker(self) -> KafkaBroker:
        """The running broker."""
        if self._broker is None:
            raise RuntimeError("the broker runs only between prepare and stop_broker")
        return self._broker

    def prepare(self, work: Work) -> None:
        """Make the seeded source, the empty target and an empty broker."""
        seed = self.source.dsn(f"seed{work.rows}")
        prepare_source(self.source.dsn("postgres"), self.source_place.dsn, seed, work)
        prepare_target(self.target.dsn("postgres"), self.target_place.dsn)
        self.stop_broker()
        shutil.rmtree(self.folder / "kafka", ignore_errors=True)
        self._broker = KafkaBroker(self.folder / "kafka")
        self._broker.start()

    def stop_broker(self) -> None:
        """Stop the broker, if it runs."""
        if self._broker is not None:
            self._broker.stop()
            self._broker = None

    def groups(self) -> dict[str, list[int]]:
        """The server processes by group."""
        found = {"pg_source": [self.source.pid], "pg_target": [self.target.pid]}
        return found | {"kafka": [self._broker.pid]} if self._broker else found

    def settings(self) -> dict[str, dict[str, str]]:
        """What the two clusters say about their own settings."""
        return {name: server_settings(cluster.dsn("postgres")) for name, cluster in (("source", self.source), ("target", self.target))}
