"""A shop's past: the same people as its webhooks make, whatever interrupts it, and nothing started by it."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from adapters.errors import Transient
from connector.backfill import store, work
from connector.backfill.result import Result
from connector.backfill.work import Backfills
from connector.clock import DAY, HOUR, MINUTE, isoformat
from connector.simulator.shopify_admin import FakeShopifyAdmin
from connector.sync import guard
from tests.conftest import NOON, Shop
from tests.conftest import order as webhook_order
from tests.shopify_admin import ask, config, customer, everything, fake, fetch, held, order, past, states


@pytest.fixture
def admin() -> Iterator[FakeShopifyAdmin]:
    with fake(held(past())) as server:
        yield server
        assert server.refused == []  # the schema, where it is, had nothing against any query


@pytest.fixture
def aurora(admin: FakeShopifyAdmin, make_shop: Callable[[str], Shop]) -> Shop:
    return make_shop(config(admin))


def test_a_backfill_brings_everything_in(admin: FakeShopifyAdmin, aurora: Shop) -> None:
    ask(aurora)
    fetch(aurora)
    assert states(aurora) == dict.fromkeys(("products", "customers", "orders", "checkouts"), "done")
    found = everything(aurora)
    assert len(found["orders"]) == len(admin.held["orders"])
    counted = {kind: sum(row[0] == kind for row in found["things"]) for kind in ("customer", "product", "checkout")}
    assert counted == {
        "customer": len(admin.held["customers"]),
        "product": len(admin.held["products"]),
        "checkout": len(admin.held["abandonedCheckouts"]),
    }
    assert aurora.rows("SELECT * FROM dead_letter") == []
    assert list((aurora.services.settings.data_dir / "backfill").iterdir()) == []


def test_a_shop_told_by_webhooks_and_by_a_backfill_is_the_same(
    make_shop: Callable[[str], Shop], tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Same natural keys: a backfill after the webhooks adds no event and no order, and changes no sum."""
    from connector.simulator.store import Shop as SimulatedShop

    simulated = SimulatedShop(11, people=25)
    webhooks = list(simulated.history(NOON - 90 * DAY, NOON, orders=40))
    with fake(held(simulated)) as server:
        told = make_shop(config(server))
        told.services.settings.data_dir.exists()
        for webhook in webhooks:
            if webhook.topic.startswith(("orders/", "customers/create", "refunds/", "checkouts/", "products/")):
                told.deliver(webhook.topic, webhook.body, id=webhook.headers["X-Shopify-Webhook-Id"])
        told.work()
        before = everything(told)
        ask(told)
        fetch(told)
        after = everything(told)
    assert after["events"] == before["events"]
    assert after["orders"] == before["orders"]
    sums = ("total_spent", "orders_count", "first_order_at", "last_order_at")
    pick = [[json.loads(traits).get(one) for one in sums] for _, traits in before["people"]]
    assert [[json.loads(traits).get(one) for one in sums] for _, traits in after["people"]] == pick


def test_lines_that_stand_anywhere_in_the_file_are_put_together(
    admin: FakeShopifyAdmin, aurora: Shop, tmp_path_factory: pytest.TempPathFactory
) -> None:
    ask(aurora)
    fetch(aurora)
    orderly = aurora.rows("SELECT id, properties FROM event ORDER BY id")
    admin.knobs.stray = True
    other = Shop(tmp_path_factory.mktemp("other"), config(admin))
    try:
        ask(other)
        fetch(other)
        found = other.rows("SELECT id, properties FROM event ORDER BY id")
    finally:
        other.close()
    assert [id_ for id_, _ in found] == [id_ for id_, _ in orderly]
    for (_, left), (_, right) in zip(orderly, found, strict=True):
        both = [sorted(map(str, json.loads(one)["products"])) for one in (left, right)]
        assert both[0] == both[1]


def test_pages_do_where_bulk_is_refused(admin: FakeShopifyAdmin, aurora: Shop) -> None:
    admin.knobs.refuse_bulk = "Bulk queries are not for this shop"
    ask(aurora)
    fetch(aurora)
    assert set(states(aurora).values()) == {"done"}
    assert len(everything(aurora)["orders"]) == len(admin.held["orders"])


def test_what_a_failed_operation_had_found_is_used_and_pages_do_the_rest(admin: FakeShopifyAdmin, aurora: Shop) -> None:
    admin.knobs.fail_bulk = ("FAILED", "TIMEOUT", 10)
    ask(aurora, "orders")
    fetch(aurora)
    assert states(aurora) == {"orders": "done"}
    assert admin.downloads == [0]
    assert len(everything(aurora)["orders"]) == len(admin.held["orders"])


def test_a_download_that_breaks_off_goes_on_where_it_was(admin: FakeShopifyAdmin, aurora: Shop) -> None:
    admin.knobs.break_off = [10_000, 20_000]
    ask(aurora, "orders")
    fetch(aurora)
    assert admin.downloads == [0, 10_000, 30_000]
    assert len(everything(aurora)["orders"]) == len(admin.held["orders"])


def test_a_download_that_cannot_be_resumed_begins_anew(admin: FakeShopifyAdmin, aurora: Shop) -> None:
    admin.knobs.break_off, admin.knobs.ranges = [10_000], False
    ask(aurora, "orders")
    fetch(aurora)
    assert admin.downloads == [0, 0]
    assert len(everything(aurora)["orders"]) == len(admin.held["orders"])


def test_a_result_elsewhere_is_not_fetched(admin: FakeShopifyAdmin, aurora: Shop) -> None:
    admin.knobs.foreign = "http://169.254.169.254"
    ask(aurora, "orders")
    fetch(aurora)
    (row,) = aurora.rows("SELECT state, message FROM backfill")
    assert row[0] == "failed"
    assert "not known as Shopify's storage" in row[1]


class Killed(BaseException):
    """The process dies."""


@pytest.mark.parametrize("by_pages", [False, True])
def test_killed_at_every_write_it_ends_all_the_same(
    by_pages: bool, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Before and after every durable write of a backfill, in the database, in the log and on the disk."""
    monkeypatch.setattr("connector.backfill.result.GROUP", 4)
    with fake(held(past(people=6, orders=10))) as server:
        server.knobs.refuse_bulk = "no" if by_pages else None
        calm, other = Shop(tmp_path / "calm", config(server)), Shop(tmp_path / "other", config(server))
        try:
            ask(calm, "customers", "orders")
            fetch(calm)
            killed = _fetched_by_those_who_die(other, monkeypatch)
            assert set(states(other).values()) == {"done"}, other.rows("SELECT state, message FROM backfill")
            assert everything(other) == everything(calm)
        finally:
            calm.close()
            other.close()
    assert killed > 20


def _fetched_by_those_who_die(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> int:
    """How many processes it took: each dies at the first write at which none has died before."""
    survived: set[object] = set()

    def dying(name: str, real: Callable[..., Any]) -> Callable[..., Any]:
        """Each write is tried three times: the process dies before it, then after it, and then it lives."""

        def write(itself: Any, row: Any, *args: Any, **kwargs: Any) -> Any:
            what = (name, *(row[key] for key in ("kind", "state", "position", "cursor"))) if name != "sort" else name
            if ("before", what) not in survived:
                survived.add(("before", what))
                raise Killed
            done = real(itself, row, *args, **kwargs)
            if ("after", what) not in survived:
                survived.add(("after", what))
                raise Killed
            return done

        return write

    monkeypatch.setattr(Backfills, "_go_on", dying("go on", Backfills._go_on))
    monkeypatch.setattr(Backfills, "_end", dying("end", Backfills._end))
    monkeypatch.setattr(Backfills, "_put_in_line", dying("put in line", Backfills._put_in_line))
    monkeypatch.setattr(Result, "sort", dying("sort", Result.sort))
    ask(shop, "customers", "orders")
    killed = 0
    while True:
        try:
            fetch(shop)
            return killed
        except Killed:
            killed += 1
            # A new process: it knows what is written, and nothing else.
            shop.worker.past.close()
            shop.worker.past = type(shop.worker.past)(shop.services, lambda: shop.time)


def test_an_operation_begun_before_a_crash_is_found_again(
    admin: FakeShopifyAdmin, aurora: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    ask(aurora, "orders")
    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(Backfills, "_go_on", lambda *_, **__: (_ for _ in ()).throw(Killed))
        aurora.worker.past.step_backfill()
    fetch(aurora)
    assert len(admin.operations) == 1


def test_a_backfill_that_is_started_again_is_harmless(admin: FakeShopifyAdmin, aurora: Shop) -> None:
    ask(aurora)
    fetch(aurora)
    before = everything(aurora)
    ask(aurora)
    fetch(aurora)
    assert everything(aurora) == before


def test_one_that_runs_is_left_to_go_on(admin: FakeShopifyAdmin, aurora: Shop) -> None:
    ask(aurora, "orders")
    aurora.worker.past.step_backfill()
    with aurora.services.database.tx() as tx:
        assert store.ask(tx, "shop", ["orders", "products"], None, NOON + 5) == ["products"]


@pytest.mark.parametrize("steps", range(6))
def test_a_backfill_can_be_cancelled_at_every_step(steps: int, admin: FakeShopifyAdmin, aurora: Shop) -> None:
    ask(aurora, "orders")
    for _ in range(steps):
        aurora.worker.past.step_backfill()
        aurora.time += 6_000
    with aurora.services.database.tx() as tx:
        cancelled = store.cancel(tx, "shop", aurora.time)
    fetch(aurora)
    assert states(aurora) == {"orders": "cancelled" if cancelled else "done"}
    assert not any(one.status in ("CREATED", "RUNNING") for one in admin.operations.values())
    folder = aurora.services.settings.data_dir / "backfill"
    assert not folder.exists() or list(folder.iterdir()) == []


def test_only_what_changed_since(admin: FakeShopifyAdmin, aurora: Shop) -> None:
    since = NOON - 10 * DAY
    ask(aurora, "orders", since=since)
    fetch(aurora)
    rows = aurora.rows("SELECT updated_at FROM shop_order")
    assert 0 < len(rows) < len(admin.held["orders"])
    assert all(at >= since for (at,) in rows)


def test_whoever_buys_meanwhile_does_not_wait(
    admin: FakeShopifyAdmin, aurora: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(work, "CROWD", 10)
    monkeypatch.setattr("connector.backfill.result.GROUP", 7)
    ask(aurora, "orders")
    most = 0
    for _ in range(200):
        aurora.time += 6_000
        while aurora.worker.past.step_backfill():
            most = max(most, aurora.services.log.standing().lag)
        aurora.work()
    assert states(aurora) == {"orders": "done"}
    assert most <= 10 + 7


def test_nothing_is_started_by_it_now_or_by_a_replay(admin: FakeShopifyAdmin, aurora: Shop) -> None:
    ask(aurora)
    fetch(aurora)
    assert aurora.segments(aurora.rows("SELECT profile_id FROM shop_order LIMIT 1")[0][0]) >= {"buyers"}
    assert aurora.rows("SELECT count(*) FROM cue") == [(0,)]
    aurora.services.replay_deliveries(fire_triggers=True, now=aurora.time + 1)
    aurora.time += 1
    aurora.work()
    assert aurora.rows("SELECT count(*) FROM cue") == [(0,)]


def test_what_is_bought_afterwards_starts_what_it_should(make_shop: Callable[[str], Shop]) -> None:
    with fake({"customers": [customer(at=NOON - DAY)]}) as server:
        shop = make_shop(config(server))
        ask(shop, "customers")
        fetch(shop)
        shop.deliver("orders/create", webhook_order(at=shop.time))
        shop.work()
        assert shop.rows("SELECT name, backfill FROM cue") == [("Segment Entered", 0)]


def test_the_first_push_is_held_until_it_is_approved_and_only_judged_at_the_end(
    admin: FakeShopifyAdmin, aurora: Shop
) -> None:
    ask(aurora, "customers", "orders")
    database, pushed = aurora.services.database, "SELECT count(*) FROM sync_state WHERE pushed IS NOT NULL"
    for _ in range(30):
        aurora.worker.past.step_backfill()
        aurora.work()
        if set(states(aurora).values()) != {"done"}:
            assert guard.review(database, "screen", aurora.time + MINUTE).hold is None
            aurora.worker.push_once()
        aurora.time += 6_000
    assert set(states(aurora).values()) == {"done"}
    aurora.time += MINUTE
    aurora.worker.push_once()
    assert aurora.rows(pushed) == [(0,)]
    review = guard.review(database, "screen", aurora.time)
    assert review.hold is not None
    assert review.hold.new == aurora.rows("SELECT count(*) FROM sync_state")[0][0] >= 10
    assert guard.approve(database, "screen", review.decision)
    for _ in range(10):
        aurora.worker.push_once()
    assert aurora.rows(pushed)[0][0] == review.hold.new


def test_a_webhook_that_is_newer_wins_whichever_comes_first(make_shop: Callable[[str], Shop]) -> None:
    old = order(updated=NOON - HOUR, at=NOON - DAY, total="100.0")
    with fake({"orders": [old]}) as server:
        shop = make_shop(config(server))
        shop.deliver("orders/updated", webhook_order(at=NOON - DAY, updated=NOON, total="40.00"))
        shop.work()
        ask(shop, "orders")
        fetch(shop)
        assert shop.rows("SELECT total, counts FROM shop_order") == [(4000, 1)]
        server.held["orders"] = [order(updated=NOON + HOUR, at=NOON - DAY, total="30.0")]
        shop.time = NOON + 2 * HOUR
        ask(shop, "orders")
        fetch(shop)
        assert shop.rows("SELECT total, counts FROM shop_order") == [(3000, 1)]
        assert shop.rows("SELECT count(*) FROM event WHERE name = 'Order Completed'") == [(1,)]


@pytest.mark.parametrize(("said_at", "stays"), [(NOON - DAY, "unsubscribed"), (NOON - 10 * DAY, "subscribed")])
def test_consent_counts_as_of_its_own_instant(said_at: int, stays: str, make_shop: Callable[[str], Shop]) -> None:
    email = {
        "emailAddress": "ada@example.com",
        "marketingState": "SUBSCRIBED",
        "marketingOptInLevel": "SINGLE_OPT_IN",
        "marketingUpdatedAt": isoformat(NOON - 5 * DAY),
    }
    with fake({"customers": [customer(defaultEmailAddress=email)]}) as server:
        shop = make_shop(config(server))
        word = {"state": "unsubscribed", "opt_in_level": None, "consent_updated_at": isoformat(said_at)}
        shop.deliver(
            "customers_email_marketing_consent/update",
            {"customer_id": 501, "email_address": "ada@example.com", "email_marketing_consent": word},
        )
        shop.work()
        ask(shop, "customers")
        fetch(shop)
        ((consent,),) = shop.rows("SELECT consent FROM profile")
        assert json.loads(consent)["email"]["state"] == stays


def test_consent_without_an_instant_never_wins_over_one_with(make_shop: Callable[[str], Shop]) -> None:
    email = customer()["defaultEmailAddress"] | {"marketingState": "SUBSCRIBED"}
    silent = {"state": "SUBSCRIBED", "optInLevel": None, "updatedAt": isoformat(NOON - DAY)}
    phone = {"phoneNumber": "+33639980001", "smsMarketingConsent": silent, "whatsAppMarketingConsent": silent}
    with fake({"customers": [customer(defaultEmailAddress=email, defaultPhoneNumber=phone)]}) as server:
        shop = make_shop(config(server))
        word = {"state": "unsubscribed", "consent_updated_at": isoformat(NOON - 200 * DAY)}
        shop.deliver("customers_email_marketing_consent/update", {"customer_id": 501, "email_marketing_consent": word})
        shop.work()
        ask(shop, "customers")
        fetch(shop)
        ((consent,),) = shop.rows("SELECT consent FROM profile")
        said = json.loads(consent)
        assert {channel: word["state"] for channel, word in said.items()} == {
            "email": "unsubscribed",
            "sms": "subscribed",
            "whatsapp": "subscribed",
        }


def test_somebody_erased_meanwhile_stays_erased(make_shop: Callable[[str], Shop]) -> None:
    with fake({"customers": [customer()]}) as server:
        shop = make_shop(config(server))
        ask(shop, "customers")
        for _ in range(3):  # the file is here, what is in it not yet
            shop.worker.past.step_backfill()
            shop.time += 6_000
        shop.deliver("customers/redact", {"customer": {"id": 501, "email": "ada@example.com"}})
        shop.work()
        fetch(shop)
        assert states(shop) == {"customers": "done"}
        assert shop.rows("SELECT count(*) FROM profile WHERE merged_into IS NULL") == [(0,)]


def test_no_access_says_which_scope_and_who_acts(make_shop: Callable[[str], Shop]) -> None:
    with fake({}, scopes=["read_products"]) as server:
        server.knobs.refuse_bulk = "no"
        shop = make_shop(config(server))
        ask(shop, "orders")
        fetch(shop)
        ((state, message),) = shop.rows("SELECT state, message FROM backfill")
        assert state == "failed"
        assert "add the scope read_orders" in message


def test_trouble_is_waited_out(admin: FakeShopifyAdmin, aurora: Shop) -> None:
    admin.knobs.status = [500] * 4
    ask(aurora, "products")
    fetch(aurora)
    assert states(aurora) == {"products": "done"}
    assert aurora.time > NOON


def test_a_source_without_admin_any_more_ends_its_backfill(admin: FakeShopifyAdmin, aurora: Shop) -> None:
    ask(aurora, "orders")
    aurora.configure("version: 1\nsources:\n  shop: {kind: shopify, secrets: [hush]}\n")
    fetch(aurora)
    assert states(aurora) == {"orders": "failed"}


def test_what_is_fetched_is_no_sign_of_life(admin: FakeShopifyAdmin, aurora: Shop) -> None:
    ask(aurora, "orders")
    fetch(aurora)
    assert aurora.rows("SELECT * FROM counter WHERE name = 'good' AND label = 'shop'") == []


def test_transient_is_what_a_broken_file_is(tmp_path: Path, admin: FakeShopifyAdmin, aurora: Shop) -> None:
    history = aurora.services.history(aurora.services.configuration().sources["shop"])
    for line in (b"[1]\n", b"not json\n", b'{"title":"x"}\n'):
        with pytest.raises(Transient):
            history.owner(line)
    history.close()
