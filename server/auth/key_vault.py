"""A key-encryption key in Azure Key Vault: an RSA key that never leaves it. Needs the optional extra `azure`.

The vault unwraps (RSA-OAEP-256); wrapping needs the public key only and happens here. A wrapped key is, after version byte 2 and
the key id, one byte with the length of the key's version in the vault, that version in ASCII, and the ciphertext. The key id
is the beginning of a hash of the key's address and version, so that a key of another vault is known as such without asking.

New versions are made in the vault, by hand or by its rotation policy; `ssi keys rotate` then wraps everything by the newest.
An older version may be disabled once `ssi keys list` no longer names it; nothing here disables one. The identity of the
server needs the permissions get and unwrapKey (role "Key Vault Crypto Service Encryption User").

Everything is sent by our Gateway, Azure's sign-in too: one deadline for all calls of an operation, no retries, no redirects.
"""

from __future__ import annotations

import hashlib
import json
import re
import threading
import time
from collections.abc import Callable, Collection, Iterator, MutableMapping
from contextlib import contextmanager, nullcontext
from typing import Any

from azure.core.credentials import TokenCredential
from azure.core.exceptions import AzureError, ClientAuthenticationError, DecodeError, HttpResponseError, ServiceResponseError
from azure.core.pipeline.transport import HttpTransport
from azure.core.rest import HttpRequest, HttpResponse
from azure.identity import DefaultAzureCredential
from azure.keyvault.keys import KeyClient, KeyVaultKey
from azure.keyvault.keys.crypto import CryptographyClient, KeyWrapAlgorithm
from httpx import codes

from server.auth.secrets import CannotOpen, key_id
from server.errors import InvalidInput, RateLimited, Rejected, Transient
from server.transport import Gateway, Reply, retry_after_s

TRUSTED_S = 300.0
_VERSION = b"\x02"
_HEADER_BYTES = 9  # version byte and key id
_ALGORITHM = KeyWrapAlgorithm.rsa_oaep_256
_PAUSE_S = 5.0  # while the vault is away nobody waits for it anew before
_KEY = re.compile(r"(https://[a-z0-9.-]+(?::\d+)?)/keys/([0-9A-Za-z-]{1,127})(?:/([0-9a-z]{1,64}))?/?")
_PLAIN: dict[str, Any] = {"retry_total": 0, "permit_redirects": False}


class VaultKey:
    """One key in a vault, in all its versions; the newest wraps, or that which the address names. Thread-safe."""

    trusted_s = TRUSTED_S

    def __init__(
        self,
        address: str,
        gateway: Gateway,
        *,
        credential: TokenCredential | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`address` is the key's identifier, https://VAULT/keys/NAME[/VERSION]. Without a credential it is what Azure gives a
        server: a service principal or workload identity in AZURE_* variables, or a managed identity.

        Raises: InvalidInput if the address is none.
        """
        found = _KEY.fullmatch(address)
        if found is None:
            raise InvalidInput("key_vault", "must be the identifier of a key: https://VAULT/keys/NAME or .../NAME/VERSION")
        self._vault, self._name, self._pinned = found[1], found[2], found[3]
        self._transport = _Transport(gateway)
        self._credential = credential or _of_a_server(self._transport)
        self._options: dict[str, Any] = {"transport": self._transport, **_PLAIN}
        self._clock = clock
        self._newest: tuple[KeyVaultKey, float] | None = None  # and until when it is believed to be that
        self._clients: dict[str, CryptographyClient] = {}
        self._away_until = 0.0

    @property
    def ids(self) -> tuple[bytes, ...]:
        return (self._id_of(_version_of(self._wrapping())),)

    def knows(self, wrapped: bytes) -> bool:
        return wrapped[:1] == _VERSION and key_id(wrapped) == self._id_of(_parts(wrapped)[0])

    def wrap(self, raw: bytes) -> bytes:
        key = self._wrapping()
        version = _version_of(key)
        with self._asking():
            client = CryptographyClient(key, self._credential, **self._options)
            ciphertext: bytes = client.wrap_key(_ALGORITHM, raw).encrypted_key
        return _VERSION + self._id_of(version) + bytes([len(version)]) + version.encode() + ciphertext

    def unwrap(self, wrapped: bytes) -> bytes:
        if not self.knows(wrapped):
            raise CannotOpen("The data key is wrapped by another key than the configured one in Azure Key Vault.")
        version, ciphertext = _parts(wrapped)
        with self._asking():
            client = self._clients.get(version)
            if client is None:
                client = CryptographyClient(f"{self._vault}/keys/{self._name}/{version}", self._credential, **self._options)
                self._clients[version] = client
            raw: bytes = client.unwrap_key(_ALGORITHM, ciphertext).key or b""
        return raw

    def rotation(self) -> nullcontext[None]:
        return nullcontext()  # versions are only added, and a row that two rewrap takes the first

    def renew(self) -> None:
        self._newest = None

    def retire(self, named: Collection[bytes]) -> int:
        return 0  # versions are disabled by whoever administers the vault

    def _id_of(self, version: str) -> bytes:
        return hashlib.sha256(f"{self._vault}/keys/{self._name}/{version}".encode()).digest()[: _HEADER_BYTES - 1]

    def _wrapping(self) -> KeyVaultKey:
        """Return the key that wraps, without its private part."""
        known = self._newest
        if known is not None and self._clock() < known[1]:
            return known[0]
        with self._asking():
            key = KeyClient(self._vault, self._credential, **self._options).get_key(self._name, self._pinned)
        if not key.properties.enabled:
            raise CannotOpen("The key in Azure Key Vault that should wrap is disabled.")
        self._newest = key, self._clock() + TRUSTED_S
        return key

    @contextmanager
    def _asking(self) -> Iterator[None]:
        """Give what happens within one deadline, and translate what can go wrong."""
        if self._clock() < self._away_until:
            raise Transient("Azure Key Vault is not available right now.", retry_after_s=_PAUSE_S)
        self._transport.begin()
        try:
            yield
        except ClientAuthenticationError as error:
            self._away_until = self._clock() + _PAUSE_S
            raise Transient("Azure Key Vault cannot be asked: signing in to Azure failed.", retry_after_s=_PAUSE_S) from error
        except HttpResponseError as error:
            raise self._refused(error) from error
        except AzureError as error:
            self._away_until = self._clock() + _PAUSE_S
            raise Transient("Azure Key Vault is not available right now.", retry_after_s=_PAUSE_S) from error
        except ValueError as error:  # a challenge for another host, a key before or after its time
            raise CannotOpen("Azure Key Vault cannot be used with this key.") from error

    def _refused(self, error: HttpResponseError) -> Exception:
        answer: Any = error.response
        headers = {} if answer is None else answer.headers
        pause = retry_after_s(headers.get("Retry-After"), headers.get("Date")) or _PAUSE_S
        status = error.status_code or 0
        if status == 429:
            self._away_until = self._clock() + pause
            return RateLimited("Azure Key Vault asked for a pause.", retry_after_s=pause)
        if status >= 500 or status < 400:
            self._away_until = self._clock() + pause
            return Transient("Azure Key Vault is not available right now.", retry_after_s=pause)
        # 403: no permission, or the version is disabled; 404: deleted; 400: the ciphertext is not one of this key
        return CannotOpen(f"Azure Key Vault refuses the key ({status}).")


def _of_a_server(transport: _Transport) -> TokenCredential:
    """Leave out what is for developers: it starts other programs, and takes long to find that they are not there."""
    without = ("broker", "cli", "developer_cli", "powershell", "shared_token_cache", "visual_studio_code")
    excluded = {f"exclude_{name}_credential": True for name in without}
    return DefaultAzureCredential(transport=transport, **excluded, **_PLAIN)


def _version_of(key: KeyVaultKey) -> str:
    return str(key.properties.version)


def _parts(wrapped: bytes) -> tuple[str, bytes]:
    """Return the key's version in the vault and the ciphertext, both empty if it has not the form."""
    length = wrapped[_HEADER_BYTES] if len(wrapped) > _HEADER_BYTES else 0
    rest = wrapped[_HEADER_BYTES + 1 :]
    version = rest[:length].decode("ascii", "replace")
    return (version, rest[length:]) if re.fullmatch(r"[0-9a-z]{1,64}", version) else ("", b"")


class _Transport(HttpTransport[HttpRequest, HttpResponse]):
    """Azure's clients over a Gateway. Whatever a thread sends from `begin` on has one deadline."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway
        self._operation = _Operation()

    def begin(self) -> None:
        self._operation.until = time.monotonic() + self._gateway.timeout_s

    def send(self, request: HttpRequest, **_: Any) -> HttpResponse:
        left = self._operation.until - time.monotonic()
        if left <= 0:
            raise ServiceResponseError("The deadline has passed.")
        try:
            reply = self._gateway.send(
                request.method,
                request.url,
                headers=request.headers,
                **_body(request.content),
                is_write=False,  # wrapping, unwrapping and signing in change nothing
                timeout_s=left,
            )
        except (Transient, Rejected) as error:
            raise ServiceResponseError(str(error), error=error) from error
        return _Response(request, reply)

    def open(self) -> None: ...

    def close(self) -> None: ...

    def __exit__(self, *_: object) -> None: ...


def _body(content: Any) -> dict[str, Any]:
    return {"data": content} if isinstance(content, dict) else {"content": content}


class _Operation(threading.local):
    until = 0.0


class _Response(HttpResponse):
    """A Reply, which is read already, as Azure's clients know an answer."""

    encoding = "utf-8"
    is_closed = True
    is_stream_consumed = True

    def __init__(self, request: HttpRequest, reply: Reply) -> None:
        self._request, self._reply = request, reply

    @property
    def request(self) -> HttpRequest:
        return self._request

    @property
    def url(self) -> str:
        return self._request.url

    @property
    def status_code(self) -> int:
        return self._reply.status

    @property
    def headers(self) -> MutableMapping[str, str]:
        return self._reply.headers

    @property
    def reason(self) -> str:
        return codes.get_reason_phrase(self._reply.status)

    @property
    def content_type(self) -> str | None:
        return self.headers.get("content-type")

    @property
    def content(self) -> bytes:
        return self._reply.content

    def text(self, encoding: str | None = None) -> str:
        return self.content.decode(encoding or "utf-8-sig", "replace")

    def json(self) -> Any:
        try:
            return json.loads(self.text())
        except ValueError as error:
            raise DecodeError("The answer is not JSON.", response=self, error=error) from error

    def raise_for_status(self) -> None:
        if self.status_code >= 400:
            raise HttpResponseError(response=self)

    def read(self) -> bytes:
        return self.content

    def iter_raw(self, **_: Any) -> Iterator[bytes]:
        yield self.content

    def iter_bytes(self, **_: Any) -> Iterator[bytes]:
        yield self.content

    def close(self) -> None: ...

    def __enter__(self) -> _Response:
        return self

    def __exit__(self, *_: object) -> None: ...
