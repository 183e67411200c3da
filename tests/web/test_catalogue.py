"""Every word of the pages comes from the catalogue, every language says the same, and every refusal can be told."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import pytest
from jinja2 import Environment
from werkzeug.datastructures import LanguageAccept

from server.web.catalogue import Catalogue

ROOT = Path(__file__).resolve().parents[2]
WEB = ROOT / "server" / "web"
STRINGS = {path.stem: json.loads(path.read_text()) for path in (WEB / "strings").glob("*.json")}
TEMPLATES = sorted(path for path in (WEB / "templates").glob("*.html") if path.name != "sidebar.html")
CODES = json.loads("""[
    "consent_denied", "consent_needed_admin", "scopes_missing", "code_used", "issuer_mismatch", "nonce_mismatch", "token_refused",
    "account_unusable", "failed", "wrong_account", "other_account", "already_connected", "flow_unknown", "provider_away",
    "password_refused", "account_locked", "server_unreachable", "server_not_found", "certificate", "exchange_online",
    "not_a_mailbox", "no_rights", "identity_taken", "domain_not_admitted", "not_offered", "invalid_entry", "not_provisioned",
    "c4c_user", "forbidden", "suspended", "not_found", "not_confirmed", "too_many_tries", "way_changed"
]""")
FACTS = {
    "scopes_missing": {"missing"},
    "wrong_account": {"signed_in", "expected"},
    "other_account": {"signed_in", "expected"},
    "already_connected": {"address"},
    "tenant_unknown": {"tenant"},
    "too_often": {"seconds"},
}
TEXT_ATTRIBUTES = re.compile(r'\s(?:title|alt|placeholder|aria-label|aria-description|label)="([^"]*)"')


def places(text: str) -> set[str]:
    return set(re.findall(r"\{(\w+)\}", text))


@pytest.mark.parametrize("language", STRINGS)
def test_every_language_has_every_text_with_the_same_places(language: str) -> None:
    english = STRINGS["en"]
    assert len(STRINGS) > 1
    assert STRINGS[language].keys() == english.keys()
    assert list(STRINGS[language]) == list(english), "in the same order, so that two files can be read side by side"
    for key, text in STRINGS[language].items():
        assert text, key
        assert text.strip() == text, key
        assert places(text) == places(english[key]), key
        assert not re.search(r"!|oops|[—–<>]", text.lower()), (key, "plain words, no markup")
    assert len(STRINGS[language]["months"].split()) == 12


def test_templates_hold_no_words_of_their_own() -> None:
    assert len(TEMPLATES) >= 12
    for template in TEMPLATES:
        tokens = Environment().lex(template.read_text())
        source = "".join(value if kind == "data" else "\0" for _, kind, value in tokens)
        said = re.sub(r"<[^>]*>", " ", source).replace("\0", "").replace("manifest.xml", "")
        assert re.findall(r"[^\W\d_]{2,}", said) == [], template.name
        for value in TEXT_ATTRIBUTES.findall(source):
            assert not value.strip("\0 "), (template.name, value)


def test_templates_and_views_ask_only_for_texts_that_are_there_and_every_text_is_asked_for() -> None:
    code = "\n".join(path.read_text() for path in [*TEMPLATES, *WEB.glob("*.py")])
    asked = set(re.findall(r"""\bt\(["'](\w+)["'][,)]""", code))
    assert asked <= STRINGS["en"].keys()
    prefixes = set(re.findall(r"""["'](\w+_)["'] ~""", code))
    prefixes |= {f"{word}_" for word in re.findall(r"""named\(["'](\w+)["']""", code)}
    quoted = set(re.findall(r"""["'](\w+)["']""", code))
    unused = [key for key in STRINGS["en"] if key not in quoted and not key.startswith((*prefixes, "progress_"))]
    assert unused == []


@pytest.mark.parametrize("code", [*CODES, *FACTS])
@pytest.mark.parametrize("language", STRINGS)
def test_every_refusal_has_a_title_a_sentence_and_a_next_step(language: str, code: str) -> None:
    texts = [STRINGS[language][f"refused_{code}_{part}"] for part in ("title", "text", "next")]
    assert not texts[0].endswith(".")
    assert all(text.endswith(".") for text in texts[1:])
    assert set().union(*map(places, texts)) <= FACTS.get(code, set())


def test_the_language_is_the_browsers_and_english_for_everybody_else() -> None:
    catalogue = Catalogue.load()

    def chosen(*wanted: tuple[str, float]) -> str:
        return catalogue.text(LanguageAccept(list(wanted))).language

    assert chosen(("de-AT", 1.0), ("en", 0.5)) == "de"
    assert chosen(("fr", 1.0), ("de", 0.3)) == "de"
    assert chosen(("fr", 1.0)) == "en"
    assert chosen() == "en"
    assert chosen(("*", 1.0)) == "en"


def test_what_is_filled_in_is_not_filled_in_again() -> None:
    text = Catalogue.load().text(LanguageAccept([("en", 1)]))
    assert text.t("signed_in_as", name="{name} {id}") == "Signed in as {name} {id}"
    assert text.named("refused", "nonsense_title", "otherwise") == "otherwise"
    assert text.named("refused", "wrong_account_text", "", expected="a").startswith("You signed in as ,")


def test_times_are_told_in_utc() -> None:
    catalogue = Catalogue.load()
    at = datetime(2026, 11, 22, 0, 2, tzinfo=timezone(timedelta(hours=1)))
    assert catalogue.text(LanguageAccept([("en", 1)])).when(at) == "21 November 2026, 23:02 UTC"
    assert catalogue.text(LanguageAccept([("de", 1)])).when(at.astimezone(UTC)) == "21. November 2026, 23:02 UTC"
