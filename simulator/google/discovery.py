"""Google's own description of an API, as the installed client library ships it: which methods there are and what they take.

`Description` finds the method of a request by its path, and refuses query parameters and JSON bodies that do not fit it, with
the words that Google's front end uses. `masked` applies a partial response (`fields=`). The descriptions know types, enums and
names; what else a method asks (the palette of colours, the number of ids) is said in prose there and is `google.mail`'s to check.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib.resources import files
from typing import Any
from urllib.parse import unquote

Json = dict[str, Any]

_NAMES = re.compile(r"[A-Za-z0-9_$@.*-]+")
_INTEGERS = {"int32": (-(2**31), 2**31), "uint32": (0, 2**32)}


class GoogleError(Exception):
    """An error answer. `reason` is the word in `errors`, `word` the canonical status (google.rpc.Code)."""

    def __init__(
        self, status: int, reason: str, message: str, *, word: str = "", domain: str = "global", headers: Mapping[str, str] = {}
    ) -> None:
        super().__init__(message)
        self.status = status
        self.reason = reason
        self.word = word or _WORDS.get(status, "UNKNOWN")
        self.domain = domain
        self.headers = dict(headers)

    def body(self) -> Json:
        one = {"message": str(self), "domain": self.domain, "reason": self.reason}
        if self.status == 401:
            one |= {"location": "Authorization", "locationType": "header"}
        return {"error": {"code": self.status, "message": str(self), "errors": [one], "status": self.word}}


_WORDS = {
    400: "INVALID_ARGUMENT",
    401: "UNAUTHENTICATED",
    403: "PERMISSION_DENIED",
    404: "NOT_FOUND",
    409: "ABORTED",
    429: "RESOURCE_EXHAUSTED",
    500: "INTERNAL",
    501: "UNIMPLEMENTED",
    503: "UNAVAILABLE",
}


def invalid(message: str, *, reason: str = "invalidArgument") -> GoogleError:
    return GoogleError(400, reason, message)


def not_found() -> GoogleError:
    return GoogleError(404, "notFound", "Requested entity was not found.")


@dataclass(frozen=True, slots=True)
class Method:
    """One method of the API: `gmail.users.messages.get`."""

    id: str
    http_method: str
    pattern: re.Pattern[str]
    parameters: Json
    request: str  # name of the body's schema, "" without one
    scopes: frozenset[str]


class Description:
    """The discovery document of one API, e.g. Description("gmail.v1")."""

    def __init__(self, name: str) -> None:
        path = files("googleapiclient") / "discovery_cache" / "documents" / f"{name}.json"
        document = json.loads(path.read_text(encoding="utf-8"))
        self.schemas: Json = document["schemas"]
        self._common: Json = document["parameters"]
        self._methods = list(_methods(document))

    @property
    def palette(self) -> frozenset[str]:
        """The colours a Gmail label may have; the document names them in prose only."""
        text = self.schemas["LabelColor"]["properties"]["backgroundColor"]["description"].partition("allowed:")[2]
        return frozenset(re.findall(r"#[0-9a-f]{6}", text))

    def method(self, http_method: str, path: str) -> tuple[Method, dict[str, str]]:
        """Return the method that a request names, and its path parameters. Raises: GoogleError."""
        for method in self._methods:
            found = method.pattern.fullmatch(path) if method.http_method == http_method else None
            if found:
                return method, {name: unquote(value) for name, value in found.groupdict().items()}
        raise not_found()

    def checked_query(self, method: Method, query: Mapping[str, list[str]]) -> dict[str, Any]:
        """Return the query parameters in their types, defaults added; a repeated one is a list. Raises: GoogleError."""
        known = {name: p for name, p in method.parameters.items() if p["location"] == "query"}
        values: dict[str, Any] = {
            name: _read(name, p["default"], p) for name, p in known.items() if "default" in p and not p.get("repeated")
        }
        for name, given in query.items():
            parameter = known.get(name) or self._common.get(name)
            if parameter is None:
                text = f'Invalid JSON payload received. Unknown name "{name}": Cannot bind query parameter.'
                raise invalid(text, reason="badRequest")
            read = [_read(name, value, parameter) for value in given]
            values[name] = read if parameter.get("repeated") else read[-1]
        return values

    def checked_body(self, method: Method, body: bytes, content_type: str) -> Json:
        """Return the JSON body, {} for a method without one. Raises: GoogleError."""
        if not method.request:
            return {}
        if body and not content_type.startswith("application/json"):
            raise invalid("Request body is not JSON.", reason="badRequest")
        try:
            value = json.loads(body or b"{}")
        except ValueError:
            raise invalid("Invalid JSON payload received. Unexpected token.", reason="parseError") from None
        self.check(value, {"$ref": method.request})
        return dict(value)

    def check(self, value: Any, schema: Json, place: str = "") -> None:
        """Refuse a value that does not fit its schema; null means "not given". Raises: GoogleError."""
        if value is None:
            return
        schema = self.schemas[schema["$ref"]] if "$ref" in schema else schema
        match schema.get("type"):
            case "object" if isinstance(value, dict):
                known = schema.get("properties", {})
                for name, member in value.items():
                    held = known.get(name, schema.get("additionalProperties"))  # the second of a map
                    if held is None:
                        at = f" at '{place}'" if place else ""
                        text = f'Invalid JSON payload received. Unknown name "{name}"{at}: Cannot find field.'
                        raise invalid(text, reason="badRequest")
                    self.check(member, held, f"{place}.{name}".lstrip("."))
            case "array" if isinstance(value, list):
                for number, member in enumerate(value):
                    self.check(member, schema["items"], f"{place}[{number}]")
            case kind if not _fits(value, kind, schema):
                raise invalid(f"Invalid value at '{place}' ({kind}), {json.dumps(value)[:80]}", reason="badRequest")


def _methods(document: Json) -> Iterator[Method]:
    base = "/" + document["servicePath"]
    for resource in document.get("resources", {}).values():
        yield from _methods({**resource, "servicePath": document["servicePath"]})
    for method in document.get("methods", {}).values():
        template = base + method.get("flatPath", method["path"])
        pattern = re.sub(r"\\\{(\w+)\\\}", r"(?P<\1>[^/]+)", re.escape(template))
        yield Method(
            id=method["id"],
            http_method=method["httpMethod"],
            pattern=re.compile(pattern),
            parameters=method.get("parameters", {}),
            request=method.get("request", {}).get("$ref", ""),
            scopes=frozenset(scope.rpartition("/auth/")[2] for scope in method.get("scopes", [])),
        )


def _read(name: str, text: str, parameter: Json) -> str | int | bool:
    """Turn the text of a query parameter into its type. Raises: GoogleError."""
    kind = parameter.get("type", "string")
    refused = invalid(f"Invalid value at '{name}' ({kind.upper()}), \"{text[:80]}\"", reason="badRequest")
    if kind == "integer":
        low, high = _INTEGERS.get(parameter.get("format", ""), (-(2**63), 2**63))
        if not re.fullmatch(r"-?[0-9]{1,19}", text) or not low <= int(text) < high:
            raise refused
        return int(text)
    if kind == "boolean":
        if text.lower() not in ("true", "false", "1", "0"):
            raise refused
        return text.lower() in ("true", "1")
    if parameter.get("format") == "uint64" and not re.fullmatch(r"[0-9]{1,20}", text):
        raise refused
    if "enum" in parameter and text.lower() not in [value.lower() for value in parameter["enum"]]:
        raise refused
    return text.lower() if name == "format" else text


def _fits(value: Any, kind: str | None, schema: Json) -> bool:
    match kind:
        case "string":
            return isinstance(value, str) and _string_fits(value, schema)
        case "integer":
            low, high = _INTEGERS.get(schema.get("format", ""), (-(2**63), 2**63))
            return isinstance(value, int) and not isinstance(value, bool) and low <= value < high
        case "boolean":
            return isinstance(value, bool)
        case "number":
            return isinstance(value, int | float) and not isinstance(value, bool)
        case "any":
            return True
    return False


def _string_fits(value: str, schema: Json) -> bool:
    if "enum" in schema and value not in schema["enum"]:
        return False
    if schema.get("format") in ("int64", "uint64"):
        return bool(re.fullmatch(r"-?[0-9]{1,20}", value))
    if schema.get("format") == "byte":
        try:
            base64.urlsafe_b64decode(value + "=" * (-len(value) % 4))
        except (ValueError, binascii.Error):
            return False
    return True


def masked(value: Any, fields: str) -> Any:
    """Return the part of an answer that `fields` asks for: `a,b(c,d),e/f,*`. Raises: GoogleError for a mask that is none."""
    if not fields:
        return value
    tree, rest = _mask(fields)
    if rest:
        raise invalid(f"Invalid field selection {fields[:80]}", reason="invalidParameter")
    return _cut(value, tree)


def _mask(text: str) -> tuple[Json, str]:
    """Read a mask up to its end or a closing bracket; returns what follows."""
    tree: Json = {}
    while True:
        found = _NAMES.match(text)
        if found is None:
            raise invalid(f"Invalid field selection {text[:80]}", reason="invalidParameter")
        here, text = tree.setdefault(found[0], {}), text[found.end() :]
        while text.startswith("/"):
            found = _NAMES.match(text, 1)
            if found is None:
                raise invalid(f"Invalid field selection {text[:80]}", reason="invalidParameter")
            here, text = here.setdefault(found[0], {}), text[found.end() :]
        if text.startswith("("):
            inner, text = _mask(text[1:])
            if not text.startswith(")"):
                raise invalid("Invalid field selection: a bracket is not closed", reason="invalidParameter")
            here.update(inner)
            text = text[1:]
        if not text.startswith(","):
            return tree, text
        text = text[1:]


def _cut(value: Any, tree: Json) -> Any:
    if not tree:
        return value
    if isinstance(value, list):
        return [_cut(member, tree) for member in value]
    if not isinstance(value, dict):
        return value
    if "*" in tree:
        return {name: _cut(member, tree["*"]) for name, member in value.items()}
    return {name: _cut(member, tree[name]) for name, member in value.items() if name in tree}
