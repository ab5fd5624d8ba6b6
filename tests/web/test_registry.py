"""The registry's read API, asked as stock clients ask it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from copy import deepcopy
from typing import Any

import pytest
from fastapi.testclient import TestClient
from httpx import Response

import schemas
from lienthong.web.registry import MEDIA_TYPE, create_app

SYSTEMS = ("city-portal", "ward-tan-dinh")
FEE = "vn.lienthong.Fee"
SUBJECT = f"lienthong.out.ward-tan-dinh-{FEE}"
FEE_ID = schemas.schema_id("fee")
ACCEPT = {"Accept": "application/vnd.schemaregistry.v1+json, application/vnd.schemaregistry+json, application/json"}


@pytest.fixture(scope="module")
def client() -> Iterator[TestClient]:
    with TestClient(create_app(SYSTEMS), headers=ACCEPT, raise_server_exceptions=False) as client:
        yield client


def body_of(schema: dict[str, Any]) -> dict[str, Any]:
    return {"schema": json.dumps(schema), "schemaType": "AVRO"}


def fee_without(name: str) -> dict[str, Any]:
    schema = deepcopy(schemas.raw("fee"))
    schema["fields"] = [field for field in schema["fields"] if field["name"] != name]
    return schema


def assert_refused(response: Response, error_code: int) -> None:
    assert (response.status_code, response.json()["error_code"]) == (int(str(error_code)[:3]), error_code)
    assert set(response.json()) == {"error_code", "message"}
    assert response.json()["message"]
    assert response.headers["content-type"] == MEDIA_TYPE


GET_ANSWERS: list[tuple[str, object]] = [
    ("/", {}),
    ("/associations/resources/-/lienthong.out.test?resourceType=topic&associationType=value&offset=0&limit=1", []),
    ("/associations/resources/lkc-1/some.topic?associationType=key", []),
    ("/config", {"compatibilityLevel": "FULL_TRANSITIVE"}),
    (f"/config/{SUBJECT}?defaultToGlobal=true", {"compatibilityLevel": "FULL_TRANSITIVE"}),
    ("/contexts", ["."]),
    ("/mode", {"mode": "READONLY"}),
    (f"/mode/{SUBJECT}?defaultToGlobal=True", {"mode": "READONLY"}),
    ("/schemas/types", ["AVRO"]),
    (f"/schemas/ids/{FEE_ID}/schema", schemas.raw("fee")),
    (f"/schemas/ids/{FEE_ID}/subjects", sorted([FEE, *(f"lienthong.out.{system}-{FEE}" for system in SYSTEMS)])),
    (f"/schemas/ids/{FEE_ID}/subjects?limit=1&offset=2", [FEE]),
    (
        f"/schemas/ids/{FEE_ID}/versions",
        [{"subject": subject, "version": 1} for subject in (f"lienthong.out.city-portal-{FEE}", SUBJECT, FEE)],
    ),
    (f"/subjects?subjectPrefix=lienthong.out.ward-tan-dinh-{FEE}", [SUBJECT]),
    (f"/subjects?subjectPrefix=%3A.%3A{FEE}&deleted=False", [FEE]),
    ("/subjects?subjectPrefix=nothing", []),
    ("/subjects?deletedOnly=true", []),
    ("/subjects?deleted_only=True", []),
    ("/subjects?limit=0", []),
    (f"/subjects/{SUBJECT}/versions?deleted=False&deleted_only=False&normalize=whatever", [1]),
    (f"/subjects/{SUBJECT}/versions?deletedOnly=TRUE", []),
    (f"/subjects/{SUBJECT}/versions/1/schema", schemas.raw("fee")),
    (f"/subjects/{SUBJECT}/versions/latest/referencedby", []),
]


@pytest.mark.parametrize(("path", "content"), GET_ANSWERS, ids=[path for path, _ in GET_ANSWERS])
def test_get_answers(client: TestClient, path: str, content: object) -> None:
    response = client.get(path)
    assert response.status_code == 200
    assert response.json() == content
    assert response.headers["content-type"] == MEDIA_TYPE


def test_subjects_are_every_record_under_every_out_topic_and_alone(client: TestClient) -> None:
    names = [schemas.full_name(name) for name in schemas.RECORDS]
    expected = sorted(names + [f"lienthong.out.{system}-{name}" for system in SYSTEMS for name in names])
    for query in ("", "?limit=-1", "?subjectPrefix=:*:", "?deleted=true"):
        assert client.get(f"/subjects{query}").json() == expected
    assert client.get("/subjects?offset=3&limit=2").json() == expected[3:5]


# ------------------------------------------------------------------ ids
@pytest.mark.parametrize("version", schemas.released(), ids=lambda version: str(version.id))
def test_every_released_id_is_answered_with_its_schema(client: TestClient, version: schemas.Released) -> None:
    response = client.get(f"/schemas/ids/{version.id}")
    assert json.loads(response.json()["schema"]) == version.schema
    assert "schemaType" not in response.json()


@pytest.mark.parametrize("subject", ["lienthong.out.test-value", "nobody-knows-this", SUBJECT, "", "%3A.%3Ax", "a%2Fb"])
def test_id_decides_whatever_subject_is_asked_with_it(client: TestClient, subject: str) -> None:
    path = f"/schemas/ids/{FEE_ID}?subject={subject}&fetchMaxId=false&format=&referenceFormat=&findTags=false&more=1"
    assert client.get(path).json() == client.get(f"/schemas/ids/{FEE_ID}").json()
    assert client.get(path).status_code == 200


def test_greatest_id_is_told_when_asked_for(client: TestClient) -> None:
    response = client.get(f"/schemas/ids/{FEE_ID}?fetchMaxId=True")
    assert response.json()["maxId"] == max(version.id for version in schemas.released())
    assert "immutable" not in response.headers.get("cache-control", "")


@pytest.mark.parametrize("schema_id", ["0", "9999", "-1", "abc", "99999999999999999999", "²"])
@pytest.mark.parametrize("rest", ["", "/schema", "/versions", "/subjects"])
def test_unknown_id_is_refused(client: TestClient, schema_id: str, rest: str) -> None:
    assert_refused(client.get(f"/schemas/ids/{schema_id}{rest}"), 40403)


def test_guid_names_the_same_schema(client: TestClient) -> None:
    by_id = client.get(f"/schemas/ids/{FEE_ID}").json()
    assert client.get(f"/schemas/guids/{by_id['guid']}?format=").json() == by_id
    assert client.get(f"/schemas/guids/{by_id['guid'].upper()}").json() == by_id
    guids = {client.get(f"/schemas/ids/{version.id}").json()["guid"] for version in schemas.released()}
    assert len(guids) == len(schemas.released())


def test_unknown_guid_is_refused(client: TestClient) -> None:
    assert_refused(client.get("/schemas/guids/4b6f6d4e-0000-0000-0000-000000000000"), 40403)


@pytest.mark.parametrize("path", [f"/schemas/ids/{FEE_ID}", f"/schemas/ids/{FEE_ID}/schema"])
def test_answer_by_id_may_be_kept_for_ever(client: TestClient, path: str) -> None:
    response = client.get(path)
    assert "immutable" in response.headers["cache-control"]
    again = client.get(path, headers={"If-None-Match": response.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")
    other = client.get(path, headers={"If-None-Match": '"other"'})
    assert other.status_code == 200


# ------------------------------------------------------------------ subjects and versions
@pytest.mark.parametrize("version", ["1", "latest", "-1"])
def test_version_of_a_subject(client: TestClient, version: str) -> None:
    answer = client.get(f"/subjects/{SUBJECT}/versions/{version}?deleted=True&format=").json()
    assert (answer["subject"], answer["version"], answer["id"]) == (SUBJECT, 1, FEE_ID)
    assert json.loads(answer["schema"]) == schemas.raw("fee")


@pytest.mark.parametrize("rest", ["/versions", "/versions/1", "/versions/latest/schema", "/versions/1/referencedby", "/metadata"])
@pytest.mark.parametrize("subject", ["unknown", "lienthong.out.ward-tan-dinh-value", f"lienthong.out.nobody-{FEE}"])
def test_unknown_subject_is_refused(client: TestClient, subject: str, rest: str) -> None:
    assert_refused(client.get(f"/subjects/{subject}{rest}"), 40401)


@pytest.mark.parametrize(
    ("version", "error_code"),
    [("2", 40402), ("99", 40402), ("0", 42202), ("-2", 42202), ("newest", 42202), ("99999999999", 42202)],
)
@pytest.mark.parametrize("rest", ["", "/schema", "/referencedby"])
def test_unknown_version_is_refused(client: TestClient, version: str, rest: str, error_code: int) -> None:
    assert_refused(client.get(f"/subjects/{SUBJECT}/versions/{version}{rest}"), error_code)


def test_no_version_has_metadata(client: TestClient) -> None:
    assert_refused(client.get(f"/subjects/{SUBJECT}/metadata?key=a&value=b&deleted=false"), 40402)


def test_page_that_is_no_number_is_refused(client: TestClient) -> None:
    assert_refused(client.get("/subjects?limit=many"), 42202)


# ------------------------------------------------------------------ posted schemas
@pytest.mark.parametrize("media_type", [MEDIA_TYPE, "application/vnd.schemaregistry+json", "application/json", "application/octet-stream"])
def test_schema_is_found_under_its_subject_whatever_the_bodys_type(client: TestClient, media_type: str) -> None:
    body = json.dumps(body_of(schemas.physical("fee")))
    response = client.post(f"/subjects/{SUBJECT}?normalize=False&deleted=True", content=body, headers={"Content-Type": media_type})
    assert response.status_code == 200
    assert {key: response.json()[key] for key in ("subject", "id", "version")} == {
        "subject": SUBJECT,
        "id": FEE_ID,
        "version": 1,
    }


def test_schema_of_another_record_is_not_found_under_the_subject(client: TestClient) -> None:
    assert_refused(client.post(f"/subjects/{SUBJECT}", json=body_of(schemas.raw("unit"))), 40403)
    assert_refused(client.post("/subjects/unknown", json=body_of(schemas.raw("fee"))), 40401)


def test_registering_a_known_schema_gives_its_id(client: TestClient) -> None:
    response = client.post(f"/subjects/{SUBJECT}/versions?normalize=true", json=body_of(schemas.raw("fee")))
    assert (response.status_code, response.json()["id"]) == (200, FEE_ID)


@pytest.mark.parametrize(
    ("subject", "schema"),
    [
        (SUBJECT, fee_without("method")),
        (SUBJECT, schemas.raw("unit")),
        ("lienthong.out.ward-tan-dinh-value", schemas.raw("fee")),
    ],
)
def test_registering_anything_new_is_refused(client: TestClient, subject: str, schema: dict[str, Any]) -> None:
    assert_refused(client.post(f"/subjects/{subject}/versions", json=body_of(schema)), 42205)
    assert subject == SUBJECT or subject not in client.get("/subjects").json()


BAD_BODIES = [
    b"",
    b"not json",
    b"[]",
    b"{}",
    b'{"schema": 5}',
    b'{"schema": "not json"}',
    b'{"schema": "{\\"type\\": \\"strng\\"}"}',
    b'{"schema": "\\"string\\""}',
    b'{"schema": "{}", "schemaType": "PROTOBUF"}',
    b"\xff\xfe",
    b"[" * 100_000,
    b'{"schema": "' + b"x" * 2_000_000 + b'"}',
]


@pytest.mark.parametrize("body", BAD_BODIES, ids=[str(body[:30]) for body in BAD_BODIES])
@pytest.mark.parametrize("path", [f"/subjects/{SUBJECT}", f"/subjects/{SUBJECT}/versions", f"/compatibility/subjects/{SUBJECT}/versions"])
def test_invalid_schema_is_refused(client: TestClient, path: str, body: bytes) -> None:
    assert_refused(client.post(path, content=body), 42201)


@pytest.mark.parametrize("version", ["", "/latest", "/1", "/-1"])
def test_compatible_schema_is_told_so(client: TestClient, version: str) -> None:
    grown = deepcopy(schemas.raw("fee"))
    grown["fields"].append({"name": "colour", "type": ["null", "string"], "default": None})
    path = f"/compatibility/subjects/{SUBJECT}/versions{version}"
    assert client.post(path, json=body_of(grown)).json() == {"is_compatible": True}
    assert client.post(f"{path}?verbose=true", json=body_of(grown)).json() == {"is_compatible": True, "messages": []}


def test_incompatible_schema_is_told_with_field_and_reader(client: TestClient) -> None:
    answer = client.post(
        f"/compatibility/subjects/{SUBJECT}/versions/latest?verbose=true&normalize=false",
        json=body_of(fee_without("amount")),
    ).json()
    assert answer == {
        "is_compatible": False,
        "messages": ["field amount: the reader requires it and the writer may leave it out (breaks reader version 1)"],
    }


def test_compatibility_with_what_is_unknown_is_refused(client: TestClient) -> None:
    body = body_of(schemas.raw("fee"))
    assert_refused(client.post("/compatibility/subjects/unknown/versions/latest", json=body), 40401)
    assert_refused(client.post(f"/compatibility/subjects/{SUBJECT}/versions/7", json=body), 40402)
    assert_refused(client.post(f"/compatibility/subjects/{SUBJECT}/versions/x", json=body), 42202)


# ------------------------------------------------------------------ never to be written, never in another form
@pytest.mark.parametrize("method", ["PUT", "DELETE", "PATCH"])
@pytest.mark.parametrize(
    "path",
    [
        "/config",
        f"/config/{SUBJECT}",
        "/mode",
        f"/subjects/{SUBJECT}",
        f"/subjects/{SUBJECT}/versions/1",
        "/associations/subjects/x",
        "/anything/else",
    ],
)
def test_changes_are_refused(client: TestClient, method: str, path: str) -> None:
    assert_refused(client.request(method, path, json={"compatibility": "NONE"}), 42205)


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/unknown"),
        ("GET", "/subjects/a%2Fb/versions/1/x"),
        ("POST", "/config"),
        ("POST", "/schemas/ids/1"),
        ("GET", "/docs"),
        ("GET", "/openapi.json"),
        ("GET", "/subjects/"),
    ],
)
def test_unknown_path_is_not_found_and_never_method_not_allowed(client: TestClient, method: str, path: str) -> None:
    assert_refused(client.request(method, path, follow_redirects=False), 404)


def test_our_own_defect_is_told_without_its_text(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise ValueError("079185001234")

    app = create_app(SYSTEMS)
    monkeypatch.setattr("lienthong.web.registry._text", fail)
    with TestClient(app, raise_server_exceptions=False) as client:
        response = client.get(f"/schemas/ids/{FEE_ID}")
    assert_refused(response, 50001)
    assert "079185001234" not in response.text


def test_registry_without_systems_still_answers_ids() -> None:
    with TestClient(create_app(())) as client:
        assert client.get(f"/schemas/ids/{FEE_ID}").status_code == 200
        assert client.get("/subjects").json() == sorted(schemas.full_name(name) for name in schemas.RECORDS)
