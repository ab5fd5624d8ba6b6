"""How callers prove who they are, one function for each profile met in the field; all raise `SoapFault` and say only what kind of proof failed."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

from lienthong.embedded.national.envelope import WSSE, WSU, Element, SoapFault
from lienthong.embedded.national.signature import FRESH, fresh, verified
from lienthong.embedded.national.store import Store
from lienthong.embedded.national.wire import Request

_DIGEST = "#PasswordDigest"


def no_proof(_request: Request, _envelope: Element, _store: Store, _now: datetime) -> str | None:
    """Anybody may ask."""
    return None


def time_stamped(request: Request, _envelope: Element, store: Store, now: datetime) -> str:
    """`Timestamp` (ms) and `Authorization: Basic base64(user:sha256hex(path+user+timestamp+secret))`."""
    stamp = request.headers.get("timestamp", "")
    user, _, proof = _decoded(request.headers.get("authorization", "").removeprefix("Basic ")).partition(":")
    secret = _secret(store, user)
    wanted = hashlib.sha256(f"{request.path}{user}{stamp}{secret}".encode()).hexdigest()
    if not hmac.compare_digest(wanted, proof):
        raise _refused("the hash does not fit")
    if not stamp.isdigit() or abs(datetime.fromtimestamp(int(stamp) / 1000, UTC) - now) > FRESH:
        raise _refused("the time stamp is not of the last five minutes")
    return user


def access_token(request: Request, _envelope: Element, store: Store, _now: datetime) -> str:
    """`lgspaccesstoken`: base64 of a JSON object with AccessKey and SecretKey (and AppName, PartnerCode, PartnerCodeCus)."""
    try:
        token = json.loads(_decoded(request.headers.get("lgspaccesstoken", "")))
        name, secret = str(token["AccessKey"]), str(token["SecretKey"])
    except (ValueError, KeyError, TypeError):
        raise _refused("no access token") from None
    if not hmac.compare_digest(_secret(store, name).encode(), secret.encode()):
        raise _refused("the access token is not known")
    return name


def x_road(request: Request, _envelope: Element, store: Store, _now: datetime) -> str:
    """`X-Road-Client`: instance/class/member/subsystem, known here; with `ApiKey` when the account has a secret."""
    client = request.headers.get("x-road-client", "")
    found = store.account(client) if client else None
    if found is None or not hmac.compare_digest((found[0] or "").encode(), request.headers.get("apikey", "").encode()):
        raise _refused("the client is not known")
    return client


def user_name_token(_request: Request, envelope: Element, store: Store, now: datetime) -> str:
    """WS-Security UsernameToken, with the password's digest, a nonce used once and a fresh time."""
    token = next(envelope.iter(f"{{{WSSE}}}UsernameToken"), None)
    if token is None:
        raise _refused("no UsernameToken")
    user, given = token.findtext(f"{{{WSSE}}}Username") or "", token.find(f"{{{WSSE}}}Password")
    nonce, created = token.findtext(f"{{{WSSE}}}Nonce") or "", token.findtext(f"{{{WSU}}}Created") or ""
    if given is None or not (given.get("Type") or "").endswith(_DIGEST):
        raise _refused("only a digest of the password is accepted")
    material = _bytes(nonce) + created.encode() + _secret(store, user).encode()
    wanted = base64.b64encode(hashlib.sha1(material, usedforsecurity=False).digest()).decode()  # SHA-1 by the token profile
    if not hmac.compare_digest(wanted, given.text or ""):
        raise _refused("the digest does not fit")
    fresh(token, now)
    if not store.nonce_is_new(nonce):
        raise _refused("the nonce was used before")
    return user


def certificate(_request: Request, envelope: Element, store: Store, now: datetime) -> str:
    """WS-Security signature over Body and time stamp, by a certificate known here."""
    return verified(envelope, store.certificates(), now)


PROFILES: dict[str, Callable[[Request, Element, Store, datetime], str | None]] = {
    "none": no_proof,
    "hmac": time_stamped,
    "access-token": access_token,
    "x-road": x_road,
    "wsse-username": user_name_token,
    "wsse-x509": certificate,
}


def now(ahead_seconds: float = 0.0) -> datetime:
    """The service's clock."""
    return datetime.now(UTC) + timedelta(seconds=ahead_seconds)


def _refused(why: str) -> SoapFault:
    return SoapFault("Client.Authentication", f"FailedAuthentication: {why}", status=401)


def _secret(store: Store, name: str) -> str:
    found = store.account(name) if name else None
    if found is None or not found[0]:
        raise _refused("the account is not known")
    return found[0]


def _bytes(encoded: str) -> bytes:
    try:
        return base64.b64decode(encoded, validate=True)
    except binascii.Error:
        raise _refused("not base64") from None


def _decoded(encoded: str) -> str:
    return _bytes(encoded).decode("utf-8", "replace")
