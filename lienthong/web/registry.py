"""The read API of a Confluent schema registry, answered from `schemas/`: any stock consumer can read our topics.

Schemas are released with the service, so nothing can be written here. Two rules no client forgives: a schema id decides
alone, whatever subject is asked along with it (stock clients ask for `<topic>-value`, which we do not have), and
`/associations` answers an empty list, because stock clients ask there before the first message and 405 stops them.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Any
from uuid import UUID

from fastapi import APIRouter, FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException

import schemas
from connectors.avro import SchemaError, canonical, compatibility
from schemas import Released, Schema

MEDIA_TYPE = "application/vnd.schemaregistry.v1+json"
MAX_BODY_BYTES = 1024 * 1024
_FOREVER = "public, max-age=31536000, immutable"
_READ_ONLY = "read-only: schemas are released with the service"
_ALL = -1


class RegistryError(Exception):
    """A refusal in the registry's own form; its first three digits are the HTTP status."""

    def __init__(self, error_code: int, message: str) -> None:
        super().__init__(message)
        self.error_code = error_code
        self.status = int(str(error_code)[:3])


@dataclass(frozen=True, slots=True)
class Version:
    """One version of one subject."""

    subject: str
    version: int
    released: Released

    def as_json(self) -> dict[str, Any]:
        """As the registry shows it."""
        identity = _identity(self.released)
        return {"subject": self.subject, "version": self.version, **identity, "schema": _text(self.released)}


class Catalogue:
    """The released schemas under their subjects: `<topic>-<record>` for each out-topic, and the record's name alone."""

    def __init__(self, systems: Sequence[str]) -> None:
        self.released = {version.id: version for version in schemas.released()}
        self.by_guid = {_guid(version): version for version in self.released.values()}
        self._forms = {version.id: canonical(version.schema) for version in self.released.values()}
        topics = [f"lienthong.out.{system}" for system in systems]
        self._subjects: dict[str, tuple[Version, ...]] = {}
        for name in dict.fromkeys(version.name for version in schemas.released()):
            full_name = schemas.full_name(name)
            for subject in (full_name, *(f"{topic}-{full_name}" for topic in topics)):
                self._subjects[subject] = self._versions(subject, name)

    def _versions(self, subject: str, name: str) -> tuple[Version, ...]:
        own = sorted((v for v in self.released.values() if v.name == name), key=lambda version: version.release)
        return tuple(Version(subject, number, released) for number, released in enumerate(own, start=1))

    def subjects(self, prefix: str = "") -> list[str]:
        """The subjects whose names begin with the prefix, sorted."""
        return sorted(subject for subject in self._subjects if subject.startswith(prefix))

    def schema(self, schema_id: str) -> Released:
        """The schema with an id; raises 40403."""
        if schema_id.isdecimal() and (found := self.released.get(int(schema_id))):
            return found
        raise RegistryError(40403, f"Schema {schema_id} not found")

    def versions(self, subject: str) -> tuple[Version, ...]:
        """All versions of a subject, the first released first; raises 40401."""
        if subject in self._subjects:
            return self._subjects[subject]
        raise RegistryError(40401, f"Subject '{subject}' not found.")

    def version(self, subject: str, version: str) -> Version:
        """One version of a subject by number, `latest` or -1; raises 40401, 40402 or 42202."""
        known = self.versions(subject)
        if version in ("latest", "-1"):
            return known[-1]
        if not version.isdecimal() or not 0 < int(version) < 2**31:
            raise RegistryError(42202, f"The specified version '{version}' is not a valid version id.")
        if int(version) > len(known):
            raise RegistryError(40402, f"Version {version} not found.")
        return known[int(version) - 1]

    def find(self, subject: str, schema: Schema) -> Version | None:
        """The newest version of a subject that writes the same bytes as this schema; raises 40401."""
        form = canonical(schema)
        same = (known for known in reversed(self.versions(subject)) if self._forms[known.released.id] == form)
        return next(same, None)


def _text(released: Released) -> str:
    """The schema on one line; the same text for ever, because the released file is frozen."""
    return json.dumps(released.schema, ensure_ascii=False, separators=(",", ":"))


def _guid(released: Released) -> str:
    return str(UUID(bytes=sha256(_text(released).encode()).digest()[:16]))


def _identity(released: Released) -> dict[str, Any]:
    return {"id": released.id, "guid": _guid(released)}


def _answer(content: object, status: int = 200) -> Response:
    return Response(json.dumps(content, ensure_ascii=False), status, media_type=MEDIA_TYPE)


def _immutable(request: Request, content: object) -> Response:
    """An answer that never changes: caches may keep it, and who has it already gets 304."""
    response = _answer(content)
    tag = f'"{sha256(bytes(response.body)).hexdigest()[:32]}"'
    headers = {"Cache-Control": _FOREVER, "ETag": tag}
    if tag in request.headers.get("If-None-Match", ""):
        return Response(status_code=304, headers=headers)
    response.headers.update(headers)
    return response


def _is_true(request: Request, name: str) -> bool:
    """Clients write booleans in any case; what they do not say is false."""
    return request.query_params.get(name, "").lower() == "true"


def _number(request: Request, name: str, default: int) -> int:
    given = request.query_params.get(name, "")
    try:
        return int(given) if given else default
    except ValueError:
        raise RegistryError(42202, f"'{name}' must be a number") from None


def _page(request: Request, found: list[str]) -> list[str]:
    start, limit = max(_number(request, "offset", 0), 0), _number(request, "limit", _ALL)
    return found[start:] if limit < 0 else found[start : start + limit]


async def _posted_schema(request: Request) -> Schema:
    """The schema in a request's body, whatever the body's type; raises 42201 if it is not the schema of a record."""
    body = await request.body()
    if len(body) > MAX_BODY_BYTES:
        raise RegistryError(42201, f"a body of {len(body)} bytes is longer than {MAX_BODY_BYTES}")
    try:
        asked = json.loads(body)
        if asked.get("schemaType") not in (None, "AVRO"):
            raise RegistryError(42201, f"schema type {asked['schemaType']} is not served, only AVRO")
        schema: Schema = json.loads(asked["schema"])
        canonical(schema)
    except (AttributeError, KeyError, TypeError, ValueError, RecursionError, SchemaError) as error:
        raise RegistryError(42201, f"Invalid schema: {error}") from None
    return schema


def router(systems: Sequence[str]) -> APIRouter:
    """The routes, for the out-topics of these systems."""
    routes = APIRouter()
    catalogue = Catalogue(systems)
    _add_general_routes(routes)
    _add_schema_routes(routes, catalogue)
    _add_subject_routes(routes, catalogue)
    _add_version_routes(routes, catalogue)
    _add_posted_routes(routes, catalogue)
    return routes


def _anything_else(request: Request, path: str) -> Response:
    """Never 405: clients take 404 for "this registry is older", and anything else for a failure."""
    if request.method in ("PUT", "DELETE", "PATCH"):
        raise RegistryError(42205, _READ_ONLY)
    raise RegistryError(404, f"HTTP 404 Not Found: /{path}")


def _add_general_routes(routes: APIRouter) -> None:
    answers: dict[str, object] = {
        "/": {},
        "/associations/resources/{namespace}/{topic}": [],
        "/config": {"compatibilityLevel": "FULL_TRANSITIVE"},
        "/config/{subject}": {"compatibilityLevel": "FULL_TRANSITIVE"},
        "/contexts": ["."],
        "/mode": {"mode": "READONLY"},
        "/mode/{subject}": {"mode": "READONLY"},
        "/schemas/types": ["AVRO"],
    }
    for path, content in answers.items():
        routes.add_api_route(path, _always(content), methods=["GET"], name=path)


def _always(content: object) -> Callable[[], Response]:
    return lambda: _answer(content)


def _add_schema_routes(routes: APIRouter, catalogue: Catalogue) -> None:
    @routes.get("/schemas/ids/{schema_id}")
    def schema_by_id(request: Request, schema_id: str) -> Response:
        found = catalogue.schema(schema_id)
        if _is_true(request, "fetchMaxId"):
            return _answer({"schema": _text(found), "guid": _guid(found), "maxId": max(catalogue.released)})
        return _immutable(request, {"schema": _text(found), "guid": _guid(found)})

    @routes.get("/schemas/guids/{guid}")
    def schema_by_guid(request: Request, guid: str) -> Response:
        if guid.lower() not in catalogue.by_guid:
            raise RegistryError(40403, f"Schema {guid} not found")
        return _immutable(request, {"schema": _text(catalogue.by_guid[guid.lower()]), "guid": guid.lower()})

    @routes.get("/schemas/ids/{schema_id}/schema")
    def schema_text(request: Request, schema_id: str) -> Response:
        return _immutable(request, catalogue.schema(schema_id).schema)

    @routes.get("/schemas/ids/{schema_id}/versions")
    def schema_versions(schema_id: str) -> Response:
        found = catalogue.schema(schema_id)
        versions = [v for subject in catalogue.subjects() for v in catalogue.versions(subject) if v.released is found]
        return _answer([{"subject": version.subject, "version": version.version} for version in versions])

    @routes.get("/schemas/ids/{schema_id}/subjects")
    def schema_subjects(request: Request, schema_id: str) -> Response:
        found = catalogue.schema(schema_id)
        subjects = [s for s in catalogue.subjects() if any(v.released is found for v in catalogue.versions(s))]
        return _answer(_page(request, subjects))


def _add_subject_routes(routes: APIRouter, catalogue: Catalogue) -> None:
    @routes.get("/subjects")
    def subjects(request: Request) -> Response:
        if _is_true(request, "deletedOnly") or _is_true(request, "deleted_only"):
            return _answer([])
        return _answer(_page(request, catalogue.subjects(_prefix(request))))

    @routes.get("/subjects/{subject}/versions")
    def versions(request: Request, subject: str) -> Response:
        known = catalogue.versions(subject)
        if _is_true(request, "deletedOnly") or _is_true(request, "deleted_only"):
            return _answer([])
        return _answer([version.version for version in known])

    @routes.get("/subjects/{subject}/metadata")
    def metadata(subject: str) -> Response:
        catalogue.versions(subject)
        raise RegistryError(40402, f"Subject '{subject}' has no version with metadata.")


def _add_version_routes(routes: APIRouter, catalogue: Catalogue) -> None:
    @routes.get("/subjects/{subject}/versions/{version}")
    def version(subject: str, version: str) -> Response:
        return _answer(catalogue.version(subject, version).as_json())

    @routes.get("/subjects/{subject}/versions/{version}/schema")
    def version_schema(subject: str, version: str) -> Response:
        return _answer(catalogue.version(subject, version).released.schema)

    @routes.get("/subjects/{subject}/versions/{version}/referencedby")
    def version_references(subject: str, version: str) -> Response:
        catalogue.version(subject, version)
        return _answer([])


def _prefix(request: Request) -> str:
    """`subjectPrefix` may name a context; ours is the default one, `:.:`, and `:*:` means all."""
    prefix = request.query_params.get("subjectPrefix", "")
    return "" if prefix == ":*:" else prefix.removeprefix(":.:")


def _add_posted_routes(routes: APIRouter, catalogue: Catalogue) -> None:
    @routes.post("/subjects/{subject}")
    async def look_up(request: Request, subject: str) -> Response:
        catalogue.versions(subject)
        found = catalogue.find(subject, await _posted_schema(request))
        if found is None:
            raise RegistryError(40403, "Schema not found")
        return _answer(found.as_json())

    @routes.post("/subjects/{subject}/versions")
    async def register(request: Request, subject: str) -> Response:
        schema = await _posted_schema(request)
        found = catalogue.find(subject, schema) if subject in catalogue.subjects() else None
        if found is None:
            raise RegistryError(42205, _READ_ONLY)
        return _answer(_identity(found.released))

    @routes.post("/compatibility/subjects/{subject}/versions")
    async def compatible(request: Request, subject: str) -> Response:
        schema = await _posted_schema(request)
        return _compatible(request, schema, catalogue.versions(subject))

    @routes.post("/compatibility/subjects/{subject}/versions/{version}")
    async def compatible_with(request: Request, subject: str, version: str) -> Response:
        schema = await _posted_schema(request)
        return _compatible(request, schema, (catalogue.version(subject, version),))


def _compatible(request: Request, schema: Schema, versions: Sequence[Version]) -> Response:
    """Both directions against each version; the messages name the field and who cannot read it."""
    messages = []
    for known in versions:
        ours, name = known.released.schema, f"version {known.version}"
        messages += [f"{text} (breaks reader {name})" for text in compatibility(ours, schema)]
        messages += [f"{text} (breaks the posted reader on {name})" for text in compatibility(schema, ours)]
    answer: dict[str, object] = {"is_compatible": not messages}
    if messages or _is_true(request, "verbose"):
        answer["messages"] = messages
    return _answer(answer)


def _refusal(_: Request, error: Exception) -> Response:
    assert isinstance(error, RegistryError)
    return _answer({"error_code": error.error_code, "message": str(error)}, error.status)


def _http_refusal(_: Request, error: Exception) -> Response:
    """An unknown path or verb, said in the registry's form."""
    assert isinstance(error, HTTPException)
    message = f"HTTP {error.status_code} {error.detail}"
    return _answer({"error_code": error.status_code, "message": message}, error.status_code)


def _failure(_: Request, error: Exception) -> Response:
    """Our own defect; the text of the error may hold anything, so it stays here."""
    return _answer({"error_code": 50001, "message": "Error in the backend data store"}, 500)


def create_app(systems: Sequence[str], *more: APIRouter) -> FastAPI:
    """The registry as an application of its own, for the out-topics of these systems; `more` routes come before its answer to the rest."""
    app = FastAPI(title="lienthong schema registry", docs_url=None, redoc_url=None, openapi_url=None)
    for routes in (router(systems), *more):
        app.include_router(routes)
    every_verb = ["GET", "HEAD", "POST", "PUT", "DELETE", "PATCH", "OPTIONS"]
    app.add_api_route("/{path:path}", _anything_else, methods=every_verb)
    app.add_exception_handler(RegistryError, _refusal)
    app.add_exception_handler(HTTPException, _http_refusal)
    app.add_exception_handler(RequestValidationError, _failure)
    app.add_exception_handler(Exception, _failure)
    return app
