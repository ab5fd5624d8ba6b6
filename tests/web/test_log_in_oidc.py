"""Logging in through a real OpenID Connect provider, a process of its own from the package index."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest

from connectors.oidc import Provider
from lienthong.embedded import PostgresCluster
from lienthong.embedded.ports import free_port
from lienthong.settings import Settings
from lienthong.web.guard import HANDSHAKE
from tests import web_kit
from tests.city import wait
from tests.web_kit import Person, only

CLAIMS = {
    "lan": {"preferred_username": "lan", "roles": ["city-ops"], "agencies": ["*"]},
    "mai": {"preferred_username": "mai", "roles": ["city-look"], "agencies": ["H29.26737"]},
    "nga": {"preferred_username": "nga", "roles": ["elsewhere"], "agencies": ["*"]},
}


@pytest.fixture(scope="module")
def issuer() -> Iterator[str]:
    port = free_port()
    users = [word for name, claims in CLAIMS.items() for word in ("--user-claims", json.dumps({"sub": name, **claims}))]
    call = [str(Path(sys.executable).with_name("oidc-provider-mock")), "--port", str(port), *users]
    process = subprocess.Popen(call, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    address = f"http://localhost:{port}"
    try:
        wait(lambda: _answers(address))
        yield address
    finally:
        process.terminate()
        process.wait(20)


def _answers(address: str) -> bool:
    try:
        return httpx.get(f"{address}/.well-known/openid-configuration").status_code == 200
    except httpx.HTTPError:
        return False


@pytest.fixture(scope="module")
def dsn(pg: PostgresCluster) -> Iterator[str]:
    made = pg.create_database("web_oidc")
    web_kit.fill(made)
    yield made
    pg.drop_database("web_oidc")


def configured(issuer: str) -> str:
    """web.yaml."""
    return f"""version: 1
address: http://testserver
oidc:
  name: City log-in
  issuer: {issuer}
  client_id: lienthong
  client_secret: ${{WEB_OIDC_SECRET}}
  roles: {{city-ops: operator, city-look: viewer}}
  agency_claim: agencies
"""


@pytest.fixture(scope="module")
def settings(dsn: str, issuer: str, tmp_path_factory: pytest.TempPathFactory) -> Settings:
    return web_kit.settings_of(tmp_path_factory.mktemp("oidc") / "config", dsn, configured(issuer))


def through_provider(person: Person, name: str, onward: str = "/lost") -> Any:
    """To the provider, its form filled in as a person does, and back."""
    there = person.get(f"/login/oidc?next={onward}").headers["location"]
    answer = httpx.post(there, data={"sub": name})
    assert answer.status_code in (302, 303), answer.text
    back = urlsplit(answer.headers["location"])
    return person.get(f"{back.path}?{back.query}")


def test_whom_the_provider_vouches_for_is_logged_in_by_the_claims(settings: Settings, dsn: str) -> None:
    person = Person(settings)
    assert "Log in with City log-in" in person.get("/login").text
    answer = through_provider(person, "lan")
    assert (answer.status_code, answer.headers["location"]) == (303, "/lost")
    page = person.get("/overview").text
    assert "oidc:lan" in page
    assert "operator" in page
    assert only(dsn, "SELECT origin FROM hub.web_session WHERE name = 'oidc:lan'") == "oidc"
    assert only(dsn, "SELECT what FROM hub.web_event WHERE name = 'oidc:lan'") == "in"


def test_logging_out_ends_the_log_in_at_the_provider_too(settings: Settings, dsn: str, issuer: str) -> None:
    person = Person(settings)
    through_provider(person, "lan")
    answer = person.post("/logout")
    assert (answer.status_code, answer.headers["location"]) == (303, "/login/oidc/out")
    assert person.get("/overview").headers["location"].startswith("/login"), "ours is ended first"
    page = person.get("/login/oidc/out")
    there = page.headers["Refresh"].removeprefix("0; url=")
    assert there.startswith(f"{issuer}/oauth2/end_session?client_id=lienthong&")
    assert there.replace("&", "&amp;") in page.text
    assert "City log-in" in page.text
    assert httpx.get(there).status_code == 200, "the provider knows the request"
    assert parse_qs(urlsplit(there).query)["post_logout_redirect_uri"] == ["http://testserver/login"]


def test_a_local_account_and_a_provider_without_a_log_out_end_with_our_own(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    local = Person(settings)
    local.log_in("an")
    assert local.post("/logout").headers["location"] == "/login"

    async def nowhere(_self: Provider, _back_to: str) -> None:
        return None

    monkeypatch.setattr(Provider, "log_out_there", nowhere)
    person = Person(settings)
    through_provider(person, "lan")
    assert person.get(person.post("/logout").headers["location"]).headers["location"] == "/login"


def test_the_people_of_an_agency_are_its_people(settings: Settings) -> None:
    person = Person(settings)
    assert through_provider(person, "mai").status_code == 303
    assert person.get("/systems/ward-tan-dinh").status_code == 200
    assert person.get("/systems/one-stop").status_code == 404


def test_without_a_role_nobody_is_let_in(settings: Settings) -> None:
    person = Person(settings)
    answer = through_provider(person, "nga")
    assert answer.status_code == 403
    assert "gives you no role here" in answer.text
    assert person.get("/overview").status_code == 303


def test_the_request_carries_state_nonce_and_a_challenge_by_s256(settings: Settings) -> None:
    asked = parse_qs(urlsplit(Person(settings).get("/login/oidc").headers["location"]).query)
    assert asked["code_challenge_method"] == ["S256"]
    assert all(len(asked[name][0]) >= 16 for name in ("state", "nonce", "code_challenge"))
    assert asked["redirect_uri"] == ["http://testserver/login/oidc/back"]


def test_an_answer_counts_once_and_only_in_the_browser_that_asked(settings: Settings) -> None:
    person, other = Person(settings), Person(settings)
    there = person.get("/login/oidc").headers["location"]
    back = urlsplit(httpx.post(there, data={"sub": "lan"}).headers["location"])
    assert other.get(f"{back.path}?{back.query}").status_code == 401, "another browser"
    kept = person.client.cookies[HANDSHAKE]
    assert person.get(f"{back.path}?{back.query}").status_code == 303
    person.client.cookies.set(HANDSHAKE, kept)
    assert person.get(f"{back.path}?{back.query}").status_code == 401, "a second time"


@pytest.mark.parametrize("wrong", ["state=guessed", "code=guessed", "error=access_denied", ""])
def test_a_forged_answer_proves_nothing(settings: Settings, wrong: str) -> None:
    person = Person(settings)
    there = person.get("/login/oidc").headers["location"]
    back = urlsplit(httpx.post(there, data={"sub": "lan"}).headers["location"])
    given = {name: values[0] for name, values in parse_qs(back.query).items()}
    given = {} if not wrong else given | {name: values[0] for name, values in parse_qs(wrong).items()}
    assert person.client.get(back.path, params=given).status_code == 401
    assert person.get("/overview").status_code == 303


def test_a_token_that_says_another_issuer_proves_nothing(settings: Settings) -> None:
    assert settings.web.oidc is not None
    posing = settings.web.oidc.model_copy(update={"issuer": settings.web.oidc.issuer + "/"})
    person = Person(settings.model_copy(update={"web": settings.web.model_copy(update={"oidc": posing})}))
    assert through_provider(person, "lan").status_code == 401


def test_a_provider_that_is_away_leaves_the_local_accounts(settings: Settings) -> None:
    assert settings.web.oidc is not None
    away = settings.web.oidc.model_copy(update={"issuer": "http://127.0.0.1:1"})
    person = Person(settings.model_copy(update={"web": settings.web.model_copy(update={"oidc": away})}))
    answer = person.get("/login/oidc")
    assert answer.status_code == 503
    assert "log in with a local account meanwhile" in answer.text
    assert person.log_in("an").status_code == 303


def test_without_a_provider_there_is_no_such_page(settings: Settings) -> None:
    person = Person(settings.model_copy(update={"web": settings.web.model_copy(update={"oidc": None})}))
    assert person.get("/login/oidc").status_code == 404
    assert "Log in with" not in person.get("/login").text


ADDRESS = "address: https://y\n"
PROVIDER = "oidc: {issuer: 'https://x', client_id: a, client_secret: '${WEB_OIDC_SECRET}', roles: {a: viewer}}\n"


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (PROVIDER, "send browsers back"),
        (ADDRESS + PROVIDER.replace("'${WEB_OIDC_SECRET}'", "hush"), "a secret is written"),
        (ADDRESS + PROVIDER.replace("viewer", "king"), "viewer"),
        (ADDRESS.replace("dd", "d"), "adress"),
    ],
)
def test_a_wrong_web_yaml_is_said_with_its_line(tmp_path: Path, text: str, problem: str) -> None:
    from lienthong.problems import ConfigProblems

    with pytest.raises(ConfigProblems, match=problem) as raised:
        web_kit.settings_of(tmp_path / "config", "host=127.0.0.1 dbname=hub", f"version: 1\n{text}")
    assert "web.yaml:" in str(raised.value)
    assert "hush" not in str(raised.value)
