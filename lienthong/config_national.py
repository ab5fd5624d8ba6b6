"""national.yaml: where the national services are, how we log in there, how much we may ask of them. The file may be missing."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from lienthong.config_files import Document, Path_
from lienthong.problems import Problem, did_you_mean
from lienthong.strict import Name, Strict

if TYPE_CHECKING:
    from lienthong.settings import Contract, System

FILE = "national.yaml"
SECTIONS = ("population", "portal", "unit_register")

_SECRETS = {"secret", "token"}
"""Keys whose value may only come from outside of the file."""

_ADDRESS = re.compile(r"^https?://[^/@\s]+(/[^\s]*)?$")
_VARIABLE = re.compile(r"\$\{[^}]+\}|^file:")

Secret = Annotated[str, Field(min_length=1, repr=False)]
Endpoint = Annotated[str, Field(min_length=1, description="http(s) address; ${NAME} is filled in from the environment")]


# ------------------------------------------------------------------ how we say who we are
class Hmac(Strict):
    """A time-stamped header signed with a shared secret."""

    kind: Literal["hmac"]
    user: str
    secret: Secret


class AccessToken(Strict):
    """A fixed token in a header."""

    kind: Literal["access-token"]
    token: Secret


class XRoad(Strict):
    """The client and service names of the national data exchange platform; the secure channel is the platform's own."""

    kind: Literal["x-road"]
    client: str = Field(description="INSTANCE/CLASS/MEMBER/SUBSYSTEM of ours")
    service: str = Field(description="INSTANCE/CLASS/MEMBER/SUBSYSTEM of theirs, without the operation")


class WsseUsername(Strict):
    """WS-Security with a user name and a password digest."""

    kind: Literal["wsse-username"]
    user: str
    secret: Secret


class WsseX509(Strict):
    """WS-Security with a signature (SHA-256) over body and time stamp, and answers signed the same way."""

    kind: Literal["wsse-x509"]
    certificate: str = Field(description="PEM file: our certificate")
    key: str = Field(description="PEM file: its private key")
    authority: str = Field(description="PEM file: whose certificates the answers must be signed with")


Auth = Annotated[Hmac | AccessToken | XRoad | WsseUsername | WsseX509, Field(discriminator="kind")]


# ------------------------------------------------------------------ the services
class Service(Strict):
    """What all national services have in common."""

    endpoint: Endpoint
    rate_per_second: float = Field(20, gt=0, description="the contract rate, of all our processes together")
    deadline_seconds: float = Field(10, gt=0, le=600, description="from the call to the last byte of the answer")
    rest_seconds: float = Field(30, gt=0, description="how long nothing is asked after five failures in a row, before one request tries again")
    authority: str | None = Field(None, description="PEM file of the certificate authority, where it is none of the system's")
    certificate: str | None = Field(None, description="PEM file of our client certificate (mutual TLS)")
    key: str | None = Field(None, description="PEM file of its private key")


class Population(Service):
    """The national population database."""

    system: Name
    messages: Literal["practice", "qcvn109"] = "practice"
    auth: Auth
    unit: str = Field(min_length=1, description="MaDVC / MaDonVi")
    integration: str = Field(min_length=1, description="MaTichHop")
    remember_days: float = Field(30, ge=0)
    remember_missing_days: float = Field(1, ge=0)


class Portal(Service):
    """The national public service portal."""

    system: Name
    variant: Literal["lgsp", "ministry"] = "lgsp"
    user: str = Field(min_length=1, description="of the log-in; with variant ministry the client id")
    secret: Secret
    unit: str = Field(min_length=1, description="madonvi: the unit that reports")
    destination: str | None = Field(None, description="destination code of the log-in, where the platform wants one")
    rate_per_second: float = Field(200, gt=0, description="the contract rate, of all our processes together")
    deadline_seconds: float = Field(15, gt=0, le=600, description="from the call to the last byte of the answer")
    parallel: int = Field(16, ge=1, le=64, description="messages under way at the same time in one process, of different dossiers")
    files: tuple[str, ...] = Field((), description="with variant ministry: where papers may be fetched; http(s) addresses that end with a slash")
    applicant_kinds: dict[int, str] | None = Field(None, description="unified kind: the portal's LoaiDoiTuong; default: the variant's own list")


class UnitRegister(Service):
    """The national register of administrative units (DMDVHC)."""

    auth: Auth | None = None


class National(Strict):
    """national.yaml."""

    version: Literal[1] = 1
    population: Population | None = None
    portal: Portal | None = None
    unit_register: UnitRegister | None = None


# ------------------------------------------------------------------ places and checks in the file
def texts(document: Document) -> list[Path_]:
    """Every place with a text in it: `${NAME}` and `file:` are filled in at each."""
    return list(_texts(document.value, ()))


def _texts(value: object, path: Path_) -> Iterator[Path_]:
    if isinstance(value, dict):
        for key, inside in value.items():
            yield from _texts(inside, (*path, key))
    elif isinstance(value, list):
        for number, inside in enumerate(value):
            yield from _texts(inside, (*path, number))
    elif isinstance(value, str):
        yield path


def literal_secrets(document: Document) -> Iterator[Problem]:
    """Secrets that are written in the file itself; to be asked before they are filled in."""
    for path in texts(document):
        if path[-1] in _SECRETS and not _VARIABLE.search(str(document.at(path))):
            hint = "write ${NAME} and set the variable NAME, or file:/path"
            yield document.problem(path, "CFG-SECRET", "a secret is written in the file", hint)


def national_problems(document: Document, systems: dict[str, System], contracts: dict[str, Contract]) -> Iterator[Problem]:
    """What does not fit the other files."""
    for section in SECTIONS:
        endpoint = document.at((section, "endpoint"))
        if isinstance(endpoint, str) and not _VARIABLE.search(endpoint) and not _ADDRESS.match(endpoint):
            hint = "an http(s) address without user and password"
            yield document.problem((section, "endpoint"), "CFG-VALUE", "not the address of a service", hint)
    yield from _places(document)
    for section, kind in (("population", "population"), ("portal", "national-portal")):
        yield from _party(document, section, kind, systems)
    yield from _contract(document, contracts)


def _places(document: Document) -> Iterator[Problem]:
    """Where papers may be fetched: a whole folder each, because a link that merely begins alike may lead to another host."""
    found = document.at(("portal", "files"))
    if found and document.at(("portal", "variant")) != "ministry":
        yield document.problem(("portal", "files"), "CFG-VALUE", "papers are put at the portal with variant ministry only", "leave files out")
    for number, place in enumerate(found if isinstance(found, list) else []):
        if isinstance(place, str) and not _VARIABLE.search(place) and not (_ADDRESS.match(place) and place.endswith("/")):
            hint = "an http(s) address without user and password that ends with a slash"
            yield document.problem(("portal", "files", number), "CFG-VALUE", "not a place to fetch papers from", hint)


def _party(document: Document, section: str, kind: str, systems: dict[str, System]) -> Iterator[Problem]:
    """The service is a system of its own, of the right kind and without a database."""
    path: Path_ = (section, "system")
    name = document.at(path)
    if not isinstance(name, str):
        return
    found = systems.get(name)
    if found is None:
        yield document.problem(path, "CFG-SYSTEM", f"there is no system {name} in systems.yaml", did_you_mean(name, systems))
    elif found.kind != kind or found.has_database or found.capture != "none" or found.apply:
        hint = f"write {{kind: {kind}, capture: none, apply: false}}, without profile and dsn"
        yield document.problem(path, "CFG-SYSTEM", f"{name} is no system of that sort in systems.yaml", hint)


def _contract(document: Document, contracts: dict[str, Contract]) -> Iterator[Problem]:
    """What is delivered is what its contract says, unmasked: a masked name would be sent as if it were the name."""
    path: Path_ = ("portal", "system")
    name = document.at(path)
    if not isinstance(name, str):
        return
    found = next((contract for contract in contracts.values() if contract.system == name), None)
    if found is None:
        hint = "what is delivered is what its contract entitles it to"
        yield document.problem(path, "CFG-CONTRACT", f"{name} has no contract in contracts.yaml", hint)
        return
    if "dossier" not in found.entities:
        yield document.problem(path, "CFG-CONTRACT", f"the contract of {name} grants no dossier", "progress needs its dossier")
    for field in (f"{entity}.{masked}" for entity, grant in found.entities.items() for masked in grant.mask):
        message = f"the contract of {name} masks {field}, and what is masked would be delivered as if it were the value"
        yield document.problem(path, "CFG-CONTRACT", message, "leave the field out of the contract, or unmasked")
