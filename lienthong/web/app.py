"""What `lienthong run serve` answers: the pages for people, and for everything else the registry and the metrics."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from importlib.resources import files
from urllib.parse import quote

from anyio import to_thread
from fastapi import APIRouter, FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import RedirectResponse
from starlette.exceptions import HTTPException
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp, Receive, Scope, Send

from lienthong.errors import LienThongError, TransientError
from lienthong.settings import Settings
from lienthong.web import metrics, registry, render
from lienthong.web.guard import Headers, NotLoggedIn, Refused, language_of
from lienthong.web.pages import PAGES
from lienthong.web.words import phrase

AT_ONCE = 12


def create(settings: Settings) -> ASGIApp:
    """The whole server for one configuration."""
    return _Switch(pages(settings, PAGES), registry.create_app(sorted(settings.systems), metrics.router(settings)))


def pages(settings: Settings, routers: Sequence[APIRouter]) -> FastAPI:
    """The pages as an application of their own."""
    app = FastAPI(title="Liên Thông", docs_url=None, redoc_url=None, openapi_url=None, lifespan=_few_at_once)
    app.state.settings = settings
    for router in routers:
        app.include_router(router)
    app.mount("/static", StaticFiles(directory=str(files("lienthong.web").joinpath("static"))), name="static")
    app.add_middleware(Headers)
    app.add_exception_handler(NotLoggedIn, _to_log_in)
    app.add_exception_handler(Refused, _refused)
    app.add_exception_handler(LienThongError, _failed)
    app.add_exception_handler(HTTPException, _not_there)
    app.add_exception_handler(RequestValidationError, _not_there)
    return app


@asynccontextmanager
async def _few_at_once(_: FastAPI) -> AsyncIterator[None]:
    """Each page at work holds a connection or two to the hub, and the lines need theirs."""
    to_thread.current_default_thread_limiter().total_tokens = AT_ONCE
    yield


class _Switch:
    """People's pages and machines' paths on one port; the registry's own root belongs to its clients, so browsers are led on from there."""

    def __init__(self, for_people: FastAPI, for_machines: ASGIApp) -> None:
        self._people, self._machines = for_people, for_machines
        self._first = {str(getattr(route, "path", "")).split("/")[1] for route in for_people.routes}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"].split("/")[1] in self._first:
            await self._people(scope, receive, send)
        elif scope["path"] == "/" and _wants_html(scope):
            await RedirectResponse("/overview", 303)(scope, receive, send)
        else:
            await self._machines(scope, receive, send)


def _wants_html(scope: Scope) -> bool:
    return any(name == b"accept" and b"text/html" in value for name, value in scope["headers"])


def _to_log_in(request: Request, _: Exception) -> Response:
    path = request.url.path if request.method == "GET" else "/overview"
    return RedirectResponse(f"/login?next={quote(path)}", 303)


def _refused(request: Request, error: Exception) -> Response:
    assert isinstance(error, Refused)
    return render.html("problem.html", language_of(request), error.status, title=phrase("Not possible"), said=error.said, code=None, is_away=False)


def _not_there(request: Request, _: Exception) -> Response:
    return render.html(
        "problem.html", language_of(request), 404, title=phrase("Not found"), said=phrase("There is no such page."), code=None, is_away=False
    )


def _failed(request: Request, error: Exception) -> Response:
    """A hub that does not answer, most of all; our errors never hold a record's values."""
    assert isinstance(error, LienThongError)
    is_away = isinstance(error, TransientError)
    title = phrase("The hub does not answer") if is_away else phrase("This did not work")
    said = phrase(str(error))
    return render.html("problem.html", language_of(request), 503 if is_away else 400, title=title, said=said, code=error.code, is_away=is_away)
