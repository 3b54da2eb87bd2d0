import pytest
from populated import ADA, BEA, GONE, NOW

from connector.clock import DAY, MINUTE, isoformat


@pytest.mark.parametrize(
    "query",
    [
        {"email": "ada@quay.example"},
        {"email": " ADA@Quay.example "},
        {"phone": "+351912345678"},
        {"phone": " 351 912 345 678"},  # what is left of an unescaped + in a URL
        {"customer_id": "207119551"},
        {"customer_id": "shop:207119551"},
        {"customer_id": "207119551", "source": "shop"},
        {"checkout_token": "c-77"},
        {"anonymous_id": "visitor-9"},
        {"email": "ada@quay.example", "checkout_token": "c-77"},
        {"q": "ada@q"},
        {"q": "ADA@q"},
        {"q": "visitor"},
        {"q": str(ADA)},
    ],
)
def test_a_profile_is_found_by_any_identifier(api, query):
    assert [row["id"] for row in api.get("/profiles", **query)["items"]] == [ADA]


@pytest.mark.parametrize(
    "query",
    [
        {"customer_id": "207119551", "source": "another"},
        {"email": "ada@quay.example", "checkout_token": "c-78"},
        {"q": "ada@quay.example.org"},
        {"q": "%"},
        {"q": str(GONE)},
        {"cart_token": "c-77"},
    ],
)
def test_nobody_is_found_by_what_does_not_fit(api, query):
    assert api.get("/profiles", **query) == {"items": [], "next": None}


def test_the_list_is_newest_first_without_merged_ones_and_reads_on_by_cursor(api):
    first = api.get("/profiles", limit=1)
    assert [row["id"] for row in first["items"]] == [BEA]
    second = api.get("/profiles", limit=1, cursor=first["next"])
    assert [row["id"] for row in second["items"]] == [ADA]
    assert second["next"] is None
    assert second["items"][0]["segments"] == ["recent-buyers", "vip"]
    assert second["items"][0]["traits"] == {"first_name": "Ada", "orders_count": 2, "total_spent": 1240.5}


def test_a_profile_is_told_whole(api):
    ada = api.get(f"/profiles/{ADA}")
    assert ada["traits"]["total_spent"] == 1240.5
    assert ada["consent"]["email"] == {
        "state": "subscribed",
        "at": isoformat(NOW - DAY),
        "source": "shop",
        "opt_in_level": "single_opt_in",
    }
    assert {"kind": "phone", "value": "+351912345678", "source": "shop"}.items() <= ada["identifiers"][4].items()
    assert [row["segment"] for row in ada["segments"]] == ["recent-buyers", "vip"]
    klaviyo, mailchimp = ada["destinations"]
    assert (klaviyo["pending"], klaviyo["pushed_at"]) == (False, isoformat(NOW - 2 * MINUTE))
    assert klaviyo["pushed"]["tags"] == ["vip"]
    assert (mailchimp["pending"], mailchimp["pushed"], mailchimp["pushed_at"]) == (True, None, None)


def test_a_merged_profile_answers_with_the_one_it_went_into(api):
    assert api.get(f"/profiles/{GONE}") == api.get(f"/profiles/{ADA}")
    assert api.get(f"/profiles/{ADA}")["merged_from"] == [GONE]
    assert api.get(f"/profiles/{GONE}/timeline") == api.get(f"/profiles/{ADA}/timeline")
    assert api.get(f"/profiles/{GONE}/segments") == api.get(f"/profiles/{ADA}/segments")


@pytest.mark.parametrize("path", ["", "/timeline", "/segments"])
@pytest.mark.parametrize("profile_id", ["4", "9223372036854775807", "9223372036854775808", "-1", "ada"])
def test_an_unknown_profile_is_404(api, profile_id, path):
    assert api.get(f"/profiles/{profile_id}{path}", expect=404)["reason"] == "not_found"


def test_the_timeline_tells_events_changes_and_pushes_newest_first(api):
    entries = api.get(f"/profiles/{ADA}/timeline")["items"]
    assert [(entry["type"], entry["name"]) for entry in entries] == [
        ("push", "change"),
        ("push", "change"),
        ("push", "change"),  # of one instant with what follows: the effect above its cause
        ("change", "segment"),
        ("change", "created"),
        ("event", "Order Completed"),
        ("event", "Order Completed"),
    ]
    assert entries[1]["data"]["reason"] == "rate_limited"
    assert entries[5]["data"] == {"total": 600.25}
    assert entries[5]["source"] == "shop"


@pytest.mark.parametrize("limit", [1, 2, 3, 6, 7])
def test_a_timeline_read_in_pages_is_the_same_timeline(api, limit):
    whole = api.get(f"/profiles/{ADA}/timeline")["items"]
    read, cursor = [], {}
    while cursor is not None:
        page = api.get(f"/profiles/{ADA}/timeline", limit=limit, **cursor)
        read += page["items"]
        cursor = {"cursor": page["next"]} if page["next"] else None
    assert read == whole


def test_every_segment_says_in_or_out_and_why(api):
    vip, recent = api.get(f"/profiles/{ADA}/segments")["items"]
    assert (vip["segment"], vip["name"], vip["matched"], vip["stored"]) == ("vip", "VIP", True, True)
    assert vip["since"] == isoformat(NOW - 2 * DAY)
    assert recent["recheck_at"] == isoformat(NOW + 5 * DAY)


def test_a_segment_without_a_stored_verdict_is_decided_on_the_spot(api):
    vip, recent = api.get(f"/profiles/{BEA}/segments")["items"]
    assert (vip["matched"], vip["stored"], vip["since"]) == (False, False, None)
    assert "10" in vip["because"]
    assert (recent["matched"], recent["stored"]) == (False, False)
    assert recent["because"]
