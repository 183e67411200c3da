"""The simulated Exchange keeps contacts and folders, and tells what changed, as a client may rely on it."""

from collections.abc import Callable
from datetime import timedelta

import pytest
from lxml import etree

from simulator.world import Fault, Person, StoredContact, StoredMessage, World
from tests.ews_contract import EwsContract
from tests.simulator import ews_office
from tests.simulator.ews_office import Ask, case, codes, envelope, fields, find_item, get_item

ask, client, contract, holder, me, port, world = (
    ews_office.ask,
    ews_office.client,
    ews_office.contract,
    ews_office.holder,
    ews_office.me,
    ews_office.port,
    ews_office.world,
)


SSI = 'PropertySetId="9d1c6a0e-5b0f-4c3e-8f57-2a4be0c71d36" PropertyName="SsiLink" PropertyType="String"'
ALL = "<t:BaseShape>AllProperties</t:BaseShape>"
INBOX = '<t:DistinguishedFolderId Id="inbox"/>'
CONTACTS = '<t:DistinguishedFolderId Id="contacts"/>'


@pytest.fixture
def say(ask: Ask, contract: EwsContract) -> Ask:
    """Ask, and see that question and answer are what the vendor's schema describes."""

    def say(operation: str) -> etree._Element:
        assert contract.problems(envelope(operation)) == [], operation
        answer = ask(operation)
        assert contract.problems(etree.tostring(answer)) == []
        return answer

    return say


def create(*properties: str, folder: str = CONTACTS) -> str:
    return create_all("".join(properties), folder=folder)


def create_all(*contacts: str, folder: str = CONTACTS) -> str:
    items = "".join(f"<t:Contact>{properties}</t:Contact>" for properties in contacts)
    return f"<m:CreateItem><m:SavedItemFolderId>{folder}</m:SavedItemFolderId><m:Items>{items}</m:Items></m:CreateItem>"


def name(text: str) -> str:
    return f"<t:DisplayName>{text}</t:DisplayName>"


def change(item: etree._Element, *updates: str) -> str:
    return change_all((item, "".join(updates)))


def change_all(*changes: tuple[etree._Element, str]) -> str:
    told = "".join(
        f'<t:ItemChange><t:ItemId Id="{item.get("Id")}" ChangeKey="{item.get("ChangeKey")}"/>'
        f"<t:Updates>{updates}</t:Updates></t:ItemChange>"
        for item, updates in changes
    )
    return f'<m:UpdateItem ConflictResolution="NeverOverwrite"><m:ItemChanges>{told}</m:ItemChanges></m:UpdateItem>'


def put(path: str, value: str) -> str:
    return f"<t:SetItemField>{path}<t:Contact>{value}</t:Contact></t:SetItemField>"


def take(path: str) -> str:
    return f"<t:DeleteItemField>{path}</t:DeleteItemField>"


def uri(text: str, index: str = "") -> str:
    return f'<t:IndexedFieldURI FieldURI="{text}" FieldIndex="{index}"/>' if index else f'<t:FieldURI FieldURI="{text}"/>'


def entry(dictionary: str, key: str, value: str) -> str:
    return f'<t:{dictionary}><t:Entry Key="{key}">{value}</t:Entry></t:{dictionary}>'


def id_in(answer: etree._Element) -> etree._Element:
    found = answer.find(".//{*}ItemId")
    assert found is not None, etree.tostring(answer)
    return found


def stored(world: World, me: Person) -> StoredContact:
    (contact,) = world.mailbox(me.email).contacts.values()
    return contact


def sync(folder: str = INBOX, state: str = "", most: int = 512, shape: str = "<t:BaseShape>IdOnly</t:BaseShape>") -> str:
    given = f"<m:SyncState>{state}</m:SyncState>" if state else ""
    return (
        f"<m:SyncFolderItems><m:ItemShape>{shape}</m:ItemShape><m:SyncFolderId>{folder}</m:SyncFolderId>{given}"
        f"<m:MaxChangesReturned>{most}</m:MaxChangesReturned></m:SyncFolderItems>"
    )


def state_in(answer: etree._Element) -> str:
    return answer.findtext(".//{*}SyncState") or ""


def told(answer: etree._Element) -> list[tuple[str, str | None]]:
    """The changes of an answer: kind and item id."""
    changes = answer.find(".//{*}Changes")
    assert changes is not None
    return [(etree.QName(c).localname, id_in(c).get("Id")) for c in changes]


def subscribe(*folders: str, minutes: int = 30) -> str:
    events = "".join(f"<t:EventType>{kind}Event</t:EventType>" for kind in ("Created", "Deleted", "Modified", "Moved", "NewMail"))
    return (
        f"<m:Subscribe><m:PullSubscriptionRequest><t:FolderIds>{''.join(folders)}</t:FolderIds><t:EventTypes>{events}"
        f"</t:EventTypes><t:Timeout>{minutes}</t:Timeout></m:PullSubscriptionRequest></m:Subscribe>"
    )


def get_events(subscription: str, watermark: str) -> str:
    told = f"<m:SubscriptionId>{subscription}</m:SubscriptionId><m:Watermark>{watermark}</m:Watermark>"
    return f"<m:GetEvents>{told}</m:GetEvents>"


def events_in(answer: etree._Element) -> list[str]:
    notification = answer.find(".//{*}Notification")
    assert notification is not None
    return [etree.QName(e).localname for e in notification if etree.QName(e).localname.endswith("Event")]


def receive(world: World, me: Person, folder: str = "inbox") -> StoredMessage:
    mailbox = world.mailbox(me.email)
    message = StoredMessage(b"Subject: Hello\r\n\r\nHi.", mailbox.folder(folder).id, world.now())
    mailbox.messages[message.immutable_id] = message
    mailbox.touch(message, world.now())
    return message


# Contacts


def test_a_contact_comes_back_as_it_was_created(say: Ask, world: World, me: Person) -> None:
    made = say(
        create(
            '<t:Body BodyType="Text">one\ntwo</t:Body>',
            "<t:Categories><t:String>Offer</t:String></t:Categories>",
            f"<t:ExtendedProperty><t:ExtendedFieldURI {SSI}/><t:Value>a link</t:Value></t:ExtendedProperty>",
            name("Ada Byron"),
            entry("EmailAddresses", "EmailAddress1", "ada@example.com"),
            entry("PhysicalAddresses", "Home", "<t:City>Bath</t:City>"),
            entry("PhoneNumbers", "BusinessFax", "+44 1"),
            "<t:Surname>Byron</t:Surname>",
        )
    )
    contact = stored(world, me)
    assert contact.properties["personalNotes"] == "one\ntwo"
    assert contact.extended == {"String {9d1c6a0e-5b0f-4c3e-8f57-2a4be0c71d36} Name SsiLink": "a link", "String 0x3A24": "+44 1"}
    link = f"{ALL}<t:AdditionalProperties><t:ExtendedFieldURI {SSI}/></t:AdditionalProperties>"
    told = say(get_item(str(id_in(made).get("Id")), shape=link))
    texts = {etree.QName(e).localname: e.text for e in told.iter() if isinstance(e.tag, str) and e.text}
    assert (texts["DisplayName"], texts["Body"], texts["City"], texts["Value"]) == ("Ada Byron", "one\r\ntwo", "Bath", "a link")
    assert [event.kind for event in world.events("exchange")] == ["contact_create"]


@pytest.mark.parametrize(
    ("update", "code"),
    [
        (put(uri("contacts:GivenName"), "<t:GivenName>Ada</t:GivenName>"), "NoError"),
        (put(uri("contacts:GivenName"), "<t:Surname>Ada</t:Surname>"), "ErrorUpdatePropertyMismatch"),
        (
            put(uri("contacts:GivenName"), "<t:GivenName>A</t:GivenName><t:Surname>B</t:Surname>"),
            "ErrorIncorrectUpdatePropertyCount",
        ),
        (
            put(uri("contacts:PhoneNumber", "HomePhone"), entry("PhoneNumbers", "MobilePhone", "+1")),
            "ErrorUpdatePropertyMismatch",
        ),
        (
            put(uri("contacts:EmailAddress", "EmailAddress2"), entry("EmailAddresses", "EmailAddress2", "b@example.com")),
            "NoError",
        ),
        (take(uri("contacts:EmailAddress", "EmailAddress1")), "NoError"),
        (take(uri("contacts:PhysicalAddress:City", "Home")), "NoError"),
        (take(uri("contacts:HasPicture")), "ErrorInvalidPropertyDelete"),
    ],
)
def test_an_update_names_what_it_sets(say: Ask, world: World, me: Person, update: str, code: str) -> None:
    made = say(create(name("Ada"), entry("EmailAddresses", "EmailAddress1", "a@example.com")))
    before = stored(world, me).change
    assert codes(say(change(id_in(made), update))) == [code]
    assert (stored(world, me).change > before) == (code == "NoError")


def test_a_contact_is_only_written_with_its_change_key(say: Ask, world: World, me: Person) -> None:
    made = say(create(name("Ada")))
    assert codes(say(change(id_in(made), put(uri("contacts:DisplayName"), name("Eve"))))) == ["NoError"]
    assert codes(say(change(id_in(made), put(uri("contacts:DisplayName"), name("Bob"))))) == ["ErrorIrresolvableConflict"]
    assert stored(world, me).properties["displayName"] == "Eve"


def test_many_are_created_and_changed_one_by_one_and_one_that_is_refused_stops_no_other(
    say: Ask, world: World, me: Person
) -> None:
    unkept = entry("PhoneNumbers", "Telex", "1")
    made = say(create_all(name("Ada"), unkept, name("Bob")))
    assert codes(made) == ["NoError", "ErrorInvalidPropertySet", "NoError"]
    ada, bob = made.iterfind(".//{*}ItemId")
    assert say(change(ada, put(uri("contacts:DisplayName"), name("Theirs")))) is not None
    later = put(uri("contacts:DisplayName"), name("Ours"))
    assert codes(say(change_all((ada, later), (bob, later)))) == ["ErrorIrresolvableConflict", "NoError"]
    assert [c.properties["displayName"] for c in world.mailbox(me.email).contacts.values()] == ["Theirs", "Ours"]


@pytest.mark.parametrize(("fault", "code"), [("store_goes", "ErrorMailboxStoreUnavailable"), ("quota", "ErrorQuotaExceeded")])
def test_what_would_refuse_the_rest_too_stops_it_before_it_is_begun(
    say: Ask, world: World, me: Person, fault: str, code: str
) -> None:
    world.faults.append(Fault("exchange", fault))
    answer = say(create_all(*map(name, ("Ada", "Bob", "Eve", "Kim"))))
    assert codes(answer) == ["NoError", code, "ErrorBatchProcessingStopped", "ErrorBatchProcessingStopped"]
    classes = [e.get("ResponseClass") for e in answer.iterfind(".//{*}CreateItemResponseMessage")]
    assert classes == ["Success", "Error", "Warning", "Warning"]
    assert stored(world, me).properties["displayName"] == "Ada"


def test_a_contact_tells_when_it_was_changed_and_no_answer_to_a_write_does(say: Ask, world: World, me: Person) -> None:
    asked = fields("item:LastModifiedTime")
    made = say(create(name("Ada")))
    assert made.find(".//{*}LastModifiedTime") is None
    first = say(get_item(str(id_in(made).get("Id")), shape=asked)).findtext(".//{*}LastModifiedTime")
    world.clock_skew += timedelta(minutes=1)
    assert say(change(id_in(made), put(uri("contacts:DisplayName"), name("Eve")))).find(".//{*}LastModifiedTime") is None
    second = say(get_item(str(id_in(made).get("Id")), shape=asked)).findtext(".//{*}LastModifiedTime")
    assert first is not None
    assert second == f"{stored(world, me).changed_at:%Y-%m-%dT%H:%M:%SZ}" > first


def test_a_contact_is_found_by_an_extended_property_in_its_folder(say: Ask) -> None:
    link = f"<t:ExtendedProperty><t:ExtendedFieldURI {SSI}/><t:Value>a link</t:Value></t:ExtendedProperty>"
    made = say(create(link, name("Ada")))
    say(create(name("Bob")))
    for wanted, found in (("a link", [id_in(made).get("Id")]), ("another", [])):
        restriction = (
            f"<m:Restriction><t:IsEqualTo><t:ExtendedFieldURI {SSI}/><t:FieldURIOrConstant>"
            f'<t:Constant Value="{wanted}"/></t:FieldURIOrConstant></t:IsEqualTo></m:Restriction>'
        )
        assert [e.get("Id") for e in say(find_item(restriction, folder="contacts")).iterfind(".//{*}ItemId")] == found


BAD = {
    "the surname before the display name": create("<t:Surname>B</t:Surname>", name("A")),
    "the notes after the name": create(name("A"), '<t:Body BodyType="Text">n</t:Body>'),
    "notes of no kind": create("<t:Body>n</t:Body>"),
    "an address without a key": create("<t:EmailAddresses><t:Entry>a@example.com</t:Entry></t:EmailAddresses>"),
    "the postal code before the city": create(
        entry("PhysicalAddresses", "Home", "<t:PostalCode>1</t:PostalCode><t:City>A</t:City>")
    ),
    "more changes than there may be": sync(most=513),
    "a subscription for longer than a day": subscribe(INBOX, minutes=1441),
}


@pytest.mark.parametrize("operation", BAD.values(), ids=BAD)
def test_what_the_schema_forbids_is_refused(contract: EwsContract, ask: Ask, operation: str) -> None:
    assert contract.problems(envelope(operation)) != []
    assert codes(ask(operation)) == ["ErrorSchemaValidation"]


def test_what_moves_or_is_deleted_gets_another_id(say: Ask, world: World, me: Person) -> None:
    made = id_in(say(create(name("Ada"))))
    trash = '<t:DistinguishedFolderId Id="deleteditems"/>'
    old = f'<t:ItemId Id="{made.get("Id")}"/>'
    moved = id_in(say(f"<m:MoveItem><m:ToFolderId>{trash}</m:ToFolderId><m:ItemIds>{old}</m:ItemIds></m:MoveItem>"))
    assert moved.get("Id") != made.get("Id")
    assert codes(say(get_item(str(made.get("Id"))))) == ["ErrorItemNotFound"]
    nowhere = '<t:FolderId Id="AQMkADnowhere="/>'
    new = f'<t:ItemId Id="{moved.get("Id")}"/>'
    refused = say(f"<m:MoveItem><m:ToFolderId>{nowhere}</m:ToFolderId><m:ItemIds>{new}</m:ItemIds></m:MoveItem>")
    assert codes(refused) == ["ErrorToFolderNotFound"]
    message = case(world, "known_contact")
    for kind, is_kept in (("MoveToDeletedItems", True), ("HardDelete", False)):
        ids = f'<m:ItemIds><t:ItemId Id="{message.ews_id}"/><t:ItemId Id="AAMkNobody="/></m:ItemIds>'
        assert codes(say(f'<m:DeleteItem DeleteType="{kind}">{ids}</m:DeleteItem>')) == ["NoError", "ErrorItemNotFound"]
        assert (message.immutable_id in world.mailbox(me.email).messages) == is_kept


# Folders


def folder(kind: str, text: str, parent: str) -> str:
    made = f"<t:{kind}><t:DisplayName>{text}</t:DisplayName></t:{kind}>"
    return f"<m:CreateFolder><m:ParentFolderId>{parent}</m:ParentFolderId><m:Folders>{made}</m:Folders></m:CreateFolder>"


def test_folders_are_made_renamed_and_deleted_each_name_once(say: Ask, world: World, me: Person) -> None:
    made = say(folder("ContactsFolder", "SAP Contacts", CONTACTS)).find(".//{*}FolderId")
    assert made is not None
    named = f'<t:FolderId Id="{made.get("Id")}"/>'
    assert codes(say(folder("ContactsFolder", "sap contacts", CONTACTS))) == ["ErrorFolderExists"]
    update = (
        f"<m:UpdateFolder><m:FolderChanges><t:FolderChange>{named}<t:Updates><t:SetFolderField>{uri('folder:DisplayName')}"
        "<t:ContactsFolder><t:DisplayName>Mine</t:DisplayName></t:ContactsFolder></t:SetFolderField></t:Updates></t:FolderChange>"
        "</m:FolderChanges></m:UpdateFolder>"
    )
    assert codes(say(update)) == ["NoError"]
    stored = world.mailbox(me.email).folders[str(made.get("Id"))]
    assert (stored.name, stored.kind) == ("Mine", "contacts")
    say(create(name("Ada"), folder=named))
    find = (
        '<m:FindFolder Traversal="{}"><m:FolderShape><t:BaseShape>Default</t:BaseShape></m:FolderShape><m:ParentFolderIds>'
        '<t:DistinguishedFolderId Id="{}"/></m:ParentFolderIds></m:FindFolder>'
    )
    for traversal, parent, is_found in (
        ("Shallow", "msgfolderroot", False),
        ("Deep", "msgfolderroot", True),
        ("Deep", "contacts", True),
    ):
        names = [e.text for e in say(find.format(traversal, parent)).iterfind(".//{*}DisplayName")]
        assert ("Mine" in names) == is_found
    delete = '<m:DeleteFolder DeleteType="MoveToDeletedItems"><m:FolderIds>{}</m:FolderIds></m:DeleteFolder>'
    assert codes(say(delete.format(named + CONTACTS))) == ["NoError", "ErrorDeleteDistinguishedFolder"]
    assert codes(say(create(name("Bob"), folder=named))) == ["ErrorFolderNotFound"]
    assert world.mailbox(me.email).contacts == {}


def test_a_mail_folder_takes_no_contacts(say: Ask) -> None:
    assert codes(say(create(name("Ada"), folder=INBOX))) == ["ErrorCannotCreateContactInNonContactFolder"]


def test_a_folder_tells_what_its_caller_may_do(say: Ask, world: World) -> None:
    rights = "<t:AdditionalProperties><t:FieldURI FieldURI='folder:EffectiveRights'/></t:AdditionalProperties>"
    asked = (
        f"<m:GetFolder><m:FolderShape><t:BaseShape>IdOnly</t:BaseShape>{rights}</m:FolderShape>"
        f"<m:FolderIds>{INBOX}</m:FolderIds></m:GetFolder>"
    )
    assert say(asked).findtext(".//{*}Modify") == "true"
    world.faults.append(Fault("exchange", "read_only"))
    answer = say(asked)
    assert (answer.findtext(".//{*}Modify"), answer.findtext(".//{*}Read")) == ("false", "true")


def test_names_are_resolved_by_the_whole_address(say: Ask, me: Person) -> None:
    asked = '<m:ResolveNames ReturnFullContactData="false"><m:UnresolvedEntry>{}</m:UnresolvedEntry></m:ResolveNames>'
    assert say(asked.format(f"smtp:{me.email.upper()}")).findtext(".//{*}Mailbox/{*}Name") == me.name
    assert codes(say(asked.format("nobody@example.com"))) == ["ErrorNameResolutionNoResults"]


# SyncFolderItems


def test_a_first_sync_tells_everything_page_by_page(say: Ask, world: World, me: Person) -> None:
    inbox = world.mailbox(me.email).folder("inbox").id
    expected = {m.ews_id for m in world.mailbox(me.email).messages.values() if m.folder == inbox}
    seen: list[str | None] = []
    state, last = "", "false"
    while last == "false":
        answer = say(sync(state=state, most=5))
        changes = told(answer)
        assert len(changes) <= 5
        assert {kind for kind, _ in changes} == {"Create"}
        seen += [identifier for _, identifier in changes]
        state, last = state_in(answer), answer.findtext(".//{*}IncludesLastItemInRange") or ""
    assert len(seen) == len(expected)
    assert set(seen) == expected
    assert told(say(sync(state=state))) == []


def test_a_later_sync_tells_what_came_changed_was_read_and_went(say: Ask, world: World, me: Person) -> None:
    changed, read, gone = (receive(world, me) for _ in range(3))
    state = state_in(say(sync()))
    mailbox = world.mailbox(me.email)
    came = receive(world, me)
    changed.categories = ["Offer"]
    mailbox.touch(changed, world.now())
    read.is_read = not read.is_read
    mailbox.touch(read, world.now())
    mailbox.left(gone)
    del mailbox.messages[gone.immutable_id]
    brief = receive(world, me)
    mailbox.left(brief)
    del mailbox.messages[brief.immutable_id]
    assert sorted(told(say(sync(state=state)))) == sorted(
        [("Create", came.ews_id), ("Update", changed.ews_id), ("ReadFlagChange", read.ews_id), ("Delete", gone.ews_id)]
    )


def test_a_sync_tells_the_conversation_of_a_message_if_it_is_asked(say: Ask, world: World, me: Person) -> None:
    state = state_in(say(sync()))
    message = receive(world, me)
    message.conversation_id = "AAQkADconversation="
    answer = say(sync(state=state, shape=fields("item:ConversationId")))
    found = answer.find(".//{*}ConversationId")
    assert found is not None
    assert found.get("Id") == message.conversation_id
    assert say(sync(state=state)).find(".//{*}ConversationId") is None


def test_a_sync_state_of_another_folder_or_from_before_is_refused(say: Ask, world: World) -> None:
    state = state_in(say(sync()))
    sent = '<t:DistinguishedFolderId Id="sentitems"/>'
    assert codes(say(sync(sent, state))) == ["ErrorInvalidSyncStateData"]
    assert codes(say(sync(state="AAAA"))) == ["ErrorInvalidSyncStateData"]
    assert codes(say(sync('<t:FolderId Id="AQMkADnowhere="/>'))) == ["ErrorSyncFolderNotFound"]
    world.faults.append(Fault("exchange", "forgets"))
    assert codes(say(sync(state=state))) == ["ErrorInvalidSyncStateData"]
    assert codes(say(sync())) == ["NoError"]


def test_a_sync_does_not_tell_what_only_getitem_tells(ask: Ask) -> None:
    notes = "<t:BaseShape>IdOnly</t:BaseShape><t:AdditionalProperties><t:FieldURI FieldURI='item:Body'/></t:AdditionalProperties>"
    assert codes(ask(sync(CONTACTS, shape=notes))) == ["ErrorInvalidPropertyRequest"]


# Subscriptions


@pytest.fixture
def look(say: Ask) -> Callable[[], etree._Element]:
    """Subscribe to Inbox and Contacts; each call asks for the events since the last."""
    made = say(subscribe(INBOX, CONTACTS))
    identifier = made.findtext(".//{*}SubscriptionId") or ""
    marks = [made.findtext(".//{*}Watermark") or ""]

    def look() -> etree._Element:
        answer = say(get_events(identifier, marks[-1]))
        marks.extend(e.text or "" for e in answer.iterfind(".//{*}Notification/*/{*}Watermark"))
        return answer

    return look


def test_events_are_told_once_and_an_idle_look_tells_the_status(
    look: Callable[[], etree._Element], world: World, me: Person
) -> None:
    assert events_in(look()) == ["StatusEvent"]
    message = receive(world, me)
    receive(world, me, "sentitems")
    assert events_in(look()) == ["CreatedEvent", "NewMailEvent"]
    world.mailbox(me.email).touch(message, world.now())
    assert events_in(look()) == ["ModifiedEvent"]
    assert events_in(look()) == ["StatusEvent"]


def test_a_move_is_one_event_that_names_both_folders(
    look: Callable[[], etree._Element], ask: Ask, world: World, me: Person
) -> None:
    message = receive(world, me)
    look()
    old = message.ews_id
    ids = f'<m:ItemIds><t:ItemId Id="{old}"/></m:ItemIds>'
    ask(f'<m:DeleteItem DeleteType="MoveToDeletedItems">{ids}</m:DeleteItem>')
    answer = look()
    assert events_in(answer) == ["MovedEvent"]
    (event,) = answer.iterfind(".//{*}MovedEvent")
    named = [id_in(event).get("Id"), *(e.get("Id") for e in event.iterfind("{*}OldItemId"))]
    assert named == [message.ews_id, old]


def test_many_events_come_in_several_answers(look: Callable[[], etree._Element], world: World, me: Person) -> None:
    for _ in range(60):
        receive(world, me)
    first, second, third = look(), look(), look()
    assert [a.findtext(".//{*}MoreEvents") for a in (first, second, third)] == ["true", "true", "false"]
    assert len(events_in(first) + events_in(second) + events_in(third)) == 120


def test_a_subscription_ends_by_itself_or_by_request(say: Ask, world: World) -> None:
    made = say(subscribe(INBOX, minutes=30))
    identifier, watermark = made.findtext(".//{*}SubscriptionId") or "", made.findtext(".//{*}Watermark") or ""
    assert codes(say(get_events(identifier, "AAAA"))) == ["ErrorInvalidWatermark"]
    world.clock_skew += timedelta(minutes=29)
    assert codes(say(get_events(identifier, watermark))) == ["NoError"]
    world.clock_skew += timedelta(minutes=31)
    assert codes(say(get_events(identifier, watermark))) == ["ErrorExpiredSubscription"]
    assert codes(say(get_events(identifier, watermark))) == ["ErrorSubscriptionNotFound"]
    again = say(subscribe(INBOX)).findtext(".//{*}SubscriptionId")
    end = f"<m:Unsubscribe><m:SubscriptionId>{again}</m:SubscriptionId></m:Unsubscribe>"
    assert [codes(say(end)), codes(say(end))] == [["NoError"], ["ErrorSubscriptionNotFound"]]
    assert codes(say(subscribe('<t:FolderId Id="AQMkADnowhere="/>'))) == ["ErrorFolderNotFound"]


def test_a_busy_server_may_say_nothing_of_for_how_long(ask: Ask, world: World) -> None:
    world.faults.append(Fault("exchange", "server_busy", retry_after_s=0))
    answer = ask(sync())
    assert codes(answer) == ["ErrorServerBusy"]
    assert answer.find(".//{*}MessageXml") is None
