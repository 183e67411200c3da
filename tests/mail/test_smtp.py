"""Our own e-mails leave under TLS or not at all, whole or not at all, and every failure says whether to try again."""

from __future__ import annotations

import socket
import ssl
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from email import message_from_bytes, policy

import pytest

from server.errors import InvalidInput, Rejected, SsiError, Transient, Unknown
from server.mail.smtp import Letter, Smtp
from simulator.smtp import ACCOUNT
from simulator.world import Fault, World
from tests.mail.mail_server import WHO, MailServer, new_world, serving

TEXT = "Dear Ada,\n.\n.a line that begins with a dot\nGrüße, 東京 🌳\nhttps://sidebar.example.com/settings/sync/email\n"
LETTER = Letter("notice-1@sidebar.example.com", WHO.email, "Your mailbox müsste verbunden werden", TEXT)


@pytest.fixture(scope="module")
def server() -> Iterator[MailServer]:
    with serving() as server:
        yield server


@pytest.fixture
def world(server: MailServer) -> World:
    server.world = new_world()
    return server.world


@pytest.fixture
def smtp(server: MailServer, world: World) -> Smtp:
    return server.client()


def test_a_letter_arrives_as_it_was_written(smtp: Smtp, world: World) -> None:
    smtp.send(LETTER)
    (mail,) = world.mails
    assert (mail.sender, mail.recipients) == (ACCOUNT.user, (WHO.email,))
    assert mail.text == TEXT
    assert mail.headers["subject"] == LETTER.subject
    assert mail.headers["message-id"] == f"<{LETTER.message_id}>"
    assert mail.headers["from"] == f"SSI Sidebar <{ACCOUNT.user}>"
    assert mail.headers["to"] == WHO.email
    assert mail.headers["auto-submitted"] == "auto-generated"
    assert mail.headers["content-type"].startswith("text/plain")
    assert mail.mime.isascii()
    assert not message_from_bytes(mail.mime, policy=policy.default).defects


def test_tls_from_the_first_byte_serves_as_well(server: MailServer, world: World) -> None:
    at = ACCOUNT.user.replace("@", "%40")
    server.client(url=f"smtps://{at}@localhost:{server.submissions.port}").send(LETTER)
    assert [mail.recipients for mail in world.mails] == [(WHO.email,)]


def test_a_letter_that_is_sent_again_is_recognisable(smtp: Smtp, world: World) -> None:
    smtp.send(LETTER)
    smtp.send(LETTER)
    assert len({mail.headers["message-id"] for mail in world.mails}) == 1


# -- Without TLS nothing is said -------------------------------------------------------------------------------------------


def _verbs(world: World) -> list[str]:
    return [each.method for each in world.requests("smtp")]


def test_a_server_that_hides_starttls_gets_neither_password_nor_letter(smtp: Smtp, world: World) -> None:
    world.faults.append(Fault("smtp", "no_starttls"))
    with pytest.raises(Transient, match="TLS"):
        smtp.send(LETTER)
    assert set(_verbs(world)) == {"CONNECT", "EHLO"}


def test_a_refused_starttls_is_no_reason_to_go_on_without(smtp: Smtp, world: World) -> None:
    world.faults.append(Fault("smtp", "status", match="STARTTLS", status=454))
    with pytest.raises(Transient):
        smtp.send(LETTER)
    assert not {"AUTH", "MAIL", "DATA"} & set(_verbs(world))


@pytest.mark.parametrize("scheme", ["smtp", "smtps"])
def test_a_certificate_that_is_not_trusted_ends_it(server: MailServer, world: World, scheme: str) -> None:
    port = (server.submission if scheme == "smtp" else server.submissions).port
    strict = server.client(url=f"{scheme}://me@localhost:{port}", ssl_context=ssl.create_default_context())
    with pytest.raises(Transient, match="certificate"):
        strict.send(LETTER)
    assert not {"AUTH", "MAIL", "DATA"} & set(_verbs(world))


def test_a_certificate_for_another_name_ends_it(server: MailServer, world: World) -> None:
    with pytest.raises(Transient, match="certificate"):
        server.client(url=f"smtp://me@127.0.0.1:{server.submission.port}").send(LETTER)
    assert world.mails == []


def test_a_server_without_tls_at_a_tls_port_is_not_spoken_to(server: MailServer, world: World) -> None:
    with pytest.raises(Transient):
        server.client(url=f"smtps://me@localhost:{server.submission.port}").send(LETTER)
    assert not {"EHLO", "AUTH", "MAIL", "DATA"} & set(_verbs(world))


@pytest.mark.parametrize(
    ("changed", "setting"),
    [
        ({"url": "http://me@localhost"}, "SMTP_URL"),
        ({"url": "localhost:25"}, "SMTP_URL"),
        ({"url": "smtp://me@localhost:port"}, "SMTP_URL"),
        ({"url": "smtp://me@local..host"}, "SMTP_URL"),
        ({"url": "smtp://me:secret@localhost"}, "SMTP_URL"),
        ({"url": "smtp://me@localhost/inbox"}, "SMTP_URL"),
        ({"url": "smtp://localhost"}, "PASSWORD"),
        ({"password": ""}, "PASSWORD"),
        ({"password": "pässword"}, "PASSWORD"),
        ({"password": "a\nb"}, "PASSWORD"),
        ({"sender": ""}, "MAIL_FROM"),
        ({"sender": "somebody"}, "MAIL_FROM"),
        ({"sender": "a\r\nBcc: b@example.com <c@example.com>"}, "MAIL_FROM"),
    ],
)
def test_settings_that_cannot_be_used_are_named_and_no_secret_is_told(
    server: MailServer, changed: dict[str, str], setting: str
) -> None:
    with pytest.raises(InvalidInput) as refused:
        server.client(**changed)
    assert setting in refused.value.field
    assert "secret" not in str(refused.value)
    assert ACCOUNT.password not in str(refused.value)


# -- What the server may answer --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("step", ["CONNECT", "STARTTLS", "AUTH", "MAIL", "RCPT", "DATA", "MESSAGE"])
@pytest.mark.parametrize("status", [421, 451])
def test_a_busy_server_is_asked_again_later(smtp: Smtp, world: World, step: str, status: int) -> None:
    world.faults.append(Fault("smtp", "status", match=step, status=status))
    with pytest.raises(Transient) as error:
        smtp.send(LETTER)
    assert str(status) in str(error.value)
    assert world.mails == []
    smtp.send(LETTER)
    assert len(world.mails) == 1


@pytest.mark.parametrize(("step", "status"), [("RCPT", 550), ("RCPT", 553), ("MESSAGE", 554), ("MESSAGE", 552)])
def test_a_refusal_of_the_address_or_the_letter_is_for_good(smtp: Smtp, world: World, step: str, status: int) -> None:
    world.faults.append(Fault("smtp", "status", match=step, status=status))
    with pytest.raises(Rejected, match=str(status)):
        smtp.send(LETTER)
    assert world.mails == []


def test_an_address_that_the_server_does_not_know_is_refused_without_being_repeated(smtp: Smtp, world: World) -> None:
    with pytest.raises(Rejected, match=r"\(550 5\.1\.2\)") as error:
        smtp.send(replace(LETTER, to="somebody@elsewhere.example"))
    assert "elsewhere" not in str(error.value)
    assert world.mails == []


def test_a_refused_login_waits_for_the_operator_and_tells_no_secret(server: MailServer, world: World) -> None:
    wrong = server.client(password="Wrong-secret-1")
    with pytest.raises(Transient, match=r"user name and password \(535 5\.7\.8\)") as error:
        wrong.send(LETTER)
    assert "Wrong-secret" not in f"{error.value!r} {wrong!r}"
    assert not any("Wrong-secret" in f"{each}" for each in world.access)
    assert world.mails == []


def test_a_server_that_offers_no_login_waits_for_the_operator(smtp: Smtp, world: World) -> None:
    world.faults.append(Fault("smtp", "no_auth", times=2))
    with pytest.raises(Transient, match="log in"):
        smtp.send(LETTER)


def test_a_sender_that_the_server_refuses_waits_for_the_operator(server: MailServer, world: World) -> None:
    with pytest.raises(Transient, match="our address"):
        server.client(sender="boss@aldermill.example").send(LETTER)
    assert world.mails == []


# -- Lines that break ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("step", ["CONNECT", "EHLO", "STARTTLS", "AUTH", "MAIL", "RCPT", "DATA"])
@pytest.mark.parametrize("kind", ["drop", "acted_drop"])
def test_a_line_that_breaks_before_the_letter_was_sent_is_harmless(smtp: Smtp, world: World, step: str, kind: str) -> None:
    world.faults.append(Fault("smtp", kind, match=step))
    with pytest.raises(Transient):
        smtp.send(LETTER)
    assert world.mails == []


@pytest.mark.parametrize(("kind", "taken"), [("drop", 0), ("acted_drop", 1)])
def test_a_line_that_breaks_before_the_letter_was_confirmed_leaves_it_open(
    smtp: Smtp, world: World, kind: str, taken: int
) -> None:
    world.faults.append(Fault("smtp", kind, match="MESSAGE"))
    with pytest.raises(Unknown):
        smtp.send(LETTER)
    assert len(world.mails) == taken


@pytest.mark.parametrize("kind", ["drop", "hang"])
def test_how_the_server_takes_leave_is_of_no_interest(smtp: Smtp, world: World, kind: str) -> None:
    world.faults.append(Fault("smtp", kind, match="QUIT", seconds=5))
    started = time.monotonic()
    smtp.send(LETTER)
    assert time.monotonic() - started < 3
    assert len(world.mails) == 1


@pytest.mark.parametrize(
    ("fault", "raised"),
    [
        (Fault("smtp", "hang", match="CONNECT", seconds=5), Transient),
        (Fault("smtp", "drip", match="CONNECT", seconds=5), Transient),
        (Fault("smtp", "hang", match="RCPT", seconds=5), Transient),
        (Fault("smtp", "hang", match="MESSAGE", seconds=5), Unknown),
    ],
)
def test_a_sending_ends_with_its_deadline_whatever_the_server_does(
    server: MailServer, world: World, fault: Fault, raised: type[SsiError]
) -> None:
    world.faults.append(replace(fault))
    started = time.monotonic()
    with pytest.raises(raised):
        server.client(timeout_s=0.4).send(LETTER)
    assert time.monotonic() - started < 3


def test_a_handshake_that_never_ends_ends_with_the_deadline(server: MailServer) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        started = time.monotonic()
        with pytest.raises(Transient):
            server.client(url=f"smtps://me@localhost:{port}", timeout_s=0.3).send(LETTER)
    assert time.monotonic() - started < 3


def test_a_server_that_is_not_there_is_asked_again_later(server: MailServer) -> None:
    with socket.create_server(("127.0.0.1", 0)) as gone:
        port = gone.getsockname()[1]
    with pytest.raises(Transient, match="cannot be reached"):
        server.client(url=f"smtp://me@localhost:{port}").send(LETTER)


def test_nothing_is_left_running_after_a_sending(smtp: Smtp, world: World) -> None:
    def timers() -> list[threading.Thread]:
        return [thread for thread in threading.enumerate() if isinstance(thread, threading.Timer)]

    before = timers()
    smtp.send(LETTER)
    world.faults.append(Fault("smtp", "drop", match="RCPT"))
    with pytest.raises(Transient):
        smtp.send(LETTER)
    assert timers() == before


# -- Nobody writes into envelope or headers --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "to",
    [
        "",
        "ada",
        "@aldermill.example",
        "ada@",
        "ada@aldermill.example\r\nRCPT TO:<b@aldermill.example>",
        "ada@aldermill.example>\nDATA",
        "ada\r\nBcc: b@aldermill.example",
        "ada@aldermill.example, b@aldermill.example",
        "ada@aldermill.example> SIZE=1",
        "Ada <ada@aldermill.example>",
        "ada\x85@aldermill.example",
        "ada\u2028@aldermill.example",
        "ada\0@aldermill.example",
        "ada..b@aldermill.example",
        "ada@aldermill..example",
        "ada@[127.0.0.1]",
        "ada@aldermill.example\uff0eexample@example.com",
        "x" * 65 + "@aldermill.example",
    ],
)
def test_what_is_not_one_address_is_sent_nowhere(smtp: Smtp, world: World, to: str) -> None:
    with pytest.raises(InvalidInput):
        smtp.send(replace(LETTER, to=to))
    assert world.requests("smtp") == []


@pytest.mark.parametrize(
    "broken", ["a\r\nBcc: b@aldermill.example", "a\nb", "a\rb", "a\u2028b", "a\x0bb", "a\0b", "a\x85b", "\ud800"]
)
def test_a_subject_is_one_line(smtp: Smtp, world: World, broken: str) -> None:
    with pytest.raises(InvalidInput):
        smtp.send(replace(LETTER, subject=broken))
    assert world.requests("smtp") == []


@pytest.mark.parametrize("broken", ["", "a", "<a@example.com>", "a@b\r\nBcc: c", "a b@example.com", "a@example.com\n"])
def test_a_message_id_is_an_id(smtp: Smtp, world: World, broken: str) -> None:
    with pytest.raises(InvalidInput):
        smtp.send(replace(LETTER, message_id=broken))
    assert world.requests("smtp") == []


def test_a_text_cannot_end_the_letter_early(smtp: Smtp, world: World) -> None:
    text = "before\n.\nMAIL FROM:<x@example.com>\n..\n" + "long " * 500 + "\nafter\n"
    smtp.send(replace(LETTER, text=text))
    (mail,) = world.mails
    assert mail.text == text
    assert _verbs(world).count("MAIL") == 1


@pytest.mark.parametrize("subject", ["Betreff: Grüße", "東京 " * 60, "👩‍👩‍👧 family", "=?utf-8?q?encoded?=", "x" * 900])
def test_subjects_in_any_script_and_length_arrive(smtp: Smtp, world: World, subject: str) -> None:
    smtp.send(replace(LETTER, subject=subject.strip()))
    (mail,) = world.mails
    assert mail.mime.isascii()
    assert [len(mail.headers), mail.headers["to"]] == [len(set(mail.headers)), WHO.email]


# -- Addresses beyond ASCII ------------------------------------------------------------------------------------------------


def test_a_domain_beyond_ascii_is_sent_to_by_its_ascii_name(smtp: Smtp, world: World) -> None:
    world.people.append(replace(WHO, email="ada@xn--mhle-0ra.example"))
    smtp.send(replace(LETTER, to="ada@mühle.example"))
    assert world.mails[0].recipients == ("ada@xn--mhle-0ra.example",)


def test_a_name_beyond_ascii_is_sent_to_where_the_server_can(smtp: Smtp, world: World) -> None:
    smtp.send(replace(LETTER, to="jürgen@aldermill.example"))
    assert world.mails[0].recipients == ("jürgen@aldermill.example",)
    assert world.mails[0].headers["to"] == "jürgen@aldermill.example"


def test_a_name_beyond_ascii_is_refused_where_the_server_cannot(smtp: Smtp, world: World) -> None:
    world.faults.append(Fault("smtp", "no_smtputf8", times=2))
    with pytest.raises(Rejected, match="ASCII"):
        smtp.send(replace(LETTER, to="jürgen@aldermill.example"))
    assert world.mails == []


def test_nothing_of_a_letter_shows_in_its_repr() -> None:
    shown = repr(LETTER)
    assert LETTER.message_id in shown
    assert not any(part in shown for part in (WHO.email, LETTER.subject, "Dear"))
