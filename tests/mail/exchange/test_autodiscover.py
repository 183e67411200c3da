"""Autodiscover finds the Exchange server of an address, and gives no password to anybody else."""

import socket
import ssl
from collections.abc import Callable, Iterator
from ipaddress import ip_address
from typing import Any

import pytest
import trustme
from flask import request

from server.domain.hosts import Address, AllowList
from server.errors import InvalidInput, NeedsReauth, Rejected, Transient
from server.mail.exchange import ExchangeMailbox, Login
from server.mail.exchange.autodiscover import discover
from server.mail.hosts import Guard
from simulator import ews
from simulator.ews.autodiscover import Moved, Reply, Settings, ToAddress, ToUrl, Unknown
from simulator.serving import Port
from simulator.world import Fault, World

HOUSE = "aldermill.example"
AUTODISCOVER = "/autodiscover/autodiscover.xml"
EWS = f"https://mail.{HOUSE}/EWS/Exchange.asmx"


class Internet:
    """Names and where they lead. A host that was put there answers, through TLS, with the simulated Exchange."""

    def __init__(self) -> None:
        self.world: World
        self.replies: dict[str, Reply] = {}
        self.hosts: dict[str, str] = {}  # name -> address
        self.asked: list[str] = []  # names that were looked up
        self.signed: list[str] = []  # hosts that got an Authorization header
        self.port = 0

    def reply(self, address: str) -> Reply:
        return self.replies.get(address, Unknown())

    def resolve(self, host: str, port: int) -> list[Address]:
        self.asked.append(host)
        if host not in self.hosts:
            raise OSError("no such name")
        return [ip_address(self.hosts[host])]

    def dial(self, place: tuple[str, int], timeout_s: float) -> socket.socket:
        assert place[1] == 443
        return socket.create_connection(("127.0.0.1", self.port), timeout_s)


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture(scope="module")
def internet(authority: trustme.CA) -> Iterator[Internet]:
    internet = Internet()
    app = ews.create_app(lambda: internet.world, autodiscover=internet.reply)

    @app.before_request
    def _note() -> None:
        if "Authorization" in request.headers:
            internet.signed.append(request.host)

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    names = [HOUSE, f"*.{HOUSE}", "other.example", "autodiscover.other.example", "autodiscover.example"]
    authority.issue_cert(*names).configure_cert(context)
    with Port(app, tls=context) as port:
        internet.port = port.port
        yield internet


@pytest.fixture(autouse=True)
def _fresh(internet: Internet, world: World) -> None:
    internet.world = world
    for person in world.people:
        person.access_type = "exchange_direct"
    internet.replies = {}
    internet.hosts = {f"autodiscover.{HOUSE}": "8.8.8.8", f"mail.{HOUSE}": "8.8.4.4"}
    internet.asked, internet.signed = [], []


@pytest.fixture
def guard(internet: Internet, authority: trustme.CA) -> Guard:
    context = ssl.create_default_context()
    authority.configure_trust(context)
    return Guard(AllowList(), ssl_context=context, resolve=internet.resolve, dial=internet.dial)


@pytest.fixture
def login(request: pytest.FixtureRequest, world: World) -> Login:
    """The owner's, by Basic, whose password could be read on the way; parametrise it (indirect) with "ntlm" for that."""
    return Login(world.people[0].email, world.people[0].password, getattr(request, "param", "basic"))


both = pytest.mark.parametrize("login", ["ntlm", "basic"], indirect=True)


@pytest.fixture
def find(guard: Guard, login: Login, world: World) -> Callable[..., str]:
    def find(address: str = world.people[0].email, **options: Any) -> str:
        return discover(guard, address, get_login=lambda: options.pop("login", login), **options)

    return find


@both
def test_the_server_of_an_address_is_found_and_opens_the_mailbox(
    find: Callable[..., str], guard: Guard, internet: Internet, login: Login, world: World
) -> None:
    person = world.people[0]
    internet.replies[person.email] = Settings(EWS)
    url = find()
    assert url == EWS
    mailbox = ExchangeMailbox(guard, url=url, address=person.email, get_login=lambda: login)
    identifier = world.cases["known_contact"][1]
    stored = world.mailbox(person.email).messages[identifier]
    assert mailbox.head(stored.rest_id).ref == identifier


def test_the_domain_itself_is_asked_when_there_is_no_host_for_it(
    find: Callable[..., str], internet: Internet, world: World
) -> None:
    internet.hosts = {HOUSE: "8.8.8.8"}
    internet.replies[world.people[0].email] = Settings(EWS)
    assert find() == EWS


def test_nobody_outside_the_domain_is_asked(find: Callable[..., str], internet: Internet) -> None:
    internet.hosts = {"autodiscover.example": "8.8.8.8", "example": "8.8.8.8"}
    with pytest.raises(Transient):
        find("somebody@sales.aldermill.example")
    assert set(internet.asked) == {"autodiscover.sales.aldermill.example", "sales.aldermill.example"}
    assert internet.signed == []


def test_a_redirect_to_another_address_of_the_house_is_followed(
    find: Callable[..., str], internet: Internet, world: World
) -> None:
    internet.replies = {world.people[0].email: ToAddress(f"new@{HOUSE}"), f"new@{HOUSE}": Settings(EWS)}
    assert find() == EWS


@pytest.mark.parametrize("kind", [ToUrl, Moved])
def test_a_redirect_within_the_house_is_followed(
    find: Callable[..., str], internet: Internet, world: World, kind: Callable[[str], Reply]
) -> None:
    turns: Iterator[Reply] = iter([kind(f"https://mail.{HOUSE}{AUTODISCOVER}"), Settings(EWS)])
    internet.replies = _Turns(turns)
    assert find() == EWS
    assert f"mail.{HOUSE}" in internet.asked


class _Turns(dict[str, Reply]):
    """Gives one reply after the other, whoever is asked for."""

    def __init__(self, turns: Iterator[Reply]) -> None:
        super().__init__()
        self._turns = turns

    def get(self, key: str, default: Any = None) -> Any:
        return next(self._turns, default)


@pytest.mark.parametrize(
    "reply",
    [
        ToUrl(f"https://other.example{AUTODISCOVER}"),
        Moved(f"https://other.example{AUTODISCOVER}"),
        ToAddress("somebody@other.example"),
        Settings("https://other.example/EWS/Exchange.asmx"),
    ],
)
def test_a_host_of_somebody_else_gets_no_password_until_it_is_confirmed(
    find: Callable[..., str], internet: Internet, world: World, reply: Reply
) -> None:
    internet.hosts |= {"other.example": "8.8.8.9", "autodiscover.other.example": "8.8.8.9"}
    internet.replies = {world.people[0].email: reply, "somebody@other.example": Settings(EWS)}
    with pytest.raises(InvalidInput, match=r"other\.example, which is not known to belong to aldermill\.example") as caught:
        find()
    assert caught.value.field == "email"
    assert not any("other.example" in host for host in [*internet.signed, *internet.asked])


def test_a_confirmed_host_is_followed(find: Callable[..., str], internet: Internet, world: World) -> None:
    internet.replies = {world.people[0].email: Settings("https://other.example/EWS/Exchange.asmx")}
    assert find(confirmed=["Other.example"]) == "https://other.example/EWS/Exchange.asmx"


@pytest.mark.parametrize(
    "place",
    [
        *("http://mail.aldermill.example/autodiscover/autodiscover.xml", "ftp://mail.aldermill.example/"),
        *("https://user@mail.aldermill.example/", "https://169.254.169.254/latest/meta-data", "https://127.0.0.1/"),
    ],
)
@pytest.mark.parametrize("kind", [ToUrl, Moved, Settings])
def test_a_redirect_to_what_is_no_https_server_of_the_house_is_refused(
    find: Callable[..., str], internet: Internet, world: World, kind: Callable[[str], Reply], place: str
) -> None:
    internet.replies[world.people[0].email] = kind(place)
    with pytest.raises(InvalidInput):
        find()
    assert set(internet.signed) <= {f"autodiscover.{HOUSE}"}


@pytest.mark.parametrize("place", ["", "https://", "nonsense", "//x", "https://[::1/"])
@pytest.mark.parametrize("kind", [ToUrl, Moved, Settings])
def test_a_place_that_makes_no_sense_is_not_followed(
    find: Callable[..., str], internet: Internet, world: World, kind: Callable[[str], Reply], place: str
) -> None:
    internet.replies[world.people[0].email] = kind(place)
    with pytest.raises((InvalidInput, Rejected, Transient)):
        find()
    assert set(internet.signed) <= {f"autodiscover.{HOUSE}"}


def test_a_name_of_the_house_that_leads_inside_is_not_called(find: Callable[..., str], internet: Internet, world: World) -> None:
    internet.hosts[f"inside.{HOUSE}"] = "10.0.0.1"
    internet.replies[world.people[0].email] = ToUrl(f"https://inside.{HOUSE}{AUTODISCOVER}")
    with pytest.raises(Transient):
        find()
    assert set(internet.signed) == {f"autodiscover.{HOUSE}"}


@pytest.mark.parametrize("kind", [ToUrl, Moved])
def test_a_circle_ends(find: Callable[..., str], internet: Internet, world: World, kind: Callable[[str], Reply]) -> None:
    internet.replies[world.people[0].email] = kind(f"https://autodiscover.{HOUSE}{AUTODISCOVER}")
    with pytest.raises(Rejected, match="without end"):
        find()
    assert len([a for a in world.requests("exchange") if a.status != 401]) == 4


@pytest.mark.parametrize(
    "reply",
    [
        ToUrl("https://autodiscover-s.outlook.com/x"),
        ToAddress("a@house.onmicrosoft.com"),
        Settings("https://outlook.office365.com/EWS"),
    ],
)
def test_a_mailbox_in_exchange_online_is_told_as_such(
    find: Callable[..., str], internet: Internet, world: World, reply: Reply
) -> None:
    internet.replies[world.people[0].email] = reply
    with pytest.raises(InvalidInput, match="Microsoft 365"):
        find()


@both
def test_a_wrong_password_raises_needs_reauth(guard: Guard, internet: Internet, login: Login, world: World) -> None:
    wrong = Login(login.user, "wrong", login.scheme)
    with pytest.raises(NeedsReauth):
        discover(guard, world.people[0].email, get_login=lambda: wrong)


@pytest.mark.parametrize("kind", ["html", "garbage", "drop"])
def test_a_host_that_does_not_speak_autodiscover_is_passed_over(
    find: Callable[..., str], internet: Internet, world: World, kind: str
) -> None:
    internet.hosts[HOUSE] = "8.8.8.8"
    internet.replies[world.people[0].email] = Settings(EWS)
    world.faults.append(Fault("exchange", kind))
    assert find() == EWS


def test_an_address_that_nobody_knows_raises_transient(find: Callable[..., str]) -> None:
    with pytest.raises(Transient):
        find("unknown@aldermill.example")


@pytest.mark.parametrize(
    "address",
    ["", "nobody", "@aldermill.example", "a@b", "a@aldermill.example:8443", "a@b.c/d", "a@127.0.0.1@x y", "a@[127.0.0.1]"],
)
def test_what_is_no_address_is_refused(find: Callable[..., str], internet: Internet, address: str) -> None:
    with pytest.raises(InvalidInput):
        find(address)
    assert internet.asked == []
