"""The simulated C4C is as strict as C4C: a test for each line of its checklist (c4c-odata.md section 6) and around it."""

from __future__ import annotations

import base64
import re
import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any
from urllib.parse import quote

import httpx
import pytest
from lxml import etree

from simulator.c4c import ADMIN, create_app
from simulator.c4c.changes import MAX_ATTACHMENT_BYTES
from simulator.c4c.odata import PAGE, PAGE_EXPANDED, SERVICE
from simulator.c4c.records import seed
from simulator.serving import Port
from simulator.world import Fault, Latency, Person, Row, World
from tests.contracts import contract

ORIGIN = "http://c4c.example.com"
ROOT = ORIGIN + SERVICE
ATOM = "{http://www.w3.org/2005/Atom}"
DATA = "{http://schemas.microsoft.com/ado/2007/08/dataservices}"
JSON = {"Accept": "application/json"}


class Caller:
    """A client of the tenant as one person, with a cookie jar of its own."""

    def __init__(self, app: Any, user: str, password: str) -> None:
        transport = httpx.WSGITransport(app=app)
        self.http = httpx.Client(transport=transport, base_url=ROOT, auth=(user, password), headers=JSON, trust_env=False)

    def get(self, path: str, headers: dict[str, str] | None = None, **options: str) -> httpx.Response:
        """GET with system query options: `filter_="..."` becomes $filter."""
        query = "&".join(f"${name.rstrip('_')}={quote(text, safe='')}" for name, text in options.items())
        return self.http.get(f"{path}?{query}" if query else path, headers=headers)

    def rows(self, path: str, **options: str) -> list[dict[str, Any]]:
        response = self.get(path, **options)
        assert response.status_code == 200, response.text
        found: list[dict[str, Any]] = response.json()["d"]["results"]
        return found

    def refusal(self, path: str, **options: str) -> str:
        """The message of a read that must be refused with 400."""
        response = self.get(path, **options)
        assert response.status_code == 400, response.text
        return message(response)

    def token(self) -> str:
        return self.http.get("", headers={"x-csrf-token": "fetch"}).headers["x-csrf-token"]

    def send(self, method: str, path: str, body: Any = None, headers: dict[str, str] | None = None) -> httpx.Response:
        return self.http.request(method, path, json=body, headers={"x-csrf-token": self.token(), **(headers or {})})

    def create(self, entity_set: str, **values: Any) -> dict[str, Any]:
        response = self.send("POST", entity_set, values)
        assert response.status_code == 201, response.text
        created: dict[str, Any] = response.json()["d"]["results"]
        return created

    def batch(self, body: str, boundary: str = "req") -> httpx.Response:
        headers = {"Content-Type": f"multipart/mixed; boundary={boundary}", "x-csrf-token": self.token()}
        return self.http.post("$batch", content=body.encode(), headers=headers)


def message(response: httpx.Response) -> str:
    text: str = response.json()["error"]["message"]["value"]
    return text


@pytest.fixture
def people() -> list[Person]:
    """Two business users and Cy, who is only a colleague."""
    people = []
    for number, name in enumerate(("Ada Byron", "Bob Stone", "Cy Locke"), 1):
        first = name.split()[0]
        oid = f"00000000-0000-4000-8000-{number:012d}"
        person = Person(name, f"{first}@own.example".lower(), oid, first.upper(), f"E{number}", f"pw-{first}")
        person.provisioned = number < 3
        people.append(person)
    return people


@pytest.fixture
def world(people: list[Person]) -> World:
    world = World()
    world.people = people
    return world


@pytest.fixture
def app(world: World) -> Any:
    return create_app(lambda: world, public_url=ORIGIN)


@pytest.fixture
def ada(app: Any) -> Caller:
    return Caller(app, "ADA", "pw-Ada")


@pytest.fixture
def bob(app: Any) -> Caller:
    return Caller(app, "bob@own.example", "pw-Bob")


@pytest.fixture
def account(world: World) -> Row:
    return seed(
        world, "CorporateAccountCollection", Name="Aldermill", RoleCode="CRM000", Email="info@aldermill.example", City="Ulm"
    )


@pytest.fixture
def contact(world: World, account: Row) -> Row:
    name = {"FirstName": "Zoë", "LastName": "O'Hara", "Email": "Zoe.OHara@Aldermill.example"}
    row = seed(world, "ContactCollection", AccountID=account["AccountID"], **name)
    values = {"AccountID": account["AccountID"], "Email": row["Email"], "ReverseMainIndicator": True}
    seed(world, "ContactIsContactPersonForCollection", parent=row, **values)
    return row


@pytest.fixture
def mail(world: World, contact: Row) -> Row:
    row = seed(
        world, "EMailCollection", Subject="Offer", GroupwareItemID="<1@x.example>", MainContactPartyID=contact["ContactID"]
    )
    seed(world, "EMailNotesCollection", parent=row, Text="Hello", TypeCode="10002")
    seed(world, "EMailToRecipientsCollection", parent=row, EMailID="a@x.example", Name="A")
    seed(world, "EMailAttachmentsCollection", parent=row, Name="a.txt", MimeType="text/plain", CategoryCode="2", Binary=b"abc")
    return row


# -- signing in


def test_people_log_on_by_user_id_or_address_and_nobody_else_does(app: Any, world: World) -> None:
    def status(user: str, password: str) -> int:
        return Caller(app, user, password).get("").status_code

    assert [status("ADA", "pw-Ada"), status("ada@own.example", "pw-Ada"), status(*ADMIN)] == [200, 200, 200]
    assert [status("ADA", "wrong"), status("NOBODY", "pw-Ada"), status("CY", "pw-Cy")] == [401, 401, 401]
    world.c4c.locked_users.add("ADA")
    assert status("ADA", "pw-Ada") == 401


@pytest.mark.parametrize("state", ["locked_users", "locked_passwords", "initial_passwords"])
def test_a_password_that_no_longer_opens_is_refused_like_a_wrong_one(app: Any, world: World, state: str) -> None:
    getattr(world.c4c, state).add("ADA")
    right, wrong = (Caller(app, "ADA", password).get("IdentityGetLoggedInUserInfo") for password in ("pw-Ada", "wrong"))
    assert (right.status_code, right.text) == (wrong.status_code, wrong.text)
    assert right.status_code == 401
    getattr(world.c4c, state).clear()
    assert Caller(app, "ADA", "pw-Ada").get("IdentityGetLoggedInUserInfo").status_code == 200


@pytest.mark.parametrize("password", ["pass:word", "Grüße, 你好", '"\\ \t%00&<', " "])
def test_a_password_may_hold_every_character(app: Any, world: World, password: str) -> None:
    world.people[0].password = password
    assert Caller(app, "ADA", password).rows("IdentityGetLoggedInUserInfo")[0]["UserID"] == "ADA"


def test_a_401_is_html_and_asks_for_basic(app: Any) -> None:
    refused = httpx.Client(transport=httpx.WSGITransport(app=app), trust_env=False).get(ROOT)
    assert refused.status_code == 401
    assert refused.headers["WWW-Authenticate"].startswith("Basic")
    assert refused.headers["Content-Type"].startswith("text/html")


def test_who_am_i(ada: Caller) -> None:
    (me,) = ada.rows("IdentityGetLoggedInUserInfo")
    assert (me["UserID"], me["EmployeeID"], me["Email"], me["UserName"]) == ("ADA", "E1", "ada@own.example", "Ada Byron")


# -- CSRF


def test_a_write_needs_the_token_and_its_cookie(ada: Caller, world: World) -> None:
    token = ada.token()
    jar = dict(ada.http.cookies)
    assert ada.http.post("EMailCollection", json={"Subject": "x"}, headers={"x-csrf-token": token}).status_code == 201
    ada.http.cookies.clear()
    for headers, cookies in (({}, jar), ({"x-csrf-token": token}, {}), ({"x-csrf-token": "other"}, jar)):
        ada.http.cookies.clear()
        ada.http.cookies.update(cookies)
        refused = ada.http.post("EMailCollection", json={"Subject": "x"}, headers=headers)
        assert (refused.status_code, refused.text) == (403, "CSRF token validation failed")
        assert refused.headers["x-csrf-token"] == "Required"
    assert len(world.crm.rows("EMailCollection")) == 1


def test_token_and_cookie_come_only_when_asked_for_also_with_data(ada: Caller) -> None:
    plain = ada.get("ContactCollection")
    assert "x-csrf-token" not in plain.headers
    assert "set-cookie" not in plain.headers
    asked = ada.get("ContactCollection", headers={"x-csrf-token": "Fetch"})
    assert asked.headers["x-csrf-token"]
    assert "XSRF" in asked.headers["set-cookie"]


def test_fetching_the_token_on_a_nested_path_breaks_the_service(ada: Caller, mail: Row) -> None:
    path = f"EMailCollection('{mail['ObjectID']}')/EMailNotes"
    assert ada.get(path, headers={"x-csrf-token": "fetch"}).status_code == 500


def test_a_token_is_for_one_user_and_for_half_an_hour(ada: Caller, bob: Caller, world: World) -> None:
    token = ada.token()
    bob.http.cookies.update(ada.http.cookies)
    assert bob.http.post("EMailCollection", json={}, headers={"x-csrf-token": token}).status_code == 403
    world.clock_skew = timedelta(minutes=31)
    assert ada.http.post("EMailCollection", json={}, headers={"x-csrf-token": token}).status_code == 403


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE"])
def test_every_writing_method_and_the_batch_need_the_token(ada: Caller, mail: Row, method: str) -> None:
    assert ada.http.request(method, f"EMailCollection('{mail['ObjectID']}')", json={}).status_code == 403
    assert ada.http.post("$batch", content=b"").status_code == 403


# -- shapes


def test_json_of_a_list(ada: Caller, contact: Row) -> None:
    response = ada.get("ContactCollection", select="ContactID,Email", inlinecount="allpages")
    row = {
        "__metadata": {
            "uri": f"{ROOT}ContactCollection('{contact['ObjectID']}')",
            "type": "c4codata.Contact",
            "etag": etag_of(contact),
        },
        "ContactID": contact["ContactID"],
        "Email": "Zoe.OHara@Aldermill.example",
    }
    assert response.json() == {"d": {"__count": "1", "results": [row]}}
    assert re.fullmatch(r"\d+ ms", response.headers["c4c-odata-response-time"])


def etag_of(row: Row) -> str:
    text = row["ETag"].strftime("%Y-%m-%dT%H%%3A%M%%3A%S.%f")
    return f"W/\"datetimeoffset'{text}0Z'\""


def test_a_single_entity_is_wrapped_in_results_unless_strict_json_is_asked_for(ada: Caller, mail: Row) -> None:
    path = f"EMailCollection('{mail['ObjectID']}')"
    loose = ada.get(path, expand="EMailNotes")
    strict = ada.get(path, headers={"odata-v2-strict-json-format": "true"}, expand="EMailNotes")
    assert loose.json()["d"]["results"]["EMailNotes"][0]["Text"] == "Hello"
    assert strict.json()["d"]["EMailNotes"]["results"][0]["Text"] == "Hello"
    assert loose.headers["etag"] == etag_of(mail)


def test_navigations_are_deferred_until_expanded_and_vanish_with_select(ada: Caller, contact: Row, account: Row) -> None:
    path = f"ContactCollection('{contact['ObjectID']}')"
    whole = ada.get(path).json()["d"]["results"]
    assert whole["CorporateAccount"] == {"__deferred": {"uri": f"{ROOT}{path}/CorporateAccount"}}
    assert "CorporateAccount" not in ada.get(path, select="ContactID", expand="CorporateAccount").json()["d"]["results"]
    two = ada.get(
        path,
        select="ContactIsContactPersonFor/AccountID,ContactIsContactPersonFor/CorporateAccount/Name",
        expand="ContactIsContactPersonFor/CorporateAccount",
    ).json()["d"]["results"]
    (relation,) = two["ContactIsContactPersonFor"]
    assert set(relation) == {"__metadata", "AccountID", "CorporateAccount"}
    assert set(relation["CorporateAccount"]) == {"__metadata", "Name"}
    assert relation["CorporateAccount"]["Name"] == "Aldermill"


def test_navigation_paths_lead_to_children_parents_and_counts(ada: Caller, contact: Row, mail: Row) -> None:
    root = f"EMailCollection('{mail['ObjectID']}')"
    (note,) = ada.rows(f"{root}/EMailNotes")
    assert note["EMailID"] == mail["ID"]
    assert ada.get(f"EMailNotesCollection('{note['ObjectID']}')/EMail").json()["d"]["results"]["ID"] == mail["ID"]
    assert ada.get(f"{root}/EMailNotes/$count").text == "1"
    assert ada.get(f"ContactCollection('{contact['ObjectID']}')/CorporateAccount/Name").json() == {"d": {"Name": "Aldermill"}}


def test_how_values_travel(ada: Caller, world: World, account: Row) -> None:
    closes = datetime(2015, 2, 3, 21, 7, 3, 532842, tzinfo=UTC)
    row = seed(
        world, "OpportunityCollection", Name="Deal", ProspectPartyID=account["AccountID"],
        ExpectedRevenueAmount=Decimal("37"), LifeCycleStatusCode="1", at=closes,
    )  # fmt: skip
    read = ada.get(f"OpportunityCollection('{row['ObjectID']}')")
    body = read.json()["d"]["results"]
    assert body["CreationDateTime"] == "/Date(1422997623532)/"
    assert read.headers["etag"] == "W/\"datetimeoffset'2015-02-03T21%3A07%3A03.5328420Z'\""
    assert body["ExpectedRevenueAmount"] == "37.000000"
    assert re.fullmatch(r"[0-9A-F]{8}(-[0-9A-F]{4}){3}-[0-9A-F]{12}", body["UUID"])
    assert body["UUID"].replace("-", "") == body["ObjectID"]
    assert (body["LifeCycleStatusCodeText"], body["ProspectPartyName"]) == ("Open", "Aldermill")
    assert body["PrimaryContactPartyID"] == ""
    assert body["ExpectedProcessingEndDate"] is None


def test_texts_of_codes_can_be_left_out(ada: Caller, mail: Row) -> None:
    path = f"EMailNotesCollection?$filter=ParentObjectID eq '{mail['ObjectID']}'"
    with_text = ada.http.get(path).json()["d"]["results"][0]
    without = ada.http.get(path, headers={"odata-no-codedescs": "true"}).json()["d"]["results"][0]
    assert with_text["TypeCodeText"] == "Body Text"
    assert "TypeCodeText" not in without
    assert without["TypeCode"] == "10002"


def test_atom_is_the_default(ada: Caller, mail: Row) -> None:
    ada.http.headers["Accept"] = "*/*"
    feed = etree.fromstring(ada.get("EMailCollection").content)
    assert feed.tag == f"{ATOM}feed"
    assert feed.findtext(f".//{DATA}Subject") == "Offer"
    entry = etree.fromstring(ada.get(f"EMailCollection('{mail['ObjectID']}')", expand="EMailNotes").content)
    assert entry.tag == f"{ATOM}entry"
    assert entry.findtext(f".//{DATA}Text") == "Hello"
    assert ada.get("EMailCollection", format="json").json()["d"]["results"][0]["Subject"] == "Offer"
    error = ada.get("NoSuchCollection")
    assert etree.fromstring(error.content).tag.endswith("}error")


def test_service_document_and_metadata(ada: Caller) -> None:
    assert "EMailCollection" in ada.get("").json()["d"]["EntitySets"]
    assert ada.http.get(ROOT.rstrip("/")).status_code == 404
    whole = etree.fromstring(ada.get("$metadata").content)
    cut = etree.fromstring(ada.http.get("$metadata?$filter=EMail&sap-label=true").content)
    names = [[e.get("Name") for e in root.iter("{*}EntityType")] for root in (whole, cut)]
    assert "Contact" in names[0]
    assert "Contact" not in names[1]
    assert {"EMail", "EMailNotes"} <= set(names[1])
    label = "{http://www.sap.com/Protocols/SAPData}label"
    assert [any(e.get(label) for e in root.iter("{*}Property")) for root in (whole, cut)] == [False, True]


def test_the_error_body_is_that_of_the_captured_reply(ada: Caller) -> None:
    captured = httpx.Response(400, content=contract("c4c/captured/c4c_error.json").read_bytes()).json()
    error = ada.get("ContactCollection", filter_="Email eq").json()
    assert error.keys() == captured.keys()
    assert error["error"].keys() == captured["error"].keys()
    assert error["error"]["message"].keys() == captured["error"]["message"].keys()
    assert error["error"]["code"] == ""
    assert error["error"]["message"]["value"] == "Invalid token found at position 8"


# -- reading


@pytest.fixture
def crowd(world: World, account: Row) -> list[Row]:
    rows = []
    for number in range(6):
        values = {
            "FirstName": f"N{number}",
            "LastName": "Cro'wd",
            "Email": f"n{number}@crowd.example",
            "Mobile": "+49 1" * (number % 2),
        }
        rows.append(seed(world, "ContactCollection", at=datetime(2020, 1, 1 + number, tzinfo=UTC), **values))
    return rows


def emails(rows: list[dict[str, Any]]) -> list[str]:
    return sorted(row["Email"][:2] for row in rows)


@pytest.mark.parametrize(
    ("condition", "expected"),
    [
        ("Email eq 'n1@crowd.example'", ["n1"]),
        ("Email eq 'N1@crowd.example'", []),  # exact case
        ("(Email eq 'n1@crowd.example' or Email eq 'n2@crowd.example') and LastName eq 'Cro''wd'", ["n1", "n2"]),
        ("Email eq '*2@crowd*'", ["n2"]),
        ("startswith(Email,'n3')", ["n3"]),
        ("endswith(FirstName,'4') eq true", ["n4"]),
        ("EntityLastChangedOn ge datetimeoffset'2020-01-05T00:00:00Z'", ["n4", "n5"]),
        ("EntityLastChangedOn gt datetimeoffset'2020-01-05T00:00:00.0000000Z'", ["n5"]),
        ("EntityLastChangedOn le datetimeoffset'2020-01-02T01:00:00+01:00'", ["n0", "n1"]),
        ("EntityLastChangedOn lt datetimeoffset'2020-01-02T00:00:00Z'", ["n0"]),
        ("Mobile ne ''", ["n1", "n3", "n5"]),
        ("Mobile eq '' and FirstName ne 'N0'", ["n2", "n4"]),
        ("FirstName ge 'N1' and FirstName lt 'N3'", ["n1", "n2"]),
        ("EmailInvalidIndicator eq false and FirstName eq 'N1'", ["n1"]),
    ],
)
def test_filter(ada: Caller, crowd: list[Row], condition: str, expected: list[str]) -> None:
    assert emails(ada.rows("ContactCollection", filter_=condition)) == expected


def test_filter_by_guid(ada: Caller, crowd: list[Row]) -> None:
    first = crowd[0]["ObjectID"]
    dashed = f"{first[:8]}-{first[8:12]}-{first[12:16]}-{first[16:20]}-{first[20:]}"
    assert emails(ada.rows("ContactCollection", filter_=f"ContactUUID eq guid'{dashed}'")) == ["n0"]


@pytest.mark.parametrize(
    ("condition", "reason"),
    [
        ("Email eq 'a' or FirstName eq 'b'", "same property"),
        ("(Email eq 'a' and FirstName eq 'b') or Email eq 'c'", "same property"),
        ("CorporateAccount/Name eq 'a'", "Navigation"),
        ("ContactIsContactPersonFor eq 'a'", "Navigation"),
        ("ETag ge datetimeoffset'2020-01-01T00:00:00Z'", "not filterable"),
        ("email eq 'a'", "does not exist"),
        ("tolower(Email) eq 'a'", "not supported"),
        ("substringof('a',Email)", "not supported"),
        ("not (Email eq 'a')", "not supported"),
        ("Email eq a", "Invalid token"),
        ("Email eq 'a", "Invalid token"),
        ("'a' eq Email", "Invalid token"),
        ("Email contains 'a'", "Invalid token"),
        ("(Email eq 'a'", "Invalid token"),
        ("Email eq 5", "Invalid value"),
        ("EntityLastChangedOn ge datetime'2020-01-01T00:00:00'", "Invalid value"),
        ("EntityLastChangedOn ge '2020-01-01'", "Invalid value"),
        ("EntityLastChangedOn ge datetimeoffset'2020-13-01T00:00:00Z'", "Invalid value"),
        ("ContactUUID eq 'x'", "Invalid value"),
        ("startswith('a',Email)", "Invalid token"),
    ],
)
def test_filters_that_c4c_refuses(ada: Caller, crowd: list[Row], condition: str, reason: str) -> None:
    assert reason in ada.refusal("ContactCollection", filter_=condition)


@pytest.mark.parametrize(
    "query",
    ["$count=true", "$apply=x", "select=ContactID", "$top=-1", "$top=x", "$inlinecount=true", "$format=csv", "$select=contactid",
     "$select=ContactID,Nope", "$expand=Nope", "$expand=Email", "$orderby=Nope", "$orderby=Email+up", "$top=1&$top=2"],
)  # fmt: skip
def test_query_options_that_c4c_refuses(ada: Caller, query: str) -> None:
    assert ada.http.get(f"ContactCollection?{query}").status_code == 400


def test_count_true_is_refused_in_c4cs_words(ada: Caller) -> None:
    assert ada.refusal("ContactCollection", count="true") == "'$count' is not a valid system query option"


def test_order_top_and_skip(ada: Caller, crowd: list[Row]) -> None:
    rows = ada.rows("ContactCollection", orderby="Mobile desc,FirstName asc", top="3", skip="2", select="FirstName")
    assert [row["FirstName"] for row in rows] == ["N5", "N0", "N2"]
    assert ada.get("ContactCollection/$count").text == "6"
    assert ada.http.get("ContactCollection/$count?$filter=FirstName eq 'N1'").text == "1"


def test_without_an_order_every_read_has_its_own(ada: Caller, crowd: list[Row]) -> None:
    orders = {tuple(row["ObjectID"] for row in ada.rows("ContactCollection", select="ObjectID")) for _ in range(8)}
    assert len(orders) > 1
    paged = [row["ObjectID"] for skip in range(6) for row in ada.rows("ContactCollection", top="1", skip=str(skip))]
    assert len(set(paged)) < 6


def test_a_page_has_1000_rows_and_the_next_one_is_linked(ada: Caller, world: World) -> None:
    for number in range(PAGE + 5):
        seed(world, "LeadCollection", Name=f"L{number}", ID=f"{number:05d}")
    options = {"orderby": "ID", "select": "ID", "filter_": "ID ne ''", "inlinecount": "allpages"}
    first = ada.get("LeadCollection", **options).json()["d"]
    assert (len(first["results"]), first["__count"]) == (PAGE, str(PAGE + 5))
    assert "$skiptoken=1001" in first["__next"]
    second = ada.http.get(first["__next"]).json()["d"]
    assert [row["ID"] for row in second["results"]] == [f"{number:05d}" for number in range(PAGE, PAGE + 5)]
    assert "__next" not in second
    expanded = ada.get("LeadCollection", orderby="ID", select="ID", expand="LeadParty").json()["d"]
    assert len(expanded["results"]) == PAGE_EXPANDED
    assert "$skiptoken=101" in expanded["__next"]


def test_search_finds_whole_words(ada: Caller, contact: Row) -> None:
    def found(text: str) -> int:
        return len(ada.rows("ContactCollection", search=text))

    assert [found("O'Hara"), found("Zo*"), found("Zoë O'Hara"), found("Har"), found("Zoë Nobody")] == [1, 1, 1, 0, 0]
    assert len(ada.rows("ContactCollection", search="Zoë", filter_="LastName eq 'x'")) == 0


def test_an_unknown_resource_or_key_is_404(ada: Caller, mail: Row) -> None:
    assert ada.get("NopeCollection").status_code == 404
    assert ada.get(f"EMailCollection('{'0' * 32}')").status_code == 404
    assert ada.get(f"EMailCollection('{mail['ObjectID']}')/Nope").status_code == 404
    assert ada.get("EMailCollection(4711)").status_code == 400


def test_the_url_may_not_be_too_long_but_a_batch_has_no_such_limit(ada: Caller, contact: Row) -> None:
    terms = " or ".join(f"Email eq 'n{number}@long.example'" for number in range(400))
    assert ada.get("ContactCollection", filter_=terms).status_code == 414
    reply = ada.batch(get_part(f"ContactCollection?$filter={quote(terms)}&$format=json") + "--req--\r\n")
    assert '"results":[]' in reply.text


def test_code_lists_are_read_like_any_set(ada: Caller) -> None:
    listed = {row["Description"]: row["Code"] for row in ada.rows("EMailDirectionCollection")}
    assert set(listed) == {"Inbound", "Outbound"}
    assert ada.rows("EMailNotesTypeCodeCollection", select="Code", top="1")[0].keys() == {"__metadata", "Code"}
    states = ada.rows("ContactBusinessAddressStateCodeCollection", filter_="Context eq 'DE'")
    assert {"Context": "DE", "Code": "BY"}.items() <= next(row for row in states if row["Code"] == "BY").items()


def test_an_attachment_is_listed_with_its_content_and_downloadable(ada: Caller, mail: Row) -> None:
    (row,) = ada.rows("EMailAttachmentsCollection", filter_=f"ParentObjectID eq '{mail['ObjectID']}'")
    assert row["Binary"] == base64.b64encode(b"abc").decode()
    assert row["DocumentLink"] == f"{ROOT}EMailAttachmentsCollection('{row['ObjectID']}')/Binary/$value"
    download = ada.http.get(row["DocumentLink"])
    assert (download.content, download.headers["Content-Type"]) == (b"abc", "text/plain")


def test_a_contact_and_its_account_show_the_same_relation(ada: Caller, contact: Row, account: Row) -> None:
    path = f"CorporateAccountCollection('{account['ObjectID']}')/CorporateAccountHasContactPerson"
    (seen,) = ada.rows(path, expand="Contact")
    assert (seen["ContactID"], seen["ContactFormattedName"]) == (contact["ContactID"], "Zoë O'Hara")
    assert seen["Contact"]["ObjectID"] == contact["ObjectID"]


def test_employees_are_the_people_of_the_company(ada: Caller) -> None:
    (bob,) = ada.rows("EmployeeBasicDataCollection", filter_="Email eq 'bob@own.example'", expand="BusinessUser")
    assert (bob["FormattedName"], bob["UserID"]) == ("Bob Stone", "BOB")
    assert bob["BusinessUser"]["EmailURI"] == "bob@own.example"
    assert ada.send("PATCH", f"EmployeeBasicDataCollection('{bob['ObjectID']}')", {}).status_code == 405


def test_only_the_administrator_changes_users(ada: Caller, app: Any, world: World) -> None:
    (row,) = ada.rows("BusinessUserCollection", filter_="UserID eq 'BOB'")
    path = f"BusinessUserCollection('{row['ObjectID']}')"
    assert ada.send("PATCH", path, {"TimeZoneCode": "CET"}).status_code == 403
    assert Caller(app, *ADMIN).send("PATCH", path, {"TimeZoneCode": "CET"}).status_code == 204
    world.c4c.locked_users.add("BOB")
    assert ada.get(path).json()["d"]["results"]["UserLockedIndicator"] is True


# -- function imports


def test_check_email_by_groupware_id(ada: Caller, mail: Row) -> None:
    def known(key: str, headers: dict[str, str] | None = None) -> Any:
        return ada.send("POST", f"CheckEmailByGroupwareID?GroupwareItemID='{quote(key)}'", None, headers).json()["d"]

    assert known("<1@x.example>") == {"results": {"CheckEmailByGroupwareID": True}}
    assert known("<2@x.example>") == {"results": {"CheckEmailByGroupwareID": False}}
    assert known("<1@x.example>", {"odata-v2-strict-json-format": "true"}) == {"CheckEmailByGroupwareID": True}
    assert ada.get("CheckEmailByGroupwareID").status_code == 405


def test_contact_query_gives_a_row_per_account_and_for_no_address_the_first_row(
    ada: Caller, world: World, contact: Row, crowd: list[Row]
) -> None:
    other = seed(world, "CorporateAccountCollection", Name="Second", RoleCode="CRM000")
    seed(world, "ContactIsContactPersonForCollection", parent=contact, AccountID=other["AccountID"], Email=contact["Email"])
    address = quote(contact["Email"])
    rows = ada.http.get(f"ContactQueryByElements?EMailURI='{address}'&$select=ContactID,AccountID").json()["d"]["results"]
    assert {row["AccountID"] for row in rows} == {contact["AccountID"], other["AccountID"]}
    assert len(ada.http.get("ContactQueryByElements?EMailURI=''").json()["d"]["results"]) == 1
    assert ada.http.get("ContactQueryByElements?EMailURI=x").status_code == 400


# -- writing


def test_deep_insert_makes_header_and_children_and_answers_with_the_header(
    ada: Caller, world: World, contact: Row, account: Row
) -> None:
    opportunity = seed(world, "OpportunityCollection", Name="Deal", ProspectPartyID=account["AccountID"])
    response = ada.send(
        "POST",
        "EMailCollection",
        {
            "Subject": "Re: Offer",
            "Direction": "3",
            "DateTime": "2015-10-22T00:00:00",
            "GroupwareItemID": "<9@x.example>",
            "MessageFromEmailURI": "a@x.example",
            "MainAccountPartyID": account["AccountID"],
            "MainContactPartyID": contact["ContactID"],
            "OwnerPartyID": "E1",
            "EMailToRecipients": [{"EMailID": "b@x.example", "Name": "B"}],
            "EMailNotes": {"results": [{"Text": "Hello", "TypeCode": "10002"}]},
            "EMailInvolvedParties": [{"PartyID": contact["ContactID"], "RoleCode": "1015"}],
            "EMailBTDReference": [{"ID": opportunity["ID"], "TypeCode": "72", "RoleCode": "1"}],
            "EMailAttachments": [
                {"Name": "a.txt", "MimeType": "text/plain", "TypeCode": "10001", "CategoryCode": "2", "Binary": "YWJj"}
            ],
        },
    )
    assert response.status_code == 201
    created = response.json()["d"]["results"]
    assert response.headers["location"] == f"{ROOT}EMailCollection('{created['ObjectID']}')"
    assert response.headers["etag"] == created["__metadata"]["etag"]
    assert created["EMailNotes"]["__deferred"]["uri"].endswith("/EMailNotes")
    assert re.fullmatch(r"\d+", created["ID"])
    assert created["DateTime"] == "/Date(1445472000000)/"
    assert (created["AccountName"], created["PrimaryContactName"], created["OwnerName"]) == (
        "Aldermill",
        "Zoë O'Hara",
        "Ada Byron",
    )
    assert created["DirectionText"] == "Inbound"
    kinds = [(event.kind, event.actor, event.detail["set"]) for event in world.events("c4c")]
    assert kinds[0] == ("create", "ADA", "EMailCollection")
    assert len(kinds) == 6
    header, attachment = world.events("c4c")[0].detail, world.events("c4c")[-1].detail
    assert header == {"set": "EMailCollection", "id": created["ObjectID"], "groupware_item_id": "<9@x.example>"}
    assert (attachment["name"], attachment["parent"]) == ("a.txt", created["ObjectID"])
    (party,) = world.crm.rows("EMailInvolvedPartiesCollection").values()
    assert party["PartyTypeCode"]


def test_a_deep_insert_with_one_bad_child_leaves_nothing(ada: Caller, world: World) -> None:
    body = {"Subject": "x", "EMailNotes": [{"Text": "good", "TypeCode": "10002"}, {"Text": "bad", "TypeCode": "99999"}]}
    assert "99999" in message(ada.send("POST", "EMailCollection", body))
    assert not any(world.crm.sets.get(name) for name in ("EMailCollection", "EMailNotesCollection"))
    assert world.events("c4c") == []


def test_the_same_groupware_id_twice_makes_two_records(ada: Caller, world: World) -> None:
    for _ in range(2):
        ada.create("EMailCollection", Subject="x", GroupwareItemID="<1@x.example>")
    assert len(list(world.saved_activities("<1@x.example>"))) == 2


def test_no_response_payload(ada: Caller) -> None:
    response = ada.send("POST", "EMailCollection", {"Subject": "x"}, {"odata-no-response-payload": "true"})
    assert (response.status_code, response.content) == (201, b"")
    assert response.headers["location"]


def test_children_are_posted_with_the_parents_id_its_number_or_its_path(ada: Caller, world: World, mail: Row) -> None:
    before = mail["ETag"]
    note = {"Text": "x", "TypeCode": "10002"}
    ada.create("EMailNotesCollection", ParentObjectID=mail["ObjectID"], **note)
    ada.create("EMailNotesCollection", EMailID=mail["ID"], **note)
    ada.create("EMailToRecipientsCollection", EMailParentID=mail["ID"], EMailID="q@x.example")
    ada.create(f"EMailCollection('{mail['ObjectID']}')/EMailNotes", **note)
    assert len(world.crm.children("EMailNotesCollection", mail["ObjectID"])) == 4
    assert mail["ETag"] > before
    assert "ParentObjectID" in message(ada.send("POST", "EMailNotesCollection", note))
    assert ada.send("POST", "EMailNotesCollection", {"ParentObjectID": "0" * 32, **note}).status_code == 404


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ({"Nope": 1}, "does not exist"),
        ({"TicketID": "1"}, "not creatable"),
        ({"StatusText": "Open"}, "not creatable"),
        ({"Subject": "x" * 766}, "maximum length of 765"),
        ({"Subject": 5}, "Invalid value"),
        ({"DateTime": "yesterday"}, "Invalid value"),
        ({"Account": "x"}, "Invalid value"),
        ({"Direction": "1"}, "Code 1 is not valid"),
        ({"MainAccountPartyID": "4711"}, "Party 4711"),
        ({"EMailNotes": {"Text": "x"}}, "EMailNotes"),
        ({"EMailNotes": "x"}, "EMailNotes"),
        ({"EMailInvolvedParties": [{"PartyID": "4711"}]}, "Party 4711"),
        ({"EMailInvolvedParties": [{"PartyTypeCode": "147"}]}, "not creatable"),
        ({"EMailBTDReference": [{"ID": "4711", "TypeCode": "72"}]}, "4711"),
        ({"EMailAttachments": [{"Name": "a", "MimeType": "text/plain", "Binary": "YQ=="}]}, "mandatory"),
        ({"EMailAttachments": [{"Name": "a", "MimeType": "", "CategoryCode": "2", "Binary": "YQ=="}]}, "MimeType"),
        ({"EMailAttachments": [{"Name": "a", "MimeType": None, "CategoryCode": "2", "Binary": "YQ=="}]}, "MimeType"),
        ({"EMailAttachments": [{"Name": "a", "CategoryCode": "2", "Binary": "no base64!"}]}, "base64"),
    ],
)
def test_creations_that_c4c_refuses(ada: Caller, world: World, body: dict[str, Any], reason: str) -> None:
    response = ada.send("POST", "EMailCollection", body)
    assert response.status_code == 400
    assert reason in message(response)
    assert not world.crm.sets.get("EMailCollection")


def test_object_id_in_a_creation_is_ignored(ada: Caller) -> None:
    assert ada.create("EMailCollection", ObjectID="MINE", Subject="x")["ObjectID"] != "MINE"


def test_mandatory_fields_may_not_be_missing_or_emptied(ada: Caller, contact: Row) -> None:
    assert "LastName" in message(ada.send("POST", "ContactCollection", {"FirstName": "A"}))
    path = f"ContactCollection('{contact['ObjectID']}')"
    assert "LastName" in message(ada.send("PATCH", path, {"LastName": ""}))


def test_attachments_have_a_largest_size_and_tell_their_size_where_the_type_has_it(ada: Caller, contact: Row, mail: Row) -> None:
    file = {"Name": "a.bin", "MimeType": "application/octet-stream", "CategoryCode": "2", "TypeCode": "10001"}
    sent = ada.create(
        "ContactAttachmentFolderCollection",
        ParentObjectID=contact["ObjectID"],
        Binary=base64.b64encode(b"x" * 1536).decode(),
        **file,
    )
    assert sent["SizeInkB"] == "1.50000000000000"
    large = base64.b64encode(bytes(MAX_ATTACHMENT_BYTES + 1)).decode()
    refused = ada.send("POST", "EMailAttachmentsCollection", {"ParentObjectID": mail["ObjectID"], "Binary": large, **file})
    assert "larger" in message(refused)


def test_patch_merges_and_put_replaces(ada: Caller, contact: Row) -> None:
    path = f"ContactCollection('{contact['ObjectID']}')"
    changed = ada.send("PATCH", path, {"JobTitle": "Buyer"})
    assert (changed.status_code, changed.content) == (204, b"")
    assert (contact["JobTitle"], contact["FirstName"]) == ("Buyer", "Zoë")
    assert ada.send("PUT", path, {"LastName": "Only"}).status_code == 204
    row = ada.get(path).json()["d"]["results"]
    assert (row["LastName"], row["FirstName"], row["ContactID"]) == ("Only", "", contact["ContactID"])
    assert row["ChangedBy"] == "Ada Byron"


def test_a_property_that_is_not_updatable_may_only_be_repeated(ada: Caller, contact: Row) -> None:
    path = f"ContactCollection('{contact['ObjectID']}')"
    body = {"ContactID": contact["ContactID"], "StatusCodeText": "whatever", "ETag": "/Date(0)/", "JobTitle": "Buyer"}
    assert ada.send("PATCH", path, body).status_code == 204
    assert "not updatable" in message(ada.send("PATCH", path, {"ContactID": "1"}))
    assert "ContactIsContactPersonFor" in message(ada.send("PATCH", path, {"ContactIsContactPersonFor": []}))


def test_if_match(ada: Caller, contact: Row) -> None:
    path = f"ContactCollection('{contact['ObjectID']}')"
    etag = ada.get(path).headers["etag"]
    assert ada.send("PATCH", path, {"JobTitle": "A"}, {"If-Match": etag}).status_code == 204
    stale = ada.send("PATCH", path, {"JobTitle": "B"}, {"If-Match": etag})
    assert (stale.status_code, contact["JobTitle"]) == (412, "A")
    assert ada.send("PATCH", path, {"JobTitle": "C"}, {"If-Match": "*"}).status_code == 204
    assert ada.get(path).headers["etag"] != etag


def test_an_activity_can_be_deleted_with_its_children_but_no_master_data(
    ada: Caller, world: World, mail: Row, contact: Row
) -> None:
    path = f"EMailCollection('{mail['ObjectID']}')"
    assert (
        ada.send("DELETE", path, None, {"If-Match": "W/\"datetimeoffset'2000-01-01T00%3A00%3A00.0000000Z'\""}).status_code == 412
    )
    assert ada.send("DELETE", path).status_code == 204
    assert ada.get(path).status_code == 404
    assert not world.crm.rows("EMailNotesCollection")
    assert [event.kind for event in world.events("c4c")] == ["delete"]
    assert ada.send("DELETE", f"ContactCollection('{contact['ObjectID']}')").status_code == 405
    assert contact["ObjectID"] in world.crm.rows("ContactCollection")


def test_a_new_contact_of_an_account_becomes_its_contact_person(ada: Caller, account: Row) -> None:
    created = ada.create("ContactCollection", LastName="New", AccountID=account["AccountID"], Email="new@aldermill.example")
    (relation,) = ada.rows(f"ContactCollection('{created['ObjectID']}')/ContactIsContactPersonFor")
    assert (relation["AccountID"], relation["Email"], relation["ReverseMainIndicator"]) == (
        account["AccountID"],
        "new@aldermill.example",
        True,
    )
    assert created["AccountFormattedName"] == "Aldermill"


def test_a_contact_person_can_be_added_from_the_accounts_side(ada: Caller, world: World, crowd: list[Row], account: Row) -> None:
    path = f"CorporateAccountCollection('{account['ObjectID']}')/CorporateAccountHasContactPerson"
    made = ada.create(path, ContactID=crowd[0]["ContactID"], MainIndicator=True)
    assert (made["ContactID"], made["AccountID"], made["MainIndicator"]) == (crowd[0]["ContactID"], account["AccountID"], True)
    (relation,) = world.crm.children("ContactIsContactPersonForCollection", crowd[0]["ObjectID"])
    assert relation["AccountID"] == account["AccountID"]
    side = f"CorporateAccountHasContactPersonCollection('{made['ObjectID']}')"
    assert ada.send("PATCH", side, {"MainIndicator": False, "JobTitle": "Buyer"}).status_code == 204
    seen = ada.get(side).json()["d"]["results"]
    assert (seen["MainIndicator"], seen["JobTitle"], relation["JobTitle"]) == (False, "Buyer", "Buyer")
    assert ada.send("DELETE", side).status_code == 204
    assert not world.crm.children("ContactIsContactPersonForCollection", crowd[0]["ObjectID"])


def test_a_uuid_of_the_callers_is_kept_is_the_object_id_and_is_taken_once(ada: Caller) -> None:
    uuid = "0A1B2C3D-0000-4000-8000-0123456789AB"
    made = ada.create("CorporateAccountCollection", Name="Mine", RoleCode="CRM000", UUID=uuid.lower())
    assert (made["UUID"], made["ObjectID"]) == (uuid, uuid.replace("-", ""))
    assert [row["Name"] for row in ada.rows("CorporateAccountCollection", filter_=f"UUID eq guid'{uuid}'")] == ["Mine"]
    again = ada.send("POST", "CorporateAccountCollection", {"Name": "Again", "RoleCode": "CRM000", "UUID": uuid})
    assert (again.status_code, "already exists" in message(again)) == (400, True)
    contact = ada.send("POST", "ContactCollection", {"LastName": "x", "ContactUUID": uuid})
    assert "not creatable" in message(contact)


def test_a_region_of_a_contact_is_a_code_or_else_a_text(ada: Caller, contact: Row) -> None:
    path = f"ContactCollection('{contact['ObjectID']}')"

    def region(**values: str) -> tuple[str, str]:
        assert ada.send("PATCH", path, {f"BusinessAddress{name}": value for name, value in values.items()}).status_code == 204
        row = ada.get(path).json()["d"]["results"]
        return row["BusinessAddressStateCode"], row["BusinessAddressStateCodeTextUpdatable"]

    assert region(CountryCode="DE", StateCode="BY") == ("BY", "Bavaria")
    assert region(StateCodeTextUpdatable="hesse") == ("HE", "Hesse")
    assert region(StateCodeTextUpdatable="Upper Nowhere") == ("", "Upper Nowhere")
    assert region(StateCode="BE") == ("BE", "Berlin")
    assert region(StateCodeTextUpdatable="") == ("", "")


def test_names_follow_what_they_are_made_of(ada: Caller, contact: Row, account: Row) -> None:
    contact["Name"] = "As it was in the demo data"
    path = f"ContactCollection('{contact['ObjectID']}')"
    assert ada.send("PATCH", path, {"LastName": "Bell", "AccountID": ""}).status_code == 204
    row = ada.get(path).json()["d"]["results"]
    assert (row["Name"], row["AccountFormattedName"]) == ("Zoë Bell", "")
    (relation,) = ada.rows(f"{path}/ContactIsContactPersonFor")
    assert relation["ReverseMainIndicator"] is False
    path = f"CorporateAccountCollection('{account['ObjectID']}')"
    assert ada.send("PATCH", path, {"Name": "Elder", "AdditionalName": "Mill"}).status_code == 204
    assert ada.get(path).json()["d"]["results"]["BusinessPartnerFormattedName"] == "Elder Mill"


@pytest.mark.parametrize("method", ["POST", "PATCH", "DELETE"])
def test_a_change_of_a_text_or_an_address_is_a_change_of_the_contact(
    ada: Caller, world: World, contact: Row, method: str
) -> None:
    text = seed(world, "ContactTextCollectionCollection", parent=contact, Text="Before")
    before, tag = contact["EntityLastChangedOn"], ada.get(f"ContactCollection('{contact['ObjectID']}')").headers["etag"]
    if method == "POST":
        ada.create("ContactPersonalAddressCollection", ParentObjectID=contact["ObjectID"], City="Ulm")
    else:
        body = {"Text": "After"} if method == "PATCH" else None
        assert ada.send(method, f"ContactTextCollectionCollection('{text['ObjectID']}')", body).status_code == 204
    assert contact["EntityLastChangedOn"] > before
    assert ada.get(f"ContactCollection('{contact['ObjectID']}')").headers["etag"] != tag


def test_bodies_must_be_one_json_object(ada: Caller) -> None:
    token = {"x-csrf-token": ada.token()}
    assert (
        ada.http.post("EMailCollection", content=b"{", headers={**token, "Content-Type": "application/json"}).status_code == 400
    )
    assert ada.http.post("EMailCollection", json=[], headers=token).status_code == 400
    assert (
        ada.http.post(
            "EMailCollection", content=b"<entry/>", headers={**token, "Content-Type": "application/atom+xml"}
        ).status_code
        == 415
    )


# -- who sees what


def test_a_record_that_is_not_visible_does_not_exist(ada: Caller, bob: Caller, app: Any, world: World, mail: Row) -> None:
    world.crm.visible_to[mail["ObjectID"]] = frozenset({"ADA"})
    path = f"EMailCollection('{mail['ObjectID']}')"
    assert [ada.get(path).status_code, bob.get(path).status_code] == [200, 404]
    assert Caller(app, *ADMIN).get(path).status_code == 200
    assert bob.rows("EMailCollection") == []
    assert bob.rows("EMailNotesCollection") == []
    assert bob.get(f"EMailNotesCollection('{next(iter(world.crm.rows('EMailNotesCollection')))}')").status_code == 404
    assert bob.get(f"{path}/EMailNotes").status_code == 404
    assert bob.send("PATCH", path, {"Subject": "x"}).status_code == 404
    assert bob.send("DELETE", path).status_code == 404
    note = {"ParentObjectID": mail["ObjectID"], "Text": "x", "TypeCode": "10002"}
    assert bob.send("POST", "EMailNotesCollection", note).status_code == 404
    asked = bob.send("POST", f"CheckEmailByGroupwareID?GroupwareItemID='{quote('<1@x.example>')}'")
    assert asked.json()["d"]["results"]["CheckEmailByGroupwareID"] is False


def test_expand_shows_nothing_hidden(bob: Caller, world: World, contact: Row, account: Row) -> None:
    world.crm.visible_to[account["ObjectID"]] = frozenset({"ADA"})
    (row,) = bob.rows("ContactCollection", expand="CorporateAccount,ContactIsContactPersonFor/CorporateAccount")
    assert row["CorporateAccount"] is None
    assert row["ContactIsContactPersonFor"][0]["CorporateAccount"] is None


# -- batch


def get_part(target: str, headers: str = "") -> str:
    head = "--req\r\nContent-Type: application/http\r\nContent-Transfer-Encoding: binary\r\n\r\n"
    return f"{head}GET {target} HTTP/1.1\r\n{headers}\r\n\r\n"


def changeset(*changes: tuple[str, str, str], extra: str = "") -> str:
    inner = ""
    for method, target, body in changes:
        inner += "--chg\r\nContent-Type: application/http\r\nContent-Transfer-Encoding: binary\r\n\r\n"
        headers = f"Content-Type: application/json\r\n{extra}Content-Length: {len(body) + 20}\r\n"
        inner += f"{method} {target} HTTP/1.1\r\n{headers}\r\n{body}\r\n"
    return f"--req\r\nContent-Type: multipart/mixed; boundary=chg\r\n\r\n{inner}--chg--\r\n\r\n"


def test_a_batch_answers_in_the_bytes_of_the_captured_replies(ada: Caller, world: World, contact: Row) -> None:
    body = get_part("ContactCollection?$select=ObjectID&$format=json") + get_part(
        "ContactCollection?$select=ObjectID&$inlinecount=allpages&$format=json"
    )
    for _ in range(2):
        body += changeset(("POST", "EMailCollection", '{"Subject":"x"}'), extra="Content-ID: 1\r\n")
    reply = ada.batch(body + "--req--\r\n")
    assert reply.status_code == 202
    assert reply.headers["Content-Type"] == "multipart/mixed; boundary=ejjeeffe0"
    captured = contract("c4c/captured/c4c_batch_gets_and_posts.multipart").read_bytes().replace(b"\n", b"\r\n")
    assert skeleton(reply.content) == skeleton(captured)
    assert b"content-id" not in reply.content.lower()
    assert_lengths_hold(reply.content)
    assert len(world.crm.rows("EMailCollection")) == 2
    assert world.requests("c4c")[-1].parts == (
        "GET ContactCollection",
        "GET ContactCollection",
        "POST EMailCollection",
        "POST EMailCollection",
    )


def skeleton(content: bytes) -> list[bytes]:
    """The lines of a batch answer without what differs: lengths, the location's URL, bodies and the ETag that some parts lack."""
    lines = []
    for line in content.split(b"\r\n"):
        if line.lower().startswith(b"etag:"):
            continue
        line = re.sub(rb"(?i)(content-length:\s*)\d+", rb"\g<1>N", line)
        lines.append(re.sub(rb"^location: .*", b"location: U", re.sub(rb"^\{.*", b"{}", line)))
    return [re.sub(rb"Content-Length:\s+N", b"Content-Length: N", line) for line in lines]


def assert_lengths_hold(content: bytes) -> None:
    for match in re.finditer(rb"Content-Type: application/http\r\nContent-Length: (\d+)\r\n[^\r]+\r\n\r\n", content):
        rest = content[match.end() + int(match[1]) :]
        assert rest.startswith(b"\r\n--ejjeeffe"), match[0]
    for match in re.finditer(rb"boundary=ejjeeffe1\r\nContent-Length: +(\d+)\r\n\r\n", content):
        assert content[match.end() :][: int(match[1])].endswith(b"--ejjeeffe1--\r\n")


def test_a_get_only_batch_has_the_captured_form_too(ada: Caller, contact: Row) -> None:
    reply = ada.batch(
        get_part("ContactCollection?$select=ObjectID&$format=json")
        + get_part("ContactCollection?$select=ObjectID&$inlinecount=allpages&$format=json")
        + "--req--\r\n"
    )
    captured = contract("c4c/captured/c4c_batch_gets.multipart").read_bytes().replace(b"\n", b"\r\n")
    assert skeleton(reply.content) == skeleton(captured)


def test_errors_inside_a_batch_stay_in_their_part(ada: Caller, contact: Row) -> None:
    good, bad = "ContactCollection?$select=ObjectID", "ContactCollection?$filter=nope"
    reply = ada.batch(
        get_part(bad, "Accept: application/json\r\n") + get_part(good, "Accept: application/json\r\n") + "--req--\r\n"
    )
    assert reply.status_code == 202
    assert reply.text.count("HTTP/1.1 400 Bad Request") == 1
    assert reply.text.count("HTTP/1.1 200 OK") == 1
    assert '{"error":{"code":""' in reply.text


def test_a_changeset_is_all_or_nothing(ada: Caller, world: World, contact: Row) -> None:
    path = f"ContactCollection('{contact['ObjectID']}')"
    body = changeset(
        ("PATCH", path, '{"JobTitle":"Buyer"}'),
        ("POST", "EMailCollection", '{"Subject":"x","EMailNotes":[{"Text":"t","TypeCode":"10002"}]}'),
        ("POST", "EMailCollection", '{"Nope":"x"}'),
    )
    etag = ada.get(path).headers["etag"]
    reply = ada.batch(body + "--req--\r\n")
    assert reply.text.count("HTTP/1.1 ") == 1
    assert "HTTP/1.1 400 Bad Request" in reply.text
    assert "JobTitle" not in contact
    assert not world.crm.rows("EMailCollection")
    assert not world.crm.rows("EMailNotesCollection")
    assert world.events("c4c") == []
    assert ada.get(path).headers["etag"] == etag


def test_patch_and_delete_inside_a_changeset(ada: Caller, mail: Row, contact: Row) -> None:
    reply = ada.batch(
        changeset(
            ("PATCH", f"ContactCollection('{contact['ObjectID']}')", '{"JobTitle":"Buyer"}'),
            ("DELETE", f"EMailCollection('{mail['ObjectID']}')", ""),
        )
        + "--req--\r\n"
    )
    assert reply.text.count("HTTP/1.1 204 No Content\r\nContent-Type: text/html\r\nContent-Length: 0\r\n") == 2


def test_a_changeset_with_a_stale_etag_leaves_everything(ada: Caller, world: World, contact: Row) -> None:
    path = f"ContactCollection('{contact['ObjectID']}')"
    stale = ada.get(path).headers["etag"]
    assert ada.send("PATCH", path, {"JobTitle": "Buyer"}).status_code == 204
    text = ("POST", "ContactTextCollectionCollection", f'{{"ParentObjectID":"{contact["ObjectID"]}","Text":"x"}}')
    guarded = changeset(text, ("PATCH", path, '{"JobTitle":"Seller"}')).replace(
        f"PATCH {path} HTTP/1.1\r\n", f"PATCH {path} HTTP/1.1\r\nIf-Match: {stale}\r\n"
    )
    reply = ada.batch(guarded + "--req--\r\n")
    assert (reply.text.count("HTTP/1.1 412"), reply.text.count("HTTP/1.1 2")) == (1, 0)
    assert contact["JobTitle"] == "Buyer"
    assert not world.crm.rows("ContactTextCollectionCollection")


def test_parts_of_a_batch_page_through_a_list_of_100_with_children(ada: Caller, world: World) -> None:
    for number in range(250):
        seed(world, "ContactCollection", LastName=f"N{number:03}")
    asked = "ContactCollection?$format=json&$select=LastName&$expand=ContactTextCollection&$orderby=LastName"
    reply = ada.batch("".join(get_part(f"{asked}&$skip={skip}&$top=100") for skip in (0, 100, 200)) + "--req--\r\n")
    assert re.findall(r'"LastName":"N(\d+)"', reply.text) == [f"{number:03}" for number in range(250)]
    assert "__next" not in reply.text
    assert "__next" in ada.batch(get_part(asked) + "--req--\r\n").text


def test_what_a_batch_may_not_contain(ada: Caller, world: World, contact: Row) -> None:
    assert "HTTP/1.1 400" in ada.batch(get_part("ContactCollection?$search=Zoe") + "--req--\r\n").text
    alone = (
        changeset(("POST", "EMailCollection", '{"Subject":"x"}'))
        .split("\r\n\r\n", 1)[1]
        .split("--chg--")[0]
        .replace("--chg", "--req")
    )
    assert "HTTP/1.1 400" in ada.batch(alone + "--req--\r\n").text
    assert not world.crm.rows("EMailCollection")


@pytest.mark.parametrize(
    "body",
    [
        "",
        "--other--\r\n",
        get_part("ContactCollection"),  # not closed
        get_part("ContactCollection?$filter=Email eq 'a'") + "--req--\r\n",  # not URL-encoded
        get_part("ContactCollection").replace("\r\n\r\n\r\n", "\r\n") + "--req--\r\n",  # no empty line after the request
        get_part("ContactCollection").replace("\r\n", "\n") + "--req--\n",
        get_part("ContactCollection").replace("binary", "base64") + "--req--\r\n",
        get_part("ContactCollection").replace("application/http", "text/plain") + "--req--\r\n",
        changeset(("GET", "ContactCollection", "")) + "--req--\r\n",
    ],
)
def test_malformed_batches_are_refused_as_a_whole(ada: Caller, body: str) -> None:
    assert ada.batch(body).status_code == 400


def test_parts_may_name_the_service_in_full(ada: Caller, contact: Row) -> None:
    reply = ada.batch(
        get_part(f"{ROOT}ContactCollection?$format=json") + get_part(f"{SERVICE}ContactCollection?$format=json") + "--req--\r\n"
    )
    assert reply.text.count(contact["ContactID"]) >= 2


# -- time, faults, locks


def test_a_batch_is_slow_by_its_parts(ada: Caller, world: World) -> None:
    world.latency["c4c"] = Latency(base_ms=10, per_part_ms=20)
    slow = ada.batch("".join(get_part("ContactCollection?$format=json") for _ in range(3)) + "--req--\r\n")
    assert int(slow.headers["c4c-odata-response-time"].split()[0]) >= 70


def test_an_or_can_come_back_empty(ada: Caller, world: World, contact: Row) -> None:
    world.faults.append(Fault("c4c", "silent_empty", match="ContactCollection", times=2))
    address = contact["Email"]
    assert len(ada.rows("ContactCollection", filter_=f"Email eq '{address}'")) == 1
    assert ada.rows("ContactCollection", filter_=f"Email eq '{address}' or Email eq 'b'") == []
    part = get_part("ContactCollection?$format=json&$filter=" + quote(f"Email eq '{address}' or Email eq 'b'"))
    assert '"results":[]' in ada.batch(part + "--req--\r\n").text
    assert len(ada.rows("ContactCollection", filter_=f"Email eq '{address}' or Email eq 'b'")) == 1


def test_somebody_can_change_a_record_between_two_parts_of_a_batch(ada: Caller, world: World) -> None:
    for number in range(4):
        seed(world, "ContactCollection", LastName=f"N{number}")
    world.faults.append(Fault("c4c", "moved", "ContactCollection"))
    asked = "ContactCollection?$format=json&$select=LastName&$orderby=EntityLastChangedOn,ObjectID&$top=2"
    reply = ada.batch(get_part(asked) + get_part(asked + "&$skip=2") + "--req--\r\n")
    assert re.findall(r'"LastName":"(N\d)"', reply.text) == ["N0", "N1", "N3", "N0"]


def test_a_token_can_be_refused_once(ada: Caller, world: World) -> None:
    world.faults.append(Fault("c4c", "csrf"))
    refused = ada.send("POST", "EMailCollection", {"Subject": "x"})
    assert (refused.status_code, refused.headers["x-csrf-token"]) == (403, "Required")
    assert ada.send("POST", "EMailCollection", {"Subject": "x"}).status_code == 201


def test_a_new_mail_can_be_unknown_to_lists_for_a_while(ada: Caller, world: World) -> None:
    world.faults.append(Fault("c4c", "index_delay", seconds=60))
    created = ada.create("EMailCollection", Subject="x", GroupwareItemID="<1@x.example>")
    condition = "GroupwareItemID eq '<1@x.example>'"
    assert ada.rows("EMailCollection", filter_=condition) == []
    assert ada.get(f"EMailCollection('{created['ObjectID']}')").status_code == 200
    world.clock_skew = timedelta(seconds=61)
    assert len(ada.rows("EMailCollection", filter_=condition)) == 1


def test_a_record_can_be_locked(ada: Caller, bob: Caller, world: World, mail: Row) -> None:
    path = f"EMailCollection('{mail['ObjectID']}')"
    world.crm.record_locks[mail["ObjectID"]] = "BOB"
    for refused in (
        ada.send("PATCH", path, {"Subject": "x"}),
        ada.send("DELETE", path),
        ada.send("POST", "EMailNotesCollection", {"ParentObjectID": mail["ObjectID"], "Text": "x", "TypeCode": "10002"}),
    ):
        assert message(refused) == "Record is locked by user BOB"
    assert bob.send("PATCH", path, {"Subject": "x"}).status_code == 204
    world.crm.record_locks.clear()
    world.faults.append(Fault("c4c", "locked", match="PATCH"))
    assert "locked by user" in message(ada.send("PATCH", path, {"Subject": "y"}))
    assert ada.send("PATCH", path, {"Subject": "y"}).status_code == 204


def test_a_part_of_a_batch_can_fail_alone(ada: Caller, world: World, contact: Row) -> None:
    world.faults.append(Fault("c4c", "part_status", match="LeadCollection", status=503))
    reply = ada.batch(get_part("LeadCollection") + get_part("ContactCollection") + "--req--\r\n")
    assert ("HTTP/1.1 503" in reply.text, "HTTP/1.1 200" in reply.text) == (True, True)


class Paused(World):
    """A World whose vendors take until `go` to answer once `pausing` is set."""

    def __init__(self) -> None:
        super().__init__()
        self.pausing, self.reached, self.go = threading.Event(), threading.Event(), threading.Event()

    def sleep_as(self, vendor: str, parts: int = 1, *, spent_s: float = 0.0) -> None:
        if self.pausing.is_set():
            self.pausing.clear()
            self.reached.set()
            self.go.wait(10)


def test_a_writer_holds_the_record_until_its_request_has_ended(people: list[Person]) -> None:
    world = Paused()
    world.people = people
    row = seed(world, "EMailCollection", Subject="x")
    path = f"EMailCollection('{row['ObjectID']}')"
    app = create_app(lambda: world, public_url=lambda: ORIGIN)
    ada, bob = Caller(app, "ADA", "pw-Ada"), Caller(app, "BOB", "pw-Bob")
    token = {"x-csrf-token": ada.token()}
    with ThreadPoolExecutor(1) as pool:
        world.pausing.set()
        first = pool.submit(ada.http.patch, path, json={"Subject": "Ada's"}, headers=token)
        assert world.reached.wait(10)
        refused = bob.send("PATCH", path, {"Subject": "Bob's"})
        world.go.set()
        assert first.result(10).status_code == 204
    assert (message(refused), row["Subject"]) == ("Record is locked by user ADA", "Ada's")
    assert bob.send("PATCH", path, {"Subject": "Bob's"}).status_code == 204
    assert world.crm.record_locks == {}


def test_the_service_works_on_a_port(world: World, contact: Row) -> None:
    with Port(create_app(lambda: world, public_url=lambda: port.url)) as port, httpx.Client(trust_env=False) as http:
        url = f"{port.url}{SERVICE}ContactCollection('{contact['ObjectID']}')"
        read = http.get(url, auth=("ADA", "pw-Ada"), headers=JSON)
        assert read.json()["d"]["results"]["__metadata"]["uri"] == url


def test_the_access_log_knows_who_asked_for_what(ada: Caller, world: World) -> None:
    ada.get("ContactCollection", top="1")
    access = world.requests("c4c")[-1]
    assert (access.actor, access.method, access.path, access.query) == ("ADA", "GET", SERVICE + "ContactCollection", "$top=1")
