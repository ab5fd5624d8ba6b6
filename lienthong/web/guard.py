"""What stands before every page: the session, the role, the form's secret, and the headers of the answer."""

from __future__ import annotations

import secrets
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Annotated, Any

from fastapi import Depends, Request, Response
from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from connectors.postgres import Connection, connect, transaction
from lienthong import hub
from lienthong.settings import Settings
from lienthong.web import render, sessions
from lienthong.web.scope import Scope as Seen
from lienthong.web.scope import may, scope_of
from lienthong.web.sessions import Session
from lienthong.web.words import Said, Words, chosen, phrase

SESSION = "lienthong_session"
FORM = "lienthong_form"
HANDSHAKE = "lienthong_handshake"
LANGUAGE = "lienthong_language"

PAGE_POLICY = (
    "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self'; connect-src 'self'; form-action 'self'; "
    "frame-ancestors 'none'; base-uri 'none'"
)
HEADERS = {
    "Content-Security-Policy": PAGE_POLICY,
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=(), payment=()",
    "Cache-Control": "no-store",
}
"""OWASP Secure Headers Project; nothing inline, nothing from elsewhere, nothing kept by browsers or proxies."""

BODY_MAX_BYTES = 64 * 1024


class NotLoggedIn(Exception):
    """The page is for those who are logged in."""


class Refused(Exception):
    """What was asked for is not for this person, or not in this way."""

    def __init__(self, said: Said, status: int = 403) -> None:
        super().__init__(said.text)
        self.said, self.status = said, status


@dataclass(slots=True)
class Visit:
    """One request of somebody who is logged in, with a connection to the hub."""

    request: Request
    settings: Settings
    hub: Connection
    session: Session
    words: Words
    seen: Seen

    @property
    def name(self) -> str:
        """Who it is, for the records of what was done."""
        return self.session.account.name

    def may(self, action: str) -> bool:
        """Whether this person may do something."""
        return may(self.session.account, action)

    def need(self, action: str) -> None:
        """Raise `Refused` for somebody who may not."""
        if not self.may(action):
            raise Refused(phrase("Your role may not do this."))

    def need_system(self, name: str) -> None:
        """Raise `Refused` for a system that there is not, or that is not theirs: both look the same."""
        if name not in self.settings.systems or not self.seen.sees(name):
            raise Refused(phrase("There is no such system, or you may not see it."), 404)

    def systems(self) -> list[str]:
        """The systems that this person sees."""
        return [name for name in sorted(self.settings.systems) if self.seen.sees(name)]

    def page(self, template: str, status: int = 200, **values: Any) -> Response:
        """The page, with what all pages show."""
        return render.html(template, self.words, status, visit=self, path=self.request.url.path, form=self.session.form, **values)


def language_of(request: Request) -> Words:
    """The reader's language."""
    return Words(chosen(request.cookies.get(LANGUAGE), request.headers.get("Accept-Language", "")))


def settings_of(request: Request) -> Settings:
    """The configuration that the server was started with."""
    settings: Settings = request.app.state.settings
    return settings


def connection_of(request: Request) -> Iterator[Connection]:
    """A connection to the hub for one request."""
    with hub.named():
        connection = connect(settings_of(request).hub.dsn, application_name="lienthong web", connect_timeout_seconds=3)
    try:
        with hub.named():
            yield connection
    finally:
        connection.close()


Hub = Annotated[Connection, Depends(connection_of)]


def visit_of(request: Request, connection: Hub) -> Visit:
    """The visit of whoever is logged in; raises `NotLoggedIn`."""
    with transaction(connection) as cursor:
        session = sessions.find(cursor, request.cookies.get(SESSION))
    if session is None:
        raise NotLoggedIn
    settings = settings_of(request)
    return Visit(request, settings, connection, session, language_of(request), scope_of(settings, session.account))


Visiting = Annotated[Visit, Depends(visit_of)]


# ------------------------------------------------------------------ forms
async def fields_of(request: Request) -> dict[str, str]:
    """The fields of a posted form; raises `Refused` for one of another site or one that is too long."""
    if request.headers.get("Sec-Fetch-Site", "same-origin") not in ("same-origin", "none"):
        raise Refused(phrase("This form came from another site."))
    if int(request.headers.get("Content-Length") or BODY_MAX_BYTES + 1) > BODY_MAX_BYTES:
        raise Refused(phrase("This form is too long."), 413)
    async with request.form(max_files=0, max_fields=50) as form:
        return {name: value for name, value in form.items() if isinstance(value, str)}


Fields = Annotated[dict[str, str], Depends(fields_of)]


def checked(visit: Visiting, fields: Fields) -> dict[str, str]:
    """The fields of a form that this session was given; raises `Refused` for any other."""
    must_match(fields, visit.session.form)
    return fields


Posted = Annotated[dict[str, str], Depends(checked)]


def must_match(fields: Mapping[str, str], secret: str | None) -> None:
    """Raise `Refused` when a form does not bring back the secret it was given."""
    if not secret or not secrets.compare_digest(fields.get("form", "").encode(), secret.encode()):
        raise Refused(phrase("This form is too old, or came from elsewhere. Open the page again."))


# ------------------------------------------------------------------ cookies and headers
def is_secure(request: Request) -> bool:
    """Whether browsers reach us over TLS."""
    return request.url.scheme == "https"


def set_cookie(request: Request, response: Response, name: str, value: str, *, seconds: int) -> None:
    """A cookie that no script reads and no other site sends along with a form."""
    response.set_cookie(name, value, max_age=seconds, path="/", secure=is_secure(request), httponly=True, samesite="lax")


def local_path(wanted: str | None) -> str:
    """Where to go next, if that is a page of ours."""
    is_ours = wanted is not None and wanted.startswith("/") and not wanted.startswith(("//", "/\\")) and wanted.isprintable()
    return str(wanted) if is_ours else "/overview"


class Headers:
    """Puts the headers on every answer that does not bring its own."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request."""

        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers.setdefault(name, value)
                if scope.get("scheme") == "https":
                    headers.setdefault("Strict-Transport-Security", "max-age=31536000")
            await send(message)

        await self.app(scope, receive, with_headers)
