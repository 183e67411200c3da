"""What the vendors' ports tell those who set up the product and those who try it out."""

import ssl
from collections.abc import Iterator

import httpx
import jwt
import pytest

from simulator import demo
from simulator.c4c.odata import SERVICE
from simulator.google.identity import subject
from simulator.ports import Simulator
from simulator.world import CONSUMERS, World


@pytest.fixture(scope="module")
def simulator(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Simulator]:
    with Simulator(demo.small(newcomers=True), tmp_path_factory.mktemp("vendors")) as simulator:
        demo.rehome(simulator.world, simulator.world.people[0], "google")
        yield simulator


@pytest.fixture
def world(simulator: Simulator) -> World:
    return simulator.world


def test_a_newcomer_is_provisioned_without_identity_and_mailbox(simulator: Simulator, world: World) -> None:
    document = simulator.provisioning()
    newcomers = [p for p in world.people if not p.connected]
    users = {user["email"]: user for user in document["users"]}
    assert [users[p.email] for p in newcomers] == [
        {"organization": "Newcomers", "email": p.email, "name": p.name, "c4c_user_id": p.user_id} for p in newcomers
    ]
    assert {o["name"]: o["access_type"] for o in document["organizations"]} == {
        "Sales": "office365",
        "Sales, Google": "google",
        "Newcomers": "user_choice",
    }
    assert users[world.people[0].email]["identity"] == {"tenant": demo.OWN_DOMAIN, "subject": subject(world.people[0])}


def test_the_tenant_admits_company_consumers_and_workspace_and_names_its_own_sign_in(simulator: Simulator, world: World) -> None:
    tenant = simulator.provisioning()["tenant"]
    exchange = simulator.ews.url.replace("https://", "exchange:")
    assert sorted(tenant["identity_tenants"]) == sorted([world.entra_tenant, CONSUMERS, demo.OWN_DOMAIN, exchange])
    assert tenant["c4c"]["oidc"] == {
        "issuer": simulator.identity.url + "/c4c",
        "client_id": world.client_id,
        "user_claim": "sub",
    }
    assert tenant["secrets"]["oidc_client_secret"] == world.client_secret


def test_the_facts_keep_newcomers_apart_and_tell_everybodys_c4c_password(simulator: Simulator, world: World) -> None:
    facts = simulator.facts()
    people = {p.email: p for p in world.people}
    assert [u["email"] for u in facts["users"]] == [p.email for p in world.people if p.provisioned and p.connected]
    assert [(n["email"], n["access_type"]) for n in facts["newcomers"]] == [
        (p.email, p.access_type) for p in world.people if not p.connected
    ]
    for entry in (*facts["users"], *facts["newcomers"]):
        person = people[entry["email"]]
        assert entry["c4c"] == {"user": person.user_id, "password": person.password}
    exchange = next(n for n in facts["newcomers"] if n["access_type"] == "exchange_direct")
    assert exchange["mailbox"] == {"user": exchange["email"], "password": people[exchange["email"]].password}


def test_a_newcomer_signs_in_to_c4c_and_their_mailbox_answers_at_its_provider(simulator: Simulator) -> None:
    facts = simulator.facts()
    with httpx.Client(verify=ssl.create_default_context(cafile=simulator.ca_file), timeout=5, trust_env=False) as http:
        for newcomer in facts["newcomers"]:
            login = (newcomer["c4c"]["user"], newcomer["c4c"]["password"])
            assert http.get(simulator.c4c.url + SERVICE + "IdentityGetLoggedInUserInfo", auth=login).status_code == 200
            bearer = {"Authorization": f"Bearer {newcomer['mailbox'].get('bearer')}"}
            match newcomer["access_type"]:
                case "office365":
                    assert http.get(simulator.graph.url + "/v1.0/me", headers=bearer).json()["mail"] == newcomer["email"]
                case "google":
                    profile = http.get(simulator.google.url + "/gmail/v1/users/me/profile", headers=bearer).json()
                    assert profile["emailAddress"] == newcomer["email"]


def test_the_inbox_shows_newcomers_and_gives_them_tokens_of_their_own_tenant(simulator: Simulator, world: World) -> None:
    consumer = world.people[-1]
    with httpx.Client(base_url=simulator.inbox.url, timeout=5, trust_env=False) as inbox:
        shown = {box["address"] for box in inbox.get("/api/config").json()["mailboxes"]}
        assert {p.email for p in world.people if not p.connected} <= shown
        token = inbox.post("/api/token", json={"mailbox": consumer.email}).json()["token"]
    claims = jwt.decode(token, options={"verify_signature": False})
    assert (claims["tid"], claims["oid"]) == (CONSUMERS, consumer.object_id)
    assert claims["iss"] == f"{simulator.identity.url}/{CONSUMERS}/v2.0"


def test_the_back_door_lets_things_happen_to_a_person_at_their_provider(simulator: Simulator, world: World) -> None:
    person = next(p for p in world.people if p.access_type == "exchange_direct")
    turn, before = f"/world/people/{person.email}/password", person.password
    with httpx.Client(base_url=simulator.inbox.url, timeout=5, trust_env=False) as inbox:
        assert inbox.post(turn, json={"value": "Another-1!"}).status_code == 204
        assert person.password == "Another-1!"
        inbox.post(turn, json={"value": before})
        assert inbox.post(f"/world/people/{person.email}/unheard-of", json={}).status_code == 404
        assert inbox.post("/world/people/nobody@example.com/password", json={}).status_code == 404


def test_a_newcomer_on_the_companys_own_exchange_has_no_account_elsewhere(simulator: Simulator, world: World) -> None:
    person = next(p for p in world.people if p.access_type == "exchange_direct")
    with httpx.Client(base_url=simulator.inbox.url, timeout=5, trust_env=False) as inbox:
        assert inbox.post("/api/token", json={"mailbox": person.email}).status_code == 403
        assert inbox.post("/api/identity-token", json={"mailbox": person.email, "url": "https://x.example/"}).status_code == 200
