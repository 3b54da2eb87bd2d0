import base64

import pytest
from populated import NOW

from connector.clock import HOUR, isoformat


def letters(shop, **query):
    return {row["reference"]: row for row in shop.api.get("/dead-letters", **query)["items"]}


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ({}, {"d-2", "1"}),
        ({"state": "open"}, {"d-2", "1"}),
        ({"state": "discarded"}, set()),
        ({"kind": "push"}, {"1"}),
        ({"origin": "shop"}, {"d-2"}),
        ({"reason": "no_total"}, {"d-2"}),
        ({"topic": "orders/create"}, {"d-2"}),
        ({"reference": "d-2"}, {"d-2"}),
        ({"since": isoformat(NOW - HOUR)}, {"d-2", "1"}),
        ({"until": isoformat(NOW - HOUR)}, set()),
    ],
)
def test_dead_letters_are_filtered(window, query, found):
    assert letters(window, **query).keys() == found


def test_a_dead_letter_shows_its_reason_and_its_body(window):
    letter = window.api.get(f"/dead-letters/{letters(window)['d-2']['id']}")
    assert (letter["reason"], letter["message"], letter["body"]) == ("no_total", "told in words", '{"id": 1}')
    assert window.api.get("/dead-letters/99", expect=404)["reason"] == "not_found"


@pytest.mark.parametrize(
    "body",
    [
        {"body": '{"id": 2, "name": "Zoë"}', "encoding": "utf-8"},
        {"body": base64.b64encode(b"\xff\x00").decode(), "encoding": "base64"},
    ],
)
def test_a_mended_body_is_what_is_replayed(shop, body):
    letter = letters(shop)["d-2"]["id"]
    assert shop.api("PATCH", f"/dead-letters/{letter}", json=body)["body"] == body["body"]
    assert shop.api.post("/dead-letters/replay", expect=202, ids=[letter]) == {"count": 1}
    newest = shop.api.get("/deliveries", limit=1)["items"][0]
    assert newest["delivery_id"].startswith("d-2#")
    assert shop.api.get(f"/deliveries/{newest['id']}").items() >= body.items()
    assert shop.api.get(f"/dead-letters/{letter}")["state"] == "replayed"


def test_what_is_not_an_open_delivery_cannot_be_edited(shop):
    push = letters(shop)["1"]["id"]
    assert shop.api("PATCH", f"/dead-letters/{push}", 409, json={"body": "{}"})["reason"] == "conflict"
    delivery = letters(shop)["d-2"]["id"]
    shop.api.post(f"/dead-letters/{delivery}/discard")
    assert shop.api("PATCH", f"/dead-letters/{delivery}", 409, json={"body": "{}"})["reason"] == "conflict"
    assert shop.api("PATCH", "/dead-letters/99", 404, json={"body": "{}"})["reason"] == "not_found"


def test_base64_that_is_none_is_named(shop):
    letter = letters(shop)["d-2"]["id"]
    told = shop.api("PATCH", f"/dead-letters/{letter}", 422, json={"body": "é", "encoding": "base64"})
    assert told["errors"] == [{"pointer": "/body", "detail": "not base64"}]


def test_a_discarded_letter_stays_in_the_list_and_is_not_replayed(shop):
    letter = letters(shop)["d-2"]["id"]
    assert shop.api.post(f"/dead-letters/{letter}/discard")["state"] == "discarded"
    assert shop.api.post(f"/dead-letters/{letter}/discard", expect=409)["reason"] == "conflict"
    assert shop.api.post("/dead-letters/99/discard", expect=404)["reason"] == "not_found"
    assert letters(shop, state="discarded").keys() == {"d-2"}
    assert shop.api.post("/dead-letters/replay", expect=202, ids=[letter]) == {"count": 0}


@pytest.mark.parametrize(
    ("body", "replayed"),
    [
        ({"filter": {"reason": "no_total"}}, {"d-2"}),
        ({"filter": {"kind": "push"}}, {"1"}),
        ({"filter": {"since": isoformat(NOW - HOUR)}}, {"d-2", "1"}),
        ({"filter": {"since": isoformat(NOW)}}, set()),
        ({"ids": [1, 2], "filter": {"origin": "klaviyo"}}, {"1"}),
        ({"ids": [1000]}, set()),
    ],
)
def test_letters_are_replayed_by_filter(shop, body, replayed):
    assert shop.api.post("/dead-letters/replay", expect=202, **body) == {"count": len(replayed)}
    assert letters(shop, state="replayed").keys() == replayed


def test_a_replayed_push_is_pending_again(shop):
    with shop.services.database.tx() as tx:
        tx.exec_driver_sql("update sync_state set pending = 0, pushed = null where destination = 'klaviyo'")
    shop.api.post("/dead-letters/replay", expect=202, filter={"kind": "push"})
    assert shop.api.get("/destinations/klaviyo")["pending"] == 1


@pytest.mark.parametrize(
    "body", [{}, {"filter": {}}, {"ids": []}, {"ids": ["1"]}, {"ids": [2**63]}, {"filter": {"what": 1}}, {"all": True}]
)
def test_a_replay_of_nothing_in_particular_is_refused(shop, body):
    assert shop.api.post("/dead-letters/replay", expect=422, **body)["reason"] == "invalid"
    assert letters(shop, state="replayed") == {}


@pytest.mark.parametrize(
    ("body", "mark", "replayed"),
    [
        ({"filter": {"topic": "orders/create"}}, "quiet", {"d-1", "d-3"}),
        ({"filter": {"source": "shop"}, "fire_triggers": True}, "loud", {"d-1", "d-2", "d-3", "d-4"}),
        ({"filter": {"source": "another"}}, "quiet", set()),
    ],
)
def test_stored_deliveries_are_put_in_line_again(shop, body, mark, replayed):
    assert shop.api.post("/replay", expect=202, **body) == {"count": len(replayed)}
    with shop.services.inbox.read() as inbox:
        rows = inbox.exec_driver_sql("select delivery_id, headers from delivery where id > 4").all()
    assert {row.delivery_id.partition("#")[0] for row in rows} == replayed
    assert all(mark in row.headers for row in rows)


@pytest.mark.parametrize("body", [{}, {"filter": {}}, {"filter": {"state": "dead"}}, {"filter": None}])
def test_everything_is_not_replayed_by_accident(shop, body):
    assert shop.api.post("/replay", expect=422, **body)["reason"] == "invalid"
    assert len(shop.api.get("/deliveries")["items"]) == 4
