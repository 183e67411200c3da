"""`ssi`: run the product and set it up."""

from __future__ import annotations

import json
import signal
import sys
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import click
from gunicorn.app.base import BaseApplication

from server import logs, wiring
from server.auth.secrets import CannotOpen, create_key_file
from server.config import Settings
from server.errors import InvalidInput, SsiError
from server.services import provisioning
from server.services.keys import SETTLE_S, list_keys, rotate_keys
from server.store import Store
from server.web import create_app
from server.web.pages import manifest_for
from server.worker import Dispatcher


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
def worker() -> None:
    """Do the jobs without serving the web, until interrupted."""
    settings = _settings()
    wiring.check(settings)
    dispatcher = Dispatcher(wiring.build(settings), threads=max(1, settings.worker_threads), poll_s=settings.poll_s)
    stopped = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stopped.set())
    dispatcher.start()
    stopped.wait()
    dispatcher.stop()


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
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def keys_rotate(prepare: bool, settle: float, as_json: bool) -> None:
    """Protect everything by a new key and drop the old ones, while the product runs; or finish what was begun.

    In Azure Key Vault make a new version of the key first.
    """
    done = rotate_keys(wiring.build(_settings()), prepare=prepare, settle_s=settle)
    if as_json:
        click.echo(json.dumps(done))
    else:
        click.echo("{tenants} tenants, {rewrapped} of them now under the new key, {retired} old keys dropped".format(**done))


@keys.command("list")
@click.option("--json", "as_json", is_flag=True, help="Print a JSON list.")
def keys_list(as_json: bool) -> None:
    """List the ids of the keys, that which wraps first, and how many tenants each protects."""
    found = list_keys(wiring.build(_settings()))
    if as_json:
        click.echo(json.dumps(found))
        return
    for one in found:
        click.echo(f"{one['id']}\t{one['tenants']}" + ("" if one["in_use"] else "\tmissing"))


@cli.command()
def migrate() -> None:
    """Bring the database up to date."""
    Store(_settings().database_url).migrate()


@cli.command()
@click.option("--public-url", help="Origin to write into the manifest (default: SSI_PUBLIC_URL).")
def manifest(public_url: str | None) -> None:
    """Print the Outlook manifest for this installation."""
    settings = _settings()
    click.echo(manifest_for((public_url or settings.public_url).rstrip("/"), settings.client_id), nl=False)


@cli.command()
@click.argument("tenant")
@click.argument("email")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def doctor(tenant: str, email: str, as_json: bool) -> None:
    """Check, as the user EMAIL, that C4C can be reached, knows the user and has the codes that saving uses."""
    deps = wiring.build(_settings())
    findings = provisioning.examine(deps, tenant, email)
    if as_json:
        click.echo(json.dumps(findings))
    else:
        for name, finding in findings.items():
            click.echo(f"{name}: {finding}")
    if findings["problems"]:
        sys.exit(1)


# Setting up


@cli.command()
@click.argument("file", type=click.File("r", encoding="utf-8"))
def provision(file: Any) -> None:
    """Set up a tenant with its organizations and users from a provisioning document."""
    document = _json(file)
    deps = wiring.build(_settings())
    try:
        provisioning.provision(deps, document)
    except (ValueError, KeyError, TypeError) as error:
        raise InvalidInput(file.name, f"is not a provisioning document ({type(error).__name__}: {error})") from error


def _json(file: Any) -> dict[str, Any]:
    """Raises: InvalidInput if the file does not hold a JSON object."""
    try:
        value = json.load(file)
    except ValueError as error:
        raise InvalidInput(file.name, f"is not JSON ({error})") from error
    if not isinstance(value, dict):
        raise InvalidInput(file.name, "must hold a JSON object")
    return value


@cli.group()
def tenant() -> None:
    """C4C tenants."""


@tenant.command("add")
@click.argument("name")
@click.option("--c4c", "c4c_file", type=click.File("r"), required=True, help="JSON file with the C4C settings.")
@click.option("--identity-tenant", "identity_tenants", multiple=True, required=True, help="Entra tenant, or domain at Google.")
@click.option("--secrets", "secrets_file", type=click.File("r"), help="JSON file with oauth_client_secret and, if any, saml_key.")
def tenant_add(name: str, c4c_file: Any, identity_tenants: tuple[str, ...], secrets_file: Any) -> None:
    """Add a tenant and print the certificate that its C4C administrator must upload."""
    secrets = _json(secrets_file) if secrets_file else {}
    made = provisioning.add_tenant(wiring.build(_settings()), name, _json(c4c_file), identity_tenants, secrets)
    click.echo(made.c4c.saml_certificate, nl=False)


@tenant.command("list")
def tenant_list() -> None:
    """List the tenants."""
    with wiring.build(_settings()).store.transaction(reading=True) as tx:
        for found in tx.tenants():
            click.echo(f"{found.name}\t{found.c4c.url}")


@cli.group()
def org() -> None:
    """Organizations: who shares an access type, a profile and an admin contact."""


@org.command("set")
@click.argument("tenant")
@click.argument("name")
@click.option("--access-type", required=True, help="office365, exchange_direct, google, exchange_impersonation or user_choice.")
@click.option("--admin-contact", required=True, help="Whom users are told to ask.")
@click.option("--profile", "profile_file", type=click.File("r"), help="JSON file with settings that differ from the defaults.")
@click.option(
    "--service-account", "account_file", type=click.File("r"), help="JSON file with the login for Exchange Impersonation."
)
def org_set(tenant: str, name: str, access_type: str, admin_contact: str, profile_file: Any, account_file: Any) -> None:
    """Create an organization or change it. Its service account stays unless another is given."""
    profile = _json(profile_file) if profile_file else {}
    account = _json(account_file) if account_file else None
    provisioning.put_organization(wiring.build(_settings()), tenant, name, access_type, admin_contact, profile, account)


@cli.group()
def user() -> None:
    """Provisioned people."""


@user.command("add")
@click.argument("tenant")
@click.argument("organization")
@click.option("--email", required=True, help="Address of the mailbox.")
@click.option("--name", required=True)
@click.option("--c4c-user", required=True, help="UserID in C4C.")
@click.option("--identity", nargs=2, metavar="TENANT SUBJECT", help="Entra tenant and object id, or domain and id at Google.")
@click.option("--check/--no-check", default=True, show_default=True, help="Have C4C confirm the UserID.")
def user_add(
    tenant: str, organization: str, email: str, name: str, c4c_user: str, identity: tuple[str, str] | None, check: bool
) -> None:
    """Provision a person."""
    deps = wiring.build(_settings())
    user_id = provisioning.add_user(deps, tenant, organization, email=email, name=name, c4c_user_id=c4c_user, identity=identity)
    if check:
        try:
            provisioning.confirm_user(deps, user_id)
        except SsiError:
            with deps.store.transaction() as tx:
                tx.remove_user(user_id)
            raise


@user.command("connect")
@click.argument("tenant")
@click.argument("email")
@click.argument("file", type=click.File("r"))
def user_connect(tenant: str, email: str, file: Any) -> None:
    """Keep what opens a person's mailbox at Exchange or Google: FILE is the "mailbox" of a provisioning document."""
    provisioning.connect_mailbox(wiring.build(_settings()), tenant, email, _json(file))


@user.command("disable")
@click.argument("tenant")
@click.argument("email")
def user_disable(tenant: str, email: str) -> None:
    """Refuse a person from now on."""
    provisioning.set_user_enabled(wiring.build(_settings()), tenant, email, False)


@user.command("enable")
@click.argument("tenant")
@click.argument("email")
def user_enable(tenant: str, email: str) -> None:
    """Admit a person again."""
    provisioning.set_user_enabled(wiring.build(_settings()), tenant, email, True)


@user.command("list")
@click.argument("tenant")
def user_list(tenant: str) -> None:
    """List a tenant's people."""
    with wiring.build(_settings()).store.transaction(reading=True) as tx:
        for found in tx.users(tx.tenant(tenant).id):
            click.echo(f"{found.email}\t{found.c4c_user_id}\t{'enabled' if found.enabled else 'disabled'}")
