"""The simulated mail server takes a mail only as a strict server would, and keeps what it took."""

from __future__ import annotations

import smtplib
import socket
from collections.abc import Iterator

import pytest
from flask.testing import FlaskClient

from simulator.smtp import ACCOUNT, MAX_BYTES
from simulator.world import Fault, Gate, World
from tests.mail.mail_server import WHO, MailServer, new_world, serving

MAIL = (
    f"From: {ACCOUNT.user}\r\nTo: {WHO.email}\r\nSubject: Hello\r\nDate: Sun, 22 Nov 2026 10:00:00 +0000\r\n"
    "Message-ID: <one@example.com>\r\n\r\nText\r\n.with a dot\r\n"
)


@pytest.fixture(scope="module")
def server() -> Iterator[MailServer]:
    with serving() as server:
        yield server


@pytest.fixture
def world(server: MailServer) -> World:
    server.world = new_world()
    return server.world


@pytest.fixture
def plain(server: MailServer, world: World) -> Iterator[smtplib.SMTP]:
    with smtplib.SMTP("localhost", server.submission.port, "test.example", timeout=5) as client:
        yield client


@pytest.fixture
def secure(server: MailServer, plain: smtplib.SMTP) -> smtplib.SMTP:
    plain.starttls(context=server.tls)
    plain.ehlo()
    return plain


@pytest.fixture
def trusted(secure: smtplib.SMTP) -> smtplib.SMTP:
    secure.login(ACCOUNT.user, ACCOUNT.password)
    return secure


def test_a_mail_is_kept_with_its_envelope_headers_and_text(trusted: smtplib.SMTP, world: World) -> None:
    trusted.sendmail(ACCOUNT.user, [WHO.email], MAIL)
    (mail,) = world.mails
    assert (mail.sender, mail.recipients) == (ACCOUNT.user, (WHO.email,))
    assert mail.headers["subject"] == "Hello"
    assert mail.text == "Text\n.with a dot\n"
    assert mail.mime == MAIL.encode()
    (event,) = world.events("smtp", "mail")
    assert event.detail == {"message_id": "<one@example.com>", "to": [WHO.email], "subject": "Hello"}


def test_before_tls_there_is_neither_login_nor_mail(plain: smtplib.SMTP, world: World) -> None:
    plain.ehlo()
    assert not plain.has_extn("auth")
    assert plain.docmd("AUTH", "PLAIN AAAA")[0] == 530
    assert plain.mail(ACCOUNT.user)[0] == 530


def test_before_login_there_is_no_mail(secure: smtplib.SMTP) -> None:
    assert secure.mail(ACCOUNT.user) == (530, b"5.7.0 Authentication required")


def test_what_was_said_before_tls_does_not_count(server: MailServer, world: World) -> None:
    with socket.create_connection(("localhost", server.submission.port), 5) as sock:
        sock.recv(1000)
        sock.sendall(b"STARTTLS\r\nEHLO injected.example\r\n")
        assert sock.recv(1000).startswith(b"220")
        with server.tls.wrap_socket(sock, server_hostname="localhost") as line:
            line.sendall(b"MAIL FROM:<a@example.com>\r\n")
            assert line.recv(1000).startswith(b"503 5.5.1 Error: send HELO/EHLO first")
    assert "EHLO" not in [each.method for each in world.requests("smtp")]


@pytest.mark.parametrize(("user", "password"), [(ACCOUNT.user, "wrong"), ("nobody", ACCOUNT.password)])
def test_a_wrong_password_is_refused_and_in_no_log(secure: smtplib.SMTP, world: World, user: str, password: str) -> None:
    with pytest.raises(smtplib.SMTPAuthenticationError) as refused:
        secure.login(user, password)
    assert refused.value.smtp_code == 535
    assert {each.path for each in world.requests("smtp") if each.method == "AUTH"} == {""}


@pytest.mark.parametrize("said", ["!", "AAAA", "/wBh/wBi", "YWRh"])
def test_a_login_that_cannot_be_read_is_refused(secure: smtplib.SMTP, said: str) -> None:
    assert secure.docmd("AUTH", f"PLAIN {said}")[0] == 535
    assert secure.docmd("AUTH", "CRAM-MD5")[0] == 535


def test_nobody_sends_from_another_address(trusted: smtplib.SMTP) -> None:
    assert trusted.mail(WHO.email)[0] == 553


def test_a_domain_that_is_not_the_demos_is_not_known(trusted: smtplib.SMTP) -> None:
    trusted.mail(ACCOUNT.user)
    assert trusted.rcpt("ada@elsewhere.example")[0] == 550
    assert trusted.rcpt(WHO.email)[0] == 250


def test_commands_come_in_their_order(trusted: smtplib.SMTP) -> None:
    assert trusted.rcpt(WHO.email)[0] == 503
    assert trusted.docmd("DATA")[0] == 503
    trusted.mail(ACCOUNT.user)
    assert trusted.mail(ACCOUNT.user)[0] == 503
    assert trusted.docmd("DATA")[0] == 503
    assert trusted.rset()[0] == 250
    assert trusted.rcpt(WHO.email)[0] == 503
    assert trusted.docmd("TURN")[0] == 502
    assert trusted.docmd("MAIL", "FROM: ada")[0] == 501


@pytest.mark.parametrize("broken", [b"Text\n.\r\n", b"Text\n.\nMAIL FROM:<x@example.com>\r\n", b"Te\rxt\r\n"])
def test_a_bare_line_feed_ends_the_conversation(trusted: smtplib.SMTP, world: World, broken: bytes) -> None:
    trusted.mail(ACCOUNT.user)
    trusted.rcpt(WHO.email)
    trusted.docmd("DATA")
    trusted.send(MAIL.encode() + broken + b".\r\n")
    assert trusted.getreply()[0] == 521
    with pytest.raises(smtplib.SMTPServerDisconnected):
        trusted.noop()
    assert world.mails == []


def test_a_mail_that_is_too_large_is_refused(trusted: smtplib.SMTP, world: World) -> None:
    assert trusted.mail(ACCOUNT.user, [f"SIZE={MAX_BYTES + 1}"])[0] == 552
    trusted.mail(ACCOUNT.user)
    trusted.rcpt(WHO.email)
    assert trusted.data(MAIL + ("x" * 900 + "\r\n") * (MAX_BYTES // 900))[0] == 552
    assert world.mails == []


@pytest.mark.parametrize("missing", ["From", "To", "Subject", "Date", "Message-ID"])
def test_a_mail_has_each_header_once(trusted: smtplib.SMTP, world: World, missing: str) -> None:
    lines = [line for line in MAIL.splitlines() if not line.startswith(f"{missing}:")]
    doubled = [next(line for line in MAIL.splitlines() if line.startswith(f"{missing}:")), *MAIL.splitlines()]
    for content in (lines, doubled):
        with pytest.raises(smtplib.SMTPDataError) as refused:
            trusted.sendmail(ACCOUNT.user, [WHO.email], "\r\n".join(content))
        assert (refused.value.smtp_code, missing.lower().encode() in refused.value.smtp_error) == (550, True)
    assert world.mails == []


def test_letters_beyond_ascii_need_smtputf8(trusted: smtplib.SMTP, world: World) -> None:
    trusted.command_encoding = "utf-8"
    trusted.mail(ACCOUNT.user)
    assert trusted.rcpt("jürgen@aldermill.example")[0] == 553
    trusted.rset()
    with pytest.raises(smtplib.SMTPDataError):
        trusted.sendmail(ACCOUNT.user, [WHO.email], MAIL.replace("Hello", "Grüße").encode())
    trusted.rset()
    trusted.mail(ACCOUNT.user, ["SMTPUTF8"])
    assert trusted.rcpt("jürgen@aldermill.example")[0] == 250


def test_a_fault_is_answered_once_and_421_ends_the_conversation(trusted: smtplib.SMTP, world: World) -> None:
    world.faults.append(Fault("smtp", "status", match="MAIL", status=451))
    assert trusted.mail(ACCOUNT.user)[0] == 451
    world.faults.append(Fault("smtp", "status", match=f"RCPT {WHO.email}", status=421))
    assert trusted.mail(ACCOUNT.user)[0] == 250
    assert trusted.rcpt(WHO.email)[0] == 421
    with pytest.raises(smtplib.SMTPServerDisconnected):
        trusted.noop()


def test_a_gate_holds_a_mail_that_was_taken_and_may_lose_its_answer(trusted: smtplib.SMTP, world: World) -> None:
    world.gate = gate = Gate(acted=True, match="smtp MESSAGE")
    gate.open(lost=True)
    with pytest.raises(smtplib.SMTPServerDisconnected):
        trusted.sendmail(ACCOUNT.user, [WHO.email], MAIL)
    assert len(world.mails) == 1


def test_the_back_door_lists_what_was_caught(client: FlaskClient, world: World) -> None:
    assert client.get("/world/mails").get_json() == []
    mail = {"sender": ACCOUNT.user, "recipients": (WHO.email,), "headers": {"subject": "Hello"}, "text": "Text", "mime": b"x"}
    world.caught(**mail)
    world.caught(**mail)
    first, second = client.get("/world/mails").get_json()
    assert (first["headers"], first["text"], first["recipients"]) == ({"subject": "Hello"}, "Text", [WHO.email])
    assert client.get(f"/world/mails?since={first['seq']}").get_json() == [second]
