"""Logging in and out."""

from __future__ import annotations

import secrets

from fastapi import APIRouter, Depends, Request, Response
from fastapi.responses import RedirectResponse

from connectors.postgres import rows, transaction
from lienthong.web import accounts, render, sessions
from lienthong.web.guard import FORM, SESSION, Fields, Hub, Visiting, checked, is_secure, language_of, local_path, must_match, set_cookie, settings_of
from lienthong.web.sessions import LONGEST_HOURS, TRIES_WINDOW_MINUTES
from lienthong.web.words import Said, phrase

routes = APIRouter()

OIDC_NAMES = "oidc:"
"""How the names of those begin whom the provider vouches for."""

WRONG = phrase("Name or password is wrong.")
TOO_OFTEN = phrase("Too many tries. Wait %(minutes)s minutes.", minutes=TRIES_WINDOW_MINUTES)


@routes.get("/login")
def log_in_page(request: Request, connection: Hub, next: str | None = None) -> Response:  # noqa: A002 - the name in the address
    """The form."""
    with transaction(connection) as cursor:
        has_accounts = bool(rows(cursor, "SELECT 1 FROM hub.web_user LIMIT 1"))
    return _form(request, local_path(next), None if has_accounts else phrase("There are no accounts yet."))


@routes.post("/login")
def log_in(request: Request, connection: Hub, fields: Fields) -> Response:
    """Check name and password. Each try is recorded before it is looked at, so that many at once are counted too."""
    must_match(fields, request.cookies.get(FORM))
    name, address, onward = fields.get("name", "").strip()[:100], request.client.host if request.client else "?", local_path(fields.get("next"))
    with transaction(connection) as cursor:
        shown = sessions.shown_name(cursor, name)
        if sessions.is_over_limit(cursor, shown, address):
            response = _form(request, onward, TOO_OFTEN, 429)
            response.headers["Retry-After"] = str(TRIES_WINDOW_MINUTES * 60)
            return response
        entry = sessions.note(cursor, shown, address, "refused")
    with transaction(connection) as cursor:
        account = accounts.verified(cursor, name, fields.get("password", ""))
        if account is None:
            return _form(request, onward, WRONG, 401)
        sessions.went_well(cursor, entry)
        sessions.end(cursor, request.cookies.get(SESSION))
        token = sessions.begin(cursor, account, "local")
    return logged_in(request, token, onward)


def logged_in(request: Request, token: str, onward: str) -> Response:
    """Give the browser its session, and lead on."""
    response = RedirectResponse(onward, 303)
    set_cookie(request, response, SESSION, token, seconds=LONGEST_HOURS * 3600)
    response.delete_cookie(FORM, path="/", secure=is_secure(request), httponly=True, samesite="lax")
    return response


@routes.post("/logout", dependencies=[Depends(checked)])
def log_out(request: Request, visit: Visiting) -> Response:
    """End the session; of those who came through the provider, the one there as well, where it offers that."""
    with transaction(visit.hub) as cursor:
        sessions.end(cursor, request.cookies.get(SESSION))
        sessions.note(cursor, visit.name, request.client.host if request.client else "?", "out")
    came_through = visit.name.startswith(OIDC_NAMES) and visit.settings.web.oidc is not None
    response = RedirectResponse("/login/oidc/out" if came_through else "/login", 303)
    response.delete_cookie(SESSION, path="/", secure=is_secure(request), httponly=True, samesite="lax")
    return response


def _form(request: Request, onward: str, said: Said | None, status: int = 200) -> Response:
    secret = request.cookies.get(FORM) or secrets.token_urlsafe(24)
    oidc = settings_of(request).web.oidc
    provider = None if oidc is None else oidc.name
    response = render.html("login.html", language_of(request), status, form=secret, onward=onward, said=said, provider=provider)
    set_cookie(request, response, FORM, secret, seconds=3600)
    return response
