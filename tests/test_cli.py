"""The command line: what an administrator sets up, and one line that says what went wrong."""

import json
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from lxml import etree

from server import logs
from server.cli import main
from server.config import Settings
from server.store import Store
from simulator.ports import CODES, Simulator
from simulator.world import World


@dataclass(frozen=True)
class Ended:
    code: int
    out: str
    err: str


Ssi = Callable[..., Ended]


@pytest.fixture
def environment(settings: Settings, simulator: Simulator) -> dict[str, str]:
    own = {
        "SSI_DATABASE_URL": settings.database_url,
        "SSI_KEY_FILE": str(settings.key_file),
        "SSI_PUBLIC_URL": settings.public_url,
    }
    return {**simulator.provisioning()["environment"], **own}


@pytest.fixture
def ssi(environment: dict[str, str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Ssi:
    """Run `ssi` with these arguments; keyword arguments change the environment, None removes a variable."""

    def run(*arguments: object, **changes: str | None) -> Ended:
        with monkeypatch.context() as patch:
            for name, value in {**environment, **changes}.items():
                if value is not None:
                    patch.setenv(name, value)
            patch.setattr(sys, "argv", ["ssi", *map(str, arguments)])
            try:
                with pytest.raises(SystemExit) as ended:
                    main()
            finally:
                logs.configure("text")  # the command line sets it for its process, which here goes on
        shown = capsys.readouterr()
        return Ended(int(ended.value.code or 0), shown.out, shown.err)

    return run


def file(folder: Path, name: str, content: Any) -> Path:
    path = folder / name
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


def fails(ended: Ended, *words: str) -> bool:
    """Assert exit code 1 and one line on standard error that holds these words; always true."""
    assert ended.code == 1, ended
    assert ended.out == ""
    (line,) = ended.err.splitlines()
    assert line.startswith("ssi: ")
    for word in words:
        assert word in line
    return True


# Settings


def test_a_setting_that_is_wrong_is_named_in_one_line(ssi: Ssi, tmp_path: Path) -> None:
    assert fails(ssi("tenant", "list", SSI_COLOUR="blue"), "SSI_COLOUR", "no such setting")
    assert fails(ssi("tenant", "list", SSI_PORT="eighty"), "SSI_PORT", "eighty")
    assert fails(ssi("tenant", "list", SSI_KEY_FILE=str(tmp_path / "none")), "key_file")
    assert fails(ssi("tenant", "list", SSI_PUBLIC_URL=None), "SSI_PUBLIC_URL", "must be set")


def test_a_database_that_cannot_be_reached_is_said_so(ssi: Ssi) -> None:
    assert fails(ssi("tenant", "list", SSI_DATABASE_URL="postgresql+psycopg://x@127.0.0.1:9/x"), "database")


# From nothing to a person who can sign in


def test_an_installation_is_set_up_step_by_step(ssi: Ssi, simulator: Simulator, world: World, tmp_path: Path) -> None:
    database = {"SSI_DATABASE_URL": f"sqlite:///{tmp_path / 'new.sqlite'}"}
    assert ssi("migrate", **database) == Ended(0, "", "")
    given = simulator.provisioning()["tenant"]
    c4c = {name: value for name, value in given["c4c"].items() if name != "saml_certificate"}
    secrets = {"oauth_client_secret": given["secrets"]["oauth_client_secret"]}
    arguments = ("--c4c", file(tmp_path, "c4c.json", c4c), "--secrets", file(tmp_path, "secrets.json", secrets))
    added = ssi("tenant", "add", "north", *arguments, "--identity-tenant", world.entra_tenant.upper(), **database)
    assert added.code == 0
    certificate = x509.load_pem_x509_certificate(added.out.encode())
    assert "north" in certificate.subject.rfc4514_string()
    assert "KEY" not in added.out
    world.c4c.saml_certificate_pem = added.out  # what the C4C administrator uploads
    assert ssi("tenant", "list", **database).out == f"north\t{c4c['url']}\n"
    profile = file(tmp_path, "profile.json", {"leads_enabled": True})
    set_up = ("--access-type", "office365", "--admin-contact", "it@example.com", "--profile", profile)
    assert ssi("org", "set", "north", "Sales", *set_up, **database).code == 0
    person = world.people[0]
    who = ("--email", person.email, "--name", person.name, "--c4c-user", person.user_id.lower())
    identity = ("--identity", world.entra_tenant.upper(), person.object_id)
    assert ssi("user", "add", "north", "Sales", *who, *identity, **database).code == 0
    assert ssi("user", "list", "north", **database).out == f"{person.email}\t{person.user_id}\tenabled\n"
    healthy = ssi("doctor", "north", person.email.upper(), "--json", **database)
    assert json.loads(healthy.out) == {"user_id": person.user_id, "locked": False, "problems": []}
    assert fails(ssi("tenant", "add", "north", *arguments, "--identity-tenant", "another", **database), "exists already")
    assert fails(ssi("user", "add", "north", "Sales", *who, **database), "exists already")


def test_a_user_whom_c4c_does_not_know_is_not_confirmed(ssi: Ssi) -> None:
    who = ("--email", "new@example.com", "--name", "New", "--c4c-user", "NOBODY")
    assert fails(ssi("user", "add", "demo", "Sales", *who), "SAP Cloud for Customer")
    assert ssi("user", "add", "demo", "Sales", *who[:-1], "SOMEBODY", "--email", "else@example.com", "--no-check").code == 0


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("user", "list", "nowhere"), "no such tenant"),
        (("org", "set", "nowhere", "Sales", "--access-type", "office365", "--admin-contact", "a@b.example"), "no such tenant"),
        (("org", "set", "demo", "Sales", "--access-type", "fax", "--admin-contact", "a@b.example"), "access_type"),
        (("org", "set", "demo", "Sales", "--access-type", "google", "--admin-contact", "nobody"), "admin_contact"),
        (("user", "add", "demo", "None", "--email", "a@b.example", "--name", "N", "--c4c-user", "N"), "organization"),
        (("user", "add", "demo", "Sales", "--email", "nobody", "--name", "N", "--c4c-user", "N"), "email"),
        (("doctor", "demo", "nobody@example.com"), "enabled user"),
    ],
)
def test_what_cannot_be_meant_is_refused(ssi: Ssi, arguments: tuple[str, ...], words: str) -> None:
    assert fails(ssi(*arguments), words)


def test_unknown_settings_of_tenant_and_profile_are_refused(ssi: Ssi, tmp_path: Path) -> None:
    def add(c4c: Any, secrets: Any = None) -> Ended:
        files = ["--c4c", file(tmp_path, "c4c.json", c4c)] + (["--secrets", file(tmp_path, "s.json", secrets)] if secrets else [])
        return ssi("tenant", "add", "new", *files, "--identity-tenant", "x")

    links = {"origin": "https://c4c.example.com"}
    assert fails(add({"url": "https://c4c.example.com/", "colour": "blue", "links": links}), "c4c.colour", "no such setting")
    assert fails(add({"links": links}), "c4c.url", "must be set")
    assert fails(add({"url": "https://c4c.example.com/", "links": links}), "direction_incoming", "codes")
    assert fails(add({"url": "https://c4c.example.com/", "codes": CODES, "links": {"origin": "ftp://x"}}), "origin")
    assert fails(add("{"), "c4c.json", "not JSON")
    assert fails(add("[]"), "c4c.json", "JSON object")
    usable = {"url": "https://c4c.example.com/", "codes": CODES, "links": links}
    refused = add(usable, {"password": "CANARY-secret"})
    assert fails(refused, "secrets.password", "no such setting")
    assert "CANARY" not in refused.err
    profile = ("--profile", file(tmp_path, "profile.json", {"leads_enabld": True}))
    assert fails(
        ssi("org", "set", "demo", "Sales", "--access-type", "google", "--admin-contact", "a@b.example", *profile), "leads"
    )


# Provisioning documents


def test_a_document_sets_up_everything_and_is_refused_a_second_time(
    ssi: Ssi, simulator: Simulator, world: World, tmp_path: Path
) -> None:
    database = {"SSI_DATABASE_URL": f"sqlite:///{tmp_path / 'new.sqlite'}"}
    assert ssi("migrate", **database).code == 0
    document = file(tmp_path, "demo.json", simulator.provisioning())
    assert ssi("provision", document, **database) == Ended(0, "", "")
    assert len(ssi("user", "list", "demo", **database).out.splitlines()) == sum(p.provisioned for p in world.people)
    assert ssi("doctor", "demo", world.people[1].email, **database).code == 0
    assert fails(ssi("provision", document, **database), "exists already")


def test_a_mailbox_is_connected_and_a_service_account_is_kept_from_a_file(
    ssi: Ssi, simulator: Simulator, world: World, settings: Settings, tmp_path: Path
) -> None:
    login = {"url": f"{simulator.ews.url}/EWS/Exchange.asmx", "user": "mara", "password": "CANARY-secret"}
    own, service = file(tmp_path, "own.json", {"provider": "exchange", **login}), file(tmp_path, "service.json", login)
    person = world.people[0]
    connected = ssi("user", "connect", "demo", person.email, own, "--json")
    assert (connected.code, connected.err) == (0, "")
    assert [one["state"] for one in json.loads(connected.out)["connections"]] == ["active"]
    assert ssi("user", "connect", "demo", person.email.upper(), own).code == 0
    arguments = ("--access-type", "exchange_impersonation", "--admin-contact", "a@b.example", "--service-account", service)
    assert ssi("org", "set", "demo", "Sales", *arguments).code == 0
    store = Store(settings.database_url)
    with store.transaction(reading=True) as tx:
        (user,) = [one for one in tx.users(tx.tenant("demo").id) if one.email == person.email]
        (connection,) = tx.connections_of(user.id)
        organization = tx.organization_of(user.id)
    store.close()
    assert (connection.provider, connection.mailbox, connection.state) == ("exchange", person.email, "active")
    for sealed in (connection.credentials, organization.service_account):
        assert sealed
        assert b"CANARY" not in sealed
    wrong = file(tmp_path, "wrong.json", {"provider": "exchange", **login, "colour": "CANARY-blue"})
    refused = ssi("user", "connect", "demo", person.email, wrong)
    assert fails(refused, "mailbox.colour", "no such setting")
    assert "CANARY" not in refused.err
    assert fails(ssi("user", "connect", "demo", "nobody@example.com", own), "no user")


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"tenant": 7}', '{"tenant": {"name": "x"}}'])
def test_a_document_that_is_none_is_refused(ssi: Ssi, tmp_path: Path, content: str) -> None:
    assert fails(ssi("provision", file(tmp_path, "wrong.json", content)), "wrong.json")


# Doctor and manifest


def test_the_doctor_names_codes_that_the_tenant_does_not_have(ssi: Ssi, world: World, environment: dict[str, str]) -> None:
    store = Store(environment["SSI_DATABASE_URL"])
    with store.transaction() as tx:
        tenant = tx.tenant("demo")
        codes = {**CODES, "note_type": "99999"}
        tx.set_c4c(tenant.id, replace(tenant.c4c, codes=codes), None)
    store.close()
    ill = ssi("doctor", "demo", world.people[0].email)
    assert ill.code == 1
    assert "note_type" in ill.out


def test_the_manifest_has_this_installations_origin(ssi: Ssi, settings: Settings) -> None:
    shown = ssi("manifest", "--public-url", "https://pane.example.com/")
    assert shown.code == 0
    etree.fromstring(shown.out.encode())
    assert "https://pane.example.com/sidebar" in shown.out
    assert "localhost:8400" not in shown.out
    assert settings.client_id in shown.out


def test_help_is_there_for_every_command(ssi: Ssi) -> None:
    commands = ("serve", "worker", "migrate", "tenant", "org", "user", "provision", "manifest", "doctor", "keys")
    shown = ssi("--help")
    assert (shown.code, [c for c in commands if c not in shown.out]) == (0, [])
    for command in commands:
        assert ssi(command, "--help").code == 0
    assert ssi("no-such-command").code == 2
