"""The configuration as values: systems, profiles, contracts, authority. Reading the files is `lienthong.config`."""

from __future__ import annotations

from datetime import date
from typing import Annotated, Literal, Self

from pydantic import BeforeValidator, ConfigDict, Field, field_validator, model_validator

import schemas
from connectors.brokers import Brokers
from lienthong.config_deadlines import DeadlineRules
from lienthong.config_expectations import Expectations, usual
from lienthong.config_national import National
from lienthong.config_web import Web
from lienthong.errors import ConfigError
from lienthong.strict import Name, Strict

DEFAULT_ZONE = "Asia/Ho_Chi_Minh"


def _as_list(value: object) -> object:
    return [value] if isinstance(value, str) else value


Columns = Annotated[tuple[str, ...], BeforeValidator(_as_list), Field(min_length=1)]


# ------------------------------------------------------------------ profiles: how one kind of system stores its records
class Pick(Strict):
    """Which one of several rows of a part counts: the first by `order_by` (or the last)."""

    order_by: Columns
    last: bool = False


class Part(Strict):
    """A table joined to the root table; at most one row of it belongs to a root row."""

    table: str
    on: dict[str, str] = Field(min_length=1, description="part column: root column")
    where: dict[str, str | int | bool] = {}
    pick: Pick | None = None


class FieldMap(Strict):
    """Where one unified field comes from, how it is read, and how local words map to unified ones."""

    column: str | None = Field(None, description="`column` of the root table or `part.column`")
    read: str | None = Field(None, description="a named reader of lienthong.readers; default: by the field's type")
    values: dict[str | int | bool, str | int | bool] | None = Field(None, description="local word: unified word")
    path: tuple[str | int, ...] = Field((), description="path into a JSON document column")
    zone: str | None = None
    on: str | None = Field(None, description="unit codes: the unified date field at which the code is valid")
    constant: str | int | bool | None = None
    write: bool = Field(True, description="false: read only, never written back")

    @model_validator(mode="after")
    def _one_origin(self) -> Self:
        if (self.column is None) == (self.constant is None):
            raise ValueError("give exactly one of `column` or `constant`")
        return self


def _as_field(value: object) -> object:
    return {"column": value} if isinstance(value, str) else value


FieldSpec = Annotated[FieldMap, BeforeValidator(_as_field)]


class Parent(Strict):
    """Which record a child belongs to: the columns that hold the parent's local key, in the parent's key order."""

    entity: str
    columns: Columns


class Each(Strict):
    """The records are the elements of a JSON array in the root table (such a mapping is only read, never written)."""

    column: str
    path: tuple[str | int, ...] = ()
    key: str = Field(description="the member of an element that names it inside its document")


class Deleted(Strict):
    """A column that says the row is deleted: when its value is one of `when`, or with an empty `when`, when it is not null."""

    column: str
    when: tuple[str | int | bool, ...] = ()
    write: str | int | bool | None = Field(None, description="what to write there to delete; default: the first of `when`, or now()")


class EntityMap(Strict):
    """How one entity of the unified model is stored: a root table, joined parts, and a mapping for each field."""

    table: str
    key: Columns
    fields: dict[str, FieldSpec] = Field(min_length=1)
    identifiers: dict[Literal["national", "local", "linked"], str] = Field(
        default_factory=dict, description="columns of the dossier's codes: sugar for national_code, local_code, linked_code"
    )
    parts: dict[str, Part] = {}
    where: dict[str, str | int | bool] = Field(default_factory=dict, description="only root rows with these column values")
    parent: Parent | None = None
    each: Each | None = None
    deleted: Deleted | None = None
    events: str | None = Field(None, description="make a dossier_event from each value this root column ever has (the status)")
    insert: dict[str, str | int | bool] = Field(default_factory=dict, description="constants for columns a new row needs")
    write: bool = Field(True, description="false: this entity is only read from such systems")

    @model_validator(mode="after")
    def _identifiers_are_fields(self) -> Self:
        for name, column in self.identifiers.items():
            self.fields.setdefault(f"{name}_code", FieldMap(column=column))
        return self


class Profile(Strict):
    """How one kind of system stores its records."""

    version: Literal[1] = 1
    profile: Name
    description: str = ""
    zone: str = DEFAULT_ZONE
    entities: dict[str, EntityMap] = Field(min_length=1)


# ------------------------------------------------------------------ systems.yaml
class System(Strict):
    """One party that holds records, or that only reads its out-topic: then it has neither `profile` nor `dsn`."""

    model_config = ConfigDict(json_schema_extra={"dependentRequired": {"profile": ["dsn"], "dsn": ["profile"]}})

    profile: Name | None = None
    dsn: str | None = Field(None, repr=False, description="${NAME} only: secrets come from the environment")
    capture: Literal["wal", "outbox", "none"] = "outbox"
    units: tuple[str, ...] = Field((), description="unit codes it is responsible for, as of today, quoted")
    agencies: tuple[str, ...] = Field((), description="agency codes it acts for, quoted")
    kind: Literal["portal", "one-stop", "department", "ward", "population", "national-portal", "other"] = "other"
    lag_limit_seconds: int = Field(60, ge=1)
    apply: bool = True

    @property
    def has_database(self) -> bool:
        """Whether we reach a database of it; if not, it only reads its topic (`config_rules` lets nothing else be without one)."""
        return self.profile is not None and self.dsn is not None


class Hub(Strict):
    """The city's own store."""

    dsn: str = Field(repr=False)


class KafkaSecurity(Strict):
    """How to log in at the brokers and how to know them; files are PEM."""

    protocol: Literal["SSL", "SASL_SSL", "SASL_PLAINTEXT"] = "SASL_SSL"
    mechanism: Literal["SCRAM-SHA-512", "SCRAM-SHA-256", "PLAIN"] = "SCRAM-SHA-512"
    username: str | None = None
    password: str | None = Field(None, repr=False, description="${NAME} or file:/path, never written here")
    authority: str | None = Field(None, description="PEM file: who signed the brokers' certificates; without it, whom the machine trusts")
    certificate: str | None = Field(None, description="PEM file: our own certificate, where brokers ask for one")
    key: str | None = Field(None, description="PEM file of its private key")

    @model_validator(mode="after")
    def _complete(self) -> Self:
        if self.protocol != "SSL" and not (self.username and self.password):
            raise ValueError(f"{self.protocol} needs username and password; with certificates alone, write protocol: SSL")
        if bool(self.certificate) != bool(self.key):
            raise ValueError("certificate and key belong together")
        return self


class Kafka(Strict):
    """The brokers and the shape of our topics."""

    bootstrap: str
    security: KafkaSecurity | None = Field(None, description="without it, nobody logs in and nothing is encrypted: for a closed network alone")
    partitions: int = Field(4, ge=1, le=256, description="of lienthong.in")
    replication: int = Field(1, ge=1)
    registry_url: str | None = None

    @property
    def brokers(self) -> Brokers:
        """What every client is made with."""
        if self.security is None:
            return Brokers(bootstrap=self.bootstrap)
        said = self.security.model_dump()
        return Brokers(bootstrap=self.bootstrap, **said | {"mechanism": None if self.security.protocol == "SSL" else self.security.mechanism})


class Stop(Strict):
    """When a line stops instead of parking: at least so many records refused, and they are more than this share of the last ones."""

    share: float = Field(0.3, gt=0, le=1, description="1: never, everything that is refused is parked")
    records: int = Field(100, ge=1)


class Parking(Strict):
    """What happens around records that cannot be processed."""

    later: dict[str, Literal["pass", "hold"]] = Field(
        default_factory=dict,
        description="entity: whether later states of a parked record (refused by us or by a target) pass it (default) or wait behind it",
    )
    stop: Stop = Stop()

    @field_validator("later")
    @classmethod
    def _entities_exist(cls, later: dict[str, str]) -> dict[str, str]:
        unknown = sorted(set(later) - set(schemas.ENTITIES))
        if unknown:
            raise ValueError(f"there is no entity {', '.join(unknown)}; there are {', '.join(schemas.ENTITIES)}")
        return later

    def holds(self, entity: str | None) -> bool:
        """Whether later records wait behind a parked one of the same key."""
        return self.later.get(entity or "") == "hold"

    def any_holds(self) -> bool:
        """Whether they do so for any entity: if not, nothing is asked about it."""
        return "hold" in self.later.values()


class Retention(Strict):
    """For how many days what is about people is kept where nothing needs it any more: `lienthong purge`."""

    access_days: int = Field(1825, ge=365, description="who looked whom up at the national population database")
    view_days: int = Field(1825, ge=730, description="who looked at which record here, and for which purpose")
    closed_days: int = Field(90, ge=1, description="payloads of parked records, after they were closed")
    deleted_days: int = Field(365, ge=30, description="earlier values of deleted records")


class Systems(Strict):
    """systems.yaml: who takes part, and where our own hub and brokers are."""

    version: Literal[1] = 1
    hub: Hub
    kafka: Kafka
    parking: Parking = Parking()
    retention: Retention = Retention()
    systems: dict[Name, System] = Field(min_length=1)


# ------------------------------------------------------------------ authority.yaml
class Rule(Strict):
    """Whose word counts for a field group from a date on, best first, and on which legal basis.

    An entry of `order` is a system's name, `kind:ward`, or a role: `@processing` (the system responsible for the record's
    processing agency or unit) or `@receiving`.
    """

    order: Annotated[tuple[str, ...], BeforeValidator(_as_list), Field(min_length=1)]
    valid_from: date = date(1900, 1, 1)
    basis: str = Field(min_length=3, description="law, decree or agreement")


class AuthorityFile(Strict):
    """authority.yaml: entity -> field group -> rules by date."""

    version: Literal[1] = 1
    authority: dict[str, dict[str, tuple[Rule, ...]]]


# ------------------------------------------------------------------ contracts.yaml
class Scope(Strict):
    """Which records a party receives; every condition given must hold. `own` = the system's own units or agencies."""

    units: Annotated[tuple[str, ...], BeforeValidator(_as_list)] | None = None
    agencies: Annotated[tuple[str, ...], BeforeValidator(_as_list)] | None = None
    procedures: Annotated[tuple[str, ...], BeforeValidator(_as_list)] | None = None
    any_of: tuple[Scope, ...] = ()


class Grant(Strict):
    """One entity of a contract: scope, fields, masks. `fields: all` never includes the sensitive class."""

    fields: tuple[str, ...] | Literal["all"] = "all"
    where: Scope = Scope()
    mask: dict[str, Literal["last4", "year", "initials", "null"]] = {}


class Contract(Strict):
    """What one party receives, for which purpose, on which legal ground."""

    system: Name
    purpose: str = Field(min_length=3)
    legal_ground: str = Field(min_length=3)
    entities: dict[str, Grant] = Field(min_length=1)


class ContractsFile(Strict):
    """contracts.yaml."""

    version: Literal[1] = 1
    contracts: dict[Name, Contract]


class Settings(Strict):
    """Everything that was configured, checked as one."""

    hub: Hub
    kafka: Kafka
    systems: dict[str, System]
    profiles: dict[str, Profile]
    authority: dict[str, dict[str, tuple[Rule, ...]]]
    contracts: dict[str, Contract]
    parking: Parking = Parking()
    retention: Retention = Retention()
    national: National | None = None
    deadlines: DeadlineRules = DeadlineRules()
    expectations: Expectations = Field(default_factory=usual)
    web: Web = Web()

    def with_database(self) -> list[str]:
        """The systems whose database we reach, in the order of the configuration."""
        return [name for name, system in self.systems.items() if system.has_database]

    def without_database(self) -> list[str]:
        """The systems that only read their out-topic: nothing is loaded from them, written to them or compared with them."""
        return [name for name, system in self.systems.items() if not system.has_database]

    def profile_of(self, system: str) -> Profile:
        """The profile of a system; raises `ConfigError` for one without a database."""
        profile = self.systems[system].profile
        if profile is None:
            raise _no_database(system)
        return self.profiles[profile]

    def dsn_of(self, system: str) -> str:
        """Where a system's database is; raises `ConfigError` for one without."""
        dsn = self.systems[system].dsn
        if dsn is None:
            raise _no_database(system)
        return dsn

    def contract_of(self, system: str) -> Contract | None:
        """The contract of a receiving system, if it has one."""
        return next((c for c in self.contracts.values() if c.system == system), None)


def _no_database(system: str) -> ConfigError:
    return ConfigError(
        f"{system} has no database (no profile and dsn in systems.yaml): it reads lienthong.out.{system} itself, from the beginning when it "
        "has lost something; nothing can be loaded, written or compared there"
    )
