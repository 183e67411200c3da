"""Acting as a C4C user without that user's password: a short signed SAML 2.0 bearer assertion, exchanged for an access token.

The form of the assertion and of the exchange: c4c-odata.md section 1, Authentication (sources S1, S15). The signing key can act
as anybody in the tenant. Therefore it is only ever here, it comes in as bytes that somebody else keeps sealed, nothing here
prints or stores it, and every assertion is reported to `on_mint` before it is used.
"""

from __future__ import annotations

import base64
import json
import threading
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from lxml import etree
from signxml.algorithms import CanonicalizationMethod, DigestAlgorithm, SignatureMethod
from signxml.signer import XMLSigner

from server.c4c.odata import PEER
from server.errors import Forbidden, InvalidInput, NeedsReauth, Transient
from server.transport import Breaker, Gateway, Reply, raise_for_busy

SAML = "urn:oasis:names:tc:SAML:2.0:assertion"
DSIG = "http://www.w3.org/2000/09/xmldsig#"
BEARER_GRANT = "urn:ietf:params:oauth:grant-type:saml2-bearer"
NAME_ID_UNSPECIFIED = "urn:oasis:names:tc:SAML:1.1:nameid-format:unspecified"
_BEARER = "urn:oasis:names:tc:SAML:2.0:cm:bearer"
_PREVIOUS_SESSION = "urn:oasis:names:tc:SAML:2.0:ac:classes:PreviousSession"
_BASIC_NAME = "urn:oasis:names:tc:SAML:2.0:attrname-format:basic"
_SCOPE = "UIWC:CC_HOME"
_EARLY_S = 60  # a token is replaced this long before it expires, so that a call in flight does not lose it


@dataclass(frozen=True, slots=True)
class Minted:
    """What the audit keeps of an assertion; it holds no secret."""

    id: str
    user_id: str
    at: datetime
    expires_at: datetime


class Minter:
    """Makes assertions for one tenant.

    `issuer` is our identity provider's name as the tenant's admin registered it, `audience` the tenant's "Local Service
    Provider", `token_url` the token endpoint, `client_id` the OAuth client. `key_pem` is an RSA key, `certificate_pem` its
    certificate, which goes along so that the peer can tell which one it is; C4C trusts only the one that was registered.
    """

    def __init__(
        self,
        *,
        issuer: str,
        audience: str,
        token_url: str,
        client_id: str,
        key_pem: bytes,
        certificate_pem: bytes,
        now: Callable[[], datetime],
        on_mint: Callable[[Minted], None],
        lifetime_s: int = 300,
        skew_s: int = 60,
    ) -> None:
        key = load_pem_private_key(key_pem, password=None)
        if not isinstance(key, rsa.RSAPrivateKey) or key.key_size < 2048:
            raise InvalidInput("key_pem", "must be an RSA key of at least 2048 bits")
        self.token_url = token_url
        self.client_id = client_id
        self._issuer = issuer
        self._audience = audience
        self._key = key
        self._certificate = certificate_pem.decode("ascii")
        self._now = now
        self._on_mint = on_mint
        self._lifetime = timedelta(seconds=lifetime_s)
        self._skew = timedelta(seconds=skew_s)

    def mint(self, user_id: str) -> bytes:
        """Return a signed assertion that names this C4C UserID; valid for `lifetime_s`, backdated by `skew_s`.

        Raises: InvalidInput for a UserID that XML cannot carry; whatever `on_mint` raises, and then there is no assertion.
        """
        if not user_id.strip() or not user_id.isprintable():
            raise InvalidInput("user_id", "is no C4C user")
        now = self._now()
        minted = Minted("_" + uuid.uuid4().hex, user_id, now, now + self._lifetime)
        self._on_mint(minted)
        signer = XMLSigner(
            signature_algorithm=SignatureMethod.RSA_SHA256,
            digest_algorithm=DigestAlgorithm.SHA256,
            c14n_algorithm=CanonicalizationMethod.EXCLUSIVE_XML_CANONICALIZATION_1_0,
        )
        signed = signer.sign(
            self._assertion(minted), key=self._key, cert=self._certificate, reference_uri=minted.id, id_attribute="ID"
        )
        return etree.tostring(signed)

    def _assertion(self, minted: Minted) -> etree._Element:
        until = _instant(minted.expires_at)
        root = etree.Element(_saml("Assertion"), nsmap={"saml": SAML})
        root.set("ID", minted.id)
        root.set("Version", "2.0")
        root.set("IssueInstant", _instant(minted.at))
        _add(root, "Issuer", self._issuer)
        # The schema wants the signature behind the issuer; signxml puts it where this stands.
        etree.SubElement(root, f"{{{DSIG}}}Signature", {"Id": "placeholder"}, nsmap={"ds": DSIG})
        subject = _add(root, "Subject")
        _add(subject, "NameID", minted.user_id, Format=NAME_ID_UNSPECIFIED)
        confirmation = _add(subject, "SubjectConfirmation", Method=_BEARER)
        _add(confirmation, "SubjectConfirmationData", NotOnOrAfter=until, Recipient=self.token_url)
        conditions = _add(root, "Conditions", NotBefore=_instant(minted.at - self._skew), NotOnOrAfter=until)
        _add(_add(conditions, "AudienceRestriction"), "Audience", self._audience)
        statement = _add(root, "AuthnStatement", AuthnInstant=_instant(minted.at), SessionIndex=minted.id)
        _add(_add(statement, "AuthnContext"), "AuthnContextClassRef", _PREVIOUS_SESSION)
        attribute = _add(_add(root, "AttributeStatement"), "Attribute", Name="client_id", NameFormat=_BASIC_NAME)
        _add(attribute, "AttributeValue", self.client_id)
        return root


class TokenSource:
    """Gives access tokens for the users of one tenant; keeps them in memory until shortly before they expire. Thread-safe.

    One exchange at a time per user: who comes second takes the first one's token. C4C gives no refresh token (S15).
    """

    def __init__(self, gateway: Gateway, minter: Minter, *, client_secret: str, now: Callable[[], datetime]) -> None:
        self._gateway = gateway
        self._minter = minter
        pair = f"{minter.client_id}:{client_secret}"
        self._credentials = "Basic " + base64.b64encode(pair.encode()).decode("ascii")
        self._now = now
        self._breaker = Breaker(f"{PEER}'s sign-in")  # its own: who has a token gets on without it
        self._lock = threading.Lock()
        self._users: dict[str, _UserToken] = {}

    def authorize(self, user_id: str) -> Callable[[], Mapping[str, str]]:
        """Return an ODataClient's `authorize` for this user."""
        return lambda: {"Authorization": "Bearer " + self.token(user_id)}

    def token(self, user_id: str) -> str:
        """Return an access token that is good for at least another minute.

        Raises: NeedsReauth if C4C does not take this user; Forbidden with code "c4c_setup" if it does not take us, so that an
        admin must look; Transient if the endpoint does not answer.
        """
        user = self._user(user_id)
        with user.lock:
            if user.token is None or self._now() >= user.replace_at:
                user.token, user.replace_at = self._exchange(user_id)
            return user.token

    def forget(self, user_id: str) -> None:
        """Drop the token, e.g. because C4C refused it before its time."""
        user = self._user(user_id)
        with user.lock:
            user.token = None

    def _user(self, user_id: str) -> _UserToken:
        with self._lock:
            return self._users.setdefault(user_id, _UserToken(self._now()))

    def _exchange(self, user_id: str) -> tuple[str, datetime]:
        asked_at = self._now()
        with self._breaker.calling(self._gateway.timeout_s):
            reply = self._gateway.send(
                "POST",
                self._minter.token_url,
                headers={"Authorization": self._credentials, "Accept": "application/json"},
                data={
                    "client_id": self._minter.client_id,
                    "grant_type": BEARER_GRANT,
                    "scope": _SCOPE,
                    "assertion": base64.b64encode(self._minter.mint(user_id)).decode("ascii"),
                },
                max_bytes=1024 * 1024,
                is_write=False,  # a second token does no harm
            )
        if not reply.is_success:
            raise _refusal(reply)
        try:
            granted = json.loads(reply.content)
            token, lifetime_s = granted["access_token"], float(granted.get("expires_in", 0))  # expires_in is a string (S15)
        except (ValueError, KeyError, TypeError, AttributeError) as unreadable:
            raise Transient(f"{PEER}'s sign-in gave an answer that cannot be read.") from unreadable
        if not isinstance(token, str) or not token or not token.isascii() or not token.isprintable():
            raise Transient(f"{PEER}'s sign-in gave no token.")
        return token, asked_at + timedelta(seconds=max(0.0, min(lifetime_s, 86400.0) - _EARLY_S))


class _UserToken:
    """One user's token; `lock` is held while it is exchanged."""

    def __init__(self, replace_at: datetime) -> None:
        self.lock = threading.Lock()
        self.token: str | None = None
        self.replace_at = replace_at


def _refusal(reply: Reply) -> Exception:
    """Translate the token endpoint's refusal (RFC 6749 section 5.2)."""
    try:
        raise_for_busy(reply, f"{PEER}'s sign-in", changes=False)
    except Transient as busy:
        return busy
    try:
        code = json.loads(reply.content)["error"]
    except (ValueError, KeyError, TypeError):
        code = ""
    if code == "invalid_grant":
        return NeedsReauth(f"{PEER} does not accept this user; the user may be locked or not exist there.")
    return Forbidden(f"{PEER} does not accept this installation's sign-in.", code="c4c_setup")


def _instant(moment: datetime) -> str:
    if moment.utcoffset() != timedelta(0):
        raise ValueError("a time that is not UTC")
    return f"{moment:%Y-%m-%dT%H:%M:%S}.{moment.microsecond // 1000:03d}Z"


def _saml(name: str) -> str:
    return f"{{{SAML}}}{name}"


def _add(parent: etree._Element, name: str, text: str | None = None, **attributes: str) -> etree._Element:
    element = etree.SubElement(parent, _saml(name), attributes)
    element.text = text
    return element
