import pytest
from populated import ADA, NOW

from connector.clock import DAY, HOUR, MINUTE, SECOND, isoformat
from connector.web.current import of


def test_segments_tell_their_counts_and_refills(api):
    vip, recent = api.get("/segments")["items"]
    assert (vip["id"], vip["name"], vip["members"]) == ("vip", "VIP", 1)
    assert vip["when"] == {"trait": "total_spent", ">=": 1000}
    assert vip["refill"]["progress"] == 0.25
    assert vip["refill"]["expected_at"] == isoformat(NOW + 30 * SECOND)
    assert recent["refill"] is None
    assert api.get("/segments/vip") == vip
    assert api.get("/segments/vop", expect=404)["reason"] == "not_found"


def test_members_say_why_and_until_when(api):
    (member,) = api.get("/segments/recent-buyers/members")["items"]
    assert member == {
        "profile_id": ADA,
        "email": "ada@quay.example",
        "since": isoformat(NOW - 2 * DAY),
        "because": "Order Completed 2 days ago",
        "recheck_at": isoformat(NOW + 5 * DAY),
    }
    assert api.get("/segments/vop/members", expect=404)["reason"] == "not_found"


def test_members_read_on_by_cursor(shop):
    with shop.services.database.tx() as tx:
        for person in range(10, 15):
            tx.exec_driver_sql("insert into profile values (?, '{}', '{}', null, 0, 0, null)", (person,))
            tx.exec_driver_sql("insert into membership values ('vip', ?, ?, 0, '', null)", (person, person != 12))
    read, cursor = [], {}
    while cursor is not None:
        page = shop.api.get("/segments/vip/members", limit=2, **cursor)
        read += [row["profile_id"] for row in page["items"]]
        cursor = {"cursor": page["next"]} if page["next"] else None
    assert read == [ADA, 10, 11, 13, 14]


def test_a_source_tells_where_to_send_and_what_it_sent(shop):
    of(shop.app).metrics.rejected("shop", "bad_signature")
    (source,) = shop.api.get("/sources")["items"]
    assert source == shop.api.get("/sources/shop")
    assert source == {
        "name": "shop",
        "kind": "shopify",
        "webhook_url": "https://cues.quay.example/webhooks/shopify/shop",
        "processed": 2,
        "topics": {"customers/update": 1, "orders/create": 1},
        "skipped": {"unknown_topic": 3},
        "rejected": {"bad_signature": 1},
        "dead": 1,
        "last_at": isoformat(NOW),
    }
    assert shop.api.get("/sources/none", expect=404)["reason"] == "not_found"


def test_destinations_tell_how_they_stand_and_no_secret(api):
    klaviyo, mailchimp = api.get("/destinations")["items"]
    assert (klaviyo["state"], klaviyo["pending"], klaviyo["oldest_pending_at"]) == ("active", 0, None)
    assert klaviyo["last_hour"] == {"applied": 1, "retry": 1}
    assert klaviyo["last_error"]["reason"] == "rate_limited"
    assert (mailchimp["state"], mailchimp["message"]) == ("unauthorized", "the key is void")
    assert (mailchimp["pending"], mailchimp["pending_cues"], mailchimp["dry_run"]) == (1, 1, True)
    assert mailchimp["oldest_pending_at"] == isoformat(NOW - 3 * MINUTE)
    assert not any("env:" in str(value) or "credential" in name for name, value in klaviyo.items())


def test_a_destination_is_paused_and_resumed(shop):
    assert shop.api.post("/destinations/klaviyo/pause")["state"] == "paused"
    assert shop.api.get("/destinations/klaviyo")["state"] == "paused"
    resumed = shop.api.post("/destinations/mailchimp/resume")
    assert (resumed["state"], resumed["message"], resumed["retry_at"]) == ("active", "", None)
    assert shop.api.post("/destinations/none/pause", expect=404)["reason"] == "not_found"
    assert shop.api.post("/destinations/none/resume", expect=404)["reason"] == "not_found"


def test_deliveries_tell_what_became_of_them(api):
    page = api.get("/deliveries")["items"]
    assert [(row["delivery_id"], row["state"]) for row in page] == [
        ("d-4", "queued"),
        ("d-3", "queued"),
        ("d-2", "dead"),
        ("d-1", "processed"),
    ]


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ({"state": "queued"}, ["d-4", "d-3"]),
        ({"state": "processed"}, ["d-1"]),
        ({"state": "dead"}, ["d-2"]),
        ({"topic": "orders/create"}, ["d-3", "d-1"]),
        ({"topic": "orders/create", "state": "queued"}, ["d-3"]),
        ({"source": "another"}, []),
        ({"delivery_id": "d-3"}, ["d-3"]),
        ({"since": isoformat(NOW - 2 * MINUTE)}, ["d-4", "d-3"]),
        ({"until": isoformat(NOW - 2 * MINUTE)}, ["d-2", "d-1"]),
        ({"since": isoformat(NOW - 3 * MINUTE), "until": isoformat(NOW - MINUTE)}, ["d-3", "d-2"]),
    ],
)
def test_deliveries_are_filtered(api, query, found):
    assert [row["delivery_id"] for row in api.get("/deliveries", **query)["items"]] == found


def test_deliveries_read_on_by_cursor_through_a_filter(api):
    first = api.get("/deliveries", topic="orders/create", limit=1)
    assert [row["delivery_id"] for row in first["items"]] == ["d-3"]
    second = api.get("/deliveries", topic="orders/create", limit=1, cursor=first["next"])
    assert ([row["delivery_id"] for row in second["items"]], second["next"]) == (["d-1"], None)


def test_one_delivery_shows_its_body_as_received(api):
    ids = {row["delivery_id"]: row["id"] for row in api.get("/deliveries")["items"]}
    text = api.get(f"/deliveries/{ids['d-1']}")
    assert (text["body"], text["encoding"]) == ('{"id": 450789469}', "utf-8")
    assert text["headers"] == {"x-shopify-topic": "orders/create"}
    binary = api.get(f"/deliveries/{ids['d-4']}")
    assert (binary["body"], binary["encoding"]) == ("//4=", "base64")
    assert api.get("/deliveries/999", expect=404)["reason"] == "not_found"


@pytest.mark.parametrize(
    ("query", "count"),
    [
        ({}, 3),
        ({"destination": "klaviyo"}, 3),
        ({"destination": "mailchimp"}, 0),
        ({"status": "applied"}, 2),
        ({"profile_id": 1, "kind": "change"}, 3),
        ({"profile_id": 2}, 0),
        ({"since": isoformat(NOW - HOUR)}, 2),
        ({"until": isoformat(NOW - HOUR)}, 1),
    ],
)
def test_pushes_are_filtered(api, query, count):
    assert len(api.get("/pushes", **query)["items"]) == count


def test_pushes_are_newest_first_with_what_they_changed(api):
    page = api.get("/pushes", limit=2)
    assert [row["status"] for row in page["items"]] == ["applied", "retry"]
    assert page["items"][0]["data"]["tags_added"] == ["vip"]
    assert [row["status"] for row in api.get("/pushes", limit=2, cursor=page["next"])["items"]] == ["applied"]


def test_status_tells_what_waits(api):
    told = api.get("/status")
    assert (told["lag"], told["oldest_waiting_at"]) == (2, isoformat(NOW - 2 * MINUTE))
    (partition,) = told["partitions"]
    assert (partition["head"], partition["position"], partition["lag"]) == (4, 2, 2)
    assert [refill["segment"] for refill in told["refills"]] == ["vip"]
    assert [(row["name"], row["state"]) for row in told["destinations"]] == [
        ("klaviyo", "active"),
        ("mailchimp", "unauthorized"),
    ]
    assert told["dead_letters"] == [
        {"kind": "delivery", "reason": "no_total", "count": 1},
        {"kind": "push", "reason": "invalid_email", "count": 1},
    ]


@pytest.mark.parametrize("path", ["/profiles", "/deliveries", "/pushes", "/dead-letters", "/segments/vip/members"])
@pytest.mark.parametrize("cursor", ["x", "!!", "WyJhIl0", "W10", "WzE4NDQ2NzQ0MDczNzA5NTUxNjE1XQ", "bnVsbA"])
def test_a_cursor_of_another_list_is_refused(api, path, cursor):
    assert api.get(path, expect=422, cursor=cursor)["reason"] == "cursor"


@pytest.mark.parametrize("cursor", ["WzFd", "WzEsMCwieCJd", "WzEsMywieCJd", "WzEsLTksIngiXQ"])
def test_a_cursor_of_another_list_is_refused_by_the_timeline(api, cursor):
    assert api.get(f"/profiles/{ADA}/timeline", expect=422, cursor=cursor)["reason"] == "cursor"


@pytest.mark.parametrize(
    ("path", "query", "pointer"),
    [
        ("/profiles", {"limit": 0}, "query/limit"),
        ("/profiles", {"limit": 201}, "query/limit"),
        ("/profiles", {"limit": "many"}, "query/limit"),
        ("/profiles", {"mail": "ada@quay.example"}, "query/mail"),
        ("/deliveries", {"state": "lost"}, "query/state"),
        ("/deliveries", {"since": "yesterday"}, "query/since"),
        ("/deliveries", {"since": "99999-01-01"}, "query/since"),
        ("/pushes", {"profile_id": 2**63}, "query/profile_id"),
        ("/dead-letters", {"kind": ""}, "query/kind"),
    ],
)
def test_a_parameter_that_is_not_as_described_is_named(api, path, query, pointer):
    told = api.get(path, expect=422, **query)
    assert told["reason"] == "invalid"
    assert [fault["pointer"] for fault in told["errors"]] == [pointer]
