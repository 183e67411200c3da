"""The World over HTTP, for tests in other processes and for the developer bar. JSON of simulator/world.py's dataclasses.

GET log, access and mails; GET, POST, DELETE faults; GET, POST latency; GET cases; POST reset-log. What happens to a person at
their provider, e.g. that they change their password, is POST people/<address>/<turn>.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, fields
from datetime import datetime
from typing import Any

from flask import Blueprint, Response, abort, jsonify, request

from simulator.world import Fault, GetWorld, Latency, Person

Turns = Mapping[str, Callable[[Person, str], object]]
"""What may happen to a person, by its name; the text is the new password, or whatever it needs."""


def blueprint(get_world: GetWorld, turns: Turns) -> Blueprint:
    """Return the routes under /world."""
    door = Blueprint("world", __name__, url_prefix="/world")

    @door.get("/log")
    def log() -> Response:
        """Events after `since`, filtered by `vendor` and `kind`, the last `limit`; oldest first."""
        events = get_world().events(request.args.get("vendor"), request.args.get("kind"))
        return jsonify([_plain(asdict(e)) for e in _tail(events)])

    @door.get("/access")
    def access() -> Response:
        """Requests that reached a vendor, after `since`, filtered by `vendor`, the last `limit`; oldest first."""
        return jsonify([_plain(asdict(a)) for a in _tail(get_world().requests(request.args.get("vendor")))])

    @door.get("/mails")
    def mails() -> Response:
        """What the operator's mail server took, after `since`, the last `limit`; oldest first."""
        world = get_world()
        with world.lock:
            caught = list(world.mails)
        return jsonify([{k: v for k, v in _plain(asdict(m)).items() if k != "mime"} for m in _tail(caught)])

    @door.post("/reset-log")
    def reset_log() -> tuple[str, int]:
        """Forget the access log. The log of what happened is append-only and stays."""
        world = get_world()
        with world.lock:
            world.access.clear()
        return "", 204

    @door.get("/cases")
    def cases() -> Response:
        """The demo's named messages: case -> {"mailbox", "id"}, the id being the immutable one."""
        return jsonify({case: {"mailbox": where, "id": ref} for case, (where, ref) in get_world().cases.items()})

    @door.get("/faults")
    def faults() -> Response:
        world = get_world()
        with world.lock:
            return jsonify([asdict(f) for f in world.faults])

    @door.post("/faults")
    def add_fault() -> tuple[Response, int]:
        fault = Fault(**_wanted(Fault, {"vendor", "kind"}))
        world = get_world()
        with world.lock:
            world.faults.append(fault)
        return jsonify(asdict(fault)), 201

    @door.delete("/faults")
    @door.delete("/faults/<ref>")
    def remove_faults(ref: str | None = None) -> tuple[str, int]:
        world = get_world()
        with world.lock:
            world.faults[:] = [f for f in world.faults if ref is not None and f.id != ref]
        return "", 204

    @door.get("/latency")
    def latency() -> Response:
        world = get_world()
        with world.lock:
            return jsonify({vendor: asdict(value) for vendor, value in world.latency.items()})

    @door.post("/latency")
    def set_latency() -> tuple[str, int]:
        """Body: {"vendor", "base_ms", "per_part_ms"}; both absent means none."""
        sent = request.get_json()
        world = get_world()
        with world.lock:
            world.latency[str(sent["vendor"])] = Latency(float(sent.get("base_ms", 0)), float(sent.get("per_part_ms", 0)))
        return "", 204

    @door.post("/people/<address>/<turn>")
    def happen(address: str, turn: str) -> tuple[str, int]:
        """Body: {"value"}, absent where the turn needs none."""
        person, act = get_world().person(address), turns.get(turn)
        if person is None or act is None:
            abort(404, f"There is no such person, or no such turn; there are {', '.join(sorted(turns))}")
        act(person, str(request.get_json().get("value", "")))
        return "", 204

    return door


def _wanted(kind: type[Fault], required: set[str]) -> dict[str, Any]:
    sent = request.get_json()
    known = {f.name for f in fields(kind)} - {"id"}
    if not isinstance(sent, dict) or not required <= sent.keys() <= known:
        abort(422, f"A fault needs {', '.join(sorted(required))} and may have {', '.join(sorted(known - required))}")
    return sent


def _tail(entries: list[Any]) -> list[Any]:
    since = request.args.get("since", 0, int)
    limit = request.args.get("limit", 1000, int)
    return [e for e in entries if e.seq > since][-limit:]


def _plain(value: Any) -> Any:
    """Make what JSON has no word for readable: times as ISO 8601, anything else as its text."""
    if isinstance(value, dict):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_plain(v) for v in value]
    if isinstance(value, datetime):
        return value.isoformat()
    return value if value is None or isinstance(value, str | int | float | bool) else str(value)
