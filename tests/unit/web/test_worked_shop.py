"""The API over what the real line made of real deliveries."""

import json

import pytest
from caller import Caller

from connector.app import create_app
from connector.clock import DAY, isoformat
from connector.web.auth import create_token
from connector.web.current import of
from tests.conftest import CONFIG, NOON, order

BROKEN = {"id": 1003, "updated_at": "yesterday-ish", "customer": {"id": 501}}


@pytest.fixture
def worked(make_shop):
    made = make_shop(CONFIG)
    app = create_app(services=made.services, now=lambda: made.time)
    with made.services.database.tx() as tx:
        made.api = Caller(app, create_token(tx, "tests", NOON))
    yield made
    of(app).metrics.close()


def test_a_buyer_is_found_with_timeline_and_reasons(worked):
    worked.deliver("orders/create", order(1001, total="600.00", at=NOON - 8 * DAY))
    worked.deliver("orders/create", order(1002, total="700.00", at=NOON - DAY))
    assert worked.api.get("/status")["lag"] == 2
    worked.work()
    assert worked.api.get("/status")["lag"] == 0
    (ada,) = worked.api.get("/profiles", email="Ada@example.com")["items"]
    assert worked.api.get("/profiles", customer_id="501")["items"] == [ada]
    assert (ada["traits"]["total_spent"], ada["traits"]["orders_count"]) == (1300, 2)
    whole = worked.api.get(f"/profiles/{ada['id']}")
    assert {row["kind"] for row in whole["identifiers"]} >= {"customer_id", "email", "checkout_token"}
    names = [entry["name"] for entry in worked.api.get(f"/profiles/{ada['id']}/timeline")["items"]]
    assert names.count("Order Completed") == 2
    assert {"created", "traits", "segment"} <= set(names)
    verdicts = {row["segment"]: row for row in worked.api.get(f"/profiles/{ada['id']}/segments")["items"]}
    assert {name: row["matched"] for name, row in verdicts.items()} == {
        "recent-buyers": True,
        "vip": True,
        "lapsed-vip": False,
        "abandoned-checkout": False,
    }
    assert verdicts["recent-buyers"]["recheck_at"] == isoformat(NOON + 6 * DAY)
    assert all(row["because"] for row in verdicts.values())


def test_membership_lapses_by_time_and_the_api_says_since_when(worked):
    worked.deliver("orders/create", order(1001, total="1200.00"))
    worked.work()
    assert worked.api.get("/segments/recent-buyers")["members"] == 1
    worked.at(NOON + 7 * DAY)
    assert worked.api.get("/segments/recent-buyers")["members"] == 0
    (member,) = worked.api.get("/segments/lapsed-vip/members")["items"]
    assert member["since"] == isoformat(NOON + 7 * DAY)


def test_a_dead_letter_is_mended_and_replayed(worked):
    worked.deliver("orders/create", BROKEN)
    worked.work()
    (letter,) = worked.api.get("/dead-letters", state="open")["items"]
    assert (letter["kind"], letter["origin"], letter["topic"]) == ("delivery", "shop", "orders/create")
    (delivery,) = worked.api.get("/deliveries", state="dead")["items"]
    assert delivery["delivery_id"] == letter["reference"]
    mended = json.dumps(order(1003, total="50.00"))
    worked.api("PATCH", f"/dead-letters/{letter['id']}", json={"body": mended})
    assert worked.api.post("/dead-letters/replay", expect=202, filter={"origin": "shop"}) == {"count": 1}
    worked.work()
    (ada,) = worked.api.get("/profiles", customer_id="501")["items"]
    assert ada["traits"]["total_spent"] == 50
    assert worked.api.get("/deliveries", state="dead")["items"] == []


def test_a_replay_changes_nothing_that_was_right(worked):
    worked.deliver("orders/create", order(1001, total="1200.00"))
    worked.work()
    before = worked.api.get("/profiles/1")
    assert worked.api.post("/replay", expect=202, filter={"topic": "orders/create"}) == {"count": 0}
    worked.at(NOON + 1)
    assert worked.api.post("/replay", expect=202, filter={"topic": "orders/create"}) == {"count": 1}
    worked.work()
    assert [row["state"] for row in worked.api.get("/deliveries")["items"]] == ["processed", "processed"]
    after = worked.api.get("/profiles/1")
    assert (after["traits"], after["segments"]) == (before["traits"], before["segments"])


def test_a_new_rule_put_through_the_api_is_refilled(worked):
    worked.deliver("orders/create", order(1001, total="300.00"))
    worked.work()
    wanted = worked.api.get("/configuration")
    wanted["segments"]["vip"]["when"] = {"trait": "total_spent", ">=": 200}
    worked.api("PUT", "/configuration", json=wanted)
    worked.worker.refresh(force=True)
    worked.work()
    assert worked.api.get("/segments/vip")["members"] == 1
    assert worked.api.get("/segments/vip")["refill"]["progress"] == 1
    assert worked.api.get("/status")["refills"] == []
