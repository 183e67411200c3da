"""`ssi`: run the product and set it up."""

from __future__ import annotations

import json
import signal
import sys
import threading
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

import click
from gunicorn.app.base import BaseApplication

from server import logs, sync as engine, wiring
from server.auth.secrets import CannotOpen, create_key_file
from server.config import Settings
from server.domain.mime import clean
from server.errors import InvalidInput, SsiError
from server.services import operations, provisioning
from server.services.keys import SETTLE_S, list_keys, rotate_keys
from server.store import Store
from server.web import create_app
from server.web.addon import STEPS, Runtime, addon_files
from server.web.pages import manifest_for
from server.worker import Dispatcher

if TYPE_CHECKING:
    from server.worker.celery import CeleryBroker


def main() -> None:
    """Entry point of the console script; an expected error becomes one line and exit code 1."""
    try:
        cli(standalone_mode=True)
    except (SsiError, CannotOpen) as error:
        click.echo(f"ssi: {error}", err=True)
        sys.exit(1)


@click.group()
def cli() -> None:
    """SSI Sidebar: SAP Cloud for Customer beside the e-mail. Settings come from SSI_* variables."""


def _settings() -> Settings:
    settings = Settings.from_environment()
    logs.configure(settings.log_format)
    return settings


_json_option = click.option("--json", "as_json", is_flag=True, help="Print one JSON value.")
_TEXT_FILE = click.File("r", encoding="utf-8")
_IDENTITY_TENANT = "Where people come from: an Entra tenant's id, a domain at Google, or exchange:HOST[:PORT]."
_SECRETS = "oauth_client_secret, saml_key, oidc_client_secret."


def _tell(value: Any, as_json: bool, lines: str | Iterable[str]) -> None:
    """Print `value` as JSON, or else these lines."""
    if as_json:
        click.echo(json.dumps(value))
        return
    for line in [lines] if isinstance(lines, str) else lines:
        click.echo(line)


def _json(file: Any) -> dict[str, Any]:
    """Raises: InvalidInput if the file does not hold a JSON object."""
    try:
        value = json.load(file)
    except ValueError as error:
        raise InvalidInput(file.name, f"is not JSON ({error})") from error
    if not isinstance(value, dict):
        raise InvalidInput(file.name, "must hold a JSON object")
    return value


def _password(file: Any) -> str:
    """Return the first line. Raises: InvalidInput."""
    try:
        text: str = file.readline()
    except ValueError as error:
        raise InvalidInput(file.name, "is not text in UTF-8") from error
    return text.rstrip("\r\n")


def _connection_line(one: Mapping[str, Any]) -> str:
    session = one["session"]
    reason = f" ({one['reason']})" if one["reason"] else ""
    progress = f", session {session['state']}" if session else ""
    failure = f" ({session['reason']})" if session and session["reason"] else ""
    return f"mailbox: {one['mailbox']} at {one['provider']}, {one['state']}{reason}{progress}{failure}"


# Running


@cli.command()
@click.option("--port", type=int, help="Port to listen on (default: SSI_PORT).")
@click.option("--tls", type=click.Path(exists=True, path_type=Path), help="PEM file with key and certificate: serve https.")
@click.option("--processes", type=int, default=1, show_default=True, help="Web processes.")
def serve(port: int | None, tls: Path | None, processes: int) -> None:
    """Serve the web and, unless SSI_WORKER_THREADS is 0, do the jobs, too."""
    settings = _settings()
    wiring.check(settings)
    options = {
        "bind": f"{settings.bind}:{port or settings.port}",
        "workers": processes,
        "worker_class": "gthread",
        "threads": settings.threads,
        "keepalive": 65,
        "graceful_timeout": 30,
        "timeout": 120,
        "control_socket_disable": True,
        "proc_name": "ssi",
        "loglevel": "warning",
        "certfile": str(tls) if tls else None,
        "keyfile": str(tls) if tls else None,
        "worker_exit": _stop_dispatcher,
    }
    _Server(settings, {name: value for name, value in options.items() if value is not None}).run()


class _Server(BaseApplication):  # type: ignore[misc]  # gunicorn has no types
    """gunicorn with our settings; the application is built in each worker process, after the fork."""

    def __init__(self, settings: Settings, options: dict[str, Any]) -> None:
        self._settings = settings
        self._options = options
        super().__init__()

    def load_config(self) -> None:
        for name, value in self._options.items():
            self.cfg.set(name, value)

    def load(self) -> Any:
        settings = self._settings
        deps = wiring.build(settings)
        if not settings.worker_threads:
            return create_app(deps, wiring.face(settings))
        dispatcher = Dispatcher(deps, threads=settings.worker_threads, poll_s=settings.poll_s)
        app = create_app(replace(deps, wake=dispatcher.wake), wiring.face(settings))
        dispatcher.start()
        app.extensions["dispatcher"] = dispatcher
        return app


def _stop_dispatcher(_arbiter: Any, worker: Any) -> None:
    app = getattr(worker, "wsgi", None)
    dispatcher = app.extensions.get("dispatcher") if app is not None else None
    if dispatcher is not None:
        dispatcher.stop()


@cli.command()
@click.option("--threads", type=click.IntRange(1, 200), help="Sessions at a time (default: SSI_WORKER_THREADS).")
def worker(threads: int | None) -> None:
    """Do the jobs without serving the web, until interrupted.

    With SSI_REDIS_URL all workers, on whichever machines, share the sessions out among them.
    """
    settings = _settings()
    wiring.check(settings)
    threads = threads or max(1, settings.worker_threads)
    broker = _broker(settings, threads)
    dispatcher = Dispatcher(wiring.build(settings), threads=threads, poll_s=settings.poll_s, broker=broker)
    stopped = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stopped.set())
    dispatcher.start()
    if broker is not None:
        broker.start(dispatcher.take_up)
    stopped.wait()
    dispatcher.stop()
    if broker is not None:
        broker.stop()


def _broker(settings: Settings, threads: int) -> CeleryBroker | None:
    """Raises: InvalidInput."""
    if not settings.redis_url:
        return None
    from server.worker.celery import CeleryBroker  # all of Celery comes along, which no other command needs

    return CeleryBroker(settings.redis_url, wiring.redis_password(settings), ca_file=settings.ca_file, threads=threads)


@cli.group(invoke_without_command=True)
@click.option("--dead", is_flag=True, help="Only what is given up.")
@_json_option
@click.pass_context
def jobs(context: click.Context, dead: bool, as_json: bool) -> None:
    """Show the jobs of all tenants that wait, run, or are dead: given up, with the reason, until somebody drives them on.

    A line has kind, id, state, tenant, user, since when, tries in vain, and reason.
    """
    if context.invoked_subcommand is not None:
        return
    found = operations.jobs(wiring.build(_settings()), dead_only=dead)
    names = ("kind", "id", "state", "tenant", "user", "since", "attempts", "reason")
    _tell(found, as_json, ("\t".join(clean(str(one[name] if one[name] is not None else "-")) for name in names) for one in found))


@jobs.command("retry")
@click.argument("job")
@_json_option
def jobs_retry(job: str, as_json: bool) -> None:
    """Have the job with this id tried again now."""
    kind = operations.retry_job(wiring.build(_settings()), job)
    _tell({"id": job, "kind": kind}, as_json, f"{kind} {job}: will be tried again")


@cli.command()
@click.argument("file", type=click.Path(path_type=Path))
def key(file: Path) -> None:
    """Make the key file (SSI_KEY_FILE) of a new installation. Keep it apart from the database's backups."""
    create_key_file(file)


@cli.group()
def keys() -> None:
    """The keys that protect what is stored (SSI_KEY_FILE or SSI_KEY_VAULT)."""


@keys.command("rotate")
@click.option("--prepare", is_flag=True, help="Only add the new key: then copy the key file to every machine, and rotate.")
@click.option("--settle", type=float, default=SETTLE_S, show_default=True, help="Seconds before the old keys are dropped.")
@_json_option
def keys_rotate(prepare: bool, settle: float, as_json: bool) -> None:
    """Protect everything by a new key and drop the old ones, while the product runs; or finish what was begun.

    In Azure Key Vault make a new version of the key first.
    """
    done = rotate_keys(wiring.build(_settings()), prepare=prepare, settle_s=settle)
    text = "{tenants} tenants, {rewrapped} of them now under the new key, {retired} old keys dropped"
    _tell(done, as_json, text.format(**done))


@keys.command("list")
@_json_option
def keys_list(as_json: bool) -> None:
    """List the ids of the keys, that which wraps first, and how many tenants each protects."""
    found = list_keys(wiring.build(_settings()))
    _tell(found, as_json, (f"{one['id']}\t{one['tenants']}" + ("" if one["in_use"] else "\tmissing") for one in found))


@cli.command()
def migrate() -> None:
    """Bring the database up to date."""
    Store(_settings().database_url).migrate()


_public_url_option = click.option("--public-url", help="Origin to write into the manifest (default: SSI_PUBLIC_URL).")


@cli.group(invoke_without_command=True)
@_public_url_option
@click.pass_context
def manifest(context: click.Context, public_url: str | None) -> None:
    """Print the Outlook manifest for this installation, or write the Gmail add-on."""
    if context.invoked_subcommand is not None:
        return
    settings = _settings()
    click.echo(manifest_for((public_url or settings.public_url).rstrip("/"), settings.client_id), nl=False)


@manifest.command("gmail")
@click.option(
    "--runtime", type=click.Choice(get_args(Runtime)), default="apps-script", show_default=True, help="Which of Google's."
)
@click.option("--out", type=click.Path(file_okay=False, path_type=Path), default="gmail-addon", show_default=True, help="Folder.")
@_public_url_option
def manifest_gmail(runtime: Runtime, out: Path, public_url: str | None) -> None:
    """Write the Gmail add-on for this installation into a folder, and say what to do with it.

    Cards may link to the C4C of every tenant there is: write and deploy it anew when a tenant with another address is added.
    """
    settings = _settings()
    origins = provisioning.record_origins(wiring.build(settings))
    files = addon_files(runtime, (public_url or settings.public_url).rstrip("/"), origins)
    out.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (out / name).write_text(text, encoding="utf-8")
        click.echo(out / name)
    for step in STEPS[runtime]:
        click.echo(step)


@cli.command()
@click.argument("tenant")
@click.argument("email")
@_json_option
def doctor(tenant: str, email: str, as_json: bool) -> None:
    """Look whether everything fits for the user EMAIL; exit code 1 if something has to be mended.

    Asked are C4C, as this user, for who they are and for the codes that saving uses, and the identity provider for its
    description. Shown is what is known of the mailbox and its session, and whether mails can be sent.
    """
    found = provisioning.examine(wiring.build(_settings()), tenant, email)
    _tell(found, as_json, _doctor_lines(found))
    if found["problems"]:
        sys.exit(1)


def _doctor_lines(found: Mapping[str, Any]) -> Iterable[str]:
    yield f"C4C user: {found['c4c']['user'] or 'unknown'}"
    yield "people sign in: " + (found["sign_in"]["issuer"] or "with their C4C password")
    yield from map(_connection_line, found["connections"])
    if not found["connections"]:
        yield "mailbox: not connected"
    yield "mails to people: " + ("sent by the mail server" if found["sends_mails"] else "none, SSI_SMTP_URL is not set")
    for problem in found["problems"]:
        yield f"PROBLEM: {problem}"


# Setting up


@cli.command()
@click.argument("file", type=_TEXT_FILE)
def provision(file: Any) -> None:
    """Set up a tenant with its organizations and users from a provisioning document."""
    document = _json(file)
    deps = wiring.build(_settings())
    try:
        provisioning.provision(deps, document)
    except (ValueError, KeyError, TypeError) as error:
        raise InvalidInput(file.name, f"is not a provisioning document ({type(error).__name__}: {error})") from error


@cli.group()
def tenant() -> None:
    """C4C tenants."""


@tenant.command("add")
@click.argument("name")
@click.option("--c4c", "c4c_file", type=_TEXT_FILE, required=True, help="JSON file with the C4C settings.")
@click.option("--identity-tenant", "identity_tenants", multiple=True, required=True, help=_IDENTITY_TENANT)
@click.option("--secrets", "secrets_file", type=_TEXT_FILE, help="JSON file with the secrets: " + _SECRETS)
@_json_option
def tenant_add(name: str, c4c_file: Any, identity_tenants: tuple[str, ...], secrets_file: Any, as_json: bool) -> None:
    """Add a tenant and print the certificate that its C4C administrator must upload."""
    secrets = _json(secrets_file) if secrets_file else {}
    deps = wiring.build(_settings())
    made = provisioning.add_tenant(deps, name, _json(c4c_file), identity_tenants, secrets)
    _tell(provisioning.describe_tenant(deps, made), as_json, made.c4c.saml_certificate.rstrip())


@tenant.command("set")
@click.argument("name")
@click.option("--c4c", "c4c_file", type=_TEXT_FILE, help="JSON file with all of the C4C settings.")
@click.option("--identity-tenant", "identity_tenants", multiple=True, help="One more. " + _IDENTITY_TENANT)
@click.option("--secrets", "secrets_file", type=_TEXT_FILE, help="JSON file with those secrets that change: " + _SECRETS)
@_json_option
def tenant_set(name: str, c4c_file: Any, identity_tenants: tuple[str, ...], secrets_file: Any, as_json: bool) -> None:
    """Change how a tenant is reached, or who may be one of its people. What is not given stays."""
    c4c = _json(c4c_file) if c4c_file else None
    secrets = _json(secrets_file) if secrets_file else {}
    deps = wiring.build(_settings())
    changed = provisioning.change_tenant(deps, name, c4c, identity_tenants, secrets)
    _tell(provisioning.describe_tenant(deps, changed), as_json, f"{changed.name}: changed")


@tenant.command("list")
@_json_option
def tenant_list(as_json: bool) -> None:
    """List the tenants."""
    deps = wiring.build(_settings())
    with deps.store.transaction(reading=True) as tx:
        found = tx.tenants()
    described = [provisioning.describe_tenant(deps, one) for one in found]
    _tell(described, as_json, (f"{one.name}\t{one.c4c.url}" for one in found))


@cli.group()
def org() -> None:
    """Organizations: who shares an access type, a profile and an admin contact."""


@org.command("set")
@click.argument("tenant")
@click.argument("name")
@click.option("--access-type", help="office365, exchange_direct, google, exchange_impersonation or user_choice.")
@click.option("--admin-contact", help="E-mail address of whom users are told to ask.")
@click.option("--profile", "profile_file", type=_TEXT_FILE, help="JSON file with all settings that differ from the defaults.")
@click.option("--ews-url", help="Address of the Exchange server; without, autodiscover finds it. Needed for Impersonation.")
@click.option("--impersonation-account", metavar="USER", help="Service account for Exchange Impersonation, at --ews-url.")
@click.option("--password-file", type=_TEXT_FILE, help="File whose first line is its password; - is the standard input.")
@click.option("--service-account", "account_file", type=_TEXT_FILE, help="Instead: JSON file with url, user, password, scheme.")
@_json_option
def org_set(
    tenant: str,
    name: str,
    access_type: str | None,
    admin_contact: str | None,
    profile_file: Any,
    ews_url: str | None,
    impersonation_account: str | None,
    password_file: Any,
    account_file: Any,
    as_json: bool,
) -> None:
    """Create an organization or change it. What is not given stays; a new one needs access type and admin contact."""
    if (impersonation_account is None) != (password_file is None):
        raise click.UsageError("--impersonation-account and --password-file go together.")
    if account_file is not None and impersonation_account is not None:
        raise click.UsageError("--service-account and --impersonation-account say the same: give one of them.")
    profile = _json(profile_file) if profile_file else None
    account = _json(account_file) if account_file else None
    if impersonation_account is not None:
        account = {"user": impersonation_account, "password": _password(password_file)}
    deps = wiring.build(_settings())
    made = provisioning.put_organization(deps, tenant, name, access_type, admin_contact, profile, account, ews_url)
    _tell(provisioning.describe_organization(made), as_json, f"{made.name}: {made.access_type}")


@org.command("list")
@click.argument("tenant")
@_json_option
def org_list(tenant: str, as_json: bool) -> None:
    """List a tenant's organizations."""
    with wiring.build(_settings()).store.transaction(reading=True) as tx:
        found = tx.organizations(tx.tenant(tenant).id)
    lines = (f"{one.name}\t{one.access_type}\t{one.admin_contact}" for one in found)
    _tell([provisioning.describe_organization(one) for one in found], as_json, lines)


@cli.group()
def user() -> None:
    """Provisioned people."""


@user.command("add")
@click.argument("tenant")
@click.argument("organization")
@click.option("--email", required=True, help="Address of the person, and of their mailbox.")
@click.option("--name", required=True, help="As people write it.")
@click.option("--c4c-user", required=True, help="UserID in C4C.")
@click.option("--identity", nargs=2, metavar="TENANT SUBJECT", help="Entra tenant and object id, or domain and id at Google.")
@click.option("--mailbox", default="", help="Another address whose mailbox the person may connect.")
@click.option("--check/--no-check", default=True, show_default=True, help="Have C4C confirm the UserID, and try the mailbox.")
@_json_option
def user_add(
    tenant: str,
    organization: str,
    email: str,
    name: str,
    c4c_user: str,
    identity: tuple[str, str] | None,
    mailbox: str,
    check: bool,
    as_json: bool,
) -> None:
    """Provision a person. Under Exchange Impersonation that connects the mailbox, too, and queues its first session.

    If C4C or the mailbox is not as it should be, nobody is added.
    """
    deps = wiring.build(_settings())
    provisioning.add_user(
        deps,
        tenant,
        organization,
        email=email,
        name=name,
        c4c_user_id=c4c_user,
        identity=identity,
        other_mailbox=mailbox,
        check=check,
    )
    _tell(provisioning.describe_user(deps, tenant, email), as_json, f"{email}: set up")


@user.command("set")
@click.argument("tenant")
@click.argument("email")
@click.option("--mailbox", required=True, help='Another address whose mailbox the person may connect; "" takes it back.')
@_json_option
def user_set(tenant: str, email: str, mailbox: str, as_json: bool) -> None:
    """Change what a person may do. Under Exchange Impersonation that other mailbox is connected at once."""
    deps = wiring.build(_settings())
    provisioning.allow_mailbox(deps, tenant, email, mailbox)
    _tell(provisioning.describe_user(deps, tenant, email), as_json, f"{email}: changed")


@user.command("show")
@click.argument("tenant")
@click.argument("email")
@_json_option
def user_show(tenant: str, email: str, as_json: bool) -> None:
    """Show a person and the state of their mailbox."""
    found = provisioning.describe_user(wiring.build(_settings()), tenant, email)
    _tell(found, as_json, _user_lines(found))


def _user_lines(found: Mapping[str, Any]) -> Iterable[str]:
    for name in ("email", "name", "c4c_user", "organization", "access_type"):
        yield f"{name}: {found[name]}"
    yield f"enabled: {'yes' if found['enabled'] else 'no'}"
    if found["other_mailbox"]:
        yield f"other_mailbox: {found['other_mailbox']}"
    yield from map(_connection_line, found["connections"])
    if not found["connections"]:
        yield "mailbox: not connected"


@user.command("connect")
@click.argument("tenant")
@click.argument("email")
@click.argument("file", type=_TEXT_FILE)
@_json_option
def user_connect(tenant: str, email: str, file: Any, as_json: bool) -> None:
    """Keep what opens a person's mailbox at Exchange or Google: FILE holds the "mailbox" of a provisioning document.

    People can do it themselves in User Settings, where it is tried at once.
    """
    deps = wiring.build(_settings())
    provisioning.connect_mailbox(deps, tenant, email, _json(file))
    _tell(provisioning.describe_user(deps, tenant, email), as_json, f"{email}: connected")


@user.command("disable")
@click.argument("tenant")
@click.argument("email")
@_json_option
def user_disable(tenant: str, email: str, as_json: bool) -> None:
    """Refuse a person from now on, and end what opens their mailbox."""
    deps = wiring.build(_settings())
    provisioning.set_user_enabled(deps, tenant, email, False)
    _tell(provisioning.describe_user(deps, tenant, email), as_json, f"{email}: disabled")


@user.command("enable")
@click.argument("tenant")
@click.argument("email")
@_json_option
def user_enable(tenant: str, email: str, as_json: bool) -> None:
    """Admit a person again. Under Exchange Impersonation their mailbox is connected again, too; others do it themselves."""
    deps = wiring.build(_settings())
    provisioning.set_user_enabled(deps, tenant, email, True)
    _tell(provisioning.describe_user(deps, tenant, email), as_json, f"{email}: enabled")


@user.command("unlink")
@click.argument("tenant")
@click.argument("email")
@click.argument("identity_tenant")
@_json_option
def user_unlink(tenant: str, email: str, identity_tenant: str, as_json: bool) -> None:
    """Let a person's account of an identity tenant no longer stand for them, as when a wrong mailbox was linked."""
    deps = wiring.build(_settings())
    provisioning.unlink(deps, tenant, email, identity_tenant)
    _tell(provisioning.describe_user(deps, tenant, email), as_json, f"{email}: unlinked")


@user.command("remove")
@click.argument("tenant")
@click.argument("email")
@_json_option
def user_remove(tenant: str, email: str, as_json: bool) -> None:
    """Remove a person and everything of theirs that is kept here; C4C and the mailbox keep what they have."""
    provisioning.remove_user(wiring.build(_settings()), tenant, email)
    _tell({"email": email, "removed": True}, as_json, f"{email}: removed")


@user.command("list")
@click.argument("tenant")
@_json_option
def user_list(tenant: str, as_json: bool) -> None:
    """List a tenant's people."""
    deps = wiring.build(_settings())
    with deps.store.transaction(reading=True) as tx:
        found = tx.users(tx.tenant(tenant).id)
    lines = (f"{one.email}\t{one.c4c_user_id}\t{'enabled' if one.enabled else 'disabled'}" for one in found)
    _tell([provisioning.describe_user(deps, tenant, one.email) for one in found] if as_json else None, as_json, lines)


# Sessions


@cli.command()
@click.argument("user")
@click.option("--dry-run", is_flag=True, help="Only print what the next session would do for people.")
@click.option("--force", is_flag=True, help="Try again what failed, too.")
@_json_option
def sync(user: str, dry_run: bool, force: bool, as_json: bool) -> None:
    """Have the session of a person's mailbox begin now; USER is their address."""
    deps = wiring.build(_settings())
    principal = provisioning.principal_by_address(deps, user)
    if dry_run:
        planned = [{"do": do, "type": type, "name": name} for do, type, name in engine.plan_only(deps, principal)]
        counted = Counter((one["do"], one["type"]) for one in planned)
        lines = [f"{one['do']}\t{one['type']}\t{clean(one['name'])}" for one in planned]
        totals = [f"{number} x {do}, {type}" for (do, type), number in sorted(counted.items())]
        _tell(planned, as_json, [*lines, *(totals or ["nothing to do"])])
        return
    engine.begin_now(deps, principal, forced=force)
    _tell({"user": user, "woken": True}, as_json, f"{user}: a session begins now")
