"""A simulated Exchange for tests: a port in front of each test's World, somebody who may ask, and what there is to be asked.

Test modules take the fixtures by name, e.g. `ask = ews_office.ask`.
"""

from collections.abc import Callable, Iterator
from contextlib import closing

import httpx
import pytest
from lxml import etree

from simulator import demo, ews
from simulator.ews import autodiscover as ews_autodiscover, soap as ews_soap
from simulator.serving import Port
from simulator.world import Person, StoredMessage, World
from tests.ews_contract import EwsContract, ews_contract

SERVICE = ews.ServiceAccount("ssi-service", "Impersonate-1!")
PATH = "/EWS/Exchange.asmx"
ADDRESSES: dict[str, ews_autodiscover.Reply] = {
    "here@aldermill.example": ews_autodiscover.Settings("https://mail.aldermill.example/EWS/Exchange.asmx"),
    "renamed@aldermill.example": ews_autodiscover.ToAddress("here@aldermill.example"),
    "elsewhere@aldermill.example": ews_autodiscover.ToUrl("https://other.example/autodiscover/autodiscover.xml"),
    "moved@aldermill.example": ews_autodiscover.Moved("https://other.example/autodiscover/autodiscover.xml"),
}


class Holder:
    """Stands between the port, which lives long, and the World, which is new for each test."""

    world: World


@pytest.fixture(scope="module")
def holder() -> Holder:
    return Holder()


@pytest.fixture(scope="module")
def port(holder: Holder) -> Iterator[Port]:
    def autodiscover(address: str) -> ews_autodiscover.Reply:
        return ADDRESSES.get(address, ews_autodiscover.Unknown())

    with Port(ews.create_app(lambda: holder.world, services=[SERVICE], autodiscover=autodiscover)) as port:
        yield port


@pytest.fixture
def world(holder: Holder) -> World:
    holder.world = demo.small()
    for person in holder.world.people:
        person.access_type = "exchange_direct"
    return holder.world


@pytest.fixture
def me(world: World) -> Person:
    return world.people[0]


@pytest.fixture
def client(port: Port, me: Person) -> Iterator[httpx.Client]:
    with closing(httpx.Client(base_url=port.url, auth=(me.email, me.password), timeout=5)) as client:
        yield client


Ask = Callable[..., etree._Element]


@pytest.fixture
def ask(client: httpx.Client) -> Ask:
    """Send an operation; returns the answer's envelope, which must fit the vendor's schema where that is at hand."""

    def ask(operation: str, header: str = "", version: str = "Exchange2016", client: httpx.Client = client) -> etree._Element:
        reply = client.post(PATH, content=envelope(operation, header, version), headers={"Content-Type": "text/xml"})
        assert reply.status_code in (200, 500), reply.status_code
        root = etree.fromstring(reply.content)
        assert (reply.status_code == 500) == (root.find(".//{*}Fault") is not None)
        return root

    return ask


@pytest.fixture
def contract() -> EwsContract:
    return ews_contract()


def envelope(operation: str, header: str = "", version: str = "Exchange2016") -> bytes:
    return (
        f'<s:Envelope xmlns:s="{ews_soap.SOAP}" xmlns:m="{ews_soap.MESSAGES}" xmlns:t="{ews_soap.TYPES}">'
        f'<s:Header><t:RequestServerVersion Version="{version}"/>{header}</s:Header><s:Body>{operation}</s:Body></s:Envelope>'
    ).encode()


def get_item(*ids: str, shape: str = "<t:BaseShape>IdOnly</t:BaseShape>") -> str:
    items = "".join(f'<t:ItemId Id="{identifier}"/>' for identifier in ids)
    return f"<m:GetItem><m:ItemShape>{shape}</m:ItemShape><m:ItemIds>{items}</m:ItemIds></m:GetItem>"


def fields(*names: str) -> str:
    asked = "".join(
        f'<t:FieldURI FieldURI="{n}"/>' if ":" in n else f'<t:ExtendedFieldURI PropertyTag="{n}" PropertyType="Binary"/>'
        for n in names
    )
    return f"<t:BaseShape>IdOnly</t:BaseShape><t:AdditionalProperties>{asked}</t:AdditionalProperties>"


def find_item(
    restriction: str = "", shape: str = "<t:BaseShape>IdOnly</t:BaseShape>", page: str = "", folder: str = "inbox"
) -> str:
    page = page or '<m:IndexedPageItemView MaxEntriesReturned="100" Offset="0" BasePoint="Beginning"/>'
    return (
        f'<m:FindItem Traversal="Shallow"><m:ItemShape>{shape}</m:ItemShape>{page}{restriction}'
        f'<m:ParentFolderIds><t:DistinguishedFolderId Id="{folder}"/></m:ParentFolderIds></m:FindItem>'
    )


def update(message: StoredMessage, key: str | None, *names: str, resolution: str = "NeverOverwrite") -> str:
    change_key = f' ChangeKey="{key}"' if key else ""
    strings = "".join(f"<t:String>{name}</t:String>" for name in names)
    return (
        f'<m:UpdateItem ConflictResolution="{resolution}" MessageDisposition="SaveOnly"><m:ItemChanges><t:ItemChange>'
        f'<t:ItemId Id="{message.ews_id}"{change_key}/><t:Updates><t:SetItemField><t:FieldURI FieldURI="item:Categories"/>'
        f"<t:Message><t:Categories>{strings}</t:Categories></t:Message></t:SetItemField></t:Updates></t:ItemChange>"
        "</m:ItemChanges></m:UpdateItem>"
    )


def configuration(operation: str, inside: str) -> str:
    prefix = "m" if operation == "GetUserConfiguration" else "t"
    tag = f"{prefix}:UserConfigurationName"
    name = f'<{tag} Name="CategoryList"><t:DistinguishedFolderId Id="calendar"/></{tag}>'
    content = f"{name}{inside}" if prefix == "m" else f"<m:UserConfiguration>{name}{inside}</m:UserConfiguration>"
    return f"<m:{operation}>{content}</m:{operation}>"


def read_list() -> str:
    return configuration("GetUserConfiguration", "<m:UserConfigurationProperties>All</m:UserConfigurationProperties>")


def codes(answer: etree._Element) -> list[str]:
    return [code.text or "" for code in answer.iterfind(".//{*}ResponseCode")]


def key_of(ask: Ask, message: StoredMessage) -> str:
    item = ask(get_item(message.ews_id)).find(".//{*}ItemId")
    assert item is not None
    return str(item.get("ChangeKey"))


def case(world: World, name: str) -> StoredMessage:
    mailbox, identifier = world.cases[name]
    return world.mailbox(mailbox).messages[identifier]
