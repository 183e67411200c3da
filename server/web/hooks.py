"""Where mail services call us: they only say that a mailbox is worth a look, and each call has to prove where it comes from.

A notification is answered with 202 once what follows from it is committed, and with an error of ours otherwise, after which the
service sends it again (Graph for four hours, whatever the error: change-notifications-delivery-webhooks; Pub/Sub likewise:
docs/push).

Who proves nothing is soon not listened to: a network address whose calls were refused too often waits before the next one costs
us anything. Many people's mailboxes notify from few addresses, so what proved itself before never waits, and nothing that is
taken counts.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable
from functools import partial
from hashlib import sha256

from flask import Blueprint, Response, request

from server import logs
from server.errors import Forbidden, NotFound, SsiError
from server.services import Deps, subscriptions
from server.web.problems import too_often
from server.web.throttle import Throttle, network

MAX_VALIDATION = 1024  # characters of Graph's validation token, which are about 150

_KEPT = 50_000  # keys of what proved itself

log = logs.get(__name__)


def blueprint(deps: Deps) -> Blueprint:
    hooks = Blueprint("hooks", __name__, url_prefix="/hooks")
    gate = _Gate(Throttle(deps.limits.failed_sign_ins_per_minute, deps.now))

    @hooks.post("/graph/<subscription_id>")
    def graph(subscription_id: str) -> Response:
        """Take notifications and lifecycle notifications; before it ever sends one, Graph asks whether they are wanted."""
        token = request.args.get("validationToken")
        if token is not None:
            return gate.let_in(subscription_id, lambda: _validated(deps, subscription_id, token))
        take = partial(subscriptions.told, deps, subscription_id)
        return gate.let_in(subscription_id, lambda: _taken(take, subscription_id))

    @hooks.post("/google")
    def google() -> Response:
        """Take a push of Pub/Sub; its token is that of the service account which the operator gave the push subscription."""
        bearer = request.headers.get("Authorization", "").removeprefix("Bearer ")
        key = sha256(bearer.encode()).hexdigest()  # Pub/Sub sends one token for up to an hour: docs/push
        return gate.let_in(key, lambda: _taken(partial(subscriptions.pushed, deps, bearer), "google"))

    return hooks


class _Gate:
    """Lets calls in, fewer from where they are refused. In this process alone, as all throttles. Thread-safe."""

    def __init__(self, strangers: Throttle) -> None:
        self._strangers = strangers
        self._lock = threading.Lock()
        self._proven: OrderedDict[str, None] = OrderedDict()  # keys; those that were good last are at the end

    def let_in(self, key: str, answer: Callable[[], Response]) -> Response:
        """Return the answer, or that it is too early for one. `key` is something that only the service and we know.

        Raises: what `answer` raises.
        """
        place = network(request.remote_addr)
        with self._lock:
            is_proven = key in self._proven
        wait_s = 0.0 if is_proven else self._strangers.take(place)
        if wait_s:
            return too_often("Too many notifications from here were refused.", wait_s)
        try:
            response = answer()
        except (Forbidden, NotFound):
            with self._lock:
                self._proven.pop(key, None)
            raise
        except SsiError:  # which is no fault of who calls
            self._let_off(place, is_proven)
            raise
        self._let_off(place, is_proven)
        with self._lock:
            self._proven[key] = None
            self._proven.move_to_end(key)
            if len(self._proven) > _KEPT:
                self._proven.popitem(last=False)
        return response

    def _let_off(self, place: str, is_proven: bool) -> None:
        if not is_proven:
            self._strangers.give_back(place)


def _validated(deps: Deps, subscription_id: str, token: str) -> Response:
    if len(token) > MAX_VALIDATION or not subscriptions.is_known(deps, subscription_id):
        raise NotFound("There is no such subscription.")
    return Response(token, 200, {"Cache-Control": "no-store"}, content_type="text/plain; charset=utf-8")


def _taken(take: Callable[[bytes], None], what: str) -> Response:
    try:
        take(request.get_data())
    except Forbidden as error:
        log.warning("notification refused", subscription=what, reason=str(error))
        raise
    return Response(status=202)
