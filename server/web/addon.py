"""The Gmail add-on as an administrator deploys it: manifest and sources for one installation and one of Google's two runtimes.

appsscript/appsscript.json is the manifest of Apps Script for COMMITTED_ORIGIN, and the template of both. Google's other runtime
calls our endpoints itself. One manifest cannot serve both (domain page gmail.md, 1.6): where the one names a function the other
has an address, compose actions are spelled differently, and each has members that the other does not know.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any, Literal

from server.errors import InvalidInput
from server.web.pages import COMMITTED_ORIGIN, asset_root

Runtime = Literal["apps-script", "http"]

_SOURCES = ("main.js", "cards.js")
_ENDPOINTS = {"onHomepage": "/gmail/homepage", "onMessage": "/gmail/message", "onCompose": "/gmail/compose"}
_FETCHING = "https://www.googleapis.com/auth/script.external_request"  # what the script needs to call us

STEPS: dict[Runtime, tuple[str, ...]] = {
    "apps-script": (
        "1. script.google.com > New project; Project Settings: link it to a standard Google Cloud project of your organization,",
        "   and tick 'Show appsscript.json in editor'. Replace its files by these (or `clasp push`).",
        "2. Google Cloud > APIs & Services > Credentials: put the project's OAuth client id into SSI_GOOGLE_AUDIENCE.",
        "3. Deploy > Test deployments > Install, and try it in Gmail.",
        "4. Deploy > New deployment > Add-on; enter its id in the Google Workspace Marketplace SDK and publish it privately.",
    ),
    "http": (
        "1. gcloud services enable gsuiteaddons.googleapis.com",
        "2. gcloud workspace-add-ons get-authorization: put oauthClientId into SSI_GOOGLE_AUDIENCE and serviceAccountEmail into",
        "   SSI_GMAIL_SERVICE_ACCOUNT.",
        "3. gcloud workspace-add-ons deployments create ssi-sidebar --deployment-file=deployment.json",
        "4. gcloud workspace-add-ons deployments install ssi-sidebar, and try it in Gmail.",
        "5. Choose the deployment in the Google Workspace Marketplace SDK and publish it privately.",
    ),
}
"""What the administrator does with the files; docs/gmail.md says it at length."""


def addon_files(runtime: Runtime, public_url: str, record_origins: Iterable[str]) -> dict[str, str]:
    """Return the texts of the files to deploy by their names; cards may link to us and to `record_origins`.

    Raises: InvalidInput if Google would not call `public_url`.
    """
    if not public_url.startswith("https://"):
        raise InvalidInput("public_url", "must be an https address, as Google calls no other")
    folder = asset_root() / "appsscript"
    here = {name: (folder / name).read_text("utf-8").replace(COMMITTED_ORIGIN, public_url) for name in _SOURCES}
    manifest = json.loads((folder / "appsscript.json").read_text("utf-8").replace(COMMITTED_ORIGIN, public_url))
    # A link elsewhere is not opened, and only https is (Google, "Allowlist URLs"); http is C4C on a developer's machine.
    records = (f"{origin}/" for origin in record_origins if origin.startswith("https://"))
    manifest["addOns"]["common"]["openLinkUrlPrefixes"] += sorted(set(records))
    if runtime == "http":
        return {"deployment.json": _text(_for_http(manifest, public_url))}
    return {"appsscript.json": _text(manifest), **here}


def _for_http(manifest: dict[str, Any], public_url: str) -> dict[str, Any]:
    """Turn Apps Script's manifest into a deployment of the other runtime (Google, REST resource projects.deployments)."""
    add_ons = manifest["addOns"]
    common, gmail = add_ons["common"], add_ons["gmail"]
    common["homepageTrigger"]["runFunction"] = public_url + _ENDPOINTS[common["homepageTrigger"]["runFunction"]]
    for trigger in gmail["contextualTriggers"]:
        trigger["onTriggerFunction"] = public_url + _ENDPOINTS[trigger["onTriggerFunction"]]
    compose = gmail["composeTrigger"]
    compose["actions"] = [
        {"label": action["text"], "runFunction": public_url + _ENDPOINTS[action["runFunction"]], "logoUrl": common["logoUrl"]}
        for action in compose.pop("selectActions")
    ]
    # Consent scope by scope is obligatory for this runtime since December 2025 (gmail.md, [R8], [R16]).
    add_ons["httpOptions"] = {"authorizationHeader": "SYSTEM_ID_TOKEN", "granularOauthPermissionSupport": "OPT_IN"}
    return {"oauthScopes": [scope for scope in manifest["oauthScopes"] if scope != _FETCHING], "addOns": add_ons}


def _text(value: dict[str, Any]) -> str:
    return json.dumps(value, indent=2) + "\n"
