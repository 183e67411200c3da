"""Every sentence is there in every language, is asked for somewhere, and takes what it is filled in with as it is."""

import json
import re
from dataclasses import replace
from pathlib import Path

import pytest

from server.domain.contact import Contact, PostalAddress
from server.domain.sentences import Cause, Reader, because, cause_of, field_name, in_short, rejected, remedy, told
from server.errors import CursorExpired, Forbidden, InvalidInput, NeedsReauth, NotFound, RateLimited, Rejected, Transient, Unknown
from server.sync.mapping import SLOTS, values

SERVER = Path(__file__).resolve().parents[2] / "server"
TEXTS = json.loads((SERVER / "domain" / "sentences.json").read_text("utf-8"))
CODE = "\n".join(path.read_text() for path in SERVER.rglob("*.py"))
READER = Reader("de", "it@aldermill.example")


def places(text: str) -> set[str]:
    return set(re.findall(r"\{(\w+)\}", text))


@pytest.mark.parametrize("language", TEXTS)
def test_every_language_says_the_same(language: str) -> None:
    english, texts = TEXTS["en"], TEXTS[language]
    assert len(TEXTS) > 1
    assert list(texts) == list(english)
    for section, named in texts.items():
        assert list(named) == list(english[section]), "in the same order, so that both can be read side by side"
        for name, text in named.items():
            assert places(text) == places(english[section][name]), name
            assert text == text.strip()
            assert section == "fields" or text[-1] in ".“”", name
            assert not re.search(r"!|oops|[—–<>]", text.lower()), (name, "plain words, no markup")


def test_every_sentence_is_asked_for_somewhere_and_every_field_has_a_name() -> None:
    quoted = set(re.findall(r"""["'](\w+)["']""", CODE)) | {"no_surname", "no_company"}
    assert TEXTS["en"]["causes"].keys() <= quoted
    kinds = {"email", "other", "waiting"}
    assert {key.removeprefix("email_") for key in TEXTS["en"]["remedies"].keys() - kinds} <= TEXTS["en"]["causes"].keys()
    assert set(values(Contact(business_address=PostalAddress()), SLOTS)) == TEXTS["en"]["fields"].keys()
    assert field_name("business_address.country", "de") == "Land"
    assert field_name("unheard_of", "de") == "unheard_of"


def test_what_is_filled_in_is_not_filled_in_again_and_what_is_said_is_quoted() -> None:
    cause = because("unknown_value", field="business_address.country", value="{field} {contact}")
    assert told(cause, READER) == "SAP Cloud for Customer kennt „{field} {contact}“ als „Land“ nicht."
    assert told(because("rejected", said="No {contact}."), READER) == "Es wurde abgelehnt. Einzelheiten: „No {contact}.“"
    assert told(Cause("rejected"), READER) == "Es wurde abgelehnt."
    assert told(Cause("of an older release"), READER) == "Es ist nicht gelungen."
    assert told(Cause("fault"), Reader("fr")) == told(Cause("fault"), Reader("")) == "Something went wrong on our side."
    assert "it@aldermill.example" in told(Cause("not_set_up"), READER)
    assert "Zenda" not in repr(because("unknown_value", field="surname", value="Zenda"))
    with pytest.raises(KeyError):
        because("unheard_of")


def test_where_there_is_little_room_words_stand_alone_if_they_say_more_than_we_do() -> None:
    assert in_short(because("rejected", said="The number is taken."), READER) == "The number is taken."
    assert in_short(Cause("rejected"), READER) == "Es wurde abgelehnt."
    assert in_short(because("forbidden", said="No."), READER) == "Das ist nicht erlaubt."
    assert in_short(Cause("nobody_known"), Reader()) == "Nobody on this message is in SAP Cloud for Customer."


def test_a_refusal_of_ours_is_known_by_its_code_and_others_are_quoted() -> None:
    ours = rejected("too_long", field="job_title", limit=40)
    assert str(ours) == "“Job title” is longer than the 40 characters that SAP Cloud for Customer takes."
    assert cause_of(ours) == because("too_long", field="job_title", limit=40)
    assert cause_of(InvalidInput("surname", "is needed")) == Cause("no_surname")
    assert cause_of(InvalidInput("mime", "is odd")) == because("rejected", said="mime: is odd")
    shut_out = Forbidden("Ask it@aldermill.example.", code="c4c_user")
    shut_out.__cause__ = NeedsReauth("The user is locked.")
    assert cause_of(shut_out) == because("c4c_user", said="The user is locked.")
    assert cause_of(Forbidden("No.", code="unheard_of")) == because("forbidden", said="No.")
    kinds = {RateLimited: "paused", Transient: "away", Unknown: "unknown_outcome", NeedsReauth: "needs_sign_in"}
    kinds |= {NotFound: "not_found", CursorExpired: "not_found", Rejected: "rejected"}
    assert {kind: cause_of(kind("So.")) for kind in kinds} == {kind: because(code, said="So.") for kind, code in kinds.items()}


def test_what_mends_it_depends_on_the_item() -> None:
    assert remedy(Cause("rejected"), Reader(), "email").startswith("Save it in the sidebar")
    assert remedy(Cause("rejected"), Reader(), "contact").startswith("Mend it in your mailbox")
    assert remedy(Cause("away"), replace(READER, language=""), "email").endswith("administrator, it@aldermill.example.")
    assert remedy(Cause("conflict"), Reader("de"), "contact") == "Wenn Sie diese Werte möchten, geben Sie sie noch einmal ein."
