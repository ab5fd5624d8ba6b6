"""The door to an OpenID Connect provider: authorization code flow, PKCE, state and nonce. The only importer of authlib and its HTTP client."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import urlencode

import httpx2
from authlib.common.errors import AuthlibBaseError
from authlib.integrations.starlette_client import OAuth
from joserfc.errors import JoseError
from starlette.requests import Request
from starlette.responses import Response

from connectors.errors import TransientError

DEADLINE_SECONDS = 10
logging.getLogger("authlib").setLevel(logging.WARNING)  # at lower levels it logs tokens


class Provider:
    """One provider, whose addresses and keys are read from its own description."""

    def __init__(self, *, issuer: str, client_id: str, client_secret: str, scopes: Sequence[str]) -> None:
        self.issuer = issuer
        self._client: Any = OAuth().register(
            "provider",
            client_id=client_id,
            client_secret=client_secret,
            server_metadata_url=f"{issuer.rstrip('/')}/.well-known/openid-configuration",
            client_kwargs={"scope": " ".join(scopes), "code_challenge_method": "S256", "timeout": DEADLINE_SECONDS},
        )

    async def lead_there(self, request: Request, back_to: str) -> tuple[Response, dict[str, Any]]:
        """The redirect to the provider, and what must be remembered until the browser comes back; raises `TransientError` when it does not answer."""
        remembered: dict[str, Any] = {}
        request.scope["session"] = remembered
        try:
            response: Response = await self._client.authorize_redirect(request, back_to)
        except (httpx2.HTTPError, ValueError) as error:
            raise _away(self.issuer, error) from None
        return response, remembered

    async def claims(self, request: Request, remembered: dict[str, Any]) -> Mapping[str, Any] | None:
        """What the provider vouches for, from the request with which the browser came back; None for an answer that proves nothing.

        Checked: state, nonce, signature, issuer, audience, expiry. Raises `TransientError` when the provider does not answer.
        """
        request.scope["session"] = remembered
        try:
            token = await self._client.authorize_access_token(request, claims_options={"iss": {"values": [self.issuer], "essential": True}})
        except httpx2.HTTPError as error:
            raise _away(self.issuer, error) from None
        except (AuthlibBaseError, JoseError, KeyError, ValueError):
            return None
        found: Mapping[str, Any] | None = token.get("userinfo")
        return found

    async def log_out_there(self, back_to: str) -> str | None:
        """Where a browser ends its log-in at the provider too (RP-Initiated Logout 1.0); None where the provider has no such place.

        Raises `TransientError` when the provider does not answer.
        """
        try:
            found = (await self._client.load_server_metadata()).get("end_session_endpoint")
        except (httpx2.HTTPError, ValueError) as error:
            raise _away(self.issuer, error) from None
        asked = urlencode({"client_id": self._client.client_id, "post_logout_redirect_uri": back_to})
        return None if not found else f"{found}{'&' if '?' in found else '?'}{asked}"


def _away(issuer: str, error: Exception) -> TransientError:
    return TransientError(f"the log-in provider {issuer} does not answer as one ({type(error).__name__}); log in with a local account meanwhile")
