"""The six systems of the demo's city: their names, where each lives, and the tables its vendor would have made."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

from connectors.postgres import connect, transaction

CONFIG = Path(__file__).parent / "config"


@dataclass(frozen=True, slots=True, kw_only=True)
class Party:
    """One system of the demo: its cluster, its database, and the DDL files that make its tables."""

    name: str
    cluster: str
    ddl: tuple[str, ...]

    @property
    def database(self) -> str:
        """The name of its database."""
        return self.name.replace("-", "_")

    @property
    def variable(self) -> str:
        """The environment variable that systems.yaml reads its DSN from."""
        return f"{self.database.upper()}_DSN"


PARTIES: dict[str, Party] = {
    party.name: party
    for party in (
        Party(name="city-portal", cluster="central", ddl=("city-portal.sql",)),
        Party(name="one-stop", cluster="central", ddl=("one-stop.sql",)),
        Party(name="dept-justice", cluster="central", ddl=("dept-justice.sql",)),
        Party(name="ward-tan-dinh", cluster="local", ddl=("ward-one-stop-v2.sql", "ward-tan-dinh.sql")),
        Party(name="ward-sai-gon", cluster="local", ddl=("ward-one-stop-v2.sql", "ward-sai-gon.sql")),
        Party(name="ward-binh-thoi", cluster="local", ddl=("ward-ho-so.sql",)),
    )
}


def create_tables(dsns: Mapping[str, str]) -> None:
    """Make every given system's tables in its empty database; `dsns` is system name -> DSN."""
    for name, dsn in dsns.items():
        connection = connect(dsn, application_name="lienthong-demo-ddl")
        try:
            with transaction(connection) as cursor:
                for file in PARTIES[name].ddl:
                    cursor.execute(resources.files("lienthong").joinpath("demo", "ddl", file).read_text(encoding="utf-8"))
        finally:
            connection.close()
