"""The add-on in Gmail: what happens there comes as an event, and cards go back.

Who calls is proven before anything of the event counts: by the person's ID token where the add-on's script calls, by Google's own
token and the person's where Google does. Whoever is proven gets cards, also for what went wrong; nobody else learns more than a
Problem. What a click asks for stands in its button's token (`server.web.actions`); of a form only what was typed and ticked comes
with it. Each step is a use case that the sidebar has, too.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

from apiflask import APIBlueprint
from flask import Response, g, jsonify, request
from pydantic import ValidationError
from werkzeug.datastructures import LanguageAccept
from werkzeug.exceptions import UnsupportedMediaType

from server import errors, logs
from server.domain.mime import clean
from server.domain.records import RecordRef, RecordType
from server.services import Caller, Deps, Principal, add_on, connections, context, issues, records, saving, syncing
from server.services.add_on import Runtime
from server.services.context import Context, Item
from server.services.wishes import MAX_LINKS, Chosen, Wish
from server.web import cards, events, models as m
from server.web.actions import ACTIONS, Action, ButtonRefused, Buttons
from server.web.cards import Account, Card, Cards, Click, Form, Trouble
from server.web.catalogue import Catalogue, chosen
from server.web.events import Event
from server.web.limits import GRACE_S, Deadline, check_shape
from server.web.problems import too_often, with_contact
from server.web.throttle import Throttle, network

Navigation = dict[str, Any]

MAX_BODY_BYTES = 1024 * 1024  # the recipients of one message alone may be some hundred kB
IDENTITY_SCOPES = ["openid", "https://www.googleapis.com/auth/userinfo.email"]
MESSAGE_SCOPES = ["https://www.googleapis.com/auth/gmail.addons.current.message.metadata"]
FUNCTION = "onAction"  # of the script, which every button calls

log = logs.get(__name__)

_CODES: tuple[tuple[type[errors.SsiError], str], ...] = (
    (errors.RateLimited, "busy"),
    (errors.Transient, "away"),
    (errors.Unknown, "unknown"),
    (errors.NeedsReauth, "mailbox_not_connected"),
    (errors.NotFound, "not_found"),
    (errors.Rejected, "rejected"),
    (ButtonRefused, "out_of_date"),
    (errors.InvalidInput, "invalid"),
    (errors.SsiError, "failed"),
)
_FORBIDDEN = frozenset({"not_provisioned", "mailbox_not_connected", add_on.OTHER_ACCOUNT})
"""Codes of Forbidden that have words of their own."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What Gmail shall do: go to cards, in this order, and tell a sentence in passing."""

    navigations: Sequence[Navigation]
    notification: str = ""
    is_changed: bool = False  # what Gmail keeps of other cards is out of date

    def action(self) -> dict[str, Any]:
        return {"navigations": list(self.navigations)} | (
            {"notification": {"text": self.notification}} if self.notification else {}
        )


def _push(card: Card) -> Navigation:
    return {"pushCard": card}


def _update(card: Card) -> Navigation:
    return {"updateCard": card}


_TO_ROOT: Navigation = {"popToRoot": True}


def blueprint(deps: Deps, catalogue: Catalogue) -> APIBlueprint:
    """Return the routes under /gmail."""
    bp = APIBlueprint("gmail", __name__, url_prefix="/gmail", enable_openapi=False)
    deadline, patient = Deadline(deps.limits.context_deadline_s + GRACE_S), Deadline(deps.limits.card_deadline_s)
    users, tenants = (Throttle(n, deps.now) for n in (deps.limits.user_calls_per_minute, deps.limits.tenant_calls_per_minute))
    strangers = Throttle(deps.limits.failed_sign_ins_per_minute, deps.now)

    @bp.before_request
    def _only_json() -> None:
        request.max_content_length = MAX_BODY_BYTES
        if not request.is_json:
            raise UnsupportedMediaType

    @bp.before_request
    def _only_proven_people() -> Response | None:
        """Know who calls before anything of the event counts. Somebody proven who is not set up has no `g.caller`."""
        g.refusal = None
        try:
            g.runtime = deadline.keep(partial(add_on.runtime_of, deps, _bearer(), deps.public_url + request.path))
            token = _bearer() if g.runtime == "apps_script" else events.user_token(_body())
            if not token:
                return jsonify(_scopes(IDENTITY_SCOPES))
            g.caller = deadline.keep(partial(add_on.caller_of, deps, token))
        except errors.NeedsReauth:
            wait_s = strangers.take(network(request.remote_addr))
            if wait_s:
                return too_often("Too many sign-ins from here failed.", wait_s)
            raise
        except errors.Forbidden as error:  # proven: others who are not set up call from the same machines of Google's
            wait_s = strangers.take(hashlib.sha256(token.encode()).hexdigest())
            g.refusal = _hurried(wait_s) if wait_s else error
        return None

    @bp.before_request
    def _not_too_often() -> None:
        if g.refusal is None:
            principal: Principal = g.caller.principal
            wait_s = users.take(principal.user.id) or tenants.take(principal.tenant.id)
            if wait_s:
                g.refusal = _hurried(wait_s)

    @bp.post("/homepage")
    def homepage() -> Response:
        return Visit(deps, catalogue, deadline, patient).opened("homepage")

    @bp.post("/message")
    def message() -> Response:
        return Visit(deps, catalogue, deadline, patient).opened("context")

    @bp.post("/compose")
    def compose() -> Response:
        return Visit(deps, catalogue, deadline, patient).opened("compose")

    @bp.post("/action")
    def action() -> Response:
        return Visit(deps, catalogue, deadline, patient).clicked()

    return bp


def _hurried(wait_s: float) -> errors.RateLimited:
    return errors.RateLimited("That was very quick.", retry_after_s=wait_s)


def _bearer() -> str:
    """Raises: NeedsReauth."""
    scheme, _, token = request.headers.get("Authorization", "").partition(" ")
    if scheme.lower() != "bearer" or not token.strip():
        raise errors.NeedsReauth("Sign in to use SAP Cloud for Customer here.")
    return token.strip()


def _body() -> Mapping[str, Any]:
    """Raises: InvalidInput."""
    body = request.get_json()
    check_shape(body)
    found: Mapping[str, Any] = body
    return found


def _scopes(scopes: Sequence[str]) -> dict[str, Any]:
    """Have Google ask the person for what they have not allowed yet (granular consent, gmail.md 1.4)."""
    return {"requesting_google_scopes": {"scopes": list(scopes)}}


class Visit:
    """One call of somebody who is proven, known or not."""

    def __init__(self, deps: Deps, catalogue: Catalogue, deadline: Deadline, patient: Deadline) -> None:
        self.deps = deps
        self._catalogue = catalogue
        self._deadline = deadline  # of what is shown
        self._patient = patient  # of what is done
        self._runtime: Runtime = g.runtime
        self._event = Event()
        self._action = Action("", {}, "", "", deps.now())  # what is being answered
        self._item: Item | None = None

    # Answering

    def opened(self, name: str) -> Response:
        """Answer that Gmail opened something: a message, a draft, or its own page."""

        def step() -> Answer:
            self._begin()
            message_id = self._event.message_id if name == "context" else ""
            if name == "context" and not message_id:
                raise errors.InvalidInput("event", "Gmail did not say which message is open.")
            self._action = Action(name, {}, message_id, "", self.deps.now())
            return Answer([_push(_CARDS[name](self))])

        return self._answered(step, lambda answer: {"action": answer.action()})

    def clicked(self) -> Response:
        """Answer a click."""

        def step() -> Answer:
            self._begin()
            self._action = self._buttons().read(self._event.token, self._event.message_id)
            if ACTIONS[self._action.name].is_once and not add_on.use_once(self.deps, self._action.nonce, self._action.expires_at):
                return Answer([_push(self._cards().used())])
            draw = _CARDS.get(self._action.name)
            return Answer([_update(draw(self))]) if draw else _STEPS[self._action.name](self)

        def click(answer: Answer) -> dict[str, Any]:
            return {"renderActions": {"action": answer.action()}} | ({"stateChanged": True} if answer.is_changed else {})

        return self._answered(step, click)

    def _begin(self) -> None:
        """Raises: what was found wrong with the caller; InvalidInput for an event that is none."""
        self._event = events.read(_body())
        if g.refusal is not None:
            raise g.refusal

    def _answered(self, step: Callable[[], Answer], wrap: Callable[[Answer], dict[str, Any]]) -> Response:
        try:
            answer = step()
        except errors.SsiError as error:
            if isinstance(error, errors.Forbidden) and error.code == add_on.SCOPES_MISSING and self._runtime == "http":
                return jsonify(_scopes(MESSAGE_SCOPES))
            answer = Answer([_push(self._cards().trouble(self._trouble(error)))])
        return jsonify(wrap(answer))

    def _trouble(self, error: errors.SsiError) -> Trouble:
        """Return what to tell of an error, and how to try again where that can help and does nothing twice."""
        code = next(code for kind, code in _CODES if isinstance(error, kind))
        detail, field = str(error), ""
        if isinstance(error, errors.Forbidden):
            code, detail = error.code if error.code in _FORBIDDEN else "forbidden", with_contact(error)
        elif isinstance(error, ButtonRefused):
            log.warning("a button was refused", reason=error.why)
            detail = ""
        elif isinstance(error, errors.InvalidInput):
            detail, field = error.reason, error.field
        again = None
        if isinstance(error, errors.Transient) and self._action.name not in ("", "create"):
            name = _INSTEAD.get(self._action.name, self._action.name)
            again = self._press(name, **(self._action.parameters if name == self._action.name else {}))
        return Trouble(code, detail, again, field)

    # Who, and on what

    @property
    def _caller(self) -> Caller:
        caller: Caller = g.caller
        return caller

    @property
    def _principal(self) -> Principal:
        return self._caller.principal

    def _buttons(self) -> Buttons:
        return Buttons(self.deps.vault.signature, self.deps.now, self._principal, self._runtime)

    def _press(self, name: str, /, **parameters: str) -> Click:
        """Return the click for an action on what is being answered: of a button on a message's card, that message."""
        token = self._buttons().token(name, self._action.message_id, parameters)
        function = FUNCTION if self._runtime == "apps_script" else f"{self.deps.public_url}/gmail/action"
        pressed = {"function": function, "parameters": [{"key": "token", "value": token}], "loadIndicator": "SPINNER"}
        return {"action": pressed}

    def _cards(self) -> Cards:
        known = self._caller if "caller" in g else None
        return Cards(
            text=self._catalogue.text(self._languages()),
            public_url=self.deps.public_url,
            zone=self._event.zone,
            account=self._account() if known else None,
            press=self._press,
            new_types=self._new_types() if known else (),
        )

    def _languages(self) -> LanguageAccept:
        """Return the language of Gmail, else the one that the person chose with us."""
        language = self._event.locale or (self._caller.principal.user.language if "caller" in g else "")
        return LanguageAccept([(language, 1)])

    def _new_types(self) -> Sequence[RecordType]:
        return [one for one in records.FORMS if one != "lead" or self._principal.profile.leads_enabled]

    def _account(self) -> Account:
        connection, address = (
            connections.own_connection(self.deps, self._principal),
            self._caller.claims.email or self._principal.user.email,
        )
        if connection is None:
            return Account(address, is_connected=False)
        other = "" if add_on.has_account(self._caller, connection) else connection.mailbox
        is_suspended = connection.state == "suspended" and not other
        return Account(address, is_connected=connection.state == "active", other=other, is_suspended=is_suspended)

    def _message(self) -> Item:
        """Return the open message, as the script read it; else it is read. Raises: as add_on.read_open."""
        if self._item is None:
            if self._runtime == "apps_script" and self._event.message is not None:
                self._item = self._event.item(self._caller.claims.email)
            else:
                read = partial(add_on.read_open, self.deps, self._caller, self._event.opened)
                self._item = self._deadline.keep(read, since=time.perf_counter())
        return self._item

    def _own_message(self) -> Item:
        """Return the open message if it is of the mailbox that is connected. Raises: Forbidden with OTHER_ACCOUNT."""
        add_on.check_account(self.deps, self._caller)
        return self._message()

    # Cards

    def context(self) -> Card:
        wanted = {name: name in self._action.parameters for name in ("anyway", "refresh", "complete")}
        return self._looked_up(self._message(), **wanted)

    def compose(self) -> Card:
        wanted = {name: name in self._action.parameters for name in ("refresh", "complete")}
        return self._looked_up(self._event.draft(self._caller.claims.email), is_draft=True, **wanted)

    def _looked_up(self, item: Item, *, is_draft: bool = False, **wanted: bool) -> Card:
        began = time.perf_counter()
        if self._principal.user.sidebar_seen_at is None:
            connections.sidebar_seen(self.deps, self._principal)
        mode: Literal["read", "compose"] = "compose" if is_draft else "read"
        look_up = partial(context.look_up, self.deps, self._principal, item, mode=mode, **wanted)
        found = self._deadline.keep(look_up, since=began)
        shown = m.context_out(found, (time.perf_counter() - began) * 1000)
        return self._cards().context(shown, is_draft=is_draft)

    def homepage(self) -> Card:
        return self._cards().homepage(self._sync())

    def _sync(self) -> m.SyncOut:
        language = chosen(self._languages(), syncing.LANGUAGES)
        engine = syncing.engine(self.deps, self._principal, language=language)
        total = syncing.count_issues(self.deps, self._principal)
        told = issues.told(self.deps, self._principal, cards.ISSUES, language=language) if total else []
        return m.sync_out(engine, total, told)

    # Saving

    def save(self) -> Answer:
        """Save the message with links to everybody who was found, or to the first of very many, as a message that is marked."""
        item = self._own_message()
        found = self._everybody(item)
        if found.save.id is not None and found.save.state not in ("none", "failed"):
            # The button is drawn for what is not saved: this is its second press, which knows no better what to link to.
            return self._saved(saving.status(self.deps, self._principal, found.save.id))
        if found.trouble is not None:
            raise found.trouble
        return self._accepted(item, Wish(context.links_found(found)[:MAX_LINKS]))

    def _everybody(self, item: Item) -> Context:
        look_up = partial(context.look_up, self.deps, self._principal, item, anyway=True)
        return self._deadline.keep(look_up, since=time.perf_counter())

    def choose(self) -> Answer:
        item = self._own_message()
        trouble = self._everybody(item).trouble
        if trouble is not None:  # a dialog without the records would take away those that are linked
            raise trouble
        preview = self._patient.keep(partial(saving.preview, self.deps, self._caller, item))
        return Answer([_push(self._cards().choose(m.preview_out(preview)))])

    def save_chosen(self) -> Answer:
        item, also = self._own_message(), self._event.ticked("also")
        wish = Wish(
            links=tuple(dict.fromkeys(_link_of(text) for text in self._event.ticked("links"))),
            subject=clean(self._event.typed("subject")) or None,
            attachments=tuple(Chosen(ref) for ref in self._event.ticked("attachments")),
            include_eml="eml" in also,
        )
        return self._accepted(item, wish, follow_thread="follow" in also)

    def _accepted(self, item: Item, wish: Wish, *, follow_thread: bool = False) -> Answer:
        accept = partial(saving.accept, self.deps, self._caller, item, wish, follow_thread=follow_thread)
        return self._saved(self._patient.keep(accept))

    def save_state(self) -> Answer:
        return self._saved(saving.status(self.deps, self._principal, self._action.parameters["id"]))

    def save_again(self) -> Answer:
        add_on.check_account(self.deps, self._caller)
        retry = partial(saving.retry, self.deps, self._caller, self._action.parameters["id"])
        return self._saved(self._patient.keep(retry))

    def _saved(self, outcome: saving.Outcome) -> Answer:
        """Show what became of a save, above the message's card as it is now."""
        cards = self._cards()
        notification = cards.text.t("card_saved_now") if outcome.request.state == "saved" else ""
        return Answer([*self._fresh_root(), _push(cards.result(m.save_out(outcome)))], notification, is_changed=True)

    def _fresh_root(self, *, refresh: bool = False) -> list[Navigation]:
        """Go back to the message's card, drawn anew if that can be done now."""
        if not self._action.message_id:
            return [_TO_ROOT]
        try:
            return [_TO_ROOT, _update(self._looked_up(self._message(), refresh=refresh))]
        except errors.SsiError as error:  # what was done is what is told
            log.info("a card was not drawn anew", reason=type(error).__name__)
            return [_TO_ROOT]

    # Records

    def search(self) -> Answer:
        text = self._action.parameters.get("text", "")
        return self._searched(text, _push) if text else Answer([_push(self._cards().search(""))])

    def find(self) -> Answer:
        return self._searched(self._event.typed("text"), _push if "above" in self._action.parameters else _update)

    def _searched(self, text: str, show: Callable[[Card], Navigation]) -> Answer:
        search = partial(records.search, self.deps, self._principal, text, waited_s=self._waited_s())
        try:
            found = m.search_out(self._deadline.keep(search), self._principal.profile)
        except errors.InvalidInput as error:
            return Answer([show(self._cards().search(text))], error.reason)
        return Answer([show(self._cards().search(text, found))])

    def record(self) -> Answer:
        ref = _link_of("{type}:{id}".format_map(self._action.parameters))
        try:
            look = partial(records.detail, self.deps, self._principal, ref, waited_s=self._waited_s())
            detail = self._deadline.keep(look)
        except errors.NotFound:
            return Answer([_push(self._cards().gone())])
        return Answer([_push(self._cards().record(m.detail_out(detail, self._principal.profile)))])

    def _waited_s(self) -> float:
        return time.perf_counter() - float(g.started)

    def create_form(self) -> Answer:
        person = {name: self._action.parameters.get(name, "") for name in ("name", "address")}
        values = records.proposed(self._new_type(), person["name"], person["address"])
        return Answer([_push(self._cards().create_form(self._form(values, person)))])

    def create(self) -> Answer:
        """Create a record, once for each form that was shown."""
        record_type, deps = self._new_type(), self.deps
        entered = {name: value for name, value in self._event.entries().items() if name in records.FORMS[record_type] and value}
        try:
            record = records.create(deps, self._principal, record_type, _values(entered), key=self._action.nonce)
        except (errors.InvalidInput, errors.Rejected, errors.Transient) as error:  # nothing was created: the form is good again
            return Answer([_update(self._cards().create_form(self._form(entered, {}), wrong=self._trouble(error)))])
        shown = m.DetailOut(record=m.record_out(record, self._principal.profile), related=[])
        cards = self._cards()
        return Answer(
            [*self._fresh_root(refresh=True), _push(cards.record(shown))], cards.text.t("card_created"), is_changed=True
        )

    def _new_type(self) -> RecordType:
        """Raises: Forbidden for a type that the caller's profile does not have."""
        found = next((one for one in self._new_types() if one == self._action.parameters["type"]), None)
        if found is None:
            raise errors.Forbidden("Records of this kind are not used here.")
        return found

    def _form(self, values: Mapping[str, str], person: Mapping[str, str]) -> Form:
        record_type = self._new_type()
        return Form(
            record_type,
            {name: values.get(name, "") for name in records.FORMS[record_type]},
            records.NEEDED[record_type],
            person,
        )

    # The sync engine

    def issues(self) -> Answer:
        return Answer([_push(self._cards().issues(self._sync()))])

    def force_sync(self) -> Answer:
        try:
            syncing.force(self.deps, self._principal)
        except syncing.CannotSync as error:
            return Answer([_update(self.homepage())], str(error))
        return Answer([_update(self.homepage())], self._cards().text.t("card_sync_asked"))


_CARDS: Mapping[str, Callable[[Visit], Card]] = {
    "homepage": Visit.homepage,
    "context": Visit.context,
    "compose": Visit.compose,
}
"""What Gmail opens, and a click draws anew in its place."""

_STEPS: Mapping[str, Callable[[Visit], Answer]] = {
    "record": Visit.record,
    "search": Visit.search,
    "find": Visit.find,
    "create_form": Visit.create_form,
    "create": Visit.create,
    "save": Visit.save,
    "choose": Visit.choose,
    "save_chosen": Visit.save_chosen,
    "save_state": Visit.save_state,
    "save_again": Visit.save_again,
    "issues": Visit.issues,
    "force_sync": Visit.force_sync,
}

_INSTEAD = {"save_chosen": "choose", "find": "search"}
"""Action -> what to try again in its place, since its form is gone with its card."""


def _link_of(text: str) -> RecordRef:
    """Read "type:id". Raises: InvalidInput."""
    record_type, _, record_id = text.partition(":")
    try:
        return m.Link.model_validate({"type": record_type, "id": record_id}).value()
    except ValidationError:
        raise errors.InvalidInput("links", "There is no such record.") from None


def _values(entered: Mapping[str, str]) -> dict[str, str]:
    """Raises: InvalidInput for a value that is too long."""
    try:
        return m.CreateIn.model_validate({"key": "0" * 32, "values": dict(entered)}).given()
    except ValidationError as error:
        name = str(error.errors(include_input=False, include_url=False)[0]["loc"][-1])
        raise errors.InvalidInput(name, "This is too long.") from None
