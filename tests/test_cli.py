"""The command line: what an administrator sets up, and one line that says what went wrong."""

import io
import json
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from cryptography import x509
from lxml import etree

from server.config import Settings
from server.services import Deps
from server.store import Connection, Organization, Store
from server.worker import Dispatcher
from simulator import demo
from simulator.ports import CODES, Simulator
from simulator.world import AccessType, Fault, Person, World
from tests.api import Api
from tests.conftest import Command, Ended

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
def ssi(environment: dict[str, str], command: Command) -> Ssi:
    """Run `ssi` with these arguments; keyword arguments change the environment, None removes a variable."""

    def run(*arguments: object, **changes: str | None) -> Ended:
        chosen = {name: value for name, value in {**environment, **changes}.items() if value is not None}
        return command(chosen, *arguments)

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
    assert healthy.code == 0
    assert json.loads(healthy.out) == {
        "c4c": {"user": person.user_id, "locked": False},
        "sign_in": {"by": "oidc", "issuer": c4c["oidc"]["issuer"]},
        "connections": [],
        "sends_mails": True,
        "problems": [],
    }
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
        (("doctor", "demo", "nobody@example.com"), "no user"),
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


# Tenants, organizations and people, one by one


def value(ended: Ended) -> Any:
    """Assert that a command went well and printed one JSON value, in which nothing secret stands; return that."""
    assert ended.code == 0, ended
    for secret in ("CANARY", '"password":', "_secret", "PRIVATE KEY"):
        assert secret not in ended.out
    return json.loads(ended.out)


def at(access_type: AccessType) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("access_type", [access_type], indirect=True)


@pytest.fixture
def person(world: World) -> Person:
    return world.people[0]


def who(person: Person) -> tuple[str, ...]:
    return ("--email", person.email, "--name", person.name, "--c4c-user", person.user_id)


def test_a_tenant_is_changed_where_it_is_said_and_stays_elsewhere(ssi: Ssi, simulator: Simulator, tmp_path: Path) -> None:
    given = simulator.provisioning()["tenant"]
    before = value(ssi("tenant", "set", "demo", "--json"))
    assert before == {
        "id": before["id"],
        "name": "demo",
        "c4c": before["c4c"],
        "identity_tenants": sorted(given["identity_tenants"]),
    }
    assert before["c4c"]["oidc"] == given["c4c"]["oidc"]
    secrets = file(tmp_path, "secrets.json", {"oidc_client_secret": "CANARY-oidc"})
    without = file(tmp_path, "c4c.json", {key: v for key, v in given["c4c"].items() if key not in ("oidc", "saml_certificate")})
    more = ("--identity-tenant", "exchange:MAIL.example.com", "--secrets", secrets)
    after = value(ssi("tenant", "set", "demo", "--c4c", without, *more, "--json"))
    assert after["c4c"] == {**before["c4c"], "oidc": {}}  # people now sign in with their C4C password
    assert after["identity_tenants"] == sorted([*before["identity_tenants"], "exchange:mail.example.com"])
    assert value(ssi("tenant", "list", "--json")) == [after]
    assert ssi("tenant", "set", "demo", *more).out == "demo: changed\n"
    assert fails(ssi("tenant", "set", "nowhere"), "no such tenant")
    assert value(ssi("doctor", "demo", simulator.world.people[0].email, "--json"))["sign_in"] == {
        "by": "password",
        "issuer": None,
    }


def test_the_identity_provider_of_a_tenant_is_described_whole(ssi: Ssi, simulator: Simulator, tmp_path: Path) -> None:
    given = simulator.provisioning()["tenant"]["c4c"]
    for oidc in ({"issuer": "https://id.example.com"}, {**given["oidc"], "colour": "blue"}):
        assert fails(ssi("tenant", "set", "demo", "--c4c", file(tmp_path, "c4c.json", {**given, "oidc": oidc})), "c4c.oidc")


def test_an_organization_keeps_what_a_change_does_not_name(ssi: Ssi, tmp_path: Path) -> None:
    profile = file(tmp_path, "profile.json", {"leads_enabled": True})
    new = ("--access-type", "user_choice", "--admin-contact", "it@example.com")
    url = "https://mail.example.com/EWS/Exchange.asmx"
    made = value(ssi("org", "set", "demo", "House", *new, "--profile", profile, "--ews-url", url, "--json"))
    shown = (made["name"], made["access_type"], made["admin_contact"], made["ews_url"], made["has_service_account"])
    assert shown == ("House", "user_choice", "it@example.com", url, False)
    assert made["profile"]["leads_enabled"]
    changed = value(ssi("org", "set", "demo", "House", "--access-type", "exchange_direct", "--json"))
    assert changed == {**made, "access_type": "exchange_direct"}
    assert value(ssi("org", "set", "demo", "House", "--ews-url", "", "--json")) == {**changed, "ews_url": ""}
    assert value(ssi("org", "set", "demo", "House", "--admin-contact", "new@example.com", "--json"))["ews_url"] == ""
    assert "House\texchange_direct\tnew@example.com" in ssi("org", "list", "demo").out.splitlines()
    assert [one["name"] for one in value(ssi("org", "list", "demo", "--json"))] == ["House", "Sales"]
    assert fails(ssi("org", "set", "demo", "Other", "--access-type", "google"), "admin_contact")
    assert fails(ssi("org", "set", "demo", "Other", "--admin-contact", "it@example.com"), "access_type")


@at("exchange_impersonation")
def test_a_service_account_is_set_from_the_standard_input(
    ssi: Ssi, simulator: Simulator, person: Person, monkeypatch: pytest.MonkeyPatch
) -> None:
    (given,) = [one for one in simulator.provisioning()["organizations"] if "service_account" in one]
    login, name = given["service_account"], given["name"]

    def entered(password: str, *more: str) -> Ended:
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(password.encode())))
        return ssi("org", "set", "demo", name, "--impersonation-account", login["user"], "--password-file", "-", *more)

    assert fails(entered("CANARY-secret"), "service_account.url")  # neither given nor known
    assert value(entered(f"{login['password']}\r\n", "--ews-url", login["url"], "--json"))["has_service_account"]
    assert ssi("user", "remove", "demo", person.email).code == 0
    assert ssi("user", "add", "demo", name, *who(person)).code == 0
    assert entered("CANARY-wrong").code == 0  # where the server is was said before
    assert ssi("user", "remove", "demo", person.email).code == 0
    refused = ssi("user", "add", "demo", name, *who(person))
    assert fails(refused, "Exchange no longer accepts the user name and password.")
    assert "CANARY" not in refused.err
    assert fails(entered(""), "password")
    assert fails(entered("x", "--ews-url", "https://outlook.office365.com/EWS/Exchange.asmx"), "Exchange Online")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--impersonation-account", "svc"), "--impersonation-account and --password-file go together"),
        (("--password-file", "-"), "--impersonation-account and --password-file go together"),
        (("--impersonation-account", "svc", "--password-file", "-", "--service-account", "-"), "give one of them"),
    ],
)
def test_options_that_do_not_fit_together_are_explained(ssi: Ssi, options: tuple[str, ...], words: str) -> None:
    ended = ssi("org", "set", "demo", "Sales", *options)
    assert (ended.code, ended.out) == (2, "")
    assert words in ended.err


def test_impersonation_needs_a_service_account(ssi: Ssi) -> None:
    assert fails(
        ssi("org", "set", "demo", "Sales", "--access-type", "exchange_impersonation"), "service_account", "must be given"
    )
    assert [one["access_type"] for one in value(ssi("org", "list", "demo", "--json"))] == ["office365"]


@at("exchange_impersonation")
def test_under_impersonation_a_person_is_connected_by_being_added(ssi: Ssi, world: World, person: Person, deps: Deps) -> None:
    organization = value(ssi("user", "show", "demo", person.email, "--json"))["organization"]
    assert value(ssi("user", "remove", "demo", person.email, "--json")) == {"email": person.email, "removed": True}
    world.faults.append(Fault("exchange", "status", status=401, times=None))
    assert fails(ssi("user", "add", "demo", organization, *who(person)), "no longer accepts the user name and password")
    assert fails(ssi("user", "show", "demo", person.email), "no user")
    world.faults.clear()
    (connection,) = value(ssi("user", "add", "demo", organization, *who(person), "--json"))["connections"]
    assert (connection["provider"], connection["mailbox"], connection["state"]) == ("exchange", person.email, "active")
    assert connection["session"] == {"state": "queued", "phase": "", "reason": ""}
    dispatcher = Dispatcher(deps, threads=0, poll_s=1)
    while dispatcher.run_once():
        pass
    shown = ssi("user", "show", "demo", person.email).out.splitlines()
    assert f"mailbox: {person.email} at exchange, active, session done" in shown


@at("exchange_impersonation")
def test_under_impersonation_a_person_who_is_switched_on_again_is_connected(ssi: Ssi, world: World, person: Person) -> None:
    off = value(ssi("user", "disable", "demo", person.email, "--json"))
    assert (off["enabled"], [one["state"] for one in off["connections"]]) == (False, ["active"])
    world.faults.append(Fault("exchange", "status", status=401, times=None))
    assert fails(ssi("user", "enable", "demo", person.email), "no longer accepts")
    assert not value(ssi("user", "show", "demo", person.email, "--json"))["enabled"]
    world.faults.clear()
    on = value(ssi("user", "enable", "demo", person.email, "--json"))
    assert (on["enabled"], [one["state"] for one in on["connections"]]) == (True, ["active"])


@at("exchange_impersonation")
def test_under_impersonation_another_mailbox_is_connected_when_it_is_named(ssi: Ssi, world: World, person: Person) -> None:
    before = value(ssi("user", "show", "demo", person.email, "--json"))
    assert fails(ssi("user", "set", "demo", person.email, "--mailbox", "nobody@example.com"), "mailbox")
    assert value(ssi("user", "show", "demo", person.email, "--json")) == before
    other = world.people[1]
    demo.rehome(world, other, "exchange_impersonation")
    after = value(ssi("user", "set", "demo", person.email, "--mailbox", other.email, "--json"))
    assert [(one["mailbox"], one["state"]) for one in after["connections"]] == [(other.email, "active")]


def test_an_account_that_was_linked_to_somebody_is_unlinked(ssi: Ssi, person: Person, me: Api, world: World) -> None:
    assert me.get("/me").status_code == 200
    assert "no account of elsewhere.example" in ssi("user", "unlink", "demo", person.email, "elsewhere.example").err
    assert value(ssi("user", "unlink", "demo", person.email, world.entra_tenant.upper(), "--json"))["identities"] == []
    assert me.get("/me").status_code == 403


def test_a_person_is_switched_off_and_on_and_may_have_another_mailbox(ssi: Ssi, person: Person, world: World) -> None:
    shown = value(ssi("user", "show", "demo", person.email, "--json"))
    assert shown == {
        "email": person.email,
        "name": person.name,
        "c4c_user": person.user_id,
        "organization": "Sales",
        "access_type": "office365",
        "enabled": True,
        "other_mailbox": "",
        "identities": [{"tenant": world.entra_tenant, "subject": person.object_id}],
        "connections": [],
    }
    assert value(ssi("user", "disable", "demo", person.email, "--json")) == {**shown, "enabled": False}
    assert f"{person.email}\t{person.user_id}\tdisabled" in ssi("user", "list", "demo").out
    assert fails(ssi("doctor", "demo", person.email), "not an enabled user")
    assert ssi("user", "enable", "demo", person.email).out == f"{person.email}: enabled\n"
    allowed = value(ssi("user", "set", "demo", person.email, "--mailbox", "team@example.com", "--json"))
    assert allowed == {**shown, "other_mailbox": "team@example.com"}
    assert "other_mailbox: team@example.com" in ssi("user", "show", "demo", person.email).out.splitlines()
    assert value(ssi("user", "set", "demo", person.email, "--mailbox", "", "--json")) == shown
    assert fails(ssi("user", "set", "demo", person.email, "--mailbox", "nobody"), "mailbox")
    assert shown in value(ssi("user", "list", "demo", "--json"))
    for command in ("show", "disable", "enable", "remove"):
        assert fails(ssi("user", command, "demo", "nobody@example.com"), "no user")


def test_a_mailbox_that_the_administrator_connects_takes_the_old_ones_place(
    ssi: Ssi, simulator: Simulator, person: Person, tmp_path: Path
) -> None:
    assert ssi("org", "set", "demo", "Sales", "--access-type", "user_choice").code == 0
    login = {"url": f"{simulator.ews.url}/EWS/Exchange.asmx", "user": "mara", "password": "CANARY-secret"}
    states = []
    for mailbox in ({"provider": "exchange", **login}, {"provider": "google", "refresh_token": "CANARY-token"}):
        connected = value(ssi("user", "connect", "demo", person.email, file(tmp_path, "own.json", mailbox), "--json"))
        states.append({one["provider"]: one["state"] for one in connected["connections"]})
    assert states == [{"exchange": "active"}, {"exchange": "disconnected", "google": "active"}]


def test_an_empty_list_is_one_json_value_too(ssi: Ssi, tmp_path: Path) -> None:
    database = {"SSI_DATABASE_URL": f"sqlite:///{tmp_path / 'new.sqlite'}"}
    assert ssi("migrate", **database).code == 0
    assert ssi("tenant", "list", "--json", **database).out == "[]\n"
    assert ssi("tenant", "list", **database).out == ""


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


def _kept(settings: Settings, email: str) -> tuple[Connection, Organization]:
    store = Store(settings.database_url)
    with store.transaction(reading=True) as tx:
        (user,) = [one for one in tx.users(tx.tenant("demo").id) if one.email == email]
        (connection,) = tx.connections_of(user.id)
        organization = tx.organization_of(user.id)
    store.close()
    return connection, organization


def test_a_mailbox_is_connected_and_a_service_account_is_kept_from_a_file(
    ssi: Ssi, simulator: Simulator, world: World, settings: Settings, tmp_path: Path
) -> None:
    login = {"url": f"{simulator.ews.url}/EWS/Exchange.asmx", "user": "mara", "password": "CANARY-secret"}
    own, service = file(tmp_path, "own.json", {"provider": "exchange", **login}), file(tmp_path, "service.json", login)
    person = world.people[0]
    assert fails(ssi("user", "connect", "demo", person.email, own), "mailbox", "office365")  # which such a login does not open
    assert ssi("org", "set", "demo", "Sales", "--access-type", "exchange_direct").code == 0
    connected = ssi("user", "connect", "demo", person.email, own, "--json")
    assert connected.code == 0
    assert [one["state"] for one in json.loads(connected.out)["connections"]] == ["active"]
    assert ssi("user", "connect", "demo", person.email.upper(), own).code == 0
    sealed = [_kept(settings, person.email)[0].credentials]
    arguments = ("--access-type", "exchange_impersonation", "--admin-contact", "a@b.example", "--service-account", service)
    assert ssi("org", "set", "demo", "Sales", *arguments).code == 0
    connection, organization = _kept(settings, person.email)
    assert (connection.mailbox, connection.state, connection.credentials) == (person.email, "active", None)
    sealed.append(organization.service_account)
    assert all(one and b"CANARY" not in one for one in sealed)
    assert ssi("org", "set", "demo", "Sales", "--access-type", "exchange_direct").code == 0
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
    assert "PROBLEM: SAP Cloud for Customer lacks a code that saving uses: note_type: 99999" in ill.out.splitlines()


@at("exchange_impersonation")
def test_the_doctor_tells_of_everything_whatever_is_away(ssi: Ssi, world: World, person: Person, deps: Deps) -> None:
    with deps.store.transaction() as tx:
        (user,) = [one for one in tx.users(tx.tenant("demo").id) if one.email == person.email]
        (connection,) = tx.connections_of(user.id)
        tx.set_connection_state(connection.id, "needs_reauth", "The account is locked.", deps.now())
    world.faults += [Fault("c4c", "status", status=503, times=None), Fault("identity", "status", status=503, times=None)]
    ill = ssi("doctor", "demo", person.email, "--json", SSI_SMTP_URL="")
    assert ill.code == 1
    found = json.loads(ill.out)
    assert (found["c4c"], found["sends_mails"]) == ({"user": None, "locked": None}, False)
    assert [one["state"] for one in found["connections"]] == ["needs_reauth"]
    c4c, provider, mailbox = found["problems"]
    assert "SAP Cloud for Customer" in c4c
    assert provider.startswith("The identity provider cannot be used: ")
    assert mailbox == f"The mailbox {person.email} is not usable: The account is locked."
    shown = ssi("doctor", "demo", person.email, SSI_SMTP_URL="").out.splitlines()
    assert {"C4C user: unknown", "mails to people: none, SSI_SMTP_URL is not set", f"PROBLEM: {mailbox}"} <= set(shown)


def test_the_manifest_has_this_installations_origin(ssi: Ssi, settings: Settings) -> None:
    shown = ssi("manifest", "--public-url", "https://pane.example.com/")
    assert shown.code == 0
    etree.fromstring(shown.out.encode())
    assert "https://pane.example.com/sidebar" in shown.out
    assert "localhost:8400" not in shown.out
    assert settings.client_id in shown.out


@pytest.mark.parametrize(
    ("runtime", "written"), [("apps-script", {"appsscript.json", "main.js", "cards.js"}), ("http", {"deployment.json"})]
)
def test_the_gmail_add_on_is_written_with_the_steps_to_deploy_it(
    ssi: Ssi, deps: Deps, tmp_path: Path, runtime: str, written: set[str]
) -> None:
    with deps.store.transaction() as tx:
        tenant = tx.tenant("demo")
        tx.set_c4c(tenant.id, replace(tenant.c4c, links={"origin": "https://my000001.c4c.example"}), None)
    out = tmp_path / "new" / "addon"
    shown = ssi("manifest", "gmail", "--runtime", runtime, "--out", out, "--public-url", "https://ssi.example.com/")
    assert shown.code == 0
    assert {path.name for path in out.iterdir()} == written
    texts = "".join(path.read_text() for path in out.iterdir())
    assert all(url in texts for url in ("https://ssi.example.com/gmail/", "https://my000001.c4c.example/"))
    assert all(word in shown.out for word in (*map(str, out.iterdir()), "SSI_GOOGLE_AUDIENCE", "Marketplace"))
    assert fails(ssi("manifest", "gmail", "--out", out, "--public-url", "http://ssi.example.com"), "https")


def test_help_is_there_for_every_command(ssi: Ssi) -> None:
    commands = ("serve", "worker", "migrate", "tenant", "org", "user", "provision", "manifest", "doctor", "keys", "jobs")
    shown = ssi("--help")
    assert (shown.code, [c for c in commands if c not in shown.out]) == (0, [])
    for command in commands:
        assert ssi(command, "--help").code == 0
    assert ssi("no-such-command").code == 2


def test_a_dry_run_needs_a_mailbox_that_had_a_session(ssi: Ssi, world: World) -> None:
    assert fails(ssi("sync", "--dry-run", world.people[0].email), "first session")
    assert fails(ssi("sync", "nobody@unknown.example"), "nobody")


def test_a_job_is_one_line_whatever_its_reason_holds(ssi: Ssi, deps: Deps, world: World) -> None:
    with deps.store.transaction() as tx:
        (tenant,) = tx.tenants()
        user = tx.user_by_email(tenant.id, world.people[0].email)
        assert user is not None
        tx.queue_session(tx.put_connection(user, "graph", user.email, "t", deps.now()), deps.now())
    with deps.store._engine.begin() as connection:
        reason = "It broke\x1b[2K\nsession\tforged"
        connection.execute(sa.text("UPDATE mailbox_sync SET state = 'failed', next_due_at = NULL, reason = :r"), {"r": reason})
    (line,) = ssi("jobs", "--dead").out.splitlines()
    assert line.split("\t")[-1] == "It broke [2K session forged"
