"""Profile: the settings of a user that rules depend on, with their defaults.

Sync Settings and Add-In Settings in the vendor's words (ssi-product.md section 5). Stored as JSON on the organization's
profile; unknown keys are refused, so that a misspelt setting is not silently ignored.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

from server.errors import InvalidInput

MAX_FILE_BYTES = 25 * 1024 * 1024  # C4C takes at most 25 MB per file (ssi-product.md 2.10)


_ALLOWED_EXTENSIONS = (
    "bmp csv doc docx eml gif htm html ics jpeg jpg json log md msg odp ods odt pdf png ppt pptx rtf svg "
    "tif tiff txt vcf webp xls xlsx xml zip"
)
_PROHIBITED_EXTENSIONS = (
    "ade adp app bat chm cmd com cpl dll exe hta ins isp jar js jse lnk mde msc msi msp mst pif ps1 reg "
    "scr sct shb sys vb vbe vbs wsc wsf wsh"
)


@dataclass(frozen=True, slots=True)
class Profile:
    """What a user's organization decided."""

    name: str = "Default"
    leads_enabled: bool = False  # search Lead too; off by default (ssi-product.md 5.2)
    blocklisted_domains: tuple[str, ...] = ()  # lower case; their addresses are never looked up
    blocklisted_addresses: tuple[str, ...] = ()  # lower case
    allowed_extensions: tuple[str, ...] = tuple(_ALLOWED_EXTENSIONS.split())
    prohibited_extensions: tuple[str, ...] = tuple(_PROHIBITED_EXTENSIONS.split())
    max_file_bytes: int = MAX_FILE_BYTES
    min_image_bytes: int = 10 * 1024  # smaller inline images are signatures and are not saved unless chosen

    def __post_init__(self) -> None:
        for name in ("blocklisted_domains", "blocklisted_addresses", "allowed_extensions", "prohibited_extensions"):
            object.__setattr__(self, name, tuple(value.lower() for value in getattr(self, name)))

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
