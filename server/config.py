"""Settings: the only reader of the environment. Every variable starts with SSI_; an unknown one is an error.

A secret has no default. Values that differ per C4C tenant are tenant data in the database, not settings.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, get_args, get_type_hints

from server.errors import InvalidInput


@dataclass(frozen=True, slots=True)
class Settings:
    """All settings, their defaults and their meaning."""

    database_url: str  # SQLAlchemy URL: sqlite:///path or postgresql+psycopg://...
    public_url: str  # origin under which browsers reach this server, without a trailing slash
    hooks_url: str = ""  # origin where mail services reach us with notifications; "": public_url if that is https; off: none
    key_file: Path | None = None  # key-encryption keys (`ssi key`), readable by the server's user only; or key_vault
    key_vault: str = ""  # identifier of a key in Azure Key Vault, which wraps instead; with both, the file's keys still open
    client_id: str = ""  # Entra application (client) id of this installation
    client_secret_file: Path | None = None  # file that holds the Entra client secret
    entra_authority: str = "https://login.microsoftonline.com"  # sign-in authority, without tenant
    graph_url: str = "https://graph.microsoft.com/v1.0"  # Microsoft Graph
    allowed_hosts: tuple[str, ...] = ()  # hosts, addresses, networks [:port] of Exchange servers that are not public on port 443
    exchange_metadata_hosts: tuple[str, ...] = ()  # hosts[:port] of Exchange servers whose identity tokens count
    google_client_id: str = ""  # OAuth client of this installation at Google, for mailboxes
    google_client_secret_file: Path | None = None  # file that holds its secret
    google_audience: tuple[str, ...] = ()  # OAuth client ids of the Gmail add-on; without, nobody of Google may sign in
    gmail_service_account: str = ""  # e-mail address as which Google itself runs the add-on and calls us; "": it may not
    google_issuer: str = "https://accounts.google.com"  # of Google's ID tokens
    google_keys_url: str = "https://www.googleapis.com/oauth2/v3/certs"  # their signing keys
    google_token_url: str = "https://oauth2.googleapis.com/token"  # noqa: S105 - where tokens are got
    google_auth_url: str = "https://accounts.google.com/o/oauth2/v2/auth"  # where people sign in to connect a mailbox
    google_revoke_url: str = "https://oauth2.googleapis.com/revoke"  # where grants are ended
    consumer_domains: tuple[str, ...] = ("outlook.com", "hotmail.com", "live.com", "msn.com")  # mail domains of Outlook.com
    gmail_url: str = "https://gmail.googleapis.com"  # Gmail API
    google_topic: str = ""  # Pub/Sub topic to which Gmail publishes, "projects/p/topics/t"; without, mailboxes are only polled
    google_push_account: str = ""  # e-mail address of the service account that signs the topic's pushes to /hooks/google
    google_people_url: str = "https://people.googleapis.com"  # People API
    smtp_url: str = ""  # mail server for our own mails, smtps:// or (STARTTLS) smtp://[user@]host[:port]; "": none are sent
    smtp_password_file: Path | None = None  # file that holds that user's password
    mail_from: str = ""  # whom our mails are from: an address, or "Name <address>"
    office_js_url: str = "https://appsforoffice.microsoft.com/lib/1/hosted/office.js"  # loaded by the pane
    frame_ancestors: tuple[str, ...] = (
        "https://outlook.office.com",
        "https://outlook.office365.com",
        "https://outlook.cloud.microsoft",
        "https://outlook.live.com",
    )  # origins that may frame the pane
    pages_frame_ancestors: tuple[str, ...] = ()  # origins that may frame the settings' pages, as the tenant's C4C; mostly none
    cors_origins: tuple[str, ...] = ()  # exact origins that may call /api from static files served elsewhere
    ca_file: Path | None = None  # extra certificate authorities (PEM) for outgoing calls
    proxy_url: str | None = None  # proxy for outgoing calls
    bind: str = "127.0.0.1"  # address to listen on
    port: int = 8400
    threads: int = 8  # request threads of a web process
    worker_threads: int = 2  # threads for sessions of the embedded worker; 0 leaves jobs to `ssi worker`
    redis_url: str = (
        ""  # redis:// or rediss://[user@]host[:port][/number], this installation's: spreads jobs over all `ssi worker`
    )
    redis_password_file: Path | None = None  # file that holds that user's password
    cache_s: int = 60  # how long a lookup's answer may be shown again
    c4c_timeout_s: float = 30.0  # deadline of one call to C4C
    graph_timeout_s: float = 30.0  # deadline of one call to Graph
    exchange_timeout_s: float = 30.0  # deadline of one call to an Exchange server
    google_timeout_s: float = 30.0  # deadline of one call to Google
    smtp_timeout_s: float = 30.0  # deadline of sending one mail
    identity_timeout_s: float = 10.0  # deadline of one call to a sign-in service
    key_vault_timeout_s: float = 4.0  # deadline of what is asked of Azure Key Vault, signing in to Azure included
    context_deadline_s: float = 1.5  # after this a lookup answers with what it has
    save_deadline_s: float = 8.0  # after this a save goes on in the background
    lease_s: float = 45.0  # a job whose holder is silent this long is taken over
    unknown_settle_s: float = 30.0  # how long an unanswered write may still appear in C4C before it is tried again
    poll_s: float = 1.0  # how often the worker looks for due rows
    user_calls_per_minute: int = 60  # of one user, at each web process; 0 = no limit
    tenant_calls_per_minute: int = 6000  # of all users of one C4C tenant, at each web process; 0 = no limit
    failed_sign_ins_per_minute: int = 30  # and refused notifications, from one network address, at each web process; 0 = no limit
    proxies: int = 0  # reverse proxies in front of this server, whose X-Forwarded-For is believed
    log_format: str = "json"  # json or text

    @classmethod
    def from_environment(cls, environ: Mapping[str, str] | None = None) -> Settings:
        """Read SSI_* variables.

        Raises: InvalidInput for an unknown or missing variable, or a value that is not of its type.
        """
        environ = os.environ if environ is None else environ
        hints = get_type_hints(cls)
        names = {"SSI_" + f.name.upper(): f.name for f in fields(cls)}
        values: dict[str, Any] = {}
        for variable, text in environ.items():
            if not variable.startswith("SSI_") or variable in _NOT_OURS:
                continue
            if variable not in names:
                raise InvalidInput(variable, "no such setting")
            values[names[variable]] = _parsed(variable, text, hints[names[variable]])
        for required in ("database_url", "public_url"):
            if required not in values:
                raise InvalidInput("SSI_" + required.upper(), "must be set")
        if not (values.get("key_file") or values.get("key_vault")):
            raise InvalidInput("SSI_KEY_FILE", "must be set, or SSI_KEY_VAULT")
        values["public_url"] = values["public_url"].rstrip("/")
        return cls(**values)


_NOT_OURS = frozenset({"SSI_CONTRACTS_DIR"})  # belongs to the tests


def _parsed(variable: str, text: str, hint: Any) -> Any:
    if hint == tuple[str, ...]:
        return tuple(part for part in text.replace(",", " ").split() if part)
    kind = next((t for t in get_args(hint) if t is not type(None)), hint)
    try:
        return kind(text)
    except ValueError:
        raise InvalidInput(variable, f"{text!r} is not a {kind.__name__}") from None
