"""Envelope encryption of what must not be readable in a database dump.

Each tenant has a data key, stored wrapped by a key-encryption key (KEK) of this installation; what is sealed with it is bound
to its context "tenant:row:column" as additional data, so that a value moved to another row, column or tenant does not open.
AES-256-GCM with random 96-bit nonces throughout. A sealed value is a version byte 1, 12 bytes nonce, ciphertext, 16 bytes tag.
A wrapped key begins with a version byte, which says by what kind of key it was wrapped, and 8 bytes key id:

    1  a key of the key file: 12 bytes nonce, 32 bytes ciphertext, 16 bytes tag
    2  a key in Azure Key Vault: see server.auth.key_vault

The same data key also gives keyed hashes, by which something can be found again without being readable, and signs what we hand
out and want back unchanged; each by a key of its own, derived from it.

Changing the KEK means wrapping the data keys anew (server.services.keys); sealed values stay as they are. Nothing here stores
a data key, or logs anything.
"""

from __future__ import annotations

import base64
import binascii
import contextlib
import fcntl
import hashlib
import hmac
import math
import os
import secrets
import stat
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from server.errors import AlreadyExists, Conflict, InvalidInput

_VERSION = b"\x01"
_KEY_BYTES = 32
_NONCE_BYTES = 12
_ID_BYTES = 8
_TAG_BYTES = 16
_HASH_BYTES = 16
_CACHED_KEYS = 256
_MAX_FILE_BYTES = 16 * 1024


class CannotOpen(Exception):
    """A sealed value is damaged, belongs elsewhere, or was made under another key: a fault of the installation, not of a peer."""


class Kek(Protocol):
    """Key-encryption keys: the first wraps, and all unwrap what they wrapped. Thread-safe.

    Any method may raise Transient if the keys are elsewhere and cannot be asked.
    """

    trusted_s: float  # for so long an unwrapped data key may be used without asking again

    @property
    def ids(self) -> tuple[bytes, ...]:
        """8 bytes for each key that is in use, that which wraps first."""

    def knows(self, wrapped: bytes) -> bool:
        """Say whether one of these keys wrapped it."""

    def wrap(self, raw: bytes) -> bytes: ...

    def unwrap(self, wrapped: bytes) -> bytes:
        """Raises: CannotOpen if no key here wrapped it, or it was changed since."""

    def rotation(self) -> AbstractContextManager[None]:
        """Keep others from changing the keys meanwhile. Raises: Conflict if somebody changes them now."""

    def renew(self) -> None:
        """Have a new key wrap from now on. Raises: InvalidInput if there can be none."""

    def retire(self, named: Collection[bytes]) -> int:
        """Drop the keys that no longer wrap and are not `named`; return how many."""


@dataclass(frozen=True, slots=True)
class _DataKey:
    aead: AESGCM = field(repr=False)
    for_hashes: bytes = field(repr=False)
    for_signatures: bytes = field(repr=False)
    until: float  # by the clock of Secrets


class Secrets:
    """Seals and opens values by data keys that are wrapped by a KEK. Thread-safe.

    What the KEKs in `former` wrapped is opened too: an installation that moves to another kind of key has both for a while.
    """

    def __init__(self, kek: Kek, *former: Kek, clock: Callable[[], float] = time.monotonic) -> None:
        self.kek = kek
        self._all = (kek, *former)
        self._clock = clock
        self._unwrapped: OrderedDict[bytes, _DataKey] = OrderedDict()
        self._lock = threading.Lock()

    def __repr__(self) -> str:
        return f"<Secrets under {type(self.kek).__name__}>"

    def new_data_key(self) -> bytes:
        """Return a fresh data key, wrapped: what is stored with the tenant. Raises: Transient."""
        return self._wrapped(AESGCM.generate_key(_KEY_BYTES * 8))

    def rewrap(self, wrapped_key: bytes) -> bytes:
        """Return the same data key, wrapped by the key that wraps now.

        Raises: CannotOpen if the wrapped key is not one of these KEKs'; Transient.
        """
        return self._wrapped(self._unwrap(self._knowing(wrapped_key), wrapped_key))

    def knows(self, wrapped_key: bytes) -> bool:
        """Say whether the key that wrapped it is one of these KEKs'."""
        return any(kek.knows(wrapped_key) for kek in self._all)

    def check(self, wrapped_key: bytes) -> None:
        """Raises: CannotOpen if the wrapped key does not open; Transient."""
        self._data_key(wrapped_key)

    def seal(self, wrapped_key: bytes, plaintext: bytes, *, context: str) -> bytes:
        """Return `plaintext` sealed for the place that `context` names.

        Raises: CannotOpen if the wrapped key is not one of these KEKs'; Transient.
        """
        nonce = secrets.token_bytes(_NONCE_BYTES)
        return _VERSION + nonce + self._data_key(wrapped_key).aead.encrypt(nonce, plaintext, _bound_to(context))

    def open(self, wrapped_key: bytes, sealed: bytes, *, context: str) -> bytes:
        """Return what was sealed for this very context.

        Raises: CannotOpen if it was sealed for another one, by another key, or was changed since; Transient.
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

        Raises: CannotOpen if the wrapped key is not one of these KEKs'; Transient.
        """
        return self.hasher(wrapped_key)(text)

    def hasher(self, wrapped_key: bytes) -> Callable[[str], bytes]:
        """Return `keyed_hash` under this data key, for many texts: to be kept no longer than a job takes."""
        key = self._data_key(wrapped_key).for_hashes
        return lambda text: hmac.digest(key, text.encode(), hashlib.sha256)[:_HASH_BYTES]

    def signature(self, wrapped_key: bytes, text: bytes) -> bytes:
        """Return 32 bytes that only this data key gives for `text`. Raises: as keyed_hash."""
        return hmac.digest(self._data_key(wrapped_key).for_signatures, text, hashlib.sha256)

    def _data_key(self, wrapped: bytes) -> _DataKey:
        now = self._clock()
        with self._lock:
            key = self._unwrapped.get(wrapped)
            if key is not None and now < key.until:
                self._unwrapped.move_to_end(wrapped)
                return key
        kek = self._knowing(wrapped)
        raw = self._unwrap(kek, wrapped)
        key = _DataKey(AESGCM(raw), _derived(raw, b"ssi keyed hash"), _derived(raw, b"ssi signature"), now + kek.trusted_s)
        with self._lock:
            self._unwrapped[wrapped] = key
            if len(self._unwrapped) > _CACHED_KEYS:
                self._unwrapped.popitem(last=False)
        return key

    def _knowing(self, wrapped: bytes) -> Kek:
        for kek in self._all:
            if kek.knows(wrapped):
                return kek
        raise CannotOpen(f"The data key is wrapped by another key than the configured one: {key_id(wrapped).hex()}.")

    def _unwrap(self, kek: Kek, wrapped: bytes) -> bytes:
        raw = kek.unwrap(wrapped)
        if len(raw) != _KEY_BYTES:
            raise CannotOpen("The data key has another length.")
        return raw

    def _wrapped(self, raw: bytes) -> bytes:
        wrapped = self.kek.wrap(raw)
        # Anybody can wrap by a public key, also one who may not unwrap by it: nothing that does not open again is stored.
        if not hmac.compare_digest(self.kek.unwrap(wrapped), raw):
            raise CannotOpen("The key-encryption key does not unwrap what it wrapped.")
        return wrapped


def key_id(wrapped: bytes) -> bytes:
    """Return the id of the key that wrapped it, in every layout."""
    return wrapped[1 : 1 + _ID_BYTES]


class FileKeys:
    """Keys in a file that only its owner may read: one a line, 32 bytes as base64url text, the first wraps.

    A wrapped key whose id is not known has the file read again, so that a running process follows a rotation. What was once
    read is not forgotten by it: a wrapped key that it read from the database just before may still come to be opened.
    """

    trusted_s = math.inf  # whoever takes the file away does not take the key out of memory either

    def __init__(self, path: Path) -> None:
        """Raises: InvalidInput as load_key_file."""
        self._path = path
        self._reading = threading.Lock()
        self._keys: dict[bytes, AESGCM] = {}
        self._ids: tuple[bytes, ...] = ()
        self._read()

    @property
    def ids(self) -> tuple[bytes, ...]:
        return self._ids

    def knows(self, wrapped: bytes) -> bool:
        if wrapped[:1] != _VERSION:
            return False
        if key_id(wrapped) not in self._keys:
            try:
                self._read()
            except InvalidInput as error:  # the file was good when the process began
                raise CannotOpen(f"The key file can no longer be used: {error.reason}.") from error
        return key_id(wrapped) in self._keys

    def wrap(self, raw: bytes) -> bytes:
        self._read()  # what wraps must still be in the file
        first = self._ids[0]
        header, nonce = _VERSION + first, secrets.token_bytes(_NONCE_BYTES)
        return header + nonce + self._keys[first].encrypt(nonce, raw, header)

    def unwrap(self, wrapped: bytes) -> bytes:
        header, rest = wrapped[: 1 + _ID_BYTES], wrapped[1 + _ID_BYTES :]
        if header[:1] != _VERSION or len(rest) != _NONCE_BYTES + _KEY_BYTES + _TAG_BYTES:
            raise CannotOpen("The data key has an unknown form.")
        if not self.knows(wrapped):
            raise CannotOpen("The data key is wrapped by another key than those in the key file.")
        try:
            return self._keys[header[1:]].decrypt(rest[:_NONCE_BYTES], rest[_NONCE_BYTES:], header)
        except InvalidTag:
            raise CannotOpen("The data key was changed.") from None

    @contextmanager
    def rotation(self) -> Iterator[None]:
        """Hold the lock on the file's folder, which ends with the process: the file itself is replaced."""
        folder = os.open(self._path.resolve().parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            try:
                fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise Conflict("The keys are being rotated by another process.") from None
            self._read()
            yield
        finally:
            os.close(folder)

    def renew(self) -> None:
        self._write([secrets.token_bytes(_KEY_BYTES), *load_key_file(self._path)])

    def retire(self, named: Collection[bytes]) -> int:
        keys = load_key_file(self._path)
        kept = [key for number, key in enumerate(keys) if number == 0 or _id_of(key) in named]
        if len(kept) < len(keys):
            self._write(kept)
        return len(keys) - len(kept)

    def _read(self) -> None:
        with self._reading:  # what a slower thread read before must not come in place of this
            keys = {_id_of(key): AESGCM(key) for key in load_key_file(self._path)}
            self._keys = {**self._keys, **keys}  # replaced, not changed: other threads look things up in it
            self._ids = tuple(keys)

    def _write(self, keys: list[bytes]) -> None:
        """Put another file in place of the key file, whole or not at all. Raises: InvalidInput if that is not possible."""
        target = self._path.resolve()
        try:
            owner = target.stat()
            draft = target.with_name(target.name + ".new")
            draft.unlink(missing_ok=True)  # of a rotation that was killed
            with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
                os.fchown(file.fileno(), owner.st_uid, owner.st_gid)  # root may do it for the server's account
                os.fchmod(file.fileno(), stat.S_IMODE(owner.st_mode))
                _write_keys(file.fileno(), keys)
            os.replace(draft, target)
            folder = os.open(target.parent, os.O_RDONLY | os.O_DIRECTORY)
            try:
                os.fsync(folder)  # before any row names a key, the file that holds it has survived a power cut
            finally:
                os.close(folder)
        except OSError as error:
            raise InvalidInput("key_file", f"cannot be changed: {error.strerror}") from None
        self._read()


def load_key_file(path: Path) -> list[bytes]:
    """Read the keys of a key file, that which wraps first.

    Raises: InvalidInput if the file is missing, readable by others, or does not hold such keys.
    """
    try:
        with path.open("rb") as file:
            mode = os.fstat(file.fileno()).st_mode
            text = file.read(_MAX_FILE_BYTES)
    except OSError as error:
        raise InvalidInput("key_file", f"cannot be read: {error.strerror}") from None
    if mode & (stat.S_IRWXG | stat.S_IRWXO):
        raise InvalidInput("key_file", "may be read by others; allow only its owner (mode 0600)")
    keys = [_parsed(line) for line in text.split()]
    if not keys:
        raise InvalidInput("key_file", "is empty")
    return keys


def _parsed(line: bytes) -> bytes:
    try:
        key = base64.b64decode(line + b"=" * (-len(line) % 4), altchars=b"-_", validate=True)
    except binascii.Error:
        raise InvalidInput("key_file", "does not hold base64url text") from None
    if len(key) != _KEY_BYTES:
        raise InvalidInput("key_file", f"must hold keys of {_KEY_BYTES} bytes")
    return key


def create_key_file(path: Path) -> None:
    """Write a new KEK to `path`, whole or not at all, readable by its owner only.

    Raises: AlreadyExists if there is a file: overwriting a key would lose everything sealed under it.
    """
    draft = path.with_name(f"{path.name}.{secrets.token_hex(4)}")
    handle = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(handle, "wb") as file:
            _write_keys(file.fileno(), [secrets.token_bytes(_KEY_BYTES)])
        os.link(draft, path)  # fails if the name is taken, unlike a rename
    except FileExistsError:
        raise AlreadyExists("There is a key file already.") from None
    finally:
        with contextlib.suppress(FileNotFoundError):
            draft.unlink()


def _write_keys(handle: int, keys: Iterable[bytes]) -> None:
    os.write(handle, b"".join(base64.urlsafe_b64encode(key) + b"\n" for key in keys))
    os.fsync(handle)


def _id_of(key: bytes) -> bytes:
    return hmac.digest(key, b"ssi key id", hashlib.sha256)[:_ID_BYTES]


def _derived(raw: bytes, purpose: bytes) -> bytes:
    return hmac.digest(raw, purpose, hashlib.sha256)


def _bound_to(context: str) -> bytes:
    return _VERSION + context.encode()
