"""Choosing the language."""

from __future__ import annotations

from fastapi import APIRouter, Request, Response
from fastapi.responses import RedirectResponse

from lienthong.web.guard import LANGUAGE, Refused, local_path, set_cookie
from lienthong.web.words import LANGUAGES, phrase

routes = APIRouter()


@routes.get("/language/{language}")
def choose(request: Request, language: str, back: str = "/overview") -> Response:
    """Remember the language, and go back."""
    if language not in LANGUAGES:
        raise Refused(phrase("There is no such page."), 404)
    response = RedirectResponse(local_path(back), 303)
    set_cookie(request, response, LANGUAGE, language, seconds=365 * 86_400)
    return response
