"""Autodiscover as Outlook asks it ("POX"): a posted address is answered with the Exchange server's addresses, or sent on.

What an address leads to is data: `Settings`, `ToAddress` (ask again as that address), `ToUrl` (ask there) and `Moved` (HTTP
redirect), or `Unknown`. Signing in is `simulator.ews`'s. Source: MS-OXDSCLI 2.2.4.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from flask import Response
from lxml import etree

ASKED = "http://schemas.microsoft.com/exchange/autodiscover/outlook/requestschema/2006"
ANSWERED = "http://schemas.microsoft.com/exchange/autodiscover/outlook/responseschema/2006a"
OUTER = "http://schemas.microsoft.com/exchange/autodiscover/responseschema/2006"


@dataclass(frozen=True, slots=True)
class Settings:
    """The mailbox is here; `external` is the EWS URL for the world, `internal` the one for the house."""

    external: str
    internal: str = ""


@dataclass(frozen=True, slots=True)
class ToAddress:
    address: str


@dataclass(frozen=True, slots=True)
class ToUrl:
    url: str


@dataclass(frozen=True, slots=True)
class Moved:
    url: str


@dataclass(frozen=True, slots=True)
class Unknown:
    pass


Reply = Settings | ToAddress | ToUrl | Moved | Unknown


def answer(body: bytes, decide: Callable[[str], Reply]) -> Response:
    try:
        asked = etree.fromstring(body, etree.XMLParser(resolve_entities=False, no_network=True))
    except etree.XMLSyntaxError:
        return _error("600", "Invalid Request")
    address = asked.findtext(f"{{{ASKED}}}Request/{{{ASKED}}}EMailAddress")
    schema = asked.findtext(f"{{{ASKED}}}Request/{{{ASKED}}}AcceptableResponseSchema")
    if not address or schema != ANSWERED:
        return _error("600", "Invalid Request")
    match decide(address):
        case Unknown():
            return _error("500", "The email address can't be found.")
        case Moved(url):
            return Response(b"", 302, {"Location": url})
        case Settings(external, internal):
            protocols = [("EXPR", external), ("EXCH", internal or external)]
            return _account("settings", *(_protocol(kind, url) for kind, url in protocols))
        case ToAddress(other):
            return _account("redirectAddr", _text("RedirectAddr", other))
        case ToUrl(url):
            return _account("redirectUrl", _text("RedirectUrl", url))


def _text(name: str, text: str) -> etree._Element:
    element = etree.Element(f"{{{ANSWERED}}}{name}")
    element.text = text
    return element


def _protocol(kind: str, url: str) -> etree._Element:
    element = etree.Element(f"{{{ANSWERED}}}Protocol")
    element.extend([_text("Type", kind), _text("EwsUrl", url)])
    return element


def _account(action: str, *content: etree._Element) -> Response:
    root = etree.Element(f"{{{OUTER}}}Autodiscover", nsmap={None: OUTER})
    response = etree.SubElement(root, f"{{{ANSWERED}}}Response", nsmap={None: ANSWERED})
    account = etree.SubElement(response, f"{{{ANSWERED}}}Account")
    account.extend([_text("AccountType", "email"), _text("Action", action), *content])
    return Response(etree.tostring(root, xml_declaration=True, encoding="utf-8"), content_type="text/xml; charset=utf-8")


def _error(code: str, text: str) -> Response:
    root = etree.Element(f"{{{OUTER}}}Autodiscover", nsmap={None: OUTER})
    error = etree.SubElement(etree.SubElement(root, f"{{{OUTER}}}Response"), f"{{{OUTER}}}Error")
    for name, value in (("ErrorCode", code), ("Message", text)):
        etree.SubElement(error, f"{{{OUTER}}}{name}").text = value
    return Response(etree.tostring(root, xml_declaration=True, encoding="utf-8"), content_type="text/xml; charset=utf-8")
