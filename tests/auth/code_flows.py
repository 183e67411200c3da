"""The three kinds of sign-in by authorisation code, each with its simulated provider and a browser, for one suite of promises."""

from collections.abc import Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from http.client import HTTPSConnection
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit

from server.auth.flow import Begun, CodeFlow, Granted
from server.auth.oauth import Google
from server.auth.oidc import Oidc
from server.transport import Gateway
from simulator.google.identity import SCOPE, subject
from simulator.openid import Issuer
from simulator.world import Person
from tests.auth.sign_in import MAIL_SCOPES, SignIn

REDIRECT = "https://localhost/connect/callback"  # the simulated providers take any address on this machine
KINDS = ("entra", "google", "oidc")
_SCOPES = {
    "entra": MAIL_SCOPES,
    "google": (f"{SCOPE}gmail.modify", f"{SCOPE}contacts"),
    "oidc": ("profile", "email", "offline_access"),
}


@dataclass
class Kind:
    """One kind of sign-in: what the product has for it (`flow`), and the provider's back door (`issuer`)."""

    name: str
    sign_in: SignIn
    flow: CodeFlow
    issuer: Issuer

    @property
    def scopes(self) -> tuple[str, ...]:
        return _SCOPES[self.name]

    @property
    def vendor(self) -> str:
        return "google_identity" if self.name == "google" else "identity"

    @property
    def tenant(self) -> str:
        return self.sign_in.world.entra_tenant if self.name == "entra" else ""

    def begin(self, **more: Any) -> Begun:
        return self.flow.begin(**{"redirect_uri": REDIRECT, "scopes": self.scopes, "tenant": self.tenant} | more)

    def visit(self, begun: Begun, person: Person | None = None, **fields: str | list[str]) -> dict[str, str]:
        """Go with a browser to the provider, choose somebody and agree; return what it brings back. `fields` are the page's."""
        return self._post(begun, {"person": (person or self.sign_in.person).object_id} | fields)

    def cancel(self, begun: Begun) -> dict[str, str]:
        return self._post(begun, {"person": ""})

    def _post(self, begun: Begun, chosen: Mapping[str, str | list[str]]) -> dict[str, str]:
        parts = urlsplit(begun.url)
        form = [*parse_qsl(parts.query), *_pairs(chosen)]
        headers = {"Content-Type": "application/x-www-form-urlencoded", "Cookie": f"signed_in_{self.issuer.name}=browser"}
        browser = HTTPSConnection(parts.netloc, context=self.sign_in.gateway._ssl)
        with closing(browser):
            browser.request("POST", parts.path, urlencode(form), headers)
            answer = browser.getresponse()
            assert answer.status == 302, answer.read()
        return dict(parse_qsl(urlsplit(answer.headers["Location"]).query, keep_blank_values=True))

    def signed_in(self, person: Person | None = None, **more: Any) -> Granted:
        begun = self.begin(**more)
        return self.flow.finish(begun.kept, self.visit(begun, person))

    def identity(self, person: Person) -> tuple[str, str]:
        """Tenant and subject of somebody, as this provider knows them."""
        if self.name == "entra":
            return self.sign_in.world.tenant_of(person), person.object_id
        if self.name == "google":
            return "example.com", subject(person)
        return f"{self.sign_in.url}/c4c", person.user_id

    def exchanges(self) -> int:
        return self.sign_in.exchanges(self.vendor)


def kind(name: str, sign_in: SignIn, gateway: Gateway | None = None, *, secret: str = "") -> Kind:
    """Build one of KINDS afresh, as another process would have it."""
    world, line = sign_in.world, gateway or sign_in.gateway
    secret = secret or world.client_secret
    if name == "entra":
        return Kind(name, sign_in, sign_in.entra(gateway=line, secret=secret), sign_in.provider.entra)
    if name == "google":
        return Kind(name, sign_in, google(sign_in, line, secret), sign_in.google_provider.issuer)
    oidc = Oidc(f"{sign_in.url}/c4c", world.client_id, secret, line, sign_in.now)
    return Kind(name, sign_in, oidc, sign_in.provider.c4c)


def google(sign_in: SignIn, gateway: Gateway, secret: str) -> Google:
    here = sign_in.google_url
    return Google(
        f"{here}/token",
        sign_in.world.client_id,
        secret,
        gateway,
        sign_in.now,
        auth_url=f"{here}/o/oauth2/v2/auth",
        revoke_url=f"{here}/revoke",
        keys_url=f"{here}/oauth2/v3/certs",
        issuer=here,
    )


def _pairs(fields: Mapping[str, str | list[str]]) -> Iterator[tuple[str, str]]:
    for name, value in fields.items():
        yield from ((name, one) for one in (value if isinstance(value, list) else [value]))
