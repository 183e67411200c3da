"""The vendors' machine-readable contracts, for tests that compare wire traffic with them.

They are not part of the project: the folder is named by SSI_CONTRACTS_DIR, else ../shared/contracts beside the checkout. Where
it is absent tests skip; where the variable is set, anything missing is a failure.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml
from openapi_core import Config, OpenAPI
from openapi_core.datatypes import RequestParameters
from openapi_core.exceptions import OpenAPIError
from werkzeug.datastructures import Headers, ImmutableMultiDict


def contract(relative: str) -> Path:
    """Return the path of a contract file; skips the test when there is no contracts folder."""
    named = os.environ.get("SSI_CONTRACTS_DIR")
    folder = Path(named) if named else Path(__file__).parents[2] / "shared" / "contracts"
    path = folder / relative
    if not path.exists():
        if named:
            pytest.fail(f"SSI_CONTRACTS_DIR is set, but {relative} is missing")
        pytest.skip(f"no vendors' contracts here ({relative})")
    return path


class GraphContract:
    """Microsoft Graph's OpenAPI description. Loading takes seconds; get it by `graph_contract()`."""

    def __init__(self, spec: dict[str, Any]) -> None:
        self.schemas: dict[str, Any] = spec["components"]["schemas"]
        # The file itself is checked where it is made. Raw bytes are described as a string, which bytes are not.
        raw = {"application/octet-stream": lambda data, **_: data.decode("latin-1")}
        self._api = OpenAPI.from_dict(spec, config=Config(spec_validator_cls=None, extra_media_type_deserializers=raw))

    def check(self, request: httpx.Request, response: httpx.Response) -> None:
        """Fail unless the answer fits the request's operation, and, if it was accepted, the request does too."""
        asked, answered = _Request.of(request), _Response.of(response)
        try:
            if response.is_success:
                self._api.validate_request(asked)
            self._api.validate_response(asked, answered)
        except OpenAPIError as error:
            reasons = [str(e) for e in getattr(error.__cause__, "schema_errors", [])] or [repr(error.__cause__)]
            pytest.fail(f"{request.method} {request.url.path} -> {response.status_code}: {error}: {reasons[:3]}")


@cache
def graph_contract() -> GraphContract:
    """Load Graph's contract once per process; skips the test where it is absent."""
    text = contract("graph/msgraph-mail.openapi.yaml").read_text()
    return GraphContract(yaml.load(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader)))


@dataclass(frozen=True)
class _Request:
    """What openapi-core asks of a request. It is given Graph's own host, since the contract names it."""

    path: str
    method: str
    parameters: RequestParameters
    content_type: str
    body: bytes | None
    host_url: str = "https://graph.microsoft.com"

    @classmethod
    def of(cls, request: httpx.Request) -> _Request:
        parameters = RequestParameters(
            query=ImmutableMultiDict(request.url.params.multi_items()), header=Headers(request.headers.multi_items())
        )
        path = "/v1.0" + request.url.path.partition("/v1.0")[2]
        content_type = request.headers.get("Content-Type", "").partition(";")[0]
        return cls(path, request.method.lower(), parameters, content_type, request.content or None)


@dataclass(frozen=True)
class _Response:
    status_code: int
    headers: Headers
    content_type: str
    data: bytes

    @classmethod
    def of(cls, response: httpx.Response) -> _Response:
        content_type = response.headers.get("Content-Type", "").partition(";")[0]
        return cls(response.status_code, Headers(response.headers.multi_items()), content_type, response.content)
