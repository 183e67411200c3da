"""What the product says of its own accord: why something could not be done, and what mends it, in every language.

All of it stands in `sentences.json`: sentences by their codes, with {places} for facts, and the names of a person's fields. A
code holds no content and may be stored and logged. Facts may be anything, e.g. the name of a country, and are only stored sealed.
So is what another side said, the fact `said`, which is quoted in its own words behind a sentence of ours.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib import resources
from typing import Literal

from server.errors import (
    Conflict,
    CursorExpired,
    Forbidden,
    InvalidInput,
    NeedsReauth,
    NotFound,
    RateLimited,
    Rejected,
    SsiError,
    Transient,
    Unknown,
)

FIRST = "en"
_PLACE = re.compile(r"\{(\w+)\}")


@dataclass(frozen=True, slots=True)
class Cause:
    """Why something is as it is.

    `facts` fill the places of its sentence. The fact `field` is told by that field's name; `said` is quoted behind the sentence.
    """

    code: str
    facts: Mapping[str, str] = field(default_factory=dict, repr=False)


@dataclass(frozen=True, slots=True)
class Reader:
    """For whom a sentence is: in which language ("": English), and who may help."""

    language: str = FIRST
    contact: str = ""  # their administrator


def because(code: str, **facts: object) -> Cause:
    """Return a cause. Raises: KeyError for a code without a sentence: a fault of ours."""
    _ = _texts(FIRST)["causes"][code]
    return Cause(code, {name: str(value) for name, value in facts.items()})


def rejected(code: str, **facts: object) -> Rejected:
    """Return a refusal with a sentence of ours."""
    cause = because(code, **facts)
    return Rejected(told(cause, Reader()), code=code, facts=cause.facts)


def cause_of(error: SsiError) -> Cause:
    """Return what to say of an error: our own sentence for it, or one for its kind and then its words.

    Where a refusal was made of another's, to say whom to ask, it is the other's words that are quoted.
    """
    if isinstance(error, Rejected) and error.code in _texts(FIRST)["causes"]:
        return Cause(error.code, error.facts)
    if isinstance(error, InvalidInput) and f"no_{error.field}" in _texts(FIRST)["causes"]:
        return Cause(f"no_{error.field}")
    code = next((code for kind, code in _CODES if isinstance(error, kind)), "rejected")
    if isinstance(error, Forbidden) and error.code in _texts(FIRST)["causes"]:
        code = error.code
    source = error.__cause__ if isinstance(error, Forbidden) and isinstance(error.__cause__, SsiError) else error
    return Cause(code, {"said": str(source)})


_CODES: tuple[tuple[type[SsiError], str], ...] = (
    (RateLimited, "paused"),
    (Transient, "away"),
    (Unknown, "unknown_outcome"),
    (NeedsReauth, "needs_sign_in"),
    (Forbidden, "forbidden"),
    (NotFound, "not_found"),
    (CursorExpired, "not_found"),
    (Conflict, "changed"),
)


def told(cause: Cause, reader: Reader) -> str:
    """Return a cause as a sentence; one whose code is not known any more says little."""
    sentence, said = _sentence(cause, reader), cause.facts.get("said")
    if not said:
        return sentence
    return _filled(_texts(reader.language)["quoted"]["said"], Cause("", {"sentence": sentence, "said": said}), reader)


def in_short(cause: Cause, reader: Reader) -> str:
    """Return a cause for where there is little room, as on an item: words alone that say more than our sentence, else that."""
    return cause.facts["said"] if cause.code == "rejected" and "said" in cause.facts else _sentence(cause, reader)


def _sentence(cause: Cause, reader: Reader) -> str:
    causes = _texts(reader.language)["causes"]
    return _filled(causes.get(cause.code, causes["other"]), cause, reader)


def remedy(cause: Cause, reader: Reader, kind: str) -> str:
    """Return what mends it, for an item of this kind ("email", "contact", ...)."""
    remedies = _texts(reader.language)["remedies"]
    key = next((key for key in (f"{kind}_{cause.code}", cause.code, kind) if key in remedies), "other")
    return _filled(remedies[key], cause, reader)


def field_name(name: str, language: str) -> str:
    """Return what people call a field of a `domain.contact.Contact`, addresses by part: "business_address.city"."""
    return _texts(language)["fields"].get(name, name)


def _filled(text: str, cause: Cause, reader: Reader) -> str:
    """Fill places once, so that a value with braces stays as it is; what is not known is left out."""
    values = {"contact": reader.contact, **cause.facts}
    if "field" in values:
        values["field"] = field_name(values["field"], reader.language)
    return _PLACE.sub(lambda place: values.get(place[1], ""), text)


_Section = Literal["causes", "quoted", "remedies", "fields"]


def _texts(language: str) -> Mapping[_Section, Mapping[str, str]]:
    return _catalogue().get(language) or _catalogue()[FIRST]


@cache
def _catalogue() -> Mapping[str, Mapping[_Section, Mapping[str, str]]]:
    """Language -> section -> code or name -> text."""
    catalogue: Mapping[str, Mapping[_Section, Mapping[str, str]]]
    catalogue = json.loads(resources.files("server.domain").joinpath("sentences.json").read_text("utf-8"))
    return catalogue
