"""The simulated Exchange keeps the promises that a client may rely on, and breaks those that it may not."""

import base64
from collections.abc import Callable, Iterator
from contextlib import closing
from typing import Any

import httpx
import pytest
import spnego
from lxml import etree

from simulator.ews import autodiscover as ews_autodiscover, ntlm, soap as ews_soap
from simulator.ews.operations import SECOND_WRITERS_CATEGORY
from simulator.serving import Port
from simulator.world import Fault, Person, World
from tests.ews_contract import EwsContract
from tests.simulator import ews_office
from tests.simulator.ews_office import (
    PATH,
    SERVICE,
    Ask,
    case,
    codes,
    configuration,
    envelope,
    fields,
    find_item,
    get_item,
    key_of,
    read_list,
    update,
)

ask, client, contract, holder, me, port, world = (
    ews_office.ask,
    ews_office.client,
    ews_office.contract,
    ews_office.holder,
    ews_office.me,
    ews_office.port,
    ews_office.world,
)


# The schema


def test_answers_fit_the_vendors_schema(contract: EwsContract, ask: Ask, world: World) -> None:
    files, meeting = case(world, "attachments"), case(world, "meeting_answer")
    whole = "<t:BaseShape>AllProperties</t:BaseShape><t:IncludeMimeContent>true</t:IncludeMimeContent>"
    attachment = ask(get_item(files.ews_id, shape=whole)).find(".//{*}AttachmentId")
    assert attachment is not None
    listing = base64.b64encode(b'<categories xmlns="CategoryList.xsd"><category name="A" color="3"/></categories>').decode()
    asked = [
        get_item(files.ews_id, meeting.ews_id, "AAMkNobody=", shape=whole),
        get_item(
            *(m.ews_id for m in list(world.mailbox(world.people[0].email).messages.values())), shape=whole.split("<t:Inc")[0]
        ),
        get_item(files.ews_id, shape=fields("item:InternetMessageHeaders", "item:Categories", "0x300B")),
        find_item(shape="<t:BaseShape>AllProperties</t:BaseShape>"),
        find_item(folder="contacts"),
        '<m:FindFolder Traversal="Deep"><m:FolderShape><t:BaseShape>Default</t:BaseShape></m:FolderShape><m:ParentFolderIds>'
        '<t:DistinguishedFolderId Id="msgfolderroot"/></m:ParentFolderIds></m:FindFolder>',
        "<m:GetFolder><m:FolderShape><t:BaseShape>Default</t:BaseShape></m:FolderShape><m:FolderIds>"
        '<t:DistinguishedFolderId Id="calendar"/><t:FolderId Id="nobody"/></m:FolderIds></m:GetFolder>',
        f'<m:GetAttachment><m:AttachmentIds><t:AttachmentId Id="{attachment.get("Id")}"/><t:AttachmentId Id="x"/>'
        "</m:AttachmentIds></m:GetAttachment>",
        f'<m:ConvertId DestinationFormat="OwaId"><m:SourceIds><t:AlternateId Format="EwsId" Id="{files.ews_id}" '
        'Mailbox="a@b.example"/></m:SourceIds></m:ConvertId>',
        update(files, key_of(ask, files), "A", "B"),
        update(files, "CQAAABYAold", "C"),
        read_list(),
        configuration("UpdateUserConfiguration", f"<t:XmlData>{listing}</t:XmlData>"),
    ]
    for operation in asked:
        assert contract.problems(envelope(operation)) == [], operation
        answer = ask(operation)
        assert contract.problems(etree.tostring(answer)) == [], operation


GOOD = get_item("AAMkx=", shape="<t:BaseShape>IdOnly</t:BaseShape><t:IncludeMimeContent>true</t:IncludeMimeContent>")
BAD = {
    "out of order": get_item(
        "AAMkx=", shape="<t:IncludeMimeContent>true</t:IncludeMimeContent><t:BaseShape>IdOnly</t:BaseShape>"
    ),
    "ids before shape": "<m:GetItem><m:ItemIds><t:ItemId Id='A'/></m:ItemIds><m:ItemShape><t:BaseShape>IdOnly</t:BaseShape>"
    "</m:ItemShape></m:GetItem>",
    "no ids": "<m:GetItem><m:ItemShape><t:BaseShape>IdOnly</t:BaseShape></m:ItemShape><m:ItemIds/></m:GetItem>",
    "no shape": "<m:GetItem><m:ItemIds><t:ItemId Id='A'/></m:ItemIds></m:GetItem>",
    "an unknown element": get_item("A", shape="<t:BaseShape>IdOnly</t:BaseShape><t:Everything/>"),
    "an unknown value": get_item("A", shape="<t:BaseShape>Everything</t:BaseShape>"),
    "an unknown attribute": "<m:GetItem><m:ItemShape><t:BaseShape>IdOnly</t:BaseShape></m:ItemShape><m:ItemIds>"
    "<t:ItemId Id='A' Version='3'/></m:ItemIds></m:GetItem>",
    "a missing attribute": "<m:GetItem><m:ItemShape><t:BaseShape>IdOnly</t:BaseShape></m:ItemShape><m:ItemIds><t:ItemId/>"
    "</m:ItemIds></m:GetItem>",
    "another namespace": GOOD.replace("t:BaseShape", "m:BaseShape"),
    "the parent before the page": '<m:FindItem Traversal="Shallow"><m:ItemShape><t:BaseShape>IdOnly</t:BaseShape></m:ItemShape>'
    '<m:ParentFolderIds><t:DistinguishedFolderId Id="inbox"/></m:ParentFolderIds>'
    '<m:IndexedPageItemView Offset="0" BasePoint="Beginning"/></m:FindItem>',
    "no traversal": find_item().replace(' Traversal="Shallow"', ""),
    "an unknown resolution": '<m:UpdateItem ConflictResolution="Perhaps"><m:ItemChanges/></m:UpdateItem>',
    "the data before the name": "<m:UpdateUserConfiguration><m:UserConfiguration><t:XmlData>AA==</t:XmlData>"
    '<t:UserConfigurationName Name="CategoryList"><t:DistinguishedFolderId Id="calendar"/></t:UserConfigurationName>'
    "</m:UserConfiguration></m:UpdateUserConfiguration>",
}


@pytest.mark.parametrize("operation", BAD.values(), ids=BAD)
def test_a_request_of_another_shape_is_refused_as_the_vendors_schema_would(
    contract: EwsContract, ask: Ask, operation: str
) -> None:
    assert contract.problems(envelope(operation)) != []
    answer = ask(operation)
    assert codes(answer) == ["ErrorSchemaValidation"]
    assert answer.find(".//{*}MessageXml/{*}Value[@Name='Violation']") is not None


@pytest.mark.parametrize(
    "body", [b"", b"no xml", b"<a/>", b'<!DOCTYPE s [<!ENTITY a "b">]><s:Envelope xmlns:s="%s"/>' % ews_soap.SOAP.encode()]
)
def test_what_is_no_envelope_is_refused(client: httpx.Client, body: bytes) -> None:
    assert client.post(PATH, content=body).status_code == 500


def test_an_unknown_version_is_refused(ask: Ask) -> None:
    assert codes(ask(GOOD, version="Exchange2040")) == ["ErrorInvalidServerVersion"]


# Who calls


def test_basic_needs_the_right_password(port: Port, me: Person) -> None:
    for password, status in ((me.password, 200), ("wrong", 401)):
        with closing(httpx.Client(base_url=port.url, auth=(me.email, password))) as client:
            reply = client.post(PATH, content=envelope(read_list()))
            assert reply.status_code == status
    assert reply.headers.get_list("www-authenticate") == ["Negotiate", "NTLM", 'Basic realm="ex01.example"']


def ntlm_step(client: httpx.Client, context: Any, challenge: bytes | None = None) -> httpx.Response:
    token = base64.b64encode(context.step(challenge)).decode()
    return client.post(PATH, content=envelope(read_list()), headers={"Authorization": f"NTLM {token}"})


def challenge_in(reply: httpx.Response) -> bytes:
    return base64.b64decode(reply.headers["www-authenticate"].removeprefix("NTLM "))


@pytest.fixture
def anonymous(port: Port) -> Iterator[Callable[[], httpx.Client]]:
    """Open clients of one connection each that do not sign in."""
    opened: list[httpx.Client] = []

    def anonymous() -> httpx.Client:
        opened.append(httpx.Client(base_url=port.url, limits=httpx.Limits(max_connections=1), timeout=5))
        return opened[-1]

    yield anonymous
    for client in opened:
        client.close()


@pytest.mark.parametrize("name", ["{0.email}", "ALDERMILL\\{0.user_id}", "other\\{0.email}"])
def test_ntlm_signs_in_a_connection_and_no_other(anonymous: Callable[[], httpx.Client], me: Person, name: str) -> None:
    first, second = anonymous(), anonymous()
    context = spnego.client(name.format(me), me.password, protocol="ntlm", options=spnego.NegotiateOptions.use_ntlm)
    asked = ntlm_step(first, context)
    assert asked.status_code == 401
    assert ntlm_step(first, context, challenge_in(asked)).status_code == 200
    assert first.post(PATH, content=envelope(read_list())).status_code == 200
    assert second.post(PATH, content=envelope(read_list())).status_code == 401


def test_an_ntlm_answer_is_worth_nothing_on_another_connection_or_twice(
    anonymous: Callable[[], httpx.Client], me: Person
) -> None:
    first, second = anonymous(), anonymous()
    context = spnego.client(me.email, me.password, protocol="ntlm", options=spnego.NegotiateOptions.use_ntlm)
    asked = ntlm_step(first, context)
    token = base64.b64encode(context.step(challenge_in(asked)) or b"").decode()
    signed = {"Authorization": f"NTLM {token}"}
    assert second.post(PATH, content=envelope(read_list()), headers=signed).status_code == 401
    assert first.post(PATH, content=envelope(read_list()), headers=signed).status_code == 200
    assert first.post(PATH, content=envelope(read_list()), headers=signed).status_code == 401


def test_ntlm_needs_the_right_password(anonymous: Callable[[], httpx.Client], me: Person) -> None:
    client = anonymous()
    context = spnego.client(me.email, "wrong", protocol="ntlm", options=spnego.NegotiateOptions.use_ntlm)
    assert ntlm_step(client, context, challenge_in(ntlm_step(client, context))).status_code == 401


@pytest.mark.parametrize("token", ["x", "????", "TlRMTVNTUAA=", "TlRMTVNTUAADAAAA", "AAAA"])
def test_broken_ntlm_is_refused(anonymous: Callable[[], httpx.Client], world: World, token: str) -> None:
    reply = anonymous().post(PATH, content=envelope(read_list()), headers={"Authorization": f"NTLM {token}"})
    assert reply.status_code == 401


def test_md4_is_what_its_rfc_says() -> None:
    vectors = {b"": "31d6cfe0d16ae931b73c59d7e0c089c0", b"abc": "a448017aaf21d8525fc10ae87aa6729d"}
    vectors[b"1234567890" * 8] = "e33b4ddc9c38f2199c3e7b164fcc0536"
    assert {text: ntlm.md4(text).hex() for text in vectors} == vectors


def impersonate(address: str) -> str:
    sid = f"<t:ConnectingSID><t:PrimarySmtpAddress>{address}</t:PrimarySmtpAddress></t:ConnectingSID>"
    return f"<t:ExchangeImpersonation>{sid}</t:ExchangeImpersonation>"


def test_only_a_service_account_impersonates(port: Port, ask: Ask, me: Person, world: World) -> None:
    other = world.people[1]
    assert codes(ask(read_list(), impersonate(other.email))) == ["ErrorImpersonateUserDenied"]
    with closing(httpx.Client(base_url=port.url, auth=(SERVICE.user, SERVICE.password))) as service:
        assert codes(ask(read_list(), impersonate(other.email), client=service)) == ["NoError"]
        assert codes(ask(read_list(), impersonate("nobody@example.com"), client=service)) == ["ErrorNonExistentMailbox"]
        assert codes(ask(read_list(), client=service)) == ["ErrorMissingEmailAddress"]
    assert [access.actor for access in world.requests("exchange")][1] == other.email


def test_a_mailbox_in_the_cloud_is_not_here(ask: Ask, me: Person) -> None:
    me.access_type = "office365"
    assert codes(ask(read_list())) == ["ErrorNonExistentMailbox"]


# Messages


def test_an_item_id_changes_with_a_move_and_the_search_key_does_not(ask: Ask, world: World, me: Person) -> None:
    message = case(world, "known_contact")
    before, old = ask(get_item(message.ews_id, shape=fields("0x300B"))), message.ews_id
    message.ews_id = message.ews_id[:-1] + "+moved="
    after = ask(get_item(message.ews_id, shape=fields("0x300B")))
    assert before.findtext(".//{*}Value") == after.findtext(".//{*}Value")
    assert codes(ask(get_item(old))) == ["ErrorItemNotFound"]
    assert codes(ask(get_item("no id"))) == ["ErrorInvalidIdMalformed"]


def test_items_are_judged_one_by_one(ask: Ask, world: World) -> None:
    message = case(world, "known_contact")
    assert codes(ask(get_item(message.ews_id, "AAMkNobody=", message.ews_id))) == ["NoError", "ErrorItemNotFound", "NoError"]


def test_a_message_comes_as_it_travelled(ask: Ask, world: World) -> None:
    message = case(world, "attachments")
    answer = ask(get_item(message.ews_id, shape=fields("item:MimeContent", "item:InternetMessageHeaders")))
    assert base64.b64decode(answer.findtext(".//{*}MimeContent") or "") == message.mime
    names = [e.get("HeaderName") for e in answer.iterfind(".//{*}InternetMessageHeader")]
    assert {"From", "Message-ID", "Received"} <= set(names)


def test_a_list_does_not_tell_what_only_getitem_tells(ask: Ask) -> None:
    for name in ("item:Body", "item:MimeContent", "item:Attachments"):
        assert codes(ask(find_item(shape=fields(name)))) == ["ErrorInvalidPropertyRequest"]


def test_a_list_is_paged(ask: Ask, world: World) -> None:
    seen: list[str] = []
    offset, last = 0, "false"
    while last == "false":
        page = f'<m:IndexedPageItemView MaxEntriesReturned="3" Offset="{offset}" BasePoint="Beginning"/>'
        answer = ask(find_item(page=page))
        folder = answer.find(".//{*}RootFolder")
        assert folder is not None
        items = [str(item.get("Id")) for item in answer.iterfind(".//{*}ItemId")]
        assert len(items) <= 3
        seen += items
        offset, last = int(folder.get("IndexedPagingOffset", "")), folder.get("IncludesLastItemInRange", "")
    assert len(seen) == len(set(seen)) == int(folder.get("TotalItemsInView", ""))


def test_a_restriction_finds_by_message_id_without_minding_its_case(ask: Ask, world: World) -> None:
    message = case(world, "known_contact")
    wanted = ask(get_item(message.ews_id, shape=fields("message:InternetMessageId"))).findtext(".//{*}InternetMessageId") or ""
    for spelled in (wanted, wanted.upper()):
        constant = spelled.replace("<", "&lt;").replace(">", "&gt;")
        restriction = (
            '<m:Restriction><t:IsEqualTo><t:FieldURI FieldURI="message:InternetMessageId"/><t:FieldURIOrConstant>'
            f'<t:Constant Value="{constant}"/></t:FieldURIOrConstant></t:IsEqualTo></m:Restriction>'
        )
        found = [item.get("Id") for item in ask(find_item(restriction)).iterfind(".//{*}ItemId")]
        assert found == [message.ews_id]


def test_never_overwrite_refuses_an_old_change_key(ask: Ask, world: World) -> None:
    message = case(world, "known_contact")
    key = key_of(ask, message)
    assert codes(ask(update(message, key, "A"))) == ["NoError"]
    assert codes(ask(update(message, key, "B"))) == ["ErrorIrresolvableConflict"]
    assert codes(ask(update(message, None, "B"))) == ["ErrorChangeKeyRequired"]
    assert codes(ask(update(message, "nonsense", "B"))) == ["ErrorInvalidChangeKey"]
    assert message.categories == ["A"]
    assert codes(ask(update(message, None, "C", resolution="AlwaysOverwrite"))) == ["NoError"]
    assert codes(ask(update(message, key, "D", resolution="AutoResolve"))) == ["NoError"]
    assert [event.detail["after"] for event in world.events("exchange", "categories")] == [["A"], ["C"], ["D"]]


def test_a_second_writer_comes_first_when_told_to(ask: Ask, world: World) -> None:
    message = case(world, "known_contact")
    key = key_of(ask, message)
    world.faults.append(Fault("exchange", "second_writer"))
    assert codes(ask(update(message, key, "A"))) == ["ErrorIrresolvableConflict"]
    assert message.categories[-1] == SECOND_WRITERS_CATEGORY


# The category list


def test_the_category_list_keeps_what_it_does_not_know(ask: Ask, world: World, me: Person) -> None:
    answer = ask(read_list())
    listing = etree.fromstring(base64.b64decode(answer.findtext(".//{*}XmlData") or ""))
    names = {row.get("name"): row.get("color") for row in listing}
    assert names == {"Follow-up": "1", "Private": "8", "Offer": "-1"}
    listing[0].set("somethingNew", "42")
    listing.set("lastSavedSession", "7")
    listing.remove(listing[1])
    etree.SubElement(listing, "{CategoryList.xsd}category", {"name": "Fresh", "color": "3"})
    data = base64.b64encode(etree.tostring(listing)).decode()
    assert codes(ask(configuration("UpdateUserConfiguration", f"<t:XmlData>{data}</t:XmlData>"))) == ["NoError"]
    again = etree.fromstring(base64.b64decode(ask(read_list()).findtext(".//{*}XmlData") or ""))
    assert (again.get("lastSavedSession"), again[0].get("somethingNew")) == ("7", "42")
    assert {c.name: c.color for c in world.mailbox(me.email).categories.values()} == {
        "Follow-up": "preset1",
        "Offer": "none",
        "Fresh": "preset3",
    }
    assert {event.kind for event in world.events("exchange")} == {"master_delete", "master_create"}


def test_a_category_list_that_is_not_there_can_only_be_created(ask: Ask, world: World, me: Person) -> None:
    world.mailbox(me.email).categories.clear()
    data = base64.b64encode(b'<categories xmlns="CategoryList.xsd"><category name="A" color="3"/></categories>').decode()
    assert codes(ask(read_list())) == ["ErrorItemNotFound"]
    xml = f"<t:XmlData>{data}</t:XmlData>"
    assert codes(ask(configuration("UpdateUserConfiguration", xml))) == ["ErrorItemNotFound"]
    assert codes(ask(configuration("CreateUserConfiguration", xml))) == ["NoError"]
    assert codes(ask(configuration("CreateUserConfiguration", xml))) != ["NoError"]


# Faults and the log


def test_a_busy_server_says_for_how_long(ask: Ask, world: World) -> None:
    world.faults.append(Fault("exchange", "server_busy", retry_after_s=30))
    answer = ask(read_list())
    assert codes(answer) == ["ErrorServerBusy"]
    assert answer.findtext(".//{*}Value[@Name='BackOffMilliseconds']") == "30000"


def test_a_fault_can_be_meant_for_one_operation(ask: Ask, world: World) -> None:
    world.faults.append(Fault("exchange", "ErrorMailboxMoveInProgress", match="UpdateItem"))
    message = case(world, "known_contact")
    assert codes(ask(update(message, key_of(ask, message), "A"))) == ["ErrorMailboxMoveInProgress"]


def test_the_access_log_names_the_operation(ask: Ask, world: World, me: Person) -> None:
    ask(read_list())
    (access,) = world.requests("exchange")
    assert (access.method, access.path, access.status) == ("POST", f"{PATH}/GetUserConfiguration", 200)
    assert access.actor == me.email


# Autodiscover


def pox(address: str) -> str:
    return (
        f'<Autodiscover xmlns="{ews_autodiscover.ASKED}"><Request><EMailAddress>{address}</EMailAddress>'
        f"<AcceptableResponseSchema>{ews_autodiscover.ANSWERED}</AcceptableResponseSchema></Request></Autodiscover>"
    )


@pytest.mark.parametrize(
    ("address", "told"),
    [
        ("here@aldermill.example", "https://mail.aldermill.example/EWS/Exchange.asmx"),
        ("renamed@aldermill.example", "here@aldermill.example"),
        ("elsewhere@aldermill.example", "https://other.example/autodiscover/autodiscover.xml"),
        ("nobody@aldermill.example", "The email address can't be found."),
    ],
)
def test_autodiscover_tells_where_a_mailbox_is(client: httpx.Client, world: World, address: str, told: str) -> None:
    reply = client.post("/Autodiscover/Autodiscover.xml", content=pox(address))
    assert told in [text.strip() for text in etree.fromstring(reply.content).itertext()]


def test_autodiscover_wants_to_know_who_asks(port: Port, client: httpx.Client, world: World) -> None:
    assert httpx.post(f"{port.url}/autodiscover/autodiscover.xml", content=pox("here@aldermill.example")).status_code == 401
    moved = client.post("/autodiscover/autodiscover.xml", content=pox("moved@aldermill.example"))
    assert (moved.status_code, moved.headers["location"]) == (302, "https://other.example/autodiscover/autodiscover.xml")
    assert "Invalid Request" in client.post("/autodiscover/autodiscover.xml", content="<a/>").text
