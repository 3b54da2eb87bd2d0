"""The fake Klaviyo answers as the real one is documented to, seen through plain requests."""

from collections.abc import Iterator

import pytest
import requests

from connector.simulator.vendors import FakeKlaviyo

HEADERS = {
    "Authorization": "Klaviyo-API-Key pk_test",
    "revision": "2026-07-15",
    "Content-Type": "application/vnd.api+json",
}


@pytest.fixture
def klaviyo(clock) -> Iterator[FakeKlaviyo]:
    with FakeKlaviyo(api_key="pk_test", clock=clock, job_seconds=10) as vendor:
        yield vendor


@pytest.fixture
def call(klaviyo):
    session = requests.Session()
    session.headers.update(HEADERS)

    def call(method, path, body=None, **options):
        return session.request(method, klaviyo.url + path, json=body, timeout=5, **options)

    yield call
    session.close()


def profile(email="ada@example.com", meta=None, **attributes):
    data = {"type": "profile", "attributes": {"email": email, **attributes}}
    return {"data": data | ({"meta": meta} if meta else {})}


def patch(**patch_properties):
    return {"patch_properties": patch_properties}


@pytest.mark.parametrize(
    ("headers", "status", "code"),
    [
        ({"Authorization": None}, 401, "not_authenticated"),
        ({"Authorization": "Klaviyo-API-Key pk_wrong"}, 401, "authentication_failed"),
        ({"Authorization": "Bearer pk_test"}, 401, "authentication_failed"),
        ({"revision": None}, 400, "missing_revision"),
        ({"revision": "yesterday"}, 400, "invalid"),
        ({"revision": "2023-02-15", "X-Klaviyo-Revision-Fall-Forward-Opt-Out": "1"}, 410, "gone"),
    ],
)
def test_login_and_revision_are_checked(call, klaviyo, headers, status, code):
    answer = call("GET", "/api/accounts", headers=headers)
    assert answer.status_code == status
    assert answer.json()["errors"][0]["code"] == code
    assert klaviyo.requests[-1].status == status


def test_account_is_shown(call):
    account = call("GET", "/api/accounts").json()["data"][0]
    assert account["type"] == "account"
    assert account["attributes"]["contact_information"]["organization_name"] == "Aurora Outfitters"


def test_import_creates_then_updates(call, klaviyo):
    first = call("POST", "/api/profile-import", profile(properties={"ltv": 1, "old": "x"}, first_name="Ada"))
    assert first.status_code == 201
    assert first.headers["Content-Type"] == "application/vnd.api+json"
    again = call("POST", "/api/profile-import", profile("ADA@example.com", properties={"ltv": 2.5, "old": None}))
    assert again.status_code == 200
    assert again.json()["data"]["id"] == first.json()["data"]["id"]
    contact = klaviyo.contacts()["ada@example.com"]
    assert contact["fields"] == {"ltv": 2.5}
    assert contact["first_name"] == "Ada"


def test_tags_are_appended_and_unappended(call, klaviyo):
    call("POST", "/api/profile-import", profile(properties={"storecue_tags": ["theirs", "lapsed"]}))
    call(
        "POST",
        "/api/profile-import",
        profile(meta=patch(append={"storecue_tags": ["vip", "theirs"]}, unappend={"storecue_tags": "lapsed"})),
    )
    assert klaviyo.contacts()["ada@example.com"]["tags"] == ["theirs", "vip"]
    call("POST", "/api/profile-import", profile(meta=patch(unset=["storecue_tags"])))
    assert klaviyo.contacts()["ada@example.com"]["tags"] == []


def test_identifier_of_another_profile_is_a_conflict(call, klaviyo):
    ada = call("POST", "/api/profile-import", profile(external_id="shop:1")).json()["data"]["id"]
    call("POST", "/api/profile-import", profile("bob@example.com", external_id="shop:2"))
    answer = call("POST", "/api/profile-import", profile("bob@example.com", external_id="shop:1"))
    assert answer.status_code == 409
    assert answer.json()["errors"][0]["meta"]["duplicate_profile_id"] == ada
    assert klaviyo.contacts()["bob@example.com"]["external_id"] == "shop:2"


def test_address_moves_with_the_external_id(call, klaviyo):
    call("POST", "/api/profile-import", profile("old@example.com", external_id="shop:1"))
    call("POST", "/api/profile-import", profile("new@example.com", external_id="shop:1"))
    assert list(klaviyo.contacts()) == ["new@example.com"]


@pytest.mark.parametrize(
    ("body", "where"),
    [
        (profile(propertys={}), "/data/attributes/propertys"),
        (profile("not an address"), "/data/attributes/email"),
        ({"data": {"type": "person", "attributes": {}}}, "/data/type"),
        (profile(phone_number="0612345678"), "/data/attributes/phone_number"),
        ({"data": {"type": "profile", "attributes": {"email": "a@x.io", "meta": {}}}}, "/data/attributes/meta"),
    ],
)
def test_bad_profile_is_refused_with_its_place(call, klaviyo, body, where):
    answer = call("POST", "/api/profile-import", body)
    assert answer.status_code == 400
    assert answer.json()["errors"][0]["source"]["pointer"] == where
    assert klaviyo.contacts() == {}


def test_bulk_import_runs_as_a_job_with_errors(call, klaviyo, clock):
    listed = call("POST", "/api/lists", {"data": {"type": "list", "attributes": {"name": "VIP"}}}).json()["data"]["id"]
    profiles = [profile(f"p{n}@example.com", properties={"n": n})["data"] for n in range(3)]
    profiles[1]["attributes"]["email"] = "broken"
    body = {
        "data": {
            "type": "profile-bulk-import-job",
            "attributes": {"profiles": {"data": profiles}},
            "relationships": {"lists": {"data": [{"type": "list", "id": listed}]}},
        }
    }
    started = call("POST", "/api/profile-bulk-import-jobs", body)
    assert started.status_code == 202
    assert started.json()["data"]["attributes"]["status"] == "queued"
    path = f"/api/profile-bulk-import-jobs/{started.json()['data']['id']}"
    clock.sleep(6)
    assert call("GET", path).json()["data"]["attributes"]["status"] == "processing"
    assert klaviyo.contacts() == {}
    clock.sleep(5)
    done = call("GET", path).json()["data"]["attributes"]
    assert (done["status"], done["completed_count"], done["failed_count"]) == ("complete", 2, 1)
    error = call("GET", f"{path}/import-errors", params={"page[size]": 20}).json()["data"][0]["attributes"]
    assert error["source"]["pointer"] == "/data/attributes/profiles/data/1/attributes/email"
    assert error["original_payload"] == profiles[1]
    assert klaviyo.contacts()["p0@example.com"]["lists"] == ["VIP"]


def event(unique_id="e1", email="ada@example.com", **attributes):
    return {
        "data": {
            "type": "event",
            "attributes": {
                "properties": {"segment": "vip"},
                "unique_id": unique_id,
                "metric": {"data": {"type": "metric", "attributes": {"name": "Segment Entered"}}},
                "profile": profile(email),
                **attributes,
            },
        }
    }


def test_event_with_a_known_unique_id_is_kept_once(call, klaviyo):
    for body in (event(), event(), event("e2", backfill=True)):
        assert call("POST", "/api/events", body).status_code == 202
    assert [(e["unique_id"], e["email"], e["backfill"]) for e in klaviyo.events()] == [
        ("e1", "ada@example.com", False),
        ("e2", "ada@example.com", True),
    ]


def bulk_events(*unique_ids, email="ada@example.com"):
    events = [
        {
            "type": "event",
            "attributes": {
                "properties": {},
                "unique_id": unique_id,
                "metric": {"data": {"type": "metric", "attributes": {"name": "Segment Entered"}}},
            },
        }
        for unique_id in unique_ids
    ]
    group = {"type": "event-bulk-create", "attributes": {"profile": profile(email), "events": {"data": events}}}
    attributes = {"events-bulk-create": {"data": [group]}}
    return {"data": {"type": "event-bulk-create-job", "attributes": attributes}}


def test_bulk_events_refuse_a_repeat_as_a_whole(call, klaviyo):
    assert call("POST", "/api/event-bulk-create-jobs", bulk_events("a", "a")).status_code == 400
    assert klaviyo.events() == []
    assert call("POST", "/api/event-bulk-create-jobs", bulk_events("a", "b")).status_code == 202
    assert len(klaviyo.events()) == 2
    assert call("POST", "/api/event-bulk-create-jobs", bulk_events("b", "c")).status_code == 400
    assert len(klaviyo.events()) == 2
    assert call("POST", "/api/event-bulk-create-jobs", bulk_events("b", email="bob@example.com")).status_code == 202


def test_bulk_events_refuse_a_bad_profile_as_a_whole(call, klaviyo):
    body = bulk_events("a")
    groups = body["data"]["attributes"]["events-bulk-create"]["data"]
    groups.extend(bulk_events("b", email="broken")["data"]["attributes"]["events-bulk-create"]["data"])
    answer = call("POST", "/api/event-bulk-create-jobs", body)
    assert answer.status_code == 400
    assert "/data/1/" in answer.json()["errors"][0]["source"]["pointer"]
    assert klaviyo.events() == []
    assert klaviyo.contacts() == {}


@pytest.mark.parametrize("time", ["1989-01-01T00:00:00Z", "2029-01-01T00:00:00Z", "noon"])
def test_event_time_must_be_possible(call, klaviyo, time):
    assert call("POST", "/api/events", event(time=time)).status_code == 400
    assert klaviyo.events() == []


def test_lists_take_profile_ids(call, klaviyo):
    id_ = call("POST", "/api/profile-import", profile()).json()["data"]["id"]
    listed = call("POST", "/api/lists", {"data": {"type": "list", "attributes": {"name": "VIP"}}}).json()["data"]["id"]
    found = call("GET", "/api/lists", params={"filter": 'equals(name,"VIP")'}).json()["data"]
    assert [item["id"] for item in found] == [listed]
    path, body = f"/api/lists/{listed}/relationships/profiles", {"data": [{"type": "profile", "id": id_}]}
    assert call("POST", path, body).status_code == 204
    assert klaviyo.contacts()["ada@example.com"]["lists"] == ["VIP"]
    assert call("DELETE", path, body).status_code == 204
    assert klaviyo.contacts()["ada@example.com"]["lists"] == []
    assert call("POST", path, {"data": [{"type": "profile", "id": "nobody"}]}).status_code == 404


def test_profiles_are_read_by_filter_and_id(call):
    for name in ("ada", "bob", "cy"):
        call("POST", "/api/profile-import", profile(f"{name}@example.com"))
    one = call("GET", "/api/profiles", params={"filter": 'equals(email,"bob@example.com")'}).json()["data"]
    assert [item["attributes"]["email"] for item in one] == ["bob@example.com"]
    some = call("GET", "/api/profiles", params={"filter": 'any(email,["ada@example.com","zoe@example.com"])'})
    assert [item["attributes"]["email"] for item in some.json()["data"]] == ["ada@example.com"]
    assert call("GET", f"/api/profiles/{one[0]['id']}").json()["data"] == one[0]
    assert call("GET", "/api/profiles", params={"filter": "email=bob"}).status_code == 400
    sparse = call("GET", f"/api/profiles/{one[0]['id']}", params={"fields[profile]": "email"}).json()["data"]
    assert sparse["attributes"] == {"email": "bob@example.com"}
    page = call("GET", "/api/profiles", params={"page[size]": 2}).json()
    assert len(page["data"]) == 2
    rest = requests.get(page["links"]["next"], headers=HEADERS, timeout=5).json()
    assert [item["attributes"]["email"] for item in rest["data"]] == ["cy@example.com"]


def deletion(**named):
    return {
        "data": {
            "type": "data-privacy-deletion-job",
            "attributes": {"profile": {"data": {"type": "profile", "attributes": named}}},
        }
    }


def test_privacy_deletion_takes_exactly_one_identifier(call, klaviyo):
    call("POST", "/api/profile-import", profile())
    both = deletion(email="ada@example.com", phone_number="+33639980001")
    assert call("POST", "/api/data-privacy-deletion-jobs", both).status_code == 400
    assert call("POST", "/api/data-privacy-deletion-jobs", deletion(email="ada@example.com")).status_code == 202
    assert klaviyo.contacts() == {}


def test_limits_are_counted_per_endpoint_and_window(call, clock):
    clock.at = 60.0 * 30_000_000  # the start of a minute
    first = call("GET", "/api/accounts")
    assert (first.headers["RateLimit-Limit"], first.headers["RateLimit-Remaining"]) == ("15", "14")
    throttled = call("GET", "/api/accounts")
    assert throttled.status_code == 429
    assert throttled.headers["Retry-After"] == "1"
    assert "RateLimit-Limit" not in throttled.headers
    assert call("POST", "/api/profile-import", profile()).status_code == 201
    for _ in range(14):
        clock.sleep(1)
        assert call("GET", "/api/accounts").status_code == 200
    clock.sleep(1)
    assert call("GET", "/api/accounts").headers["Retry-After"] == "45"
    clock.sleep(45)
    assert call("GET", "/api/accounts").status_code == 200


def test_unknown_path_and_method(call):
    assert call("GET", "/api/nothing").status_code == 404
    assert call("GET", "/api/profile-import").status_code == 405
