"""The simulator's mail client: what its JSON promises, and that its Office.js stand-in behaves as Outlook on the web does.

The browser tests host a page that only loads the stand-in; they call Office.js in it as the sidebar would.
"""

import base64
import re
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from email import message_from_bytes, policy
from html import escape
from pathlib import Path

import pytest
from flask import Flask
from flask.testing import FlaskClient
from playwright.sync_api import Browser, Frame, Locator, Page, Playwright, expect

from simulator import demo
from simulator.inbox import create_app
from simulator.serving import Port
from simulator.world import MailboxState, StoredMessage, World

CHROMIUM = "/usr/bin/chromium"
AXE = Path(__file__).parents[2] / "node_modules/axe-core/axe.min.js"


@pytest.fixture
def world() -> World:
    return demo.small()


@pytest.fixture
def client(world: World) -> FlaskClient:
    app = create_app(lambda: world, sidebar_url=lambda: "http://127.0.0.1:1/sidebar", mint_token=lambda p: f"token of {p.email}")
    return app.test_client()


def box_of(world: World, case: str) -> MailboxState:
    return world.mailbox(world.cases[case][0])


def stored(world: World, case: str) -> StoredMessage:
    return box_of(world, case).messages[world.cases[case][1]]


def path(world: World, case: str, rest: str = "") -> str:
    address, ref = world.cases[case]
    return f"/api/mailboxes/{address}/messages/{ref}{rest}"


# -- The mail client's JSON -----------------------------------------------------------------------------------------------


def test_a_folder_lists_its_messages_newest_first_and_says_nothing_until_something_changes(
    world: World, client: FlaskClient
) -> None:
    box = box_of(world, "known_contact")
    url = f"/api/mailboxes/{box.owner.email}"
    view = client.get(url).get_json()
    times = [row["received_at"] for row in view["messages"]]
    assert times == sorted(times, reverse=True)
    assert len(times) == sum(m.folder == box.folder("inbox").id for m in box.messages.values())
    assert client.get(f"{url}?seen={view['revision']}").status_code == 204

    category = next(iter(box.categories.values()))
    category.color = "preset9"
    assert client.get(f"{url}?seen={view['revision']}").status_code == 200


def test_every_message_of_the_demo_can_be_opened(world: World, client: FlaskClient) -> None:
    for case in world.cases:
        detail = client.get(path(world, case)).get_json()
        assert detail["ews_id"] == stored(world, case).ews_id
        assert detail["headers"].splitlines()[0].split(":")[0].isascii()
        assert client.get(path(world, case, "/mime")).data == stored(world, case).mime


def test_an_html_body_is_served_where_nothing_can_run_or_be_fetched(world: World, client: FlaskClient) -> None:
    answer = client.get(path(world, "hostile", "/html"))
    rules = answer.headers["Content-Security-Policy"]
    assert "default-src 'none'" in rules
    assert "allow-scripts" not in rules
    assert client.get(path(world, "known_contact", "/html")).status_code == 404


def test_attachments_come_as_files_and_inline_images_are_shown_in_the_body(world: World, client: FlaskClient) -> None:
    detail = client.get(path(world, "attachments")).get_json()
    file = next(a for a in detail["attachments"] if not a["inline"])
    got = client.get(path(world, "attachments", f"/attachments/{file['path']}"))
    assert len(got.data) == file["size"]
    assert got.headers["Content-Disposition"].startswith("attachment")
    assert "cid:" not in client.get(path(world, "attachments", "/html")).text


def test_categories_are_added_and_removed_by_name_and_others_stay(world: World, client: FlaskClient) -> None:
    url = path(world, "own_category", "/categories")
    before = list(stored(world, "own_category").categories)
    change = stored(world, "own_category").change
    answer = client.post(url, json={"add": ["Private", before[0].upper()]}).get_json()
    assert answer["categories"] == [*before, "Private"]
    client.post(url, json={"remove": ["PRIVATE"]})
    assert stored(world, "own_category").categories == before
    assert stored(world, "own_category").change > change
    assert [e.detail["after"] for e in world.events("inbox", "categories")] == [[*before, "Private"], before]


def test_a_user_makes_recolors_and_deletes_a_category_and_messages_keep_its_name(world: World, client: FlaskClient) -> None:
    box = box_of(world, "own_category")
    url = f"/api/mailboxes/{box.owner.email}/categories"
    made = client.post(url, json={"name": "Fair", "color": "preset2"}).get_json()
    assert client.post(url, json={"name": "FAIR"}).status_code == 409
    assert client.patch(f"{url}/{made['id']}", json={"color": "magenta"}).status_code == 422
    assert client.patch(f"{url}/{made['id']}", json={"color": "preset4"}).get_json()["color"] == "preset4"
    client.post(path(world, "own_category", "/categories"), json={"add": ["Fair"]})
    assert client.delete(f"{url}/{made['id']}").status_code == 204
    assert made["id"] not in box.categories
    assert "Fair" in stored(world, "own_category").categories


def test_a_moved_message_keeps_its_immutable_id_only_and_leaves_a_tombstone(world: World, client: FlaskClient) -> None:
    box, message = box_of(world, "known_contact"), stored(world, "known_contact")
    ews_id, source = message.ews_id, message.folder
    assert client.post(path(world, "known_contact", "/move"), json={"folder": "deleteditems"}).status_code == 200
    assert message.folder == box.folder("deleteditems").id
    assert message.ews_id != ews_id
    assert (source, message.immutable_id) in [(folder, ref) for _, folder, ref in box.tombstones]
    assert client.post(path(world, "known_contact", "/move"), json={"folder": "nowhere"}).status_code == 404


def test_what_is_sent_reaches_colleagues_with_the_same_message_id_and_without_bcc(world: World, client: FlaskClient) -> None:
    sender, to, hidden = list(world.mailboxes.values())[:3]
    url = f"/api/mailboxes/{sender.owner.email}/messages"
    form = {"to": f'"Last, First" <{to.owner.email}>', "bcc": hidden.owner.email, "subject": "Lunch", "text": "At one?"}
    draft = client.post(url, json=form).get_json()
    assert sender.messages[draft["id"]].is_draft
    sent = client.post(url, json={**form, "id": draft["id"], "send": True}).get_json()
    assert sent["id"] == draft["id"]
    assert sender.messages[sent["id"]].folder == sender.folder("sentitems").id

    original = message_from_bytes(sender.messages[sent["id"]].mime, policy=policy.default)
    for box in (to, hidden):
        copy = max(box.messages.values(), key=lambda m: m.received_at)
        letter = message_from_bytes(copy.mime, policy=policy.default)
        assert letter["Message-ID"] == original["Message-ID"]
        assert letter["Bcc"] is None
        assert not copy.is_read
    assert client.post(url, json={"subject": "To nobody", "send": True}).status_code == 422


def test_a_draft_that_is_saved_again_keeps_its_files(world: World, client: FlaskClient) -> None:
    box = box_of(world, "with_attachment_known_contact")
    draft = stored(world, "with_attachment_known_contact")
    draft.is_draft, draft.folder = True, box.folder("drafts").id
    names = [a["name"] for a in client.get(path(world, "with_attachment_known_contact")).get_json()["attachments"]]
    client.post(
        f"/api/mailboxes/{box.owner.email}/messages", json={"id": draft.immutable_id, "subject": "Again", "to": "a@b.example"}
    )
    detail = client.get(path(world, "with_attachment_known_contact")).get_json()
    assert (detail["subject"], [a["name"] for a in detail["attachments"]]) == ("Again", names)


def test_what_is_forwarded_takes_the_files_along(world: World, client: FlaskClient) -> None:
    url = f"/api/mailboxes/{box_of(world, 'attachments').owner.email}/messages"
    form = {"forward": stored(world, "attachments").immutable_id, "subject": "Fwd", "to": "a@b.example", "send": True}
    sent = client.get(f"{url}/{client.post(url, json=form).get_json()['id']}").get_json()
    original = client.get(path(world, "attachments")).get_json()
    assert [a["name"] for a in sent["attachments"]] == [a["name"] for a in original["attachments"]]
    assert sent["internet_message_id"] != original["internet_message_id"]


def test_what_does_not_exist_is_refused_in_a_sentence(client: FlaskClient) -> None:
    answer = client.get("/api/mailboxes/nobody@example.org")
    assert (answer.status_code, answer.get_json()) == (404, {"error": "There is no such mailbox"})


def test_the_page_may_frame_its_own_messages_and_the_sidebar_and_nothing_else(world: World, client: FlaskClient) -> None:
    def framed(client: FlaskClient) -> str:
        with client.get("/") as page:
            rules = page.headers["Content-Security-Policy"].split("; ")
        return next(rule for rule in rules if rule.startswith("frame-src"))

    assert framed(client) == "frame-src 'self' http://127.0.0.1:1"
    alone = create_app(lambda: world, sidebar_url=lambda: "", mint_token=lambda person: person.email)
    assert framed(alone.test_client()) == "frame-src 'self'"


# -- The back door ----------------------------------------------------------------------------------------------------------


def test_faults_and_latency_are_set_and_removed_over_http(world: World, client: FlaskClient) -> None:
    first = client.post("/world/faults", json={"vendor": "c4c", "kind": "status", "status": 429, "times": None}).get_json()
    client.post("/world/faults", json={"vendor": "graph", "kind": "hang", "seconds": 2})
    assert [(f.vendor, f.status, f.times) for f in world.faults] == [("c4c", 429, None), ("graph", 503, 1)]
    assert client.post("/world/faults", json={"vendor": "c4c", "kynd": "status"}).status_code == 422
    client.delete(f"/world/faults/{first['id']}")
    assert [f["vendor"] for f in client.get("/world/faults").get_json()] == ["graph"]
    client.delete("/world/faults")
    assert world.faults == []

    client.post("/world/latency", json={"vendor": "c4c", "base_ms": 300})
    assert client.get("/world/latency").get_json()["c4c"] == {"base_ms": 300, "per_part_ms": 0}


def test_the_log_and_the_requests_are_read_from_where_one_left_off(world: World, client: FlaskClient) -> None:
    first = world.happened("c4c", "create", "ANNA", entity="EMail")
    world.happened("graph", "categories", "anna@example.org")
    assert [e["kind"] for e in client.get(f"/world/log?since={first.seq}").get_json()] == ["categories"]
    assert client.get("/world/log?vendor=c4c").get_json()[0]["detail"] == {"entity": "EMail"}
    world.accessed(vendor="c4c", method="POST", path="/x", query="", status=202, duration_ms=1.0, actor="ANNA", parts=("GET A",))
    assert client.get("/world/access").get_json()[0]["parts"] == ["GET A"]
    client.post("/world/reset-log")
    assert client.get("/world/access").get_json() == []
    assert len(client.get("/world/log").get_json()) == len(world.log)


def test_the_named_messages_of_the_demo_can_be_found(world: World, client: FlaskClient) -> None:
    found = client.get("/world/cases").get_json()["known_contact"]
    assert (found["mailbox"], found["id"]) == world.cases["known_contact"]


def test_the_record_page_shows_an_activity_with_its_children_as_text(world: World, client: FlaskClient) -> None:
    hostile = "<script>alert(1)</script>"
    email = {"ObjectID": "E1", "ID": "77", "Subject": hostile, "GroupwareItemID": "<1@example.org>"}
    world.crm.rows("EMailCollection")["E1"] = email
    file = {"ObjectID": "A1", "ParentObjectID": "E1", "Name": "offer.pdf", "MimeType": "application/pdf", "Binary": b"12345"}
    world.crm.rows("EMailAttachmentsCollection")["A1"] = file
    world.crm.rows("EMailInvolvedPartiesCollection")["P1"] = {"ObjectID": "P1", "ParentObjectID": "E1", "PartyID": "4711"}
    for query in ("id=E1", "type=email&id=77", "param.InternalID=E1"):
        page = client.get(f"/c4c/record?{query}").text
        assert escape(hostile) in page
        assert hostile not in page
        assert all(text in page for text in ("E-mail", "offer.pdf", "5 bytes", "4711"))
    assert client.get("/c4c/record?id=nothing").status_code == 404
    assert client.get("/c4c/record").status_code == 404


def test_a_contact_is_shown_by_its_object_id_or_its_number(world: World, client: FlaskClient) -> None:
    contact = next(iter(world.crm.rows("ContactCollection").values()))
    for query in (f"id={contact['ObjectID']}", f"type=contact&id={contact['ContactID']}"):
        page = client.get(f"/c4c/record?{query}").text
        assert "Contact" in page
        assert escape(contact["Email"]) in page


# -- In a browser -----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def browser(playwright: Playwright) -> Iterator[Browser]:
    if not Path(CHROMIUM).exists():
        pytest.fail(f"The browser tests need {CHROMIUM}; ./run test installs it")
    launched = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
    yield launched
    launched.close()


class Client:
    """The mail client in a browser tab, and the page of an add-in in its pane."""

    def __init__(self, page: Page, url: str) -> None:
        self.page, self.url = page, url
        self.world = World()
        self.errors: list[str] = []
        page.set_default_timeout(8000)
        page.on("pageerror", lambda error: self.errors.append(str(error)))
        page.on("dialog", lambda dialog: self.errors.append(f"a script ran: {dialog.message}"))

    def open(self, case: str, host: str = "", **query: str) -> Frame:
        """Open the case's message with the pane beside it; return the pane's frame once Office is ready."""
        address, ref = self.world.cases[case]
        more = "".join(f"&{key}={value}" for key, value in query.items())
        self.page.goto(f"{self.url}/?pane=1&host={host}{more}#/mailbox/{address}/inbox/{ref}")
        self.row(case).wait_for()
        return self.pane()

    def pane(self) -> Frame:
        self.page.locator("#pane iframe").wait_for()
        frame = self.page.frame_locator("#pane iframe")
        frame.locator("body[data-ready]").wait_for()
        return next(f for f in self.page.frames if "/sidebar" in f.url)

    def row(self, case: str) -> Locator:
        return self.page.locator(f"[data-id='{self.world.cases[case][1]}']")

    def select(self, case: str) -> None:
        self.row(case).click()
        self.page.get_by_role("main").get_by_role("heading", name=self.subject(case)).wait_for()

    def subject(self, case: str) -> str:
        letter = message_from_bytes(stored(self.world, case).mime, policy=policy.default)
        return str(letter["Subject"])


ADD_IN = """<!doctype html><html lang="en"><title>Add-in</title><script src="%s/office.js"></script><body><p>Add-in</p>
<script type="module">
window.events = [];
/** Call an Office.js method and return its AsyncResult. */
window.result = (method, ...args) => new Promise((resolve) => { method(...args, (r) => resolve({...r})); });
window.subject = () => Office.context.mailbox?.item?.subject ?? null;
const info = await Office.onReady();
const mailbox = Office.context.mailbox;
mailbox?.addHandlerAsync(Office.EventType.ItemChanged, () => window.events.push(subject()));
document.body.dataset.ready = JSON.stringify(info);
</script></body></html>"""

DIALOG = """<!doctype html><html lang="en"><title>Dialog</title><script src="%s/office.js"></script><body><p>Add-in</p>
<script type="module">
await Office.onReady();
const ui = Office.context.ui;
ui.addHandlerAsync(Office.EventType.DialogParentMessageReceived, (event) => ui.messageParent("echo " + event.message));
ui.messageParent("signed in");
</script></body></html>"""


@pytest.fixture(scope="module")
def tab(browser: Browser) -> Iterator[Client]:
    """One tab for all tests, since a new one costs a second; the World behind it is each test's own."""
    add_in = Flask("add-in")
    with ExitStack() as stack:
        pane = stack.enter_context(Port(add_in))
        context = stack.enter_context(browser.new_context(viewport={"width": 1440, "height": 900}, reduced_motion="reduce"))
        tab = Client(context.new_page(), "")
        app = create_app(
            lambda: tab.world, sidebar_url=lambda: f"{pane.url}/sidebar", mint_token=lambda person: f"token of {person.email}"
        )
        port = stack.enter_context(Port(app))
        add_in.add_url_rule("/sidebar", "sidebar", lambda: ADD_IN % port.url)
        add_in.add_url_rule("/dialog", "dialog", lambda: DIALOG % port.url)
        tab.url = port.url
        yield tab


@pytest.fixture
def inbox(tab: Client, world: World) -> Iterator[Client]:
    tab.world, tab.errors = world, []
    yield tab
    tab.page.goto("about:blank")
    assert tab.errors == []


def eventually(holds: Callable[[], bool], page: Page, within_s: float = 3.0) -> bool:
    """Wait in the browser's loop until `holds`."""
    deadline = time.monotonic() + within_s
    while not holds() and time.monotonic() < deadline:
        page.wait_for_timeout(20)
    return holds()


@pytest.mark.browser
def test_the_pane_learns_of_the_selected_message_and_hears_of_the_next_one(inbox: Client) -> None:
    pane = inbox.open("known_contact")
    assert pane.evaluate("document.body.dataset.ready") == '{"host":"Outlook","platform":"OfficeOnline"}'
    item = pane.evaluate(
        """() => { const i = Office.context.mailbox.item; return [i.subject, i.itemType, i.itemClass, i.itemId,
        i.from.emailAddress, i.to.map((t) => t.emailAddress),
        i.internetMessageId, i.conversationId, i.dateTimeCreated instanceof Date]; }"""
    )
    message = stored(inbox.world, "known_contact")
    letter = message_from_bytes(message.mime, policy=policy.default)
    addresses = [letter["From"].addresses[0].addr_spec, [a.addr_spec for a in letter["To"].addresses]]
    ids = [letter["Message-ID"], message.conversation_id]
    assert item == [letter["Subject"], "message", "IPM.Note", message.ews_id, *addresses, *ids, True]
    convert = "Office.context.mailbox.convertToRestId(Office.context.mailbox.item.itemId, Office.MailboxEnums.RestVersion.v2_0)"
    assert pane.evaluate(convert) == message.rest_id
    profile = pane.evaluate("(({emailAddress, accountType}) => [emailAddress, accountType])(Office.context.mailbox.userProfile)")
    assert profile == [box_of(inbox.world, "known_contact").owner.email, "office365"]

    inbox.row("known_contact").focus()
    inbox.page.keyboard.press("ArrowDown")
    assert eventually(lambda: len(pane.evaluate("events")) == 1, inbox.page)
    assert pane.evaluate("events") == [inbox.page.locator("main .head h2").inner_text()]
    assert pane.evaluate("events")[0] != letter["Subject"]


@pytest.mark.browser
def test_a_member_that_the_stand_in_does_not_have_throws_its_name(inbox: Client) -> None:
    pane = inbox.open("known_contact")
    for expression, name in [
        ("Office.context.roamingSettings", "Office.context.roamingSettings"),
        ("Office.context.mailbox.item.getCallbackTokenAsync", "item.getCallbackTokenAsync"),
        ("Office.context.mailbox.item.from.adress", "EmailAddressDetails.adress"),
        ("Office.context.officeTheme.isDarkTheme", "officeTheme.isDarkTheme"),
        ("Office.EventType.ItemChange", "Office.EventType.ItemChange"),
    ]:
        said = pane.evaluate(f"(() => {{ try {{ return String({expression}); }} catch (error) {{ return error.message; }} }})()")
        assert said == f"{name} is not a member this host has"
    assert pane.evaluate("JSON.stringify(Office.context.mailbox.userProfile)").startswith('{"displayName"')


@pytest.mark.browser
def test_categories_set_by_the_add_in_or_behind_the_clients_back_show_in_the_list(inbox: Client) -> None:
    pane = inbox.open("known_contact")
    categories = "Office.context.mailbox.item.categories"
    added = pane.evaluate(f"result({categories}.addAsync, ['Follow-up'])")
    assert added["status"] == "succeeded"
    expect(inbox.row("known_contact").locator(".chip")).to_have_text(["Follow-up"])
    expect(inbox.row("known_contact").locator(".chip")).to_have_class("chip preset1")
    read = pane.evaluate(f"result({categories}.getAsync)")
    assert read["value"] == [{"displayName": "Follow-up", "color": "Preset1"}]
    refused = pane.evaluate(f"result({categories}.addAsync, ['Follow-up', 'Nowhere in the list'])")
    assert (refused["status"], refused["error"]["name"]) == ("failed", "InvalidCategory")
    pane.evaluate(f"result({categories}.removeAsync, ['Follow-up'])")
    expect(inbox.row("known_contact").locator(".chip")).to_have_count(0)

    box, message = box_of(inbox.world, "known_contact"), stored(inbox.world, "known_contact")
    with inbox.world.lock:
        message.categories.append("Saved elsewhere")
        box.touch(message, inbox.world.now())
    expect(inbox.row("known_contact").locator(".chip")).to_have_text(["Saved elsewhere"], timeout=1500)
    expect(inbox.page.locator("main .chip")).to_have_text(["Saved elsewhere"])


@pytest.mark.browser
def test_the_add_in_reads_headers_file_and_body(inbox: Client) -> None:
    pane = inbox.open("with_attachment_known_contact")
    message = stored(inbox.world, "with_attachment_known_contact")
    item = "Office.context.mailbox.item"
    file = pane.evaluate(f"result({item}.getAsFileAsync, {{asyncContext: 7}})")
    assert base64.b64decode(file["value"]) == message.mime
    assert file["asyncContext"] == 7
    head = message.mime.split(b"\r\n\r\n")[0].decode()
    assert pane.evaluate(f"result({item}.getAllInternetHeadersAsync)")["value"].rstrip() == head
    text = pane.evaluate(f"result({item}.body.getAsync, Office.CoercionType.Text)")["value"]
    assert text.strip()
    offered = pane.evaluate(f"{item}.attachments.map((a) => [a.name, a.size])")
    content = pane.evaluate(f"result({item}.getAttachmentContentAsync, {item}.attachments[0].id)")["value"]
    assert (len(base64.b64decode(content["content"])), content["format"]) == (offered[0][1], "base64")


@pytest.mark.browser
def test_a_call_on_an_item_that_is_no_longer_selected_fails(inbox: Client) -> None:
    pane = inbox.open("known_contact")
    pane.evaluate("window.old = Office.context.mailbox.item; void 0")
    inbox.select("individual_customer")
    eventually(lambda: len(pane.evaluate("events")) == 1, inbox.page)
    # The old object still names the old message, and its calls never reach the new one.
    assert pane.evaluate("old.subject") == inbox.subject("known_contact")
    answer = pane.evaluate("result(old.categories.addAsync, ['Private'])")
    assert (answer["status"], answer["error"]["name"]) == ("failed", "APICallFailedDueToItemChange")
    assert stored(inbox.world, "individual_customer").categories == []


@pytest.mark.browser
@pytest.mark.parametrize(
    ("host", "item_after", "events"),
    [
        ("no-item-changed", "new", []),
        ("frozen-item", "old", []),
        ("null-item", None, [None]),
        ("early-item-changed", "new", [None]),
    ],
)
def test_the_host_tells_of_another_message_as_badly_as_asked(
    inbox: Client, host: str, item_after: str | None, events: list[None]
) -> None:
    pane = inbox.open("known_contact", host)
    inbox.select("individual_customer")
    subjects = {"new": inbox.subject("individual_customer"), "old": inbox.subject("known_contact"), None: None}
    assert eventually(lambda: pane.evaluate("[subject(), events]") == [subjects[item_after], events], inbox.page)


@pytest.mark.browser
def test_item_changed_can_come_late(inbox: Client, browser: Browser) -> None:
    with browser.new_context() as context:  # of its own, since its clock is not the real one
        late = Client(context.new_page(), inbox.url)
        late.world = inbox.world
        late.page.clock.install()
        pane = late.open("known_contact", "late-item-changed")
        late.select("individual_customer")
        assert eventually(lambda: pane.evaluate("subject()") == late.subject("individual_customer"), late.page)
        assert pane.evaluate("events") == []
        late.page.clock.fast_forward(3100)
        assert eventually(lambda: pane.evaluate("events.length") == 1, late.page)
        assert late.errors == []


@pytest.mark.browser
def test_the_pane_can_be_loaded_anew_instead_of_hearing_of_the_next_message(inbox: Client) -> None:
    pane = inbox.open("known_contact", "reload-pane")
    pane.evaluate("window.isOld = true")
    inbox.select("individual_customer")
    assert eventually(lambda: not inbox.pane().evaluate("window.isOld ?? false"), inbox.page)
    assert inbox.pane().evaluate("subject()") == inbox.subject("individual_customer")


@pytest.mark.browser
def test_an_old_host_lacks_newer_members_and_says_so(inbox: Client) -> None:
    pane = inbox.open("known_contact", "mailbox-1.5,no-storage,empty-headers")
    supported = "(...v) => v.map(([s, n]) => Office.context.requirements.isSetSupported(s, n))"
    assert pane.evaluate(f"({supported})(['Mailbox', '1.5'], ['Mailbox', '1.8'], ['IdentityAPI', '1.3'], ['Mailbox', 1.3])") == [
        True, False, True, True,
    ]  # fmt: skip
    assert pane.evaluate("'categories' in Office.context.mailbox.item") is False
    with pytest.raises(Exception, match=re.escape("item.categories is not a member this host has")):
        pane.evaluate("Office.context.mailbox.item.categories.getAsync")
    storage = pane.evaluate("(() => { try { return localStorage.length; } catch (error) { return error.name; } })()")
    assert storage == "SecurityError"

    pane = inbox.open("known_contact", "empty-headers")
    headers = pane.evaluate("result(Office.context.mailbox.item.getAllInternetHeadersAsync)")
    assert (headers["status"], headers["value"]) == ("succeeded", "")


@pytest.mark.browser
def test_the_token_is_minted_for_the_mailboxs_owner_and_fails_as_asked(inbox: Client) -> None:
    pane = inbox.open("known_contact")
    token = "Office.auth.getAccessToken({allowSignInPrompt: true})"
    both = pane.evaluate(f"Promise.allSettled([{token}, {token}]).then((all) => all.map((r) => r.value ?? r.reason.code))")
    assert both == [f"token of {box_of(inbox.world, 'known_contact').owner.email}", 13008]
    pane = inbox.open("known_contact", "token-13001")
    assert pane.evaluate(f"{token}.catch((error) => error.code)") == 13001
    pane = inbox.open("known_contact", "no-identity-api")
    assert pane.evaluate("Office.context.requirements.isSetSupported('IdentityAPI', '1.3')") is False
    assert pane.evaluate(f"{token}.catch((error) => error.code)") == 13012


@pytest.mark.browser
def test_the_office_theme_follows_the_client_with_and_without_an_event(inbox: Client) -> None:
    background = "Office.context.officeTheme.bodyBackgroundColor"
    watch = """Office.context.mailbox.addHandlerAsync(Office.EventType.OfficeThemeChanged,
        (event) => events.push(event.officeTheme.bodyBackgroundColor))"""
    theme = inbox.page.get_by_role("combobox", name="Theme", exact=True)
    for host, shown, events in [("", "#1F1F1F", ["#1F1F1F"]), ("no-theme-event", "#1F1F1F", []), ("stale-theme", "#FFFFFF", [])]:
        pane = inbox.open("known_contact", host, theme="light")
        pane.evaluate(watch)
        theme.select_option("dark")
        assert eventually(lambda p=pane, s=shown, e=events: p.evaluate(f"[{background}, events]") == [s, e], inbox.page), host


@pytest.mark.browser
def test_a_message_being_written_tells_its_recipients_and_has_an_id_once_saved(inbox: Client) -> None:
    inbox.open("known_contact")
    inbox.page.get_by_role("button", name="New message").click()
    inbox.page.get_by_role("button", name="View context of SAP Cloud for Customer").click()
    pane = inbox.pane()
    item = "Office.context.mailbox.item"
    changed = f"{item}.addHandlerAsync(Office.EventType.RecipientsChanged, (e) => events.push(e.changedRecipientFields.to))"
    pane.evaluate(changed)
    inbox.page.get_by_role("textbox", name="To", exact=True).fill('"Last, First" <first@example.org>, plain@example.net')
    inbox.page.get_by_role("textbox", name="Subject").fill("Offer")
    assert eventually(lambda: pane.evaluate("events") == [True], inbox.page)
    to = pane.evaluate(f"result({item}.to.getAsync)")["value"]
    named = [(who["displayName"], who["emailAddress"]) for who in to]
    assert named == [("Last, First", "first@example.org"), ("plain@example.net", "plain@example.net")]
    assert pane.evaluate(f"result({item}.subject.getAsync)")["value"] == "Offer"
    assert pane.evaluate(f"result({item}.getItemIdAsync)")["error"]["name"] == "ItemNotSaved"
    inbox.page.get_by_role("button", name="Save draft").click()
    inbox.page.get_by_text("Saved to Drafts.").wait_for()
    saved = pane.evaluate(f"result({item}.getItemIdAsync)")["value"]
    assert box_of(inbox.world, "known_contact").find(saved).is_draft
    assert pane.evaluate(f"'categories' in {item}") is False


@pytest.mark.browser
def test_a_dialog_talks_to_the_pane_that_opened_it(inbox: Client) -> None:
    pane = inbox.open("known_contact")
    opened = """(options) => new Promise((resolve) => Office.context.ui.displayDialogAsync(
        `${location.origin}/dialog`, options, (r) => {
        window.dialog = r.value;
        r.value?.addEventHandler(Office.EventType.DialogMessageReceived, (e) => events.push(e.message));
        r.value?.addEventHandler(Office.EventType.DialogEventReceived, (e) => events.push(e.error));
        resolve(r.error?.code ?? r.status); }))"""
    pane.evaluate(f"window.opened = ({opened})({{width: 30, height: 40}}); void 0")
    with inbox.page.expect_popup() as popup:
        inbox.page.get_by_role("button", name="Allow").click()
    assert pane.evaluate("opened") == "succeeded"
    assert eventually(lambda: pane.evaluate("events") == ["signed in"], inbox.page)
    assert pane.evaluate(f"({opened})({{}})") == 12007
    popup.value.close()
    assert eventually(lambda: pane.evaluate("events")[1:] == [12006], inbox.page)

    pane.evaluate("events.length = 0")
    assert pane.evaluate(f"({opened})({{displayInIframe: true}})") == "succeeded"
    assert eventually(lambda: pane.evaluate("events") == ["signed in"], inbox.page)
    pane.evaluate("dialog.messageChild('hello')")
    assert eventually(lambda: pane.evaluate("events") == ["signed in", "echo hello"], inbox.page)
    pane.evaluate("dialog.close()")
    expect(inbox.page.locator(".office-dialog")).to_have_count(0)
    foreign = "new Promise((r) => Office.context.ui.displayDialogAsync('https://example.org/', (a) => r(a.error.code)))"
    assert pane.evaluate(foreign) == 12004


@pytest.mark.browser
def test_outside_of_a_host_office_is_ready_without_one(inbox: Client) -> None:
    inbox.open("known_contact")
    sidebar = inbox.pane().url
    inbox.page.goto(sidebar)
    inbox.page.locator("body[data-ready]").wait_for()
    assert inbox.page.evaluate("document.body.dataset.ready") == '{"host":null,"platform":null}'


@pytest.mark.browser
def test_hostile_text_is_shown_as_text(inbox: Client) -> None:
    inbox.open("hostile")
    expect(inbox.page.locator("main .head h2")).to_have_text(inbox.subject("hostile"))
    # Its scripts and handlers call alert(); the fixture fails the test when a script of the message ran.
    inbox.page.frame_locator("iframe.body").get_by_text("Click").click()
    assert inbox.errors == []


@pytest.mark.browser
def test_the_client_has_no_accessibility_fault_that_axe_can_see(inbox: Client) -> None:
    if not AXE.exists():
        pytest.skip("axe-core is not installed; ./run check installs the Node modules")
    inbox.open("own_category", theme="light")
    inbox.page.get_by_role("button", name="Developer").click()
    inbox.page.evaluate(AXE.read_text())
    look = "axe.run({iframes: false}).then((r) => r.violations.map((v) => [v.id, v.nodes.map((n) => n.html)]))"
    assert inbox.page.evaluate(look) == []
    inbox.page.get_by_role("combobox", name="Theme", exact=True).select_option("dark")
    assert inbox.page.evaluate(look) == []
