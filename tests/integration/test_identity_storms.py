"""Identity under attack: takeovers, one profile with everybody's identifiers, a thousand merges and their undoing."""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from connector.clock import MINUTE
from tests.conftest import CONFIG, NOON, Shop, order
from tests.integration.histories import CONFIGURED, History, content, customer, identified, looked, sound

MALLORY, VICTIM = "mallory@example.com", "victim@example.com"


@pytest.fixture
def history(tmp_path: Path) -> Iterator[History]:
    shop = Shop(tmp_path, CONFIGURED)
    yield History(shop)
    shop.close()


def owner(shop: Shop, value: str) -> int:
    [(person,)] = shop.rows(f"SELECT profile_id FROM identifier WHERE value = '{value}'")
    return int(person)


def known(history: History) -> None:
    """A victim with an order, and somebody who is known as well."""
    for what in (
        ("orders/create", order(1001, customer=501, email=VICTIM, total="900.00")),
        ("orders/create", order(1002, customer=502, email=MALLORY, total="1.00")),
        customer(501, NOON, email=VICTIM, first_name="Vic"),
        customer(502, NOON, email=MALLORY, first_name="Mal"),
        identified("k1", NOON, anonymousId="mallorys", userId="502", traits={"email": MALLORY}),
    ):
        history.deliver(what)
    history.shop.work()


@pytest.mark.parametrize("claim", [{"userId": "501"}, {"traits": {"email": VICTIM}}, {"userId": VICTIM}])
def test_a_browser_takes_nobody_over(history: History, claim: dict[str, Any]) -> None:
    known(history)
    before = content(history.shop)["people"]
    more = claim | {"traits": claim.get("traits", {}) | {"phone": "+33600000000", "first_name": "Evil"}}
    history.deliver(identified("t1", NOON, anonymousId="mallorys", **more))
    history.deliver(identified("t2", NOON, anonymousId="mallorys", userId="501", traits={"email": MALLORY}))
    history.shop.work()
    after = content(history.shop)["people"]
    told = [
        [(one["email"], one["traits"], one["orders"], one["consent"]) for one in people if one["email"]]
        for people in (before, after)
    ]
    assert told[0] == told[1]
    assert owner(history.shop, "shop:501") == owner(history.shop, VICTIM) != owner(history.shop, MALLORY)
    assert history.shop.rows("SELECT count(*) FROM merge") == [(0,)]


def test_a_visitor_who_names_a_guest_gets_nothing_of_theirs_by_signing_in(history: History) -> None:
    """The guest's address is all that a visitor needs to know to be taken for them; their own account stays theirs."""
    history.deliver(("orders/create", order(1001, customer=None, email=VICTIM, total="900.00")))
    history.shop.work()
    history.deliver(identified("t1", NOON, anonymousId="mallorys", traits={"email": VICTIM}))
    history.shop.work()
    claim = {"anonymousId": "mallorys", "userId": "502", "traits": {"email": MALLORY}}
    history.deliver(identified("t2", NOON, key="server", **claim))
    history.deliver(customer(502, NOON, email=MALLORY, first_name="Mal"))
    history.shop.work()
    assert owner(history.shop, VICTIM) != owner(history.shop, MALLORY) == owner(history.shop, "shop:502")
    assert history.shop.rows("SELECT shared FROM identifier WHERE value = 'mallorys'") == [(1,)]
    [(orders,)] = history.shop.rows("SELECT profile_id FROM shop_order WHERE id = '1001'")
    assert orders == owner(history.shop, VICTIM)


def test_a_server_may_say_whose_a_device_is_and_merges_no_two_customers(history: History) -> None:
    known(history)
    claim = {"anonymousId": "mallorys", "userId": "502", "traits": {"email": VICTIM}}
    history.deliver(identified("t1", NOON - MINUTE, key="server", **claim))
    history.shop.work()
    assert owner(history.shop, VICTIM) == owner(history.shop, "shop:501"), "the shop has spoken of a later instant"
    assert history.shop.rows("SELECT count(*) FROM merge") == [(0,)]


def test_one_profile_does_not_get_everybodys_identifiers(history: History) -> None:
    """20,000 browsers, tokens and addresses for one customer: what it costs stays the same, and limits hold."""
    shop = history.shop
    history.deliver(customer(501, NOON, email=VICTIM))
    shop.work()
    spent = []
    for start in range(0, 20_000, 2_500):
        _claims(shop, start, 2_500)
        began = time.process_time()
        shop.work()
        spent.append(time.process_time() - began)
    counts = dict(shop.rows("SELECT kind, count(*) FROM identifier WHERE profile_id = 1 GROUP BY kind"))
    limits = shop.services.configuration().identity.limits
    assert counts["anonymous_id"] == limits["anonymous_id"]
    assert counts["email"] <= limits["email"]
    assert min(spent[-2:]) < 3 * max(spent[:2]), spent
    assert shop.rows("SELECT count(*) FROM dead_letter") == [(0,)]


def _claims(shop: Shop, start: int, count: int) -> None:
    import orjson

    from connector.ports import New

    rows = []
    for number in range(start, start + count):
        said = {
            "type": "identify",
            "messageId": f"s{number}",
            "userId": "501",
            "anonymousId": f"browser-{number}",
            "traits": {"email": f"p{number}@example.com"},
        }
        headers = orjson.dumps({"shop": "shopify:shop", "trust": "server"}).decode()
        rows.append(New("501", "site", f"s{number}", "identify", shop.time, headers, orjson.dumps(said)))
    shop.services.log.append(rows)


def test_a_storm_of_merges_and_its_undoing(tmp_path: Path) -> None:
    """Three hundred people become one, one by one, and then are three hundred again, the first merge undone first."""
    shop = Shop(tmp_path, CONFIG)
    count = 300
    for number in range(count):
        told = order(2_000 + number, customer=2_000 + number, email=f"p{number}@example.com", total="1.00")
        shop.deliver("orders/create", told)
    shop.work()
    before = content(shop)
    began = time.process_time()
    for number in range(1, count):
        shop.time += 1
        with shop.services.database.tx() as tx:
            shop.worker.pipeline.merge(tx, 1, number + 1, "a storm", shop.time)
    merging = time.process_time() - began
    sound(shop, count)
    assert shop.rows("SELECT count(*) FROM profile WHERE merged_into IS NULL") == [(1,)]
    began = time.process_time()
    for (id_,) in shop.rows("SELECT id FROM merge ORDER BY id"):
        shop.time += 1
        with shop.services.database.tx() as tx:
            shop.worker.pipeline.unmerge(tx, id_, shop.time)
    undoing = time.process_time() - began
    assert content(shop) == before
    assert undoing < 5 * merging + 5
    shop.close()


def test_merges_in_circles_come_to_an_end(history: History) -> None:
    known(history)
    for number in range(6):
        kept, gone = (501, 502) if number % 2 else (502, 501)
        ids = {"admin_graphql_api_customer_kept_id": f"gid://shopify/Customer/{kept}"}
        ids |= {"admin_graphql_api_customer_deleted_id": f"gid://shopify/Customer/{gone}"}
        history.deliver(("customers/merge", {**ids, "status": "completed"}))
        history.shop.work()
    sound(history.shop, 2)
    history.deliver(looked("w1", "mallorys", NOON))
    history.shop.work()
    sound(history.shop, 3)
