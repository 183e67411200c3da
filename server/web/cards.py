"""Cards for Gmail (Google Card v1 JSON), drawn from the same view models as the sidebar's JSON. No rule of the product is here.

Only these widgets are used, because the add-on's script knows no others: textParagraph, decoratedText, buttonList, textInput,
selectionInput, divider; beside them header, collapsible sections, fixedFooter and cardActions. Google ignores what is beyond 100
widgets, or 100 items of a selection (reference of google.apps.card.v1), so lists end earlier and say how much is left out.

Texts of textParagraph and decoratedText are a small HTML: whatever is not our own words goes through `_html`. All others (header,
buttons, labels of inputs, items to tick) are plain.
"""

from __future__ import annotations

import html
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, tzinfo
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from server.services.context import NOTHING_TO_SAVE
from server.web import models as m
from server.web.catalogue import Text
from server.web.html import visible

Card = dict[str, Any]
Section = dict[str, Any]
Widget = dict[str, Any]
Click = dict[str, Any]
Press = Callable[..., Click]
"""Makes what happens on a click: press(action, **parameters)."""

MAX_WORDS = 300  # characters of one text that is not ours
MAX_TYPED = 1_500  # of what somebody types
MAX_SEARCH = 200
MAX_ITEMS = 100  # of a selection
FULL_RECORDS = 6  # with their fields; each takes up to seven widgets
SHORT_RECORDS = 24  # beyond, a line each
UNKNOWN = 8  # two widgets each
RESULTS = 60
FIELDS = 30  # of one record
RELATED = 40
ISSUES = 25
FILES = 30  # that cannot be saved, each with the reason

_ICONS = {
    "contact": "PERSON",
    "individual_customer": "PERSON",
    "account": "STORE",
    "lead": "STAR",
    "opportunity": "DOLLAR",
    "ticket": "CONFIRMATION_NUMBER_ICON",
    "quote": "DESCRIPTION",
    "order": "SHOPPING_CART",
    "phone_call": "PHONE",
    "appointment": "INVITE",
    "visit": "MAP_PIN",
    "task": "BOOKMARK",
}


class Account(NamedTuple):
    """Whose mailbox a card belongs to."""

    address: str
    is_connected: bool
    other: str = ""  # the mailbox that is connected instead of the one that is open
    is_suspended: bool = False  # by an administrator, who alone ends it


class Form(NamedTuple):
    """What a record is created from."""

    type: str
    values: Mapping[str, str]  # what is typed or proposed, of every value in its order
    needed: Sequence[str]
    person: Mapping[str, str]  # name and address of who it is about, for the other types' forms


class Trouble(NamedTuple):
    """Why something did not happen."""

    code: str  # chooses our words; `detail` is told with them
    detail: str
    press: Click | None = None  # to try it again
    field: str = ""  # of a form, that is wrong


@dataclass(frozen=True, slots=True)
class Cards:
    """Draws the cards for one call: in the caller's language and time, with buttons for the caller alone."""

    text: Text
    public_url: str
    zone: tzinfo
    account: Account | None  # None: nobody that we know
    press: Press
    new_types: Sequence[str] = ()  # that the caller may create

    # Of a message

    def context(self, found: m.ContextOut, *, is_draft: bool = False) -> Card:
        """Return who is on a message, and whether it is saved."""
        sections = [
            self._news(found, is_draft=is_draft),
            *self._records(found.cards),
            *self._unknown(found.unknown),
            self._save_state(found.save),
            self._account_section(),
        ]
        footer = None if is_draft else self._save_footer(found)
        action = "compose" if is_draft else "context"
        return self._card(self._t("card_title"), sections, footer=footer, refresh=self.press(action, refresh="1"))

    def _news(self, found: m.ContextOut, *, is_draft: bool) -> Section:
        """What is to be said before the records: that it is an automatic message, that something is missing."""
        action = "compose" if is_draft else "context"
        lines: list[Widget] = []
        buttons: list[Widget] = []
        if found.automatic is not None and not is_draft:
            what = self.text.named("card_automatic", found.automatic.kind, self._t("card_automatic"))
            lines.append(_paragraph(f"{what} {self._t('card_automatic_next')}"))
            if not (found.cards or found.unknown):
                buttons.append(self._button("card_look_up_anyway", self.press("context", anyway="1")))
        elif found.notice == NOTHING_TO_SAVE:
            lines.append(_paragraph(self._t("card_nothing_to_save")))
        elif found.notice:
            lines.append(_paragraph(_html(found.notice)))
        elif is_draft and not (found.cards or found.unknown):
            lines.append(_paragraph(self._t("card_draft_empty")))
        elif not (found.cards or found.unknown or found.trouble):
            lines.append(_paragraph(self._t("card_nobody")))
        if found.trouble is not None:
            lines.append(_paragraph(f"<b>{self._t('card_trouble_away')}</b><br>{_html(found.trouble.detail)}"))
        elif found.failed:
            lines.append(_paragraph(self._t("card_partly")))
        if found.trouble is not None or found.failed:
            buttons.append(self._button("card_try_again", self.press(action, refresh="1")))
        elif found.incomplete:
            buttons.append(self._button("card_look_closer", self.press(action, complete="1")))
        return _section([*lines, *_buttons(buttons)])

    def _records(self, cards: Sequence[m.CardOut]) -> Iterable[Section]:
        for number, card in enumerate(cards[:FULL_RECORDS]):
            words = [self._type(card.type), *([self._t("card_linked")] if card.linked else [])]
            head = _line(", ".join(words), f"<b>{_html(card.title)}</b>", icon=_ICONS.get(card.type), wraps=True)
            rows = [head, *(self._field(f.name, f.label, f.value) for f in card.fields[:4])]
            if card.matched:
                rows.append(_line(self._t("card_matched"), _html(", ".join(card.matched[:3])), wraps=True))
            record = self.press("record", type=card.type, id=card.id)
            buttons = _buttons([self._button("card_details", record), *self._open(card.url)])
            yield _section([*rows, *buttons], shown=None if number == 0 else 1)
        rest = cards[FULL_RECORDS:]
        if rest:
            lines = [self._row(c.type, c.title, c.id) for c in rest[:SHORT_RECORDS]]
            yield _section([*lines, *self._more(len(rest) - SHORT_RECORDS)])

    def _unknown(self, unknown: Sequence[m.UnknownOut]) -> Iterable[Section]:
        rows: list[Widget] = []
        for one in unknown[:UNKNOWN]:
            label = self._t("card_not_found" if one.verified else "card_not_checked")
            address = _said(one.address)
            name = _said(one.name) if one.name and one.name != one.address else ""
            rows.append(_line(label, "<br>".join(filter(None, (_html(name), _html(address)))), icon="EMAIL", wraps=True))
            new = {"type": "contact", "name": name, "address": address}
            search = self._button("card_search", self.press("search", text=_said(name or address, MAX_SEARCH)))
            rows += _buttons([self._button("card_create", self.press("create_form", **new)), search])
        if rows:
            yield _section([*rows, *self._more(len(unknown) - UNKNOWN, "card_and_more")])

    def _save_state(self, save: m.StateOut) -> Section:
        if save.state == "none":
            return _section([_paragraph(_html(save.reason))] if save.reason else [])
        at = self._moment(save.at)
        if save.state == "saved":
            words = self.text.named("card_saved_by", save.by or "", self._t("card_saved", when=at), when=at)
            buttons = [*self._open(save.activity.url if save.activity else ""), *self._save_buttons("card_change_links")]
            return _section(
                [_line(self._t("card_this_email"), " ".join(words.split()), icon="EMAIL", wraps=True), *_buttons(buttons)]
            )
        widgets = [_line(self._t("card_this_email"), self._progress(save.state, save.reason), icon="EMAIL", wraps=True)]
        if save.id is not None and save.state == "failed":
            retry = [self._button("card_try_again", self.press("save_again", id=save.id))] if self._may_save else []
            return _section([*widgets, *_buttons([*retry, *self._save_buttons("card_choose")])])
        refresh = [self._button("card_refresh", self.press("save_state", id=save.id))] if save.id else []
        return _section([*widgets, *_buttons(refresh)])

    def _save_footer(self, found: m.ContextOut) -> Card | None:
        """The one thing to do, unless there is nothing to save or it is done."""
        is_quiet = found.automatic is not None
        if found.save.state != "none" or not self._may_save:
            return None
        if found.notice and not (found.cards or found.unknown or is_quiet):
            return None
        save = self._button("card_save_anyway" if is_quiet else "card_save", self.press("save"))
        return {"primaryButton": save, "secondaryButton": self._button("card_choose", self.press("choose"))}

    @property
    def _may_save(self) -> bool:
        return self.account is not None and self.account.is_connected and not self.account.other

    def _save_buttons(self, label: str) -> list[Widget]:
        return [self._button(label, self.press("choose"))] if self._may_save else []

    def _account_section(self) -> Section:
        """What is wrong with the mailbox, and who sees to it: mostly its owner."""
        account = self.account
        if account is None or self._may_save:
            return _section([])
        if account.is_suspended:
            words = f"<b>{self._t('refused_suspended_title')}</b><br>{self._t('refused_suspended_next')}"
            return _section([_paragraph(words)])
        said = {"open": _html(account.address), "connected": _html(account.other)}
        key = "card_other_account" if account.other else "card_connect_text"
        return _section([_paragraph(self._t(key, **said)), *_buttons([self._connect_button()])])

    # Saving

    def choose(self, preview: m.PreviewOut) -> Card:
        """Return the dialog in which a person says what of a message goes to C4C."""
        fields = [_input("subject", self._t("card_subject"), _said(preview.subject, MAX_TYPED))]
        records = [_item(f"{self._type(r.type)}: {r.title}", f"{r.type}:{r.id}", ticked=True) for r in preview.links[:MAX_ITEMS]]
        links = [_ticks("links", self._t("card_linked_records"), records)] if records else []
        if not records:
            links.append(_paragraph(self._t("card_no_records")))
        sections = [_section(fields), _section([*links, *self._more(len(preview.links) - MAX_ITEMS)]), self._files(preview)]
        footer = {"primaryButton": self._button("card_save", self.press("save_chosen"))}
        return self._card(self._t("card_save_title"), sections, footer=footer)

    def _files(self, preview: m.PreviewOut) -> Section:
        able = [one for one in preview.attachments if one.allowed]
        barred = [one for one in preview.attachments if not one.allowed]
        items = [_item(f"{a.name} ({self._size(a.size_bytes)})", a.ref, ticked=True) for a in able[:MAX_ITEMS]]
        widgets = [_ticks("attachments", self._t("card_attachments"), items)] if items else []
        widgets += self._more(len(able) - MAX_ITEMS, "card_and_more")
        not_saved = self._t("card_not_saved")
        widgets += [_line(not_saved, f"{_html(a.name)}<br>{_html(a.reason or '')}", wraps=True) for a in barred[:FILES]]
        widgets += self._more(len(barred) - FILES, "card_and_more")
        also = [_item(self._t("card_eml"), "eml", ticked=False)] if preview.eml.allowed else []
        also += [_item(self._t("card_follow"), "follow", ticked=False)] if preview.follow_thread else []
        widgets += [_ticks("also", self._t("card_also"), also)] if also else []
        if preview.eml.reason:
            widgets.append(_paragraph(_html(preview.eml.reason)))
        return _section(widgets)

    def result(self, save: m.SaveOut) -> Card:
        """Return what became of a save, or how far it is."""
        if save.state == "saved":
            said = f"<b>{self._t('card_saved_now')}</b>" + (f"<br>{_html(save.reason)}" if save.reason else "")
            buttons = self._open(save.activity.url if save.activity else "")
            return self._card(self._t("card_save_title"), [_section([_paragraph(said), *_buttons(buttons)])])
        widgets = [_paragraph(self._progress(save.state, save.reason))]
        if save.state == "failed":
            retry = self._button("card_try_again", self.press("save_again", id=save.id))
            buttons = [retry, *self._save_buttons("card_choose")]
        else:
            widgets.append(_paragraph(self._t("card_goes_on")))
            buttons = [self._button("card_refresh", self.press("save_state", id=save.id))]
        return self._card(self._t("card_save_title"), [_section([*widgets, *_buttons(buttons)])])

    def _progress(self, state: str, reason: str | None) -> str:
        words = self._t({"pending": "card_pending", "unknown": "card_unknown"}.get(state, "card_failed"))
        return f"{words}<br>{_html(reason)}" if reason else words

    # Beside messages

    def homepage(self, sync: m.SyncOut) -> Card:
        """Return what is there without a message: the search, how far the engine is, and the settings."""
        find = self._button("card_search", self.press("find", above="1"))
        search = [_input("text", self._t("card_search_for"), ""), *_buttons([find])]
        words = self.text.named("card_sync", sync.state, self._t("card_sync_done"))
        if sync.last is not None and sync.state in ("done", "queued"):
            words = self._t("card_sync_last", when=self._moment(sync.last.at))
        state = [_line(self._t("card_sync"), " ".join(words.split()), icon="CLOCK", wraps=True)]
        if sync.reason:
            state.append(_paragraph(_html(sync.reason)))
        buttons = (
            [self._button("card_force_sync", self.press("force_sync"))] if sync.state in ("done", "queued", "failed") else []
        )
        if sync.issues:
            buttons.append(self._button("card_issues_open", self.press("issues"), number=self.text.number(sync.issues)))
        sections = [_section(search), _section([*state, *_buttons(buttons)]), self._account_section()]
        return self._card(self._t("card_title"), sections, refresh=self.press("homepage"))

    def search(self, text: str, found: m.SearchOut | None = None) -> Card:
        """Return the search, with what it found if it was asked."""
        words = _input("text", self._t("card_search_for"), _said(text), self._t("card_search_hint"))
        sections = [_section([words, *_buttons([self._button("card_search", self.press("find"))])])]
        if found is not None:
            rows = [self._row(one.type, one.title, one.id) for one in found.records[:RESULTS]]
            left = self._more(len(found.records) - RESULTS) or ([_paragraph(self._t("card_more_unknown"))] if found.more else [])
            partly = [_paragraph(self._t("card_partly"))] if found.failed else []
            sections.append(_section([*(rows or [_paragraph(self._t("card_nothing_found"))]), *left, *partly]))
        create = [
            self._button("card_create_type", self.press("create_form", type=one), type=self._type(one)) for one in self.new_types
        ]
        return self._card(self._t("card_search"), [*sections, _section(_buttons(create))])

    def record(self, detail: m.DetailOut) -> Card:
        """Return one record and what belongs to it."""
        record = detail.record
        head = _line(self._type(record.type), f"<b>{_html(record.title)}</b>", icon=_ICONS.get(record.type), wraps=True)
        fields = [self._field(f.name, f.label, f.value) for f in record.fields[:FIELDS]]
        related = [self._row(one.type, one.title, one.id) for one in detail.related[:RELATED]]
        related += self._more(len(detail.related) - RELATED, "card_and_more")
        sections = [
            _section([head, *fields, *_buttons(self._open(record.url))]),
            _section(related, title=self._t("card_related")),
        ]
        return self._card(record.title or self._type(record.type), sections)

    def gone(self) -> Card:
        """Return what is shown for a record that is not there, or not for this person."""
        search = self._button("card_search", self.press("search"))
        return self._card(self._t("card_title"), [_section([_paragraph(self._t("card_record_gone")), *_buttons([search])])])

    def create_form(self, form: Form, *, wrong: Trouble | None = None) -> Card:
        """Return the form for a new record; `wrong` says why the last one was not taken."""
        needed = self._t("card_needed")
        inputs = [
            _input(
                name, self.text.named("card_value", name, name), _said(value, MAX_TYPED), needed if name in form.needed else ""
            )
            for name, value in form.values.items()
        ]
        said = []
        if wrong is not None:
            field = self.text.named("card_value", wrong.field, "")
            why = f"{field}: {_html(wrong.detail)}" if field else _html(wrong.detail)
            said.append(_paragraph(f"<b>{self._t('card_not_created')}</b><br>{why}"))
        title = self._t("card_create_type", type=self._type(form.type))
        footer = {"primaryButton": self._button("card_create", self.press("create", type=form.type))}
        person = {name: _said(value) for name, value in form.person.items()}
        others = [
            self._button("card_instead", self.press("create_form", type=one, **person), type=self._type(one))
            for one in self.new_types
            if one != form.type
        ]
        return self._card(title, [_section(said), _section(inputs), _section(_buttons(others))], footer=footer)

    def used(self) -> Card:
        """Return what is shown for a button that creates something and was pressed before."""
        search = self._button("card_search", self.press("search"))
        return self._card(self._t("card_title"), [_section([_paragraph(self._t("card_used")), *_buttons([search])])])

    def issues(self, sync: m.SyncOut) -> Card:
        """Return what could not be synchronized, newest first; it is mended in User Settings."""
        widgets: list[Widget] = []
        for one in sync.first_issues[:ISSUES]:
            title = self.text.named("issue", one.code, self._t("issue_other"))
            said = "<br>".join(_html(part) for part in (one.name, one.cause, one.remedy) if part)
            widgets.append(_line(title, said, wraps=True, button=next(iter(self._open(one.url)), None)))
        widgets += self._more(sync.issues - min(ISSUES, len(sync.first_issues)), "card_and_more")
        if not widgets:
            widgets.append(_paragraph(self._t("issues_none_text")))
        mend = self._button("card_mend", _link(f"{self.public_url}/settings/issues"))
        return self._card(self._t("issues_title"), [_section(widgets), _section(_buttons([mend]))])

    # Answers to what went wrong

    def trouble(self, trouble: Trouble) -> Card:
        """Return one sentence on what went wrong, and the next step."""
        title = self.text.named("card_trouble", trouble.code, self._t("card_trouble_failed"))
        next_step = self.text.named("card_next", trouble.code, "")
        widgets = [_paragraph("<br>".join(filter(None, (f"<b>{title}</b>", _html(trouble.detail), next_step))))]
        buttons = [self._button("card_try_again", trouble.press)] if trouble.press else []
        if trouble.code in ("mailbox_not_connected", "other_account"):
            buttons.append(self._connect_button())
        return self._card(self._t("card_title"), [_section([*widgets, *_buttons(buttons)])])

    # Parts

    def _card(self, title: str, sections: Iterable[Section], *, footer: Card | None = None, refresh: Click | None = None) -> Card:
        card: Card = {"header": self._header(title), "sections": [one for one in sections if one["widgets"]]}
        actions = [{"actionLabel": self._t("card_refresh"), "onClick": refresh}] if refresh else []
        if self.account is not None:
            search = {"actionLabel": self._t("card_search"), "onClick": self.press("search")}
            actions += [search, {"actionLabel": self._t("card_settings"), "onClick": _link(f"{self.public_url}/settings/")}]
        if actions:
            card["cardActions"] = actions
        return card | ({"fixedFooter": footer} if footer else {})

    def _header(self, title: str) -> Card:
        header = {"title": _said(title)}
        if self.account is not None:
            key = "card_connected_as" if self.account.is_connected else "card_signed_in_as"
            header["subtitle"] = self._t(key, address=_said(self.account.other or self.account.address))
        if self.public_url.startswith("https://"):  # Google fetches it, and takes nothing else
            header["imageUrl"] = f"{self.public_url}/static/icons/icon-128.png"
        return header

    def _t(self, key: str, **values: object) -> str:
        return self.text.t(key, **values)

    def _type(self, record_type: str) -> str:
        return self.text.named("card_type", record_type, record_type)

    def _row(self, record_type: str, title: str, record_id: str) -> Widget:
        details = self._button("card_details", self.press("record", type=record_type, id=record_id))
        return _line(self._type(record_type), _html(title), icon=_ICONS.get(record_type), button=details, wraps=True)

    def _field(self, name: str, label: str, value: str) -> Widget:
        return _line(self.text.named("card_field", name, label), _html(self._value(name, value)), wraps=True)

    def _value(self, name: str, value: str) -> str:
        """Put a day or an instant of C4C into words; any other text stays (CARD_FIELDS of server.domain.records)."""
        try:
            if name == "date" or name.endswith("_date"):
                return self._day(date.fromisoformat(value))
            if name in ("start", "due"):
                return self._moment(value)
        except (ValueError, OverflowError):
            pass  # C4C has something else there, or the end of time, and it is shown as it is
        return value

    def _moment(self, at: str | None) -> str:
        """Put an instant, ISO 8601, into the reader's words and zone; "" for none. Raises: ValueError."""
        if not at:
            return ""
        moment = datetime.fromisoformat(at)
        moment = (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).astimezone(self.zone)
        return f"{self._day(moment.date())}, {moment:%H:%M}"

    def _day(self, day: date) -> str:
        return self._t("card_day", day=day.day, month=self._t("months").split()[day.month - 1], year=day.year)

    def _size(self, size_bytes: int) -> str:
        if size_bytes < 1024 * 1024:
            return f"{max(1, size_bytes // 1024)} kB"
        return f"{size_bytes / 1024 / 1024:.1f} MB"

    def _more(self, left_out: int, key: str = "card_more") -> list[Widget]:
        """Say how much of a list is left out, if any is; a search may be refined, for what else there is that does not help."""
        return [_paragraph(self._t(key, number=self.text.number(left_out)))] if left_out > 0 else []

    def _button(self, key: str, click: Click, **values: object) -> Widget:
        return {"text": self._t(key, **values), "onClick": click}

    def _open(self, url: str) -> list[Widget]:
        return [self._button("card_open", _link(url))] if urlsplit(url).scheme in ("https", "http") else []

    def _connect_button(self) -> Widget:
        """The wizard of User Settings opens beside Gmail; once it is closed, Gmail asks for the card anew."""
        return self._button("card_connect", _link(f"{self.public_url}/settings/sync/email", reloads=True))


def _link(url: str, *, reloads: bool = False) -> Click:
    return {
        "openLink": {"url": url, "openAs": "OVERLAY" if reloads else "FULL_SIZE", "onClose": "RELOAD" if reloads else "NOTHING"}
    }


def _section(widgets: Sequence[Widget], *, title: str = "", shown: int | None = None) -> Section:
    """Return a section; with `shown` only so many of its widgets are seen until it is opened."""
    section: Section = {"widgets": list(widgets)} | ({"header": title} if title else {})
    if shown is not None and len(section["widgets"]) > shown:
        section |= {"collapsible": True, "uncollapsibleWidgetsCount": shown}
    return section


def _paragraph(text: str) -> Widget:
    return {"textParagraph": {"text": text}}


def _line(label: str, text: str, *, icon: str | None = None, button: Widget | None = None, wraps: bool = False) -> Widget:
    line: Widget = {"topLabel": label, "text": text, "wrapText": wraps}
    line |= {"startIcon": {"knownIcon": icon}} if icon else {}
    return {"decoratedText": line | ({"button": button} if button else {})}


def _buttons(buttons: Sequence[Widget]) -> list[Widget]:
    return [{"buttonList": {"buttons": list(buttons)}}] if buttons else []


def _input(name: str, label: str, value: str, hint: str = "") -> Widget:
    return {"textInput": {"name": name, "label": label, "value": value} | ({"hintText": hint} if hint else {})}


def _ticks(name: str, label: str, items: Sequence[Widget]) -> Widget:
    return {"selectionInput": {"name": name, "label": label, "type": "CHECK_BOX", "items": list(items)}}


def _item(text: str, value: str, *, ticked: bool) -> Widget:
    return {"text": _said(text), "value": value, "selected": ticked}


def _said(text: str, limit: int = MAX_WORDS) -> str:
    """Return somebody's text on one line, without what is not seen, and not too long; still to be escaped where HTML is read."""
    words = " ".join(visible(text[: 10 * limit]).split())
    return words if len(words) <= limit else words[: limit - 1] + "…"


def _html(text: str | None) -> str:
    return html.escape(_said(text or ""), quote=False)
