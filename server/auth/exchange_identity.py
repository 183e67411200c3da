"""Who is calling from an Outlook whose mailbox is on an Exchange server of the house: the identity token that this server signs.

It is a JWT, but no OpenID: its header names a certificate by thumbprint (`x5t`), and the claim `appctx` says who it is
(`msexchuid`) and where the server publishes its certificates (`amurl`). Anybody can run a server that signs such tokens, so only
those count whose `amurl` is that of a server which the operator listed; what is fetched is our own spelling of that address,
never the token's. The docs want the host to be the one that autodiscover finds for the person; the token names no address to
ask it with, hence the list. Each listed server is an issuer and an identity tenant of its own, since a `msexchuid` means
something only there.

Sources: D:docs/outlook/validate-an-identity-token.md and inside-the-identity-token.md (domain page outlook.md 2.6). They show
`appctx` as an object and the times as texts; their code reads `appctx` as the JSON text that servers send. Both forms are read.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Mapping
from datetime import datetime
from typing import Any, Literal

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import rsa

from server.auth.identity import MIN_KEY_BITS, Key, Service, fetch_json, read_times, refused, text_of
from server.domain.hosts import HTTPS_PORT
from server.errors import InvalidInput
from server.transport import Gateway

PATH = "/autodiscover/metadata/json/1"

_VERSION = "ExIdTok.V1"
_ISSUER = re.compile(r"00000002-0000-0ff1-ce00-000000000000@[A-Za-z0-9.*_-]{1,255}")  # Exchange's own id, at its realm
_HOST = re.compile(r"([a-z0-9]([a-z0-9-]*[a-z0-9])?\.)*[a-z0-9]([a-z0-9-]*[a-z0-9])?(:[1-9][0-9]{0,4})?")
_LONGEST_HOST = 71  # with its port; an identity tenant has room for 80
_PERSON = re.compile(r"[A-Za-z0-9][A-Za-z0-9@._-]{0,79}")  # a GUID, or a GUID at a domain
_DIGITS = re.compile(r"[0-9]{1,12}")


class ExchangeIssuer:
    """Identity tokens that one Exchange server made for people who use our pane.

    `host` is the server's name and, unless it is 443, its port, as they stand in the `amurl` of its tokens; `audience` holds the
    addresses of our pane as the manifest gives them.
    """

    service: Service = "exchange"
    key_member: Literal["kid", "x5t"] = "x5t"

    def __init__(self, gateway: Gateway, *, host: str, audience: frozenset[str]) -> None:
        """Raises: InvalidInput for what is no host with or without a port."""
        default = f":{HTTPS_PORT}"
        self._host = host.lower().removesuffix(default)
        self._url = f"https://{self._host}{PATH}"
        port = self._host.partition(":")[2]
        if not _HOST.fullmatch(self._host) or len(self._host) > _LONGEST_HOST or (port and int(port) > 65535):
            raise InvalidInput("exchange_metadata_hosts", "An entry is HOST or HOST:PORT, of 71 characters at most.")
        self._amurls = {self._url} if ":" in self._host else {self._url, f"https://{self._host}{default}{PATH}"}
        self._audience = audience - {""}
        self._gateway = gateway

    def made(self, claims: Mapping[str, Any]) -> bool:
        return bool(_ISSUER.fullmatch(text_of(claims, "iss"))) and text_of(_context(claims), "amurl") in self._amurls

    def published(self) -> dict[str, Key]:
        entries = fetch_json(self._gateway, self._url).get("keys")
        return dict(filter(None, map(_read_certificate, entries if isinstance(entries, list) else [])))

    def times(self, claims: Mapping[str, Any]) -> dict[str, int]:
        return read_times({name: _number(value) for name, value in claims.items()}, "exp", "nbf")

    def judge(self, claims: Mapping[str, Any], key: Key) -> tuple[str, str, str]:
        """Return tenant and subject; the token names no address."""
        context = _context(claims)
        subject = text_of(context, "msexchuid")
        if text_of(claims, "aud") not in self._audience:
            raise refused("it was issued for another service")
        if context.get("version") != _VERSION:
            raise refused("it is no identity token")
        if not _PERSON.fullmatch(subject):
            raise refused("it names no person")
        return f"exchange:{self._host}", subject, ""


def _context(claims: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the members of `appctx`, none if it is not an object or the JSON text of one."""
    context = claims.get("appctx")
    if isinstance(context, str):
        try:
            context = json.loads(context)
        except (ValueError, RecursionError):
            return {}
    return context if isinstance(context, dict) else {}


def _number(value: Any) -> Any:
    """Return the number that a text of digits is; anything else as it is."""
    return int(value) if isinstance(value, str) and _DIGITS.fullmatch(value) else value


def _read_certificate(entry: Any) -> tuple[str, Key] | None:
    """Return a published certificate's key by its thumbprint (RFC 7515, 4.1.7); None if it is not meant, or not fit, to sign."""
    if not isinstance(entry, dict) or entry.get("usage") != "signing" or not isinstance(entry.get("keyvalue"), dict):
        return None
    if entry["keyvalue"].get("type") != "x509Certificate":
        return None
    try:
        der = base64.b64decode(text_of(entry["keyvalue"], "value"))
        certificate = x509.load_der_x509_certificate(der)
        public = certificate.public_key()
        lifetime: tuple[datetime, datetime] = (certificate.not_valid_before_utc, certificate.not_valid_after_utc)
    except (ValueError, UnsupportedAlgorithm, x509.InvalidVersion):
        return None
    if not isinstance(public, rsa.RSAPublicKey) or public.key_size < MIN_KEY_BITS:
        return None
    # The thumbprint only chooses among the certificates of this very server, so that SHA-1 is no weakness here.
    thumbprint = hashlib.sha1(der, usedforsecurity=False).digest()
    return base64.urlsafe_b64encode(thumbprint).rstrip(b"=").decode(), Key(public, None, lifetime)
