"""Beside a Gmail person's message the mail client shows the add-on as Gmail does, whichever way Google runs it.

The endpoint is the test's own; on Apps Script the real sources of appsscript/ call it. Texts of cards are the product's, and
hostile where a test says so.
"""

from __future__ import annotations

import threading
from typing import Any

import jwt
import pytest
from flask import Response
from playwright.sync_api import Locator, expect

from simulator import demo
from simulator.google.identity import ADD_ON, ADD_ON_ACCOUNT, subject
from simulator.inbox.add_on import USER_AGENT
from simulator.world import World
from tests.simulator.inbox_page import AXE, Call, Client, eventually, stored

pytestmark = pytest.mark.browser

Json = dict[str, Any]
CASE, OTHER = "known_contact", "own_category"
RUNTIMES = ("apps-script", "http")


@pytest.fixture
def world() -> World:
    world = demo.small(people=4)
    demo.rehome(world, world.people[0], "google")
    return world


@pytest.fixture(params=RUNTIMES)
def runtime(request: pytest.FixtureRequest) -> str:
    return str(request.param)


class Gmail:
    """The pane, and the answers of the add-on's endpoint."""

    def __init__(self, inbox: Client, runtime: str) -> None:
        self.inbox, self.runtime, self.page = inbox, runtime, inbox.page
        self.pane = inbox.page.locator("#pane .add-on")
        self.answers = inbox.endpoint.answers

    @property
    def card(self) -> Locator:
        return self.pane.get_by_role("article")

    @property
    def calls(self) -> list[Call]:
        return self.inbox.endpoint.calls

    def open(self, case: str = CASE, **query: str) -> None:
        self.inbox.go(case, host=f"addon-{self.runtime}", **query)

    def shows(self, *cards: Json, on: str = "message") -> None:
        """Let the endpoint answer a trigger with these cards, one after the other."""
        self.answers[on] = [{"action": {"navigations": [{"pushCard": one}]}} for one in cards]

    def does(self, *actions: Json) -> None:
        """Let the endpoint answer clicks with these."""
        self.answers["action"] = [{"renderActions": {"action": one}} for one in actions]

    def click(self, **parameters: str) -> Json:
        function = "onAction" if self.runtime == "apps-script" else f"{self.inbox.endpoint.url}/gmail/action"
        given = [{"key": key, "value": value} for key, value in parameters.items()]
        return {"action": {"function": function, "parameters": given, "loadIndicator": "SPINNER"}}

    def button(self, text: str, **parameters: str) -> Json:
        return {"text": text, "onClick": self.click(**parameters)}

    def buttons(self, *buttons: Json) -> Json:
        return {"buttonList": {"buttons": list(buttons)}}

    def link(self, text: str, path: str, **how: str) -> Json:
        return {"text": text, "onClick": {"openLink": {"url": f"{self.inbox.endpoint.url}{path}", **how}}}

    def press(self, name: str) -> None:
        self.card.get_by_role("button", name=name).click()


def card(title: str, *widgets: Json, **more: Any) -> Json:
    return {"header": {"title": title}, "sections": [{"widgets": list(widgets) or [text(f"About {title}")]}], **more}


def text(text: str) -> Json:
    return {"textParagraph": {"text": text}}


@pytest.fixture
def gmail(inbox: Client, runtime: str) -> Gmail:
    return Gmail(inbox, runtime)


def claims(call: Call) -> Json:
    scheme, token = call.headers["Authorization"].split(" ")
    assert scheme == "Bearer"
    read: Json = jwt.decode(token, options={"verify_signature": False})
    return read


# -- What the add-on is told ----------------------------------------------------------------------------------------------


def test_a_message_that_is_opened_is_told_to_the_add_on_and_its_card_is_shown(gmail: Gmail, world: World) -> None:
    gmail.shows(card("Known sender"))
    gmail.open()
    expect(gmail.card.get_by_role("heading", name="Known sender")).to_be_visible()
    (call,) = gmail.calls
    message = stored(world, CASE)
    assert call.path == "/gmail/message"
    assert (call.body["gmail"]["messageId"], call.body["gmail"]["threadId"]) == (message.immutable_id, message.conversation_id)
    common = call.body["commonEventObject"]
    assert (common["hostApp"], common["platform"], common["userLocale"]) == ("GMAIL", "WEB", "en-US")
    assert set(common["timeZone"]) == {"id", "offset"}


@pytest.mark.parametrize("runtime", ["apps-script"])
def test_the_script_proves_who_the_person_is_and_keeps_googles_other_tokens(gmail: Gmail, world: World) -> None:
    gmail.shows(card("Known sender"))
    gmail.open()
    expect(gmail.card).to_be_visible()
    (call,) = gmail.calls
    me, said = world.people[0], claims(call)
    assert (said["aud"], said["azp"], said["sub"], said["email"]) == (ADD_ON, ADD_ON, subject(me), me.email)
    assert (said["hd"], said["email_verified"]) == (demo.OWN_DOMAIN, True)
    assert call.headers["User-Agent"] == USER_AGENT
    assert call.body["message"]["subject"] == gmail.inbox.subject(CASE)
    assert call.body["message"]["messageId"].startswith("<")
    assert "@" in call.body["message"]["from"]
    assert set(call.body) == {"commonEventObject", "gmail", "message"}
    assert "accessToken" not in call.body["gmail"]


@pytest.mark.parametrize("runtime", ["http"])
def test_google_proves_to_the_endpoint_who_it_is_and_who_the_person_is(gmail: Gmail, world: World) -> None:
    gmail.shows(card("Known sender"))
    gmail.open()
    expect(gmail.card).to_be_visible()
    (call,) = gmail.calls
    said, given = claims(call), call.body["authorizationEventObject"]
    assert said["aud"] == f"{gmail.inbox.endpoint.url}/gmail/message"
    assert (said["email"], said["email_verified"]) == (ADD_ON_ACCOUNT, True)
    assert call.headers["Authorization"] == f"Bearer {given['systemIdToken']}"
    person = jwt.decode(given["userIdToken"], options={"verify_signature": False})
    assert (person["aud"], person["sub"]) == (ADD_ON, subject(world.people[0]))
    assert set(given) == {"systemIdToken", "userIdToken", "userOAuthToken", "authorizedScopes"}
    assert call.body["gmail"]["accessToken"]


def test_without_a_message_there_is_the_homepage_and_while_one_is_written_its_recipients_are_told(gmail: Gmail) -> None:
    gmail.shows(card("Home"), on="homepage")
    gmail.shows(card("Known sender"))
    gmail.shows(card("Recipients"), on="compose")
    gmail.open("")
    expect(gmail.card).to_contain_text("Home")
    assert set(gmail.calls[0].body) <= {"commonEventObject", "authorizationEventObject"}
    gmail.inbox.select(CASE)
    expect(gmail.card).to_contain_text("Known sender")
    gmail.page.get_by_role("button", name="Compose").click()
    gmail.page.get_by_label("To", exact=True).fill('"Ada, Sales" <ada@known.example>, bo@known.example')
    gmail.page.get_by_role("button", name="View context").click()
    expect(gmail.card).to_contain_text("Recipients")
    assert [call.path for call in gmail.calls] == ["/gmail/homepage", "/gmail/message", "/gmail/compose"]
    told = gmail.calls[-1].body["gmail"]
    assert told["toRecipients"] == ["ada@known.example", "bo@known.example"]
    assert "messageId" not in told


def test_what_is_entered_and_clicked_is_told_and_what_is_empty_is_not(gmail: Gmail) -> None:
    def items(*values: str) -> list[Json]:
        return [{"text": value, "value": value, "selected": value == "b"} for value in values]

    form = [
        {"textInput": {"name": "subject", "label": "Subject", "value": "As it was"}},
        {"textInput": {"name": "note", "label": "Note"}},
        {"textInput": {"name": "nothing", "label": "Nothing", "hintText": "May stay empty"}},
        {"selectionInput": {"name": "links", "label": "Links", "type": "CHECK_BOX", "items": items("a", "b", "c")}},
        {"selectionInput": {"name": "none", "label": "None", "type": "CHECK_BOX", "items": items("x")}},
        {"selectionInput": {"name": "type", "label": "Type", "type": "DROPDOWN", "items": items("a", "b")}},
        {"selectionInput": {"name": "which", "label": "Which", "type": "RADIO_BUTTON", "items": items("a", "b")}},
    ]
    gmail.shows(card("Form", *form, gmail.buttons(gmail.button("Go", token="t-1"))))
    gmail.does({"notification": {"text": "Taken"}})
    gmail.open()
    gmail.card.get_by_label("Subject").fill("Grüße & <b>more</b>")
    gmail.card.get_by_label("Note").fill("=1+1")
    gmail.card.get_by_role("group", name="Links").get_by_label("c").check()
    gmail.card.get_by_label("Type").select_option("a")
    gmail.press("Go")
    expect(gmail.pane.get_by_role("status")).to_have_text("Taken")
    common = gmail.calls[-1].body["commonEventObject"]
    assert common["parameters"] == {"token": "t-1"}
    assert common["formInputs"] == {
        name: {"stringInputs": {"value": values}}
        for name, values in {
            "subject": ["Grüße & <b>more</b>"],
            "note": ["=1+1"],
            "links": ["b", "c"],
            "type": ["a"],
            "which": ["b"],
        }.items()
    }
    expect(gmail.card.get_by_label("Note")).to_have_value("=1+1")


@pytest.mark.parametrize("runtime", ["http"])
def test_nothing_but_the_products_server_is_called_from_here(gmail: Gmail) -> None:
    own = gmail.inbox.endpoint.url
    for url in (
        "https://elsewhere.example/",
        f"{own}.elsewhere.example/",
        f"{own}@elsewhere.example/",
        "file:///etc/passwd",
        own,
    ):
        asked = {"url": url, "method": "GET", "headers": {}, "body": ""}
        assert gmail.page.request.post(f"{gmail.inbox.url}/addon/fetch", data=asked).status == 403
        assert gmail.page.request.get(f"{gmail.inbox.url}/addon/image", params={"url": url}).status == 403
    for mailbox, status in ((gmail.inbox.world.people[1].email, 409), ("nobody@known.example", 404)):
        call = {"mailbox": mailbox, "url": f"{own}/gmail/message"}
        assert gmail.page.request.post(f"{gmail.inbox.url}/addon/call", data=call).status == status


# -- How it is shown ------------------------------------------------------------------------------------------------------


def test_cards_lie_on_each_other_and_back_finds_what_was_typed_and_where_one_was(gmail: Gmail) -> None:
    search = {"textInput": {"name": "q", "label": "Search"}}
    gmail.shows(card("First", search, gmail.buttons(gmail.button("Find"))))
    third = {"navigations": [{"pushCard": card("Third", gmail.buttons(gmail.button("Home")))}]}
    gmail.does(
        {"navigations": [{"pushCard": card("Second", gmail.buttons(gmail.button("Again"), gmail.button("On")))}]},
        {"navigations": [{"updateCard": card("Second, anew", gmail.buttons(gmail.button("On")))}]},
        third,
        {"navigations": [{"pop": True}]},
        third,
        {"navigations": [{"popToRoot": True}, {"updateCard": card("First, anew")}]},
    )
    gmail.open()
    heading = gmail.card.get_by_role("heading", level=2)
    expect(heading).to_have_text("First")
    expect(gmail.card.get_by_role("button", name="Back")).to_have_count(0)
    gmail.card.get_by_label("Search").fill("pumps")
    gmail.press("Find")
    expect(heading).to_have_text("Second")
    expect(heading).to_be_focused()
    gmail.press("Again")
    expect(heading).to_have_text("Second, anew")
    gmail.press("Back")
    expect(gmail.card.get_by_label("Search")).to_have_value("pumps")
    expect(gmail.card.get_by_role("button", name="Find")).to_be_focused()
    gmail.press("Find")
    expect(heading).to_have_text("Third")
    gmail.press("Home")
    expect(heading).to_have_text("First")
    gmail.press("Find")
    gmail.press("Home")
    expect(heading).to_have_text("First, anew")
    expect(gmail.card.get_by_role("button", name="Back")).to_have_count(0)


def test_a_section_folds_and_a_card_has_actions_of_its_own_and_the_manifests(gmail: Gmail) -> None:
    fields = [{"decoratedText": {"topLabel": f"Label {n}", "text": f"Value {n}"}} for n in range(4)]
    folded = {"header": "Fields", "collapsible": True, "uncollapsibleWidgetsCount": 1, "widgets": fields}
    action = {"actionLabel": "Refresh", "onClick": gmail.click(token="r")}
    gmail.shows({"header": {"title": "Detail"}, "sections": [folded], "cardActions": [action]})
    gmail.does({"notification": {"text": "Refreshed"}})
    gmail.open()
    expect(gmail.card).to_contain_text("Value 0")
    expect(gmail.card.get_by_text("Value 1")).to_be_hidden()
    gmail.card.get_by_role("button", name="Show more", expanded=False).click()
    expect(gmail.card.get_by_text("Value 3")).to_be_visible()
    gmail.press("More")
    expect(gmail.page.get_by_role("menuitem")).to_have_text(["Refresh", "User Settings", "Privacy"])
    gmail.page.get_by_role("menuitem", name="Refresh").click()
    expect(gmail.pane.get_by_role("status")).to_have_text("Refreshed")
    assert gmail.calls[-1].body["commonEventObject"]["parameters"] == {"token": "r"}


SCRIPT = "<script>alert(1)</script><img src=x onerror=alert(2)>"


def test_what_is_hostile_is_text_and_what_is_not_googles_markup_is_not_drawn(gmail: Gmail) -> None:
    name = f"Mara{SCRIPT}"
    paragraph = f'plain{SCRIPT}<b onclick="alert(3)">bold</b> <a href="javascript:alert(4)">lure</a><svg onload=alert(5)>'
    escaped = name.replace("<", "&lt;").replace(">", "&gt;")
    choice = {"name": "c", "label": name, "type": "DROPDOWN", "items": [{"text": name, "value": name, "selected": True}]}
    gmail.shows(
        {
            "header": {"title": name, "subtitle": name},
            "sections": [
                {
                    "widgets": [
                        {"decoratedText": {"text": escaped, "topLabel": escaped, "bottomLabel": escaped}},
                        text(paragraph),
                        {"textInput": {"name": "t", "label": name, "hintText": name, "value": name}},
                        {"selectionInput": choice},
                        gmail.buttons(gmail.button(name)),
                    ]
                }
            ],
        }
    )
    gmail.open()
    expect(gmail.card.get_by_role("heading", name=name)).to_be_visible()
    expect(gmail.card.locator(".texts > *")).to_have_text([name] * 3)
    expect(gmail.card.get_by_label(name).first).to_have_value(name)
    expect(gmail.card.get_by_text("plain")).to_have_text("plainbold lure")
    assert gmail.card.locator("script, img, svg[onload], [onclick], [onerror]").count() == 0
    gmail.card.get_by_role("link", name="lure").click()
    expect(gmail.pane.get_by_role("status")).to_contain_text("does not open this link")


@pytest.mark.parametrize("runtime", ["http"])
@pytest.mark.parametrize(("name", "is_shown"), [("a.png", True), ("a.svg", False)])
def test_google_fetches_a_cards_picture_and_no_svg(gmail: Gmail, name: str, is_shown: bool) -> None:
    head = {"title": "Pictured", "imageUrl": f"{gmail.inbox.endpoint.url}/pictures/{name}"}
    gmail.shows({"header": head, "sections": [{"widgets": [text("Text")]}]})
    gmail.open()
    picture = gmail.card.locator("img")
    picture.evaluate("e => e.complete || new Promise((done) => { e.onload = e.onerror = () => done(null); })")
    assert (picture.evaluate("e => e.naturalWidth") > 0) == is_shown


@pytest.mark.parametrize("runtime", ["http"])
def test_no_more_than_a_hundred_widgets_are_drawn(gmail: Gmail) -> None:
    gmail.shows(card("Many", *(text(f"Line {n}") for n in range(1, 121))))
    gmail.open()
    expect(gmail.card.locator(".text")).to_have_count(100)


@pytest.mark.parametrize("runtime", ["http"])
@pytest.mark.parametrize(
    "widget",
    [
        {"grid": {"items": []}},
        {"textParagraph": {"text": "a", "maxLines": 2}},
        {"decoratedText": {"text": "a", "switchControl": {"name": "s"}}},
        {"decoratedText": {"text": "a", "startIcon": {"knownIcon": "SPACESHIP"}}},
        {"buttonList": {"buttons": [{"text": "a", "onClick": {"overflowMenu": {}}}]}},
        {"textInput": {"label": "a"}},
        {"textInput": {"label": "a", "name": "a", "type": "MULTIPLE_LINE"}},
        {"decoratedText": {"text": "a", "bottomText": "a"}},
        {"selectionInput": {"name": "a", "type": "MULTI_SELECT", "items": [{"text": "a", "value": "a"}]}},
    ],
    ids=lambda widget: "-".join([*widget, *next(iter(widget.values()))]),
)
def test_a_widget_that_is_not_allowed_is_a_failure_that_names_it(gmail: Gmail, widget: Json) -> None:
    gmail.shows(card("Wrong", text("Right"), widget))
    gmail.open()
    expect(gmail.pane.get_by_role("alert")).to_contain_text("could not be shown")
    expect(gmail.card).to_have_count(0)


@pytest.mark.parametrize("runtime", ["http"])
@pytest.mark.parametrize(
    ("answer", "why"),
    [
        (Response("{}", 503), "answered 503"),
        (Response("<html>", 200), "not JSON"),
        ({"renderActions": {"action": {}}}, "no action"),
    ],
    ids=["status", "html", "shape"],
)
def test_an_endpoint_that_fails_is_told_with_the_reason_and_can_be_tried_again(gmail: Gmail, answer: Any, why: str) -> None:
    good = {"action": {"navigations": [{"pushCard": card("Known sender")}]}}
    gmail.answers["message"] = [answer, good]
    gmail.open()
    alert = gmail.pane.get_by_role("alert")
    expect(alert).to_contain_text(why)
    alert.get_by_role("button", name="Try again").click()
    expect(gmail.card.get_by_role("heading", name="Known sender")).to_be_focused()
    expect(alert).to_have_count(0)


def test_while_the_add_on_works_it_is_seen_and_heard_and_nothing_can_be_clicked_twice(gmail: Gmail) -> None:
    done = threading.Event()

    def slow() -> Json:
        assert done.wait(20)
        return {"renderActions": {"action": {"notification": {"text": "Saved"}}}}

    gmail.shows(card("Slow", gmail.buttons(gmail.button("Save"))))
    gmail.answers["action"] = [slow]
    gmail.open()
    gmail.press("Save")
    try:
        expect(gmail.pane.get_by_role("progressbar", name="The add-on is working")).to_be_visible()
        assert gmail.pane.locator("[aria-busy=true]").evaluate("e => e.inert")
    finally:
        done.set()
    expect(gmail.pane.get_by_role("status")).to_have_text("Saved")
    expect(gmail.pane.get_by_role("progressbar")).to_be_hidden()
    expect(gmail.card.get_by_role("button", name="Save")).to_be_focused()
    assert len(gmail.calls) == 2


def test_an_answer_about_a_message_that_was_left_is_not_shown(gmail: Gmail) -> None:
    left = threading.Event()

    def late() -> Json:
        assert left.wait(20)
        return {"action": {"navigations": [{"pushCard": card("Too late")}]}}

    gmail.answers["message"] = [late, {"action": {"navigations": [{"pushCard": card("In time")}]}}]
    gmail.open()
    expect(gmail.pane.get_by_role("progressbar")).to_be_visible()
    assert eventually(lambda: len(gmail.calls) == 1, gmail.page)
    gmail.inbox.select(OTHER)
    expect(gmail.card).to_contain_text("In time")
    if gmail.runtime == "apps-script":
        left.set()  # the execution has ended: there is nothing that could bring the answer
    else:
        with gmail.page.expect_response("**/addon/call"):
            left.set()
    expect(gmail.card).to_have_count(1)
    expect(gmail.card).to_contain_text("In time")


# -- Links ----------------------------------------------------------------------------------------------------------------


def test_a_link_opens_in_a_new_tab_that_does_not_know_where_it_came_from(gmail: Gmail) -> None:
    gmail.shows(card("Links", gmail.buttons(gmail.link("Open", "/sidebar"))))
    gmail.open()
    with gmail.page.context.expect_page() as opened:
        gmail.card.get_by_role("link", name="Open").click()
    assert opened.value.evaluate("opener") is None
    assert opened.value.url == f"{gmail.inbox.endpoint.url}/sidebar"


def test_a_link_that_the_manifest_does_not_name_is_not_opened(gmail: Gmail) -> None:
    foreign = {"text": "Elsewhere", "onClick": {"openLink": {"url": "https://elsewhere.example/"}}}
    gmail.shows(card("Links", gmail.buttons(foreign)))
    gmail.open()
    gmail.card.get_by_role("link", name="Elsewhere").click()
    expect(gmail.pane.get_by_role("status")).to_contain_text("openLinkUrlPrefixes")
    assert len(gmail.page.context.pages) == 1


def test_the_add_on_is_loaded_anew_when_a_page_that_it_waits_for_is_closed(gmail: Gmail) -> None:
    gmail.shows(card("Not connected", gmail.buttons(gmail.link("Connect", "/sidebar", onClose="RELOAD"))), card("Connected"))
    gmail.open()
    with gmail.page.context.expect_page() as opened:
        gmail.card.get_by_text("Connect", exact=True).click()
    opened.value.wait_for_load_state()
    expect(gmail.card).to_contain_text("Not connected")
    opened.value.close()
    expect(gmail.card.get_by_role("heading")).to_have_text("Connected")


# -- For everybody --------------------------------------------------------------------------------------------------------

KINDS = ("CHECK_BOX", "RADIO_BUTTON", "DROPDOWN")
RUN_AXE = """async () => (await axe.run("#pane", { resultTypes: ["violations"] })).violations
  .flatMap(({ id, nodes }) => nodes.map(({ html }) => `${id}: ${html.slice(0, 120)}`))"""


@pytest.mark.parametrize("runtime", ["http"])
@pytest.mark.parametrize("theme", ["light", "dark", "contrast"])
def test_axe_finds_no_fault_in_any_widget_or_state(gmail: Gmail, theme: str) -> None:
    items = [{"text": "Mara Lind", "value": "1", "selected": True}, {"text": "Alder Mill Ltd", "value": "2"}]
    clicked, link = {"onClick": gmail.click()}, gmail.link("Open", "/x")
    widgets: list[Json] = [
        {"decoratedText": {"startIcon": {"knownIcon": "PERSON"}, "topLabel": "Contact", "text": "Mara", **clicked}},
        {"decoratedText": {"text": "Alder Mill Ltd", "bottomLabel": "Account", "wrapText": True, "button": link}},
        text('<b>Saved</b> <font color="#256f3a">by you</font> <i>today</i>, <a href="https://elsewhere.example/">see it</a>'),
        {"divider": {}},
        *({"selectionInput": {"name": kind, "label": kind, "type": kind, "items": items}} for kind in KINDS),
        {"textInput": {"name": "t", "label": "Text", "hintText": "A hint"}},
        gmail.buttons(gmail.button("Plain"), gmail.link("Elsewhere", "/x")),
    ]
    footer = {"primaryButton": gmail.button("Save this e-mail"), "secondaryButton": gmail.button("Choose")}
    folded = {"header": "Fields", "collapsible": True, "uncollapsibleWidgetsCount": 0, "widgets": [text("Folded")]}
    all_of_it = card("Everything", *widgets, fixedFooter=footer)
    all_of_it["sections"].append(folded)
    gmail.shows(all_of_it)
    gmail.does({"navigations": [{"pushCard": all_of_it}], "notification": {"text": "Done"}})
    gmail.open(theme=theme)
    expect(gmail.card).to_be_visible()
    gmail.page.evaluate(AXE.read_text())
    found = gmail.page.evaluate(RUN_AXE)
    gmail.press("Save this e-mail")
    expect(gmail.pane.get_by_role("status")).to_have_text("Done")
    found += gmail.page.evaluate(RUN_AXE)
    gmail.answers["action"] = [Response("{}", 500)]
    gmail.press("Save this e-mail")
    expect(gmail.pane.get_by_role("alert")).to_be_visible()
    found += gmail.page.evaluate(RUN_AXE)
    assert found == []


@pytest.mark.parametrize("runtime", ["http"])
def test_the_sidebar_is_shown_until_the_developer_chooses_the_add_on(gmail: Gmail) -> None:
    gmail.shows(card("Known sender"))
    gmail.inbox.open(CASE)
    expect(gmail.card).to_have_count(0)
    gmail.page.get_by_role("button", name="Developer").click()
    gmail.page.get_by_role("combobox", name="Gmail shows").select_option("Add-on, HTTP")
    expect(gmail.card).to_contain_text("Known sender")
    expect(gmail.page.locator("#pane iframe")).to_have_count(0)
    gmail.page.get_by_role("combobox", name="Gmail shows").select_option("Sidebar")
    gmail.inbox.pane()
    expect(gmail.card).to_have_count(0)


@pytest.mark.parametrize("runtime", ["http"])
def test_outlook_has_no_add_on(gmail: Gmail, world: World) -> None:
    other = world.people[1]
    gmail.page.goto(f"{gmail.inbox.url}/?pane=1&host=addon-http#/mailbox/{other.email}")
    gmail.inbox.pane()
    assert gmail.calls == []
