"""What the sidebar shows beside a message and does with it: who it is from, why there is nothing to show, how a save goes."""

from __future__ import annotations

import re
from typing import Any

import pytest
from playwright.sync_api import Locator, expect

from tests.browser.conftest import WAIT_MS, Desk, Message, Person, Product

pytestmark = pytest.mark.browser

RETRY = "Try again"
NOTHING = "Nothing to save in SAP Cloud for Customer"


def facts(card: Locator) -> list[tuple[str, str]]:
    """Unfold a card and return what it says."""
    head = card.get_by_role("button")
    if head.get_attribute("aria-expanded") == "false":
        head.click()
    expect(card.locator("dl")).to_be_visible()
    rows: list[list[str]] = card.locator("dl > div").evaluate_all(
        "rows => rows.map(r => [...r.children].map(c => c.textContent))"
    )
    return [(term, value) for term, value in rows]


def children(product: Product, entity_set: str, message: Message) -> list[dict[str, Any]]:
    """Return rows of the one activity that C4C has for this message."""
    (activity,) = product.saved(message)
    return product.children(entity_set, activity["ObjectID"])


# -- Cards ----------------------------------------------------------------------------------------------------------------


def test_the_sender_is_shown_with_what_c4c_knows_wherever_the_mailbox_is(pinned: Desk, product: Product, person: Person) -> None:
    message = pinned.open(product.ordinary(person.user, 1), host=person.host)
    sender = next(
        m["from"] for m in product.facts["users"][person.user]["messages"] if message.message_id == m["internet_message_id"]
    )
    expect(pinned.pane.locator("#headline")).to_contain_text(sender["name"])
    assert ("From", sender["address"]) in facts(pinned.cards.first)
    expect(pinned.bar).not_to_be_empty()


def test_all_records_behind_one_address_stand_under_it_with_what_each_is(pinned: Desk) -> None:
    pinned.open("several_records")
    place = pinned.pane.get_by_role("listitem")
    expect(place).to_have_count(1)
    expect(place.get_by_role("heading", level=2)).to_have_text(re.compile(r"^purchasing@harrowgate-pumps\.example ?5 records$"))
    expect(place.locator(".tag")).to_have_text(["Contact", "Contact", "Individual Customer", "Account", "Account"])
    reasons = [facts(card)[0] for card in pinned.cards.all()]
    names = pinned.cards.locator(".name").all_text_contents()
    assert reasons[:3] == [("From", "purchasing@harrowgate-pumps.example")] * 3
    assert sorted(reasons[3:]) == sorted([("Account of", names[0]), ("Account of", names[1])])


@pytest.mark.parametrize(
    ("case", "type", "address"),
    [
        ("individual_customer", "Individual Customer", "private.customer@example.net"),
        ("account_only", "Account", "info@quayside-foods.example"),
        ("lead", "Lead", "first.contact@willow-timber.example"),
    ],
)
def test_a_single_record_stands_alone_and_open(pinned: Desk, case: str, type: str, address: str) -> None:
    pinned.open(case)
    expect(pinned.cards).to_have_count(1)
    expect(pinned.cards.get_by_role("button", expanded=True)).to_contain_text(type)
    expect(pinned.cards.get_by_role("link", name=address)).to_have_attribute("href", f"mailto:{address}")
    expect(pinned.pane.get_by_role("listitem").get_by_role("heading")).to_have_count(1)
    expect(pinned.save_button).to_have_text(re.compile("1 link$"))


def test_a_sender_without_a_record_is_named_as_not_found_and_can_be_saved(pinned: Desk) -> None:
    pinned.open("unknown_sender")
    entry = pinned.pane.get_by_role("listitem")
    expect(entry).to_have_count(1)
    expect(entry).to_contain_text("someone.new@unheard-of.example")
    expect(entry).to_contain_text("Not found in SAP")
    expect(pinned.save_button).to_have_text("Save this e-mail")


def test_a_round_of_ten_shows_everybody_once_with_the_reason_and_at_most_four_fields(pinned: Desk) -> None:
    pinned.open("ten_recipients")
    said = [facts(card) for card in pinned.cards.all()]
    reasons = {"From", "To", "Cc", "Account of"}
    assert {row[0] for rows in said for row in rows} >= reasons
    for rows in said:
        assert 1 <= len([term for term, _ in rows if term in reasons]) <= 3
        assert len([term for term, _ in rows if term not in reasons]) <= 4
    assert ("Cc", "round.table@example.net") in [row for rows in said for row in rows]
    names = pinned.cards.locator(".name").all_text_contents()
    assert len(names) == len(set(names)) == 9  # the sender, four contacts, an individual customer, three accounts
    strangers = pinned.pane.get_by_role("listitem").filter(has_text="Not found in SAP")
    expect(strangers).to_have_text([re.compile("guest0@"), re.compile("guest1@")])
    expect(pinned.pane.locator("#main")).not_to_contain_text("aldermill.example")  # nobody looks up colleagues


def test_open_in_c4c_leads_to_the_page_of_that_record(pinned: Desk) -> None:
    pinned.open("several_records")
    for number in (0, 3):
        card = pinned.cards.nth(number)
        facts(card)
        name = card.locator(".name").inner_text()
        with pinned.page.expect_popup() as popup:
            card.get_by_role("link", name=f"Open in C4C: {name}, new tab").click()
        expect(popup.value.get_by_role("heading", name=name)).to_be_visible()
        assert popup.value.evaluate("window.opener") is None
        popup.value.close()


# -- Why there is nothing to show -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("case", ["colleagues_only", "blocklisted"])
def test_mail_among_colleagues_or_from_blocked_senders_offers_nothing_to_save(pinned: Desk, case: str) -> None:
    pinned.open(case)
    expect(pinned.pane.get_by_text(NOTHING)).to_be_visible()
    expect(pinned.pane.get_by_role("button", name=re.compile("Save|Choose"))).to_have_count(0)
    expect(pinned.cards).to_have_count(0)


@pytest.mark.parametrize(
    ("case", "reason"),
    [
        ("bounce", "This is a delivery report."),
        ("out_of_office", "This is an automatic reply."),
        ("newsletter", "This is a bulk message."),
        ("meeting_answer", "This is a meeting message."),
    ],
)
def test_automatic_mail_is_left_alone_and_says_why(pinned: Desk, case: str, reason: str) -> None:
    pinned.open(case)
    expect(pinned.pane.get_by_text(reason)).to_be_visible()
    expect(pinned.cards).to_have_count(0)
    expect(pinned.pane.get_by_role("listitem")).to_have_count(0)
    expect(pinned.bar.get_by_role("button")).to_have_text(["Save anyway", "Choose…"])
    expect(pinned.bar.locator(".primary")).to_have_count(0)


@pytest.mark.parametrize(("access_type", "says"), [("google", True), ("exchange_direct", False)])
def test_a_newsletter_is_known_by_its_headers_where_the_mail_client_tells_them(
    pinned: Desk, product: Product, access_type: str, says: bool
) -> None:
    """An Exchange server's client has no call for them (Mailbox 1.5)."""
    pinned.open(product.newsletter(product.person(access_type).user))
    expect(pinned.pane.get_by_text("This is a bulk message.")).to_have_count(int(says))
    expect(pinned.bar.get_by_role("button", name=re.compile("^Save anyway" if says else "^Save this e-mail"))).to_be_visible()


def test_automatic_mail_saved_anyway_is_linked_to_its_sender(pinned: Desk, product: Product) -> None:
    message = pinned.open("receipt")
    expect(pinned.pane.get_by_text("This is a receipt.")).to_be_visible()
    pinned.bar.get_by_role("button", name="Save anyway").click()
    expect(pinned.bar.get_by_text(re.compile("^Saved .* by you"))).to_be_visible(timeout=WAIT_MS)
    expect(pinned.cards.filter(has_text="Linked")).to_have_count(2)
    assert len(children(product, "EMailInvolvedPartiesCollection", message)) == 2


def test_a_person_who_is_not_set_up_reads_whom_to_ask(pinned: Desk) -> None:
    pinned.open("not_set_up")
    expect(pinned.pane.get_by_text("You are not set up yet")).to_be_visible()
    expect(pinned.pane.get_by_text(re.compile("Ask your administrator, it@aldermill.example"))).to_be_visible()
    expect(pinned.pane.locator("#main").get_by_role("button")).to_have_count(0)  # trying again would not help
    expect(pinned.bar).to_be_empty()


def test_a_missing_sign_in_is_asked_for_with_a_button_that_works_once_it_can(desk: Desk) -> None:
    desk.open("restricted_contact", host="no-naa,token-13001")
    expect(desk.pane.get_by_text("Sign in to see your customers")).to_be_visible()
    button = desk.pane.get_by_role("button", name="Sign in")
    button.click()
    expect(desk.toast).to_contain_text("You are still not signed in")
    desk.behave()
    button.click()
    expect(desk.save_button).to_be_visible(timeout=WAIT_MS)


@pytest.mark.parametrize("host", ["no-naa,token-13003", "on-premises-sign-in"])
def test_an_outlook_that_cannot_sign_in_by_itself_offers_our_own_sign_in(desk: Desk, host: str) -> None:
    desk.open("restricted_contact", host=host)
    expect(desk.pane.get_by_text("Sign in to see your customers")).to_be_visible()
    expect(desk.pane.locator("#main").get_by_role("button")).to_have_text(["Sign in"])


@pytest.mark.parametrize("host", ["naa-network", "naa-account", "naa-bridgeless", "no-naa"])
def test_where_nested_app_authentication_fails_the_next_way_signs_in(desk: Desk, host: str) -> None:
    desk.open("restricted_contact", host=host)
    expect(desk.save_button).to_be_visible(timeout=WAIT_MS)


def test_c4c_being_down_is_one_sentence_and_a_button_that_recovers(pinned: Desk, product: Product) -> None:
    product.fault("c4c", "status", status=503, times=None)
    pinned.open(product.ordinary(3, 0))
    expect(pinned.pane.locator("#main").get_by_role("button")).to_have_text([RETRY])
    expect(pinned.pane.locator("#main .title")).to_have_count(1)
    expect(pinned.bar).to_be_empty()
    product.heal()
    pinned.pane.get_by_role("button", name=RETRY).click()
    expect(pinned.save_button).to_be_visible(timeout=WAIT_MS)
    expect(pinned.pane.get_by_role("listitem").first).to_be_visible()


STEPS = """() => {
  window.moments = {};
  const look = () => {
    if (document.querySelector("#main .skeleton")) moments.asked ??= performance.now();
    if (document.querySelector("#main .empty button")) moments.nextStep ??= performance.now();
  };
  new MutationObserver(look).observe(document.body, { subtree: true, childList: true });
}"""


def test_while_c4c_is_slow_there_is_a_next_step_in_time_and_then_by_itself_the_answer(pinned: Desk, product: Product) -> None:
    pinned.open(product.ordinary(3, 2))
    pinned.frame.evaluate(STEPS)
    product.slow("c4c", 2_500)
    pinned.go(product.ordinary(3, 1))
    expect(pinned.pane.get_by_text("SAP Cloud for Customer is slow right now.")).to_be_visible(timeout=WAIT_MS)
    expect(pinned.save_button).to_be_visible(timeout=WAIT_MS)  # nobody pressed anything
    moments = pinned.frame.evaluate("moments")
    assert moments["nextStep"] - moments["asked"] < 2_000


def test_being_offline_is_said_beside_what_is_known_and_ends_by_itself(desk: Desk) -> None:
    desk.open("mixed_case_header")
    desk.page.context.set_offline(True)
    expect(desk.pane.get_by_text("What you see may be out of date.")).to_be_visible()
    expect(desk.cards.first).to_be_visible()
    desk.pane.get_by_role("button", name="Refresh").click()
    expect(desk.toast).to_contain_text("Not refreshed: You are offline")
    desk.page.context.set_offline(False)
    expect(desk.pane.get_by_text("What you see may be out of date.")).to_be_hidden()
    expect(desk.pane.get_by_text("Connected", exact=True)).to_be_visible()


# -- Saving ---------------------------------------------------------------------------------------------------------------


def saved_text(desk: Desk) -> Locator:
    return desk.bar.get_by_text(re.compile("^Saved .* by you"))


def test_a_refused_save_stays_with_its_reason_until_trying_again_succeeds(pinned: Desk, product: Product, person: Person) -> None:
    message = pinned.open(product.send("Refused at first", to=person.user, cc=product.known), host=person.host)
    product.fault("c4c", "part_status", status=400, match="EMailCollection")
    pinned.save_button.click()
    expect(pinned.bar.get_by_text(re.compile("^Not saved: .*could not be processed"))).to_be_visible(timeout=WAIT_MS)
    row = pinned.selected
    expect(row).to_contain_text(person.failed, timeout=WAIT_MS)
    expect(row).to_contain_text("SSI: ")  # the reason, in short
    assert product.saved(message) == []
    pinned.bar.get_by_role("button", name=RETRY).click()
    expect(saved_text(pinned)).to_be_visible(timeout=WAIT_MS)
    expect(row).to_contain_text(person.saved, timeout=WAIT_MS)
    expect(row).not_to_contain_text(person.failed)
    expect(row).not_to_contain_text("SSI: ")
    assert len(product.saved(message)) == 1


def test_a_save_whose_answer_is_lost_is_shown_as_unknown_until_c4c_is_seen_to_have_it(pinned: Desk, product: Product) -> None:
    message = pinned.open("mixed_case")
    product.fault("c4c", "acted_drop", match="EMailCollection")
    pinned.save_button.click()
    expect(pinned.bar.get_by_text("Checking whether SAP Cloud for Customer has it…")).to_be_visible(timeout=WAIT_MS)
    expect(pinned.save_button).to_have_count(0)
    expect(saved_text(pinned)).to_be_visible(timeout=WAIT_MS)
    assert len(product.saved(message)) == 1


def test_the_sheet_saves_exactly_what_was_chosen_in_it(pinned: Desk, product: Product, person: Person) -> None:
    sender = product.item("attachments")["from"]["address"]
    message = pinned.open(product.forward("attachments", to=person.user, cc=sender), host=person.host)
    pinned.bar.get_by_role("button", name="Choose what to save").click()
    files = pinned.sheet.get_by_role("group", name="Attachments")
    refused = files.get_by_role("listitem").filter(has_text="setup.exe")
    expect(refused).to_contain_text("Files of type .exe may not be saved.")
    expect(refused.get_by_role("checkbox")).to_be_disabled()
    expect(refused.get_by_role("checkbox")).not_to_be_checked()
    expect(refused.get_by_role("button")).to_have_count(0)

    files.get_by_role("button", name="Rename Offer 2026-118.pdf").first.click()
    pinned.page.keyboard.type("Offer for the files")  # the name is selected, the extension is not
    files.get_by_role("checkbox", name=re.compile("^Offer 2026-118.*pdf")).last.uncheck()
    files.get_by_role("checkbox", name=re.compile("Original e-mail")).check()
    records = pinned.sheet.get_by_role("group", name="Linked records")
    records.get_by_role("checkbox", name=re.compile("Lindenhof")).uncheck()
    pinned.sheet.get_by_label("Subject").fill("All about pump 7")
    pinned.sheet.get_by_role("button", name="Save this e-mail").click()

    expect(saved_text(pinned)).to_be_visible(timeout=WAIT_MS)
    expect(pinned.sheet).to_be_hidden()
    (activity,) = product.saved(message)
    assert activity["Subject"] == "All about pump 7"
    names = {file["Name"] for file in product.children("EMailAttachmentsCollection", activity["ObjectID"])}
    assert names == {"Offer for the files.pdf", "Preisübersicht – März.csv", "pixel.gif", "Everything you asked for.eml"}
    assert len(product.children("EMailInvolvedPartiesCollection", activity["ObjectID"])) == 1
    expect(pinned.cards.filter(has_text="Linked")).to_have_count(1)


def test_leaving_the_sheet_keeps_what_was_typed_and_gives_the_focus_back(pinned: Desk, product: Product) -> None:
    message = pinned.open("too_large")
    choose = pinned.bar.get_by_role("button", name="Choose what to save")
    subject = pinned.sheet.get_by_label("Subject")
    large = pinned.sheet.get_by_role("listitem").filter(has_text="drawings.zip")
    leave = [
        lambda: pinned.page.keyboard.press("Escape"),
        lambda: pinned.sheet.get_by_role("button", name="Back").click(),
        lambda: pinned.sheet.get_by_role("button", name="Cancel").click(),
    ]
    for number, act in enumerate(leave):
        choose.click()
        expect(pinned.sheet.get_by_role("heading")).to_be_focused()
        expect(subject).to_have_value("All drawings" + " again" * number)
        expect(large).to_contain_text("The file is larger than 25 MB.", timeout=WAIT_MS)
        subject.press("End")
        pinned.page.keyboard.type(" again")
        act()
        expect(pinned.sheet).to_be_hidden()
        expect(choose).to_be_focused()
    assert product.saved(message) == []


def test_links_left_out_can_be_added_to_a_saved_message(pinned: Desk, product: Product) -> None:
    message = pinned.open("thread")
    pinned.bar.get_by_role("button", name="Choose what to save").click()
    account = pinned.sheet.get_by_role("checkbox", name=re.compile("Quayside"))
    account.uncheck()
    pinned.sheet.get_by_role("button", name="Save this e-mail").click()
    expect(saved_text(pinned)).to_be_visible(timeout=WAIT_MS)
    linked = pinned.cards.filter(has_text="Linked")
    expect(linked).to_have_count(1)

    pinned.bar.get_by_role("button", name="Change links").click()
    expect(account).not_to_be_checked()
    expect(pinned.sheet.get_by_role("checkbox", checked=True)).to_be_disabled()  # C4C keeps it
    account.check()
    pinned.sheet.get_by_role("button", name="Save links").click()
    expect(linked).to_have_count(2, timeout=WAIT_MS)
    expect(pinned.sheet).to_be_hidden()
    expect(saved_text(pinned)).to_be_visible()
    assert len(children(product, "EMailInvolvedPartiesCollection", message)) == 2


def test_a_save_goes_on_when_another_message_is_selected_and_says_which_it_was(pinned: Desk, product: Product) -> None:
    message = pinned.open("thread_start")
    other = product.message("own_category")
    product.slow("c4c", 400)
    pinned.save_button.click()
    expect(pinned.bar.get_by_text("Saving…")).to_be_visible()
    pinned.go(other)
    expect(pinned.toast).to_have_text("“Trial run” is saved in SAP Cloud for Customer", timeout=WAIT_MS)
    expect(pinned.save_button).to_be_visible(timeout=WAIT_MS)
    assert len(product.saved(message)) == 1
    assert product.saved(other) == []


def test_a_save_without_a_connection_fails_harmlessly_and_can_be_tried_again(desk: Desk, product: Product) -> None:
    message = desk.open("group_syntax")
    desk.page.context.set_offline(True)
    desk.save_button.click()
    expect(desk.bar.get_by_text(re.compile("^Not saved: .*Trying again does not save it twice"))).to_be_visible()
    desk.page.context.set_offline(False)
    desk.bar.get_by_role("button", name=RETRY).click()
    expect(saved_text(desk)).to_be_visible(timeout=WAIT_MS)
    assert len(product.saved(message)) == 1


@pytest.mark.parametrize(("host", "form"), [("", "rest"), ("mailbox-1.8", "ews")], ids=["own", "newer"])
def test_a_mailbox_on_an_exchange_server_is_saved_from_by_whatever_id_its_client_gives(
    desk: Desk, product: Product, host: str, form: str
) -> None:
    person = product.person("exchange_direct")
    message = product.send(f"Named by its {form} id", to=person.user, cc=product.known)
    with desk.page.expect_request("**/api/context") as asked:
        desk.open(message, host=host)
    assert asked.value.post_data_json["item"]["id_form"] == form
    desk.save_button.click()
    expect(saved_text(desk)).to_be_visible(timeout=WAIT_MS)
    expect(desk.selected).to_contain_text(person.saved, timeout=WAIT_MS)
    assert len(product.saved(message)) == 1


# -- The right item -------------------------------------------------------------------------------------------------------

WATCH = """() => {
  window.seen = [];
  const names = () => [...document.querySelectorAll("#main .name")].map((name) => name.textContent);
  const look = () => seen.push([document.getElementById("headline").textContent, names()]);
  new MutationObserver(look).observe(document.body, { subtree: true, childList: true, characterData: true });
}"""


def test_answers_that_come_too_late_are_never_shown_beside_another_message(pinned: Desk, product: Product) -> None:
    people = {
        "individual_customer": "Geraldine Ellis",
        "account_only": "Quayside Foods plc",
        "lead": "Willow Timber Ltd: first contact",
    }
    messages = {case: product.message(case) for case in people}
    pinned.open(messages["lead"])
    pinned.frame.evaluate(WATCH)
    product.slow("c4c", 400)
    pinned.pane.get_by_role("button", name="Refresh").click()  # what was known is forgotten
    for case in ("account_only", "individual_customer", "lead", "account_only"):
        pinned.go(messages[case])
        expect(pinned.pane.locator("#headline")).to_contain_text(messages[case].subject)
    expect(pinned.cards.locator(".name")).to_have_text([people["account_only"]], timeout=WAIT_MS)
    pinned.go(messages["individual_customer"])  # answered in time, too
    expect(pinned.cards.locator(".name")).to_have_text([people["individual_customer"]], timeout=WAIT_MS)
    seen = [(line, names) for line, names in pinned.frame.evaluate("seen") if names]
    assert seen
    allowed = {messages[case].subject: name for case, name in people.items()}
    assert [(line, names) for line, names in seen if not any(s in line and names == [n] for s, n in allowed.items())] == []


@pytest.mark.parametrize("host", ["late-item-changed", "no-item-changed", "early-item-changed", "late-item-id", "reload-pane"])
def test_the_selection_is_followed_however_badly_the_mail_client_tells_it(pinned: Desk, host: str) -> None:
    pinned.open("lead", host=host)
    pinned.open("individual_customer", host=host)
    expect(pinned.cards.locator(".name")).to_have_text(["Geraldine Ellis"])


def test_nothing_selected_is_a_state_of_its_own_and_ends_with_the_next_selection(pinned: Desk, product: Product) -> None:
    pinned.go(product.message("lead"), host="null-item")
    expect(pinned.pane.get_by_text("No message selected")).to_be_visible(timeout=WAIT_MS)
    expect(pinned.bar).to_be_empty()
    pinned.behave()
    pinned.selected.locator("xpath=following-sibling::*[1]").click()
    expect(pinned.save_button).to_be_visible(timeout=WAIT_MS)


def test_what_a_frozen_mail_client_still_names_is_what_is_saved(pinned: Desk, product: Product) -> None:
    named, selected = pinned.open("comma_name", host="frozen-item"), product.message("own_category")
    pinned.go(selected, host="frozen-item")
    expect(pinned.selected).to_contain_text(selected.subject)
    expect(pinned.pane.locator("#headline")).to_contain_text(named.subject)
    pinned.save_button.click()
    expect(saved_text(pinned)).to_be_visible(timeout=WAIT_MS)
    assert len(product.saved(named)) == 1
    assert product.saved(selected) == []


def test_a_save_is_refused_once_the_mail_client_shows_another_message(desk: Desk, product: Product) -> None:
    desk.page.clock.install()
    first, second = desk.open("idn", host="no-item-changed"), product.message("own_category")
    desk.page.clock.pause_at(desk.page.evaluate("Date.now() + 1000"))  # the pane looks at its clock to find out, too
    desk.go(second, host="no-item-changed")
    expect(desk.selected).to_contain_text(second.subject)
    desk.save_button.evaluate("button => button.click()")  # as a screen reader does, without moving the focus
    expect(desk.toast).to_contain_text("You are on another message now. Nothing was saved.")
    expect(desk.pane.locator("#headline")).to_contain_text(second.subject)
    assert product.saved(first) == product.saved(second) == []


def test_without_headers_reports_are_still_known_by_their_class_and_the_rest_is_ordinary_mail(pinned: Desk) -> None:
    pinned.open("bounce", host="empty-headers")
    expect(pinned.pane.get_by_text("This is a delivery report.")).to_be_visible()
    pinned.open("newsletter", host="empty-headers")
    expect(pinned.pane.get_by_role("listitem")).to_contain_text("Not found in SAP")
    expect(pinned.save_button).to_be_visible()


def test_a_mail_client_that_starts_slowly_is_waited_for_with_a_skeleton(desk: Desk, product: Product) -> None:
    desk.page.clock.install()
    desk.go(product.message("lead"), host="slow-ready")
    expect(desk.pane.locator(".skeleton")).to_be_visible()
    desk.page.clock.fast_forward(3_000)
    expect(desk.cards).to_have_count(1, timeout=WAIT_MS)


# -- Hostile and odd text -------------------------------------------------------------------------------------------------


def test_hostile_text_is_shown_as_it_is_and_nothing_of_it_runs(desk: Desk, product: Product) -> None:
    alarms: list[str] = []
    desk.page.on("dialog", lambda dialog: (alarms.append(dialog.message), dialog.dismiss()))
    desk.page.on("request", lambda request: alarms.append(request.url) if not OWN.match(request.url) else None)
    desk.page.add_init_script("window.alert = (word) => { window.__pwned = String(word); };")
    message = desk.open("hostile")
    expect(desk.pane.locator("#headline")).to_have_text(f'"><script>alert(1)</script> {message.subject}')
    name = "<img src=x onerror=alert(1)> {{7*7}}' or 1 eq 1 or Email eq '"
    expect(desk.cards.locator(".name").first).to_have_text(name)
    desk.bar.get_by_role("button", name="Choose what to save").click()
    file = desk.sheet.get_by_role("listitem").filter(has_text="svg onload")
    expect(file).to_contain_text("<svg onload=alert(3)>..%2F..%2F'quote\".txt")
    expect(desk.sheet.get_by_label("Subject")).to_have_value(message.subject)
    desk.sheet.get_by_role("button", name="Save this e-mail").click()
    expect(saved_text(desk)).to_be_visible(timeout=WAIT_MS)
    facts(desk.cards.first)
    with desk.page.expect_popup() as popup:
        desk.cards.first.get_by_role("link", name="Open in C4C").click()
    expect(popup.value.get_by_role("heading", name=name)).to_be_visible()
    for frame in (*desk.page.frames, *popup.value.frames):
        assert frame.evaluate("typeof window.__pwned") == "undefined"
    assert desk.frame.locator("script, img, svg[onload], [onerror]").count() == desk.frame.locator("head script").count()
    assert alarms == []


OWN = re.compile(r"(http://127\.0\.0\.1:\d+/|https://localhost:\d+/|data:|blob:)")


def test_writing_directions_and_invisible_characters_in_names_stay_within_their_line(pinned: Desk, product: Product) -> None:
    names = {
        "\u202emoc.elpmaxe": "mirror@unheard-of.example",
        "\u200b\u2060\ufeff": "nameless@unheard-of.example",
        "Z\u0351\u036b\u0343a\u0310\u0352l\u030a\u0313" * 9: "stacked@unheard-of.example",
        "W" * 180: "wide@unheard-of.example",
        "אבגדה יוסף": "right-to-left@unheard-of.example",
    }
    copies = ", ".join(f'"{name}" <{address}>' for name, address in names.items())
    pinned.go(product.send("Invoice \u202efdp.exe", to=3, cc=copies))
    expect(pinned.pane.locator("#headline")).to_contain_text("Invoice \ufffdfdp.exe", timeout=WAIT_MS)
    entries = pinned.pane.get_by_role("listitem")
    expect(entries.locator(".tag")).to_have_text(["Not found in SAP"] * len(names), timeout=WAIT_MS)
    expect(entries.first).to_have_text(re.compile("^[^\u202e]*\ufffdmoc.elpmaxe"))
    expect(entries.nth(1).locator(".who")).to_have_text("nameless@unheard-of.example")
    assert "\u202e" not in pinned.pane.locator("body").inner_text()
    for entry, address in zip(entries.all(), names.values(), strict=True):
        expect(entry).to_contain_text(address)
        who, tag = entry.locator(".who").bounding_box(), entry.locator(".tag").bounding_box()
        assert who
        assert tag
        assert who["x"] + who["width"] <= tag["x"]
        assert tag["height"] < 24  # "Not found in SAP" keeps its one line
