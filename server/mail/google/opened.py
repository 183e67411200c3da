"""The message that is open in Gmail, read by the tokens that Google gives an add-on for it, with no mailbox connected.

Both tokens go along: the person's, and the one for this message (gmail.md 1.4). Nothing of them is kept.
"""

from __future__ import annotations

import re
from typing import Any, cast

from server.errors import Forbidden, NotFound
from server.mail import MessageHead
from server.mail.google.calls import MAX_JSON, Call, lacks_scope, object_of
from server.mail.google.messages import Message, api_id, head_of
from server.transport import Gateway

_TOKEN = re.compile(r"[!-~]{1,4096}")


def head_of_open(gateway: Gateway, service: Any, *, message_id: str, user_token: str, message_token: str) -> MessageHead:
    """Return what the header of an open message says; `service` is what `calls.describe` made of the Gmail API.

    Raises: Forbidden, with code `scopes_missing` if the person has not allowed it, which asking them mends; NotFound,
    RateLimited, Transient, NeedsReauth.
    """
    if not (_TOKEN.fullmatch(user_token) and _TOKEN.fullmatch(message_token)):
        raise NotFound("The mailbox holds no such message.")
    call: Call = service.users().messages().get(userId="me", id=api_id(message_id), format="metadata")
    headers = {"Authorization": f"Bearer {user_token}", "X-Goog-Gmail-Access-Token": message_token}
    reply = gateway.send(call.method, call.url, headers=headers, max_bytes=MAX_JSON, may_repeat=True)
    try:
        return head_of(cast(Message, object_of(reply, call)), {})
    except Forbidden as error:
        if not lacks_scope(error):
            raise
        raise Forbidden("Gmail does not let the add-on see the open message.", code="scopes_missing") from error
