"""Folders on the wire. The World's folders have no parents: those of contacts lie in Contacts, all others beside the Inbox."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from simulator.ews.items import Stored, xml_text
from simulator.ews.soap import NAMESPACES, Element, t
from simulator.world import MailboxState

ROOT, CALENDAR = "AQMkADroot=", "AQMkADcalendar="
RIGHTS = ("CreateAssociated", "CreateContents", "CreateHierarchy", "Delete", "Modify", "Read", "ViewPrivateItems")


@dataclass(frozen=True, slots=True)
class FolderView:
    """A folder on the wire; mail and contacts come from the World, the others only exist to be there."""

    id: str
    name: str
    folder_class: str
    distinguished: str | None
    parent: str = ""
    count: int = 0
    children: int = 0
    is_read_only: bool = False

    @property
    def tag(self) -> str:
        return {"IPF.Appointment": "CalendarFolder", "IPF.Contact": "ContactsFolder"}.get(self.folder_class, "Folder")

    def element(self, shape: Element | None = None) -> Element:
        """The folder with what a FolderShape asks for; without one only its id."""
        names = {"folder:FolderId"}
        if shape is not None:
            if shape.findtext("t:BaseShape", namespaces=NAMESPACES) != "IdOnly":
                names |= {"folder:DisplayName", "folder:TotalCount", "folder:ChildFolderCount"}
            names |= {str(path.get("FieldURI")) for path in shape.iterfind("t:AdditionalProperties/t:FieldURI", NAMESPACES)}
        found = (make(self) for name, make in PROPERTIES.items() if name in names)
        return t(self.tag, *(element for element in found if element is not None))


def _rights(view: FolderView) -> Element:
    granted = {"Read"} if view.is_read_only else set(RIGHTS)
    return t("EffectiveRights", *(t(right, text="true" if right in granted else "false") for right in RIGHTS))


PROPERTIES: dict[str, Callable[[FolderView], Element | None]] = {
    "folder:FolderId": lambda v: t("FolderId", Id=v.id, ChangeKey="AQAAAA=="),
    "folder:ParentFolderId": lambda v: t("ParentFolderId", Id=v.parent, ChangeKey="AQAAAA==") if v.parent else None,
    "folder:FolderClass": lambda v: t("FolderClass", text=v.folder_class),
    "folder:DisplayName": lambda v: t("DisplayName", text=xml_text(v.name)),
    "folder:TotalCount": lambda v: t("TotalCount", text=str(v.count)),
    "folder:ChildFolderCount": lambda v: t("ChildFolderCount", text=str(v.children)),
    "folder:EffectiveRights": _rights,
}
"""In the order of the schema."""


def folders(mailbox: MailboxState) -> list[FolderView]:
    """Every folder below the root of the mailbox's visible part."""
    contacts = mailbox.folder("contacts").id
    counts: dict[str, int] = {}
    items: list[Stored] = [*mailbox.messages.values(), *mailbox.contacts.values()]
    for item in items:
        counts[item.folder] = counts.get(item.folder, 0) + 1
    inside = sum(1 for f in mailbox.folders.values() if f.kind == "contacts" and f.id != contacts)
    own = [
        FolderView(
            id=folder.id,
            name=folder.name,
            folder_class="IPF.Note" if folder.kind == "mail" else "IPF.Contact",
            distinguished=folder.well_known,
            parent=contacts if folder.kind == "contacts" and folder.id != contacts else ROOT,
            count=counts.get(folder.id, 0),
            children=inside if folder.id == contacts else 0,
        )
        for folder in mailbox.folders.values()
    ]
    return [*own, FolderView(CALENDAR, "Calendar", "IPF.Appointment", "calendar", ROOT)]


def root(mailbox: MailboxState) -> FolderView:
    children = sum(1 for view in folders(mailbox) if view.parent == ROOT)
    return FolderView(ROOT, "Top of Information Store", "IPF.Note", "msgfolderroot", children=children)
