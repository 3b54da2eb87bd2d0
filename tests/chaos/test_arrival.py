"""What comes more than once, in any order, to several at a time: R9 and R10."""

import json
import random
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from connector.clock import MINUTE, SECOND
from connector.services import Services
from connector.worker import Worker
from tests.chaos.figures import Figure, profile
from tests.conftest import NOON, Shop, iso, order

CUSTOMERS = 40
PLACES = ("sqlite", "postgresql")


@pytest.fixture(params=PLACES)
def shop(request: pytest.FixtureRequest, tmp_path: Path) -> Any:
    url = request.getfixturevalue("new_postgres")() if request.param == "postgresql" else None
    shop = Shop(tmp_path, url=url)
    yield shop
    shop.close()


def bought(number: int, total: str = "10.00", **more: Any) -> dict[str, Any]:
    person = number % CUSTOMERS
    return order(number, customer=500 + person, email=f"c{person}@example.com", total=total, **more)


def restarted(shop: Shop) -> None:
    """What a new process has: nothing but the data."""
    shop.worker.close()
    shop.services.close()
    shop.services = Services(shop.services.settings)
    shop.receiver._services = shop.services
    shop.worker = Worker(shop.services, lambda: shop.time, push=False)


def test_r9_repeats_in_any_number_at_any_time_have_one_effect(shop: Shop, figure: Figure) -> None:
    chance = random.Random(9)
    distinct = profile(250, 17_000)
    waiting = [number for number in range(1, distinct + 1) for _ in range(chance.randrange(1, 6))]
    chance.shuffle(waiting)
    sent, restarts = len(waiting), 0
    with ThreadPoolExecutor(4) as senders:
        while waiting:
            some, waiting = waiting[: distinct // 4], waiting[distinct // 4 :]
            answers = senders.map(
                lambda number: shop.deliver("orders/create", bought(1_000 + number), id=f"w{number}").status, some
            )
            assert set(answers) == {200}
            if chance.random() < 0.7:
                shop.work()
            if chance.random() < 0.3:
                restarted(shop)
                restarts += 1
    other = bought(1_001, "999.00")
    assert shop.deliver("orders/create", other, id="w1").status == 200, "the same id with another body"
    shop.work()
    assert shop.rows("SELECT count(*) FROM event WHERE name = 'Order Completed'") == [(distinct,)]
    assert shop.rows("SELECT count(*), sum(total) FROM shop_order WHERE counts = 1") == [(distinct, distinct * 1000)]
    assert shop.rows("SELECT count(*) FROM profile") == [(min(CUSTOMERS, distinct),)]
    assert shop.rows("SELECT count(*) FROM dead_letter") == [(0,)]
    database = shop.services.database.dialect
    figure("R9", f"{database}: {sent:,} deliveries of {distinct:,}, {restarts} restarts: {distinct:,} effects")


def test_r10_versions_in_any_order_end_in_the_newest(shop: Shop, figure: Figure) -> None:
    """Each order is made, changed and, one in three, cancelled; its refund may come before it. The oracle takes each by
    its own instant."""
    chance = random.Random(10)
    orders = profile(120, 3_000)
    told, expected = [], {}
    for number in range(1, orders + 1):
        versions = [bought(number, at=NOON, updated=NOON + SECOND)]
        versions += [bought(number, f"{20 + n}.00", at=NOON, updated=NOON + (n + 2) * SECOND) for n in range(2)]
        if number % 3 == 0:
            gone = bought(number, "21.00", at=NOON, updated=NOON + MINUTE)
            versions.append(gone | {"cancelled_at": iso(NOON + MINUTE)})
        told += [("orders/updated", version) for version in versions]
        refunded = 500 if number % 4 == 0 else 0
        if refunded:
            told.append(("refunds/create", refund(number)))
        expected[str(number)] = (2_100, refunded, int(number % 3 != 0))
    chance.shuffle(told)
    for n, (topic, body) in enumerate(told):
        assert shop.deliver(topic, body).status == 200
        if chance.random() < 20 / len(told) or n == len(told) - 1:
            shop.work()
    found = {id_: (total, refunded, counts) for id_, total, refunded, counts in shop.rows(
        "SELECT id, total, refunded, counts FROM shop_order"
    )}  # fmt: skip
    assert found == expected
    spent = {
        email: json.loads(traits).get("orders_count", 0)
        for email, traits in shop.rows("SELECT email, traits FROM profile")
    }
    counted: dict[str, int] = {}
    for id_, (_, _, counts) in expected.items():
        email = f"c{int(id_) % CUSTOMERS}@example.com"
        counted[email] = counted.get(email, 0) + counts
    assert spent == counted
    figure(
        "R10", f"{shop.services.database.dialect}: {len(told):,} versions of {orders:,} orders, shuffled: as in order"
    )


def refund(number: int) -> dict[str, Any]:
    amount = {"shop_money": {"amount": "5.00", "currency_code": "EUR"}}
    money = {"kind": "refund", "status": "success", "amount": "5.00", "currency": "EUR", "amount_set": amount}
    return {
        "id": number,
        "order_id": number,
        "created_at": iso(NOON + SECOND),
        "processed_at": iso(NOON + SECOND),
        "refund_line_items": [],
        "transactions": [{"id": number, **money}],
    }
