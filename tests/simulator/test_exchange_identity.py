"""The simulated Exchange gives identity tokens that can be checked as the vendor's documentation says."""

import base64
import json
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding
from flask.testing import FlaskClient

from simulator import demo, ews
from simulator.ews.identity import PATH, ExchangeIdentity, mailbox_guid
from simulator.inbox import create_app
from simulator.ports import Simulator
from simulator.serving import Port
from simulator.world import Fault, Person, World
from tests.simulator.holder import Holder

PANE = "https://sidebar.example.com/sidebar"


@dataclass
class Server:
    """A running server and its back door."""

    identity: ExchangeIdentity
    port: Port


@pytest.fixture(scope="module")
def server(holder: Holder) -> Iterator[Server]:
    identity = ExchangeIdentity(lambda: holder.world, public_url=lambda: port.url)
    with Port(ews.create_app(lambda: holder.world, identity=identity)) as port:
        yield Server(identity, port)


@pytest.fixture
def world(holder: Holder) -> World:
    holder.world = demo.small()
    holder.world.people[0].access_type = "exchange_direct"
    return holder.world


@pytest.fixture
def anybody(server: Server, world: World) -> Iterator[httpx.Client]:
    with closing(httpx.Client(base_url=server.port.url, timeout=5)) as client:
        yield client


def parts(token: str) -> tuple[dict[str, Any], dict[str, Any]]:
    head, body, _ = (base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)) for part in token.split("."))
    return json.loads(head), json.loads(body)


def check(token: str, document: dict[str, Any]) -> x509.Certificate:
    """Do what the page "Validate an Exchange identity token" says of the signature. Raises: InvalidSignature, StopIteration."""
    x5t = parts(token)[0]["x5t"]
    entry = next(key for key in document["keys"] if key["keyinfo"]["x5t"] == x5t)
    assert (entry["usage"], entry["keyvalue"]["type"]) == ("signing", "x509Certificate")
    certificate = x509.load_der_x509_certificate(base64.b64decode(entry["keyvalue"]["value"]))
    digest = base64.urlsafe_b64encode(certificate.fingerprint(hashes.SHA1())).rstrip(b"=").decode()
    assert digest == x5t
    signed, _, signature = token.rpartition(".")
    raw = base64.urlsafe_b64decode(signature + "=" * (-len(signature) % 4))
    certificate.public_key().verify(raw, signed.encode(), padding.PKCS1v15(), hashes.SHA256())  # type: ignore[union-attr,call-arg]
    return certificate


def test_the_document_is_there_for_everybody_and_has_the_vendors_shape(anybody: httpx.Client, server: Server) -> None:
    answer = anybody.get(PATH)
    document = answer.json()
    assert answer.status_code == 200
    assert (document["version"], document["name"], document["realm"]) == ("1.0", "Exchange", "*")
    assert document["issuer"] == f"{document['serviceName']}@*" == document["allowedAudiences"][0]
    assert document["endpoints"] == [{"location": server.port.url + PATH, "protocol": "OAuth2", "usage": "metadata"}]
    assert anybody.post(PATH).status_code == 405


def test_a_token_says_who_it_is_and_where_its_certificate_is(anybody: httpx.Client, server: Server, world: World) -> None:
    me, other = world.people[:2]
    server.identity.rotate()  # the one before may be of another World, and of its time
    token = server.identity.mint_identity_token(world, me, PANE)
    header, claims = parts(token)
    assert {**header, "x5t": ""} == {"alg": "RS256", "typ": "JWT", "x5t": ""}
    assert (claims["aud"], claims["isbrowserhostedapp"]) == (PANE, "true")
    assert claims["iss"] == claims["appctxsender"]
    assert claims["exp"] - claims["nbf"] == 8 * 3600
    context = json.loads(claims["appctx"])
    assert context == {"msexchuid": mailbox_guid(me), "version": "ExIdTok.V1", "amurl": server.port.url + PATH}
    assert mailbox_guid(me) != mailbox_guid(other)
    certificate = check(token, anybody.get(context["amurl"]).json())
    assert certificate.not_valid_before_utc < world.now() < certificate.not_valid_after_utc


def test_what_a_test_wants_otherwise_is_otherwise(server: Server, world: World) -> None:
    me = world.people[0]
    claims = parts(server.identity.mint_identity_token(world, me, PANE, exp=7, msexchuid="x", version=None, nbf=None))[1]
    assert (claims["exp"], claims.get("nbf")) == (7, None)
    assert json.loads(claims["appctx"]) == {"msexchuid": "x", "amurl": server.port.url + PATH}
    assert parts(server.identity.mint_identity_token(world, me, PANE, appctx={"a": 1}))[1]["appctx"] == {"a": 1}


def test_tokens_and_certificates_are_of_the_worlds_time(server: Server, world: World) -> None:
    world.clock_skew = timedelta(days=100)
    server.identity.rotate(timedelta(days=1))
    claims = parts(server.identity.mint_identity_token(world, world.people[0], PANE))[1]
    assert abs(claims["nbf"] - world.now().timestamp()) < 60
    certificate = server.identity.signer[1]
    assert timedelta(hours=23) < certificate.not_valid_after_utc - world.now() <= timedelta(days=1)


def test_after_a_rotation_the_certificate_before_is_published_until_the_next(
    anybody: httpx.Client, server: Server, world: World
) -> None:
    first = server.identity.mint_identity_token(world, world.people[0], PANE)
    x5t = server.identity.rotate()
    second = server.identity.mint_identity_token(world, world.people[0], PANE)
    assert parts(second)[0]["x5t"] == x5t
    document = anybody.get(PATH).json()
    check(first, document)
    check(second, document)
    server.identity.rotate()
    document = anybody.get(PATH).json()
    check(second, document)
    with pytest.raises(StopIteration):
        check(first, document)
    with pytest.raises(InvalidSignature):
        check(f"{second.rpartition('.')[0]}.{first.rpartition('.')[2]}", document)


def test_with_a_folder_tokens_outlive_a_restart(world: World, tmp_path: Path) -> None:
    def started() -> ExchangeIdentity:
        return ExchangeIdentity(lambda: world, public_url=lambda: "https://mail.aldermill.example", state_dir=tmp_path)

    token = started().mint_identity_token(world, world.people[0], PANE)
    check(token, started().metadata())
    (file,) = tmp_path.iterdir()
    assert file.stat().st_mode & 0o077 == 0


def test_a_server_that_is_away_publishes_nothing(anybody: httpx.Client, world: World) -> None:
    world.faults.append(Fault("exchange", "status", match=PATH))
    assert anybody.get(PATH).status_code == 503
    assert anybody.get(PATH).status_code == 200
    assert [request.path for request in world.requests("exchange")] == [PATH, PATH]


# What Office.js asks for


def minted(person: Person, url: str) -> str:
    return f"{person.email} at {url}"


@pytest.fixture
def office(world: World) -> FlaskClient:
    app = create_app(lambda: world, sidebar_url=lambda: PANE, mint_token=lambda _person: "", mint_identity_token=minted)
    return app.test_client()


def test_the_page_of_an_exchange_server_gets_a_token_for_the_pane(office: FlaskClient, world: World) -> None:
    me = world.people[0]
    answer = office.post("/api/identity-token", json={"mailbox": me.email, "url": PANE})
    assert answer.get_json() == {"token": minted(me, PANE)}
    assert office.post("/api/identity-token", json={"mailbox": "nobody@example.com", "url": PANE}).status_code == 404


def test_microsoft_365_gives_none_any_more(office: FlaskClient, world: World) -> None:
    someone = next(person for person in world.people if person.access_type == "office365")
    answer = office.post("/api/identity-token", json={"mailbox": someone.email, "url": PANE})
    assert (answer.status_code, list(answer.get_json())) == (403, ["error"])


def test_the_simulators_ports_fit_each_other(tmp_path: Path) -> None:
    world = demo.small()
    me = world.people[0]
    me.access_type = "exchange_impersonation"
    with Simulator(world, tmp_path, sidebar_url="http://127.0.0.1:9/sidebar") as simulator:
        asked = {"mailbox": me.email, "url": simulator.sidebar_url}
        token = httpx.post(f"{simulator.inbox.url}/api/identity-token", json=asked, trust_env=False).json()["token"]
        document = simulator.provisioning()
        (host,) = document["environment"]["SSI_EXCHANGE_METADATA_HOSTS"].split()
        amurl = json.loads(parts(token)[1]["appctx"])["amurl"]
        assert amurl == f"https://{host}{PATH}"
        assert f"exchange:{host}" in document["tenant"]["identity_tenants"]
        check(token, simulator.exchange_identity.metadata())
