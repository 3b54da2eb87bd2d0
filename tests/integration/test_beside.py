"""Several workers on one PostgreSQL: what they come to together is what one comes to alone."""

import json
import random
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from connector.clock import DAY, MINUTE
from connector.errors import Fenced
from connector.inbox import care
from connector.services import Services
from connector.worker import Worker
from tests.conftest import NOON, Shop, iso
from tests.integration.histories import APART, CONFIGURED, History, Told, content, sound

_NAMES = ("ada", "bob", "cat", "nobody", "v1", "v2", "v3", "v4", "v5", "v6", "i1", "i2", "i3", "i4")
_NUMBERS = ("501", "502", "1001", "1002", "1003", "1004", "1005")
_REFUNDED = 1003


def crowd(copies: int) -> list[Told]:
    """The people of APART so many times over, each with names and numbers of their own, and a refund for each Bob that
    knows nothing but its order."""
    told: list[Told] = []
    for copy in range(copies):
        own = [*APART, ("refunds/create", refund(_REFUNDED))]
        text = json.dumps(own)
        for name in _NAMES:
            text = text.replace(name, f"{name}{copy}x")
        for number in _NUMBERS:
            text = text.replace(number, f"{copy + 10}{number}")
        text = text.replace("+336", f"+336{copy % 10}").replace("+336" + str(copy % 10), "+336")
        told += [(topic, body) for topic, body in json.loads(text)]
    return [one for one in told if "phone" not in one[1]]


def refund(order: int) -> dict[str, Any]:
    money = {"amount": "10.00", "currency_code": "EUR"}
    return {
        "id": order,
        "order_id": order,
        "created_at": iso(NOON + DAY // 2),
        "processed_at": iso(NOON + DAY // 2),
        "refund_line_items": [],
        "transactions": [
            {"id": order, "kind": "refund", "status": "success", "amount": "10.00", "currency": "EUR",
             "amount_set": {"shop_money": money}}
        ],
    }  # fmt: skip


@pytest.mark.parametrize("seed", [1, 2])
def test_workers_beside_each_other_come_to_what_one_comes_to(
    tmp_path: Path, new_postgres: Callable[[], str], monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    told = crowd(4)
    random.Random(seed).shuffle(told)
    (tmp_path / "alone").mkdir()
    alone = Shop(tmp_path / "alone", CONFIGURED)
    together = Shop(tmp_path / "together", CONFIGURED, new_postgres())
    monkeypatch.setattr(care, "_MOST", 3)  # so that each customer is in many batches
    try:
        for shop in (alone, together):
            history = History(shop)
            shop.time = NOON + DAY
            for number, what in enumerate(told):
                shop.time += 1
                history.deliver(what, f"told-{number}")
        alone.work()
        crossed = work_together(together, 4)
        for shop in (alone, together):
            shop.at(NOON + 2 * DAY + MINUTE)
        found, expected = content(together), content(alone)
        assert found["letters"] == expected["letters"] == []
        assert found["people"] == expected["people"]
        [(events,)] = alone.rows("SELECT count(*) FROM event")
        sound(together, events)
        assert crossed >= 0
    finally:
        alone.close()
        together.close()


def work_together(shop: Shop, count: int) -> int:
    """Several workers until nothing waits; how often one gave way to another."""
    services = [Services(shop.services.settings) for _ in range(count)]
    workers = [Worker(one, lambda: shop.time, push=False) for one in services]
    crossed, failed = [], []

    def work(worker: Worker) -> None:
        quiet = 0
        while quiet < 3:
            try:
                quiet = 0 if worker.step(wait=0.05) else quiet + 1
            except Fenced:
                crossed.append(1)
            except Exception as error:
                failed.append(error)
                return

    threads = [threading.Thread(target=work, args=(worker,)) for worker in workers]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for worker, one in zip(workers, services, strict=True):
        worker.close()
        one.close()
    if failed:
        raise failed[0]
    return len(crossed)
