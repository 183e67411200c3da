"""Azure Key Vault on the wire, as far as keys that wrap are concerned: get key, wrapkey, unwrapkey, and the sign-in before them.

A request without a token is answered by the challenge that says where to get one. As the vault does, a disabled version still
wraps and no longer unwraps (issue 45342 of Azure/azure-sdk-for-python), and a used version stays until it is deleted. Bodies,
codes and headers are those of recorded answers in Azure's SDKs and of the page "Azure Key Vault REST API Error Codes".
`KeyVault` is the back door: make a version, disable one, take permissions away, count what was asked.

Not simulated: other operations and algorithms, managed HSMs, throttling by itself (a Fault of the World does it).
"""

from __future__ import annotations

import base64
import binascii
import secrets
from dataclasses import dataclass, field
from typing import Any, NoReturn

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from flask import Flask, Response, g, jsonify, request
from werkzeug.exceptions import HTTPException

from simulator.serving import watch
from simulator.world import GetWorld

RESOURCE = "https://vault.example.com"  # of every vault of this cloud: tokens are for it
VERSIONS = ("7.0", "7.1", "7.2", "7.3", "7.4", "7.5", "7.6", "2025-07-01")
CLIENT_ID, CLIENT_SECRET = "5b1f2c3d-0000-4000-8000-00000000c11e", "vault-client-secret"
TENANT = "8f0e1d2c-0000-4000-8000-00000000e7a4"
_LIFETIME_S = 3600
_OAEP_256 = padding.OAEP(padding.MGF1(hashes.SHA256()), hashes.SHA256(), None)
_MISSING = (
    "A key with (name/id) {} was not found in this key vault. If you recently deleted this key you may be able to recover it "
    "using the correct recovery command. For help resolving this issue, please see https://go.microsoft.com/fwlink/?linkid=2125182"
)


@dataclass(slots=True)
class Version:
    name: str  # 32 hexadecimal digits
    key: rsa.RSAPrivateKey = field(repr=False)
    created: int
    enabled: bool = True


@dataclass
class KeyVault:
    """One vault with one RSA key. `url` is what the vault calls itself, wherever it is reached."""

    url: str = "https://ssi.vault.example.com"
    authority: str = "https://login.microsoftonline.com"
    key: str = "ssi"
    permissions: set[str] = field(default_factory=lambda: {"get", "wrapKey", "unwrapKey"})
    versions: list[Version] = field(default_factory=list)
    tokens: dict[str, tuple[str, float]] = field(default_factory=dict)  # token -> audience, end

    @property
    def address(self) -> str:
        return f"{self.url}/keys/{self.key}"

    def rotate(self, now: float) -> Version:
        """Make a new version of the key, as its rotation policy does."""
        key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        self.versions.append(Version(secrets.token_hex(16), key, int(now)))
        return self.versions[-1]

    def mint_token(self, now: float, *, audience: str = RESOURCE, lifetime_s: float = _LIFETIME_S) -> str:
        token = secrets.token_urlsafe(32)
        self.tokens[token] = (audience, now + lifetime_s)
        return token


class _Refused(HTTPException):
    def __init__(self, status: int, code: str, message: str, inner: str = "", challenge: str = "") -> None:
        error: dict[str, Any] = {"code": code, "message": message}
        if inner:
            error["innererror"] = {"code": inner}
        response = jsonify({"error": error})
        response.status_code = status
        if challenge:
            response.headers["WWW-Authenticate"] = challenge
        super().__init__(response=response)


def create_app(get_world: GetWorld, vault: KeyVault) -> Flask:
    """Serve a vault, and the sign-in service of its tenant, which gives tokens to one service principal."""
    app = Flask(__name__)
    wire = _Wire(get_world, vault)
    app.add_url_rule("/keys/<name>/", view_func=wire.get)
    app.add_url_rule("/keys/<name>/<version>", view_func=wire.get)
    app.add_url_rule("/keys/<name>/<version>/wrapkey", view_func=wire.wrap, methods=["POST"])
    app.add_url_rule("/keys/<name>/<version>/unwrapkey", view_func=wire.unwrap, methods=["POST"])
    app.add_url_rule("/<tenant>/v2.0/.well-known/openid-configuration", view_func=wire.discovery)
    app.add_url_rule("/common/discovery/instance", view_func=wire.instance)
    app.add_url_rule("/<tenant>/oauth2/v2.0/token", view_func=wire.token, methods=["POST"])
    watch(app, "keyvault", get_world)

    @app.after_request
    def _headers(response: Response) -> Response:
        response.headers["x-ms-keyvault-service-version"] = "1.9.422.1"
        response.headers["Cache-Control"] = "no-cache"
        return response

    return app


class _Wire:
    def __init__(self, get_world: GetWorld, vault: KeyVault) -> None:
        self._get_world, self._vault = get_world, vault

    def get(self, name: str, version: str = "") -> Response:
        self._admit("get")
        return jsonify(self._described(self._version(name, version)))

    def wrap(self, name: str, version: str) -> Response:
        self._admit("wrapKey")
        found = self._version(name, version)
        return self._result(found, found.key.public_key().encrypt(self._value(), _OAEP_256))

    def unwrap(self, name: str, version: str) -> Response:
        self._admit("unwrapKey")
        found = self._version(name, version)
        if not found.enabled:
            raise _Refused(403, "Forbidden", "Operation unwrapKey is not allowed on a disabled key.", "KeyDisabled")
        try:
            return self._result(found, found.key.decrypt(self._value(), _OAEP_256))
        except ValueError:
            raise _Refused(400, "BadParameter", "The parameter is incorrect.") from None

    def discovery(self, tenant: str) -> Response:
        here = f"{self._vault.authority}/{tenant}"
        return jsonify(
            issuer=f"{here}/v2.0",
            authorization_endpoint=f"{here}/oauth2/v2.0/authorize",
            token_endpoint=f"{here}/oauth2/v2.0/token",
            jwks_uri=f"{here}/discovery/v2.0/keys",
        )

    def instance(self) -> Response:
        return jsonify(
            {
                "tenant_discovery_endpoint": f"{self._vault.authority}/{TENANT}/v2.0/.well-known/openid-configuration",
                "api-version": "1.1",
                "metadata": [],
            }
        )

    def token(self, tenant: str) -> Any:
        form = request.form
        if tenant != TENANT or form.get("grant_type") != "client_credentials":
            return jsonify(error="invalid_request", error_description="AADSTS90002: Tenant not found."), 400
        if (form.get("client_id"), form.get("client_secret")) != (CLIENT_ID, CLIENT_SECRET):
            return jsonify(error="invalid_client", error_description="AADSTS7000215: Invalid client secret provided."), 401
        resource, _, short = form.get("scope", "").rpartition("/")
        if short != ".default":
            return jsonify(error="invalid_scope", error_description="AADSTS1002012: The scope is not valid."), 400
        token = self._vault.mint_token(self._now, audience=resource)
        return jsonify(token_type="Bearer", expires_in=_LIFETIME_S, ext_expires_in=_LIFETIME_S, access_token=token)

    @property
    def _now(self) -> float:
        return self._get_world().now().timestamp()

    def _admit(self, operation: str) -> None:
        given = request.headers.get("Authorization", "")
        scheme, _, token = given.partition(" ")
        if scheme not in ("Bearer", "PoP") or not token:
            self._challenge("AKV10000: Request is missing a Bearer or PoP token.")
        audience, until = self._vault.tokens.get(token, ("", 0.0))
        if audience != RESOURCE:
            self._challenge("AKV10022: Invalid audience.")
        if until <= self._now:
            self._challenge("AKV10014: Token is expired.")
        g.actor = CLIENT_ID
        if request.args.get("api-version") not in VERSIONS:
            raise _Refused(
                400, "BadParameter", "The specified version is not recognized. Consider using the latest supported version."
            )
        if operation not in self._vault.permissions:
            message = (
                f"Caller is not authorized to perform action on resource.\r\nAction: 'Microsoft.KeyVault/vaults/keys/{operation}'"
            )
            raise _Refused(403, "Forbidden", message, "ForbiddenByRbac")

    def _challenge(self, message: str) -> NoReturn:
        challenge = f'Bearer authorization="{self._vault.authority}/{TENANT}", resource="{RESOURCE}"'
        raise _Refused(401, "Unauthorized", message, challenge=challenge)

    def _version(self, name: str, version: str) -> Version:
        known = [one for one in self._vault.versions if name == self._vault.key and version in ("", one.name)]
        if not known:
            raise _Refused(404, "KeyNotFound", _MISSING.format(f"{name}/{version}" if version else name))
        return known[-1]

    def _value(self) -> bytes:
        body = request.get_json(silent=True)
        if not isinstance(body, dict) or not isinstance(body.get("value"), str):
            raise _Refused(400, "BadParameter", "Property  has invalid value\r\n")
        if body.get("alg") != "RSA-OAEP-256":
            raise _Refused(400, "BadParameter", f"Unsupported algorithm: {body.get('alg')}")
        try:
            return base64.b64decode(body["value"] + "=" * (-len(body["value"]) % 4), altchars=b"-_", validate=True)
        except binascii.Error:
            raise _Refused(400, "BadParameter", "Property value has invalid value\r\n") from None

    def _described(self, version: Version) -> dict[str, Any]:
        public = version.key.public_key().public_numbers()
        times = {"created": version.created, "updated": version.created}
        return {
            "key": {
                "kid": f"{self._vault.address}/{version.name}",
                "kty": "RSA",
                "key_ops": ["wrapKey", "unwrapKey"],
                "n": _b64(public.n.to_bytes(256, "big")),
                "e": _b64(public.e.to_bytes(3, "big")),
            },
            "attributes": {"enabled": version.enabled, **times, "recoveryLevel": "Recoverable+Purgeable", "recoverableDays": 90},
            "tags": {},
        }

    def _result(self, version: Version, value: bytes) -> Response:
        return jsonify(kid=f"{self._vault.address}/{version.name}", value=_b64(value))


def _b64(value: bytes) -> str:
    return base64.urlsafe_b64encode(value).rstrip(b"=").decode()
