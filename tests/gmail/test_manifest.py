"""The add-on's manifests for both runtimes: valid by Google's own description, narrow, and at one with sources and server."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from flask.testing import FlaskClient
from google.cloud.gsuiteaddons_v1 import Deployment
from google.protobuf.json_format import ParseDict, ParseError

from server.errors import InvalidInput
from server.web.addon import addon_files

ROOT = Path(__file__).resolve().parents[2]
ORIGIN = "https://ssi.example.com"
C4C = "https://my000001-sso.c4c.example.com"
GOOGLE = "https://www.googleapis.com/auth/"
SCOPES = {
    "openid",
    *(
        GOOGLE + name
        for name in (
            "userinfo.email",
            "script.locale",
            "gmail.addons.execute",
            "gmail.addons.current.message.metadata",
            "gmail.addons.current.action.compose",
        )
    ),
}
FETCH = GOOGLE + "script.external_request"


@pytest.fixture
def script() -> dict[str, Any]:
    manifest: dict[str, Any] = json.loads(addon_files("apps-script", ORIGIN, [C4C])["appsscript.json"])
    return manifest


@pytest.fixture
def http() -> dict[str, Any]:
    deployment: dict[str, Any] = json.loads(addon_files("http", ORIGIN, [C4C])["deployment.json"])
    return deployment


@pytest.fixture(params=["script", "http"])
def either(request: pytest.FixtureRequest) -> dict[str, Any]:
    manifest: dict[str, Any] = request.getfixturevalue(request.param)
    return manifest


def parsed(manifest: dict[str, Any]) -> Deployment:
    """Have Google's description of a deployment judge a manifest, but for what stands in one runtime only.

    google-cloud-gsuiteaddons 0.5.2 describes neither the compose actions of Apps Script nor the consent scope by scope of HTTP.
    """
    known = json.loads(json.dumps({"oauthScopes": manifest["oauthScopes"], "addOns": manifest["addOns"]}))
    known["addOns"]["gmail"]["composeTrigger"].pop("selectActions", None)
    known["addOns"].get("httpOptions", {}).pop("granularOauthPermissionSupport", None)
    deployment = Deployment()
    ParseDict(known, Deployment.pb(deployment))
    return deployment


def test_google_knows_every_member(either: dict[str, Any]) -> None:
    deployment = parsed(either)
    assert deployment.add_ons.common.name == "SSI Sidebar"
    assert deployment.add_ons.common.use_locale_from_app
    (trigger,) = deployment.add_ons.gmail.contextual_triggers
    assert "unconditional" in trigger
    assert deployment.add_ons.gmail.compose_trigger.draft_access.name == "METADATA"


@pytest.mark.parametrize(
    "path", ["common.logoURL", "common.universalActions", "gmail.contextualTrigger", "gmail.composeTrigger.access"]
)
def test_google_refuses_what_is_misspelt(either: dict[str, Any], path: str) -> None:
    *folders, last = path.split(".")
    target = either["addOns"]
    for folder in folders:
        target = target[folder]
    target[last] = [{"text": "an older form's label"}]
    with pytest.raises(ParseError):
        parsed(either)


def test_what_google_does_not_describe_is_as_its_guides_have_it(script: dict[str, Any], http: dict[str, Any]) -> None:
    assert script.keys() == {"timeZone", "runtimeVersion", "exceptionLogging", "oauthScopes", "urlFetchWhitelist", "addOns"}
    assert script["addOns"].keys() == {"common", "gmail"}
    assert script["runtimeVersion"] == "V8"
    assert [action.keys() for action in script["addOns"]["gmail"]["composeTrigger"]["selectActions"]] == [{"text", "runFunction"}]
    assert http.keys() == {"oauthScopes", "addOns"}
    assert http["addOns"]["httpOptions"]["granularOauthPermissionSupport"] == "OPT_IN"
    assert http["addOns"]["httpOptions"]["authorizationHeader"] == "SYSTEM_ID_TOKEN"


def test_no_scope_is_asked_for_that_is_not_needed(script: dict[str, Any], http: dict[str, Any]) -> None:
    """None of them is restricted (gmail.md, 1.1); whatever acts while composing needs its own (ComposeTrigger)."""
    assert sorted(script["oauthScopes"]) == sorted(SCOPES | {FETCH})
    assert sorted(http["oauthScopes"]) == sorted(SCOPES)


def test_the_script_calls_our_endpoints_only(script: dict[str, Any]) -> None:
    assert script["urlFetchWhitelist"] == [f"{ORIGIN}/gmail/"]


def test_links_lead_to_us_and_to_c4c_only(either: dict[str, Any]) -> None:
    common = either["addOns"]["common"]
    assert common["openLinkUrlPrefixes"] == [f"{ORIGIN}/", f"{C4C}/"]
    for prefix in [*common["openLinkUrlPrefixes"], *either.get("urlFetchWhitelist", [])]:
        address = urlsplit(prefix)  # rules of Google's page "Allowlist URLs"
        assert (address.scheme, address.path[:1], "*" in prefix) == ("https", "/", False)
    assert {action["label"] for action in common["universalActions"]} == {"User Settings", "Privacy"}
    assert all(action["openLink"].startswith(f"{ORIGIN}/") for action in common["universalActions"])


def test_links_to_c4c_on_a_developers_machine_are_left_out() -> None:
    files = addon_files("apps-script", ORIGIN, ["http://127.0.0.1:8401"])
    assert json.loads(files["appsscript.json"])["addOns"]["common"]["openLinkUrlPrefixes"] == [f"{ORIGIN}/"]


def test_every_page_that_google_shows_answers(either: dict[str, Any], client: FlaskClient) -> None:
    common = either["addOns"]["common"]
    for url in (common["logoUrl"], *(action["openLink"] for action in common["universalActions"])):
        with client.get(urlsplit(url).path) as answer:
            assert answer.status_code in (200, 303), url
            if url == common["logoUrl"]:
                assert answer.data[:8] == b"\x89PNG\r\n\x1a\n"  # Google shows no SVG


def test_every_function_that_google_calls_is_in_the_sources(script: dict[str, Any]) -> None:
    sources = "".join(path.read_text() for path in (ROOT / "appsscript").glob("*.js"))
    named = re.findall(r'"(?:runFunction|onTriggerFunction)": "(\w+)"', json.dumps(script))
    assert sorted(named) == ["onCompose", "onHomepage", "onMessage"]
    assert set(named) <= set(re.findall(r"^function (\w+)\(event\)", sources, re.M))


def test_google_calls_the_endpoints_that_the_script_would(http: dict[str, Any]) -> None:
    add_ons = http["addOns"]
    assert add_ons["common"]["homepageTrigger"]["runFunction"] == f"{ORIGIN}/gmail/homepage"
    assert [one["onTriggerFunction"] for one in add_ons["gmail"]["contextualTriggers"]] == [f"{ORIGIN}/gmail/message"]
    (compose,) = add_ons["gmail"]["composeTrigger"]["actions"]
    assert (compose["label"], compose["runFunction"]) == ("SSI Sidebar", f"{ORIGIN}/gmail/compose")


def test_the_sources_call_this_installation() -> None:
    files = addon_files("apps-script", ORIGIN, [])
    assert files.keys() == {"appsscript.json", "main.js", "cards.js"}
    assert f'const SERVER = "{ORIGIN}";' in files["main.js"]
    assert not any("localhost" in text for text in files.values())


@pytest.mark.parametrize("runtime", ["apps-script", "http"])
def test_google_calls_https_only(runtime: Any) -> None:
    with pytest.raises(InvalidInput, match="https"):
        addon_files(runtime, "http://ssi.example.com", [])
