"""Identity tokens of Exchange servers: good ones pass, forged ones do not, and no server is asked that is not listed."""

import base64
import hashlib
import hmac
import json
import socket
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from functools import cache
from typing import Any

import jwt
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from flask import Flask, Response
from jwt.algorithms import RSAAlgorithm

from server.auth.exchange_identity import ExchangeIssuer
from server.auth.identity import Verifier
from server.errors import InvalidInput, NeedsReauth, Transient
from server.transport import Gateway
from simulator import ews
from simulator.ews.identity import PATH, ExchangeIdentity, mailbox_guid, published, thumbprint
from simulator.openid import b64url
from simulator.serving import Port
from simulator.world import Fault, World
from tests.auth.sign_in import Line, SignIn
from tests.figures import Count

PANE = "https://sidebar.example.com/sidebar"


@dataclass
class Exchange:
    """A server that gives identity tokens, and whoever forges them. A trap listens where no token may lead us."""

    sign_in: SignIn
    identity: ExchangeIdentity
    url: str
    trap: int  # its port
    others: list[str] = field(default_factory=list)  # hosts that are listed, too

    @property
    def host(self) -> str:
        return self.url.removeprefix("https://")

    @property
    def elsewhere(self) -> str:
        return f"localhost:{self.trap}"

    def verifier(self, gateway: Gateway | None = None) -> Verifier:
        gateway = gateway or self.sign_in.gateway
        hosts, audience = [self.host, *self.others], frozenset({PANE})
        return Verifier([ExchangeIssuer(gateway, host=host, audience=audience) for host in hosts], self.sign_in.now)

    def claims(self, **changes: Any) -> dict[str, Any]:
        return self.identity.claims(self.sign_in.world, self.sign_in.person, PANE, **changes)

    def context(self, **changes: Any) -> dict[str, Any]:
        return dict(json.loads(self.claims()["appctx"])) | changes

    def token(self, **changes: Any) -> str:
        """Signed by the real key, whatever it says; None removes a claim or a member of appctx."""
        return self.signed(self.claims(**changes))

    def headed(self, **header: Any) -> str:
        return self.signed(self.claims(), **header)

    def signed(self, claims: dict[str, Any], key: Any = None, algorithm: str = "RS256", **header: Any) -> str:
        header = {"x5t": self.x5t} | header
        named = {name: value for name, value in header.items() if value is not None}
        return jwt.PyJWS().encode(json.dumps(claims).encode(), key or self.key, algorithm=algorithm, headers=named)

    def by_attacker(self, **header: Any) -> str:
        return self.signed(self.claims(), attacker(), **header)

    def at(self, amurl: Any) -> str:
        return self.token(amurl=amurl)

    @property
    def key(self) -> rsa.RSAPrivateKey:
        return self.identity.signer[0]

    @property
    def certificate(self) -> x509.Certificate:
        return self.identity.signer[1]

    @property
    def x5t(self) -> str:
        return thumbprint(self.certificate)

    def later(self, seconds: float) -> int:
        return int(self.sign_in.now().timestamp() + seconds)

    def fetched(self) -> int:
        return sum(request.path == PATH for request in self.sign_in.world.requests("exchange"))


@cache
def attacker() -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(public_exponent=65537, key_size=2048)


@contextmanager
def served(line: Line) -> Iterator[tuple[ExchangeIdentity, Port]]:
    identity = ExchangeIdentity(lambda: line.world, public_url=lambda: port.url)
    with Port(ews.create_app(lambda: line.world, identity=identity), tls=line.tls) as port:
        yield identity, port


@pytest.fixture(scope="module")
def _server(line: Line) -> Iterator[tuple[ExchangeIdentity, Port]]:
    line.world = World()
    with served(line) as (identity, port):
        identity.rotate()
        identity.rotate()  # so that two certificates are published
        yield identity, port


@pytest.fixture
def exchange(_server: tuple[ExchangeIdentity, Port], sign_in: SignIn) -> Iterator[Exchange]:
    identity, port = _server
    with closing(socket.create_server(("127.0.0.1", 0))) as trap:
        trap.setblocking(False)
        yield Exchange(sign_in, identity, port.url, trap.getsockname()[1])
        with pytest.raises(BlockingIOError):  # nobody came
            trap.accept()


@pytest.fixture
def another(line: Line, sign_in: SignIn) -> Iterator[Exchange]:
    """A server whose certificates may be changed."""
    with served(line) as (identity, port):
        yield Exchange(sign_in, identity, port.url, 0)


def mac(x: Exchange, secret: bytes) -> str:
    """The HMAC that a library would accept which takes what is published for a secret."""
    text = (
        f"{b64url(json.dumps({'alg': 'HS256', 'typ': 'JWT', 'x5t': x.x5t}).encode())}.{b64url(json.dumps(x.claims()).encode())}"
    )
    return f"{text}.{b64url(hmac.digest(secret, text.encode(), hashlib.sha256))}"


def der(x: Exchange) -> bytes:
    return x.certificate.public_bytes(serialization.Encoding.DER)


def certificate_of(public: Any, x: Exchange) -> x509.Certificate:
    name, now = x.certificate.subject, x.sign_in.now()
    builder = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(public)
    builder = builder.serial_number(x509.random_serial_number()).not_valid_before(now - timedelta(days=1))
    return builder.not_valid_after(now + timedelta(days=1)).sign(attacker(), hashes.SHA256())


def embedded(x: Exchange) -> str:
    return base64.b64encode(certificate_of(attacker().public_key(), x).public_bytes(serialization.Encoding.DER)).decode()


def changed_after_signing(x: Exchange) -> str:
    head, _, signature = x.token().split(".")
    return f"{head}.{b64url(json.dumps(x.claims(msexchuid=mailbox_guid(x.sign_in.other_person))).encode())}.{signature}"


FORGERIES: dict[str, Callable[[Exchange], str]] = {
    # the signature
    "alg none": lambda x: jwt.encode(x.claims(), None, algorithm="none", headers={"x5t": x.x5t}),
    "HS256 by the certificate": lambda x: mac(x, der(x)),
    "HS256 by the certificate as it is published": lambda x: mac(x, base64.b64encode(der(x))),
    "HS256 by the certificate as PEM": lambda x: mac(x, x.certificate.public_bytes(serialization.Encoding.PEM)),
    "HS256 by another secret": lambda x: x.signed(x.claims(), b"0123456789abcdef0123456789abcdef", "HS256"),
    "RS512 by the real key": lambda x: x.signed(x.claims(), algorithm="RS512"),
    "PS256 by the real key": lambda x: x.signed(x.claims(), algorithm="PS256"),
    "another key under the real x5t": lambda x: x.by_attacker(),
    "signature left out": lambda x: x.token().rsplit(".", 1)[0] + ".",
    "claims changed after signing": changed_after_signing,
    "token of Entra": lambda x: x.sign_in.token(),
    "token of Entra that says what Exchange's says": lambda x: x.sign_in.provider.entra.ring.sign(x.claims(), {"x5t": x.x5t}),
    "token of Google": lambda x: x.sign_in.google_provider.mint_id_token(x.sign_in.world, x.sign_in.person),
    # the header
    "jwk embedded": lambda x: x.by_attacker(jwk=RSAAlgorithm.to_jwk(attacker().public_key(), as_dict=True)),
    "x5c embedded": lambda x: x.by_attacker(x5c=[embedded(x)]),
    "x5u to another server": lambda x: x.by_attacker(x5u=f"https://{x.elsewhere}/certificate"),
    "x5u beside a good signature": lambda x: x.headed(x5u=f"https://{x.elsewhere}/certificate"),
    "jku to another server": lambda x: x.by_attacker(jku=f"https://{x.elsewhere}{PATH}"),
    "x5t of the certificate before": lambda x: x.headed(x5t=x.identity.metadata()["keys"][0]["keyinfo"]["x5t"]),
    "x5t of the attacker's certificate": lambda x: x.by_attacker(x5t=thumbprint(certificate_of(attacker().public_key(), x))),
    "x5t unknown": lambda x: x.headed(x5t="Un6V7lYN-rMgaCoFSTO5z707X-4"),
    "x5t with padding": lambda x: x.headed(x5t=x.x5t + "="),
    "x5t in hexadecimal": lambda x: x.headed(x5t=x.certificate.fingerprint(hashes.SHA1()).hex()),
    "x5t by SHA-256": lambda x: x.headed(x5t=b64url(x.certificate.fingerprint(hashes.SHA256()))),
    "x5t missing": lambda x: x.headed(x5t=None),
    "x5t missing, kid in its place": lambda x: x.headed(x5t=None, kid=x.x5t),
    "x5t empty": lambda x: x.headed(x5t=""),
    "x5t a list": lambda x: x.headed(x5t=[x.x5t]),
    "typ of an access token": lambda x: x.headed(typ="at+jwt"),
    # where the certificates are
    "amurl of a server not listed": lambda x: x.at(f"https://{x.elsewhere}{PATH}"),
    "amurl with the listed host as user": lambda x: x.at(f"https://{x.host}@{x.elsewhere}{PATH}"),
    "amurl with a user": lambda x: x.at(f"https://user@{x.host}{PATH}"),
    "amurl with the listed host behind a backslash": lambda x: x.at(f"https://{x.elsewhere}\\@{x.host}{PATH}"),
    "amurl with another path": lambda x: x.at(f"https://{x.host}/autodiscover/metadata/json/2"),
    "amurl with a path that goes back": lambda x: x.at(f"https://{x.host}/owa/..{PATH}"),
    "amurl with a slash more": lambda x: x.at(f"https://{x.host}/{PATH}"),
    "amurl with a slash at the end": lambda x: x.at(f"https://{x.host}{PATH}/"),
    "amurl with a query": lambda x: x.at(f"https://{x.host}{PATH}?to=https://{x.elsewhere}"),
    "amurl with a fragment": lambda x: x.at(f"https://{x.host}{PATH}#"),
    "amurl with another port": lambda x: x.at(f"https://localhost:443{PATH}"),
    "amurl without the port": lambda x: x.at(f"https://localhost{PATH}"),
    "amurl with a zero before the port": lambda x: x.at(f"https://{x.host.replace(':', ':0')}{PATH}"),
    "amurl over http": lambda x: x.at(f"http://{x.host}{PATH}"),
    "amurl without a scheme": lambda x: x.at(f"//{x.host}{PATH}"),
    "amurl of a file": lambda x: x.at("file:///etc/passwd"),
    "amurl in capitals": lambda x: x.at(f"https://{x.host.upper()}{PATH}"),
    "amurl with a long s": lambda x: x.at(f"https://{x.host.replace('s', 'ſ')}{PATH}"),
    "amurl with a wide letter": lambda x: x.at(f"https://{x.host.replace('l', 'ｌ')}{PATH}"),
    "amurl with an invisible letter": lambda x: x.at(f"https://{x.host.replace('l', chr(0x200B) + 'l')}{PATH}"),
    "amurl with a dot at the end of the host": lambda x: x.at(f"https://{x.host.replace(':', '.:')}{PATH}"),
    "amurl of a host that begins alike": lambda x: x.at(f"https://{x.host}.example.net{PATH}"),
    "amurl of the same server by number": lambda x: x.at(f"https://{x.host.replace('localhost', '127.0.0.1')}{PATH}"),
    "amurl with a space before": lambda x: x.at(f" https://{x.host}{PATH}"),
    "amurl with a line break": lambda x: x.at(f"https://{x.host}{PATH}\n"),
    "amurl with a tab": lambda x: x.at(f"https://\t{x.host}{PATH}"),
    "amurl a list": lambda x: x.at([f"https://{x.host}{PATH}"]),
    "amurl missing": lambda x: x.at(None),
    "amurl beside appctx": lambda x: x.signed(x.claims(amurl=None) | {"amurl": x.identity.metadata_url}),
    # what the token is for
    "aud of another add-in": lambda x: x.token(aud="https://other.example.com/pane.html"),
    "aud another page of ours": lambda x: x.token(aud=f"{PANE}/more"),
    "aud with a query": lambda x: x.token(aud=f"{PANE}?et="),
    "aud in capitals": lambda x: x.token(aud=PANE.upper()),
    "aud over http": lambda x: x.token(aud=PANE.replace("https", "http")),
    "aud a list with ours": lambda x: x.token(aud=[PANE, "https://other.example.com/"]),
    "aud empty": lambda x: x.token(aud=""),
    "aud missing": lambda x: x.token(aud=None),
    "version of another kind": lambda x: x.token(version="ExCallback.V1"),
    "version 2": lambda x: x.token(version="ExIdTok.V2"),
    "version missing": lambda x: x.token(version=None),
    "version a list": lambda x: x.token(version=["ExIdTok.V1"]),
    # appctx
    "appctx missing": lambda x: x.token(appctx=None),
    "appctx empty": lambda x: x.token(appctx=""),
    "appctx not JSON": lambda x: x.token(appctx=x.claims()["appctx"][:-1]),
    "appctx a text of a text": lambda x: x.token(appctx=json.dumps(x.claims()["appctx"])),
    "appctx in a list": lambda x: x.token(appctx=[x.context()]),
    "appctx a text of a list": lambda x: x.token(appctx=json.dumps([x.context()])),
    "appctx in an appctx": lambda x: x.token(appctx={"appctx": x.claims()["appctx"]}),
    "appctx a number": lambda x: x.token(appctx=1),
    "appctx without a bottom": lambda x: x.token(appctx="[" * 9000),
    # the person
    "msexchuid missing": lambda x: x.token(msexchuid=None),
    "msexchuid empty": lambda x: x.token(msexchuid=""),
    "msexchuid too long": lambda x: x.token(msexchuid="a" * 81),
    "msexchuid a list": lambda x: x.token(msexchuid=[mailbox_guid(x.sign_in.person)]),
    "msexchuid a number": lambda x: x.token(msexchuid=7),
    "msexchuid with a space": lambda x: x.token(msexchuid=" " + mailbox_guid(x.sign_in.person)),
    "msexchuid with a line break": lambda x: x.token(msexchuid=mailbox_guid(x.sign_in.person) + "\n"),
    "msexchuid with a zero byte": lambda x: x.token(msexchuid=mailbox_guid(x.sign_in.person) + "\0"),
    "msexchuid with a quote": lambda x: x.token(msexchuid="' OR '1'='1"),
    "msexchuid with other digits": lambda x: x.token(msexchuid=mailbox_guid(x.sign_in.person).replace("-", "٣")),
    # who made it
    "iss missing": lambda x: x.token(iss=None),
    "iss of another service": lambda x: x.token(iss="00000003-0000-0ff1-ce00-000000000000@example.com"),
    "iss without a realm": lambda x: x.token(iss="00000002-0000-0ff1-ce00-000000000000"),
    "iss with an odd realm": lambda x: x.token(iss="00000002-0000-0ff1-ce00-000000000000@example.com\n"),
    "iss with an endless realm": lambda x: x.token(iss="00000002-0000-0ff1-ce00-000000000000@" + "a" * 256),
    "iss a list": lambda x: x.token(iss=[x.claims()["iss"]]),
    # the times
    "exp missing": lambda x: x.token(exp=None),
    "exp past": lambda x: x.token(exp=x.later(-61)),
    "exp past, as a text": lambda x: x.token(exp=str(x.later(-61))),
    "exp a text that is no number": lambda x: x.token(exp="never"),
    "exp a text of a fraction": lambda x: x.token(exp=f"{x.later(60)}.5"),
    "exp a text of other digits": lambda x: x.token(exp="٣" * 10),
    "exp a text without end": lambda x: x.token(exp="9" * 5000),
    "exp true": lambda x: x.token(exp=True),
    "exp without end": lambda x: x.token(exp=float("inf")),
    "exp negative": lambda x: x.token(exp=-1),
    "nbf missing": lambda x: x.token(nbf=None),
    "nbf missing, iat in its place": lambda x: x.token(nbf=None, iat=x.later(0)),
    "nbf in the future": lambda x: x.token(nbf=x.later(120)),
    "nbf in the future, as a text": lambda x: x.token(nbf=str(x.later(120))),
}


@pytest.mark.parametrize("forge", FORGERIES.values(), ids=FORGERIES.keys())
def test_a_forged_or_foreign_token_is_refused(exchange: Exchange, forge: Callable[[Exchange], str], count: Count) -> None:
    verifier = exchange.verifier()
    assert verifier.verify(exchange.token()).subject == mailbox_guid(exchange.sign_in.person)
    forged = forge(exchange)
    with pytest.raises(NeedsReauth, match="sign-in is not valid here") as refused:
        verifier.verify(forged)
    assert forged[:100] not in repr([refused.value, refused.value.__cause__, refused.value.__context__])
    count("hostile input: forged tokens", 1)


GOOD: dict[str, Callable[[Exchange], str]] = {
    "as issued": lambda x: x.identity.mint_identity_token(x.sign_in.world, x.sign_in.person, PANE),
    "appctx an object, as the docs show it": lambda x: x.token(appctx=x.context()),
    "times as texts, as the docs show them": lambda x: x.token(nbf=str(x.later(0)), exp=str(x.later(600))),
    "expired within the leeway": lambda x: x.token(exp=x.later(-50)),
    "from a clock that is ahead": lambda x: x.token(nbf=x.later(50)),
    "from an add-in on the desktop": lambda x: x.token(isbrowserhostedapp=None),
    "of a realm that stands for all": lambda x: x.token(iss="00000002-0000-0ff1-ce00-000000000000@*"),
}


@pytest.mark.parametrize("issue", GOOD.values(), ids=GOOD.keys())
def test_a_good_token_is_accepted(exchange: Exchange, issue: Callable[[Exchange], str]) -> None:
    found = exchange.verifier().verify(issue(exchange))
    assert (found.service, found.tenant) == ("exchange", f"exchange:{exchange.host}")
    assert found.subject == mailbox_guid(exchange.sign_in.person)


def test_the_claims_tell_who_it_is_and_no_address(exchange: Exchange) -> None:
    found = exchange.verifier().verify(exchange.token(msexchuid="53e925fa-76ba-45e1-be0f-4ef08b59d389", email="x@example.com"))
    assert (found.subject, found.email, found.name) == ("53e925fa-76ba-45e1-be0f-4ef08b59d389", "", "")
    assert found.issuer == "00000002-0000-0ff1-ce00-000000000000@example.com"
    assert timedelta(hours=7) < found.expires_at - exchange.sign_in.now() <= timedelta(hours=8)


# Which servers count


def test_the_usual_port_may_stand_in_the_address_and_is_not_part_of_the_tenant(sign_in: SignIn) -> None:
    issuer = ExchangeIssuer(sign_in.gateway, host="Mail.example.com:443", audience=frozenset({PANE}))
    for amurl in (f"https://mail.example.com{PATH}", f"https://mail.example.com:443{PATH}"):
        identity = ExchangeIdentity(lambda: sign_in.world, public_url=lambda amurl=amurl: amurl.removesuffix(PATH))
        claims = identity.claims(sign_in.world, sign_in.person, PANE)
        assert issuer.made(claims)
        assert issuer.judge(claims, None)[:1] == ("exchange:mail.example.com",)


@pytest.mark.parametrize(
    "entry",
    [
        *("", ":8443", "mail.example.com:", "mail.example.com:0", "mail.example.com:65536", "mail.example.com:x", "[::1]:443"),
        *("https://mail.example.com", "mail.example.com/owa", "user@mail.example.com", "mail..example.com", "-mail.example.com"),
        *("mäil.example.com", "mail.example.com\n", "*.example.com", "a" * 72),
    ],
)
def test_what_is_no_host_cannot_be_listed(sign_in: SignIn, entry: str) -> None:
    with pytest.raises(InvalidInput):
        ExchangeIssuer(sign_in.gateway, host=entry, audience=frozenset({PANE}))


def test_without_a_listed_server_or_a_pane_nobody_gets_in(exchange: Exchange) -> None:
    nowhere = Verifier([], exchange.sign_in.now)
    issuer = ExchangeIssuer(exchange.sign_in.gateway, host=exchange.host, audience=frozenset({""}))
    for verifier, token in (
        (nowhere, exchange.token()),
        (exchange.sign_in.verifier(), exchange.token()),
        (Verifier([issuer], exchange.sign_in.now), exchange.token(aud="")),
        (Verifier([issuer], exchange.sign_in.now), exchange.token(aud=None)),
    ):
        with pytest.raises(NeedsReauth):
            verifier.verify(token)


def test_each_server_speaks_for_its_own_people_and_a_sick_one_stops_no_other(exchange: Exchange, another: Exchange) -> None:
    another.identity.rotate()
    exchange.others.append(another.host)
    verifier = exchange.verifier()
    ours, theirs = verifier.verify(exchange.token()), verifier.verify(another.token())
    assert ours.subject == theirs.subject
    assert (ours.tenant, theirs.tenant) == (f"exchange:{exchange.host}", f"exchange:{another.host}")
    for forged in (exchange.at(another.identity.metadata_url), another.at(exchange.identity.metadata_url)):
        with pytest.raises(NeedsReauth):
            verifier.verify(forged)

    exchange.others[:] = [exchange.elsewhere]
    fresh = exchange.verifier()
    assert fresh.verify(exchange.token()).tenant == ours.tenant


# Certificates


def test_certificates_are_fetched_once_and_a_flood_of_unknown_ones_makes_no_storm(exchange: Exchange) -> None:
    verifier = exchange.verifier()
    for _ in range(20):
        verifier.verify(exchange.token())
    for number in range(50):
        with pytest.raises(NeedsReauth):
            verifier.verify(exchange.by_attacker(x5t=f"forged-{number}"))
    assert exchange.fetched() == 1
    exchange.sign_in.server_lag = timedelta(seconds=61)
    for number in range(50):
        with pytest.raises(NeedsReauth):
            verifier.verify(exchange.by_attacker(x5t=f"forged-{number}"))
    assert exchange.fetched() == 2


def test_a_new_certificate_is_found_and_a_withdrawn_one_ends_the_tokens_that_are_known(another: Exchange) -> None:
    verifier, before = another.verifier(), another.token()
    verifier.verify(before)
    another.identity.rotate()
    another.sign_in.server_lag = timedelta(seconds=61)
    verifier.verify(another.token())
    verifier.verify(before)
    another.identity.rotate()  # the first one is not published any more
    another.sign_in.server_lag = timedelta(minutes=59)
    verifier.verify(before)
    another.sign_in.server_lag = timedelta(minutes=63)
    with pytest.raises(NeedsReauth, match="no key"):
        verifier.verify(before)


def test_a_certificate_signs_nothing_before_and_after_its_time_and_known_tokens_end_with_it(another: Exchange) -> None:
    another.identity.rotate(timedelta(hours=2))
    verifier, token = another.verifier(), another.token()
    for lag in (timedelta(), timedelta(minutes=119)):
        another.sign_in.server_lag = lag
        verifier.verify(token)
    another.sign_in.server_lag = timedelta(minutes=121)
    with pytest.raises(NeedsReauth, match="certificate"):
        verifier.verify(token)
    with pytest.raises(NeedsReauth, match="certificate"):
        another.verifier().verify(another.token())
    another.sign_in.server_lag = timedelta(days=-2)
    with pytest.raises(NeedsReauth, match="certificate"):
        another.verifier().verify(another.token(nbf=another.later(0)))


@pytest.mark.parametrize("kind", ["status", "drop", "html", "garbage"])
def test_while_the_server_is_away_nobody_is_refused_for_good(exchange: Exchange, kind: str) -> None:
    verifier = exchange.verifier()
    exchange.sign_in.world.faults.append(Fault("exchange", kind, times=None))
    for _ in range(5):
        with pytest.raises(Transient):
            verifier.verify(exchange.token())
    assert exchange.fetched() <= 1
    exchange.sign_in.world.faults.clear()
    exchange.sign_in.server_lag = timedelta(seconds=61)
    assert verifier.verify(exchange.token()).service == "exchange"


def test_a_slow_server_is_not_waited_for(exchange: Exchange, line: Line) -> None:
    patience = Gateway("The sign-in service", timeout_s=0.2, ssl_context=line.gateway._ssl)
    exchange.sign_in.world.faults.append(Fault("exchange", "hang", seconds=2.0, times=None))
    with pytest.raises(Transient):
        exchange.verifier(patience).verify(exchange.token())


def entry(x: Exchange, **changes: Any) -> dict[str, Any]:
    return published(x.certificate) | changes


def value(x: Exchange, **changes: Any) -> dict[str, Any]:
    return entry(x, keyvalue=entry(x)["keyvalue"] | changes)


def weak(x: Exchange) -> dict[str, Any]:
    return published(certificate_of(rsa.generate_private_key(public_exponent=65537, key_size=1024).public_key(), x))


def curve(x: Exchange) -> dict[str, Any]:
    return published(certificate_of(ec.generate_private_key(ec.SECP256R1()).public_key(), x))


def edwards(x: Exchange) -> dict[str, Any]:
    return published(certificate_of(ed25519.Ed25519PrivateKey.generate().public_key(), x))


def of_version_6(x: Exchange) -> str:
    return base64.b64encode(der(x).replace(b"\xa0\x03\x02\x01\x02", b"\xa0\x03\x02\x01\x05", 1)).decode()


DOCUMENTS: dict[str, Callable[[Exchange], Any]] = {
    "not JSON": lambda x: "<html>Sign in</html>",
    "deep JSON": lambda x: "[" * 100_000,
    "a list": lambda x: json.dumps([entry(x)]),
    "no keys": lambda x: json.dumps({"version": "1.0"}),
    "keys a text": lambda x: json.dumps({"keys": "none"}),
    "keys of other kinds": lambda x: json.dumps({"keys": [None, 7, "x", [], {}, {"usage": "signing"}]}),
    "keys as Entra publishes them": lambda x: json.dumps(x.sign_in.provider.entra.ring.jwks()),
    "a key for something else": lambda x: json.dumps({"keys": [entry(x, usage="encryption")]}),
    "a key of another form": lambda x: json.dumps({"keys": [value(x, type="rsa")]}),
    "a certificate that is a number": lambda x: json.dumps({"keys": [value(x, value=7)]}),
    "a certificate that is no base64": lambda x: json.dumps({"keys": [value(x, value="*" * 1000)]}),
    "a certificate that is no certificate": lambda x: json.dumps({"keys": [value(x, value="MIIB")]}),
    "a certificate that is cut": lambda x: json.dumps({"keys": [value(x, value=base64.b64encode(der(x)[:-9]).decode())]}),
    "a weak key": lambda x: json.dumps({"keys": [weak(x)]}),
    "a key on a curve": lambda x: json.dumps({"keys": [curve(x)]}),
    "a key on an Edwards curve": lambda x: json.dumps({"keys": [edwards(x)]}),
    "a certificate of a version that nobody knows": lambda x: json.dumps({"keys": [value(x, value=of_version_6(x))]}),
    "more than it can be": lambda x: json.dumps({"keys": [entry(x)], "more": "x" * 2**20}),
    "sent on to another server": lambda x: Response(status=302, headers={"Location": x.identity.metadata_url}),
    "refused": lambda x: Response(json.dumps({"keys": [entry(x)]}), status=401),
}


@contextmanager
def publishing(line: Line, exchange: Exchange, document: Callable[[Exchange], Any]) -> Iterator[str]:
    """Stand in for a listed server whose document is this; yields its `amurl`."""
    app = Flask("odd")
    app.add_url_rule(PATH, "metadata", lambda: document(exchange))
    with Port(app, tls=line.tls) as port:
        exchange.others.append(port.url.removeprefix("https://"))
        yield port.url + PATH


@pytest.mark.parametrize("document", DOCUMENTS.values(), ids=DOCUMENTS.keys())
def test_an_odd_document_lets_nobody_in(line: Line, exchange: Exchange, document: Callable[[Exchange], Any]) -> None:
    with publishing(line, exchange, document) as amurl, pytest.raises(Transient):
        exchange.verifier().verify(exchange.at(amurl))


def test_what_a_document_says_of_a_thumbprint_does_not_count(line: Line, exchange: Exchange) -> None:
    mine = published(certificate_of(attacker().public_key(), exchange)) | {"keyinfo": {"x5t": exchange.x5t}}
    documents = {"keys": [{"usage": "signing"}, mine, entry(exchange, keyinfo={"x5t": "another"}, more=1)], "more": 1}
    with publishing(line, exchange, lambda x: documents) as amurl:
        verifier = exchange.verifier()
        assert verifier.verify(exchange.at(amurl)).tenant == f"exchange:{exchange.others[0]}"
        with pytest.raises(NeedsReauth):
            verifier.verify(exchange.signed(exchange.claims(amurl=amurl), attacker()))
