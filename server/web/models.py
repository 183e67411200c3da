"""The JSON of the API: what is taken and what is given, bounded, and nothing else (extra members are refused)."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from server.domain.message import Address
from server.domain.mime import clean
from server.domain.profile import Profile
from server.domain.records import Record, RecordRef, RecordType
from server.errors import RateLimited, Transient
from server.services import records
from server.services.context import Context, Item
from server.services.issues import DISMISS, Told
from server.services.saving import Outcome, Preview
from server.services.syncing import Engine, EngineState
from server.services.wishes import Chosen, Wish

Text = Annotated[str, StringConstraints(max_length=4_000)]
Id = Annotated[str, StringConstraints(min_length=1, max_length=400, pattern=r"^[!-~]+$")]  # base64, whatever the provider
Value = Annotated[str, StringConstraints(max_length=1_280)]  # the longest that C4C takes is a web address
ObjectId = Annotated[str, StringConstraints(pattern=r"^[0-9A-Fa-f]{32}$")]
SaveState = Literal["none", "pending", "unknown", "saved", "failed"]
IssueKind = Literal["email", "contact", "account", "individual_customer", "mailbox"]


class Model(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class AddressIn(Model):
    name: Text = ""
    address: Annotated[str, StringConstraints(max_length=1_000)] = ""

    def value(self) -> Address:
        return Address(self.name, self.address)


Addresses = Annotated[list[AddressIn], Field(max_length=2_000)]


class ItemIn(Model):
    """A message as the mail client describes it."""

    id: Id
    id_form: Literal["rest", "ews", "gmail"] = "rest"
    mailbox: Annotated[str, StringConstraints(max_length=1_000)] = ""
    internet_message_id: Annotated[str, StringConstraints(max_length=4_000)] | None = None
    conversation_id: Text | None = None
    subject: Annotated[str, StringConstraints(max_length=100_000)] = ""
    sender: Annotated[AddressIn | None, Field(alias="from")] = None
    to: Addresses = []
    cc: Addresses = []
    bcc: Addresses = []
    headers: Annotated[str, StringConstraints(max_length=400_000)] | None = None
    item_class: Text | None = None

    def value(self) -> Item:
        return Item(
            id=self.id,
            id_form=self.id_form,
            mailbox=self.mailbox,
            internet_message_id=self.internet_message_id or "",
            conversation_id=self.conversation_id or "",
            subject=self.subject,
            sender=self.sender.value() if self.sender and self.sender.address else None,
            to=tuple(a.value() for a in self.to),
            cc=tuple(a.value() for a in self.cc),
            bcc=tuple(a.value() for a in self.bcc),
            headers=self.headers or "",
            item_class=self.item_class or "",
        )


class ContextIn(Model):
    mode: Literal["read", "compose"] = "read"
    item: ItemIn
    complete: bool = False  # also what needs a second look; ask it when an answer was `incomplete`
    refresh: bool = False  # forget what was known
    anyway: bool = False  # look people up on automatic mail, too


class Link(Model):
    type: RecordType
    id: ObjectId

    def value(self) -> RecordRef:
        return RecordRef(self.type, self.id.upper())


class LinkIn(Model):
    token: Annotated[str, StringConstraints(min_length=1, max_length=20_000)]


class LinkOut(Model):
    state: Literal["linked"] = "linked"


class PreviewIn(Model):
    item: ItemIn


class ChosenIn(Model):
    ref: Annotated[str, StringConstraints(min_length=1, max_length=100)]
    name: Annotated[str, StringConstraints(min_length=1, max_length=255)] | None = None


class SaveIn(Model):
    item: ItemIn
    subject: Annotated[str, StringConstraints(max_length=2_000)] | None = None
    links: Annotated[list[Link], Field(max_length=100)]
    attachments: Annotated[list[ChosenIn], Field(max_length=500)] | None = None
    include_eml: bool = False
    follow_thread: bool = False

    def wish(self) -> Wish:
        chosen = None if self.attachments is None else tuple(Chosen(c.ref, c.name) for c in self.attachments)
        links = tuple(dict.fromkeys(link.value() for link in self.links))
        return Wish(links, clean(self.subject or "") or None, chosen, self.include_eml)


class FieldOut(Model):
    name: str
    label: str
    value: str


class CardOut(Model):
    type: RecordType
    id: str
    title: str
    fields: list[FieldOut]
    url: str
    matched: list[str]
    linked: bool


class UnknownOut(Model):
    name: str
    address: str
    verified: bool


class AutomaticOut(Model):
    kind: str
    reason: str


class ActivityOut(Model):
    id: str
    url: str


class StateOut(Model):
    state: SaveState
    id: str | None = None
    reason: str | None = None
    by: Literal["you", "colleague"] | None = None
    at: str | None = None
    activity: ActivityOut | None = None


class Timing(Model):
    c4c_ms: float
    total_ms: float
    cached: bool


class TroubleOut(Model):
    """Why C4C's part of an answer is missing; the same members as of a Problem."""

    code: str
    detail: str
    retry_after_s: float | None


class ContextOut(Model):
    cards: list[CardOut]
    unknown: list[UnknownOut]
    notice: str | None
    automatic: AutomaticOut | None
    save: StateOut
    timing: Timing
    incomplete: bool
    failed: list[str]
    trouble: TroubleOut | None


class LinkedOut(Model):
    type: RecordType
    id: str
    title: str


class AttachmentOut(Model):
    ref: str
    name: str
    size_bytes: int
    inline: bool
    allowed: bool
    reason: str | None


class EmlOut(Model):
    """The message itself as a file."""

    allowed: bool
    reason: str | None


class PreviewOut(Model):
    subject: str
    links: list[LinkedOut]
    attachments: list[AttachmentOut]
    eml: EmlOut
    follow_thread: bool  # can be wished


class SaveOut(Model):
    id: str
    state: SaveState
    activity: ActivityOut | None
    marks: list[str]
    reason: str | None = None


class SearchIn(Model):
    """The query of a search."""

    q: Annotated[str, StringConstraints(min_length=1, max_length=records.MAX_TEXT)]


class ValuesIn(Model):
    """What a record is created from; which of these a type takes, the description of the call says."""

    given_name: Value = ""
    surname: Value = ""
    email: Value = ""
    company: Value = ""
    job_title: Value = ""
    phone: Value = ""
    mobile: Value = ""
    web_page: Value = ""
    city: Value = ""
    country: Value = ""
    subject: Value = ""


class CreateIn(Model):
    key: Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{32}$")]  # names this create: the same again makes no second record
    values: ValuesIn

    def given(self) -> dict[str, str]:
        return {name: value for name, value in self.values.model_dump().items() if value}


class RecordOut(Model):
    """A record as a list shows it."""

    type: RecordType
    id: str
    title: str
    fields: list[FieldOut]
    url: str


class SearchOut(Model):
    records: list[RecordOut]  # at most 50, the best first
    more: bool  # there are others: a longer text finds less
    failed: list[RecordType]  # types that SAP Cloud for Customer would not answer for


class DetailOut(Model):
    record: RecordOut  # with all its fields
    related: list[RecordOut]


class SessionOut(Model):
    """A session that ended well, and what it did, by name."""

    at: str
    counts: dict[str, int]


class IssueOut(Model):
    """One item that could not be synchronized, or a question; its owner mends or answers it in User Settings."""

    id: str
    kind: IssueKind
    code: str
    name: str
    cause: str
    remedy: str
    is_question: bool
    since: str | None
    url: str


class SyncOut(Model):
    """What the sync engine is at in the caller's mailbox. Times are ISO 8601 in UTC."""

    state: EngineState
    is_first: bool
    phase: str
    done: int
    total: int
    left_s: float | None
    last: SessionOut | None
    next_at: str | None
    suspended: bool
    failures: int
    reason: str | None
    issues: int
    first_issues: list[IssueOut]  # at most 50, questions first, then the newest


class PersonOut(Model):
    name: str
    email: str


class MailboxOut(Model):
    address: str
    provider: str
    state: str
    reason: str


class PaneSettings(Model):
    leads_enabled: bool
    max_file_bytes: int


class MeOut(Model):
    user: PersonOut
    tenant: str
    mailbox: MailboxOut
    capabilities: list[str]
    admin_contact: str
    settings: PaneSettings


class ProblemOut(BaseModel):
    """RFC 9457 problem details; the only shape of an error."""

    type: str
    title: str
    status: int
    code: str
    detail: str
    request_id: str
    save_id: str | None = None
    field: str | None = None
    retry_after_s: float | None = None


LABELS = {
    "account": "Account",
    "address": "Address",
    "contact": "Contact",
    "date": "Date",
    "department": "Department",
    "due": "Due",
    "email": "E-mail",
    "fax": "Fax",
    "start": "Start",
    "valid_to_date": "Valid to",
    "web_page": "Web site",
    "job_title": "Job title",
    "phone": "Phone",
    "mobile": "Mobile",
    "city": "City",
    "owner": "Owner",
    "role": "Role",
    "company": "Company",
    "status": "Status",
    "priority": "Priority",
    "close_date": "Close date",
}


def context_out(context: Context, total_ms: float) -> ContextOut:
    status, activity = context.save, context.save.activity
    return ContextOut(
        cards=[
            CardOut(
                type=card.record.type,
                id=card.record.id,
                title=card.record.title,
                fields=_fields_out(card.fields()),
                url=card.record.url,
                matched=list(card.matched),
                linked=card.linked,
            )
            for card in context.cards
        ],
        unknown=[UnknownOut(name=u.name, address=u.address, verified=u.verified) for u in context.unknown],
        notice=context.notice,
        automatic=AutomaticOut(kind=context.automatic.kind, reason=context.automatic.reason) if context.automatic else None,
        save=StateOut(
            state=status.state,
            id=status.id,
            reason=status.reason,
            by=status.by,
            at=status.at,
            activity=ActivityOut(id=activity.id, url=activity.url) if activity else None,
        ),
        timing=Timing(c4c_ms=round(context.c4c_ms, 1), total_ms=round(total_ms, 1), cached=context.cached),
        incomplete=context.incomplete,
        failed=list(context.failed),
        trouble=_trouble_out(context.trouble) if context.trouble else None,
    )


def _trouble_out(trouble: Transient) -> TroubleOut:
    code = "busy" if isinstance(trouble, RateLimited) else "unavailable"
    return TroubleOut(code=code, detail=str(trouble), retry_after_s=trouble.retry_after_s)


def record_out(record: Record, profile: Profile) -> RecordOut:
    """Return a record with the fields that the profile's cards show of its type."""
    shown = ((name, record.values.get(name, "")) for name in profile.fields_of(record.type))
    return _record_out(record, [(name, value) for name, value in shown if value])


def search_out(found: records.Found, profile: Profile) -> SearchOut:
    return SearchOut(records=[record_out(one, profile) for one in found.records], more=found.more, failed=list(found.failed))


def detail_out(detail: records.Detail, profile: Profile) -> DetailOut:
    related = [record_out(one, profile) for one in detail.related]
    return DetailOut(record=_record_out(detail.record, detail.fields), related=related)


def _record_out(record: Record, fields: Sequence[tuple[str, str]]) -> RecordOut:
    return RecordOut(type=record.type, id=record.id, title=record.title, fields=_fields_out(fields), url=record.url)


def _fields_out(fields: Sequence[tuple[str, str]]) -> list[FieldOut]:
    return [FieldOut(name=name, label=LABELS.get(name, name), value=value) for name, value in fields]


def preview_out(preview: Preview) -> PreviewOut:
    return PreviewOut(
        subject=preview.subject,
        links=[LinkedOut(type=r.type, id=r.id, title=r.title) for r in preview.links],
        attachments=[
            AttachmentOut(
                ref=o.attachment.ref,
                name=o.attachment.name,
                size_bytes=o.attachment.size_bytes,
                inline=o.attachment.inline,
                allowed=o.allowed,
                reason=o.reason,
            )
            for o in preview.attachments
        ],
        eml=EmlOut(allowed=preview.eml_refusal is None, reason=preview.eml_refusal),
        follow_thread=preview.can_follow,
    )


def sync_out(engine: Engine, issues: int, told: Sequence[Told]) -> SyncOut:
    return SyncOut(
        state=engine.state,
        is_first=engine.is_first,
        phase=engine.phase,
        done=engine.done,
        total=engine.total,
        left_s=None if engine.left_s is None else round(engine.left_s, 1),
        last=SessionOut(at=_iso(engine.last_at), counts=dict(engine.counts or {})) if engine.last_at else None,
        next_at=_iso(engine.next_at) if engine.next_at else None,
        suspended=engine.is_suspended,
        failures=engine.failures,
        reason=engine.reason or None,
        issues=issues,
        first_issues=[
            IssueOut(
                id=one.id,
                kind=one.kind,
                code=one.code,
                name=one.name,
                cause=one.cause,
                remedy=one.remedy,
                is_question=one.choices not in ((), (DISMISS,)),
                since=_iso(one.since) if one.since else None,
                url=one.url,
            )
            for one in told
        ],
    )


def _iso(at: datetime) -> str:
    return at.isoformat().replace("+00:00", "Z")


def save_out(outcome: Outcome) -> SaveOut:
    activity = outcome.activity
    return SaveOut(
        id=outcome.request.id,
        state=outcome.request.state,
        activity=ActivityOut(id=activity.id, url=activity.url) if activity else None,
        marks=list(outcome.marks),
        reason=outcome.request.reason or None,
    )
