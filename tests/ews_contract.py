"""Exchange's own schema files (see `tests.contracts`), to compare SOAP traffic with them."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cache
from io import BytesIO
from typing import Any

import pytest
from lxml import etree

from simulator.ews.soap import ERRORS, SOAP
from tests.contracts import contract

_IMPORT = '<xs:import namespace="http://www.w3.org/XML/1998/namespace"/>'


class _Files(etree.Resolver):
    """Gives the schema of xml:lang a place, which libxml2 needs and the vendor's file does not name."""

    def resolve(self, system_url: str, public_id: str, context: Any) -> Any:
        name = system_url.rpartition("/")[2]
        text = contract(f"ews/{name}").read_text(encoding="utf-8-sig")
        return self.resolve_string(text.replace(_IMPORT, _IMPORT.replace("/>", ' schemaLocation="xml.xsd"/>')), context)


class EwsContract:
    """Judges envelopes: every block of a header and the operation in the body."""

    def __init__(self) -> None:
        parser = etree.XMLParser()
        parser.resolvers.add(_Files())
        self._schema = etree.XMLSchema(etree.parse(str(contract("ews/messages.xsd")), parser))

    def problems(self, envelope: bytes) -> list[str]:
        root = etree.fromstring(envelope)
        if root.find(f"{{{SOAP}}}Body/{{{SOAP}}}Fault") is not None:
            code = root.findtext(f".//{{{ERRORS}}}ResponseCode")
            return [] if code else ["a fault without ResponseCode"]
        found: list[str] = []
        for part in [*root.iterfind(f"{{{SOAP}}}Header/*"), *root.iterfind(f"{{{SOAP}}}Body/*")]:
            if not self._schema.validate(etree.fromstring(etree.tostring(part))):
                found += [str(error.message) for error in self._schema.error_log]
        return found


@cache
def ews_contract() -> EwsContract:
    """Load Exchange's schema once per process; skips the test where it is absent."""
    contract("ews/types.xsd")
    return EwsContract()


@dataclass
class Recorder:
    """A WSGI application in front of another that keeps what went through."""

    app: Any
    asked: list[bytes] = field(default_factory=list)
    answered: list[bytes] = field(default_factory=list)

    def __call__(self, environ: dict[str, Any], start: Any) -> list[bytes]:
        body = environ["wsgi.input"].read()
        environ["wsgi.input"] = BytesIO(body)
        answer = b"".join(self.app(environ, start))
        if answer.startswith(b"<?xml"):
            self.asked.append(body)
            self.answered.append(answer)
        return [answer]

    def check(self) -> None:
        """Fail unless all that was said is what the schema describes."""
        judge = ews_contract()
        for kind, documents in (("request", self.asked), ("answer", self.answered)):
            for document in documents:
                if problems := judge.problems(document):
                    pytest.fail(f"{kind}: {problems[:3]}\n{document[:2000].decode()}")
