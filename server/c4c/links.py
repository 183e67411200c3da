"""Links that open a record in C4C's own user interface.

What is known, and from where (none was tried against a live tenant):

- The form of the URL, `InternalID` being the number people know the record by: SAP KBA 3521005 and SAP's blog post of
  2019-01-07 "How to construct a Deep link URL for C4C Business Objects using Business object ID". Behind single sign-on the
  host is `myNNNNNN-sso...` and `&OBNRedirect=X` is added (same sources): that is why the template is a tenant setting.
- `param.Type`: COD_ACCOUNT_TT, COD_CONTACT_TT from KBA 3521005; COD_SRQ_AGENT_TT from the blog post;
  COD_OPPORTUNITY_THINGTYPE and COD_MKT_PROSPECT from several public applications; COD_QUOTE_TT, COD_SALESORDER_TT,
  COD_APPOINTMENT and COD_TASK from one public link generator only.
- Nothing was found for individual customers, visits, phone calls and e-mails. They get no link until the tenant's settings
  name their type: a missing link is honest, one that opens an error page is not.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Literal, get_args
from urllib.parse import quote

from server.domain.records import RECORD_TYPES, RecordType
from server.errors import InvalidInput

LinkType = RecordType | Literal["email"]
LINK_TYPES: tuple[LinkType, ...] = (*RECORD_TYPES, *get_args(Literal["email"]))

TEMPLATE = (
    "{origin}/sap/public/byd/runtime?bo_ns=http://sap.com/thingTypes&bo=COD_GENERIC&node=Root"
    "&operation=OnExtInspect&param.InternalID={id}&param.Type={type}&sapbyd-agent=TAB"
)
THING_TYPES: Mapping[LinkType, str] = MappingProxyType(
    {
        "account": "COD_ACCOUNT_TT",
        "contact": "COD_CONTACT_TT",
        "ticket": "COD_SRQ_AGENT_TT",
        "opportunity": "COD_OPPORTUNITY_THINGTYPE",
        "lead": "COD_MKT_PROSPECT",
        "quote": "COD_QUOTE_TT",
        "order": "COD_SALESORDER_TT",
        "appointment": "COD_APPOINTMENT",
        "task": "COD_TASK",
    }
)


@dataclass(frozen=True, slots=True)
class DeepLinks:
    """A tenant's links. `origin` is where its users open C4C; `template` holds {origin}, {id} and {type}."""

    origin: str
    template: str = TEMPLATE
    thing_types: Mapping[LinkType, str] = field(default_factory=lambda: dict(THING_TYPES))

    def __post_init__(self) -> None:
        if not self.origin.startswith(("https://", "http://127.0.0.1", "http://localhost")):
            raise InvalidInput("origin", "must be an https address")
        for name in ("{origin}", "{id}", "{type}"):
            if name not in self.template:
                raise InvalidInput("template", f"must hold {name}")
        for thing in self.thing_types:
            if thing not in LINK_TYPES:
                raise InvalidInput("thing_types", f"{thing!r} is no record type")

    def __call__(self, type: LinkType, human_id: str) -> str:
        """Return the link, or "" if this kind of record has none."""
        thing = self.thing_types.get(type, "")
        if not thing or not human_id:
            return ""
        link = self.template.replace("{origin}", self.origin.rstrip("/")).replace("{type}", quote(thing, safe=""))
        return link.replace("{id}", quote(human_id, safe=""))

    def to_json(self) -> dict[str, Any]:
        return {"origin": self.origin, "template": self.template, "thing_types": dict(self.thing_types)}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> DeepLinks:
        """Thing types in `data` are added to the known ones. Raises: InvalidInput."""
        if unknown := set(data) - {"origin", "template", "thing_types"}:
            raise InvalidInput(min(unknown), "no such setting of links")
        types = {**THING_TYPES, **data.get("thing_types", {})}
        return cls(data.get("origin", ""), data.get("template", TEMPLATE), types)
