"""On-behalf-of and refresh through msal against the simulator over TLS, and what each refusal means to us."""

from datetime import timedelta

import jwt
import pytest

from server.auth.oauth import Entra
from server.errors import NeedsReauth, RateLimited, Rejected, Transient
from simulator.world import Fault
from tests.auth.sign_in import GRAPH, MAIL_SCOPES, READ_SCOPES, SignIn


def test_a_persons_token_buys_lasting_access_to_their_mailbox(sign_in: SignIn) -> None:
    tokens = sign_in.entra().on_behalf_of(sign_in.token(), sign_in.world.entra_tenant, MAIL_SCOPES)
    grant = sign_in.provider.graph_grant(tokens.access_token)
    assert grant is not None
    assert (grant.person, grant.scopes) == (sign_in.person, {"Mail.ReadWrite", "MailboxSettings.ReadWrite"})
    assert tokens.refresh_token
    assert tokens.scopes >= set(MAIL_SCOPES)
    assert timedelta(minutes=59) < tokens.expires_at - sign_in.now() <= timedelta(hours=1)


def test_a_refresh_token_buys_the_next_one(sign_in: SignIn) -> None:
    entra, tenant = sign_in.entra(), sign_in.world.entra_tenant
    first = entra.on_behalf_of(sign_in.token(), tenant, MAIL_SCOPES)
    assert first.refresh_token
    second = entra.refresh(first.refresh_token, tenant, READ_SCOPES)
    assert second.refresh_token not in (None, first.refresh_token)
    grant = sign_in.provider.graph_grant(second.access_token)
    assert grant is not None
    assert (grant.person, grant.scopes) == (sign_in.person, {"User.Read"})


def test_two_people_get_their_own_tokens_from_one_entra(sign_in: SignIn) -> None:
    entra, tenant = sign_in.entra(), sign_in.world.entra_tenant
    for person in (sign_in.person, sign_in.other_person, sign_in.person):
        tokens = entra.on_behalf_of(sign_in.token(person), tenant, MAIL_SCOPES)
        assert sign_in.provider.verify_graph_token(tokens.access_token) == person
        assert tokens.refresh_token
        refreshed = entra.refresh(tokens.refresh_token, tenant, MAIL_SCOPES)
        assert sign_in.provider.verify_graph_token(refreshed.access_token) == person


def test_metadata_is_fetched_once_a_day(sign_in: SignIn) -> None:
    entra, tenant = sign_in.entra(), sign_in.world.entra_tenant
    for _ in range(3):
        entra.on_behalf_of(sign_in.token(), tenant, MAIL_SCOPES)
    assert len(sign_in.world.requests("identity")) == 1 + 3
    sign_in.world.clock_skew = timedelta(hours=25)
    entra.on_behalf_of(sign_in.token(), tenant, MAIL_SCOPES)
    assert len(sign_in.world.requests("identity")) == 1 + 3 + 2


def test_missing_consent_is_a_matter_for_the_person_and_given_consent_works_at_once(sign_in: SignIn) -> None:
    entra, assertion, tenant = sign_in.entra(), sign_in.token(), sign_in.world.entra_tenant
    sign_in.provider.withdraw_consent(sign_in.person)
    with pytest.raises(NeedsReauth, match="consent"):
        entra.on_behalf_of(assertion, tenant, MAIL_SCOPES)
    sign_in.provider.give_consent(sign_in.person)
    assert entra.on_behalf_of(assertion, tenant, MAIL_SCOPES).refresh_token


def test_a_claims_challenge_is_kept_for_the_next_sign_in(sign_in: SignIn) -> None:
    challenge = '{"access_token":{"acrs":{"essential":true,"value":"c1"}}}'
    sign_in.provider.require_claims(sign_in.person, challenge)
    with pytest.raises(NeedsReauth, match="another step") as asked:
        sign_in.entra().on_behalf_of(sign_in.token(), sign_in.world.entra_tenant, MAIL_SCOPES)
    assert asked.value.claims == challenge


def test_assertions_that_are_not_for_us_buy_nothing(sign_in: SignIn) -> None:
    world, provider, tenant = sign_in.world, sign_in.provider, sign_in.world.entra_tenant
    graph_token = provider.mint_graph_token(world, sign_in.person)
    for assertion in (
        provider.mint_api_token(world, sign_in.person, aud="another"),
        provider.mint_id_token(world, sign_in.person),
        provider.mint_api_token(world, sign_in.person, lifetime_s=-1),
        graph_token,
        jwt.encode(jwt.decode(sign_in.token(), options={"verify_signature": False}), "k" * 32, algorithm="HS256"),
        "nonsense",
    ):
        with pytest.raises(NeedsReauth):
            sign_in.entra().on_behalf_of(assertion, tenant, MAIL_SCOPES)
    assert world.events("identity", "token") == []


def test_a_revoked_or_disabled_person_must_sign_in(sign_in: SignIn) -> None:
    entra, tenant, assertion = sign_in.entra(), sign_in.world.entra_tenant, sign_in.token()
    tokens = entra.on_behalf_of(assertion, tenant, MAIL_SCOPES)
    assert tokens.refresh_token
    sign_in.provider.revoke(sign_in.person)
    with pytest.raises(NeedsReauth, match="revoked"):
        entra.refresh(tokens.refresh_token, tenant, MAIL_SCOPES)
    with pytest.raises(NeedsReauth, match="revoked"):
        entra.on_behalf_of(assertion, tenant, MAIL_SCOPES)
    assert sign_in.provider.verify_graph_token(tokens.access_token) is None
    assert entra.on_behalf_of(sign_in.token(), tenant, MAIL_SCOPES).refresh_token
    sign_in.provider.disable(sign_in.person)
    with pytest.raises(NeedsReauth, match="disabled"):
        entra.on_behalf_of(sign_in.token(), tenant, MAIL_SCOPES)


def test_one_revoked_refresh_token_says_nothing_of_the_others(sign_in: SignIn) -> None:
    entra, tenant = sign_in.entra(), sign_in.world.entra_tenant
    one = entra.on_behalf_of(sign_in.token(), tenant, MAIL_SCOPES).refresh_token
    two = entra.on_behalf_of(sign_in.token(), tenant, MAIL_SCOPES).refresh_token
    assert one
    assert two
    sign_in.provider.revoke_refresh_token(one)
    with pytest.raises(NeedsReauth):
        entra.refresh(one, tenant, MAIL_SCOPES)
    assert entra.refresh(two, tenant, MAIL_SCOPES).access_token


def test_a_refresh_token_unused_for_too_long_is_a_matter_for_the_person(sign_in: SignIn) -> None:
    entra, tenant = sign_in.entra(), sign_in.world.entra_tenant
    tokens = entra.on_behalf_of(sign_in.token(), tenant, MAIL_SCOPES)
    assert tokens.refresh_token
    sign_in.world.clock_skew = timedelta(days=91)
    with pytest.raises(NeedsReauth, match="too long"):
        entra.refresh(tokens.refresh_token, tenant, MAIL_SCOPES)


@pytest.mark.parametrize("kind", ["status", "drop", "acted_drop", "html", "garbage"])
@pytest.mark.parametrize("path", ["/token", "/.well-known"])
def test_trouble_on_the_way_is_transient_and_a_repetition_succeeds(sign_in: SignIn, kind: str, path: str) -> None:
    entra, tenant, assertion = sign_in.entra(), sign_in.world.entra_tenant, sign_in.token()
    sign_in.world.faults.append(Fault("identity", kind, match=path))
    with pytest.raises(Transient):
        entra.on_behalf_of(assertion, tenant, MAIL_SCOPES)
    tokens = entra.on_behalf_of(assertion, tenant, MAIL_SCOPES)
    assert tokens.refresh_token
    sign_in.world.faults.append(Fault("identity", kind, match="/token"))
    with pytest.raises(Transient):
        entra.refresh(tokens.refresh_token, tenant, MAIL_SCOPES)
    assert entra.refresh(tokens.refresh_token, tenant, MAIL_SCOPES).access_token


def test_a_pause_is_told_with_its_length(sign_in: SignIn) -> None:
    sign_in.world.faults.append(Fault("identity", "status", match="/token", status=429, retry_after_s=17))
    with pytest.raises(RateLimited) as told:
        sign_in.entra().on_behalf_of(sign_in.token(), sign_in.world.entra_tenant, MAIL_SCOPES)
    assert told.value.retry_after_s == 17


def test_nobody_listening_is_transient(sign_in: SignIn) -> None:
    entra = Entra("https://localhost:9", sign_in.world.client_id, "secret", sign_in.gateway, sign_in.now)
    with pytest.raises(Transient):
        entra.on_behalf_of(sign_in.token(), sign_in.world.entra_tenant, MAIL_SCOPES)


def test_our_own_wrong_secret_is_not_blamed_on_the_person(sign_in: SignIn) -> None:
    entra = Entra(sign_in.url, sign_in.world.client_id, "old secret", sign_in.gateway, sign_in.now)
    with pytest.raises(Transient, match="administrator"):
        entra.on_behalf_of(sign_in.token(), sign_in.world.entra_tenant, MAIL_SCOPES)


@pytest.mark.parametrize(
    ("tenant", "scope"), [("c0ffee00-1111-4222-8333-444455556666", f"{GRAPH}/Mail.Read"), (None, f"{GRAPH}/Mail.Everything")]
)
def test_a_request_that_can_never_work_is_rejected(sign_in: SignIn, tenant: str | None, scope: str) -> None:
    with pytest.raises(Rejected):
        sign_in.entra().on_behalf_of(sign_in.token(), tenant or sign_in.world.entra_tenant, [scope])


def test_tokens_show_nothing_of_themselves(sign_in: SignIn) -> None:
    entra = sign_in.entra()
    tokens = entra.on_behalf_of(sign_in.token(), sign_in.world.entra_tenant, MAIL_SCOPES)
    shown = repr(tokens) + str(tokens) + repr(entra)
    for secret in (tokens.access_token, tokens.refresh_token, sign_in.world.client_secret):
        assert secret
        assert secret not in shown
