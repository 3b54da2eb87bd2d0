"""The fake HubSpot answers as the real one is documented to, seen through plain requests."""

from collections.abc import Iterator

import pytest
import requests

from connector.simulator.vendors import FakeHubSpot

CONTACTS = "/crm/objects/2026-03/contacts"
PROPERTIES = "/crm/properties/2026-03/contacts"
LISTS = "/crm/lists/2026-03"


@pytest.fixture
def hubspot(clock) -> Iterator[FakeHubSpot]:
    with FakeHubSpot(access_token="pat-test", clock=clock, keep_bodies=True) as vendor:
        yield vendor


@pytest.fixture
def call(hubspot):
    session = requests.Session()
    session.headers["Authorization"] = "Bearer pat-test"

    def call(method, path, body=None, **options):
        return session.request(method, hubspot.url + path, json=body, timeout=5, **options)

    yield call
    session.close()


@pytest.fixture
def provisioned(call):
    """A portal with our group, tag options, a unique id and a number."""
    call("POST", f"{PROPERTIES}/groups", {"name": "storecue", "label": "StoreCue"})
    options = [{"label": t, "value": t, "displayOrder": n, "hidden": False} for n, t in enumerate(("vip", "lapsed"))]
    for name, type_, field, more in (
        ("storecue_tags", "enumeration", "checkbox", {"options": options}),
        ("storecue_id", "string", "text", {"hasUniqueValue": True}),
        ("total_spent", "number", "number", {}),
    ):
        body = {"name": name, "label": name, "groupName": "storecue", "type": type_, "fieldType": field} | more
        assert call("POST", PROPERTIES, body).status_code == 201
    return call


def test_login_is_checked(call):
    answer = call("GET", "/account-info/2026-03/details", headers={"Authorization": "Bearer wrong"})
    assert answer.status_code == 401
    assert answer.json()["category"] == "INVALID_AUTHENTICATION"
    assert call("GET", "/account-info/2026-03/details").json()["accountType"] == "STANDARD"


def test_contact_is_made_patched_and_read(call, hubspot):
    assert call("PATCH", f"{CONTACTS}/ada@example.com?idProperty=email", {"properties": {}}).status_code == 404
    made = call("POST", CONTACTS, {"properties": {"email": "Ada@Example.com", "firstname": "Ada"}})
    assert made.status_code == 201
    assert call("POST", CONTACTS, {"properties": {"email": "ada@example.com"}}).status_code == 409
    patched = call("PATCH", f"{CONTACTS}/ada%40example.com?idProperty=email", {"properties": {"lastname": "L"}})
    assert patched.json()["properties"]["lastname"] == "L"
    read = call("GET", f"{CONTACTS}/{made.json()['id']}", params={"properties": "firstname,phone"}).json()
    assert (read["properties"]["firstname"], read["properties"]["phone"]) == ("Ada", None)
    assert hubspot.contacts()["ada@example.com"]["last_name"] == "L"


def upsert(*items):
    return {
        "inputs": [
            {"id": id_, "idProperty": "storecue_id", "objectWriteTraceId": f"t-{id_}", "properties": properties}
            for id_, properties in items
        ]
    }


def test_upsert_on_a_unique_property_is_partial(provisioned, hubspot):
    body = upsert(("1", {"email": "ada@example.com", "storecue_tags": "vip"}), ("2", {"email": "bob@example.com"}))
    first = provisioned("POST", f"{CONTACTS}/batch/upsert", body)
    assert first.status_code == 200
    assert [result["new"] for result in first.json()["results"]] == [True, True]
    again = provisioned(
        "POST",
        f"{CONTACTS}/batch/upsert",
        upsert(("1", {"total_spent": "12.5"}), ("3", {"email": "bob@example.com"}), ("4", {"email": "no address"})),
    )
    assert again.status_code == 207
    assert again.json()["numErrors"] == 2
    contexts = [error["context"]["objectWriteTraceId"] for error in again.json()["errors"]]
    assert contexts == [["t-3"], ["t-4"]]
    assert again.json()["results"][0]["objectWriteTraceId"] == "t-1"
    ada = hubspot.contacts()["ada@example.com"]
    assert ada["tags"] == ["vip"]
    assert ada["fields"] == {"storecue_id": "1", "total_spent": "12.5"}


def test_upsert_on_email_is_all_or_nothing(provisioned, hubspot):
    items = [
        {"id": email, "idProperty": "email", "properties": {"email": email}}
        for email in ("ada@example.com", "no address")
    ]
    assert provisioned("POST", f"{CONTACTS}/batch/upsert", {"inputs": items}).status_code == 400
    assert hubspot.contacts() == {}


@pytest.mark.parametrize(
    ("properties", "code"),
    [
        ({"nowhere": "1"}, "PROPERTY_DOESNT_EXIST"),
        ({"storecue_tags": "vip;unheard"}, "INVALID_OPTION"),
        ({"total_spent": "a lot"}, "INVALID_INTEGER"),
    ],
)
def test_bad_value_refuses_the_whole_batch(provisioned, hubspot, properties, code):
    body = upsert(("1", {"email": "ada@example.com"}), ("2", {"email": "bob@example.com"} | properties))
    answer = provisioned("POST", f"{CONTACTS}/batch/upsert", body)
    assert answer.status_code == 400
    assert answer.json()["errors"][0]["code"] == code
    assert code in answer.json()["message"]
    assert hubspot.contacts() == {}


@pytest.mark.parametrize("value", [12.5, True, None, ["vip"]])
def test_values_must_be_strings(provisioned, value):
    answer = provisioned("POST", CONTACTS, {"properties": {"email": "ada@example.com", "total_spent": value}})
    assert answer.status_code == 400
    assert answer.json()["category"] == "VALIDATION_ERROR"


def test_semicolon_in_front_appends_options(provisioned, hubspot):
    provisioned("POST", CONTACTS, {"properties": {"email": "ada@example.com", "storecue_tags": "lapsed"}})
    path = f"{CONTACTS}/ada@example.com?idProperty=email"
    provisioned("PATCH", path, {"properties": {"storecue_tags": ";vip"}})
    assert hubspot.contacts()["ada@example.com"]["tags"] == ["lapsed", "vip"]
    provisioned("PATCH", path, {"properties": {"storecue_tags": ""}})
    assert hubspot.contacts()["ada@example.com"]["tags"] == []


def test_batch_update_and_read_name_what_is_missing(provisioned):
    made = provisioned("POST", CONTACTS, {"properties": {"email": "ada@example.com"}}).json()["id"]
    body = {"inputs": [{"id": made, "properties": {"firstname": "Ada"}}, {"id": "9", "properties": {}}]}
    updated = provisioned("POST", f"{CONTACTS}/batch/update", body)
    assert updated.status_code == 207
    assert updated.json()["errors"][0]["context"]["ids"] == ["9"]
    read = provisioned(
        "POST",
        f"{CONTACTS}/batch/read",
        {
            "idProperty": "email",
            "properties": ["firstname"],
            "propertiesWithHistory": [],
            "inputs": [{"id": "ada@example.com"}, {"id": "bob@example.com"}],
        },
    )
    assert read.status_code == 207
    assert [result["properties"]["firstname"] for result in read.json()["results"]] == ["Ada"]


def test_batch_create_is_partial_only_with_trace_ids(call, hubspot):
    call("POST", CONTACTS, {"properties": {"email": "ada@example.com"}})
    emails = ("ada@example.com", "bob@example.com")
    plain = {"inputs": [{"properties": {"email": email}} for email in emails]}
    assert call("POST", f"{CONTACTS}/batch/create", plain).status_code == 409
    assert list(hubspot.contacts()) == ["ada@example.com"]
    traced = {"inputs": [{"properties": {"email": email}, "objectWriteTraceId": email} for email in emails]}
    answer = call("POST", f"{CONTACTS}/batch/create", traced)
    assert answer.status_code == 207
    assert answer.json()["errors"][0]["context"]["objectWriteTraceId"] == ["ada@example.com"]
    assert sorted(hubspot.contacts()) == sorted(emails)


def test_batch_of_101_is_refused(call):
    inputs = [{"properties": {"email": f"p{n}@example.com"}} for n in range(101)]
    assert call("POST", f"{CONTACTS}/batch/create", {"inputs": inputs}).status_code == 400


def test_properties_and_groups(provisioned, hubspot):
    assert provisioned("POST", f"{PROPERTIES}/groups", {"name": "storecue", "label": "x"}).status_code == 409
    again = {"name": "total_spent", "label": "x", "groupName": "storecue", "type": "number", "fieldType": "number"}
    assert provisioned("POST", PROPERTIES, again).status_code == 409
    assert provisioned("POST", PROPERTIES, again | {"name": "x", "groupName": "none"}).status_code == 400
    both = {"inputs": [again, again | {"name": "orders_count"}]}
    batch = provisioned("POST", f"{PROPERTIES}/batch/create", both)
    assert batch.status_code == 207
    assert [result["name"] for result in batch.json()["results"]] == ["orders_count"]
    without_order = {"options": [{"label": "VIP", "value": "vip", "hidden": False}]}
    assert provisioned("PATCH", f"{PROPERTIES}/storecue_tags", without_order).status_code == 400
    options = [{"label": t, "value": t, "displayOrder": n, "hidden": False} for n, t in enumerate(("vip", "new"))]
    assert provisioned("PATCH", f"{PROPERTIES}/storecue_tags", {"options": options}).status_code == 200
    assert [option["value"] for option in hubspot.properties()["storecue_tags"]["options"]] == ["vip", "new"]
    assert provisioned("GET", f"{PROPERTIES}/nothing").status_code == 404


def test_lists_take_record_ids(call, hubspot):
    made = call("POST", CONTACTS, {"properties": {"email": "ada@example.com"}}).json()["id"]
    body = {"name": "StoreCue: VIP/A", "objectTypeId": "0-1", "processingType": "MANUAL"}
    listed = call("POST", LISTS, body).json()["list"]["listId"]
    assert call("POST", LISTS, body).status_code == 400
    by_name = call("GET", f"{LISTS}/object-type-id/0-1/name/StoreCue%3A%20VIP%2FA").json()
    assert by_name["list"]["listId"] == listed
    assert call("POST", f"{LISTS}/search", {"query": "vip"}).json()["lists"][0]["listId"] == listed
    moved = call(
        "PUT",
        f"{LISTS}/{listed}/memberships/add-and-remove",
        {"recordIdsToAdd": [made, "999"], "recordIdsToRemove": []},
    ).json()
    assert moved == {"recordsIdsAdded": [made], "recordIdsRemoved": [], "recordIdsMissing": ["999"]}
    assert hubspot.contacts()["ada@example.com"]["lists"] == ["StoreCue: VIP/A"]
    assert call("PUT", f"{LISTS}/{listed}/memberships/remove", [made]).json()["recordIdsRemoved"] == [made]
    assert call("PUT", f"{LISTS}/{listed}/memberships/add-and-remove", {"recordIdsToAdd": []}).status_code == 400


def definition():
    return {
        "label": "Segment entered",
        "name": "segment_entered",
        "includeDefaultProperties": True,
        "propertyDefinitions": [{"name": "segment", "label": "Segment", "type": "string"}],
    }


def test_custom_events_need_the_enterprise_plan(call, clock):
    event = {"eventName": "pe1_segment_entered", "email": "ada@example.com", "properties": {}}
    assert call("POST", "/events/2026-03/send", event).status_code == 403
    with FakeHubSpot(access_token="pat-test", plan="enterprise", clock=clock) as enterprise:
        headers = {"Authorization": "Bearer pat-test"}

        def post(path, body):
            return requests.post(enterprise.url + path, json=body, headers=headers, timeout=5)

        made = post("/events/2026-03/event-definitions", definition())
        assert made.status_code == 201
        name = made.json()["fullyQualifiedName"]
        event = {"eventName": name, "email": "ada@example.com", "uuid": "u1", "properties": {"segment": "vip"}}
        assert [post("/events/2026-03/send", event).status_code for _ in range(2)] == [204, 204]
        assert post("/events/2026-03/send/batch", {"inputs": [event | {"uuid": "u2"}]}).status_code == 204
        assert post("/events/2026-03/send", event | {"properties": {"other": "x"}}).status_code == 400
        assert [found["uuid"] for found in enterprise.events()] == ["u1", "u2"]


def test_gdpr_delete_blocks_the_address_for_good(call, hubspot):
    call("POST", CONTACTS, {"properties": {"email": "ada@example.com"}})
    for email in ("ada@example.com", "never@example.com"):
        body = {"objectId": email, "idProperty": "email"}
        assert call("POST", f"{CONTACTS}/gdpr-delete", body).status_code == 204
        assert call("POST", CONTACTS, {"properties": {"email": email}}).status_code == 400
    assert hubspot.contacts() == {}


def test_search(call):
    for name in ("ada", "bob"):
        call("POST", CONTACTS, {"properties": {"email": f"{name}@example.com"}})
    rule = {"propertyName": "email", "operator": "IN", "values": ["bob@example.com"]}
    body = {"filterGroups": [{"filters": [rule]}], "properties": ["email"], "limit": 10}
    answer = call("POST", f"{CONTACTS}/search", body)
    assert answer.json()["total"] == 1
    assert "X-HubSpot-RateLimit-Max" not in answer.headers


def test_hundred_calls_in_any_ten_seconds(call, clock):
    for _ in range(50):
        assert call("GET", f"{CONTACTS}?limit=1").status_code == 200
    clock.sleep(6)
    last = [call("GET", f"{CONTACTS}?limit=1") for _ in range(51)]
    assert last[49].headers["X-HubSpot-RateLimit-Remaining"] == "0"
    assert last[49].status_code == 200
    throttled = last[50]
    assert throttled.status_code == 429
    assert throttled.json()["policyName"] == "TEN_SECONDLY_ROLLING"
    assert "Retry-After" not in throttled.headers
    clock.sleep(4)  # the first fifty are ten seconds old now
    assert call("GET", f"{CONTACTS}?limit=1").status_code == 200


def test_journal_keeps_bodies_when_told(call, hubspot):
    call("POST", CONTACTS, {"properties": {"email": "ada@example.com"}})
    recorded = hubspot.requests[-1]
    assert (recorded.method, recorded.path, recorded.status) == ("POST", CONTACTS, 201)
    assert recorded.size == len(recorded.body) > 0
    assert recorded.at == hubspot.clock.time()
