"""Profile: the settings of a user that rules depend on, with their defaults.

Sync Settings and Add-In Settings in the vendor's words (ssi-product.md section 5). Stored as JSON on the organization's
profile; unknown keys are refused, so that a misspelt setting is not silently ignored.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any, Literal, get_args

from server.domain.people import PersonType
from server.domain.records import CARD_FIELDS, RecordType
from server.errors import InvalidInput

Filter = Literal["mine", "all", "none"]
"""Which records come down: those that the person is responsible for, all that they may see, or none."""
Winner = Literal["newest", "mailbox", "c4c"]

MAX_FILE_BYTES = 25 * 1024 * 1024  # C4C takes at most 25 MB per file (ssi-product.md 2.10)


_ALLOWED_EXTENSIONS = (
    "bmp csv doc docx eml gif htm html ics jpeg jpg json log md msg odp ods odt pdf png ppt pptx rtf svg "
    "tif tiff txt vcf webp xls xlsx xml zip"
)
_PROHIBITED_EXTENSIONS = (
    "ade adp app bat chm cmd com cpl dll exe hta ins isp jar js jse lnk mde msc msi msp mst pif ps1 reg "
    "scr sct shb sys vb vbe vbs wsc wsf wsh"
)


UNLOCKED = (
    *("contacts_filter", "contacts_read_only", "contacts_home", "accounts_filter", "accounts_read_only"),
    *("individual_customers_filter", "individual_customers_read_only", "create_accounts", "default_country"),
    *("save_marked", "save_attachments", "auto_save", "follow_threads", "link_all", "interval_min"),
    *("blocklisted_domains", "blocklisted_addresses", "leads_enabled", "card_fields"),
)
"""The settings that people may change for themselves unless their organization locks them."""

BLOCKLISTS = ("blocklisted_domains", "blocklisted_addresses")
MAX_BLOCKLISTED = 500  # of one person's own, of each kind

_BOUNDS = {"interval_min": (5, 1440), "guard_share": (1, 100), "guard_items": (1, 100_000), "max_people": (1, 100_000)}


@dataclass(frozen=True, slots=True)
class Direction:
    """How one type of person is mirrored. With the filter "none" it is not, down or up; with `read_only` nothing goes up."""

    filter: Filter
    read_only: bool


@dataclass(frozen=True, slots=True)
class Profile:
    """What a user's organization decided; with their own settings (`with_own`) it is what holds for them."""

    name: str = "Default"
    leads_enabled: bool = False  # search Lead too; off by default (ssi-product.md 5.2)
    blocklisted_domains: tuple[str, ...] = ()  # lower case; their addresses are never looked up
    blocklisted_addresses: tuple[str, ...] = ()  # lower case
    allowed_extensions: tuple[str, ...] = tuple(_ALLOWED_EXTENSIONS.split())
    prohibited_extensions: tuple[str, ...] = tuple(_PROHIBITED_EXTENSIONS.split())
    max_file_bytes: int = MAX_FILE_BYTES
    min_image_bytes: int = 10 * 1024  # smaller inline images are signatures and are not saved unless chosen
    card_fields: Mapping[str, tuple[str, ...]] = field(default_factory=dict)  # record type -> at most four fields
    contacts_filter: Filter = "mine"
    contacts_read_only: bool = False  # what is changed in the mailbox is restored from C4C
    contacts_home: bool = False  # home telephone and address, too
    accounts_filter: Filter = "mine"
    accounts_read_only: bool = False
    individual_customers_filter: Filter = "mine"
    individual_customers_read_only: bool = False
    create_accounts: bool = False  # for a new contact whose company C4C does not have
    default_country: str = ""  # code, of an account that is made so
    conflict_winner: Winner = "newest"  # of two changes of one value; the mailbox wins a tie
    deleting: Literal["unlink", "obsolete"] = "unlink"  # what deleting a mirrored contact in the mailbox does to its record
    guard_share: int = 20  # percent of one side that a session may overwrite or delete unasked
    guard_items: int = 50  # so many it may in any case
    max_people: int = 10_000  # of each type; what is beyond is told
    interval_min: int = 30  # between two sessions
    save_marked: bool = True  # messages that carry the share mark, or lie in SAP E-Mails
    save_attachments: bool = True  # of messages that the engine saves
    auto_save: bool = False  # new mail with known contacts
    follow_threads: bool = True  # later messages of a thread, where its reader asked for that
    link_all: bool = False  # what the engine saves is linked to every record that it found, not to the first
    admins_told: bool = False  # when sessions keep failing
    unlocked: tuple[str, ...] = UNLOCKED

    def __post_init__(self) -> None:
        self._check()
        for name in ("blocklisted_domains", "blocklisted_addresses", "allowed_extensions", "prohibited_extensions"):
            object.__setattr__(self, name, tuple(value.lower() for value in getattr(self, name)))

    def _check(self) -> None:
        """Raises: InvalidInput for a value that a setting cannot have."""
        for setting in fields(self):
            value, hint = getattr(self, setting.name), _HINTS.get(setting.name)
            if hint is not None and value not in hint:
                raise InvalidInput(setting.name, f"must be one of {', '.join(hint)}")
            if setting.type == "bool" and not isinstance(value, bool):
                raise InvalidInput(setting.name, "must be true or false")
            if str(setting.type).startswith("tuple"):
                _words(setting.name, value)
            low, high = _BOUNDS.get(setting.name, (0, 0))
            if high and (isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high):
                raise InvalidInput(setting.name, f"must be a number from {low} to {high}")
        if not re.fullmatch("([A-Z]{2})?", str(self.default_country)):
            raise InvalidInput("default_country", "must be a code of two letters, as DE")
        if not set(self.unlocked) <= {setting.name for setting in fields(self)}:
            raise InvalidInput("unlocked", "names what is no setting")
        if not isinstance(self.card_fields, Mapping):
            raise InvalidInput("card_fields", "must name the fields of each type")
        for record_type, names in self.card_fields.items():
            known = CARD_FIELDS.get(record_type)  # type: ignore[call-overload]
            if known is None or len(_words("card_fields", names)) > 4 or not set(names) <= set(known):
                raise InvalidInput("card_fields", f"“{record_type}” cannot be shown so")
        object.__setattr__(self, "card_fields", {kind: tuple(names) for kind, names in self.card_fields.items()})
        object.__setattr__(self, "unlocked", tuple(self.unlocked))

    def direction(self, person_type: PersonType) -> Direction:
        directions: Mapping[PersonType, Direction] = {
            "contact": Direction(self.contacts_filter, self.contacts_read_only),
            "account": Direction(self.accounts_filter, self.accounts_read_only),
            "individual_customer": Direction(self.individual_customers_filter, self.individual_customers_read_only),
        }
        return directions[person_type]

    def with_own(self, settings: Mapping[str, Any]) -> Profile:
        """Return the profile as it is for somebody who chose these settings: those that are unlocked.

        What a person blocks is blocked beside what the organization does. Raises: InvalidInput for a value that cannot be.
        """
        own = {name: value for name, value in settings.items() if name in self.unlocked}
        blocked = {name: (*getattr(self, name), *_words(name, own[name])) for name in BLOCKLISTS if name in own}
        return replace(self, **own | {name: tuple(dict.fromkeys(entries)) for name, entries in blocked.items()})

    def possible(self, settings: Mapping[str, Any]) -> dict[str, Any]:
        """Return those of somebody's settings that can be had, which another release may see otherwise than this one."""

        def is_possible(name: str) -> bool:
            try:
                self.with_own({name: settings[name]})
            except InvalidInput:
                return False
            return True

        return {name: value for name, value in settings.items() if is_possible(name)}

    def fields_of(self, record_type: RecordType) -> tuple[str, ...]:
        """Return the names of the fields that a card of this type shows, at most four."""
        return self.card_fields.get(record_type, CARD_FIELDS.get(record_type, ()))

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Profile:
        """Raises: InvalidInput for a key that is no setting."""
        known = {f.name for f in fields(cls)}
        for key in data:
            if key not in known:
                raise InvalidInput(key, "no such setting")
        return cls(**data)

    def is_blocklisted(self, address: str) -> bool:
        low = address.lower()
        domain = low.rpartition("@")[2]
        return low in self.blocklisted_addresses or any(
            domain == blocked or domain.endswith("." + blocked) for blocked in self.blocklisted_domains
        )

    def refusal(self, name: str, size_bytes: int) -> str | None:
        """Return why a file may not be saved, as a sentence for the user, or None if it may."""
        extension = name.rpartition(".")[2].lower() if "." in name else ""
        if extension in self.prohibited_extensions:
            return f"Files of type .{extension} may not be saved."
        if extension not in self.allowed_extensions:
            return f"Files of type .{extension} are not allowed." if extension else "Files without an extension are not allowed."
        if size_bytes > self.max_file_bytes:
            return f"The file is larger than {self.max_file_bytes // (1024 * 1024)} MB."
        return None


def _words(name: str, value: Any) -> Sequence[str]:
    """Raises: InvalidInput for a setting that is no list of words; a single word is none, though it is iterable."""
    if not isinstance(value, list | tuple) or not all(isinstance(word, str) for word in value):
        raise InvalidInput(name, "must be a list of words")
    return value


def blocklisted(name: str, entries: Iterable[str]) -> tuple[str, ...]:
    """Return what a person wants on one of their BLOCKLISTS, in lower case, each once.

    Raises: InvalidInput for what is no domain, or no address, and for too many.
    """
    found = tuple(dict.fromkeys(entry.strip().lower().lstrip("@") for entry in entries if entry.strip()))
    form, kind = (_DOMAIN, "domain") if name == "blocklisted_domains" else (_ADDRESS, "address")
    for entry in found:
        if len(entry) > 320 or not form.fullmatch(entry):
            raise InvalidInput(name, f"“{entry[:80]}” is no {kind}")
    if len(found) > MAX_BLOCKLISTED:
        raise InvalidInput(name, f"must be {MAX_BLOCKLISTED} at most")
    return found


_DOMAIN = re.compile(r"(?:[^\s@.,;:/\x00-\x1f]+\.)+[^\s@.,;:/\x00-\x1f]{2,}")
_ADDRESS = re.compile(r"[^\s@,;\x00-\x1f]+@" + _DOMAIN.pattern)


_HINTS: Mapping[str, tuple[str, ...]] = {
    **dict.fromkeys(("contacts_filter", "accounts_filter", "individual_customers_filter"), get_args(Filter)),
    "conflict_winner": get_args(Winner),
    "deleting": ("unlink", "obsolete"),
}
"""Setting -> the words it may have."""
