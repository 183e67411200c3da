"""The TokenVault for mailboxes at Google and at Exchange: tokens, logins and service accounts, until a mailbox refuses them."""

import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta

import pytest

from server.auth import ExchangeLogin
from server.auth.secrets import CannotOpen
from server.errors import NeedsReauth
from server.store import Connection
from simulator.google.identity import SCOPE
from simulator.world import Latency
from tests.auth.house import House

GOOGLE = (f"{SCOPE}gmail.modify", f"{SCOPE}contacts")
LOGIN = ExchangeLogin("https://mail.example.com/EWS/Exchange.asmx", "mara", "only-Mara-knows", "basic")


@pytest.fixture
def gmail(house: House) -> Connection:
    connection = house.connection("google", "google")
    house.vault().connect(connection.id, refresh_token(house))
    return connection


def refresh_token(house: House) -> str:
    return house.sign_in.google_provider.mint_refresh_token(house.sign_in.world, house.sign_in.person)


def google_exchanges(house: House) -> int:
    return house.sign_in.exchanges("google_identity")


def test_a_refresh_token_of_google_is_kept_through_all_refreshes(house: House, gmail: Connection) -> None:
    vault, tokens = house.vault(), set()
    for hours in range(0, 6, 2):
        house.sign_in.world.clock_skew = timedelta(hours=hours)
        token = vault.access_token(gmail.id, GOOGLE)
        grant = house.sign_in.google_provider.grant(token)
        assert grant is not None
        assert grant.person == house.sign_in.person
        assert house.vault().access_token(gmail.id, GOOGLE) == token
        tokens.add(token)
    assert (len(tokens), google_exchanges(house)) == (3, 3)


def test_threads_and_processes_refresh_at_google_once_together(house: House, gmail: Connection) -> None:
    house.sign_in.world.latency["google_identity"] = Latency(base_ms=80)
    processes = [house.vault(sleep=lambda _seconds: threading.Event().wait(0.01) and None) for _ in range(3)]
    with ThreadPoolExecutor(12) as pool:
        tokens = set(pool.map(lambda n: processes[n % 3].access_token(gmail.id, GOOGLE), range(24)))
    assert (len(tokens), google_exchanges(house)) == (1, 1)


def test_consent_that_was_withdrawn_at_google_is_noted_and_a_new_grant_heals(house: House, gmail: Connection) -> None:
    house.sign_in.google_provider.withdraw_consent(house.sign_in.person)
    vault = house.vault()
    for _ in range(3):
        with pytest.raises(NeedsReauth, match="has ended") as told:
            vault.access_token(gmail.id, GOOGLE)
        assert told.value.connection == gmail.id
    assert google_exchanges(house) == 1
    assert (house.read(gmail).state, house.read(gmail).reason) == ("needs_reauth", str(told.value))
    vault.connect(gmail.id, refresh_token(house))
    assert vault.access_token(gmail.id, GOOGLE)
    assert (house.read(gmail).state, house.read(gmail).reason) == ("active", "")


def test_a_token_that_the_mailbox_refused_is_replaced_once(house: House, gmail: Connection) -> None:
    vault, elsewhere = house.vault(), house.vault()
    old = vault.access_token(gmail.id, GOOGLE)
    used = house.read(gmail)
    refused = NeedsReauth("Gmail no longer accepts the sign-in.")
    vault.refused(used, refused)
    elsewhere.refused(used, refused)
    new = vault.access_token(gmail.id, GOOGLE)
    assert new != old
    assert (elsewhere.access_token(gmail.id, GOOGLE), google_exchanges(house)) == (new, 2)


def test_a_refused_token_whose_grant_has_ended_is_a_matter_for_the_person(house: House, gmail: Connection) -> None:
    vault = house.vault()
    vault.access_token(gmail.id, GOOGLE)
    house.sign_in.google_provider.withdraw_consent(house.sign_in.person)
    with pytest.raises(NeedsReauth, match="has ended"):
        vault.refused(house.read(gmail), NeedsReauth("Gmail no longer accepts the sign-in."))
    assert house.read(gmail).state == "needs_reauth"


def test_a_login_at_exchange_is_handed_out_until_it_is_refused(house: House) -> None:
    vault, connection = house.vault(), house.connection("exchange_direct", "exchange")
    with pytest.raises(NeedsReauth, match="not connected"):
        vault.exchange_login(connection.id)
    vault.connect(connection.id, LOGIN)
    assert house.vault().exchange_login(connection.id) == LOGIN
    used = house.read(connection)
    refused = NeedsReauth("Exchange no longer accepts the user name and password.")
    with pytest.raises(NeedsReauth, match="no longer accepts"):
        vault.refused(used, refused)
    with pytest.raises(NeedsReauth, match="no longer accepts") as told:
        house.vault().exchange_login(connection.id)
    assert told.value.connection == connection.id
    better = replace(LOGIN, password="the-new-one")
    vault.connect(connection.id, better)
    vault.refused(used, refused)  # a late report on the old password
    assert vault.exchange_login(connection.id) == better


def test_a_service_account_serves_everybody_of_its_organization_and_nobody_else(house: House) -> None:
    vault = house.vault()
    mine = house.connection("exchange_impersonation", "exchange")
    other = house.connection("exchange_direct", "exchange", house.sign_in.other_person)
    with pytest.raises(NeedsReauth, match="not set up"):
        vault.exchange_login(mine.id)
    with house.store.transaction(reading=True) as tx:
        organization = tx.organization_of(mine.user_id)
    sealed = vault.seal_service_account(mine.tenant_id, organization.id, LOGIN)
    with house.store.transaction() as tx:
        tx.put_service_account(organization.id, sealed, house.sign_in.now())
    assert house.vault().exchange_login(mine.id) == replace(LOGIN, impersonates=True)
    with pytest.raises(NeedsReauth):
        vault.exchange_login(other.id)
    with pytest.raises(NeedsReauth):
        vault.refused(house.read(mine), NeedsReauth("The account is locked out of Exchange."))
    with pytest.raises(NeedsReauth, match="locked out"):
        vault.exchange_login(mine.id)
    with house.store.transaction() as tx:
        tx.put_service_account(organization.id, sealed, house.sign_in.now())
    assert vault.exchange_login(mine.id).impersonates


def test_what_opens_a_mailbox_opens_only_in_its_own_place(house: House) -> None:
    vault, mine = house.vault(), house.connection("exchange_direct", "exchange")
    theirs = house.connection("exchange_direct", "exchange", house.sign_in.other_person)
    vault.connect(mine.id, LOGIN)
    house.put_credentials(theirs, house.read(mine).credentials)
    with pytest.raises(CannotOpen):
        vault.exchange_login(theirs.id)
    assert LOGIN.password.encode() not in house.database.file.read_bytes()
    assert LOGIN.password not in repr(LOGIN)
