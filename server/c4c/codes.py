"""A tenant's code-list values: what C4C calls incoming, a note's text, a link to an opportunity. Data, never guessed.

Kept as JSON with the tenant; `ssi doctor` compares them with the lists that C4C gives. How they are used: `mapping`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any

from server.domain.records import PARTY_TYPES, RECORD_TYPES, RecordType
from server.errors import InvalidInput


@dataclass(frozen=True, slots=True)
class Codes:
    """A tenant's code-list values, as far as saving needs them. `ssi doctor` compares them with the tenant's own lists.

    Only attachment_type and attachment_category have defaults: SAP's guide shows them (S1). All others are tenant data.
    """

    direction_incoming: str
    direction_outgoing: str
    note_type: str
    attachment_type: str = "10001"
    attachment_category: str = "2"
    party_role: Mapping[RecordType, str] = field(default_factory=dict)  # role of an involved party; absent: C4C decides
    reference: Mapping[RecordType, tuple[str, str]] = field(default_factory=dict)  # (type code, role code)
    header: Mapping[str, str] = field(default_factory=dict)  # further EMail properties, e.g. a completed Status

    def __post_init__(self) -> None:
        for name in ("direction_incoming", "direction_outgoing", "note_type", "attachment_category"):
            if not getattr(self, name):
                raise InvalidInput(name, "must be one of the tenant's codes")
        for type in (*self.party_role, *self.reference):
            if type not in RECORD_TYPES:
                raise InvalidInput("codes", f"{type!r} is no record type")

    @property
    def linkable(self) -> frozenset[RecordType]:
        """Record types that an activity can be linked to in this tenant."""
        return PARTY_TYPES | frozenset(self.reference)

    def to_json(self) -> dict[str, Any]:
        return {**asdict(self), "reference": {type: list(pair) for type, pair in self.reference.items()}}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Codes:
        """Raises: InvalidInput for a key that is no code, a code that is missing or a type that does not exist."""
        known = {f.name for f in fields(cls)}
        for key in data:
            if key not in known:
                raise InvalidInput(key, "no such code")
        missing = {"direction_incoming", "direction_outgoing", "note_type"} - set(data)
        if missing:
            raise InvalidInput(min(missing), "must be one of the tenant's codes")
        reference = {type: (str(pair[0]), str(pair[1])) for type, pair in data.get("reference", {}).items()}
        return cls(**{**data, "reference": reference})

    def unknown(self, lists: Mapping[str, Mapping[str, str]]) -> list[str]:
        """Return what is set to a code that the tenant's lists (from `C4C.code_lists`) do not have, as "name: code"."""
        used = [
            ("direction_incoming", self.direction_incoming, "EMailDirectionCollection"),
            ("direction_outgoing", self.direction_outgoing, "EMailDirectionCollection"),
            ("note_type", self.note_type, "EMailNotesTypeCodeCollection"),
            ("attachment_type", self.attachment_type, "EMailAttachmentsTypeCodeCollection"),
            ("attachment_category", self.attachment_category, "EMailAttachmentsCategoryCodeCollection"),
        ]
        for type, role in self.party_role.items():
            used.append((f"party_role {type}", role, "EMailInvolvedPartiesRoleCodeCollection"))
        for type, (kind, role) in self.reference.items():
            used.append((f"reference {type}", kind, "EMailBTDReferenceTypeCodeCollection"))
            used.append((f"reference role {type}", role, "EMailBTDReferenceRoleCodeCollection"))
        return [f"{name}: {code}" for name, code, where in used if code and where in lists and code not in lists[where]]


CODE_LISTS = (
    "EMailDirectionCollection",
    "EMailNotesTypeCodeCollection",
    "EMailInvolvedPartiesRoleCodeCollection",
    "EMailBTDReferenceTypeCodeCollection",
    "EMailBTDReferenceRoleCodeCollection",
    "EMailAttachmentsTypeCodeCollection",
    "EMailAttachmentsCategoryCodeCollection",
    "EMailStatusCollection",
)
