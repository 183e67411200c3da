"""No token, password or key is found in what is left behind or shown: database, logs, answers, crash output, process list, mails.

The product runs in real processes, one with logs in JSON and one in text. People go through every flow with them, rightly and
wrongly, with vendors that fail and a database that breaks in the middle of it. Then everything secret that there was (what
passed at the vendors' ports, what was typed, what we gave out, what protects what is stored) is looked for, in all encodings.

We do give three things out, each to one place, where it is not looked for: a cookie, in Set-Cookie, to its own browser; the
token of a form, in a page; the token of the pane, in the page of its dialog.
"""

import base64
import json
import os
import secrets
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

import pytest
import sqlalchemy as sa
from markupsafe import escape

from server import wiring
from server.auth.secrets import FileKeys, load_key_file
from server.config import Settings
from simulator import demo
from simulator.ews import PATH as EWS_PATH
from simulator.ports import TENANT, Simulator
from simulator.smtp import ACCOUNT
from simulator.world import Fault, Person, World
from tests.conftest import new_database
from tests.figures import Count
from tests.leaks import FORM, JWT, PANE, Relay, Secret, Tap, found
from tests.processes import Installed, eventually
from tests.services import free_port, newest_postgres
from tests.web.browser import ORIGIN, SETTINGS, Browser

CHANGE = f"{SETTINGS}/change"
CONTINUE = "Continue to your company's sign-in"
BUTTONS = {"office365": "Continue to Microsoft", "google": "Continue to Google"}
DONE = f"{SETTINGS}/done"
ODD = ["pässwörd ü€ß-密码", "two  blanks and \"'<>&;:\\ %41%zz", "{{7*7}}${x}%s\u202e\u0301!"]
SERVICE_PASSWORD = "Sérvice&Account<1>%20 password"


# What the search is worth


@pytest.mark.parametrize("secret", ["plain-letters-only", *ODD, bytes(range(200, 232)), "a.b~c/d+e=f&g\"h'i"], ids=ascii)
def test_the_search_finds_a_secret_however_it_is_written(secret: Secret) -> None:
    raw = secret if isinstance(secret, bytes) else secret.encode()
    written: dict[str, str | bytes] = {"raw": raw, "hex": raw.hex(), "HEX": raw.hex().upper(), "quoted": quote(raw, safe="")}
    for ahead in (b"", b"a", b"ab", b"user:"):
        written[f"base64 after {ahead!r}"] = base64.b64encode(ahead + raw + b"more")
        written[f"base64url after {ahead!r}"] = base64.urlsafe_b64encode(ahead + raw).rstrip(b"=")
    if isinstance(secret, str):
        written |= {"JSON": json.dumps({"a": secret}), "UTF-16": secret.encode("utf-16"), "repr": repr([secret])}
        written |= {"form": urlencode({"a": secret}), "log": json.dumps(repr(secret)), "page": str(escape(secret))}
    for name, text in written.items():
        place = b"before " + (text if isinstance(text, bytes) else text.encode()) + b" behind"
        assert found({secret: "it"}, [(name, place)]) == [f"it in {name}"]
    assert found({secret: "it"}, [("elsewhere", raw[:-1] + b"?" + raw[1:])]) == []


# The house and its people


@dataclass
class House:
    """An installation with real servers, its people's browsers, and all that was ever printed by its commands."""

    installed: Installed
    tap: Tap
    relay: Relay
    printed: list[tuple[str, bytes]] = field(default_factory=list)

    @property
    def world(self) -> World:
        return self.installed.simulator.world

    def browser(self, person: Person) -> Browser:
        return Browser(self.relay, self.installed.simulator, person)  # type: ignore[arg-type]

    def signed_in(self, person: Person) -> Browser:
        return self.browser(person).open(SETTINGS).press(CONTINUE)

    def has_password(self, person: Person, password: str) -> None:
        """Change a person's password, at C4C and at the Exchange server."""
        person.password = password
        self.tap.learn(password, "password")

    def login(self, person: Person, **entered: str) -> dict[str, str]:
        for password in (person.password, entered.get("password", "")):
            self.tap.learn(password, "password")
        return {
            "address": person.email,
            "password": person.password,
            "url": self.installed.simulator.ews.url + EWS_PATH,
            **entered,
        }

    def connect(self, browser: Browser, **entered: str) -> Browser:
        browser.open(CHANGE)
        person = browser.person
        if person.access_type in BUTTONS:
            return browser.press(BUTTONS[person.access_type])
        return browser.press("Connect", **self.login(person, **entered))

    def call(self, token: str, path: str, body: Any = None) -> int:
        headers = {"Authorization": f"Bearer {token}"}
        self.tap.learn(token, "bearer")
        client = self.relay.test_client()
        return (client.get if body is None else client.post)("/api" + path, json=body, headers=headers).status_code

    def ssi(self, *arguments: object, given: str = "") -> int:
        """Run `ssi`; what it prints, and what the process list showed of it, is looked at in the end."""
        run = [sys.executable, "-c", "from server.cli import main; main()", *map(str, arguments)]
        env, pipe = {"PATH": os.environ["PATH"], **self.installed.environment}, subprocess.PIPE
        with subprocess.Popen(run, env=env, stdin=pipe, stdout=pipe, stderr=pipe) as process:
            shown = b"\0".join(Path(f"/proc/{process.pid}/{file}").read_bytes() for file in ("cmdline", "environ"))
            out, err = process.communicate(given.encode(), timeout=60)
        name = f"ssi {arguments[0]} {arguments[1]}"
        self.printed += [(f"what {name} printed", out + err), (f"the process list while {name} ran", shown)]
        return process.returncode

    @contextmanager
    def broken(self, table: str) -> Iterator[None]:
        """Break the database: who writes to this table gets an error that nobody expects (one about data, on both kinds)."""
        engine = sa.create_engine(self.installed.environment["SSI_DATABASE_URL"], poolclass=sa.NullPool)
        if engine.dialect.name == "sqlite":
            refuse = "BEGIN SELECT zeroblob(2000000000); END"
            begin = [f"CREATE TRIGGER {table}_{verb} BEFORE {verb} ON {table} {refuse}" for verb in ("insert", "update")]
            end = [f"DROP TRIGGER {table}_{verb}" for verb in ("insert", "update")]
        else:
            begin = [f"ALTER TABLE {table} ADD CONSTRAINT broken CHECK (1 / (random() * 0)::int > 0) NOT VALID"]
            end = [f"ALTER TABLE {table} DROP CONSTRAINT broken"]
        for statements in (begin, end):
            with engine.begin() as connection:
                for statement in statements:
                    connection.exec_driver_sql(statement)
            if statements is begin:
                yield

    def fails(self, vendor: str, kind: str, match: str = "", **more: Any) -> None:
        self.world.faults.append(Fault(vendor, kind, match, **more))

    def keys(self) -> None:
        """Learn the keys in the key file, and the data keys that they wrap."""
        file = Path(self.installed.environment["SSI_KEY_FILE"])
        for line, key in zip(file.read_text().split(), load_key_file(file), strict=True):
            self.tap.learn(key, "key-encryption key")
            self.tap.learn(line, "key-encryption key")
        deps = wiring.build(Settings.from_environment(self.installed.environment))
        with deps.store.transaction(reading=True) as tx:
            wrapped = list(tx.wrapped_keys().values())
        deps.background.shutdown()
        deps.store.close()
        for one in wrapped:
            self.tap.learn(FileKeys(file).unwrap(one), "data key")

    def data(self) -> bytes:
        """All of the database: SQLite's files with its journal, or a dump of PostgreSQL."""
        url = sa.make_url(self.installed.environment["SSI_DATABASE_URL"])
        if url.get_backend_name() == "sqlite":
            return b"".join(file.read_bytes() for file in Path(url.database or "").parent.glob("ssi.sqlite*"))
        name = url.set(drivername="postgresql").render_as_string(hide_password=False)
        return subprocess.run([newest_postgres("pg_dump"), name], check=True, capture_output=True).stdout

    def places(self) -> list[tuple[str, bytes]]:
        mails = [(f"the mail to {mail.recipients[0]}", mail.mime) for mail in self.world.mails]
        log = self.installed.folder / "log"
        left = [("the database", self.data()), ("the logs", log.read_bytes()), ("the process list", self.installed.shown())]
        return [*left, *mails, *self.printed]


@pytest.fixture
def house(request: pytest.FixtureRequest, simulator: Simulator, tmp_path: Path) -> Iterator[House]:
    world = simulator.world = demo.small()
    for person, access_type in zip(world.people, ("office365", "google", "exchange_direct"), strict=False):
        demo.rehome(world, person, access_type)
    url = ""
    if request.param == "postgres":
        url = new_database(request.getfixturevalue("postgres_server"), f"leaks_{secrets.token_hex(4)}")
    tap, second = Tap(), free_port()
    with tap.on(simulator), Installed(simulator, tmp_path, url) as installed:
        with sa.create_engine(installed.environment["SSI_DATABASE_URL"], poolclass=sa.NullPool).connect() as connection:
            (tenant,) = connection.scalars(sa.text("SELECT id FROM tenant"))
        for known in (simulator.provider, simulator.google_identity):
            known.redirect_uris |= {
                f"{ORIGIN}/{path}" for path in ("connect/microsoft", "connect/google", f"sign-in/callback/{tenant}")
            }
        installed.environment |= {"SSI_PUBLIC_URL": ORIGIN, "SSI_FAILED_SIGN_INS_PER_MINUTE": "0"}
        installed.serve(SSI_LOG_FORMAT="json")
        installed.serve(port=second, SSI_LOG_FORMAT="text")
        yield House(installed, tap, Relay(tap, [installed.url(""), installed.url("", second)]))


# What people do


def connects(house: House, person: Person) -> None:
    """Sign in, be refused, connect, see how far it is."""
    browser = house.signed_in(person)
    if person.access_type in BUTTONS:
        for chooses in ("", house.world.people[0 if person is not house.world.people[0] else 1].object_id):
            browser.chooses = chooses
            assert house.connect(browser).refusal
        browser.chooses, browser.ticks = person.object_id, person.access_type != "google"
        house.connect(browser)
        browser.ticks = True
    assert house.connect(browser).path == DONE, browser.text
    browser.open(f"{SETTINGS}/progress")


def types_odd_passwords(house: House, person: Person) -> None:
    """Connect Exchange with odd passwords and other people's, and by the extended login."""
    browser = house.signed_in(person)
    for password in ODD:
        assert house.connect(browser, password=password).refusal
        house.has_password(person, password)
        assert house.connect(browser, user=person.email).path == DONE, browser.text
    for wrong in ({"url": "https://169.254.169.254/EWS"}, {"url": f"https://u:{ODD[0]}@mail.example.com/"}, {"user": "x\\y"}):
        assert house.connect(browser, password="wrong, but secret " + ODD[1], **wrong).refusal
    assert house.connect(browser, address="somebody@elsewhere.example").refusal


def uses_the_dialog(house: House, person: Person) -> None:
    """Sign in for the pane, and link the mail client's identity to it."""
    browser = house.browser(person).open("/pane/sign-in").press(CONTINUE).press(f"Continue as {person.name}")
    (token,) = browser.page.xpath("//meta[@name='ssi-token']/@content")
    identity = house.installed.simulator.exchange_identity.mint_identity_token(house.world, person, ORIGIN + "/sidebar")
    house.tap.learn(identity, "Exchange identity token")
    assert house.call(token, "/me") == 200
    house.call(identity, "/me")
    assert house.call(token, "/link", {"token": identity}) == 200
    assert house.call(identity, "/me") == 200
    assert house.call(token[:-1] + "_", "/me") == 401
    assert house.call(identity, "/link", {"token": identity}) == 422


def comes_back_wrongly(house: House, person: Person) -> None:
    """Replay an answer, spoil its state, bring somebody else's."""
    browser, thief = house.browser(person), house.browser(person)
    path, fields = browser.open(SETTINGS).filled(CONTINUE)
    browser.answer = browser.client.post(path, data=fields, headers={"Origin": ORIGIN})
    back = browser.at_provider(browser.leaving())
    assert thief.return_by(back).refusal
    assert browser.return_by(back.replace("state=", "state=x")).refusal
    assert not browser.return_by(back).refusal
    assert browser.return_by(back).refusal


def meets_failing_vendors(house: House, person: Person) -> None:
    """Have who answers a code or a password fail in every way, and C4C where it confirms the business user."""
    places = {"office365": ("identity", "/token"), "google": ("google_identity", "/token"), "exchange_direct": ("exchange", "")}
    browser = house.signed_in(person)
    for kind in ("status", "garbage", "acted_drop"):
        house.fails(*(places[person.access_type][0], kind, places[person.access_type][1]))
        house.connect(browser)
        house.world.faults.clear()
        if person is house.world.people[0]:
            house.fails("c4c", kind, times=None)
            house.browser(person).open(SETTINGS).press(CONTINUE)
            house.world.faults.clear()


def meets_a_broken_database(house: House, person: Person) -> int:
    """Do everything while the last thing that each flow writes cannot be written; return how often that was a fault of ours."""
    signed, before = house.signed_in(person), len(house.relay.answers)
    for table in ("audit", "connection", "page_session", "flow"):
        late = house.browser(person).open(SETTINGS)
        path, fields = late.filled(CONTINUE)
        asked = signed.open(CHANGE).filled(BUTTONS.get(person.access_type, "Connect"), **_fields(house, person))
        with house.broken(table):
            late.send(path, fields)
            signed.send(*asked)
            signed.open("/pane/sign-in")
            signed.open(SETTINGS)
            house.call(house.installed.simulator.bearer(person), "/me")
        if table == "audit":
            leaving = signed.open(f"{SETTINGS}/disconnect").filled("Disconnect")
            with house.broken(table):
                signed.send(*leaving)
    return sum(answer.status == 500 for answer in house.relay.answers[before:])


def _fields(house: House, person: Person) -> dict[str, str]:
    return {} if person.access_type in BUTTONS else house.login(person)


def loses_access(house: House, person: Person) -> None:
    """Have the consent withdrawn or the password changed; the product notices and writes a mail."""
    simulator, item = house.installed.simulator, demo.items(house.world, person)[0]
    match person.access_type:
        case "office365":
            simulator.provider.disable(person)
        case "google":
            simulator.google_identity.withdraw_consent(person)
        case _:
            house.has_password(person, "changed behind our back & ünseen")
    bearer = simulator.bearer(person)
    if house.call(bearer, "/saves", {"item": item, "links": []}) != 201:  # of NTLM, a connection that is open stays good
        eventually(lambda: _is_told(house, person))
    simulator.provider.enable(person)
    browser = house.signed_in(person)
    assert house.connect(browser).path == DONE, browser.text
    assert browser.open(f"{SETTINGS}/disconnect").press("Disconnect").answer.status_code == 200


def _is_told(house: House, person: Person) -> bool:
    return any(person.email in mail.recipients for mail in house.world.mails)


def signs_in_by_password(house: House, person: Person) -> None:
    """Sign in where the tenant has no provider, so that C4C judges the password."""
    for password in (*ODD, "Wrong and secret 1!"):
        if password in ODD:
            house.has_password(person, password)
        house.tap.learn(password, "password")
        browser = house.browser(person).open(SETTINGS).press("Sign in", user=person.user_id, password=password)
        assert bool(browser.refusal) is (password not in ODD), browser.text
    house.fails("c4c", "garbage", times=None)
    house.browser(person).open(SETTINGS).press("Sign in", user=person.user_id, password=person.password)
    house.world.faults.clear()
    page = house.browser(person).open(SETTINGS)
    with house.broken("audit"):
        page.press("Sign in", user=person.user_id, password=person.password)
        assert page.answer.status_code == 500, page.text


def commands(house: House, folder: Path) -> None:
    """Give the commands secrets in files and by their input; break the database under them; rotate the keys."""
    simulator, exchange = house.installed.simulator, house.world.people[2]
    house.tap.learn(SERVICE_PASSWORD, "password")
    (folder / "service").write_text(SERVICE_PASSWORD + "\n")
    mailbox = {"provider": "exchange", "url": simulator.ews.url + EWS_PATH, "user": exchange.email, "password": exchange.password}
    (folder / "mailbox").write_text(json.dumps(mailbox))
    (folder / "broken").write_text(json.dumps(mailbox)[:-3])
    contact = ("--access-type", "exchange_impersonation", "--admin-contact", "it@aldermill.example")
    account = ("--ews-url", simulator.ews.url + EWS_PATH, "--impersonation-account", "HOUSE\\service", "--password-file")
    right = [
        lambda: house.ssi("org", "set", TENANT, "Impersonated", *contact, *account, folder / "service", "--json"),
        lambda: house.ssi("org", "set", TENANT, "Second", *contact, *account, "-", given=SERVICE_PASSWORD),
        lambda: house.ssi("user", "connect", TENANT, exchange.email, folder / "mailbox", "--json"),
        lambda: house.ssi("keys", "list", "--json"),
    ]
    broken = [
        lambda: house.ssi("user", "connect", TENANT, exchange.email, folder / "broken"),
        lambda: house.ssi("user", "connect", TENANT, "nobody@aldermill.example", folder / "mailbox"),
    ]
    unwritten = [
        lambda: house.ssi("org", "set", TENANT, "Third", *contact, *account, folder / "service"),
        lambda: house.ssi("user", "connect", TENANT, exchange.email, folder / "mailbox"),
    ]
    assert together(right) == [0, 0, 0, 0]
    assert house.ssi("keys", "rotate", "--settle", "0") == 0
    house.keys()
    assert 0 not in together(broken)
    with house.broken("organization"), house.broken("connection"):
        assert 0 not in together(unwritten)


def together(acts: list[Callable[[], int]]) -> list[int]:
    with ThreadPoolExecutor(len(acts)) as pool:
        return list(pool.map(lambda act: act(), acts))


def go_through_everything(house: House, folder: Path) -> int:
    """Return how many requests ended in a fault of ours."""
    document, people = house.installed.simulator.provisioning(), house.world.people[:3]
    house.keys()
    for name, secret in document["tenant"]["secrets"].items():
        house.tap.learn(secret, name)
    house.tap.learn("\n".join(document["tenant"]["secrets"]["saml_key"].splitlines()[1:3]), "saml_key")
    house.tap.learn(ACCOUNT.password, "password")
    house.tap.learn(house.world.client_secret, "client_secret")
    for person in people:
        house.tap.learn(person.password, "password")
        connects(house, person)
        house.call(house.installed.simulator.bearer(person), "/context", {"item": demo.items(house.world, person)[0]})
    types_odd_passwords(house, people[2])
    uses_the_dialog(house, people[2])
    comes_back_wrongly(house, people[0])
    for person in people:
        meets_failing_vendors(house, person)
    faults = sum(meets_a_broken_database(house, person) for person in people)
    for person in people:
        loses_access(house, person)
    commands(house, folder)
    c4c = {name: value for name, value in document["tenant"]["c4c"].items() if name not in ("oidc", "saml_certificate")}
    (folder / "c4c").write_text(json.dumps(c4c))
    assert house.ssi("tenant", "set", TENANT, "--c4c", folder / "c4c") == 0
    signs_in_by_password(house, people[0])
    for token in house.world.c4c.tokens:
        house.tap.learn(token, "access token")
    return faults


@pytest.mark.parametrize("house", ["sqlite", pytest.param("postgres", marks=pytest.mark.soak)], indirect=True)
def test_nothing_secret_is_found_anywhere_after_everything_happened(house: House, tmp_path: Path, count: Count) -> None:
    (folder := tmp_path / "given").mkdir()
    faults = go_through_everything(house, folder)
    known, places, answers = house.tap.known, house.places(), list(house.relay.places())
    logs = dict(places)["the logs"]
    assert faults >= 10
    assert len({mail.recipients for mail in house.world.mails}) >= 2
    assert b'"event": "request failed"' in logs
    assert b"Traceback" not in logs
    assert set(known.values()) >= {"code", "code_verifier", "refresh_token", "access_token", "id_token", "client_secret"}
    assert set(known.values()) >= {"password", "cookie", FORM, PANE, "key-encryption key", "data key", "bearer", "assertion"}
    count("leaks: secrets looked for", len(known))
    count("leaks: answers searched", len(answers))
    count("leaks: requests broken off by a fault of ours", faults)
    assert found(known, places) == []
    assert found(known, [one for one in answers if "/pane/" not in one[0]], but=[FORM]) == []
    assert found(known, [one for one in answers if "/pane/" in one[0]], but=[FORM, PANE]) == []
    for name, data in (*places, *answers):
        assert b"PRIVATE KEY" not in data, name
        assert not JWT.search(data) or "the answer" in name, name
