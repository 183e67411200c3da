"""What a body may look like before anybody asks what it says."""

from __future__ import annotations

from typing import Any

from server.errors import InvalidInput

MAX_DEPTH = 32  # levels of lists and objects, the body itself being the first


def check_shape(body: Any) -> None:
    """Raises: InvalidInput for a body that is no object, or that is nested deeper than anything we take."""
    if not isinstance(body, dict):
        raise InvalidInput("body", "The request must be one JSON object.")
    level: list[Any] = [body]
    for _ in range(MAX_DEPTH):
        inner = (child for value in level for child in (value.values() if isinstance(value, dict) else value))
        level = [child for child in inner if isinstance(child, dict | list)]
        if not level:
            return
    raise InvalidInput("body", f"The request is nested more than {MAX_DEPTH} levels deep.")
