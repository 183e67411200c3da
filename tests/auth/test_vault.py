"""The TokenVault: lasting access without the person, refreshed once whoever asks, and secrets that stay where they were put."""

import logging
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest

from server.auth.secrets import CannotOpen
from server.errors import NeedsReauth, NotFound, Transient
from simulator.world import Fault, Latency
from tests.auth.house import KEK, House
from tests.auth.sign_in import MAIL_SCOPES, READ_SCOPES, add_tenant


def test_a_save_can_be_finished_after_a_restart_without_the_person(house: House) -> None:
    house.adopted()
    house.sign_in.world.clock_skew = timedelta(days=30)
    restarted = house.vault()
    assert house.owner(restarted.access_token(house.mine.id, MAIL_SCOPES)) == house.sign_in.person


def test_a_token_that_is_good_still_is_not_fetched_again(house: House) -> None:
    vault = house.adopted()
    before = house.sign_in.exchanges()
    tokens = {vault.access_token(house.mine.id, MAIL_SCOPES) for _ in range(5)}
    tokens |= {house.vault().access_token(house.mine.id, MAIL_SCOPES)}
    assert len(tokens) == 1
    assert house.sign_in.exchanges() == before


def test_a_token_is_good_for_a_minute_at_least(house: House) -> None:
    vault = house.adopted()
    old = vault.access_token(house.mine.id, MAIL_SCOPES)
    house.sign_in.world.clock_skew = timedelta(minutes=59, seconds=30)
    new = vault.access_token(house.mine.id, MAIL_SCOPES)
    assert new != old
    house.sign_in.world.clock_skew += timedelta(seconds=60)
    assert house.owner(old) is None
    assert house.owner(new) == house.sign_in.person


def test_each_set_of_scopes_has_its_own_token(house: House) -> None:
    vault = house.adopted()
    mail, read = vault.access_token(house.mine.id, MAIL_SCOPES), vault.access_token(house.mine.id, READ_SCOPES)
    assert mail != read
    assert house.vault().access_token(house.mine.id, MAIL_SCOPES) == mail
    assert house.vault().access_token(house.mine.id, READ_SCOPES) == read
    assert vault.access_token(house.mine.id, reversed(MAIL_SCOPES)) == mail


def test_people_never_get_each_others_tokens(house: House) -> None:
    vault = house.adopted()
    vault.adopt(house.theirs, house.sign_in.token(house.sign_in.other_person), MAIL_SCOPES)
    for _ in range(2):
        assert house.owner(vault.access_token(house.mine.id, MAIL_SCOPES)) == house.sign_in.person
        assert house.owner(vault.access_token(house.theirs.id, MAIL_SCOPES)) == house.sign_in.other_person


def test_threads_and_processes_refresh_once_together(house: House) -> None:
    house.adopted()
    world = house.sign_in.world
    world.clock_skew = timedelta(hours=2)
    world.latency["identity"] = Latency(base_ms=80)
    before = house.sign_in.exchanges()
    waits: list[float] = []

    def sleep(seconds: float) -> None:
        waits.append(seconds)
        threading.Event().wait(0.01)

    processes = [house.vault(sleep=sleep) for _ in range(3)]
    with ThreadPoolExecutor(12) as pool:
        tokens = set(pool.map(lambda n: processes[n % 3].access_token(house.mine.id, MAIL_SCOPES), range(24)))
    assert len(tokens) == 1
    assert house.sign_in.exchanges() - before == 1
    assert waits


def test_the_first_calls_of_a_pane_exchange_its_token_once(house: House) -> None:
    house.sign_in.world.latency["identity"] = Latency(base_ms=50)
    vault, assertion = house.vault(), house.sign_in.token()
    with ThreadPoolExecutor(6) as pool:
        list(pool.map(lambda _: vault.adopt(house.mine, assertion, MAIL_SCOPES), range(6)))
    assert house.sign_in.exchanges() == 1


def test_a_rotated_refresh_token_is_the_one_used_next(house: House) -> None:
    house.sign_in.provider.entra.single_use_refresh = True
    try:
        house.adopted()
        for hours in range(2, 12, 2):
            house.sign_in.world.clock_skew = timedelta(hours=hours)
            assert house.owner(house.vault().access_token(house.mine.id, MAIL_SCOPES)) == house.sign_in.person
    finally:
        house.sign_in.provider.entra.single_use_refresh = False


def test_who_was_overtaken_stores_nothing(house: House) -> None:
    house.adopted()
    world = house.sign_in.world
    world.clock_skew = timedelta(hours=2)
    successor = house.vault()
    fresh: list[str] = []

    def lease_runs_out() -> None:
        if not fresh:
            fresh.append("being fetched")
            world.clock_skew += timedelta(seconds=31)
            fresh[0] = successor.access_token(house.mine.id, MAIL_SCOPES)

    def now_while_exchanging() -> object:
        lease_runs_out()
        return house.sign_in.now()

    late = house.vault(entra=house.sign_in.entra(now_while_exchanging))  # type: ignore[arg-type]
    with pytest.raises(Transient):
        late.access_token(house.mine.id, MAIL_SCOPES)
    assert late.access_token(house.mine.id, MAIL_SCOPES) == fresh[0]
    assert house.vault().access_token(house.mine.id, MAIL_SCOPES) == fresh[0]


def test_the_lease_of_a_process_that_died_is_waited_out(house: House) -> None:
    house.adopted()
    world = house.sign_in.world
    world.clock_skew = timedelta(hours=2)
    with house.store.transaction() as tx:
        assert tx.lease_connection(house.mine.id, house.sign_in.now(), 30)

    def sleep(seconds: float) -> None:
        world.clock_skew += timedelta(seconds=seconds)

    assert house.owner(house.vault(sleep=sleep).access_token(house.mine.id, MAIL_SCOPES)) == house.sign_in.person


def test_a_lease_that_never_ends_is_not_waited_for_for_ever(house: House) -> None:
    house.adopted()
    house.sign_in.world.clock_skew = timedelta(hours=2)
    with house.store.transaction() as tx:
        assert tx.lease_connection(house.mine.id, house.sign_in.now(), 10**6)
    with pytest.raises(Transient):
        house.vault(sleep=lambda _seconds: None).access_token(house.mine.id, MAIL_SCOPES)


def test_withdrawn_access_asks_the_person_and_is_noted_once(house: House) -> None:
    vault = house.adopted()
    house.sign_in.provider.revoke(house.sign_in.person)
    house.sign_in.world.clock_skew = timedelta(hours=2)
    with pytest.raises(NeedsReauth, match="revoked") as asked:
        vault.access_token(house.mine.id, MAIL_SCOPES)
    assert asked.value.connection == house.mine.id
    noted = house.read(house.mine)
    assert noted.state == "needs_reauth"
    assert "revoked" in noted.reason
    for process in (vault, house.vault()):
        with pytest.raises(NeedsReauth, match="revoked"):
            process.access_token(house.mine.id, MAIL_SCOPES)
    assert house.read(house.mine) == noted
    assert house.sign_in.exchanges() == 2


def test_a_new_sign_in_heals_the_connection(house: House) -> None:
    vault = house.adopted()
    house.sign_in.provider.revoke(house.sign_in.person)
    house.sign_in.world.clock_skew = timedelta(hours=2)
    with pytest.raises(NeedsReauth):
        vault.access_token(house.mine.id, MAIL_SCOPES)
    vault.adopt(house.read(house.mine), house.sign_in.token(), MAIL_SCOPES)
    assert house.read(house.mine).state == "active"
    assert house.owner(vault.access_token(house.mine.id, MAIL_SCOPES)) == house.sign_in.person


def test_missing_consent_is_noted_with_its_challenge_and_consent_heals_it(house: House) -> None:
    house.sign_in.provider.withdraw_consent(house.sign_in.person)
    vault = house.vault()
    with pytest.raises(NeedsReauth, match="consent"):
        vault.adopt(house.mine, house.sign_in.token(), MAIL_SCOPES)
    noted = house.read(house.mine)
    assert (noted.state, noted.credentials) == ("needs_reauth", None)
    house.sign_in.provider.give_consent(house.sign_in.person)
    house.sign_in.provider.require_claims(house.sign_in.person, '{"access_token":{}}')
    with pytest.raises(NeedsReauth) as asked:
        vault.adopt(noted, house.sign_in.token(), MAIL_SCOPES)
    assert (asked.value.claims, asked.value.connection) == ('{"access_token":{}}', house.mine.id)
    house.sign_in.provider.require_claims(house.sign_in.person, "")
    vault.adopt(noted, house.sign_in.token(), MAIL_SCOPES)
    assert vault.access_token(house.mine.id, MAIL_SCOPES)


def test_trouble_at_the_sign_in_service_changes_nothing_and_passes(house: House) -> None:
    vault = house.adopted()
    house.sign_in.world.clock_skew = timedelta(hours=2)
    house.sign_in.world.faults.append(Fault("identity", "acted_drop", match="/token"))
    with pytest.raises(Transient):
        vault.access_token(house.mine.id, MAIL_SCOPES)
    assert house.read(house.mine).state == "active"
    assert house.owner(vault.access_token(house.mine.id, MAIL_SCOPES)) == house.sign_in.person


def test_a_connection_without_credentials_needs_a_sign_in(house: House) -> None:
    with pytest.raises(NeedsReauth) as asked:
        house.vault().access_token(house.mine.id, MAIL_SCOPES)
    assert asked.value.connection == house.mine.id
    assert house.sign_in.exchanges() == 0


def test_a_suspended_connection_gives_no_token_although_its_tokens_are_good(house: House) -> None:
    house.adopted()
    with house.store.transaction() as tx:
        tx.set_connection_state(house.mine.id, "suspended", "Suspended by the administrator.", house.sign_in.now())
    with pytest.raises(NeedsReauth, match="administrator"):
        house.vault().access_token(house.mine.id, MAIL_SCOPES)


def test_an_unknown_connection_is_not_found(house: House) -> None:
    for use in (lambda v: v.access_token("f" * 32, MAIL_SCOPES), lambda v: v.forget("f" * 32)):
        with pytest.raises(NotFound):
            use(house.vault())


def test_forgotten_tokens_are_gone_here_at_once_and_elsewhere_within_a_minute(house: House) -> None:
    here, elsewhere = house.adopted(), house.vault()
    elsewhere.access_token(house.mine.id, MAIL_SCOPES)
    here.forget(house.mine.id)
    assert (house.read(house.mine).credentials, house.read(house.mine).state) == (None, "needs_reauth")
    with pytest.raises(NeedsReauth):
        here.access_token(house.mine.id, MAIL_SCOPES)
    house.sign_in.world.clock_skew = timedelta(seconds=61)
    with pytest.raises(NeedsReauth):
        elsewhere.access_token(house.mine.id, MAIL_SCOPES)


def test_rows_that_were_swapped_do_not_open(house: House) -> None:
    vault = house.adopted()
    vault.adopt(house.theirs, house.sign_in.token(house.sign_in.other_person), MAIL_SCOPES)
    mine, theirs = house.read(house.mine).credentials, house.read(house.theirs).credentials
    house.put_credentials(house.mine, theirs)
    house.put_credentials(house.theirs, mine)
    for connection in (house.mine, house.theirs):
        with pytest.raises(CannotOpen):
            house.vault().access_token(connection.id, MAIL_SCOPES)


def test_secrets_of_others_are_sealed_to_tenant_row_and_column(house: House) -> None:
    vault = house.vault()
    tenant, other = house.tenants
    sealed = vault.seal(tenant, "row", "payload", b"an edited subject")
    assert house.vault().open(tenant, "row", "payload", sealed) == b"an edited subject"
    for place in ((other, "row", "payload"), (tenant, "another", "payload"), (tenant, "row", "credentials")):
        with pytest.raises(CannotOpen):
            vault.open(*place, sealed)
    with pytest.raises(NotFound):
        vault.seal("f" * 32, "row", "payload", b"x")


def test_a_secret_is_sealed_while_the_caller_writes(house: House) -> None:
    vault = house.vault()
    with house.store.transaction() as tx:
        tx.set_connection_state(house.mine.id, "suspended", "", house.sign_in.now())
        assert vault.seal(house.tenants[0], "row", "payload", b"x")


def test_a_new_tenant_gets_a_data_key_of_its_own(house: House) -> None:
    vault = house.vault()
    made = add_tenant(house.store, house.sign_in, "east", vault.new_data_key())
    sealed = vault.seal(made, "row", "payload", b"x")
    assert house.vault().open(made, "row", "payload", sealed) == b"x"
    assert vault.new_data_key() != vault.new_data_key()


def test_keyed_hashes_agree_between_processes_and_not_between_tenants(house: House) -> None:
    here, there = (house.vault().keyed_hash(house.tenants[0], "mara.lind@example.com") for _ in range(2))
    assert here == there != house.vault().keyed_hash(house.tenants[1], "mara.lind@example.com")


def test_no_secret_is_logged_shown_or_stored_in_clear(house: House, everything_logged: Callable[[], str]) -> None:
    assertion = house.sign_in.token()
    logging.getLogger("msal.token_cache").debug("planted-canary")
    vault = house.vault()
    vault.adopt(house.mine, assertion, MAIL_SCOPES)
    secrets = {"assertion": assertion, "client secret": house.sign_in.world.client_secret, "kek": KEK.hex()}
    secrets["first token"] = vault.access_token(house.mine.id, MAIL_SCOPES)
    house.sign_in.world.clock_skew = timedelta(hours=2)
    secrets["second token"] = vault.access_token(house.mine.id, MAIL_SCOPES)
    secrets["refresh token"] = vault._credentials(house.read(house.mine)).refresh_token
    shown = [repr(vault), repr(vars(vault)), repr(house.read(house.mine)), repr(vault._credentials(house.read(house.mine)))]
    for fault in ("garbage", "acted_drop"):
        house.sign_in.world.clock_skew += timedelta(hours=2)
        house.sign_in.world.faults.append(Fault("identity", fault, match="/token"))
        with pytest.raises(Transient) as failed:
            vault.access_token(house.mine.id, MAIL_SCOPES)
        shown.append(repr(failed.getrepr(style="long", showlocals=False, chain=True)))
    house.sign_in.provider.revoke(house.sign_in.person)
    with pytest.raises(NeedsReauth) as refused:
        vault.access_token(house.mine.id, MAIL_SCOPES)
    shown.append(str(refused.getrepr(chain=True)))
    stored = b"".join(file.read_bytes() for file in house.database.file.parent.glob(house.database.file.name + "*"))
    logged = everything_logged()
    assert "planted-canary" in logged
    assert "connection needs reauth" in logged
    assert house.mine.id.encode() in stored
    for name, secret in secrets.items():
        assert secret not in logged, name
        assert secret not in "".join(shown), name
        assert secret.encode() not in stored, name
