"""The authorisation endpoint of the simulated providers: what a person sees and does between the product's two addresses.

The first page asks who is signing in (there are no passwords), the second, where a consent is needed, what they allow. A
browser is remembered by a cookie, so that it matters when somebody signed in (`prompt`, `max_age`, `auth_time`). Unlike a real
provider, which lets a browser that knows one person through at once, the first page is always shown, unless with prompt=none.

A test without a browser posts a `person` and no `step`: that chooses the person and agrees to everything asked, in one go.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode, urlsplit

from flask import Response, g, redirect, render_template_string, request
from werkzeug.wrappers import Response as AnyResponse

from simulator.openid import Issuer, OAuthError
from simulator.world import Person

_LOOPBACK = frozenset({"127.0.0.1", "localhost", "::1"})
_OWN_FIELDS = ("person", "step", "answer", "ticked")


def authorize(issuer: Issuer, redirect_uris: set[str], *, place: str = "") -> AnyResponse:
    """Show a page, or send the browser back with a code or an error. `place` is the path's tenant, where there is one."""
    asked = (request.form if request.method == "POST" else request.args).to_dict()
    chosen = {name: asked.pop(name, "") for name in _OWN_FIELDS}
    issuer.check_client_id(asked.get("client_id", ""))
    target = asked.get("redirect_uri", "")
    if not may_return(target, redirect_uris):
        raise issuer.refuse(500112, "invalid_request", "The redirect address is not registered.")
    visit = _Visit(issuer, asked, place, request.cookies.get(f"signed_in_{issuer.name}") or secrets.token_urlsafe(16))
    try:
        issuer.check_request(asked)
        with issuer.world.lock:
            outcome = visit.silently() if asked.get("prompt") == "none" else visit.step(chosen)
    except OAuthError as error:
        outcome = _refusal(issuer, error)
    if isinstance(outcome, dict):
        back = issuer.told("answer", ({"state": asked["state"]} if "state" in asked else {}) | outcome)
        response = redirect(f"{target}{'&' if '?' in target else '?'}{urlencode(back)}")
    else:
        response = outcome
    response.set_cookie(f"signed_in_{issuer.name}", visit.browser, httponly=True, secure=request.is_secure, samesite="Lax")
    response.headers["Cache-Control"] = "no-store"
    return response


def may_return(target: str, registered: set[str]) -> bool:
    """Whether a browser may be sent to this address: a registered one, or any on this machine."""
    parts = urlsplit(target)
    known = parts.hostname in _LOOPBACK or target in registered
    return known and not parts.fragment and parts.scheme in ("http", "https")


def forget(issuer: Issuer) -> None:
    """End what the present browser remembers. Hold the World's lock."""
    issuer.memory.browsers.pop(request.cookies.get(f"signed_in_{issuer.name}", ""), None)


def _refusal(issuer: Issuer, error: OAuthError) -> dict[str, str]:
    told = {"error": error.error, "error_description": error.body(issuer.world)["error_description"]}
    told |= {"error_subcode": error.subcode} if error.subcode else {}
    return {name: text for name, text in told.items() if text} | issuer.answer_members(())


@dataclass(frozen=True, slots=True)
class _Visit:
    """One request of one browser. Every step gives a page, or the members of the answer with which the browser goes back."""

    issuer: Issuer
    asked: dict[str, str]
    place: str
    browser: str

    @property
    def _known(self) -> dict[str, float]:
        return self.issuer.memory.browsers.setdefault(self.browser, {})

    def step(self, chosen: dict[str, str]) -> dict[str, str] | Response:
        """Raises: OAuthError."""
        if request.method == "GET":
            return self._page()
        person = self.issuer.world.person(chosen["person"]) if chosen["person"] else None
        if person is None:
            raise self.issuer.declined()
        g.actor = person.email
        if chosen["step"] == "consent":
            return self._decided(person, chosen["answer"])
        try:
            self.issuer.check_account(person, self.place)
        except OAuthError as error:
            return self._page(error.body(self.issuer.world)["error_description"], status=400)
        if not self._is_fresh(person):
            self._known[person.object_id] = self.issuer.world.now().timestamp()
        if chosen["step"] == "account":
            return self._ask_or_finish(person)
        self.issuer.needs_consent(person, self.asked)
        return self._finish(person, None)

    def silently(self) -> dict[str, str]:
        """Answer without a page, for the one person whom the browser knows. Raises: OAuthError."""
        hint = self.asked.get("login_hint", "").lower()
        people = [
            person for person in map(self.issuer.world.person, self._known) if person and hint in ("", person.email.lower())
        ]
        if request.method != "GET" or len(people) != 1 or not self._is_fresh(people[0]):
            raise self.issuer.refuse(50058, "login_required", "Nobody is signed in.")
        self.issuer.check_account(people[0], self.place)
        if self.issuer.needs_consent(people[0], self.asked):
            raise self.issuer.refuse(65001, "interaction_required", "The user has not consented to use the application.")
        return self._finish(people[0], None)

    def _is_fresh(self, person: Person) -> bool:
        """Whether they signed in before in this browser, and recently enough for the request."""
        signed_in_at = self._known.get(person.object_id)
        if signed_in_at is None or "login" in self.asked.get("prompt", "").split():
            return False
        return self.issuer.world.now().timestamp() - signed_in_at < float(self.asked.get("max_age", "inf"))

    def _ask_or_finish(self, person: Person) -> dict[str, str] | Response:
        try:
            if not self.issuer.needs_consent(person, self.asked):
                return self._finish(person, None)
        except OAuthError as error:
            return self._consent_page(person, refused=error.text)
        return self._consent_page(person)

    def _decided(self, person: Person, answer: str) -> dict[str, str]:
        if person.object_id not in self._known:
            raise self.issuer.refuse(50058, "login_required", "Nobody is signed in.")
        self.issuer.check_account(person, self.place)
        self.issuer.needs_consent(person, self.asked)
        if answer != "continue":
            raise self.issuer.declined()
        return self._finish(person, set(request.form.getlist("ticked")))

    def _finish(self, person: Person, ticked: set[str] | None) -> dict[str, str]:
        self.issuer.check_person(person, self.issuer.session(person))
        scopes = self.issuer.agree(person, self.asked, ticked)
        g.actor = person.email
        code = self.issuer.new_code(person, self.asked, scopes, self._known[person.object_id])
        return {"code": code} | self.issuer.answer_members(scopes)

    def _page(self, refused: str = "", *, status: int = 200) -> Response:
        hint = self.asked.get("login_hint", "").lower()
        return self._show(_ACCOUNTS, status, people=self.issuer.world.people, known=self._known, hint=hint, refused=refused)

    def _consent_page(self, person: Person, refused: str = "") -> Response:
        boxes = self.issuer.boxes(person, self.asked)
        others = [scope for scope in self.asked["scope"].split() if scope not in boxes]
        return self._show(_CONSENT, 200, person=person, boxes=boxes, others=others, refused=refused)

    def _show(self, page: str, status: int, **more: Any) -> Response:
        text = render_template_string(_HEAD + page, asked=self.asked, action=request.path, **more)
        return Response(text, status, headers={"Content-Security-Policy": "frame-ancestors 'none'"})


_HEAD = """<!doctype html>
<html lang="en">
<meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>Sign in (simulated)</title>
<style>
  body { font: 15px/1.5 system-ui, sans-serif; max-width: 26rem; margin: 2rem auto; padding: 0 1rem; color-scheme: light dark }
  button { display: block; width: 100%; margin: .4rem 0; padding: .5rem .8rem; font: inherit; text-align: start }
  label { display: block; margin: .4rem 0; overflow-wrap: anywhere }
  small { display: block; opacity: .75 }
  ul { overflow-wrap: anywhere }
</style>
"""
_ACCOUNTS = """<h1>Who is signing in?</h1>
{% if refused %}<p role="alert">{{ refused }}</p>{% endif %}
<form method="post" action="{{ action }}">
  {% for name, value in asked.items() %}<input type="hidden" name="{{ name }}" value="{{ value }}">{% endfor %}
  <input type="hidden" name="step" value="account">
  {% for person in people %}
  <button name="person" value="{{ person.object_id }}"{% if person.email.lower() == hint %} autofocus{% endif %}>{{ person.name }}
    <small>{{ person.email }}{% if person.object_id in known %} (signed in){% endif %}</small></button>
  {% endfor %}
  <button name="person" value="">Cancel</button>
</form>
</html>
"""
_CONSENT = """<h1>{{ "Need admin approval" if refused else "Permissions requested" }}</h1>
<p>{{ person.name }}, {{ person.email }}</p>
{% if refused %}<p role="alert">{{ refused }}</p>{% endif %}
<form method="post" action="{{ action }}">
  {% for name, value in asked.items() %}<input type="hidden" name="{{ name }}" value="{{ value }}">{% endfor %}
  <input type="hidden" name="step" value="consent">
  <input type="hidden" name="person" value="{{ person.object_id }}">
  {% if refused %}
  <button name="answer" value="cancel">Return to the application without granting consent</button>
  {% else %}
  {% if others %}<p>The application wants:</p><ul>{% for scope in others %}<li>{{ scope }}</li>{% endfor %}</ul>{% endif %}
  {% if boxes %}<fieldset><legend>Select what it can access</legend>
    {% for scope, ticked in boxes.items() %}
    <label><input type="checkbox" name="ticked" value="{{ scope }}"{% if ticked %} checked{% endif %}> {{ scope }}</label>
    {% endfor %}</fieldset>{% endif %}
  <button name="answer" value="continue">Continue</button>
  <button name="answer" value="cancel">Cancel</button>
  {% endif %}
</form>
</html>
"""
