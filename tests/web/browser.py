"""A browser without scripts: our pages through Flask's client, the providers' through their real ports."""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from typing import Any
from urllib.parse import urljoin, urlsplit

import httpx
import lxml.html
from apiflask import APIFlask
from werkzeug.test import TestResponse

from simulator.ports import Simulator
from simulator.world import Person

ORIGIN = "https://sidebar.example.com"
SAME_SITE = {"Origin": "null", "Sec-Fetch-Site": "same-origin"}  # as browsers send it from pages with no-referrer
SETTINGS = "/settings/sync/email"
PANE = "/pane/sign-in"


class Browser:
    """Somebody's browser: its cookies, and the page it shows. Redirects are followed, other sites' included."""

    def __init__(self, app: APIFlask, simulator: Simulator, person: Person, language: str = "en") -> None:
        self.client = app.test_client()
        self.person = person
        self.chooses = person.object_id  # on a provider's page; "" cancels
        self.ticks = True  # every box on a provider's page
        self.language = language
        self.answer: TestResponse
        self.visited: list[str] = []  # addresses of ours, without what came with them
        self.simulator = simulator

    @property
    def page(self) -> Any:
        return lxml.html.fromstring(self.answer.text)

    @property
    def path(self) -> str:
        return self.visited[-1]

    @property
    def text(self) -> str:
        """What the page says, in one line."""
        return " ".join(self.page.xpath("string(//main)").split())

    @property
    def heading(self) -> str:
        return " ".join(self.page.xpath("string(//h1)").split())

    @property
    def refusal(self) -> str:
        """The title of the summary that has the focus, "" when nothing was refused."""
        return " ".join(self.page.xpath("string(//*[@role='alert' and @autofocus]//*[@id='refused'])").split())

    def open(self, path: str) -> Browser:
        return self._take(self.client.get(path, headers={"Accept-Language": self.language}))

    def press(self, button: str, **fields: str) -> Browser:
        """Fill the form that has this button, and press it."""
        return self.send(*self.filled(button, **fields))

    def filled(self, button: str, **fields: str) -> tuple[str, dict[str, str]]:
        """Return where the form that has this button goes, and what it sends."""
        form = next(f for f in self.page.forms if any(" ".join(b.text_content().split()) == button for b in f.iter("button")))
        assert set(fields) <= set(form.fields), form.fields.keys()
        return form.action, {**{name: value or "" for name, value in form.form_values()}, **fields}

    def send(self, path: str, fields: dict[str, str], headers: dict[str, str] | None = None) -> Browser:
        told = {"Accept-Language": self.language, **(SAME_SITE if headers is None else headers)}
        return self._take(self.client.post(path, data=fields, headers=told))

    def follow(self, link: str) -> Browser:
        """Click a link of the page."""
        found = next(a for a in self.page.iter("a") if " ".join(a.text_content().split()) == link)
        return self.open(found.get("href"))

    def cookie(self, name: str) -> str:
        found = self.client.get_cookie(name)
        return found.value if found else ""

    def leaving(self) -> str:
        """Return the address elsewhere to which the page sends the browser, "" if it stays."""
        refresh = self.page.xpath("//meta[@http-equiv='refresh']/@content") if self.answer.mimetype == "text/html" else []
        return refresh[0].partition("url=")[2] if refresh else ""

    def token_for_pane(self) -> str:
        """Go through the pane's dialog as who is signed in; return the token that its last page holds."""
        self.open(PANE).press(f"Continue as {self.person.name}")
        (token,) = self.page.xpath("//meta[@name='ssi-token']/@content")
        return str(token)

    def _take(self, answer: TestResponse) -> Browser:
        self.answer = answer
        self.visited.append(answer.request.path)
        if answer.status_code in (302, 303):
            return self.open(answer.headers["Location"])
        if self.leaving():
            return self.return_by(self.at_provider(self.leaving()))
        return self

    def return_by(self, address: str) -> Browser:
        """Come back to us by an address that a provider made."""
        parts = urlsplit(address)
        assert f"{parts.scheme}://{parts.netloc}" == ORIGIN, parts.netloc
        return self.open(f"{parts.path}?{parts.query}")

    def at_provider(self, address: str) -> str:
        """Go through a provider's pages; return the address of ours at which they end."""
        tls = ssl.create_default_context(cafile=str(self.simulator.ca_file))
        with httpx.Client(verify=tls, trust_env=False) as provider:
            answer = provider.get(address)
            while "location" not in answer.headers:
                assert answer.status_code == 200, answer.text
                form = lxml.html.fromstring(answer.text).forms[0]
                answer = provider.post(urljoin(str(answer.url), form.action), data=dict(self._chosen(form)))
            location = answer.headers["location"]
        return urljoin(address, location)

    def _chosen(self, form: Any) -> Iterator[tuple[str, Any]]:
        fields = [(name, value) for name, value in form.form_values() if name not in ("person", "ticked", "answer")]
        yield from fields
        is_consent = ("step", "consent") in fields
        yield "person", self.chooses
        if is_consent:
            boxes = [box.get("value") for box in form.iter("input") if box.get("type") == "checkbox"]
            yield "ticked", boxes if self.ticks else boxes[:-1]
            answers = [button.get("value") for button in form.iter("button")]
            yield "answer", "continue" if "continue" in answers else "cancel"
