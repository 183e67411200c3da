"""SOAP as Exchange Web Services speaks it: envelopes, faults, and the shape that a request must have.

`read()` takes a request apart and refuses what Exchange's schema refuses, an element out of order first of all; `answer()` and
`SoapFault.envelope()` write replies. The content models below state names, order and occurrence for the operations that are
simulated; tests compare them with the vendor's own schema files, which are not part of the project.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import NoReturn

from lxml import etree

SOAP = "http://schemas.xmlsoap.org/soap/envelope/"
MESSAGES = "http://schemas.microsoft.com/exchange/services/2006/messages"
TYPES = "http://schemas.microsoft.com/exchange/services/2006/types"
ERRORS = "http://schemas.microsoft.com/exchange/services/2006/errors"
PREFIXES = {SOAP: "s", MESSAGES: "m", TYPES: "t"}
NAMESPACES = {prefix: uri for uri, prefix in PREFIXES.items()}

BUILD = {"MajorVersion": "15", "MinorVersion": "2", "MajorBuildNumber": "2562", "MinorBuildNumber": "17"}  # Exchange SE
VERSIONS = frozenset(
    {"Exchange2007", "Exchange2007_SP1", "Exchange2010", "Exchange2010_SP1", "Exchange2010_SP2"}
    | {"Exchange2013", "Exchange2013_SP1", "Exchange2015", "Exchange2016", "V2017_07_11"}
)

Element = etree._Element

_PATHS = "t:FieldURI|t:IndexedFieldURI|t:ExtendedFieldURI"
_MESSAGES = "t:Item|t:Message|t:MeetingMessage|t:MeetingRequest|t:MeetingResponse|t:MeetingCancellation"
_ITEMS = f"{_MESSAGES}|t:Contact"
_FOLDERS = "t:FolderId|t:DistinguishedFolderId"
_NEW_FOLDERS = "t:Folder|t:ContactsFolder"
_SEARCH = "t:And|t:Or|t:IsEqualTo|t:Exists|t:Contains|t:IsNotEqualTo|t:Not"
_OF_ITEMS = "t:ItemClass? t:Subject? t:Sensitivity? t:Body? t:Categories? t:Importance? t:ExtendedProperty* t:Flag?"
_OF_CONTACTS = (
    "t:FileAs? t:FileAsMapping? t:DisplayName? t:GivenName? t:Initials? t:MiddleName? t:Nickname? t:CompanyName? "
    "t:EmailAddresses? t:PhysicalAddresses? t:PhoneNumbers? t:AssistantName? t:Birthday? t:BusinessHomePage? t:Department? "
    "t:ImAddresses? t:JobTitle? t:Manager? t:OfficeLocation? t:Surname?"
)

CONTENT = {
    "s:Envelope": "s:Header? s:Body",
    "s:Header": "(t:RequestServerVersion|t:ExchangeImpersonation|t:TimeZoneContext|t:MailboxCulture)*",
    "s:Body": "(m:GetFolder|m:FindFolder|m:CreateFolder|m:UpdateFolder|m:DeleteFolder|m:FindItem|m:GetItem|m:CreateItem"
    "|m:UpdateItem|m:MoveItem|m:DeleteItem|m:GetAttachment|m:ConvertId|m:ResolveNames|m:SyncFolderItems|m:Subscribe|m:GetEvents"
    "|m:Unsubscribe|m:GetUserConfiguration|m:UpdateUserConfiguration|m:CreateUserConfiguration)",
    "t:ExchangeImpersonation": "t:ConnectingSID",
    "t:ConnectingSID": "(t:PrincipalName|t:SID|t:PrimarySmtpAddress|t:SmtpAddress)",
    "t:TimeZoneContext": "t:TimeZoneDefinition",
    "m:GetFolder": "m:FolderShape m:FolderIds",
    "m:FindFolder": "m:FolderShape m:IndexedPageFolderView? m:Restriction? m:ParentFolderIds",
    "m:CreateFolder": "m:ParentFolderId m:Folders",
    "m:UpdateFolder": "m:FolderChanges",
    "m:DeleteFolder": "m:FolderIds",
    "m:FindItem": "m:ItemShape m:IndexedPageItemView? m:Restriction? m:SortOrder? m:ParentFolderIds m:QueryString?",
    "m:GetItem": "m:ItemShape m:ItemIds",
    "m:CreateItem": "m:SavedItemFolderId? m:Items",
    "m:UpdateItem": "m:SavedItemFolderId? m:ItemChanges",
    "m:MoveItem": "m:ToFolderId m:ItemIds m:ReturnNewItemIds?",
    "m:DeleteItem": "m:ItemIds",
    "m:GetAttachment": "m:AttachmentShape? m:AttachmentIds",
    "m:ConvertId": "m:SourceIds",
    "m:ResolveNames": "m:ParentFolderIds? m:UnresolvedEntry",
    "m:SyncFolderItems": "m:ItemShape m:SyncFolderId m:SyncState? m:Ignore? m:MaxChangesReturned m:SyncScope?",
    "m:Subscribe": "m:PullSubscriptionRequest",
    "m:GetEvents": "m:SubscriptionId m:Watermark",
    "m:Unsubscribe": "m:SubscriptionId",
    "m:GetUserConfiguration": "m:UserConfigurationName m:UserConfigurationProperties",
    "m:UpdateUserConfiguration": "m:UserConfiguration",
    "m:CreateUserConfiguration": "m:UserConfiguration",
    "m:FolderShape": "t:BaseShape t:AdditionalProperties?",
    "m:ItemShape": "t:BaseShape t:IncludeMimeContent? t:BodyType? t:FilterHtmlContent? t:AdditionalProperties?",
    "m:AttachmentShape": "t:IncludeMimeContent? t:BodyType? t:AdditionalProperties?",
    "t:AdditionalProperties": f"({_PATHS})+",
    **dict.fromkeys(("m:FolderIds", "m:ParentFolderIds", "t:FolderIds"), f"({_FOLDERS})+"),
    **dict.fromkeys(("m:ParentFolderId", "m:SavedItemFolderId", "m:ToFolderId", "m:SyncFolderId"), f"({_FOLDERS})"),
    "m:Folders": f"({_NEW_FOLDERS})+",
    **dict.fromkeys(_NEW_FOLDERS.split("|"), "t:FolderClass? t:DisplayName?"),
    "m:FolderChanges": "(t:FolderChange)+",
    "t:FolderChange": f"({_FOLDERS}) t:Updates",
    "t:FolderChange/t:Updates": "(t:SetFolderField)+",
    "t:SetFolderField": f"({_PATHS}) ({_NEW_FOLDERS})",
    "m:Items": "(t:Contact)+",
    "m:ItemIds": "(t:ItemId)+",
    "m:Ignore": "(t:ItemId)+",
    "m:PullSubscriptionRequest": "t:FolderIds? t:EventTypes t:Watermark? t:Timeout",
    "t:EventTypes": "(t:EventType)+",
    "m:AttachmentIds": "(t:AttachmentId)+",
    "m:SourceIds": "(t:AlternateId)+",
    "t:DistinguishedFolderId": "t:Mailbox?",
    "t:Mailbox": "t:Name? t:EmailAddress? t:RoutingType? t:MailboxType?",
    "m:Restriction": f"({_SEARCH})",
    "t:And": f"({_SEARCH})+",
    "t:Or": f"({_SEARCH})+",
    "t:Not": f"({_SEARCH})",
    "t:IsEqualTo": f"({_PATHS}) t:FieldURIOrConstant",
    "t:IsNotEqualTo": f"({_PATHS}) t:FieldURIOrConstant",
    "t:Exists": f"({_PATHS})",
    "t:Contains": f"({_PATHS}) t:Constant",
    "t:FieldURIOrConstant": f"({_PATHS}|t:Constant)",
    "m:SortOrder": "(t:FieldOrder)+",
    "t:FieldOrder": f"({_PATHS})",
    "m:ItemChanges": "(t:ItemChange)+",
    "t:ItemChange": "t:ItemId t:Updates",
    "t:Updates": "(t:AppendToItemField|t:SetItemField|t:DeleteItemField)+",
    "t:SetItemField": f"({_PATHS}) ({_ITEMS})",
    "t:DeleteItemField": f"({_PATHS})",
    **dict.fromkeys(_MESSAGES.split("|"), f"{_OF_ITEMS} t:IsRead?"),
    "t:Contact": f"{_OF_ITEMS} {_OF_CONTACTS}",
    **dict.fromkeys(("t:EmailAddresses", "t:PhysicalAddresses", "t:PhoneNumbers", "t:ImAddresses"), "(t:Entry)+"),
    "t:PhysicalAddresses/t:Entry": "t:Street? t:City? t:State? t:CountryOrRegion? t:PostalCode?",
    "t:Categories": "(t:String)*",
    "t:ExtendedProperty": "t:ExtendedFieldURI (t:Value|t:Values)",
    "m:UserConfigurationName": f"({_FOLDERS})",
    "t:UserConfigurationName": f"({_FOLDERS})",
    "m:UserConfiguration": "t:UserConfigurationName t:ItemId? t:Dictionary? t:XmlData? t:BinaryData?",
}
"""Element, or "parent/element" where that makes a difference -> its children in order; what is not named here holds text only.
Suffixes as in regular expressions."""

DISPOSALS = frozenset({"HardDelete", "SoftDelete", "MoveToDeletedItems"})
_EXTENDED = "DistinguishedPropertySetId PropertySetId PropertyTag PropertyName PropertyId PropertyType!"
ATTRIBUTES = {
    "t:RequestServerVersion": "Version!",
    "t:TimeZoneDefinition": "Id Name",
    "m:FindFolder": "Traversal!",
    "m:FindItem": "Traversal!",
    "m:DeleteFolder": "DeleteType!",
    "m:CreateItem": "MessageDisposition SendMeetingInvitations",
    "m:DeleteItem": "DeleteType! SendMeetingCancellations AffectedTaskOccurrences SuppressReadReceipts",
    "m:ResolveNames": "ReturnFullContactData! SearchScope ContactDataShape",
    "m:PullSubscriptionRequest": "SubscribeToAllFolders",
    "m:UpdateItem": "ConflictResolution! MessageDisposition SendMeetingInvitationsOrCancellations SuppressReadReceipts",
    "m:ConvertId": "DestinationFormat!",
    "m:IndexedPageFolderView": "MaxEntriesReturned Offset! BasePoint!",
    "m:IndexedPageItemView": "MaxEntriesReturned Offset! BasePoint!",
    "t:FieldURI": "FieldURI!",
    "t:IndexedFieldURI": "FieldURI! FieldIndex!",
    "t:ExtendedFieldURI": _EXTENDED,
    "t:ItemId": "Id! ChangeKey",
    "t:FolderId": "Id! ChangeKey",
    "t:DistinguishedFolderId": "Id! ChangeKey",
    "t:AttachmentId": "Id!",
    "t:AlternateId": "Format! Id! Mailbox! IsArchive",
    "t:Constant": "Value!",
    "t:Contains": "ContainmentMode ContainmentComparison",
    "t:FieldOrder": "Order!",
    "m:UserConfigurationName": "Name!",
    "t:UserConfigurationName": "Name!",
    "t:Body": "BodyType! IsTruncated",
    "t:Entry": "Key!",
    "t:EmailAddresses/t:Entry": "Key! Name RoutingType MailboxType",
}
"""Element -> its attributes; "!" marks those that must be there."""

VALUES: Mapping[str, frozenset[str]] = {
    "t:BaseShape": frozenset({"IdOnly", "Default", "AllProperties"}),
    "t:IncludeMimeContent": frozenset({"true", "false", "1", "0"}),
    "t:BodyType": frozenset({"Best", "HTML", "Text"}),
    "t:Body/@BodyType": frozenset({"HTML", "Text"}),
    "t:EventType": frozenset(
        {"CopiedEvent", "CreatedEvent", "DeletedEvent", "ModifiedEvent", "MovedEvent", "NewMailEvent", "FreeBusyChangedEvent"}
    ),
    "m:MaxChangesReturned": frozenset(map(str, range(1, 513))),
    "t:Timeout": frozenset(map(str, range(1, 1441))),
    "m:SyncScope": frozenset({"NormalItems", "NormalAndAssociatedItems"}),
    **dict.fromkeys(("m:DeleteFolder/@DeleteType", "m:DeleteItem/@DeleteType"), DISPOSALS),
    "m:UserConfigurationProperties": frozenset({"Id", "Dictionary", "XmlData", "BinaryData", "All"}),
    "m:FindItem/@Traversal": frozenset({"Shallow", "SoftDeleted", "Associated"}),
    "m:FindFolder/@Traversal": frozenset({"Shallow", "Deep", "SoftDeleted"}),
    "m:UpdateItem/@ConflictResolution": frozenset({"NeverOverwrite", "AutoResolve", "AlwaysOverwrite"}),
    "m:UpdateItem/@MessageDisposition": frozenset({"SaveOnly", "SendOnly", "SendAndSaveCopy"}),
}


class SoapFault(Exception):
    """The whole request is refused. Exchange sends it with status 500. `values` go into MessageXml."""

    def __init__(self, code: str, text: str, *, values: Mapping[str, str] | None = None) -> None:
        super().__init__(text)
        self.code = code
        self.values = dict(values or {})

    def envelope(self) -> bytes:
        root = etree.Element(f"{{{SOAP}}}Envelope", nsmap={"s": SOAP})
        fault = etree.SubElement(etree.SubElement(root, f"{{{SOAP}}}Body"), f"{{{SOAP}}}Fault")
        etree.SubElement(fault, "faultcode", nsmap={"a": TYPES}).text = f"a:{self.code}"
        text = etree.SubElement(fault, "faultstring")
        text.set("{http://www.w3.org/XML/1998/namespace}lang", "en-US")
        text.text = str(self)
        detail = etree.SubElement(fault, "detail")
        etree.SubElement(detail, f"{{{ERRORS}}}ResponseCode", nsmap={"e": ERRORS}).text = self.code
        etree.SubElement(detail, f"{{{ERRORS}}}Message", nsmap={"e": ERRORS}).text = str(self)
        if self.values:
            message = etree.SubElement(detail, f"{{{TYPES}}}MessageXml", nsmap={"t": TYPES})
            for name, value in self.values.items():
                etree.SubElement(message, f"{{{TYPES}}}Value", Name=name).text = value
        return etree.tostring(root, xml_declaration=True, encoding="utf-8")


def server_busy(back_off_s: float) -> SoapFault:
    """`back_off_s` 0: it does not say for how long."""
    text = "The server cannot service this request right now. Try again later."
    values = {"BackOffMilliseconds": str(int(back_off_s * 1000))} if back_off_s else {}
    return SoapFault("ErrorServerBusy", text, values=values)


@dataclass(frozen=True, slots=True)
class SoapRequest:
    """A request of the right shape."""

    operation: Element
    version: str
    impersonated: str | None  # address, or what else the ConnectingSID names

    @property
    def name(self) -> str:
        return local(self.operation)


def read(body: bytes) -> SoapRequest:
    """Raises: SoapFault for what is no XML, has another shape than the schema's, or asks for an unknown version."""
    parser = etree.XMLParser(resolve_entities=False, no_network=True, huge_tree=True, remove_blank_text=True)
    try:
        envelope = etree.fromstring(body, parser)
    except etree.XMLSyntaxError as error:
        raise SoapFault("ErrorSchemaValidation", "The request failed schema validation: it is no XML.") from error
    if envelope.getroottree().docinfo.doctype or name_of(envelope) != "s:Envelope":
        raise SoapFault("ErrorSchemaValidation", "The request failed schema validation: it is no SOAP envelope.")
    check(envelope)
    version = envelope.find("s:Header/t:RequestServerVersion", NAMESPACES)
    asked = version.get("Version", "") if version is not None else "Exchange2007"
    if asked not in VERSIONS:
        raise SoapFault("ErrorInvalidServerVersion", "The specified server version is invalid.")
    sid = envelope.find("s:Header/t:ExchangeImpersonation/t:ConnectingSID/*", NAMESPACES)
    operation = envelope.find("s:Body/*", NAMESPACES)
    assert operation is not None
    return SoapRequest(operation, asked, sid.text if sid is not None else None)


def check(element: Element) -> None:
    """Raises: SoapFault at the first element that is out of order, missing, unknown, or holds what it may not."""
    name, parent = name_of(element), element.getparent()
    inside = "" if parent is None else f"{name_of(parent)}/{name}"
    children = [name_of(child) for child in element if isinstance(child.tag, str)]
    model = CONTENT.get(inside, CONTENT.get(name))
    if model is None and children:
        _violation(element, f"The element '{name}' cannot contain child element '{children[0]}'.")
    if model is not None and not _compiled(model).fullmatch("".join(f"{child} " for child in children)):
        _violation(element, f"The element '{name}' has invalid or incomplete content: {' '.join(children) or 'nothing'}.")
    _check_attributes(element, name, ATTRIBUTES.get(inside, ATTRIBUTES.get(name, "")).split())
    if name in VALUES and (element.text or "").strip() not in VALUES[name]:
        _violation(element, f"The '{name}' element is invalid: '{element.text}' is not one of its values.")
    for child in element:
        if isinstance(child.tag, str):
            check(child)


def _check_attributes(element: Element, name: str, allowed: list[str]) -> None:
    given = {str(key): str(value) for key, value in element.attrib.items() if not str(key).startswith("{")}
    for attribute in allowed:
        if attribute.endswith("!") and attribute[:-1] not in given:
            _violation(element, f"The required attribute '{attribute[:-1]}' is missing.")
    for key, value in given.items():
        if key not in {attribute.rstrip("!") for attribute in allowed}:
            _violation(element, f"The '{key}' attribute is not declared.")
        if value not in VALUES.get(f"{name}/@{key}", {value}):
            _violation(element, f"The '{key}' attribute is invalid: '{value}' is not one of its values.")


def _violation(element: Element, text: str) -> NoReturn:
    message = f"The request failed schema validation: {text}"
    values = {"LineNumber": str(element.sourceline or 0), "LinePosition": "0", "Violation": text}
    raise SoapFault("ErrorSchemaValidation", message, values=values)


@cache
def _compiled(model: str) -> re.Pattern[str]:
    """Turn a content model into an expression over the children's names, each followed by a blank."""
    parts = []
    for token in model.split():
        stem, suffix = (token[:-1], token[-1]) if token[-1] in "?*+" else (token, "")
        parts.append(f"(?:(?:{stem}) ){suffix}")
    return re.compile("".join(parts))


def name_of(element: Element) -> str:
    """Return "t:ItemId" whatever prefix the sender chose; an unknown namespace shows as it is."""
    name = etree.QName(element)
    return f"{PREFIXES.get(name.namespace or '', name.namespace)}:{name.localname}"


def local(element: Element) -> str:
    return etree.QName(element).localname


def m(name: str, *children: Element, text: str | None = None, **attributes: str) -> Element:
    """Make an element in the messages namespace."""
    return _made(MESSAGES, name, children, text, attributes)


def t(name: str, *children: Element, text: str | None = None, **attributes: str) -> Element:
    """Make an element in the types namespace."""
    return _made(TYPES, name, children, text, attributes)


def _made(namespace: str, name: str, children: tuple[Element, ...], text: str | None, attributes: dict[str, str]) -> Element:
    element = etree.Element(f"{{{namespace}}}{name}", attributes, nsmap={"m": MESSAGES, "t": TYPES})
    element.text = text
    element.extend(children)
    return element


def answer(response: Element) -> bytes:
    """Wrap the response of an operation."""
    root = etree.Element(f"{{{SOAP}}}Envelope", nsmap={"s": SOAP})
    header = etree.SubElement(root, f"{{{SOAP}}}Header")
    header.append(t("ServerVersionInfo", **BUILD, Version="V2017_07_11"))
    etree.SubElement(root, f"{{{SOAP}}}Body").append(response)
    return etree.tostring(root, xml_declaration=True, encoding="utf-8")
