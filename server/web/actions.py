"""What the buttons of a card carry: which action, on what, for whom, and for how long.

    base64url(JSON) "." base64url(HMAC-SHA256 by a key of the caller's tenant)

A card lies in a mail client, from where anything may come back. So a button says only what is in this closed list, with
parameters of these forms, and is good for one user of one tenant, by one runtime, on one message, for an hour. A token that
fails in any of this is refused, and why is for the log alone: whoever made it learns nothing. An action that creates something
is good once; what notes that is not here.
"""

from __future__ import annotations

import base64
import binascii
import hmac
import json
import re
import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, get_args

from server.domain.records import RecordType
from server.errors import InvalidInput
from server.services import Principal
from server.services.add_on import Runtime

VALID_FOR = timedelta(minutes=60)
MAX_TOKEN = 8_000  # characters
MAX_VALUE = 400

_OBJECT_ID = re.compile(r"[0-9A-Fa-f]{32}")
_OWN_ID = re.compile(r"[0-9a-f]{32}")
_TYPE = re.compile("|".join(get_args(RecordType)))
_NEW_TYPE = re.compile("contact|individual_customer|account|lead")
_WORDS = re.compile(rf"[^\x00-\x1f\x7f]{{0,{MAX_VALUE}}}")
_YES = re.compile("1")


@dataclass(frozen=True, slots=True)
class Kind:
    """One action: what it must and may be told, whether it is about a message, and whether it works once."""

    needs: Mapping[str, re.Pattern[str]]
    takes: Mapping[str, re.Pattern[str]]
    on_message: bool = False
    is_once: bool = False


def _kind(needs: Mapping[str, re.Pattern[str]] | None = None, /, **more: Any) -> Kind:
    flags = {name: more.pop(name) for name in ("on_message", "is_once") if name in more}
    return Kind(needs or {}, more, **flags)


ACTIONS: Mapping[str, Kind] = {
    "homepage": _kind(),
    "context": _kind(anyway=_YES, refresh=_YES, complete=_YES, on_message=True),
    "compose": _kind(refresh=_YES, complete=_YES),
    "record": _kind({"type": _TYPE, "id": _OBJECT_ID}),
    "search": _kind(text=_WORDS),
    "find": _kind(above=_YES),
    "create_form": _kind({"type": _NEW_TYPE}, name=_WORDS, address=_WORDS),
    "create": _kind({"type": _NEW_TYPE}, is_once=True),
    "save": _kind(on_message=True),
    "choose": _kind(on_message=True),
    "save_chosen": _kind(on_message=True),
    "save_state": _kind({"id": _OWN_ID}, on_message=True),
    "save_again": _kind({"id": _OWN_ID}, on_message=True),
    "issues": _kind(),
    "force_sync": _kind(),
}


class ButtonRefused(InvalidInput):
    """A button that is not good (any more) here; `why` is for the log."""

    def __init__(self, why: str) -> None:
        super().__init__("token", "This card is out of date. Open the message again.")
        self.why = why


@dataclass(frozen=True, slots=True)
class Action:
    """What a button that was good asks for."""

    name: str
    parameters: Mapping[str, str]
    message_id: str  # "" for a button that is about none
    nonce: str  # 32 hex digits
    expires_at: datetime


@dataclass(frozen=True, slots=True)
class Buttons:
    """Makes and reads the tokens of one caller. `sign` gives 32 bytes that only the named tenant's key gives for a text."""

    sign: Callable[[str, bytes], bytes]
    now: Callable[[], datetime]
    principal: Principal
    runtime: Runtime

    def token(self, name: str, message_id: str, parameters: Mapping[str, str]) -> str:
        """Raises: KeyError for an action that is none, ValueError for parameters that do not fit it: faults of ours."""
        kind = ACTIONS[name]
        if not _fits(kind, parameters, message_id):
            raise ValueError(f"the parameters of {name!r} do not fit it")
        said = {
            "action": name,
            "user": self.principal.user.id,
            "tenant": self.principal.tenant.id,
            "runtime": self.runtime,
            "message": message_id,
            "parameters": dict(parameters),
            "expires_at": int((self.now() + VALID_FOR).timestamp()),
            "nonce": secrets.token_hex(16),
        }
        text = _encoded(json.dumps(said, separators=(",", ":")).encode())
        return f"{text.decode()}.{_encoded(self._signature(text)).decode()}"

    def read(self, token: str, message_id: str) -> Action:
        """Return what a token asks for; `message_id` is of the message that is open, "" if none is.

        Raises: ButtonRefused.
        """
        said = self._opened(token)
        kind = ACTIONS.get(said["action"])
        if kind is None:
            raise ButtonRefused("unknown action")
        if (said["user"], said["tenant"]) != (self.principal.user.id, self.principal.tenant.id):
            raise ButtonRefused("another person's")
        if said["runtime"] != self.runtime:
            raise ButtonRefused("another runtime's")
        if said["message"] not in ("", message_id):
            raise ButtonRefused("another message's")
        if said["expires_at"] <= self.now().timestamp():
            raise ButtonRefused("expired")
        if not _fits(kind, said["parameters"], said["message"]):
            raise ButtonRefused("parameters do not fit")
        until = datetime.fromtimestamp(said["expires_at"], UTC)
        return Action(said["action"], said["parameters"], said["message"], said["nonce"], until)

    def _opened(self, token: str) -> dict[str, Any]:
        """Raises: ButtonRefused unless the tenant's key signed it; what it says is ours then, and as we wrote it."""
        text, _, signature = token.partition(".")
        if len(token) > MAX_TOKEN or not token.isascii():
            raise ButtonRefused("no token")
        if not hmac.compare_digest(self._signature(text.encode()), _decoded(signature)):
            raise ButtonRefused("forged")
        said: dict[str, Any] = json.loads(_decoded(text))
        return said

    def _signature(self, text: bytes) -> bytes:
        return self.sign(self.principal.tenant.id, b"card action 1 " + text)


def _fits(kind: Kind, parameters: Mapping[str, str], message_id: str) -> bool:
    forms = {**kind.needs, **kind.takes}
    return (
        kind.needs.keys() <= parameters.keys() <= forms.keys()
        and all(forms[name].fullmatch(value) for name, value in parameters.items())
        and (bool(message_id) or not kind.on_message)
    )


def _encoded(data: bytes) -> bytes:
    return base64.urlsafe_b64encode(data).rstrip(b"=")


def _decoded(text: str) -> bytes:
    """Return the bytes of base64url text; none for text that is none, which no signature is."""
    try:
        return base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
    except binascii.Error:
        return b""
