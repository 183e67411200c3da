"""Our folders among those of a mailbox at Exchange. Pure."""

from __future__ import annotations

from collections.abc import Mapping

from server.domain.marks import FOLDERS, FolderId
from server.mail import Folder
from server.mail.exchange.ews import Raw, T, xml

_CONTACTS, _MAIL = "IPF.Contact", "IPF.Note"


def ours(
    listed: list[Raw], names: Mapping[FolderId, str], known: Mapping[FolderId, str]
) -> tuple[dict[FolderId, Folder], list[FolderId]]:
    """Return which of these folders are ours, those with a name that is not ours included; and which have to be renamed."""
    found: dict[FolderId, Folder] = {}
    renamed: list[FolderId] = []
    for folder, name in names.items():
        fitting = [_folder(element) for element in listed if _holds(element) == (folder != "emails")]
        accepted = {name.casefold(), FOLDERS[folder].casefold()}
        one = next((f for f in fitting if f.name.casefold() in accepted), None)
        if one is None and (one := next((f for f in fitting if f.ref == known.get(folder)), None)) is not None:
            renamed.append(folder)
        if one is not None:
            found[folder] = one
    return found, renamed


def new_folder(folder: FolderId, name: str) -> Raw:
    if folder == "emails":
        return xml("t:Folder", xml("t:FolderClass", _MAIL), xml("t:DisplayName", name))
    return xml("t:ContactsFolder", xml("t:FolderClass", _CONTACTS), xml("t:DisplayName", name))


def renaming(ref: str, name: str) -> Raw:
    """Return the FolderChange that gives a folder this name."""
    named = xml("t:SetFolderField", xml("t:FieldURI", FieldURI="folder:DisplayName"), xml("t:Folder", xml("t:DisplayName", name)))
    return xml("t:FolderChange", xml("t:FolderId", Id=ref), xml("t:Updates", named))


def _folder(element: Raw) -> Folder:
    return Folder(element.find(f"{T}FolderId").get("Id"), element.findtext(f"{T}DisplayName") or "")


def _holds(element: Raw) -> bool | None:
    """Say whether a folder holds contacts, or else mail; None if neither. Some clients set no class for mail."""
    kind = element.findtext(f"{T}FolderClass") or _MAIL
    if kind.startswith(_CONTACTS):
        return True
    return False if kind.startswith(_MAIL) else None
