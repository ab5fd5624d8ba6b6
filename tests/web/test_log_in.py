"""Logging in: passwords, sessions, forms of other sites, too many tries, and the command for accounts."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from click.testing import Result
from typer.testing import CliRunner

from connectors.postgres import connect
from lienthong.cli.main import app
from lienthong.embedded import PostgresCluster
from lienthong.errors import ConfigError
from lienthong.settings import Settings
from lienthong.web import accounts, sessions
from lienthong.web.accounts import Account
from lienthong.web.guard import SESSION
from tests import web_kit
from tests.web_kit import PASSWORD, Person, only, sql, visitor


@pytest.fixture(scope="module")
def dsn(pg: PostgresCluster) -> Iterator[str]:
    made = pg.create_database("web_log_in")
    web_kit.fill(made)
    yield made
    pg.drop_database("web_log_in")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("log-in") / "config"


@pytest.fixture(scope="module")
def settings(dsn: str, folder: Path) -> Settings:
    return web_kit.settings_of(folder, dsn)


@pytest.fixture(autouse=True)
def _no_tries_before(dsn: str) -> None:
    sql(dsn, "DELETE FROM hub.web_event")


def test_only_hashes_are_kept(dsn: str, settings: Settings) -> None:
    person = visitor(settings, "an")
    token = person.client.cookies[SESSION]
    assert only(dsn, "SELECT password FROM hub.web_user WHERE name = 'an'").startswith("$argon2id$v=19$m=65536,t=3,p=4$")
    assert only(dsn, "SELECT count(*) FROM hub.web_session WHERE token = %s", [sessions.digest(token)]) == 1
    assert only(dsn, "SELECT count(*) FROM hub.web_session WHERE encode(token, 'escape') = %s", [token]) == 0


def test_the_session_cookie_is_for_nobody_but_us(settings: Settings) -> None:
    person = Person(settings)
    cookie = person.log_in("an").headers["set-cookie"].lower()
    assert "httponly" in cookie
    assert "samesite=lax" in cookie
    assert "path=/" in cookie
    assert "secure" not in cookie
    safe = Person(settings)
    safe.client.base_url = "https://testserver"  # type: ignore[assignment]
    answer = safe.log_in("an")
    assert "secure" in answer.headers["set-cookie"].lower()
    assert answer.headers["Strict-Transport-Security"] == "max-age=31536000"


@pytest.mark.parametrize(("name", "password"), [("an", "falsch, aber lang genug"), ("niemand", PASSWORD), ("", ""), ("an", "x" * 5000)])
def test_a_wrong_name_or_password_is_refused_in_the_same_words(settings: Settings, name: str, password: str) -> None:
    answer = Person(settings).log_in(name, password)
    assert answer.status_code == 401
    assert "Name or password is wrong." in answer.text


def test_the_sixth_try_of_a_name_from_one_place_waits_and_others_do_not(settings: Settings, dsn: str) -> None:
    assert [Person(settings).log_in("an", "falsch").status_code for _ in range(7)] == [401] * 5 + [429] * 2
    refused = Person(settings).log_in("an")
    assert refused.status_code == 429, "the right password does not help before the time is over"
    assert refused.headers["Retry-After"] == "900"
    assert Person(settings, address="10.1.1.1").log_in("an").status_code == 303
    assert Person(settings).log_in("binh").status_code == 303
    sql(dsn, "UPDATE hub.web_event SET at = at - INTERVAL '16 minutes'")
    assert Person(settings).log_in("an").status_code == 303


def test_an_address_that_tries_many_names_waits(settings: Settings) -> None:
    answers = [Person(settings, address="10.2.2.2").log_in(f"name{n}", "falsch").status_code for n in range(21)]
    assert answers == [401] * 20 + [429]


def test_what_is_no_account_is_kept_as_a_hash_only(settings: Settings, dsn: str) -> None:
    Person(settings).log_in("mật khẩu gõ nhầm ô", "x")
    assert re.fullmatch(r"\?[0-9a-f]{12}", only(dsn, "SELECT name FROM hub.web_event"))


def test_forms_of_other_sites_and_old_ones_are_refused(settings: Settings, dsn: str) -> None:
    person = visitor(settings, "binh")
    sent = {"action": "discard", "why": "x"}
    for form in ({}, {"form": "guess"}, {"form": "é"}):
        assert person.client.post("/parked/act?ref=1", data={**sent, **form}).status_code == 403
    real = {"form": person.secret("/overview")}
    assert person.client.post("/parked/act?ref=1", data={**sent, **real}, headers={"Sec-Fetch-Site": "cross-site"}).status_code == 403
    assert person.client.post("/parked/act?ref=1", data={**sent, **real, "more": "x" * 70_000}).status_code == 413
    other = visitor(settings, "dung").secret("/overview")
    assert person.client.post("/parked/act?ref=1", data={**sent, "form": other}).status_code == 403
    assert person.client.post("/logout", data={}).status_code == 403
    assert Person(settings).client.post("/login", data={"name": "an", "password": PASSWORD}).status_code == 403
    assert only(dsn, "SELECT count(*) FROM hub.parked WHERE state <> 'open'") == 0


def test_logging_out_ends_the_session_everywhere(settings: Settings) -> None:
    person = visitor(settings, "an")
    token = person.client.cookies[SESSION]
    assert person.post("/logout").headers["location"] == "/login"
    again = Person(settings)
    again.client.cookies.set(SESSION, token)
    assert again.get("/overview").status_code == 303


def test_a_log_in_gives_another_session_than_the_one_before(settings: Settings) -> None:
    person = Person(settings)
    person.client.cookies.set(SESSION, "chosen by somebody else")
    person.log_in("an")
    assert person.client.cookies.get(SESSION, domain="testserver.local") != "chosen by somebody else"


@pytest.mark.parametrize(("column", "interval"), [("seen_at", "31 minutes"), ("created_at", "13 hours")])
def test_a_session_ends_when_it_is_idle_or_old(settings: Settings, dsn: str, column: str, interval: str) -> None:
    person = visitor(settings, "an")
    assert person.get("/overview").status_code == 200
    sql(dsn, f"UPDATE hub.web_session SET {column} = {column} - INTERVAL '{interval}'")  # noqa: S608 - our own words
    assert person.get("/overview").headers["location"] == "/login?next=/overview"


def test_after_logging_in_one_is_where_one_wanted_to_go_but_never_elsewhere(settings: Settings) -> None:
    assert Person(settings).log_in("an", onward="/lost").headers["location"] == "/lost"
    for elsewhere in ("//evil.example/", "https://evil.example/", "javascript:alert(1)", "/\\evil.example", "/x\r\ny"):
        assert Person(settings).log_in("an", onward=elsewhere).headers["location"] == "/overview"


def test_weak_passwords_and_odd_names_are_refused(dsn: str) -> None:
    with closing(connect(dsn, application_name="test")) as hub:
        for account, password in (
            (Account("em", "viewer"), "kurz"),
            (Account("em", "viewer"), "x" * 257),
            (Account("em", "king"), PASSWORD),
            (Account("em <b>", "viewer"), PASSWORD),
            (Account("an", "viewer"), PASSWORD),
        ):
            with pytest.raises(ConfigError):
                accounts.add(hub, account, password)


def test_accounts_are_kept_by_command(settings: Settings, dsn: str, folder: Path) -> None:
    nowhere = "host=127.0.0.1 port=1 dbname=nowhere"
    names = [f"{name.replace('-', '_').upper()}_DSN" for name in web_kit.SYSTEMS]
    environment = {**dict.fromkeys(names, nowhere), "HUB_DSN": dsn, "KAFKA_BOOTSTRAP": "127.0.0.1:1", "LIENTHONG_CONFIG": str(folder)}

    def run(*words: str, says: str = "") -> Result:
        return CliRunner().invoke(app, ["web", "user", *words], input=says, env=environment)

    added = run("add", "giang", "--role", "operator", "--agency", "H29.26737", "--password-stdin", says="một mật khẩu dài\n")
    assert added.exception is None
    person = visitor_with(settings, "giang", "một mật khẩu dài")
    assert person.get("/systems/one-stop").status_code == 404
    assert accounts_of(dsn)["giang"] == Account("giang", "operator", ("H29.26737",))
    assert run("list", "--json").exception is None
    assert isinstance(run("add", "hoa", "--agency", "H29.99", "--password-stdin", says="một mật khẩu dài\n").exception, ConfigError)
    assert isinstance(run("add", "hoa").exception, ConfigError), "nobody is there to be asked"
    assert run("password", "giang", "--password-stdin", says="một mật khẩu khác\n").exception is None
    assert person.get("/overview").status_code == 303, "a new password ends the sessions"
    person = visitor_with(settings, "giang", "một mật khẩu khác")
    assert run("remove", "giang").exception is None
    assert person.get("/overview").status_code == 303
    assert isinstance(run("remove", "giang").exception, ConfigError)


def accounts_of(dsn: str) -> dict[str, Account]:
    """All accounts by name."""
    with closing(connect(dsn, application_name="test")) as hub:
        return {account.name: account for account in accounts.listing(hub)}


def visitor_with(settings: Settings, name: str, password: str) -> Person:
    """Somebody who is logged in by a password of their own."""
    person = Person(settings)
    assert person.log_in(name, password).status_code == 303
    return person
