"""User Settings beside the connection: what the engine is at, its issues, and the settings that are one's own."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from itertools import count
from typing import Any

import pytest
import sqlalchemy as sa
from apiflask import APIFlask
from playwright.sync_api import Browser as Chromium, expect

from server.domain.records import RecordRef
from server.domain.sentences import because
from server.services import Deps, issues
from server.services.issues import Finding, key_of
from server.store import Connection, LeaseLost, MailboxSync, Principal
from server.web.auth import SESSION
from simulator.world import Fault, World
from tests.api import Api
from tests.web.browser import ORIGIN, SETTINGS, Browser
from tests.web.test_journeys import connect
from tests.web.test_look import AXE, LOOKS, RULES, VIOLATIONS, window

DASHBOARD = "/settings/"
ISSUES = "/settings/issues"
SYNC = "/settings/sync"
ADD_IN = "/settings/add-in"

HOSTILE = "<script>alert(1)</script> \u202eevil " + "x" * 300

Keep = Callable[..., MailboxSync]
Found = Callable[..., None]
Forward = Callable[..., None]


def press(browser: Browser, do: str, **fields: str) -> Browser:
    """Press the button with this value, in the form that it belongs to."""
    form = next(f for f in browser.page.forms if f.xpath(f".//button[@name='do' and @value='{do}']"))
    return browser.send(form.action, {**{name: value or "" for name, value in form.form_values()}, "do": do, **fields})


def principal_of(deps: Deps, browser: Browser) -> Principal:
    with deps.store.transaction(reading=True) as tx:
        (tenant,) = tx.tenants()
        user = tx.user_by_c4c_id(tenant.id, browser.person.user_id)
        assert user is not None
        found = tx.principal_of(user.id)
    assert found is not None
    return found


def connection_of(deps: Deps, browser: Browser) -> Connection:
    with deps.store.transaction(reading=True) as tx:
        (found,) = [one for one in tx.connections_of(principal_of(deps, browser).user.id) if one.state == "active"]
    return found


def session_of(deps: Deps, browser: Browser) -> MailboxSync:
    with deps.store.transaction(reading=True) as tx:
        found = tx.session_of(connection_of(deps, browser).id)
    assert found is not None
    return found


def is_due(deps: Deps, browser: Browser) -> bool:
    due = session_of(deps, browser).next_due_at
    return due is not None and due <= deps.now()


@pytest.fixture
def connected(anna: Browser) -> Browser:
    """The first person, whose mailbox is connected and has a session arranged."""
    connect(anna)
    return anna


@pytest.fixture
def session(deps: Deps, connected: Browser) -> Keep:
    """Take the mailbox's session as a worker does, and keep how far it is; session(ends=30) has the next one in 30 minutes."""

    def session(*, ends: int | None = None, **values: Any) -> MailboxSync:
        now = deps.now()
        with deps.store.transaction() as tx:
            tx.wake_session(connection_of(deps, connected).id, now)
            (sync,) = [one for one in tx.take_sessions(now, 60, 10) if one.connection_id == connection_of(deps, connected).id]
            tx.keep_session(sync, now, 60, **values)
            if ends is not None:
                tx.end_session(sync, next_due_at=now + timedelta(minutes=ends), now=now)
        return session_of(deps, connected)

    return session


def lock(deps: Deps, **profile: Any) -> None:
    """Have the organization's profile hold these values from now on."""
    with deps.store._engine.begin() as connection:
        (stored,) = {row.profile for row in connection.execute(sa.text("SELECT profile FROM organization"))}
        values = {"profile": json.dumps({**json.loads(stored), **profile})}
        connection.execute(sa.text("UPDATE organization SET profile = :profile"), values)


@pytest.fixture
def found(deps: Deps, connected: Browser) -> Callable[..., None]:
    """Have the engine find something: found("contact", "rejected", name="Jana Novak")."""
    number = count()

    def found(kind: Any, code: str, **more: Any) -> None:
        finding = Finding(kind, key_of(kind, str(next(number))), code, **more)
        issues.report(deps, connection_of(deps, connected), [finding])

    return found


# Dashboard


def test_who_has_no_mailbox_connected_is_led_to_connect_one(anna: Browser) -> None:
    anna.open(DASHBOARD)
    assert anna.heading == "Dashboard"
    assert "Nothing is synchronized, because the mailbox is not connected." in anna.text
    assert not anna.page.xpath("//button[@name='do']")
    assert anna.page.xpath("//main//a[@href='/settings/sync/email']")


def test_the_first_session_says_how_far_it_is_and_how_long_it_takes(
    connected: Browser, session: Keep, deps: Deps, forward: Forward
) -> None:
    assert "Waiting to begin." in connected.open(DASHBOARD).text
    began = deps.now()
    forward(seconds=120)
    session(state="running", phase="contacts", done=1200, total=4500, began_at=began)
    connected.open(DASHBOARD)
    assert "Contacts: 1,200 of 4,500. About 6 minutes left." in connected.text  # 3,300 more at 10 a second take 330 s
    assert "This is the first session." in connected.text
    (bar,) = connected.page.xpath("//progress")
    assert (bar.get("value"), bar.get("max")) == ("1200", "4500")
    live = connected.client.get(f"{DASHBOARD}progress")
    assert live.json == {
        "progress": "Contacts: 1,200 of 4,500. About 6 minutes left.",
        "state": "running",
        "done": 1200,
        "total": 4500,
    }
    assert live.headers["Cache-Control"] == "no-store"


def test_an_ordinary_session_that_only_looks_is_said_to_be_under_way(connected: Browser, session: Keep, deps: Deps) -> None:
    session(state="running", phase="", first_done_at=deps.now())
    connected.open(DASHBOARD)
    assert "Under way." in connected.text
    assert "Setting up the mailbox" not in connected.text


def test_how_long_the_emails_take_is_not_guessed_from_what_the_people_took(
    connected: Browser, session: Keep, deps: Deps, forward: Forward
) -> None:
    began = deps.now()
    forward(minutes=10)
    session(state="running", phase="messages", done=1, total=200, began_at=began)
    assert "E-mails: 1 of 200." in connected.open(DASHBOARD).text
    assert "left" not in connected.page.xpath("string(//p[@data-text='progress'])")


def test_a_session_whose_worker_is_gone_waits_for_another(connected: Browser, session: Keep, forward: Forward) -> None:
    session(state="running", phase="contacts", done=1, total=2)
    forward(minutes=2)
    assert "Waiting to begin." in connected.open(DASHBOARD).text


def test_what_is_listed_under_issues_is_not_called_up_to_date(
    connected: Browser, session: Keep, deps: Deps, found: Callable[..., None]
) -> None:
    session(ends=30, state="done", finished_at=deps.now(), first_done_at=deps.now(), counts={})
    found("contact", "rejected", name="Jana Novak")
    assert "All is up to date but what is listed under Issues." in connected.open(DASHBOARD).text


def test_after_a_session_the_dashboard_says_what_it_did_and_when_the_next_one_is(
    connected: Browser, session: Keep, deps: Deps
) -> None:
    counts, at = {"created_in_mailbox": 4500, "emails_saved": 3, "deleted_in_mailbox": 0}, deps.now()
    sync = session(ends=30, state="done", finished_at=at, first_done_at=at, counts=counts)
    connected.open(DASHBOARD)
    assert "All is up to date." in connected.text
    assert "4,500 added to the mailbox, 3 e-mails saved" in connected.text
    assert sync.next_due_at is not None
    times = [time.get("datetime") for time in connected.page.xpath("//main//time")]
    assert times == [at.isoformat(), sync.next_due_at.isoformat()]
    assert not connected.page.xpath("//progress")
    assert "This is the first session." not in connected.text


def test_failures_are_counted_with_the_reason(connected: Browser, session: Keep) -> None:
    session(ends=1, state="failed", reason="mailbox_full", failures=4)
    connected.open(DASHBOARD)
    assert "The mailbox is full." in connected.text
    assert "4 sessions in a row did not succeed." in connected.text


@pytest.mark.parametrize(
    ("status", "said"), [(503, "Does not answer right now"), (400, "You are not admitted"), (None, "Connected")]
)
def test_the_state_of_both_connections_is_shown(connected: Browser, world: World, status: int | None, said: str) -> None:
    if status:
        world.faults.append(Fault("c4c", "status", times=None, status=status))
    connected.open(DASHBOARD)
    shown = connected.page.xpath("//section[@aria-labelledby='connections']//dd/p[1]")
    assert [" ".join(state.text_content().split()) for state in shown] == ["Connected", said]


def test_force_sync_makes_the_next_session_due_at_once_and_forgets_failures(
    connected: Browser, session: Keep, deps: Deps
) -> None:
    session(ends=30, state="failed", failures=4)
    press(connected.open(DASHBOARD), "force")
    assert is_due(deps, connected)
    assert session_of(deps, connected).failures == 0
    assert "Waiting to begin." in connected.text


def test_what_was_suspended_begins_only_when_it_is_resumed(connected: Browser, session: Keep, deps: Deps) -> None:
    session(ends=30, state="done")
    stale = connected.open(DASHBOARD).filled("Force Sync")
    press(connected, "suspend")
    assert "You suspended it." in connected.text
    assert session_of(deps, connected).next_due_at is None
    path, fields = stale
    connected.send(path, {**fields, "do": "force"})
    assert (connected.answer.status_code, connected.refusal) == (409, "Synchronization is suspended")
    press(connected, "resume")
    assert is_due(deps, connected)


def test_suspending_ends_a_session_that_is_under_way(connected: Browser, session: Keep, deps: Deps) -> None:
    taken = session(state="running", phase="contacts", done=1, total=2)
    press(connected.open(DASHBOARD), "suspend")
    with pytest.raises(LeaseLost), deps.store.transaction() as tx:
        tx.keep_session(taken, deps.now(), 60, done=2)


def test_a_mailbox_that_was_disconnected_meanwhile_has_no_session(connected: Browser) -> None:
    path, fields = connected.open(DASHBOARD).filled("Force Sync")
    connected.open(f"{SETTINGS}/disconnect").press("Disconnect")
    connected.send(path, {**fields, "do": "force"})
    assert (connected.answer.status_code, connected.refusal) == (409, "Your mailbox is not connected")


def test_a_button_that_does_not_exist_is_refused(connected: Browser) -> None:
    path, fields = connected.open(DASHBOARD).filled("Force Sync")
    assert connected.send(path, {**fields, "do": "drop"}).answer.status_code == 400


# Issues


def test_issues_are_grouped_named_explained_and_lead_to_the_record(connected: Browser, found: Found) -> None:
    record = RecordRef("contact", "A" * 32)
    cause = because("unknown_value", field="business_address.country", value=HOSTILE)
    found("contact", "rejected", cause=cause, name=HOSTILE, record=record, number="1000234")
    found("email", "c4c_refused", name="Offer")
    connected.open(ISSUES)
    assert [" ".join(h.text_content().split()) for h in connected.page.xpath("//h2")] == ["E-mails 1", "Contacts 1"]
    told = f"SAP Cloud for Customer does not know “{HOSTILE}” as “Country”. Mend it in your mailbox".replace("\u202e", "\ufffd")
    assert f"SAP Cloud for Customer refused it {told}" in connected.text
    names = [name.text_content() for name in connected.page.xpath("//h3")]
    assert names == ["Offer", HOSTILE.replace("\u202e", "\ufffd")]
    assert not connected.page.xpath("//h3//script")
    (link,) = connected.page.xpath("//main//a[text()='Open in SAP Cloud for Customer']/@href")
    assert "1000234" in link
    assert "2 open" in connected.open(DASHBOARD).text


def test_causes_and_remedies_speak_the_readers_language_and_quote_others_in_theirs(
    browsers: Callable[..., Browser], connected: Browser, found: Found, session: Keep
) -> None:
    found("contact", "rejected", cause=because("rejected", said="Status {limit} is closed <b>"), name="Jana Novak")
    session(ends=1, state="failed", reason="mailbox_full", failures=4)
    connected.language = "de"
    told = "Es wurde abgelehnt. Einzelheiten: „Status {limit} is closed <b>“ Bringen Sie es im Postfach oder in"
    assert told in connected.open(ISSUES).text
    assert not connected.page.xpath("//main//*[@lang='en']")
    assert "Das Postfach ist voll." in connected.open(DASHBOARD).text


def test_a_retry_wakes_a_session_and_the_issue_stays_until_it_went_well(
    connected: Browser, found: Found, session: Keep, deps: Deps
) -> None:
    session(ends=30, state="done")
    found("contact", "rejected", name="Jana Novak")
    press(connected.open(ISSUES), "retry")
    assert is_due(deps, connected)
    assert "Jana Novak" in connected.text
    assert "It is tried again in the session that begins now." in connected.text


def test_a_question_is_answered_once(connected: Browser, found: Found, session: Keep, deps: Deps) -> None:
    session(ends=30, state="done")
    found("mailbox", "first_upload", choices=issues.FIRST_UPLOAD)
    stale = connected.open(ISSUES).filled("Leave them in the mailbox only")
    press(connected, "keep")
    assert session_of(deps, connected).uploads == "no"
    assert "There are no issues." in connected.text
    path, fields = stale
    connected.send(path, {**fields, "do": "upload"})
    assert connected.refusal == "This is settled by now"
    assert session_of(deps, connected).uploads == "no"


def test_values_that_lost_a_conflict_are_shown_until_the_issue_is_dismissed(connected: Browser, found: Found) -> None:
    values = {"business_phone": "+49 30 901820-14", "business_address.city": HOSTILE}
    found("contact", "conflict", name="Jana Novak", values=values, choices=("dismiss",))
    connected.open(ISSUES)
    shown = {row.find("dt").text_content(): row.find("dd").text_content() for row in connected.page.xpath("//details//dl/div")}
    assert shown == {"Business phone": "+49 30 901820-14", "City": HOSTILE.replace("\u202e", "\ufffd")}
    press(connected, "dismiss")
    assert "Jana Novak" not in connected.text


def test_what_the_engine_keeps_for_itself_with_an_email_that_waits_is_not_shown(connected: Browser, found: Found) -> None:
    found("email", "waiting", name="Offer", values={"by": "mark", "thread": "AAQkAD", "place": "emails"})
    connected.open(ISSUES)
    assert "Offer" in connected.text
    assert not connected.page.xpath("//details")
    assert "AAQkAD" not in connected.answer.text


def test_nobody_answers_for_somebody_else(connected: Browser, browsers: Callable[..., Browser], found: Found, deps: Deps) -> None:
    found("contact", "rejected", name="Jana Novak")
    path, fields = connected.open(ISSUES).filled("Try again")
    other = browsers(1)
    own = other.open(ADD_IN).filled("Save")[1]["csrf"]
    assert other.send(path, {**fields, "csrf": own, "do": "retry"}).refusal == "This is settled by now"
    assert "Jana Novak" not in other.text
    with deps.store.transaction() as tx:
        tx.follow(connection_of(deps, connected), "conversation", None, deps.now())
        (thread,) = tx.followed(connection_of(deps, connected).id)
    other.send(SYNC, {"csrf": own, "do": "unfollow", "id": thread.id})
    with deps.store.transaction(reading=True) as tx:
        assert tx.followed(thread.connection_id) == [thread]


# Detailed Settings


def test_what_is_unlocked_is_ones_own_at_once_and_wakes_a_session(connected: Browser, session: Keep, deps: Deps) -> None:
    session(ends=30, state="done")
    connected.open(SYNC)
    press(connected, "save", contacts_filter="all", auto_save="on", link_all="all", interval_min="60", default_country="de")
    assert "Saved. It is in effect from now on." in connected.text
    profile = principal_of(deps, connected).profile
    assert (profile.contacts_filter, profile.auto_save, profile.link_all) == ("all", True, True)
    assert (profile.interval_min, profile.default_country) == (60, "DE")
    assert is_due(deps, connected)
    assert connected.page.xpath("//select[@id='contacts_filter']/option[@selected]/@value") == ["all"]


def test_what_is_as_in_the_profile_follows_the_profile(connected: Browser, deps: Deps) -> None:
    press(connected.open(SYNC), "save", interval_min="60")
    assert principal_of(deps, connected).user.settings == {"interval_min": 60}
    lock(deps, contacts_filter="none")
    assert principal_of(deps, connected).profile.contacts_filter == "none"
    press(connected.open(SYNC), "save", interval_min="30")
    assert principal_of(deps, connected).user.settings == {}


def test_what_the_organization_locks_is_shown_with_whom_to_ask_and_cannot_be_changed(connected: Browser, deps: Deps) -> None:
    path, fields = connected.open(SYNC).filled("Save")
    lock(deps, unlocked=["interval_min"], contacts_filter="none")
    connected.open(SYNC)
    (select,) = connected.page.xpath("//select[@id='contacts_filter']")
    assert select.get("disabled")
    assert "Your organization decides this." in connected.text
    assert principal_of(deps, connected).organization.admin_contact in connected.text
    connected.send(path, {**fields, "do": "save", "contacts_filter": "all"})
    assert (connected.answer.status_code, connected.refusal) == (403, "Your organization decides this")
    press(connected.open(SYNC), "save", interval_min="45")
    profile = principal_of(deps, connected).profile
    assert (profile.contacts_filter, profile.interval_min) == ("none", 45)


@pytest.mark.parametrize(
    ("name", "entered"),
    [
        ("interval_min", "4"),
        ("interval_min", "soon"),
        ("interval_min", "9" * 400),
        ("default_country", "D1"),
        ("contacts_filter", "theirs"),
        ("blocklisted_domains", "partner.example\nno domain"),
        ("blocklisted_addresses", "somebody"),
        ("blocklisted_domains", "\n".join(f"a{n}.example" for n in range(501))),
    ],
    ids=lambda given: given[:20],
)
def test_a_value_that_cannot_be_is_told_at_its_field_and_nothing_is_kept(
    connected: Browser, deps: Deps, name: str, entered: str
) -> None:
    press(connected.open(SYNC), "save", **{name: entered, "auto_save": "on"})
    assert connected.answer.status_code == 422
    assert connected.refusal == "Please check what you entered"
    assert connected.page.xpath("//*[@aria-invalid='true']/@name") == [name]
    assert connected.page.xpath(f"//*[@role='alert']//a[@href='#{name}']")
    assert connected.page.xpath("//input[@id='auto_save']/@checked"), "what was entered is still there"
    assert principal_of(deps, connected).user.settings == {}


def test_what_another_release_let_somebody_choose_shuts_nobody_out(connected: Browser, deps: Deps, me: Api) -> None:
    chosen = {"interval_min": 1, "card_fields": {"contact": ["gone"]}, "blocklisted_domains": 7}
    with deps.store.transaction() as tx:
        tx.set_own_settings(principal_of(deps, connected).user.id, {**chosen, "auto_save": True})
    for path in (DASHBOARD, ISSUES, ADD_IN, SYNC):
        assert connected.open(path).answer.status_code == 200
    assert me.get("/me").status_code == 200
    press(connected, "save", default_country="DE")
    principal = principal_of(deps, connected)
    assert principal.user.settings == {"auto_save": True, "default_country": "DE"}
    for name in chosen:
        assert getattr(principal.profile, name) == getattr(principal.organization.profile, name)


def test_ones_own_blocklist_stands_beside_the_organizations(connected: Browser, deps: Deps) -> None:
    lock(deps, blocklisted_domains=["partner.example"])
    press(connected.open(SYNC), "save", blocklisted_domains="Other.Example\n\nother.example")
    principal = principal_of(deps, connected)
    assert principal.profile.blocklisted_domains == ("partner.example", "other.example")
    assert principal.user.settings == {"blocklisted_domains": ["other.example"]}
    (own,) = connected.page.xpath("//textarea[@id='blocklisted_domains']")
    assert own.text.split() == ["other.example"]
    assert "Blocked for everybody in your organization: partner.example" in connected.text


def test_a_conversation_is_followed_until_its_owner_ends_it(connected: Browser, deps: Deps) -> None:
    with deps.store.transaction() as tx:
        tx.follow(connection_of(deps, connected), "conversation", None, deps.now())
    connected.open(SYNC)
    assert "Without a subject Since" in connected.text
    press(connected, "unfollow")
    assert connected.page.xpath("//section[@aria-labelledby='threads']//li") == []


# Add-In Settings


def test_the_fields_of_a_card_are_chosen_for_each_type(connected: Browser, me: Api) -> None:
    item = me.item("known_contact")

    def shown() -> set[str]:
        cards = me.post("/context", {"item": item, "refresh": True}).json["cards"]
        return {field["name"] for card in cards if card["type"] == "contact" for field in card["fields"]}

    before = shown()
    assert {"account", "phone"} <= before
    path, fields = connected.open(ADD_IN).filled("Save")
    connected.send(path, {name: value for name, value in fields.items() if name != "contact.phone"})
    assert shown() == before - {"phone"}
    assert not connected.page.xpath("//input[@id='contact.phone']/@checked")


def test_leads_are_looked_up_where_one_wants_them(connected: Browser, deps: Deps) -> None:
    path, fields = connected.open(ADD_IN).filled("Save")
    before = principal_of(deps, connected).profile.leads_enabled
    wanted = {} if before else {"leads_enabled": "on"}
    connected.send(path, {name: value for name, value in fields.items() if name != "leads_enabled"} | wanted)
    assert principal_of(deps, connected).profile.leads_enabled is not before


def test_the_language_of_the_mailbox_is_the_browsers_until_another_is_chosen(connected: Browser, deps: Deps) -> None:
    assert principal_of(deps, connected).user.language == "en"
    connected.language = "de"
    assert connected.open(DASHBOARD).heading == "Dashboard"
    assert principal_of(deps, connected).user.language == "en"
    with deps.store.transaction() as tx:
        tx.answer_session(connection_of(deps, connected).id, checked_at=deps.now())
    path, fields = connected.open(ADD_IN).filled("Sichern")
    connected.send(path, {**fields, "language": "de"})
    assert principal_of(deps, connected).user.language == "de"
    assert session_of(deps, connected).checked_at is None, "so that the next session looks at what our things are called"
    assert connected.send(path, {**fields, "language": "xx"}).answer.status_code == 422


# All of them


@pytest.mark.parametrize("path", [DASHBOARD, ISSUES, SYNC, ADD_IN])
def test_each_page_leads_to_the_others_and_asks_strangers_to_sign_in(
    visitor: Callable[..., Browser], anna: Browser, path: str
) -> None:
    links = anna.open(path).page.xpath("//nav[@class='side']//a/@href")
    assert links == [DASHBOARD, ISSUES, SETTINGS, SYNC, ADD_IN]
    assert anna.page.xpath("//nav[@class='side']//a[@aria-current='page']/@href") == [path]
    assert visitor().open(path).path == "/sign-in"


@pytest.mark.parametrize("path", [DASHBOARD, ISSUES, SYNC, ADD_IN])
def test_no_form_works_without_its_token(anna: Browser, path: str) -> None:
    assert anna.send(path, {"do": "force"}).refusal == "The page was open for too long"
    assert anna.send(path, {"do": "force"}, headers={"Origin": "https://elsewhere.example"}).answer.status_code == 403


# In a real browser


@pytest.mark.browser
@pytest.mark.parametrize(
    "look", ["phone", "dark", *(pytest.param(look, marks=pytest.mark.soak) for look in ("wide", "forced", "german"))]
)
def test_the_pages_are_for_everybody_at_every_width_whatever_a_mailbox_holds(
    browser: Chromium, app: APIFlask, connected: Browser, found: Found, session: Keep, deps: Deps, look: str
) -> None:
    session(state="running", phase="contacts", done=1, total=2)
    found("contact", "conflict", name=HOSTILE, values={"notes": HOSTILE}, choices=("dismiss",))
    found("mailbox", "guard", choices=issues.GUARD)
    lock(deps, unlocked=["interval_min", "blocklisted_domains"], blocklisted_domains=["z" * 60 + ".example"])
    with window(browser, app, connected.cookie(SESSION), **LOOKS[look]) as page:
        for path in (DASHBOARD, ISSUES, SYNC, ADD_IN):
            page.goto(ORIGIN + path)
            page.evaluate("for (const details of document.querySelectorAll('details')) details.open = true")
            page.evaluate(AXE)
            assert page.evaluate(VIOLATIONS, RULES) == [], path
            assert page.evaluate("document.documentElement.scrollWidth <= document.documentElement.clientWidth"), path
            assert page.evaluate("document.querySelectorAll('h1').length") == 1, path


@pytest.mark.browser
def test_with_scripts_progress_goes_on_by_itself_and_times_are_the_readers(
    browser: Chromium, app: APIFlask, connected: Browser, session: Keep, deps: Deps
) -> None:
    taken = session(state="running", phase="contacts", done=1, total=4)
    with window(browser, app, connected.cookie(SESSION), locale="en-GB", timezone_id="Asia/Tokyo") as page:
        page.goto(ORIGIN + DASHBOARD)
        expect(page.get_by_text("Contacts: 1 of 4.")).to_be_visible()
        at = datetime(2026, 11, 23, 20, 30, tzinfo=UTC)
        with deps.store.transaction() as tx:
            values: dict[str, Any] = {"state": "done", "finished_at": at, "first_done_at": at}
            tx.end_session(taken, next_due_at=at + timedelta(days=365), now=at, **values)
        expect(page.get_by_text("All is up to date.")).to_be_visible()
        expect(page.get_by_text("24 November 2026 at 05:30")).to_be_visible()
