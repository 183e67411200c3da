"""Envelope encryption of what must not be readable in a database dump.

Each tenant has a data key, stored wrapped by the key-encryption key (KEK) of this installation; what is sealed with it is bound
to its context "tenant:row:column" as additional data, so that a value moved to another row, column or tenant does not open.
AES-256-GCM with random 96-bit nonces throughout. Layouts, after a version byte 1:

    wrapped key:  8 bytes key id of the KEK, 12 bytes nonce, 32 bytes ciphertext, 16 bytes tag
    sealed value: 12 bytes nonce, ciphertext, 16 bytes tag

The same data key also gives keyed hashes, by which something can be found again without being readable.

Changing the KEK means wrapping the data keys anew; sealed values stay as they are. Nothing here stores or logs anything.
"""

from __future__ import annotations

import base64
import binascii
import contextlib
import hashlib
import hmac
import os
import secrets
import stat
import threading
from collections import OrderedDict
from dataclasses import dataclass, field
from pathlib import Path

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from server.errors import AlreadyExists, InvalidInput

_VERSION = b"\x01"
_KEY_BYTES = 32
_NONCE_BYTES = 12
_ID_BYTES = 8
_TAG_BYTES = 16
_HASH_BYTES = 16
_CACHED_KEYS = 256


class CannotOpen(Exception):
    """A sealed value is damaged, belongs elsewhere, or was made under another key: a fault of the installation, not of a peer."""


@dataclass(frozen=True, slots=True)
class _DataKey:
    aead: AESGCM = field(repr=False)
    for_hashes: bytes = field(repr=False)


class Secrets:
    """Seals and opens values by data keys that are wrapped by one KEK. Thread-safe."""

    def __init__(self, kek: bytes) -> None:
        if len(kek) != _KEY_BYTES:
            raise InvalidInput("key", f"must have {_KEY_BYTES} bytes")
        self._kek = AESGCM(kek)
        self._kek_id = hmac.digest(kek, b"ssi key id", hashlib.sha256)[:_ID_BYTES]
        self._unwrapped: OrderedDict[bytes, _DataKey] = OrderedDict()
        self._lock = threading.Lock()

    def __repr__(self) -> str:
        return f"<Secrets under key {self._kek_id.hex()}>"

    def new_data_key(self) -> bytes:
        """Return a fresh data key, wrapped: what is stored with the tenant."""
        header, nonce = _VERSION + self._kek_id, secrets.token_bytes(_NONCE_BYTES)
        return header + nonce + self._kek.encrypt(nonce, AESGCM.generate_key(_KEY_BYTES * 8), header)

    def seal(self, wrapped_key: bytes, plaintext: bytes, *, context: str) -> bytes:
        """Return `plaintext` sealed for the place that `context` names.

        Raises: CannotOpen if the wrapped key is not one of this KEK.
        """
        nonce = secrets.token_bytes(_NONCE_BYTES)
        return _VERSION + nonce + self._data_key(wrapped_key).aead.encrypt(nonce, plaintext, _bound_to(context))

    def open(self, wrapped_key: bytes, sealed: bytes, *, context: str) -> bytes:
        """Return what was sealed for this very context.

        Raises: CannotOpen if it was sealed for another one, by another key, or was changed since.
        """
        nonce, ciphertext = sealed[1 : 1 + _NONCE_BYTES], sealed[1 + _NONCE_BYTES :]
        if sealed[:1] != _VERSION or len(ciphertext) < _TAG_BYTES:
            raise CannotOpen("The sealed value has an unknown form.")
        try:
            return self._data_key(wrapped_key).aead.decrypt(nonce, ciphertext, _bound_to(context))
        except InvalidTag:
            raise CannotOpen("The sealed value was changed or belongs to another place.") from None

    def keyed_hash(self, wrapped_key: bytes, text: str) -> bytes:
        """Return 16 bytes that are the same for the same text under the same data key, and tell nothing without it.

        Raises: CannotOpen if the wrapped key is not one of this KEK.
        """
        return hmac.digest(self._data_key(wrapped_key).for_hashes, text.encode(), hashlib.sha256)[:_HASH_BYTES]

    def _data_key(self, wrapped: bytes) -> _DataKey:
        with self._lock:
            key = self._unwrapped.get(wrapped)
            if key is not None:
                self._unwrapped.move_to_end(wrapped)
                return key
        raw = self._unwrap(wrapped)
        key = _DataKey(AESGCM(raw), hmac.digest(raw, b"ssi keyed hash", hashlib.sha256))
        with self._lock:
            self._unwrapped[wrapped] = key
            if len(self._unwrapped) > _CACHED_KEYS:
                self._unwrapped.popitem(last=False)
        return key

    def _unwrap(self, wrapped: bytes) -> bytes:
        header, rest = wrapped[: 1 + _ID_BYTES], wrapped[1 + _ID_BYTES :]
        if header[:1] != _VERSION or len(rest) != _NONCE_BYTES + _KEY_BYTES + _TAG_BYTES:
            raise CannotOpen("The data key has an unknown form.")
        if header[1:] != self._kek_id:
            raise CannotOpen("The data key is wrapped by another key than the configured one.")
        try:
            return self._kek.decrypt(rest[:_NONCE_BYTES], rest[_NONCE_BYTES:], header)
        except InvalidTag:
            raise CannotOpen("The data key was changed.") from None


def load_key_file(path: Path) -> bytes:
    """Read the KEK: 32 bytes as base64url text in a file that only its owner may read.

    Raises: InvalidInput if the file is missing, readable by others, or does not hold such a key.
    """
    try:
        with path.open("rb") as file:
            mode = os.fstat(file.fileno()).st_mode
            text = file.read(200).strip()
    except OSError as error:
        raise InvalidInput("key_file", f"cannot be read: {error.strerror}") from None
    if mode & (stat.S_IRWXG | stat.S_IRWXO):
        raise InvalidInput("key_file", "may be read by others; allow only its owner (mode 0600)")
    try:
        key = base64.b64decode(text + b"=" * (-len(text) % 4), altchars=b"-_", validate=True)
    except binascii.Error:
        raise InvalidInput("key_file", "does not hold base64url text") from None
    if len(key) != _KEY_BYTES:
        raise InvalidInput("key_file", f"must hold {_KEY_BYTES} bytes")
    return key


def create_key_file(path: Path) -> None:
    """Write a new KEK to `path`, whole or not at all, readable by its owner only.

    Raises: AlreadyExists if there is a file: overwriting a key would lose everything sealed under it.
    """
    draft = path.with_name(f"{path.name}.{secrets.token_hex(4)}")
    handle = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(base64.urlsafe_b64encode(secrets.token_bytes(_KEY_BYTES)) + b"\n")
            file.flush()
            os.fsync(file.fileno())
        os.link(draft, path)  # fails if the name is taken, unlike a rename
    except FileExistsError:
        raise AlreadyExists("There is a key file already.") from None
    finally:
        with contextlib.suppress(FileNotFoundError):
            draft.unlink()


def _bound_to(context: str) -> bytes:
    return _VERSION + context.encode()
