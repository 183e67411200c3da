"""What Gmail tells of what happened, as the shim forwards it and as Google sends it itself; what else is in it is ignored."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta, timezone
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, StringConstraints, ValidationError, model_validator

from server.domain.addresses import addresses_of
from server.domain.mime import Headers, clean
from server.errors import InvalidInput
from server.services.add_on import OpenMessage, item_of
from server.services.context import Item

MAX_VALUES = 300  # ticks of one field; a card offers at most 100
MAX_HEADER = 100_000  # characters of a field; a lookup asks for far fewer people than these name
_DAY_MS = 24 * 3600 * 1000

Text = Annotated[str, StringConstraints(max_length=4_000)]


def _header(value: Any) -> Any:
    """Return what a sender wrote, who may write anything: what is too long ends after an entry, halves of characters are "?"."""
    if not isinstance(value, str):
        return value
    text = value if len(value) <= MAX_HEADER else value[:MAX_HEADER].rpartition(",")[0]
    return text.encode("utf-8", "replace").decode()


Header = Annotated[str, BeforeValidator(_header)]
Id = Annotated[str, StringConstraints(max_length=400, pattern=r"^[!-~]*$")]
Name = Annotated[str, StringConstraints(max_length=100, pattern=r"^[!-9;-~]+$")]  # of a field (RFC 5322 2.2)
Recipients = Annotated[list[Header], Field(max_length=2_000)]


class _Part(BaseModel):
    model_config = ConfigDict(extra="ignore", strict=True)

    @model_validator(mode="before")
    @classmethod
    def _without_nulls(cls, body: Any) -> Any:
        """What is null is not there."""
        return {name: value for name, value in body.items() if value is not None} if isinstance(body, dict) else body


class _Values(_Part):
    value: Annotated[list[Text], Field(max_length=MAX_VALUES)] = []


class _Input(_Part):
    stringInputs: _Values = _Values()


class _Zone(_Part):
    offset: Annotated[int, Field(gt=-_DAY_MS, lt=_DAY_MS, strict=False)] = 0  # ms before UTC's clock; also seen as a text


class _Common(_Part):
    userLocale: Text = ""
    timeZone: _Zone = _Zone()
    formInputs: Annotated[dict[Text, _Input], Field(max_length=100)] | None = None
    parameters: dict[Text, Annotated[str, StringConstraints(max_length=10_000)]] | None = None


class _Gmail(_Part):
    messageId: Id = ""
    threadId: Id = ""
    accessToken: Text = ""
    toRecipients: Recipients | None = None
    ccRecipients: Recipients | None = None
    bccRecipients: Recipients | None = None


class _Headers(_Part):
    """Header fields as they stand in the message; None for one that it lacks."""

    sender: Annotated[Header | None, Field(alias="from")] = None
    to: Header | None = None
    cc: Header | None = None
    subject: Header | None = None
    messageId: Header | None = None
    others: Annotated[dict[Name, Header], Field(max_length=30)] | None = None  # by which programs tell that they sent it


class _Authorization(_Part):
    userOAuthToken: Text = ""


class Event(_Part):
    """One event. `message` is what the shim read; Google itself sends none."""

    commonEventObject: _Common = _Common()
    gmail: _Gmail = _Gmail()
    message: _Headers | None = None
    authorizationEventObject: _Authorization = _Authorization()

    @property
    def locale(self) -> str:
        return self.commonEventObject.userLocale

    @property
    def zone(self) -> timezone:
        return timezone(timedelta(milliseconds=self.commonEventObject.timeZone.offset))

    @property
    def message_id(self) -> str:
        return self.gmail.messageId

    @property
    def token(self) -> str:
        """What the pressed button carries."""
        return (self.commonEventObject.parameters or {}).get("token", "")

    @property
    def opened(self) -> OpenMessage:
        gmail, user_token = self.gmail, self.authorizationEventObject.userOAuthToken
        return OpenMessage(gmail.messageId, gmail.threadId, user_token, gmail.accessToken)

    def ticked(self, name: str) -> list[str]:
        """Return the values of a field of the form; none for one that was left empty, which does not come."""
        field = (self.commonEventObject.formInputs or {}).get(name)
        return field.stringInputs.value if field else []

    def typed(self, name: str) -> str:
        return next(iter(self.ticked(name)), "").strip()

    def entries(self) -> dict[str, str]:
        """Return every field's first value."""
        return {name: self.typed(name) for name in self.commonEventObject.formInputs or {}}

    def item(self, mailbox: str) -> Item:
        """Return the open message as the shim read it."""
        said = self.message or _Headers()
        fields = {"From": said.sender, "To": said.to, "Cc": said.cc, "Subject": said.subject, "Message-ID": said.messageId}
        told = "".join(f"{name}: {clean(value)}\r\n" for name, value in (said.others or {}).items() if value)
        headers = Headers({name: value or "" for name, value in fields.items()})
        return item_of(self.opened, headers, mailbox=mailbox, header=told)

    def draft(self, mailbox: str) -> Item:
        """Return the message that is being written, by its recipients."""
        gmail = self.gmail
        fields = {"To": gmail.toRecipients, "Cc": gmail.ccRecipients, "Bcc": gmail.bccRecipients}
        headers = Headers((name, value) for name, values in fields.items() for value in values or ())
        to, cc, bcc = (addresses_of(headers, name) for name in fields)
        return Item("draft", "gmail", mailbox, "", "", "", None, to, cc, bcc)


def read(body: Mapping[str, Any]) -> Event:
    """Raises: InvalidInput, naming the member, for what Gmail would not send."""
    try:
        return Event.model_validate(body)
    except ValidationError as error:
        place = ".".join(map(str, error.errors(include_input=False, include_url=False)[0]["loc"]))[:100]
        raise InvalidInput("event", f"Gmail sent something unexpected at {place}.") from None


def user_token(body: Mapping[str, Any]) -> str:
    """Return the person's ID token of an event that Google itself sends, "" if there is none; nothing else is looked at."""
    authorization = body.get("authorizationEventObject")
    token = authorization.get("userIdToken") if isinstance(authorization, dict) else None
    return token if isinstance(token, str) else ""
