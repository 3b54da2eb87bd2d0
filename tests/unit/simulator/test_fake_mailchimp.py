"""The fake Mailchimp answers as the real one is documented to, seen through plain requests."""

import gzip
import hashlib
import io
import json
import tarfile
import threading
from collections.abc import Iterator

import pytest
import requests

from connector.simulator.vendors import FakeMailchimp

KEY = "0f0f0f0f-us21"
LIST = "/3.0/lists/a1b2c3d4e5"


def subscriber(email):
    return hashlib.md5(email.lower().encode()).hexdigest()


@pytest.fixture
def mailchimp(clock) -> Iterator[FakeMailchimp]:
    with FakeMailchimp(api_key=KEY, clock=clock, batch_seconds=10) as vendor:
        yield vendor


@pytest.fixture
def call(mailchimp):
    session = requests.Session()
    session.auth = ("storecue", KEY)

    def call(method, path, body=None, **options):
        return session.request(method, mailchimp.url + path, json=body, timeout=5, **options)

    yield call
    session.close()


def put(call, email="ada@example.com", status_if_new="transactional", **more):
    body = {"email_address": email, "status_if_new": status_if_new, **more}
    return call("PUT", f"{LIST}/members/{subscriber(email)}", body)


def test_login_takes_basic_and_bearer(call, mailchimp):
    assert call("GET", "/3.0/ping").json() == {"health_status": "Everything's Chimpy!"}
    assert call("GET", "/3.0/").json()["account_name"] == "Aurora Outfitters"
    url = mailchimp.url + "/3.0/ping"
    assert requests.get(url, headers={"Authorization": f"Bearer {KEY}"}, timeout=5).status_code == 200
    refused = requests.get(url, auth=("x", "wrong-us21"), timeout=5)
    assert refused.status_code == 401
    assert refused.headers["Content-Type"] == "application/problem+json"
    assert refused.json()["title"] == "API Key Invalid"


def test_put_keeps_the_status_of_a_known_member(call, mailchimp):
    assert put(call, status_if_new="subscribed").json()["status"] == "subscribed"
    assert put(call, status_if_new="transactional").json()["status"] == "subscribed"
    assert put(call, status="unsubscribed").json()["status"] == "unsubscribed"
    assert mailchimp.contacts()["ada@example.com"]["status"] == "unsubscribed"


def test_who_unsubscribed_by_hand_stays_so(call, mailchimp):
    put(call, status_if_new="subscribed")
    mailchimp.unsubscribe("ada@example.com")
    assert put(call, merge_fields={"FNAME": "Ada"}).json()["status"] == "unsubscribed"
    refused = put(call, status="subscribed")
    assert refused.status_code == 400
    assert refused.json()["title"] == "Member In Compliance State"
    assert put(call, status="pending").json()["status"] == "pending"


def test_merge_fields_are_laid_over_and_cut(call, mailchimp):
    call("POST", f"{LIST}/merge-fields", {"name": "Spent", "type": "number", "tag": "SPENT"})
    call("POST", f"{LIST}/merge-fields", {"name": "Note", "type": "text", "tag": "NOTE"})
    put(call, merge_fields={"FNAME": "Ada", "SPENT": 12.5, "NOTE": "é" * 200, "NOWHERE": "x"})
    put(call, merge_fields={"LNAME": "Lovelace"})
    contact = mailchimp.contacts()["ada@example.com"]
    assert (contact["first_name"], contact["last_name"]) == ("Ada", "Lovelace")
    assert contact["fields"] == {"SPENT": 12.5, "NOTE": "é" * 127}
    refused = put(call, merge_fields={"SPENT": "a lot"})
    assert refused.status_code == 400
    assert refused.json()["errors"] == [{"field": "SPENT", "message": "Please enter a number"}]


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"email_address": "ada@example.com"}, ""),
        ({"email_address": "ada@example.com", "status_if_new": "sometimes"}, "status_if_new"),
        ({"email_address": "ada@example.com", "status_if_new": "pending", "tags": ["vip"]}, "tags"),
    ],
)
def test_bad_member_is_refused_with_its_field(call, mailchimp, body, field):
    answer = call("PUT", f"{LIST}/members/{subscriber('ada@example.com')}", body)
    assert answer.status_code == 400
    assert answer.json()["title"] == "Invalid Resource"
    assert answer.json()["errors"][0]["field"] == field
    assert mailchimp.contacts() == {}


def test_bad_addresses(call):
    assert put(call, "no address").status_code == 400
    other = {"email_address": "bob@example.com", "status_if_new": "transactional"}
    assert call("PUT", f"{LIST}/members/{subscriber('ada@example.com')}", other).status_code == 400


def test_address_moves_with_the_member(call, mailchimp):
    put(call, "old@example.com")
    body = {"email_address": "new@example.com", "status_if_new": "transactional"}
    assert call("PUT", f"{LIST}/members/{subscriber('old@example.com')}", body).status_code == 200
    assert list(mailchimp.contacts()) == ["new@example.com"]
    assert call("GET", f"{LIST}/members/old@example.com").status_code == 404


def test_batch_of_members_reports_each(call, mailchimp):
    put(call, "known@example.com", status_if_new="subscribed")
    members = [
        {"email_address": "known@example.com", "merge_fields": {"FNAME": "K"}},
        {"email_address": "new@example.com", "status": "transactional"},
        {"email_address": "broken", "status": "transactional"},
        {"email_address": "stateless@example.com"},
    ]
    answer = call("POST", LIST, {"members": members, "update_existing": True, "sync_tags": False})
    assert answer.status_code == 200
    body = answer.json()
    assert (body["total_created"], body["total_updated"], body["error_count"]) == (1, 1, 2)
    assert [error["email_address"] for error in body["errors"]] == ["broken", "stateless@example.com"]
    assert mailchimp.contacts()["known@example.com"]["status"] == "subscribed"
    again = call("POST", LIST, {"members": members[:1]}).json()
    assert again["errors"][0]["error_code"] == "ERROR_CONTACT_EXISTS"
    assert call("POST", LIST, {"members": [members[1]] * 501}).status_code == 400


def test_tags_singly_and_in_bulk(call, mailchimp):
    for email in ("ada@example.com", "bob@example.com"):
        put(call, email)
    path = f"{LIST}/members/{subscriber('ada@example.com')}/tags"
    tags = [{"name": "vip", "status": "active"}, {"name": "lapsed", "status": "inactive"}]
    assert call("POST", path, {"tags": tags, "is_syncing": False}).status_code == 204
    assert [tag["name"] for tag in call("GET", path).json()["tags"]] == ["vip"]
    found = call("GET", f"{LIST}/tag-search", params={"name": "vip"}).json()["tags"]
    moved = call(
        "POST",
        f"{LIST}/segments/{found[0]['id']}",
        {"members_to_add": ["bob@example.com", "nobody@example.com"], "members_to_remove": ["ada@example.com"]},
    ).json()
    assert (moved["total_added"], moved["total_removed"], moved["error_count"]) == (1, 1, 0)
    assert mailchimp.contacts()["bob@example.com"]["tags"] == ["vip"]
    assert mailchimp.contacts()["ada@example.com"]["tags"] == []
    made = call("POST", f"{LIST}/segments", {"name": "lapsed", "static_segment": ["ada@example.com"]})
    assert made.status_code == 200
    assert mailchimp.contacts()["ada@example.com"]["tags"] == ["lapsed"]
    assert call("POST", f"{LIST}/segments", {"name": "lapsed", "static_segment": []}).status_code == 400
    listed = call("GET", f"{LIST}/segments", params={"type": "static", "count": 1000}).json()
    assert [segment["name"] for segment in listed["segments"]] == ["vip", "lapsed"]


def test_events_have_no_dedupe_key(call, mailchimp):
    path = f"{LIST}/members/{subscriber('ada@example.com')}/events"
    event = {"name": "segment_entered", "properties": {"segment": "vip"}}
    assert call("POST", path, event).status_code == 404
    put(call)
    assert [call("POST", path, event).status_code for _ in range(2)] == [204, 204]
    assert [found["email"] for found in mailchimp.events()] == ["ada@example.com"] * 2
    assert call("GET", path).json()["total_items"] == 2
    assert call("POST", path, event | {"properties": {"n": 1}}).status_code == 400
    assert call("POST", path, event | {"name": "x"}).status_code == 400


def test_thirty_merge_fields_with_short_tags(call, mailchimp):
    free = 30 - len(mailchimp.merge_fields())
    too_long = {"name": "x", "type": "text", "tag": "ELEVENCHARS"}
    assert call("POST", f"{LIST}/merge-fields", too_long).status_code == 400
    for number in range(free):
        field = {"name": f"Field {number}", "type": "text", "tag": f"F{number}"}
        assert call("POST", f"{LIST}/merge-fields", field).status_code == 200
    assert call("POST", f"{LIST}/merge-fields", {"name": "One more", "type": "text"}).status_code == 400
    assert call("GET", f"{LIST}/merge-fields", params={"count": 100}).json()["total_items"] == 30


def test_merge_field_tag_is_unique_and_made_up_when_absent(call):
    assert call("POST", f"{LIST}/merge-fields", {"name": "x", "type": "text", "tag": "FNAME"}).status_code == 400
    assert call("POST", f"{LIST}/merge-fields", {"name": "x", "type": "date"}).json()["tag"] == "MERGE6"


def test_archived_comes_back_and_erased_does_not(call, mailchimp):
    path = f"{LIST}/members/{subscriber('ada@example.com')}"
    put(call)
    assert call("DELETE", path).status_code == 204
    assert mailchimp.contacts() == {}
    assert put(call).json()["status"] == "transactional"
    assert call("POST", f"{path}/actions/delete-permanent").status_code == 204
    refused = put(call)
    assert (refused.status_code, refused.json()["title"]) == (400, "Forgotten Email Not Subscribed")
    assert call("PATCH", path, {"status": "unsubscribed"}).status_code == 404


def test_batches_run_later_and_give_a_gzipped_tar(call, mailchimp, clock):
    def operation(email, name):
        body = json.dumps({"email_address": email, "status_if_new": "transactional"})
        path = f"/lists/a1b2c3d4e5/members/{subscriber(email)}"
        return {"method": "PUT", "path": path, "operation_id": name, "body": body}

    operations = [operation("ada@example.com", "one"), operation("broken", "two")]
    started = call("POST", "/3.0/batches", {"operations": operations}).json()
    assert (started["status"], started["total_operations"]) == ("pending", 2)
    path = f"/3.0/batches/{started['id']}"
    clock.sleep(6)
    assert call("GET", path).json()["status"] == "started"
    clock.sleep(5)
    done = call("GET", path).json()
    assert (done["status"], done["finished_operations"], done["errored_operations"]) == ("finished", 2, 1)
    packed = requests.get(done["response_body_url"], timeout=5).content
    with tarfile.open(fileobj=io.BytesIO(gzip.decompress(packed))) as archive:
        entry = archive.extractfile(archive.getmembers()[0])
        results = {result["operation_id"]: result for result in json.load(entry)}
    assert {name: result["status_code"] for name, result in results.items()} == {"one": 200, "two": 400}
    assert json.loads(results["one"]["response"])["email_address"] == "ada@example.com"
    clock.sleep(601)
    assert requests.get(done["response_body_url"], timeout=5).status_code == 403
    assert "ada@example.com" in mailchimp.contacts()


def test_an_address_of_results_expires_and_another_reading_gives_a_new_one(call, mailchimp, clock):
    operations = [{"method": "GET", "path": "/lists/a1b2c3d4e5", "operation_id": "0"}]
    path = f"/3.0/batches/{call('POST', '/3.0/batches', {'operations': operations}).json()['id']}"
    clock.sleep(11)
    first = call("GET", path).json()["response_body_url"]
    clock.sleep(601)
    second = call("GET", path).json()["response_body_url"]
    assert [requests.get(url, timeout=5).status_code for url in (first, second)] == [403, 200]
    clock.sleep(7 * 86_400)
    assert call("GET", path).status_code == 404


def test_a_batch_runs_in_no_order(call, mailchimp, clock):
    """Of fifty members and fifty tags of theirs in one batch, some tags come before their member and are lost."""
    members = [f"p{number}@example.com" for number in range(50)]
    operations = []
    for email in members:
        path = f"/lists/a1b2c3d4e5/members/{subscriber(email)}"
        body = json.dumps({"email_address": email, "status_if_new": "transactional"})
        operations.append({"method": "PUT", "path": path, "body": body})
        tags = json.dumps({"tags": [{"name": "vip", "status": "active"}]})
        operations.append({"method": "POST", "path": f"{path}/tags", "body": tags})
    started = call("POST", "/3.0/batches", {"operations": operations}).json()
    clock.sleep(11)
    assert 0 < call("GET", f"/3.0/batches/{started['id']}").json()["errored_operations"] < 50
    assert len(mailchimp.contacts()) == 50


def test_batches_that_wait_are_counted(call, mailchimp):
    mailchimp.pending_batches = 2
    operations = {"operations": [{"method": "GET", "path": "/ping"}]}
    assert [call("POST", "/3.0/batches", operations).status_code for _ in range(3)] == [200, 200, 429]
    assert "pending batches" in call("POST", "/3.0/batches", operations).json()["detail"]


def test_who_unsubscribed_or_bounced_is_not_subscribed_again_by_coming_back_from_the_archive(call, mailchimp):
    for email, leaves in (("ada@example.com", mailchimp.unsubscribe), ("bob@example.com", mailchimp.bounce)):
        put(call, email, "subscribed")
        leaves(email)
        mailchimp.archive(email)
        refused = put(call, email, "subscribed")
        assert (refused.status_code, refused.json()["title"]) == (400, "Member In Compliance State")
        shown = call("GET", f"{LIST}/members/{subscriber(email)}").json()
        assert shown["status"] == "archived"  # nothing of the refused write was done
    assert mailchimp.contacts() == {}


def test_an_address_deleted_for_good_is_nobodys_new_one(call):
    put(call, "old@example.com")
    call("POST", f"{LIST}/members/{subscriber('old@example.com')}/actions/delete-permanent")
    put(call)
    moved = call("PATCH", f"{LIST}/members/{subscriber('ada@example.com')}", {"email_address": "old@example.com"})
    assert (moved.status_code, moved.json()["title"]) == (400, "Forgotten Email Not Subscribed")


def test_a_double_opt_in_is_confirmed_by_the_person_only(call, mailchimp):
    put(call, status_if_new="pending")
    put(call, "bob@example.com", "transactional")
    mailchimp.confirm("ada@example.com")
    mailchimp.confirm("bob@example.com")
    assert {email: one["status"] for email, one in mailchimp.contacts().items()} == {
        "ada@example.com": "subscribed",
        "bob@example.com": "transactional",
    }


def test_people_tidy_up_merge_fields_and_tags(call, mailchimp):
    put(call, merge_fields={"FNAME": "Ada", "LNAME": "L"})
    path = f"{LIST}/members/{subscriber('ada@example.com')}"
    call("POST", f"{path}/tags", {"tags": [{"name": "VIP", "status": "active"}, {"name": "vip", "status": "active"}]})
    assert [tag["name"] for tag in call("GET", path).json()["tags"]] == ["VIP"]  # one tag, however it is spelt
    before = mailchimp.merge_fields()["FNAME"]["merge_id"]
    mailchimp.rename_merge_field("FNAME", name="Vorname", new_tag="VORNAME")
    mailchimp.delete_merge_field("LNAME")
    mailchimp.delete_tag("VIP")
    shown = call("GET", path).json()
    assert shown["merge_fields"]["VORNAME"] == "Ada"
    assert not {"FNAME", "LNAME"} & shown["merge_fields"].keys()
    assert shown["tags"] == []
    assert mailchimp.merge_fields()["VORNAME"] | {"merge_id": before} == mailchimp.merge_fields()["VORNAME"]
    new = call("POST", f"{LIST}/merge-fields", {"name": "New", "type": "text"}).json()
    assert new["merge_id"] not in [
        held["merge_id"] for tag, held in mailchimp.merge_fields().items() if tag != new["tag"]
    ]


def test_tags_in_bulk_may_be_for_subscribers_only(call, mailchimp):
    mailchimp.bulk_tags_for_all = False
    put(call, "ada@example.com", "subscribed")
    put(call, "bob@example.com", "transactional")
    segment = call("POST", f"{LIST}/segments", {"name": "vip", "static_segment": []}).json()["id"]
    both = {"members_to_add": ["ada@example.com", "bob@example.com"]}
    told = call("POST", f"{LIST}/segments/{segment}", both).json()
    assert (told["total_added"], told["error_count"]) == (1, 1)
    assert told["errors"][0]["email_addresses"] == ["bob@example.com"]


def test_eleventh_request_at_once_gets_a_bare_403_when_told_so(clock):
    with FakeMailchimp(api_key=KEY, clock=clock, limit_status=403) as vendor:
        vendor._in_progress = 10
        answer = requests.get(vendor.url + "/3.0/ping", auth=("x", KEY), timeout=5)
        assert (answer.status_code, answer.content) == (403, b"")


def test_eleventh_request_at_once_gets_a_bare_429(mailchimp):
    mailchimp.faults.latency = 0.3
    gate, statuses = threading.Barrier(11), []

    def one():
        gate.wait()
        answer = requests.get(mailchimp.url + "/3.0/ping", auth=("x", KEY), timeout=5)
        statuses.append((answer.status_code, answer.content[:1]))

    threads = [threading.Thread(target=one) for _ in range(11)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (429, b"") in statuses
    assert statuses.count((200, b"{")) <= 10


def test_fields_cut_the_answer_down(call):
    put(call)
    call("POST", f"{LIST}/segments", {"name": "vip", "static_segment": []})
    query = {"fields": "segments.name,total_items"}
    assert call("GET", f"{LIST}/segments", params=query).json() == {"segments": [{"name": "vip"}], "total_items": 1}
    assert call("GET", f"{LIST}/members", params={"fields": "list_id"}).json() == {"list_id": "a1b2c3d4e5"}
