"""The mail client's Office.js stand-in behaves as Outlook on the web does, and as badly as it is asked to.

The pane holds a page that only loads the stand-in; the tests call Office.js in it as the sidebar would.
"""

import base64
import re
from email import message_from_bytes, policy

import pytest
from playwright.sync_api import Browser, expect

from simulator import demo
from simulator.world import World
from tests.simulator.inbox_page import Client, box_of, eventually, stored

pytestmark = pytest.mark.browser


@pytest.fixture
def world() -> World:
    return demo.small()


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


def test_a_click_is_not_lost_when_the_message_is_drawn_anew_meanwhile(inbox: Client) -> None:
    page, button = inbox.page, inbox.page.get_by_role("button", name="View context of SAP Cloud for Customer")
    inbox.open("known_contact")
    button.click()
    expect(page.locator("#pane")).to_be_hidden()
    expect(page.get_by_role("button", name="Mark as unread")).to_be_visible()
    box, message = box_of(inbox.world, "known_contact"), stored(inbox.world, "known_contact")
    button.hover()
    page.mouse.down()
    with inbox.world.lock:
        message.is_read, message.categories = False, ["Saved elsewhere"]
        box.touch(message, inbox.world.now())
    expect(page.get_by_role("button", name="Mark as read")).to_be_visible()
    expect(page.locator("main .chip")).to_have_text(["Saved elsewhere"])
    page.mouse.up()
    expect(page.locator("#pane")).to_be_visible()
    expect(button).to_be_focused()
    expect(button).to_have_attribute("aria-pressed", "true")

    inbox.row("several_records").hover()
    page.mouse.down()
    with inbox.world.lock:
        message.categories = []
        box.touch(message, inbox.world.now())
    expect(inbox.row("known_contact").locator(".chip")).to_have_count(0)
    page.mouse.up()
    expect(page.get_by_role("main").get_by_role("heading", name=inbox.subject("several_records"))).to_be_visible()


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


def test_the_pane_can_be_loaded_anew_instead_of_hearing_of_the_next_message(inbox: Client) -> None:
    pane = inbox.open("known_contact", "reload-pane")
    pane.evaluate("window.isOld = true")
    inbox.select("individual_customer")
    assert eventually(lambda: not inbox.pane().evaluate("window.isOld ?? false"), inbox.page)
    assert inbox.pane().evaluate("subject()") == inbox.subject("individual_customer")


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


def test_outside_of_a_host_office_is_ready_without_one(inbox: Client) -> None:
    inbox.open("known_contact")
    sidebar = inbox.pane().url
    inbox.page.goto(sidebar)
    inbox.page.locator("body[data-ready]").wait_for()
    assert inbox.page.evaluate("document.body.dataset.ready") == '{"host":null,"platform":null}'
