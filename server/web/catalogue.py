"""The words of the pages: one file for each language in `strings/`, English first.

A text is asked for by its key and may hold {names}, which are filled in once, so that a value with braces stays as it is.
What comes out is text, never markup: the templates escape it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Mapping
from datetime import UTC, datetime
from pathlib import Path

from werkzeug.datastructures import LanguageAccept

FIRST = "en"
_PLACE = re.compile(r"\{(\w+)\}")


class Text:
    """The texts of one language."""

    def __init__(self, language: str, texts: Mapping[str, str]) -> None:
        self.language = language
        self._texts = texts

    def t(self, key: str, **values: object) -> str:
        """Return a text with its {names} filled in. Raises: KeyError for a key or a name that is not there: a fault of ours."""
        return _PLACE.sub(lambda place: str(values[place[1]]), self._texts[key])

    def named(self, prefix: str, word: str, otherwise: str, **values: object) -> str:
        """Return the text `prefix_word`, or `otherwise` when there is none; what its {names} lack is left out."""
        text = self._texts.get(f"{prefix}_{word}")
        return otherwise if text is None else _PLACE.sub(lambda place: str(values.get(place[1], "")), text)

    def number(self, value: int) -> str:
        return f"{value:,}".replace(",", self._texts["thousands"])

    def when(self, at: datetime) -> str:
        """Return a day and a time of day in UTC, since a page without script cannot know the reader's zone."""
        at = at.astimezone(UTC)
        month = self._texts["months"].split()[at.month - 1]
        return self.t("when", day=at.day, month=month, year=at.year, time=f"{at:%H:%M}")


class Catalogue:
    """All languages. Reads the files once, when it is made."""

    def __init__(self, texts: Mapping[str, Mapping[str, str]]) -> None:
        self._languages = {language: Text(language, own) for language, own in texts.items()}

    @classmethod
    def load(cls) -> Catalogue:
        files = (Path(__file__).parent / "strings").glob("*.json")
        return cls({file.stem: json.loads(file.read_text(encoding="utf-8")) for file in files})

    def text(self, wanted: LanguageAccept) -> Text:
        """Return the texts of the language that a browser prefers; English for whoever wants none of ours."""
        return self._languages[chosen(wanted, self._languages) or FIRST]


def chosen(wanted: LanguageAccept, offered: Collection[str]) -> str:
    """Return which of these languages a browser prefers, "" if none."""
    tags = (tag.partition("-")[0].lower() for tag, quality in wanted if quality > 0)
    return next((tag for tag in tags if tag in offered), "")
