"""web.yaml: where browsers reach the page, and the log-in provider. The file may be missing: then there are local accounts only."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Literal

from pydantic import Field

from lienthong.config_files import Document, Path_
from lienthong.problems import Problem
from lienthong.strict import Strict

FILE = "web.yaml"
SECRET: Path_ = ("oidc", "client_secret")
EXPANDED: tuple[Path_, ...] = (("address",), ("oidc", "issuer"), ("oidc", "client_id"), SECRET)
"""Where `${NAME}` and `file:` are filled in."""

_ADDRESS = r"^https?://[^/@\s?#]+(/[^\s?#]*)?$"
Role = Literal["viewer", "operator", "auditor"]


class Oidc(Strict):
    """An OpenID Connect provider: who it vouches for may log in, as what its claims say."""

    name: str = Field("OpenID Connect", min_length=1, max_length=60, description="on the button")
    issuer: str = Field(pattern=_ADDRESS, description="exactly as its tokens say it")
    client_id: str = Field(min_length=1)
    client_secret: Annotated[str, Field(min_length=1, repr=False)]
    scopes: tuple[str, ...] = ("openid", "profile")
    name_claim: str = Field("preferred_username", description="the name that stands in the records of who looked at what")
    role_claim: str = Field("roles", description="a text or a list of texts")
    roles: dict[str, Role] = Field(min_length=1, description="value of the claim: role; who has none may not log in")
    agency_claim: str | None = Field(None, description="codes of agencies, or * for the whole city; who has none may not log in")


class Web(Strict):
    """web.yaml."""

    version: Literal[1] = 1
    address: str | None = Field(None, pattern=_ADDRESS, description="where browsers reach the page, without a path at its end")
    oidc: Oidc | None = None


def web_problems(document: Document) -> Iterator[Problem]:
    """What pydantic cannot say: a secret in the file, and a provider without an address to come back to."""
    secret = document.at(SECRET)
    if isinstance(secret, str) and not secret.startswith(("${", "file:")):
        yield document.problem(SECRET, "CFG-SECRET", "a secret is written in the file", "write ${NAME} and set the variable NAME, or file:/path")
    if document.at(("oidc",)) is not None and document.at(("address",)) is None:
        yield document.problem(("oidc",), "CFG-VALUE", "the provider must know where to send browsers back to", "add address: https://…")
