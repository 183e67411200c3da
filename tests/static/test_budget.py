"""What the front end may weigh, may do to the page, and must be able to say."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from jinja2 import Environment, FileSystemLoader

from server.domain.records import CARD_FIELDS

ROOT = Path(__file__).resolve().parents[2]
STATIC = ROOT / "static"
SCRIPTS = sorted(path for path in STATIC.rglob("*.js") if path.parent.name != "vendor")
SIDEBAR = [path for path in SCRIPTS if path.parent.name == "js"]
STRINGS = {path.stem: json.loads(path.read_text()) for path in (STATIC / "js" / "strings").glob("*.json")}
SHELL = (ROOT / "server" / "web" / "templates" / "sidebar.html").read_text()

BUDGET_BYTES = 60 * 1024
LATER = {"engine.js", "engine.css"}
"""What the pane loads once it shows something, so that no card waits for it: see test_engine.py."""
LATER_BYTES = 10 * 1024
MARKUP_SINKS = re.compile(
    r"innerHTML|outerHTML|insertAdjacentHTML|setHTML|document\.write|createContextualFragment|DOMParser|srcdoc|\beval\b"
    r"|new Function|javascript:|localStorage|sessionStorage|indexedDB|document\.cookie"
)


def test_the_sidebars_scripts_and_styles_weigh_no_more_than_60_kb_in_all():
    """Counted is what is loaded before the first card.

    Not counted: vendor/, which a pane loads only where its mail client nests apps, and what only the HTML pages load. What the
    pane loads later has a budget of its own.
    """
    styles = [path for path in STATIC.rglob("*.css") if path.name != "pages.css"]
    weights = {path.name: path.stat().st_size for path in [*SIDEBAR, *styles]}
    later = {name: weights.pop(name) for name in LATER}
    assert sum(weights.values()) <= BUDGET_BYTES, weights
    assert sum(later.values()) <= LATER_BYTES, later


def test_nothing_is_built_and_nothing_comes_from_elsewhere():
    names = {path.stem for path in SCRIPTS if path.parent.name == "js"}
    for script in SCRIPTS:
        for imported in re.findall(r'from "([^"]+)"|import "([^"]+)"|import\("([^"]+)"', script.read_text()):
            module = next(filter(None, imported))
            assert re.fullmatch(r"\./[a-z]+\.js", module), f"{script.name} imports {module}"
            assert Path(module).stem in names, f"{script.name} imports {module}"


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_no_script_makes_markup_or_keeps_anything(script: Path):
    assert MARKUP_SINKS.findall(script.read_text()) == []


def test_only_one_script_knows_the_mail_client():
    assert [path.name for path in SIDEBAR if re.search(r"\bOffice\.", path.read_text())] == ["host.js"]


def test_the_shell_has_no_inline_script_or_style():
    assert re.findall(r"<style|\sstyle=|\son\w+=", SHELL) == []
    scripts = re.findall(r"<script\b[^>]*>(.*?)</script>", SHELL, re.DOTALL)
    assert scripts == [""] * len(scripts)


def test_the_shell_announces_every_module_of_the_first_card():
    shell = Environment(loader=FileSystemLoader(ROOT / "server/web/templates"), autoescape=True).get_template("sidebar.html")
    office_js_url = "https://office.example/office.js"
    page = shell.render(office_js_url=office_js_url, asset=lambda path: f"/static/{path}", client_id="c", authority="a")
    announced = set(re.findall(r'<link rel="modulepreload" href="/static/js/(\w+)\.js">', page))
    assert announced | {"main"} == {path.stem for path in SIDEBAR if path.name not in LATER}
    head = page.partition("</head>")[0]
    assert head.index(office_js_url) < head.index("/static/js/main.js")


def test_every_language_has_every_text_in_the_same_form():
    english = STRINGS["en"]
    assert len(STRINGS) > 1
    for language, strings in STRINGS.items():
        assert strings.keys() == english.keys(), language
        for key, text in strings.items():
            assert _form(text) == _form(english[key]), (language, key)


def _form(text: str | dict[str, str]) -> tuple[bool, frozenset[str]]:
    """Return whether a text has plurals, and what is filled in."""
    parts = list(text.values()) if isinstance(text, dict) else [text]
    assert all(part.strip() == part and part for part in parts), text
    return isinstance(text, dict), frozenset(re.findall(r"\{\w+\}", " ".join(parts)))


def test_every_text_is_used():
    code = "\n".join(path.read_text() for path in SCRIPTS)
    made = {f"{prefix}_{word}" for prefix in re.findall(r'named\("(\w+)"', code) for word in _words(prefix)}
    made |= {f"health_{word}" for word in ("ok", "bad", "offline")}
    made |= {f"{code}_next" for code in re.findall(r'"(\w+)"', code.partition("const situationOf")[0])}
    unused = [key for key in STRINGS["en"] if not re.search(rf'"{key}"', code) and key not in made]
    # What a state of a save is called, and what is said when it passes, is asked for by its own name.
    assert set(unused) <= {"pending", "unknown", "saving", "from", "to", "cc", "bcc", "other", "fault", "fault_next"}, unused


def _words(prefix: str) -> list[str]:
    return [key.removeprefix(f"{prefix}_") for key in STRINGS["en"] if key.startswith(f"{prefix}_")]


@pytest.mark.parametrize("language", STRINGS)
def test_every_type_and_field_of_a_card_has_a_word(language: str):
    fields = {f"field_{name}" for names in CARD_FIELDS.values() for name in names}
    assert fields | {f"type_{name}" for name in CARD_FIELDS} <= STRINGS[language].keys()


def test_texts_are_plain():
    for strings in STRINGS.values():
        for text in strings.values():
            words = " ".join(text.values()) if isinstance(text, dict) else text
            assert "!" not in words, "never an exclamation mark"
            assert "oops" not in words.lower()
