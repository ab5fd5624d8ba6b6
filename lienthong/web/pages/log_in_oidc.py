"""Logging in through an OpenID Connect provider."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fastapi import APIRouter, Request, Response
from fastapi.responses import RedirectResponse
from starlette.concurrency import run_in_threadpool

from connectors.oidc import Provider
from connectors.postgres import Connection, connect, transaction
from lienthong import hub
from lienthong.config_web import Oidc
from lienthong.errors import TransientError
from lienthong.settings import Settings
from lienthong.web import render, sessions
from lienthong.web.accounts import Account
from lienthong.web.guard import HANDSHAKE, Refused, is_secure, language_of, local_path, set_cookie, settings_of
from lienthong.web.pages.log_in import OIDC_NAMES, logged_in
from lienthong.web.words import phrase

routes = APIRouter()

ROLES_BY_POWER = ("auditor", "operator", "viewer")
WHOLE_CITY = "*"
NAME_MAX_CHARACTERS = 64
NOT_PROVED = phrase("The log-in provider did not say who you are, or the log-in took too long. Try again.")
NO_ROLE = phrase("The log-in provider knows you, but gives you no role here.")


@routes.get("/login/oidc")
async def lead_there(request: Request, next: str | None = None) -> Response:  # noqa: A002 - the name in the address
    """To the provider."""
    settings = settings_of(request)
    response, remembered = await _provider(request).lead_there(request, f"{settings.web.address}/login/oidc/back")
    token = await run_in_threadpool(_remember, settings, {"session": remembered, "next": local_path(next)})
    set_cookie(request, response, HANDSHAKE, token, seconds=sessions.HANDSHAKE_MINUTES * 60)
    return response


@routes.get("/login/oidc/back")
async def came_back(request: Request) -> Response:
    """From the provider."""
    provider, settings = _provider(request), settings_of(request)
    remembered = await run_in_threadpool(_recall, settings, request.cookies.get(HANDSHAKE))
    if remembered is None:
        raise Refused(NOT_PROVED, 401)
    claims = await provider.claims(request, remembered["session"])
    assert settings.web.oidc is not None
    if claims is None:
        raise Refused(NOT_PROVED, 401)
    account = account_of(settings.web.oidc, claims)
    if account is None:
        raise Refused(NO_ROLE)
    address = request.client.host if request.client else "?"
    token = await run_in_threadpool(_log_in, settings, account, address)
    response = logged_in(request, token, local_path(remembered["next"]))
    response.delete_cookie(HANDSHAKE, path="/", secure=is_secure(request), httponly=True, samesite="lax")
    return response


@routes.get("/login/oidc/out")
async def out(request: Request) -> Response:
    """After the end of our session: on to the end of the provider's, by a page, because a form of ours may lead to no other site."""
    provider, settings = _provider(request), settings_of(request)
    assert settings.web.oidc is not None
    try:
        there = await provider.log_out_there(f"{settings.web.address}/login")
    except TransientError:
        there = None
    if there is None:
        return RedirectResponse("/login", 303)
    response = render.html("logged_out.html", language_of(request), provider=settings.web.oidc.name, there=there)
    response.headers["Refresh"] = f"0; url={there}"
    return response


def account_of(config: Oidc, claims: Mapping[str, Any]) -> Account | None:
    """Who somebody is by the provider's claims; None for somebody without a name, a role or, where they are asked for, agencies."""
    name = str(claims.get(config.name_claim) or claims.get("sub") or "")[:NAME_MAX_CHARACTERS]
    given = {config.roles[value] for value in _texts(claims.get(config.role_claim)) if value in config.roles}
    role = next((role for role in ROLES_BY_POWER if role in given), None)
    agencies = _texts(claims.get(config.agency_claim)) if config.agency_claim else [WHOLE_CITY]
    if not name or role is None or not agencies:
        return None
    return Account(name, role, () if WHOLE_CITY in agencies else tuple(sorted(agencies)))


def _texts(value: Any) -> list[str]:
    return [value] if isinstance(value, str) and value else [each for each in value if isinstance(each, str)] if isinstance(value, list) else []


def _provider(request: Request) -> Provider:
    """The provider, made once for each server: it keeps what it has read of its addresses and keys."""
    config = settings_of(request).web.oidc
    if config is None:
        raise Refused(phrase("There is no such page."), 404)
    if not hasattr(request.app.state, "provider"):
        request.app.state.provider = Provider(
            issuer=config.issuer, client_id=config.client_id, client_secret=config.client_secret, scopes=config.scopes
        )
    found: Provider = request.app.state.provider
    return found


# ------------------------------------------------------------------ the hub, away from the event loop
def _open(settings: Settings) -> Connection:
    with hub.named():
        return connect(settings.hub.dsn, application_name="lienthong web", connect_timeout_seconds=3)


def _remember(settings: Settings, content: dict[str, Any]) -> str:
    connection = _open(settings)
    try:
        with transaction(connection) as cursor:
            return sessions.keep_handshake(cursor, content)
    finally:
        connection.close()


def _recall(settings: Settings, token: str | None) -> dict[str, Any] | None:
    connection = _open(settings)
    try:
        with transaction(connection) as cursor:
            return sessions.take_handshake(cursor, token)
    finally:
        connection.close()


def _log_in(settings: Settings, account: Account, address: str) -> str:
    connection = _open(settings)
    try:
        with transaction(connection) as cursor:
            sessions.note(cursor, f"{OIDC_NAMES}{account.name}", address, "in")
            return sessions.begin(cursor, Account(f"{OIDC_NAMES}{account.name}", account.role, account.agencies), "oidc")
    finally:
        connection.close()
