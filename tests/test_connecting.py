"""Connecting a mailbox, told through the use cases: who may connect what, what stays when it fails, and what follows."""

import json
import secrets
import ssl
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import timedelta
from functools import partial
from typing import Any, Literal
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest

from server.auth import ExchangeLogin
from server.auth.flow import SignInRefused
from server.domain.marks import FOLDERS, MARKS
from server.errors import Forbidden, NotFound, SsiError
from server.services import Deps, ExchangeDoor, Principal, connecting, provisioning, signing_in
from server.services.connecting import Overview
from server.services.signing_in import ConnectRefused
from simulator import demo, ews
from simulator.ports import SERVICE_ACCOUNT, Simulator
from simulator.world import AccessType, Fault, Person, World
from tests.api import Api
from tests.processes import eventually

HOME = "https://sidebar.example.com"
BACK = {"microsoft365": HOME + "/connect/microsoft", "google": HOME + "/connect/google"}
CODE_SERVICES = pytest.mark.parametrize("access_type", ["office365", "google"], indirect=True)
ALL_SERVICES = pytest.mark.parametrize("access_type", ["office365", "google", "exchange_direct"], indirect=True)


@dataclass
class Visit:
    """Somebody in the wizard, with a browser that goes through the providers' pages."""

    deps: Deps
    simulator: Simulator
    person: Person
    browser: str

    @property
    def principal(self) -> Principal:
        with self.deps.store.transaction(reading=True) as tx:
            (tenant,) = tx.tenants()
            user = next(user for user in tx.users(tenant.id) if user.email == self.person.email)
            found = tx.principal_of(user.id)
        assert found is not None
        return found

    @property
    def service(self) -> Any:
        return {"office365": "microsoft365", "google": "google"}.get(self.person.access_type, "exchange")

    @property
    def overview(self) -> Overview:
        return connecting.overview(self.deps, self.principal)

    def begin(self, **more: str) -> str:
        return connecting.begin(
            self.deps, self.principal, self.service, browser=self.browser, redirect_uri=BACK[self.service], **more
        )

    def sign_in(self, url: str, person: Person | None = None, **form: str) -> dict[str, str]:
        """Choose a person on the provider's page; return the query with which the browser comes back."""
        parts = urlsplit(url)
        asked = {name: values[0] for name, values in parse_qs(parts.query).items()}
        trust = ssl.create_default_context(cafile=self.simulator.ca_file)
        data = {**asked, "person": (person or self.person).object_id, **form}
        reply = httpx.post(f"{parts.scheme}://{parts.netloc}{parts.path}", data=data, verify=trust)
        assert reply.is_redirect, reply.text
        return {name: values[0] for name, values in parse_qs(urlsplit(reply.headers["Location"]).query).items()}

    def finish(self, answer: Mapping[str, str]) -> None:
        connecting.finish(self.deps, self.principal, self.service, browser=self.browser, answer=answer)

    def use(self, door: ExchangeDoor) -> None:
        self.deps = replace(self.deps, doors=replace(self.deps.doors, exchange=door))

    def by_basic(self) -> None:
        self.use(Door(self.deps.doors.exchange, only="basic"))

    def connect(self, person: Person | None = None) -> None:
        """Go the whole way, signing in to the mailbox as this person."""
        if self.service == "exchange":
            whose = person or self.person
            self.enter(address=whose.email, password=whose.password)
        else:
            self.finish(self.sign_in(self.begin(), person))

    def enter(self, **entered: str) -> None:
        given = {
            "address": self.person.email,
            "password": self.person.password,
            "url": self.simulator.ews.url + "/EWS/Exchange.asmx",
        }
        connecting.connect_exchange(self.deps, self.principal, **{**given, **entered})


@dataclass
class Door:
    """What is found out about an Exchange server, where a domain's autodiscover answers or a server has another scheme."""

    real: ExchangeDoor
    url: str = ""
    only: Literal["ntlm", "basic"] | None = None
    asked: list[str] = field(default_factory=list)

    def discover(self, address: str, login: ExchangeLogin) -> str:
        self.asked.append(address)
        return self.url

    def scheme(self, url: str) -> Literal["ntlm", "basic"]:
        return self.only or self.real.scheme(url)

    def is_listed(self, host: str) -> bool:
        return self.real.is_listed(host)


def newcomer(deps: Deps, simulator: Simulator, person: Person, access_type: str = "user_choice") -> Visit:
    """Let the product know a person, and nothing of any mailbox or account of theirs."""
    visit = Visit(deps, simulator, person, secrets.token_urlsafe(32))
    with deps.store._engine.begin() as connection:
        user_id = visit.principal.user.id
        for table in ("connection", "identity"):
            connection.exec_driver_sql(f"DELETE FROM {table} WHERE user_id = '{user_id}'")
    organization = visit.principal.organization
    provisioning.put_organization(
        deps, "demo", organization.name, access_type, organization.admin_contact, organization.profile.to_json()
    )
    for known in (simulator.provider, simulator.google_identity):
        known.redirect_uris |= set(BACK.values())
    return visit


@pytest.fixture
def visit(deps: Deps, simulator: Simulator, me: Api) -> Visit:
    return newcomer(deps, simulator, me.person)


@pytest.fixture
def other_visit(deps: Deps, simulator: Simulator, colleague: Api) -> Visit:
    return newcomer(deps, simulator, colleague.person)


def refused(act: Callable[[], Any]) -> tuple[str, Mapping[str, str]]:
    """Return why it is refused, and the facts for the person."""
    with pytest.raises((ConnectRefused, SignInRefused)) as caught:
        act()
    return caught.value.code, caught.value.facts


def opens(visit: Visit) -> str:
    """Have the mailbox itself say whose it is that we hold a key to."""
    with visit.deps.store.transaction(reading=True) as tx:
        connection = next(c for c in tx.connections_of(visit.principal.user.id) if c.state == "active")
    return visit.deps.mailbox(connection).check().address


# From nothing to a working sidebar


@ALL_SERVICES
def test_a_connected_mailbox_works_in_the_sidebar_without_further_steps(
    visit: Visit, me: Api, world: World, work: Callable[[], None]
) -> None:
    assert (visit.overview.state, visit.overview.progress) == ("not_connected", None)
    visit.connect()
    shown = visit.overview
    assert (shown.service, shown.address, shown.state, shown.sidebar_seen) == (visit.service, me.person.email, "active", False)
    assert shown.progress is not None
    assert shown.progress.state == "queued"
    work()
    progress = visit.overview.progress
    assert progress is not None
    assert (progress.state, progress.done) == ("done", progress.total)
    if visit.service == "exchange":  # whose pane signs in by the mail client's or our own way, which tests/web shows
        with visit.deps.store.transaction() as tx:
            tx.bind_identity(visit.principal.tenant.id, visit.principal.user.id, world.entra_tenant, me.person.object_id)
    assert me.save("known_contact").status_code == 201
    assert me.context("known_contact")["cards"]
    assert eventually(lambda: visit.overview.sidebar_seen)


@ALL_SERVICES
def test_the_first_session_makes_folders_and_categories_with_their_colours(
    visit: Visit, world: World, work: Callable[[], None]
) -> None:
    visit.connect()
    work()
    mailbox = world.mailbox(visit.person.email)
    categories = {one.name: one.color for one in mailbox.categories.values()}
    if visit.service == "google":
        assert {mark.label for mark in MARKS.values() if mark.label} <= categories.keys()
        groups = {group["name"] for group in _google_groups(visit)}
        assert groups >= {"SAP Contacts", "SAP Accounts", "SAP Individual Customers"}
    else:
        assert {mark.name: mark.color for mark in MARKS.values()}.items() <= categories.items()
        assert {folder.name for folder in mailbox.folders.values()} >= set(FOLDERS.values())


def _google_groups(visit: Visit) -> list[dict[str, Any]]:
    token = visit.simulator.google_identity.mint_access_token(visit.simulator.world, visit.person)
    trust = ssl.create_default_context(cafile=visit.simulator.ca_file)
    url = visit.simulator.google.url + "/v1/contactGroups"
    reply = httpx.get(url, headers={"Authorization": f"Bearer {token}"}, verify=trust)
    groups: list[dict[str, Any]] = reply.raise_for_status().json()["contactGroups"]
    return groups


def test_a_session_goes_on_when_the_mailbox_answers_again(
    visit: Visit, world: World, work: Callable[[], None], forward: Callable[..., None]
) -> None:
    visit.connect()
    world.faults.append(Fault("graph", "status", status=503, times=None))
    work()
    progress = visit.overview.progress
    assert progress is not None
    assert progress.state == "queued"
    world.faults.clear()
    forward(minutes=2)
    work()
    progress = visit.overview.progress
    assert progress is not None
    assert progress.state == "done"


@pytest.mark.parametrize("access_type", ["exchange_impersonation"], indirect=True)
def test_under_impersonation_a_provisioned_person_does_nothing(me: Api, deps: Deps, work: Callable[[], None]) -> None:
    visit = Visit(deps, me.simulator, me.person, "")
    organization = visit.principal.organization
    provisioning.remove_user(deps, "demo", me.person.email)
    user = {"email": me.person.email, "name": me.person.name, "c4c_user_id": me.person.user_id}
    provisioning.add_user(deps, "demo", organization.name, **user, identity=None, check=True)
    assert (visit.overview.service, visit.overview.state) == ("impersonation", "active")
    work()
    progress = visit.overview.progress
    assert progress is not None
    assert progress.state == "done"
    assert me.save("known_contact").status_code == 201  # found by the address in the token, once


@pytest.mark.parametrize("access_type", ["exchange_impersonation"], indirect=True)
def test_a_person_whose_mailbox_the_service_account_does_not_open_is_not_set_up(me: Api, deps: Deps, world: World) -> None:
    visit = Visit(deps, me.simulator, me.person, "")
    organization = visit.principal.organization
    provisioning.remove_user(deps, "demo", me.person.email)
    world.faults.append(Fault("exchange", "status", status=401, times=None))
    user = {"email": me.person.email, "name": me.person.name, "c4c_user_id": me.person.user_id}
    with pytest.raises(SsiError, match="no longer accepts"):
        provisioning.add_user(deps, "demo", organization.name, **user, identity=None, check=True)
    with pytest.raises(NotFound):
        provisioning.describe_user(deps, "demo", me.person.email)


# Whose mailbox


@ALL_SERVICES
def test_somebody_elses_mailbox_is_refused_unless_the_administrator_allows_it(visit: Visit, colleague: Api) -> None:
    colleague.person.access_type = visit.person.access_type
    if visit.service == "google":
        demo.rehome(colleague.world, colleague.person, "google")
    code, facts = refused(lambda: visit.connect(colleague.person))
    assert code == ("identity_taken" if visit.service == "microsoft365" else "wrong_account")
    assert facts["signed_in"] == colleague.person.email
    assert visit.overview.state in ("not_connected", "disconnected")
    _forget_identity(colleague, visit.deps)
    provisioning.allow_mailbox(visit.deps, "demo", visit.person.email, colleague.person.email)
    visit.connect(colleague.person)
    assert visit.overview.address == opens(visit) == colleague.person.email


def _forget_identity(api: Api, deps: Deps) -> None:
    with deps.store._engine.begin() as connection:
        connection.exec_driver_sql(f"DELETE FROM identity WHERE subject = '{api.person.object_id}'")


@ALL_SERVICES
def test_an_address_that_is_connected_already_is_refused_with_the_reason(visit: Visit, other_visit: Visit) -> None:
    visit.connect()
    provisioning.allow_mailbox(visit.deps, "demo", other_visit.person.email, visit.person.email)
    with visit.deps.store._engine.begin() as connection:  # or their identity would be told first
        connection.exec_driver_sql("DELETE FROM identity")
    second = replace(other_visit, person=replace_host(other_visit.person, visit.person))
    assert refused(lambda: second.connect(visit.person)) == ("already_connected", {"address": visit.person.email})
    assert opens(visit) == visit.person.email


def replace_host(person: Person, like: Person) -> Person:
    person.access_type = like.access_type
    return person


@ALL_SERVICES
def test_reconnecting_needs_the_same_account(visit: Visit, colleague: Api) -> None:
    visit.connect()
    colleague.person.access_type = visit.person.access_type
    if visit.service == "google":
        demo.rehome(colleague.world, colleague.person, "google")
    _forget_identity(colleague, visit.deps)
    provisioning.allow_mailbox(visit.deps, "demo", visit.person.email, colleague.person.email)
    expected = {"signed_in": colleague.person.email, "expected": visit.person.email}
    assert refused(lambda: visit.connect(colleague.person)) == ("other_account", expected)
    assert opens(visit) == visit.person.email
    connecting.disconnect(visit.deps, visit.principal)
    visit.connect(colleague.person)
    assert opens(visit) == colleague.person.email


def test_an_account_of_a_directory_that_is_not_admitted_is_refused(visit: Visit) -> None:
    with visit.deps.store._engine.begin() as connection:
        connection.exec_driver_sql("DELETE FROM identity_tenant")
    assert refused(visit.connect)[0] == "domain_not_admitted"


@pytest.mark.parametrize("access_type", ["google"], indirect=True)
def test_a_new_mailbox_of_another_service_takes_the_old_ones_place(visit: Visit, world: World) -> None:
    visit.connect()
    token = _refresh_token(visit)
    visit.person.access_type = "exchange_direct"
    visit.connect()
    assert (visit.overview.service, visit.overview.state) == ("exchange", "active")
    assert not _is_good(visit, token)


def _refresh_token(visit: Visit) -> str:
    with visit.deps.store.transaction(reading=True) as tx:
        (connection,) = [c for c in tx.connections_of(visit.principal.user.id) if c.credentials]
    plain = visit.deps.vault.open(connection.tenant_id, connection.id, "credentials", connection.credentials or b"")
    return str(json.loads(plain)["refresh_token"])


def _is_good(visit: Visit, refresh_token: str) -> bool:
    world, trust = visit.simulator.world, ssl.create_default_context(cafile=visit.simulator.ca_file)
    form = {"grant_type": "refresh_token", "refresh_token": refresh_token}
    form |= {"client_id": world.client_id, "client_secret": world.client_secret}
    return httpx.post(visit.simulator.google.url + "/token", data=form, verify=trust).is_success


# What goes wrong on the way leaves the old connection as it is


def spoiled(visit: Visit, what: str) -> Callable[[], None]:
    """Go through the wizard so that this one thing is wrong."""

    def go() -> None:
        answer = visit.sign_in(visit.begin())
        match what:
            case "state":
                answer["state"] = secrets.token_urlsafe(32)
            case "browser":
                visit.browser = "another"
            case "replay":
                visit.finish(answer)
            case "expired":
                visit.simulator.world.clock_skew += signing_in.FLOW_LIFE
            case "code":
                answer["code"] = "1.invented"
            case "denied":
                answer = {"state": answer["state"], "error": "access_denied", "error_description": "AADSTS65004: no"}
        visit.finish(answer)

    return go


SPOILT = {
    "state": "flow_unknown",
    "browser": "flow_unknown",
    "replay": "flow_unknown",
    "expired": "flow_unknown",
    "code": "code_used",
    "denied": "consent_denied",
}


@CODE_SERVICES
@pytest.mark.parametrize(("what", "code"), SPOILT.items())
def test_a_sign_in_that_is_not_whole_is_refused_and_leaves_the_old_connection(visit: Visit, what: str, code: str) -> None:
    visit.connect()
    since = visit.overview.since
    assert refused(spoiled(visit, what))[0] == code
    visit.browser = "mine"
    assert opens(visit) == visit.person.email
    assert what == "replay" or visit.overview.since == since


def test_an_answer_at_another_services_address_is_refused(visit: Visit) -> None:
    answer = visit.sign_in(visit.begin())
    act = partial(connecting.finish, visit.deps, visit.principal, "google", browser=visit.browser, answer=answer)
    assert refused(act)[0] == "flow_unknown"


@CODE_SERVICES
def test_an_answer_that_belongs_to_somebody_else_is_refused(visit: Visit, other_visit: Visit) -> None:
    answer = visit.sign_in(visit.begin())
    other_visit.browser = visit.browser
    assert refused(lambda: other_visit.finish(answer))[0] == "flow_unknown"
    assert other_visit.overview.state == "not_connected"


@CODE_SERVICES
def test_of_many_who_present_one_answer_one_connects(visit: Visit) -> None:
    answer = visit.sign_in(visit.begin())

    def finish(_: int) -> bool:
        with suppress(ConnectRefused):
            visit.finish(answer)
            return True
        return False

    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(finish, range(8))) == 1


@CODE_SERVICES
def test_two_tabs_are_two_sign_ins_and_both_end_well(visit: Visit) -> None:
    first, second = visit.begin(), visit.begin()
    visit.finish(visit.sign_in(second))
    visit.finish(visit.sign_in(first))
    assert opens(visit) == visit.person.email


def test_somebody_who_is_switched_off_on_the_way_is_refused(visit: Visit) -> None:
    principal, answer = visit.principal, visit.sign_in(visit.begin())
    provisioning.set_user_enabled(visit.deps, "demo", visit.person.email, False)
    with pytest.raises(Forbidden, match="no longer set up"):
        connecting.finish(visit.deps, principal, visit.service, browser=visit.browser, answer=answer)
    provisioning.set_user_enabled(visit.deps, "demo", visit.person.email, True)
    assert visit.overview.state != "active"


def test_a_service_that_the_organization_does_not_offer_is_refused(deps: Deps, simulator: Simulator, me: Api) -> None:
    visit = newcomer(deps, simulator, me.person, "google")
    assert refused(visit.begin)[0] == "not_offered"
    assert refused(lambda: visit.enter())[0] == "not_offered"
    assert visit.overview.choices == ("google",)


# Exchange of the house


@pytest.fixture
def house(deps: Deps, simulator: Simulator, me: Api) -> Visit:
    me.person.access_type = "exchange_direct"
    return newcomer(deps, simulator, me.person)


def test_where_the_administrator_named_the_server_it_is_that_one(house: Visit) -> None:
    organization = house.principal.organization
    provisioning.put_organization(house.deps, "demo", organization.name, ews_url="https://mail.example.com/EWS/Exchange.asmx")
    assert refused(house.enter)[0] == "not_confirmed"


def test_one_person_tries_one_password_at_a_time(house: Visit) -> None:
    assert house.deps.tries.begin(house.principal.user.id)
    assert refused(house.enter)[0] == "too_many_tries"
    house.deps.tries.end(house.principal.user.id)
    house.enter()


def test_a_login_is_tried_before_it_is_kept(house: Visit, world: World) -> None:
    house.enter()
    assert refused(lambda: house.enter(password="wrong")) == ("password_refused", {})
    assert opens(house) == house.person.email


def test_a_password_goes_nowhere_for_an_address_that_is_not_the_persons(house: Visit, world: World, colleague: Api) -> None:
    code, facts = refused(lambda: house.enter(address=colleague.person.email, password="x"))
    assert (code, facts) == ("wrong_account", {"signed_in": colleague.person.email, "expected": house.person.email})
    assert world.requests("exchange") == []


@pytest.mark.parametrize(
    ("url", "code"),
    [
        ("http://mail.example.com/EWS/Exchange.asmx", "invalid_entry"),
        ("https://user:pw@mail.example.com/EWS/Exchange.asmx", "invalid_entry"),
        ("javascript:alert(1)", "invalid_entry"),
        ("https://outlook.office365.com/EWS/Exchange.asmx", "exchange_online"),
        ("https://127.0.0.1:1/EWS/Exchange.asmx", "server_unreachable"),
        ("https://169.254.169.254/latest/meta-data/", "server_unreachable"),
        ("https://[::1]/EWS/Exchange.asmx", "server_unreachable"),
        ("https://nowhere.example/EWS/Exchange.asmx", "server_unreachable"),
    ],
)
def test_a_server_that_cannot_be_one_is_told_without_a_password_sent(house: Visit, url: str, code: str, world: World) -> None:
    assert refused(lambda: house.enter(url=url))[0] == code
    assert world.requests("exchange") == []


def test_without_an_address_of_the_server_autodiscover_is_asked_first(house: Visit) -> None:
    assert refused(lambda: house.enter(url=""))[0] == "server_not_found"  # nobody answers for aldermill.example here
    found = house.simulator.ews.url + "/EWS/Exchange.asmx"
    door = Door(house.deps.doors.exchange, url=found)
    house.use(door)
    house.enter(url="")
    assert (opens(house), door.asked) == (house.person.email, [house.person.email])


@pytest.mark.parametrize("password", ["ü€ß-密码", "a b  c ", "\"'<>&;:\\", "x" * 200, "{{7*7}}%s%n", "\u202e\u0301"])
def test_passwords_with_every_odd_character_open_the_mailbox(house: Visit, password: str) -> None:
    house.person.password = password
    house.enter()
    assert opens(house) == house.person.email


@pytest.mark.parametrize("scheme", ["basic", "ntlm"])
def test_an_account_that_is_locked_is_told_as_such(house: Visit, world: World, scheme: str) -> None:
    if scheme == "basic":
        house.by_basic()
        assert refused(house.enter) == ("not_confirmed", {"contact": "it@aldermill.example"})  # it would read the password
        url = house.simulator.ews.url + "/EWS/Exchange.asmx"
        provisioning.put_organization(house.deps, "demo", house.principal.organization.name, ews_url=url)
    world.faults.append(Fault("exchange", "locked", times=None))
    assert refused(house.enter)[0] == "account_locked"


# Disconnected


@ALL_SERVICES
def test_a_disconnected_mailbox_stays_so_until_its_owner_connects_it_again(visit: Visit, me: Api, world: World) -> None:
    visit.connect()
    if visit.service == "exchange":
        with visit.deps.store.transaction() as tx:
            tx.bind_identity(visit.principal.tenant.id, visit.principal.user.id, world.entra_tenant, me.person.object_id)
    assert me.save("account_only").status_code == 201
    assert connecting.disconnect(visit.deps, visit.principal)
    said = me.save("known_contact")
    assert (said.status_code, said.json["code"]) == (403, "mailbox_not_connected")
    assert (visit.overview.state, visit.overview.reason) == ("disconnected", "You disconnected this mailbox.")
    visit.connect()
    assert me.save("known_contact").status_code == 201


@pytest.mark.parametrize("access_type", ["google"], indirect=True)
def test_disconnecting_ends_the_grant_at_its_service(visit: Visit) -> None:
    visit.connect()
    token = _refresh_token(visit)
    assert _is_good(visit, token)
    assert connecting.disconnect(visit.deps, visit.principal)
    assert not _is_good(visit, token)


@pytest.mark.parametrize("access_type", ["google"], indirect=True)
def test_a_service_that_cannot_be_told_does_not_keep_a_mailbox_connected(visit: Visit, world: World) -> None:
    visit.connect()
    world.faults.append(Fault("google_identity", "status", times=None))
    assert not connecting.disconnect(visit.deps, visit.principal)
    assert visit.overview.state == "disconnected"


@pytest.mark.parametrize("access_type", ["google"], indirect=True)
def test_a_grant_that_is_not_used_is_given_back_unless_a_connection_lives_on_it(visit: Visit, colleague: Api) -> None:
    stranger = colleague.person
    demo.rehome(colleague.world, stranger, "google")
    assert refused(lambda: visit.connect(stranger))[0] == "wrong_account"
    assert [event.kind for event in visit.simulator.world.events("google_identity", "revoke")] == ["revoke"]


# People at our pages


def test_a_person_signs_in_at_their_tenants_provider(visit: Visit) -> None:
    signed = _signed_in(visit)
    found = visitor(visit, signed)
    assert (found.principal.user.email, found.is_fresh, signed.next_path) == (visit.person.email, True, "/settings/")
    signing_in.sign_out(visit.deps, signed.token)
    assert signing_in.visitor(visit.deps, signed.token) is None


def _signed_in(visit: Visit, person: Person | None = None, *, fresh: bool = False) -> signing_in.SignedIn:
    way = signing_in.ways(visit.deps, None)
    assert way is not None
    back = f"{HOME}/sign-in/callback/{way.id}"
    visit.simulator.provider.redirect_uris.add(back)
    url = signing_in.begin(visit.deps, way.tenant, browser=visit.browser, redirect_uri=back, next_path="/settings/", fresh=fresh)
    return signing_in.finish(visit.deps, browser=visit.browser, answer=visit.sign_in(url, person), tenant=way.id)


def visitor(visit: Visit, signed: signing_in.SignedIn) -> signing_in.Visitor:
    found = signing_in.visitor(visit.deps, signed.token)
    assert found is not None
    return found


def test_a_page_session_ends_without_use_after_a_day_and_when_its_person_is_switched_off(
    visit: Visit, forward: Callable[..., None]
) -> None:
    def is_known(signed: signing_in.SignedIn) -> bool:
        return signing_in.visitor(visit.deps, signed.token) is not None

    idle, busy, off = (_signed_in(visit) for _ in range(3))
    for _ in range(18):
        forward(minutes=25)
        assert is_known(busy)
    assert not is_known(idle)
    forward(minutes=25)
    forward(minutes=25)
    assert not is_known(busy)
    off = _signed_in(visit)
    provisioning.set_user_enabled(visit.deps, "demo", visit.person.email, False)
    assert not is_known(off)


def test_changing_credentials_needs_a_sign_in_of_late(visit: Visit, forward: Callable[..., None]) -> None:
    signed = _signed_in(visit)
    forward(minutes=16)
    assert not visitor(visit, signed).is_fresh


def test_a_sign_in_without_a_proof_of_late_is_none_of_late(visit: Visit) -> None:
    """Who finds a browser in which the provider still knows somebody signs in without a word: not to change a mailbox."""
    now = int(visit.simulator.world.now().timestamp())
    for told in (now - 16 * 60, None, "now", -1, True):
        visit.simulator.provider.c4c.spoil("claims", auth_time=told)
        assert not visitor(visit, _signed_in(visit)).is_fresh
    visit.simulator.provider.c4c.spoil("claims")
    assert visitor(visit, _signed_in(visit, fresh=True)).is_fresh


@pytest.mark.parametrize("sub", ["", "M\u0131ller", "\u017fmith", "stra\u00dfe", None, 7, ["ADA"], "x" * 300])
def test_a_claim_that_is_no_user_of_c4c_is_nobody(visit: Visit, sub: Any) -> None:
    visit.simulator.provider.c4c.spoil("claims", sub=sub)
    with pytest.raises((Forbidden, SignInRefused)):
        _signed_in(visit)


def test_one_tenants_answer_at_anothers_address_is_refused(visit: Visit) -> None:
    """Or a malicious provider of one tenant could have the answer of another's brought to us as its own (RFC 9700, 4.4)."""
    way = signing_in.ways(visit.deps, None)
    assert way is not None
    back = f"{HOME}/sign-in/callback/{way.id}"
    visit.simulator.provider.redirect_uris.add(back)
    url = signing_in.begin(visit.deps, way.tenant, browser=visit.browser, redirect_uri=back, next_path="/", fresh=False)
    answer = visit.sign_in(url)
    assert (
        refused(lambda: signing_in.finish(visit.deps, browser=visit.browser, answer=answer, tenant="0" * 32))[0] == "flow_unknown"
    )


def test_who_is_locked_in_c4c_or_not_set_up_is_told_whom_to_ask(visit: Visit, world: World, colleague: Api) -> None:
    provisioning.remove_user(visit.deps, "demo", colleague.person.email)
    with pytest.raises(Forbidden, match=r"it@aldermill\.example") as caught:
        _signed_in(visit, colleague.person)
    assert caught.value.code == "not_provisioned"


def test_without_a_provider_c4c_itself_judges_user_and_password(visit: Visit, world: World) -> None:
    _without_provider(visit.deps)
    way = signing_in.ways(visit.deps, None)
    assert way is not None
    assert way.kind == "password"
    person = visit.person
    signed = signing_in.by_password(visit.deps, way.tenant, person.user_id.lower(), person.password, next_path="/settings/")
    found = signing_in.visitor(visit.deps, signed.token)
    assert found is not None
    assert found.principal.user.email == person.email
    for user, password in ((person.user_id, "wrong"), ("NOBODY", "x"), ("", ""), ("a:b", "c"), (person.user_id, "")):
        with pytest.raises(SsiError, match="does not accept"):
            signing_in.by_password(visit.deps, way.tenant, user, password, next_path="/")


def _without_provider(deps: Deps) -> None:
    with deps.store.transaction() as tx:
        (tenant,) = tx.tenants()
        tx.set_c4c(tenant.id, replace(tenant.c4c, oidc={}), None)


def test_a_pane_gets_a_token_of_its_own(visit: Visit, me: Api, forward: Callable[..., None]) -> None:
    signed = _signed_in(visit)

    def status(token: str) -> int:
        return me.app.test_client().get("/api/me", headers={"Authorization": f"Bearer {token}"}).status_code

    token, seconds = signing_in.pane_token(visit.deps, visitor(visit, signed), signed.token)
    other, _ = signing_in.pane_token(visit.deps, visitor(visit, signed), _signed_in(visit).token)
    assert (status(token), status(other)) == (200, 200)
    signing_in.sign_out(visit.deps, signed.token)
    assert (status(token), status(other)) == (401, 200)
    forward(seconds=seconds + 1)
    assert status(other) == 401


@pytest.mark.parametrize("access_type", ["exchange_direct"], indirect=True)
def test_an_exchange_identity_is_linked_once_by_who_signed_in(
    visit: Visit, me: Api, colleague: Api, access_type: AccessType
) -> None:
    client, simulator = me.app.test_client(), me.simulator
    token = simulator.exchange_identity.mint_identity_token(me.world, me.person, HOME + "/sidebar")

    def call(method: str, path: str, bearer: str, **body: Any) -> tuple[int, str]:
        reply = client.open("/api" + path, method=method, headers={"Authorization": f"Bearer {bearer}"}, json=body or None)
        return reply.status_code, reply.json.get("code", "")

    assert call("GET", "/me", token) == (403, "not_linked")
    mine, theirs = (_pane_token(visit, person) for person in (me.person, colleague.person))
    assert call("POST", "/link", mine, token=token) == (200, "")
    assert call("GET", "/me", token) == (200, "")
    assert call("POST", "/link", theirs, token=token) == (403, "not_yours")
    another = simulator.exchange_identity.mint_identity_token(me.world, colleague.person, HOME + "/sidebar")
    assert call("POST", "/link", mine, token=another) == (403, "not_yours")  # one mailbox of a server for each person
    assert call("POST", "/link", simulator.bearer(colleague.person), token=token) == (422, "invalid")


def _pane_token(visit: Visit, person: Person) -> str:
    signed = _signed_in(visit, person)
    return signing_in.pane_token(visit.deps, visitor(visit, signed), signed.token)[0]


# What an administrator changes


@pytest.mark.parametrize("access_type", ["exchange_impersonation"], indirect=True)
def test_switching_one_person_off_and_on_leaves_the_others_their_mailboxes(me: Api, colleague: Api, deps: Deps) -> None:
    mine, theirs = (Visit(deps, me.simulator, one.person, "") for one in (me, colleague))
    with deps.store._engine.begin() as connection:
        move = f"UPDATE \"user\" SET organization_id = '{mine.principal.organization.id}' WHERE id = '{theirs.principal.user.id}'"
        connection.exec_driver_sql(move)
    provisioning.put_organization(deps, "demo", mine.principal.organization.name)
    assert theirs.overview.state == "active"
    provisioning.set_user_enabled(deps, "demo", colleague.person.email, False)
    assert me.save("known_contact").status_code == 201
    colleague.person.access_type = "exchange_impersonation"
    provisioning.set_user_enabled(deps, "demo", colleague.person.email, True)
    assert theirs.overview.state == "active"
    assert me.save("account_only").status_code == 201


@CODE_SERVICES
def test_another_access_type_ends_what_it_does_not_offer(visit: Visit, work: Callable[[], None]) -> None:
    visit.connect()
    name = visit.principal.organization.name
    provisioning.put_organization(visit.deps, "demo", name, "exchange_impersonation", service_account=_service_account(visit))
    visit.person.access_type = "exchange_impersonation"
    assert (visit.overview.service, visit.overview.state) == ("impersonation", "active")
    work()
    progress = visit.overview.progress
    assert progress is not None
    assert progress.state == "done"
    provisioning.put_organization(visit.deps, "demo", name, "exchange_direct")
    assert (visit.overview.state, visit.overview.choices) == ("disconnected", ("exchange",))
    visit.person.access_type = "exchange_direct"
    visit.connect()
    assert opens(visit) == visit.person.email


def _service_account(visit: Visit) -> dict[str, str]:
    user = f"{ews.DOMAIN}\\{SERVICE_ACCOUNT.user}"
    return {"url": visit.simulator.ews.url + ews.PATH, "user": user, "password": SERVICE_ACCOUNT.password}


@pytest.mark.parametrize("access_type", ["exchange_impersonation"], indirect=True)
def test_a_mended_service_account_begins_the_sessions_anew(me: Api, deps: Deps, world: World, work: Callable[[], None]) -> None:
    visit = Visit(deps, me.simulator, me.person, "")
    connecting.impersonate(deps, visit.principal)
    world.faults.append(Fault("exchange", "status", status=401, times=None))
    work()
    assert visit.overview.state == "needs_reauth"
    world.faults.clear()
    name = visit.principal.organization.name
    provisioning.put_organization(deps, "demo", name, service_account=_service_account(visit))
    work()
    progress = visit.overview.progress
    assert progress is not None
    assert (visit.overview.state, progress.state) == ("active", "done")


@ALL_SERVICES
def test_taking_back_an_allowed_mailbox_closes_it(visit: Visit, colleague: Api) -> None:
    colleague.person.access_type = visit.person.access_type
    if visit.service == "google":
        demo.rehome(colleague.world, colleague.person, "google")
    _forget_identity(colleague, visit.deps)
    provisioning.allow_mailbox(visit.deps, "demo", visit.person.email, colleague.person.email)
    visit.connect(colleague.person)
    assert colleague.get("/me").status_code == 403  # a colleague's account does not stand for somebody else
    provisioning.allow_mailbox(visit.deps, "demo", visit.person.email, "")
    assert visit.overview.state == "disconnected"


def test_a_key_to_another_mailbox_is_not_replaced_by_ones_own(visit: Visit, colleague: Api, me: Api, world: World) -> None:
    _forget_identity(colleague, visit.deps)
    provisioning.allow_mailbox(visit.deps, "demo", visit.person.email, colleague.person.email)
    with visit.deps.store.transaction() as tx:
        tx.bind_identity(visit.principal.tenant.id, visit.principal.user.id, world.entra_tenant, me.person.object_id)
    visit.connect(colleague.person)
    visit.simulator.provider.withdraw_consent(colleague.person)
    world.clock_skew += timedelta(hours=2)
    assert me.save("known_contact").json["code"] == "mailbox_not_connected"
    assert (visit.overview.address, visit.overview.state) == (colleague.person.email, "needs_reauth")


def test_what_another_process_remembers_opens_no_new_mailbox(visit: Visit, colleague: Api, process: Callable[..., Deps]) -> None:
    visit.connect()
    worker = Visit(process(), visit.simulator, visit.person, "")
    assert opens(worker) == visit.person.email
    connecting.disconnect(visit.deps, visit.principal)
    _forget_identity(colleague, visit.deps)
    provisioning.allow_mailbox(visit.deps, "demo", visit.person.email, colleague.person.email)
    visit.connect(colleague.person)
    assert opens(worker) == colleague.person.email


def test_a_try_that_failed_leaves_a_person_as_they_were(visit: Visit, me: Api, world: World) -> None:
    provisioning.put_organization(visit.deps, "demo", visit.principal.organization.name, "office365")
    with visit.deps.store.transaction() as tx:
        tx.bind_identity(visit.principal.tenant.id, visit.principal.user.id, world.entra_tenant, me.person.object_id)
        tx.put_connection(
            visit.principal.user, "graph", visit.person.email, world.entra_tenant, world.now(), state="disconnected"
        )
    assert visit.overview.state == "not_connected"
    assert me.save("known_contact").status_code == 201  # as it is without any wizard


def test_without_a_provider_a_flow_is_none(visit: Visit) -> None:
    way = signing_in.ways(visit.deps, None)
    assert way is not None
    _without_provider(visit.deps)
    with pytest.raises(NotFound):
        signing_in.begin(visit.deps, way.tenant, browser=visit.browser, redirect_uri=HOME, next_path="/", fresh=False)
