"""Find the Exchange server of a mail address, as Outlook does ("POX" autodiscover, MS-OXDSCLI), but not as trusting.

Only two hosts are asked at first, both of the address's own domain and over https: `autodiscover.DOMAIN` and `DOMAIN`. There is
no plain http, no DNS service record, and no shortening of the domain until some `autodiscover.TLD` answers, which collected
hundreds of thousands of passwords ("Autodiscovering the great leak"). A host first has to ask for a sign-in before it gets one,
and only gets it if it is confirmed: of the address's domain, listed by the operator, or named by the caller. At most three
redirects are followed, each through the same guard.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass, replace
from typing import Literal
from urllib.parse import urljoin
from xml.sax.saxutils import escape

import requests
from lxml import etree

from server.domain.hosts import is_exchange_online, server_url
from server.errors import InvalidInput, NeedsReauth, Rejected, Transient
from server.mail import hosts
from server.mail.exchange.ews import Login
from server.mail.exchange.failures import translated
from server.mail.hosts import Guard

MAX_REDIRECTS = 3
MAX_BYTES = 1024 * 1024
DEADLINE_S = 10.0

_REQUEST = "http://schemas.microsoft.com/exchange/autodiscover/outlook/requestschema/2006"
_RESPONSE = "http://schemas.microsoft.com/exchange/autodiscover/outlook/responseschema/2006a"
_R = f"{{{_RESPONSE}}}"
_PATH = "/autodiscover/autodiscover.xml"
_PROTOCOLS = ("EXPR", "EXCH")  # the server's address for the world, then the one for the house
_ONLINE = "The mailbox is in Exchange Online and has to be connected as Microsoft 365."


@dataclass(frozen=True, slots=True)
class _Goal:
    """Where to ask next, and as whom."""

    url: str
    address: str


class _Nothing(Exception):
    """This host knows nothing, or is not there."""


def discover(
    guard: Guard, address: str, *, get_login: Callable[[], Login], confirmed: Collection[str] = (), deadline_s: float = DEADLINE_S
) -> str:
    """Return the EWS URL for the mailbox; its host is confirmed too. `confirmed` are host names that the caller vouches for.

    Raises: InvalidInput (field "email") for what is no address, for a mailbox in Exchange Online, and, with the host's name,
    where the way leads to a host that nobody confirmed; NeedsReauth if a host refused the sign-in; Rejected if the way has no
    end; Transient if no host could tell.
    """
    local, _, domain = address.strip().rpartition("@")
    if not local or "." not in domain or any(c in domain for c in "/:@[]\\ ?#") or not domain.isprintable():
        raise InvalidInput("email", "This is not a mail address.")
    search = _Search(guard, domain.lower(), get_login, frozenset(h.lower() for h in confirmed), deadline_s)
    refused: NeedsReauth | None = None
    for host in (f"autodiscover.{domain}", domain):
        try:
            return search.follow(_Goal(f"https://{host}{_PATH}", address.strip()))
        except _Nothing:
            continue
        except NeedsReauth as error:
            refused = error
    if refused is not None:
        raise refused
    raise Transient("No Exchange server was found for this address; enter the server's own address instead.")


def scheme(guard: Guard, url: str, *, deadline_s: float = DEADLINE_S) -> Literal["ntlm", "basic"]:
    """Return how the EWS server at `url` signs people in, the better way first, having shown it no login.

    Raises: Rejected if it is no server that asks for one of these; Transient (code "certificate" for one that is not trusted).
    """
    with hosts.session(guard, deadline_s=deadline_s, max_bytes=lambda: MAX_BYTES, is_try=True) as session:
        session.auth = _no_auth
        try:
            reply = session.post(url, data=b"")  # as a call of EWS begins: nobody is signed in yet
        except requests.exceptions.RequestException as error:
            raise translated(error, changes=False) from error
    if reply.status_code == 503:
        raise Transient("Exchange is not available right now.")
    found = _scheme_in(reply) if reply.status_code == 401 else None
    if found is None:
        raise Rejected("There is no Exchange at this address, or it signs people in by another way than NTLM or a password.")
    return found


def _scheme_in(reply: requests.Response) -> Literal["ntlm", "basic"] | None:
    """Return the better of the schemes offered that we can."""
    offered = {part.strip().partition(" ")[0].lower() for part in reply.headers.get("WWW-Authenticate", "").split(",")}
    return "ntlm" if offered & {"ntlm", "negotiate"} else "basic" if "basic" in offered else None


class _Search:
    """One way through autodiscover, for one domain."""

    def __init__(
        self, guard: Guard, domain: str, get_login: Callable[[], Login], confirmed: frozenset[str], deadline_s: float
    ) -> None:
        self._guard = guard
        self._domain = domain
        self._get_login = get_login
        self._confirmed = confirmed | {name for name, _ in guard.allowed.names}
        self._deadline_s = deadline_s

    def follow(self, goal: _Goal) -> str:
        """Raises: what `discover` raises; _Nothing."""
        for _ in range(MAX_REDIRECTS + 1):
            found = self._ask(goal)
            if isinstance(found, str):
                return self._checked(found)
            goal = found
        raise Rejected("Autodiscover sends from one place to the next without end.")

    def _ask(self, goal: _Goal) -> _Goal | str:
        """Return the EWS URL, or where to ask instead."""
        url = self._checked(goal.url)
        reply = self._post(url, goal.address)
        if reply.status_code == 401:
            reply = self._post(url, goal.address, scheme=_scheme_in(reply))
        if reply.status_code == 401:
            raise NeedsReauth("Exchange does not accept the user name and password.")
        if reply.status_code in (301, 302, 307, 308) and reply.headers.get("Location"):
            return _Goal(urljoin(url, reply.headers["Location"]), goal.address)
        if reply.status_code != 200:
            raise _Nothing
        return _read(reply.content, goal)

    def _post(self, url: str, address: str, *, scheme: Literal["ntlm", "basic"] | None = None) -> requests.Response:
        body = (
            f'<?xml version="1.0" encoding="utf-8"?><Autodiscover xmlns="{_REQUEST}"><Request>'
            f"<EMailAddress>{escape(address)}</EMailAddress>"
            f"<AcceptableResponseSchema>{_RESPONSE}</AcceptableResponseSchema></Request></Autodiscover>"
        )
        headers = {"Content-Type": "text/xml; charset=utf-8", "X-AnchorMailbox": address}
        with hosts.session(
            self._guard, deadline_s=self._deadline_s, max_bytes=lambda: MAX_BYTES, headers=headers, is_try=True
        ) as session:
            session.auth = replace(self._get_login(), scheme=scheme).auth() if scheme else _no_auth
            try:
                return session.post(url, data=body.encode())
            except requests.exceptions.RequestException as error:
                raise _Nothing from error

    def _checked(self, text: str) -> str:
        """Return the URL if a password may be sent there. Raises: InvalidInput."""
        url = server_url(text, "email")
        host = (url.hostname or "").lower()
        if is_exchange_online(host) or host.endswith(".onmicrosoft.com"):
            raise InvalidInput("email", _ONLINE)
        if url.scheme != "https":
            raise InvalidInput("email", f"Autodiscover leads to {host} without encryption.")
        if host != self._domain and not host.endswith(f".{self._domain}") and host not in self._confirmed:
            raise InvalidInput("email", f"Autodiscover leads to {host}, which is not known to belong to {self._domain}.")
        return url.geturl()


def _no_auth(request: requests.PreparedRequest) -> requests.PreparedRequest:
    return request


def _read(document: bytes, goal: _Goal) -> _Goal | str:
    """Read the answer of a host. Raises: _Nothing if it is none, or says that it does not know the address."""
    try:
        root = etree.fromstring(document, etree.XMLParser(resolve_entities=False, no_network=True))
    except etree.XMLSyntaxError as error:
        raise _Nothing from error
    account = root.find(f"{_R}Response/{_R}Account")
    if root.getroottree().docinfo.doctype or account is None:
        raise _Nothing
    action = account.findtext(f"{_R}Action") or ""
    other, elsewhere = account.findtext(f"{_R}RedirectAddr") or "", account.findtext(f"{_R}RedirectUrl") or ""
    if action == "redirectAddr" and "@" in other:
        domain = other.rpartition("@")[2]
        return _Goal(f"https://autodiscover.{domain}{_PATH}", other)
    if action == "redirectUrl" and elsewhere:
        return _Goal(elsewhere, goal.address)
    urls = {p.findtext(f"{_R}Type"): p.findtext(f"{_R}EwsUrl") for p in account.iterfind(f"{_R}Protocol")}
    found = next((url for kind in _PROTOCOLS if (url := urls.get(kind))), None)
    if found is None:
        raise _Nothing
    return found
