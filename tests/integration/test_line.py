"""The whole line on recorded shapes: delivery in, profile, traits, segments, desired states out."""

from collections.abc import Callable

from sqlalchemy import update

from connector.clock import DAY, MINUTE, SECOND
from connector.pipeline import line
from connector.storage.tables import dead_letter
from tests.conftest import CONFIG, NOON, Shop, checkout, order


def test_an_order_makes_a_profile_with_traits_and_segments(shop: Shop) -> None:
    assert shop.deliver("orders/create", order(total="1200.50")).status == 200
    shop.work()
    [(traits,)] = shop.rows("SELECT traits FROM profile")
    assert '"total_spent":1200.5' in traits
    assert '"orders_count":1' in traits
    assert shop.segments() == {"recent-buyers", "vip"}


def test_a_window_lapses_to_the_second_without_any_event(shop: Shop) -> None:
    shop.deliver("orders/create", order(total="1200.00"))
    shop.work()
    shop.at(NOON + 7 * DAY - 1)
    assert shop.segments() == {"recent-buyers", "vip"}
    shop.at(NOON + 7 * DAY)
    assert shop.segments() == {"vip", "lapsed-vip"}


def test_a_checkout_is_abandoned_after_thirty_minutes_and_not_before(shop: Shop) -> None:
    shop.deliver("checkouts/create", checkout())
    shop.work()
    shop.at(NOON + 30 * MINUTE - SECOND)
    assert shop.segments() == set()
    shop.at(NOON + 30 * MINUTE)
    assert shop.segments() == {"abandoned-checkout"}
    shop.deliver("orders/create", order(at=NOON + 31 * MINUTE))
    shop.at(NOON + 31 * MINUTE)
    assert "abandoned-checkout" not in shop.segments()


def test_an_order_in_time_means_the_checkout_was_never_abandoned(shop: Shop) -> None:
    shop.deliver("checkouts/create", checkout())
    shop.deliver("orders/create", order(at=NOON + 10 * MINUTE))
    shop.work()
    shop.at(NOON + DAY)
    assert "abandoned-checkout" not in shop.segments()
    assert shop.rows("SELECT count(*) FROM change WHERE data LIKE '%abandoned%'") == [(0,)]


def test_a_repeat_has_no_second_effect(shop: Shop) -> None:
    for _ in range(3):
        shop.deliver("orders/create", order(), id="same")
    for _ in range(2):
        shop.deliver("orders/paid", order(), id=None)  # another delivery of the same fact
    shop.work()
    assert shop.rows("SELECT count(*) FROM event WHERE name = 'Order Completed'") == [(1,)]
    assert shop.rows("SELECT json_extract(traits, '$.orders_count') FROM profile") == [(1,)]


def test_a_late_older_version_changes_nothing(shop: Shop) -> None:
    shop.deliver("orders/updated", order(total="50.00", updated=NOON + MINUTE))
    shop.deliver("orders/create", order(total="100.00", updated=NOON))
    shop.work()
    assert shop.rows("SELECT total FROM shop_order") == [(5000,)]


def test_refunds_count_once_whichever_way_they_come(shop: Shop) -> None:
    refund = {
        "id": 77,
        "order_id": 1001,
        "created_at": "2026-11-18T12:00:00Z",
        "processed_at": "2026-11-18T12:00:00Z",
        "refund_line_items": [],
        "order_adjustments": [],
        "transactions": [
            {"id": 1, "kind": "refund", "status": "success", "amount": "30.00", "currency": "EUR"},
        ],
    }
    shop.time = NOON + DAY
    shop.deliver("refunds/create", refund)  # before its order
    shop.work()
    shop.deliver("orders/updated", order(total="100.00", refunds=[refund]))
    shop.work()
    assert shop.rows("SELECT refunded FROM shop_order") == [(3000,)]
    assert shop.rows("SELECT json_extract(traits, '$.total_spent') FROM profile") == [(70,)]


def test_a_cancelled_order_counts_no_more(shop: Shop) -> None:
    shop.deliver("orders/create", order(total="1500.00"))
    shop.work()
    assert "vip" in shop.segments()
    shop.deliver("orders/cancelled", order(total="1500.00", updated=NOON + 1000, cancelled_at="2026-11-18T11:06:41Z"))
    shop.work()
    assert "vip" not in shop.segments()
    assert shop.rows("SELECT json_extract(traits, '$.orders_count') FROM profile") == [(0,)]


def test_tags_come_as_a_stream_of_their_own(shop: Shop) -> None:
    shop.deliver("orders/create", order())
    customer = "gid://shopify/Customer/501"
    shop.deliver("customer.tags_added", {"customerId": customer, "tags": ["vip"], "occurredAt": "2026-11-18T11:00:00Z"})
    shop.work()
    assert "vip" in shop.segments()
    shop.deliver(
        "customer.tags_removed", {"customerId": customer, "tags": ["vip"], "occurredAt": "2026-11-18T10:00:00Z"}
    )
    shop.work()
    assert "vip" in shop.segments(), "the removal happened before the addition"


def test_a_guest_checkout_and_the_customers_order_are_one_person(shop: Shop) -> None:
    shop.deliver("checkouts/create", checkout(email="ada@example.com"))
    shop.work()
    shop.deliver("orders/create", order(customer=501, at=NOON + MINUTE))
    shop.work()
    assert shop.rows("SELECT count(*) FROM profile WHERE merged_into IS NULL") == [(1,)]


def test_a_bad_body_is_a_dead_letter_and_the_line_goes_on(shop: Shop) -> None:
    shop.deliver("orders/create", b'{"id": 1, "total_price": NaN}')
    shop.deliver("orders/create", order())
    shop.work()
    [(reason, state)] = shop.rows("SELECT reason, state FROM dead_letter")
    assert (reason, state) == ("not_json", "open")
    assert shop.rows("SELECT count(*) FROM shop_order") == [(1,)]


def test_a_dead_letter_can_be_mended_and_replayed(shop: Shop) -> None:
    import json

    shop.deliver("orders/create", b'{"id": 1, "total_price": NaN}')
    shop.work()
    with shop.services.database.tx() as tx:
        tx.execute(update(dead_letter).values(body=json.dumps(order()).encode()))
    assert shop.services.replay_dead_letters([1], now=shop.time) == 1
    shop.work()
    assert shop.rows("SELECT state FROM dead_letter") == [("replayed",)]
    assert shop.rows("SELECT count(*) FROM shop_order") == [(1,)]


def test_a_replay_of_everything_changes_nothing(shop: Shop) -> None:
    shop.deliver("orders/create", order(total="1200.00"))
    shop.deliver("checkouts/create", checkout("other"))
    shop.work()
    state = [shop.rows(f"SELECT * FROM {table}") for table in ("profile", "event", "membership", "shop_order")]
    assert shop.services.replay_deliveries(now=shop.time + 1) == 2
    shop.work()
    assert state == [shop.rows(f"SELECT * FROM {table}") for table in ("profile", "event", "membership", "shop_order")]


def test_a_record_that_breaks_us_is_buried_and_the_others_are_done(shop: Shop, monkeypatch) -> None:  # type: ignore[no-untyped-def]
    real = line.event_rows

    def breaks(meant, batch, zone):  # type: ignore[no-untyped-def]
        if any(one.delivery.id == "bad" for one in meant):
            raise RuntimeError("boom")
        return real(meant, batch, zone)

    monkeypatch.setattr(line, "event_rows", breaks)
    for number in range(5):
        shop.deliver("orders/create", order(1000 + number), id="bad" if number == 2 else f"good{number}")
    for _ in range(5):  # attempts
        shop.at(shop.time + 10 * MINUTE)
    assert shop.rows("SELECT count(*) FROM shop_order") == [(4,)]
    assert shop.rows("SELECT reference, reason FROM dead_letter") == [("bad", "failed")]


def test_a_changed_rule_is_filled_in_the_background_and_fires_nothing(make_shop: Callable[[str], Shop]) -> None:
    destination = "destinations:\n  k: {kind: klaviyo, credentials: {api_key: pk_test}, events: true}\n"
    shop = make_shop(CONFIG + destination)
    shop.deliver("orders/create", order(total="600.00"))
    shop.work()
    assert "vip" not in shop.segments()
    fired = shop.rows("SELECT count(*) FROM cue")
    shop.configure(CONFIG.replace('">=": 1000', '">=": 500') + destination)
    shop.work()
    assert "vip" in shop.segments()
    assert "vip" in (shop.desired("k") or {})["tags"]
    assert shop.rows("SELECT count(*) FROM cue") == fired
    assert shop.rows("SELECT count(*) FROM refill WHERE finished_at IS NULL") == [(0,)]


def test_a_removed_segment_takes_its_tag_away(make_shop: Callable[[str], Shop]) -> None:
    destination = "destinations:\n  k: {kind: klaviyo, credentials: {api_key: pk_test}}\n"
    shop = make_shop(CONFIG + destination)
    shop.deliver("orders/create", order())
    shop.work()
    assert (shop.desired("k") or {})["tags"] == ["recent-buyers"]
    before, after = CONFIG.index("  recent-buyers:"), CONFIG.index("  vip:")
    without = CONFIG[:before] + CONFIG[after:]
    without = without[: without.index("  lapsed-vip:")] + without[without.index("  abandoned-checkout:") :]
    shop.configure(without + destination)
    shop.work()
    assert (shop.desired("k") or {})["tags"] == []
    assert shop.rows("SELECT count(*) FROM membership WHERE segment = 'recent-buyers'") == [(0,)]


def test_cues_fire_once_per_entry_and_leave(make_shop: Callable[[str], Shop]) -> None:
    shop = make_shop(CONFIG + "destinations:\n  k: {kind: klaviyo, credentials: {api_key: pk_test}, events: true}\n")
    shop.deliver("orders/create", order())
    shop.work()
    shop.at(NOON + 8 * DAY)
    cues = shop.rows("SELECT name, json_extract(properties, '$.segment') FROM cue ORDER BY id")
    assert cues == [("Segment Entered", "recent-buyers"), ("Segment Left", "recent-buyers")]


def test_a_person_who_breaks_the_clock_holds_up_nobody(shop: Shop, monkeypatch) -> None:  # type: ignore[no-untyped-def]
    for number in range(3):
        shop.deliver("orders/create", order(1000 + number, customer=500 + number, email=f"p{number}@example.com"))
    shop.work()
    evaluate = type(shop.worker.pipeline.ruleset).evaluate
    broken = shop.rows("SELECT id FROM profile WHERE email = 'p1@example.com'")[0][0]

    def breaks(self, facts, now):  # type: ignore[no-untyped-def]
        if facts.traits.get("email") == "p1@example.com":
            raise TypeError("boom")
        return evaluate(self, facts, now)

    monkeypatch.setattr(type(shop.worker.pipeline.ruleset), "evaluate", breaks)
    shop.at(NOON + 7 * DAY)
    still_in = {row[0] for row in shop.rows("SELECT profile_id FROM membership WHERE matched = 1")}
    assert still_in == {broken}
    monkeypatch.undo()
    shop.at(NOON + 7 * DAY + 2 * 60 * MINUTE)
    assert shop.rows("SELECT count(*) FROM membership WHERE matched = 1") == [(0,)]
