"""Identity tokens by which an Exchange server tells an add-in's own server who sits at Outlook, and the document to check them.

As Exchange 2013 and later make them for `getUserIdentityTokenAsync`: a JWT whose header names the server's signing certificate
by thumbprint, with the person in `appctx`, which is a JSON text inside the token. Everybody may fetch the document with the
certificates. `ExchangeIdentity` is the back door. Sources: Office add-ins documentation, "Inside the Exchange identity token",
"Validate an Exchange identity token".
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import uuid
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import jwt
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.x509.oid import NameOID

from simulator.world import GetWorld, Person, World

PATH = "/autodiscover/metadata/json/1"
EXCHANGE = "00000002-0000-0ff1-ce00-000000000000"  # Exchange's own application id, the same at every server
VERSION = "ExIdTok.V1"
TOKEN_LIFE = timedelta(hours=8)  # as in the documentation's samples
CERTIFICATE_LIFE = timedelta(days=5 * 365)

_IN_CONTEXT = ("msexchuid", "version", "amurl")
_Signer = tuple[rsa.RSAPrivateKey, x509.Certificate]


def mailbox_guid(person: Person) -> str:
    """The `msexchuid` of a person: it never changes."""
    return f"{uuid.uuid5(uuid.NAMESPACE_URL, person.object_id)}@{person.email.rpartition('@')[2]}"


def thumbprint(certificate: x509.Certificate) -> str:
    """The `x5t` of a certificate (RFC 7515, 4.1.7)."""
    digest = hashlib.sha1(certificate.public_bytes(serialization.Encoding.DER)).digest()
    return base64.urlsafe_b64encode(digest).rstrip(b"=").decode()


class ExchangeIdentity:
    """The server's signing certificates: the last one signs, the one before it is still published.

    `public_url` tells, without a trailing slash, where the server is reached. With `state_dir` (an existing directory) the keys
    are kept there, so that tokens outlive a restart.
    """

    def __init__(self, get_world: GetWorld, *, public_url: Callable[[], str], state_dir: Path | None = None) -> None:
        self._get_world = get_world
        self._public_url = public_url
        self._file = state_dir / "exchange-identity.json" if state_dir else None
        self._signers: list[_Signer] = _read(self._file) if self._file and self._file.exists() else []

    @property
    def metadata_url(self) -> str:
        return self._public_url() + PATH

    @property
    def signers(self) -> list[_Signer]:
        """The keys with their certificates; the first one is made when it is needed, by the World's clock."""
        with self._get_world().lock:
            if not self._signers:
                self.rotate()
            return self._signers

    @property
    def signer(self) -> _Signer:
        """The key that signs now, and its certificate."""
        return self.signers[-1]

    def metadata(self) -> dict[str, Any]:
        anywhere = f"{EXCHANGE}@*"
        return {
            "id": f"_{uuid.uuid5(uuid.NAMESPACE_URL, self.metadata_url)}",
            "version": "1.0",
            "name": "Exchange",
            "realm": "*",
            "serviceName": EXCHANGE,
            "issuer": anywhere,
            "allowedAudiences": [anywhere],
            "keys": [published(certificate) for _, certificate in self.signers],
            "endpoints": [{"location": self.metadata_url, "protocol": "OAuth2", "usage": "metadata"}],
        }

    def mint_identity_token(self, world: World, person: Person, audience: str, **overrides: Any) -> str:
        """Return what getUserIdentityTokenAsync gives a person in a pane whose address by the manifest is `audience`.

        `overrides` replaces claims, or members of `appctx`; None removes one.
        """
        claims = self.claims(world, person, audience, **overrides)
        key, certificate = self.signer
        return jwt.encode(claims, key, algorithm="RS256", headers={"x5t": thumbprint(certificate)})

    def claims(self, world: World, person: Person, audience: str, **overrides: Any) -> dict[str, Any]:
        now = int(world.now().timestamp())
        context: dict[str, Any] = {"msexchuid": mailbox_guid(person), "version": VERSION, "amurl": self.metadata_url}
        context |= {name: overrides.pop(name) for name in _IN_CONTEXT if name in overrides}
        server = f"{EXCHANGE}@{person.email.rpartition('@')[2]}"
        claims = {"aud": audience, "iss": server, "nbf": now, "exp": now + int(TOKEN_LIFE.total_seconds())}
        claims |= {"appctxsender": server, "isbrowserhostedapp": "true", "appctx": json.dumps(_given(context))}
        return _given(claims | overrides)

    def rotate(self, life: timedelta = CERTIFICATE_LIFE, *, bits: int = 2048) -> str:
        """Sign with a new certificate from now on, valid for so long; returns its `x5t`."""
        world = self._get_world()
        with world.lock:
            key = rsa.generate_private_key(public_exponent=65537, key_size=bits)
            name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Microsoft Exchange Server Auth Certificate")])
            builder = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
            builder = builder.serial_number(x509.random_serial_number()).not_valid_before(world.now() - timedelta(days=1))
            self._signers = [*self._signers[-1:], (key, builder.not_valid_after(world.now() + life).sign(key, hashes.SHA256()))]
            if self._file is not None:
                _write(self._file, self._signers)
            return thumbprint(self._signers[-1][1])


def published(certificate: x509.Certificate) -> dict[str, Any]:
    """A signing certificate as the document shows it."""
    der = certificate.public_bytes(serialization.Encoding.DER)
    return {
        "usage": "signing",
        "keyinfo": {"x5t": thumbprint(certificate)},
        "keyvalue": {"type": "x509Certificate", "value": base64.b64encode(der).decode()},
    }


def _given(members: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in members.items() if value is not None}


def _read(file: Path) -> list[_Signer]:
    signers: list[_Signer] = []
    for key_pem, certificate_pem in json.loads(file.read_text()):
        key = serialization.load_pem_private_key(key_pem.encode(), None)
        assert isinstance(key, rsa.RSAPrivateKey)
        signers.append((key, x509.load_pem_x509_certificate(certificate_pem.encode())))
    return signers


def _write(file: Path, signers: list[_Signer]) -> None:
    pem = serialization.Encoding.PEM
    form = (pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    kept = [[key.private_bytes(*form).decode(), certificate.public_bytes(pem).decode()] for key, certificate in signers]
    with os.fdopen(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as out:
        json.dump(kept, out)
