"""Our SOAP client against a service of another stack: Apache CXF reads what we send and WSS4J checks it, and we read and check what they make."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from uuid import uuid4

import pytest

from connectors.http import CredentialsRefused, UnknownOutcome
from connectors.soap_security import Distrusted
from lienthong.config_national import Auth, Hmac, WsseUsername, WsseX509
from lienthong.config_national import Population as Configured
from lienthong.national.answers import Asked
from lienthong.national.population import Call, Population
from tests.interop.server import SECRET, CxfPopulation
from tests.lookup_kit import ASK_MAI
from tests.national_kit import MAI, Authority

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]  # the first time, jars are downloaded

NOBODY = Asked("079190000009", "Không Có Ai", "1990-05-04")
NO_HEADER = Hmac(kind="hmac", user="us", secret=SECRET)
"""Proof in HTTP alone: the envelope has no security header."""

BY_NAME = WsseUsername(kind="wsse-username", user="us", secret=SECRET)

Ask = Callable[[str, Auth], Population]


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="module")
def cxf(authority: Authority, tmp_path_factory: pytest.TempPathFactory) -> Iterator[CxfPopulation]:
    with CxfPopulation(tmp_path_factory.mktemp("cxf"), authority) as server:
        yield server


@pytest.fixture
def ask(cxf: CxfPopulation) -> Iterator[Ask]:
    """The product's client of a path, with a proof."""
    opened: list[Population] = []

    def client(path: str, auth: Auth) -> Population:
        unit = {"unit": "000.00.00.H29", "integration": "033"}
        opened.append(Population(Configured(system="population", endpoint=cxf.url(path), auth=auth, **unit, deadline_seconds=20)))
        return opened[-1]

    yield client
    for one in opened:
        one.close()


def signature(ours: Authority, believed: Authority) -> WsseX509:
    """A key of ours by one authority, answers believed by another."""
    key, certificate = ours.issue("us")
    return WsseX509(kind="wsse-x509", key=str(key), certificate=str(certificate), authority=str(believed.ca))


def call() -> Call:
    return Call(str(uuid4()), "canbo01")


def served(client: Population) -> None:
    """All operations of the contract are answered, for a person that is and one that is not."""
    assert client.verify(ASK_MAI, call()) is True
    assert client.verify(NOBODY, call()) is False
    found = client.look_up(ASK_MAI, call())
    assert found is not None
    assert {field: found[field] for field in ("personal_number", "full_name", "birth_date", "sex", "residence_unit", "residence_address")} == {
        **{field: MAI[field] for field in ("personal_number", "full_name", "birth_date", "sex")},
        "residence_unit": "26740",
        "residence_address": "12 Đường Số 1",
    }
    assert client.look_up(NOBODY, call()) is None
    assert client.family(ASK_MAI, call()) == {"father": {"number": "079060000002", "name": "NGUYỄN VĂN AN"}}


def test_it_answers_requests_without_a_security_header(ask: Ask) -> None:
    served(ask("plain", NO_HEADER))


def test_it_takes_our_user_name_token(ask: Ask) -> None:
    served(ask("username", BY_NAME))


def test_it_takes_our_signature_and_its_own_is_proven(ask: Ask, authority: Authority) -> None:
    served(ask("signed", signature(authority, authority)))


@pytest.mark.parametrize("auth", [BY_NAME.model_copy(update={"secret": "another"}), BY_NAME.model_copy(update={"user": "somebody"}), NO_HEADER])
def test_a_wrong_password_an_unknown_user_and_no_token_are_credentials_refused(ask: Ask, auth: Auth) -> None:
    with pytest.raises(CredentialsRefused, match="SecurityError"):
        ask("username", auth).verify(ASK_MAI, call())


def test_no_signature_is_credentials_refused(ask: Ask) -> None:
    with pytest.raises(CredentialsRefused, match="SecurityError"):
        ask("signed", BY_NAME).verify(ASK_MAI, call())


def test_a_signature_by_nobody_it_trusts_is_no_answer(ask: Ask, authority: Authority, tmp_path: Path) -> None:
    """Its refusal is not signed, so it proves nothing."""
    with pytest.raises(UnknownOutcome, match="SecurityError.*not signed"):
        ask("signed", signature(Authority(tmp_path), authority)).verify(ASK_MAI, call())


@pytest.mark.parametrize(("path", "why"), [("unsigned", "one Signature"), ("body-only", "does not cover"), ("sha1", "algorithm")])
def test_an_answer_that_is_not_signed_as_it_must_be_is_not_believed(ask: Ask, authority: Authority, path: str, why: str) -> None:
    with pytest.raises(Distrusted, match=why):
        ask(path, signature(authority, authority)).look_up(ASK_MAI, call())


def test_its_signature_is_not_believed_where_we_trust_another_authority(ask: Ask, authority: Authority, tmp_path: Path) -> None:
    with pytest.raises(Distrusted, match="not of an authority we trust"):
        ask("signed", signature(authority, Authority(tmp_path))).verify(ASK_MAI, call())
