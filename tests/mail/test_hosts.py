"""A server that a person named is only called where the operator lets people go."""

import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from ipaddress import IPv4Address, IPv6Address, ip_address

import pytest
import requests
from hypothesis import given, strategies as st

from server.domain.hosts import Address, AllowList, is_exchange_online, is_public, server_url
from server.errors import InvalidInput, Transient
from server.mail import hosts
from server.mail.exchange.autodiscover import scheme
from server.mail.hosts import AtRest, Guard, never_sent, resolve, session
from server.transport import BREAKS_AFTER

NOWHERE = [  # address by address, what no user-given name may lead to
    # this machine, and "this network"
    *("127.0.0.1", "127.0.0.2", "127.1.2.3", "127.255.255.254", "0.0.0.0", "0.0.0.1", "0.255.255.255", "::1", "::"),
    # private
    *("10.0.0.0", "10.0.0.1", "10.255.255.255", "172.16.0.1", "172.20.10.5", "172.31.255.255", "192.168.0.1"),
    *("192.168.1.254", "192.168.255.255", "100.64.0.1", "100.100.100.200", "100.127.255.255"),
    *("fc00::", "fc00::1", "fd00::1", "fd12:3456:789a::1", "fdff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"),
    # the link
    *("169.254.0.1", "169.254.1.1", "169.254.255.255", "fe80::1", "fe80::a00:27ff:fe4e:66a1", "febf::1", "fec0::1"),
    # machines' own metadata and services
    *("169.254.169.254", "169.254.170.2", "169.254.169.253", "fd00:ec2::254", "fd20:ce::254", "192.0.0.192", "168.63.129.16"),
    # IPv4 within IPv6: mapped, compatible, translated, 6to4, Teredo, ISATAP
    *("::ffff:127.0.0.1", "::ffff:10.0.0.1", "::ffff:169.254.169.254", "::ffff:8.8.8.8", "::ffff:0:127.0.0.1"),
    *("::127.0.0.1", "::10.0.0.1", "::8.8.8.8"),
    *("64:ff9b::127.0.0.1", "64:ff9b::7f00:1", "64:ff9b::10.0.0.1", "64:ff9b::a9fe:a9fe", "64:ff9b::8.8.8.8"),
    *("64:ff9b:1::1", "64:ff9b:1:ffff::a00:1", "2002:7f00:1::", "2002:7f00:1::1", "2002:a00:1::1", "2002:c0a8:101::1"),
    *("2002:a9fe:a9fe::1", "2002:808:808::1", "2001::1", "2001:0:4136:e378:8000:63bf:3fff:fdd2", "2001:0:7f00:1::"),
    *("fe80::5efe:127.0.0.1", "fe80::5efe:10.0.0.1"),
    # many at once
    *("224.0.0.1", "224.0.0.251", "232.1.1.1", "239.255.255.250", "255.255.255.255", "ff02::1", "ff02::fb", "ff05::2"),
    *("ff0e::1", "ff00::"),
    # protocol assignments, documentation, measurements, reserved
    *("192.0.0.1", "192.0.0.8", "192.0.0.9", "192.0.0.170", "192.0.2.1", "192.0.2.255", "198.51.100.7", "203.0.113.9"),
    *("192.88.99.1", "198.18.0.1", "198.19.255.255", "240.0.0.1", "250.1.2.3", "255.255.255.254"),
    *("2001:db8::1", "2001:db8:ffff::1", "3fff::1", "3fff:fff::1", "2001:2::1", "2001:10::1", "2001:20::1", "2001:1::1"),
    *("100::1", "100:0:0:1::1", "5f00::1", "::2", "0:0:0:1::", "4000::1", "8000::1", "1fff::1", "e000::1"),
]
SPELLED = [  # what a person can type for this machine or a machine like it
    *("127.0.0.1", "127.1", "127.0.1", "0", "0.0.0.0", "2130706433", "0x7f000001", "0x7f.0.0.1", "0x7f.1", "0177.0.0.1"),
    *("017700000001", "0177.0.0.01", "127.0.0.01", "127.00.0.1", "127.0x0.0.1", "0x7F.0X0.0.1", "00000177.1"),
    *(
        "①②⑦.0.0.1",
        "127。0。0。1",
        "１２７.0.0.1",
        "127．0．0．1",
        "⑫7.0.0.1",
        "localhost",
        "LOCALHOST",
        "localhost.",
        "LocalHost.",
    ),
    *("[::1]", "[::]", "[0:0:0:0:0:0:0:1]", "[::ffff:127.0.0.1]", "[::ffff:7f00:1]", "[0000::1]", "[::127.0.0.1]"),
    *("[64:ff9b::7f00:1]", "[2002:7f00:1::]", "[::ffff:0:7f00:1]", "[fe80::1%25lo]", "[::1%25lo]"),
    *("10.0.0.1", "192.168.0.1", "172.16.0.1", "169.254.169.254", "0xa9fea9fe", "2852039166", "0251.0376.0251.0376"),
    *("169.254.43518", "100.100.100.200", "[fd00:ec2::254]", "168.63.129.16", "224.0.0.1", "255.255.255.255", "4294967295"),
    *("127.0.0.1.", "ⓛⓞⓒⓐⓛⓗⓞⓢⓣ", "localhost%00.example.com", "127.0.0.1%23.example.com", "example.com@127.0.0.1"),
    *("user:pass@127.0.0.1", "127.0.0.1#@example.com", "127.0.0.1?@example.com", "127.0.0.1\\@example.com", "127.0.0.1 "),
    *("", ".", "..", "-", "a..b", "x" * 64 + ".example", "[", "[::1", "::1", "[v1.x]", "*"),
]
PUBLIC = ["8.8.8.8", "1.1.1.1", "9.255.255.255", "11.0.0.1", "172.15.255.255", "172.32.0.1", "192.167.1.1", "192.169.1.1"]
PUBLIC += ["169.253.1.1", "169.255.1.1", "126.255.255.255", "128.0.0.1", "223.255.255.254", "100.63.255.255", "100.128.0.1"]
PUBLIC += ["198.17.255.255", "198.20.0.1", "192.0.1.1", "2606:4700::1111", "2a00:1450:4001::200e", "2001:200::1", "2003::1"]


class Trap:
    """Listens where nobody may come, on both families, and counts who does."""

    def __init__(self) -> None:
        self.visitors = 0
        self.sockets = [socket.create_server(("127.0.0.1", 0))]
        self.port: int = self.sockets[0].getsockname()[1]
        if socket.has_dualstack_ipv6():
            self.sockets.append(socket.create_server(("::1", self.port), family=socket.AF_INET6))
        for listener in self.sockets:
            threading.Thread(target=self._count, args=(listener,), daemon=True).start()

    def _count(self, listener: socket.socket) -> None:
        while True:
            try:
                visitor, _ = listener.accept()
            except OSError:
                return
            self.visitors += 1
            visitor.close()

    def close(self) -> None:
        for listener in self.sockets:
            listener.shutdown(socket.SHUT_RDWR)
            listener.close()


@pytest.fixture(scope="module")
def trap() -> Iterator[Trap]:
    trap = Trap()
    yield trap
    trap.close()


@pytest.fixture(scope="module")
def tls() -> ssl.SSLContext:
    return ssl.create_default_context()


@pytest.fixture
def guard(trap: Trap, tls: ssl.SSLContext) -> Guard:
    """A guard that lets people go to the trap's port, so that only the address can stop them."""
    return Guard(AllowList(ports=frozenset({443, trap.port})), ssl_context=tls)


def get(guard: Guard, url: str) -> requests.Response:
    with session(guard, deadline_s=5, max_bytes=lambda: 10_000) as opened:
        return opened.get(url)


def leading_to(*addresses: str) -> Callable[[str, int], list[Address]]:
    return lambda host, port: [ip_address(address) for address in addresses]


def unreachable(place: tuple[str, int], timeout_s: float) -> socket.socket:
    raise ConnectionRefusedError


def test_the_table_is_as_long_as_promised() -> None:
    assert len({*NOWHERE}) + len({*SPELLED}) >= 150


@pytest.mark.parametrize("address", NOWHERE)
def test_an_address_that_is_nobodys_business_is_not_public(address: str) -> None:
    assert not is_public(ip_address(address))


@pytest.mark.parametrize("address", PUBLIC)
def test_an_address_of_the_internet_is_public(address: str) -> None:
    assert is_public(ip_address(address))


@given(st.one_of(st.ip_addresses(v=4), st.ip_addresses(v=6)))
def test_nothing_is_public_that_python_calls_private(address: IPv4Address | IPv6Address) -> None:
    assert address.is_global or not is_public(address)


def test_no_address_of_the_table_is_ever_connected_to(trap: Trap, tls: ssl.SSLContext) -> None:
    dialled: list[object] = []

    def dial(place: tuple[str, int], timeout_s: float) -> socket.socket:
        dialled.append(place)
        raise OSError

    for address in NOWHERE:
        guard = Guard(AllowList(), ssl_context=tls, resolve=leading_to(address), dial=dial)
        with pytest.raises(requests.exceptions.RequestException):
            get(guard, "https://mail.example.com/")
    assert dialled == []


@pytest.mark.parametrize("scheme", ["https", "http"])
def test_no_spelling_of_this_machine_gets_through(trap: Trap, guard: Guard, scheme: str) -> None:
    for host in SPELLED:
        with pytest.raises(requests.exceptions.RequestException):
            get(guard, f"{scheme}://{host}:{trap.port}/")
    assert trap.visitors == 0


def test_the_trap_would_have_noticed(trap: Trap, tls: ssl.SSLContext) -> None:
    before = trap.visitors
    allowed = Guard(AllowList.of([f"127.0.0.1:{trap.port}"]), ssl_context=tls)
    with pytest.raises(requests.exceptions.RequestException):
        get(allowed, f"http://127.0.0.1:{trap.port}/")
    assert trap.visitors == before + 1
    trap.visitors = before


def test_odd_spellings_do_lead_to_this_machine() -> None:
    for host in ("127.1", "2130706433", "0177.0.0.1", "0x7f.1"):
        assert resolve(host, 443) == [IPv4Address("127.0.0.1")]


def test_a_name_that_changes_between_two_looks_is_looked_up_once_for_a_connection(tls: ssl.SSLContext) -> None:
    answers = iter(["8.8.8.8", "127.0.0.1", "127.0.0.1"])
    dialled: list[str] = []

    def dial(place: tuple[str, int], timeout_s: float) -> socket.socket:
        dialled.append(place[0])
        raise OSError

    guard = Guard(AllowList(), ssl_context=tls, resolve=lambda host, port: [ip_address(next(answers))], dial=dial)
    for _ in range(2):
        with pytest.raises(requests.exceptions.RequestException):
            get(guard, "https://changing.example/")
    assert dialled == ["8.8.8.8"]


def test_of_several_addresses_only_public_ones_are_tried(tls: ssl.SSLContext) -> None:
    dialled: list[str] = []

    def dial(place: tuple[str, int], timeout_s: float) -> socket.socket:
        dialled.append(place[0])
        raise OSError

    mixed = leading_to("127.0.0.1", "8.8.8.8", "10.0.0.1", "2606:4700::1111")
    with pytest.raises(requests.exceptions.RequestException):
        get(Guard(AllowList(), ssl_context=tls, resolve=mixed, dial=dial), "https://both.example/")
    assert dialled == ["8.8.8.8", "2606:4700::1111"]


@pytest.mark.parametrize("port", [22, 25, 80, 444, 3306, 6379, 8080, 8443])
def test_only_port_443_is_called(tls: ssl.SSLContext, port: int) -> None:
    assert not AllowList().permits("mail.example.com", ip_address("8.8.8.8"), port, secure=True)
    listed = AllowList.of([f"mail.example.com:{port}"])
    assert listed.permits("mail.example.com", ip_address("8.8.8.8"), port, secure=True)
    assert not listed.permits("www.example.com", ip_address("8.8.8.8"), port, secure=True)
    assert listed.permits("www.example.com", ip_address("8.8.8.8"), 443, secure=True)


def test_without_tls_nothing_but_this_machine_is_called_and_only_if_listed() -> None:
    listed = AllowList.of(["127.0.0.1", "10.0.0.0/8", "8.8.8.8"])
    assert not AllowList().permits("x", ip_address("127.0.0.1"), 443, secure=False)
    assert listed.permits("x", ip_address("127.0.0.1"), 443, secure=False)
    assert not listed.permits("x", ip_address("10.0.0.1"), 443, secure=False)
    assert not listed.permits("x", ip_address("8.8.8.8"), 443, secure=False)


def test_a_listed_network_or_name_may_be_called() -> None:
    listed = AllowList.of(["10.1.0.0/16", "Mail.Corp.Example", "[fd00::1]:8443", "192.168.7.7:444"])
    assert listed.permits("any.example", ip_address("10.1.2.3"), 443, secure=True)
    assert not listed.permits("any.example", ip_address("10.2.2.3"), 443, secure=True)
    assert listed.permits("mail.corp.EXAMPLE.", ip_address("192.168.1.1"), 443, secure=True)
    assert not listed.permits("evil.mail.corp.example", ip_address("192.168.1.1"), 443, secure=True)
    assert listed.permits("x", ip_address("fd00::1"), 8443, secure=True)
    assert listed.permits("x", ip_address("192.168.7.7"), 444, secure=True)


@pytest.mark.parametrize("address", ["169.254.169.254", "fe80::1", "224.0.0.1", "0.0.0.0", "fd00:ec2::254", "64:ff9b::a00:1"])
def test_a_listed_name_does_not_lead_to_the_link_to_metadata_or_into_tunnels(address: str) -> None:
    assert not AllowList.of(["mail.corp.example"]).permits("mail.corp.example", ip_address(address), 443, secure=True)


@pytest.mark.parametrize("entry", ["", "https://mail.example.com", "a b", "10.0.0.0/8/8", "mail.example.com/path"])
def test_an_entry_that_is_no_host_is_refused(entry: str) -> None:
    with pytest.raises(InvalidInput):
        AllowList.of([entry])


def test_a_redirect_is_not_followed(trap: Trap, tls: ssl.SSLContext) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]

        def serve() -> None:
            visitor, _ = listener.accept()
            with visitor:
                visitor.recv(10_000)
                place = f"http://127.0.0.1:{trap.port}/latest/meta-data"
                visitor.sendall(f"HTTP/1.1 302 Found\r\nLocation: {place}\r\nContent-Length: 0\r\n\r\n".encode())

        thread = threading.Thread(target=serve)
        thread.start()
        reply = get(Guard(AllowList.of([f"127.0.0.1:{port}"]), ssl_context=tls), f"http://127.0.0.1:{port}/")
        thread.join()
    assert reply.status_code == 302
    assert trap.visitors == 0


def test_the_environments_proxy_is_not_used(trap: Trap, guard: Guard, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.setenv(name, f"http://127.0.0.1:{trap.port}")
    with pytest.raises(requests.exceptions.RequestException):
        get(guard, "https://10.0.0.1/")
    assert trap.visitors == 0


@pytest.fixture
def cut_server() -> Iterator[Callable[[bytes], int]]:
    """Serve raw bytes once, then close; returns the port."""
    listeners: list[socket.socket] = []

    def serve(answer: bytes) -> int:
        listener = socket.create_server(("127.0.0.1", 0))
        listeners.append(listener)

        def run() -> None:
            visitor, _ = listener.accept()
            with visitor:
                visitor.recv(10_000)
                visitor.sendall(answer)

        threading.Thread(target=run, daemon=True).start()
        return int(listener.getsockname()[1])

    yield serve
    for listener in listeners:
        listener.close()


WHOLE = b"HTTP/1.1 200 OK\r\nContent-Type: text/xml\r\nContent-Length: 12\r\n\r\n<a>hello</a>"


def test_an_answer_that_was_cut_anywhere_is_none(tls: ssl.SSLContext, cut_server: Callable[[bytes], int]) -> None:
    for length in range(len(WHOLE)):
        port = cut_server(WHOLE[:length])
        with pytest.raises(requests.exceptions.RequestException):
            get(Guard(AllowList.of([f"127.0.0.1:{port}"]), ssl_context=tls), f"http://127.0.0.1:{port}/")
    port = cut_server(WHOLE)
    whole = get(Guard(AllowList.of([f"127.0.0.1:{port}"]), ssl_context=tls), f"http://127.0.0.1:{port}/")
    assert whole.content == b"<a>hello</a>"


def test_a_server_that_answers_nobody_is_left_alone_and_others_are_not(
    tls: ssl.SSLContext, cut_server: Callable[[bytes], int]
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        places = [f"127.0.0.1:{port}" for port in (silent.getsockname()[1], cut_server(WHOLE))]
        url, whole = (f"http://{place}/" for place in places)
        guard = Guard(AllowList.of(places), ssl_context=tls)
        for _ in range(BREAKS_AFTER):
            with session(guard, deadline_s=0.1, max_bytes=lambda: 10_000) as opened, pytest.raises(requests.Timeout):
                opened.get(url)
        silent.settimeout(0)
        for _ in range(BREAKS_AFTER):
            silent.accept()[0].close()
        for _ in range(20):
            with pytest.raises(AtRest) as refused:
                get(guard, url)
            assert never_sent(refused.value)
        with pytest.raises(BlockingIOError):
            silent.accept()
        assert get(guard, whole).content == b"<a>hello</a>"


def test_what_somebody_types_keeps_nobody_from_a_server(tls: ssl.SSLContext) -> None:
    """Or a stranger who knows a page there that never comes to an end could."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        place = f"127.0.0.1:{silent.getsockname()[1]}"
        guard = Guard(AllowList.of([place]), ssl_context=tls)
        for _ in range(BREAKS_AFTER):
            with pytest.raises(Transient):
                scheme(guard, f"http://{place}/slow", deadline_s=0.1)
        with session(guard, deadline_s=0.1, max_bytes=lambda: 10_000) as opened, pytest.raises(requests.Timeout):
            opened.get(f"http://{place}/EWS/Exchange.asmx")
        silent.settimeout(0)
        for _ in range(BREAKS_AFTER + 1):
            silent.accept()[0].close()


def test_a_server_that_nobody_can_connect_to_is_left_alone(tls: ssl.SSLContext, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hosts, "CONNECT_S", 0.05)
    dialled = list[float]()

    def dial(_: tuple[str, int], timeout_s: float) -> socket.socket:
        dialled.append(timeout_s)
        threading.Event().wait(timeout_s)
        raise TimeoutError

    place = "127.0.0.1:8443"
    guard = Guard(AllowList.of([place]), ssl_context=tls, dial=dial)
    for _ in range(BREAKS_AFTER):
        with pytest.raises(requests.ConnectionError):
            get(guard, f"http://{place}/")
    with pytest.raises(AtRest):
        get(guard, f"http://{place}/")
    assert len(dialled) == BREAKS_AFTER


def test_an_answer_that_is_too_large_is_dropped(tls: ssl.SSLContext, cut_server: Callable[[bytes], int]) -> None:
    body = b"x" * 10_001
    port = cut_server(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
    with pytest.raises(requests.exceptions.RequestException, match="too large"):
        get(Guard(AllowList.of([f"127.0.0.1:{port}"]), ssl_context=tls), f"http://127.0.0.1:{port}/")


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_a_server_that_only_drips_is_left_at_the_deadline(tls: ssl.SSLContext, scheme: str) -> None:
    left = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]

        def drip() -> None:
            visitor, _ = listener.accept()
            with visitor:
                try:
                    visitor.sendall(b"HTTP/1.1 200 OK\r\nX: ")
                    while not left.wait(0.02):
                        visitor.sendall(b"x")
                except OSError:
                    left.set()

        thread = threading.Thread(target=drip)
        thread.start()
        guard = Guard(AllowList.of([f"127.0.0.1:{port}"]), ssl_context=tls)
        with (
            session(guard, deadline_s=0.2, max_bytes=lambda: 1000) as opened,
            pytest.raises(requests.exceptions.RequestException) as caught,
        ):
            opened.get(f"{scheme}://127.0.0.1:{port}/")
        left.set()
        thread.join(5)
    assert not thread.is_alive()
    assert scheme == "https" or isinstance(caught.value, requests.exceptions.Timeout)


@pytest.mark.parametrize(
    "url",
    [
        *("", "mail.example.com", "ftp://mail.example.com/", "file:///etc/passwd", "https://", "https:///EWS", "javascript:1"),
        *("https://user@mail.example.com/", "https://a:b@mail.example.com/", "https://mail.example.com/#x"),
        *("https://mail.example.com:99999/", "https://mail.example.com:0/", "https://mail.example.com\\@evil.example/"),
        *("https://mail.exa mple.com/", "https://mail.example.com/\x00", "https://[::1/", "gopher://mail.example.com/"),
    ],
)
def test_what_is_no_address_of_a_server_is_refused(url: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        server_url(url, "ews_url")
    assert caught.value.field == "ews_url"


@pytest.mark.parametrize(
    "host", ["outlook.office365.com", "Outlook.Office.com.", "outlook.com", "autodiscover-s.outlook.com", "partner.outlook.cn"]
)
def test_exchange_online_is_known_by_its_names(host: str) -> None:
    assert is_exchange_online(host)
    assert not is_exchange_online("outlook.com.example")
    assert not is_exchange_online("notoutlook.com")
