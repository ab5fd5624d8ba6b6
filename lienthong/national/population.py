"""The national population database as its operations: verify, look up, family, and who changed in a period; two message profiles, five proofs.

Each call names its request, officer and unit. Nothing here decides whether to call: `lienthong.national.lookup` does.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from connectors.http import Limits, Refused
from connectors.soap import SoapDoor
from connectors.soap_security import AccessToken, HmacHeader, Proof, Signature, UserName, XRoad
from lienthong import config_national as config
from lienthong.errors import ConfigError
from lienthong.national import answers
from lienthong.national.answers import Asked, Values

LOOK_UP, VERIFY, FAMILY = "TraCuuThongTinCongDan", "XacThucThongTinCongDan", "XacMinhThongTinNhanThan"
PAGE = 200
PERIOD_KIND = "1"
_CONTRACTS = {"practice": "population", "qcvn109": "population_qcvn109"}


@dataclass(frozen=True, slots=True)
class Call:
    """Who asks, and by which request: no two calls share an id."""

    request_id: str
    officer: str


class Population:
    """The service, from any thread. Errors as in `connectors.http`."""

    def __init__(self, configured: config.Population) -> None:
        self._configured = configured
        self._door = door(_CONTRACTS[configured.messages], configured, proof_of(configured.auth))

    def verify(self, asked: Asked, call: Call) -> bool:
        """Whether there is a person of this number, name and birth date: no record is asked for."""
        return bool(self._door.call(VERIFY, self._fields(call) | asked.fields()))

    def look_up(self, asked: Asked, call: Call) -> Values | None:
        """The person's unified values; None when the service says that there is no such person."""
        answer = self._door.call(LOOK_UP, self._fields(call) | asked.fields())
        return answers.person(answer, asked, call.request_id, datetime.now(UTC))

    def family(self, asked: Asked, call: Call) -> dict[str, dict[str, str]] | None:
        """The person's relatives by role; None when there is no such person."""
        answer = self._door.call(FAMILY, self._fields(call) | asked.fields())
        return answers.family(answer, asked, call.request_id, datetime.now(UTC))

    def changed(self, since: datetime, until: datetime, page: int, call: Call) -> list[Values]:
        """One page, from 1 on, of the people whose data changed in a period; a page of fewer than `PAGE` is the last."""
        times = {name: str(int(at.timestamp() * 1000)) for name, at in (("TuNgay", since), ("DenNgay", until))}
        answer = self._door.call(LOOK_UP, self._fields(call) | times | {"Loai": PERIOD_KIND, "Trang": page, "SoBanGhi": PAGE})
        found = answers.people(answer, call.request_id, datetime.now(UTC))
        if len(found) > PAGE:
            raise Refused("answer", "the answer has more people than its page may hold")
        return found

    def close(self) -> None:
        """Drop all connections."""
        self._door.close()

    def _fields(self, call: Call) -> dict[str, Any]:
        unit = self._configured.unit
        return {"MaYeuCau": call.request_id, "MaDVC": unit, "MaTichHop": self._configured.integration, "MaCanBo": call.officer, "MaDonVi": unit}


def door(contract: str, service: config.Service, proof: Proof) -> SoapDoor:
    """The door to a configured SOAP service; raises `ConfigError` for a certificate without its key."""
    if (service.certificate is None) != (service.key is None):
        raise ConfigError("a client certificate needs both `certificate` and `key`")
    return SoapDoor(
        contract,
        service.endpoint,
        proof=proof,
        limits=Limits(seconds=service.deadline_seconds),
        verify=service.authority or True,
        certificate=(service.certificate, service.key) if service.certificate is not None and service.key is not None else None,
    )


def proof_of(auth: config.Auth | None) -> Proof:
    """How we say who we are, as configured."""
    match auth:
        case None:
            return Proof()
        case config.Hmac():
            return HmacHeader(auth.user, auth.secret)
        case config.AccessToken():
            return AccessToken(auth.token)
        case config.XRoad():
            return XRoad(auth.client, service=auth.service)
        case config.WsseUsername():
            return UserName(auth.user, auth.secret)
        case config.WsseX509():
            return Signature(auth.key, auth.certificate, auth.authority)
