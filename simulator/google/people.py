"""Google's People API v1 on the wire, as far as contacts and contact groups go; `google.contacts` has the answers.

As strict as the service where a client could go wrong: requests are those of the description that the installed client library
ships; an update names its fields and the etag it was made from (400 failedPrecondition when somebody was faster), a singleton
field has one value, a contact keeps one membership, names of groups are unique (409), members come by the thousand at most; a
sync token belongs to the parameters of its first call and ends after seven days. Of a profile only its owner's own is told
("people/me"). Of many contacts that are written at once all are written or none. Not simulated: other contacts, photos, search,
deleting many contacts at once.

Faults of its own, beside those of `simulator.serving`: "etag_race" (another client changes the contact just before an update),
"unnamed" (an error does not name those of many contacts that it is about), "unshown" (of many contacts one is not shown),
"sync_token_expired", and "rateLimitExceeded" (429), each also for a part of a batch. `PeopleService.write_s` makes each write
take so long, and refuses another one of the same person meanwhile (409). Source: the methods' own descriptions in the discovery
document; where they are silent the comment says so.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from typing import cast
from urllib.parse import parse_qs

from flask import Flask, Response, g

from simulator.google import as_it_came
from simulator.google.batch import JSON, MIXED, Asked, answered, parts_of, plain_error
from simulator.google.book import AddressBook, Books
from simulator.google.contacts import PeopleError, Request, plain
from simulator.google.discovery import Description, GoogleError, Json
from simulator.google.identity import Grant
from simulator.serving import watch
from simulator.world import GetWorld, Person

_METHODS = ["GET", "POST", "PUT", "PATCH", "DELETE"]

VerifyToken = Callable[[str], Grant | None]


def create_app(get_world: GetWorld, verify_token: VerifyToken) -> Flask:
    """Return the service as a WSGI application; `verify_token` tells what an access token opens, None if it is not good."""
    app = Flask("simulator.google.people")
    watch(app, "google", get_world)
    service = app.extensions["google_people"] = PeopleService(get_world, verify_token)

    @app.route("/v1/<path:path>", methods=_METHODS)
    def people(path: str) -> Response:
        status, body = service.answer(as_it_came())
        return Response(json.dumps(body), status, content_type=JSON)

    @app.post("/batch")
    def batch() -> Response:
        return Response(service.batch(as_it_came()), 200, content_type=MIXED)

    @app.errorhandler(GoogleError)
    def refused(error: GoogleError) -> Response:
        return Response(json.dumps(plain(error)), error.status, content_type=JSON)

    @app.after_request
    def _speak_json(response: Response) -> Response:
        """Give the faults that all vendors share, and unknown paths, the shape of Google's errors."""
        if response.status_code >= 400 and response.mimetype in ("text/plain", "text/html"):
            response.set_data(json.dumps(plain(plain_error(response.status_code))))
            response.content_type = JSON
        return response

    return app


def books_of(app: Flask) -> Books:
    """The back door of an app that `create_app` made."""
    return people_of(app).books


def people_of(app: Flask) -> PeopleService:
    """What an app that `create_app` made keeps."""
    return cast(PeopleService, app.extensions["google_people"])


class PeopleService:
    """Answers requests; every answer is made while the World is locked, so that a request sees one state."""

    def __init__(self, get_world: GetWorld, verify_token: VerifyToken) -> None:
        self.books = Books()
        self.write_s = 0.0
        self._get_world = get_world
        self._verify_token = verify_token
        self._description = Description("people.v1")
        update = self._description.method("PATCH", "/v1/people/c1:updateContact")[0].parameters["updatePersonFields"]
        self._updatable = frozenset(re.findall(r"\* (\w+)", update["description"]))
        self._writers: set[str] = set()

    def book(self, person: Person) -> AddressBook:
        """The back door to a person's contacts in the World of the moment."""
        return self.books.of(self._get_world(), person)

    def batch(self, asked: Asked) -> bytes:
        """Raises: GoogleError when it is no batch."""
        parts = parts_of(asked.content_type, asked.body, asked.token)
        g.parts = [f"{one.method} {one.path}" for _, one in parts]
        return answered(parts, self._judged)

    def _judged(self, asked: Asked) -> tuple[int, Json | None]:
        fault = self._get_world().take_fault("google", asked.method, asked.path, frozenset({"status"}))
        return (fault.status, plain(plain_error(fault.status))) if fault else self.answer(asked)

    def answer(self, asked: Asked) -> tuple[int, Json]:
        """Return status and body."""
        try:
            return 200, self._answered(asked)
        except GoogleError as error:
            return error.status, plain(error)

    def _answered(self, asked: Asked) -> Json:
        """Raises: GoogleError."""
        grant = self._verify_token(asked.token) if asked.token else None
        if grant is None:
            raise PeopleError(401, "UNAUTHENTICATED", "Request had invalid authentication credentials.")
        g.actor = grant.person.email
        method, path = self._description.method(asked.method, asked.path)
        if not method.scopes & grant.scopes:
            text = "Request had insufficient authentication scopes."
            raise PeopleError(403, "PERMISSION_DENIED", text, detail="ACCESS_TOKEN_SCOPE_INSUFFICIENT")
        query = self._description.checked_query(method, parse_qs(asked.query, keep_blank_values=True))
        body = self._description.checked_body(method, asked.body, asked.content_type)
        world = self._get_world()
        if world.take_fault("google", asked.method, asked.path, frozenset({"rateLimitExceeded"})):
            kind = "read requests (Contact and Profile Reads)" if asked.method == "GET" else "write requests (Contact Writes)"
            text = f"Quota exceeded for quota metric 'Critical {kind}'."
            raise PeopleError(429, "RESOURCE_EXHAUSTED", text, detail="RATE_LIMIT_EXCEEDED")
        with self._alone(grant.person) if asked.method != "GET" and self.write_s else nullcontext(), world.lock:
            book = self.books.of(world, grant.person)
            line = f"{asked.method} {asked.path}"
            asked_of = Request(world, grant.person, book, self._updatable, path, query, body, line)
            return asked_of.answer(method.id.removeprefix("people."))

    @contextmanager
    def _alone(self, person: Person) -> Iterator[None]:
        """Raises: PeopleError while the same person writes elsewhere; the word is the canonical one for such a meeting."""
        if person.email in self._writers:
            raise PeopleError(409, "ABORTED", "The operation was aborted: concurrent mutations of the same user.")
        self._writers.add(person.email)
        try:
            time.sleep(self.write_s)
            yield
        finally:
            self._writers.discard(person.email)
