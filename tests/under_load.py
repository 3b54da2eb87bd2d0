"""A shop at work while a test does something else to it, and what must be true of a copy of it."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from tests.conftest import Shop, order

_CUSTOMERS = 20


def customer(number: int) -> str:
    """The address of who places an order."""
    return f"c{number % _CUSTOMERS}@example.com"


def _order(number: int) -> dict[str, Any]:
    return order(number, customer=1 + number % _CUSTOMERS, email=customer(number), total="10.00")


@contextmanager
def under_load(shop: Shop) -> Iterator[list[int]]:
    """Orders arrive and are worked off meanwhile; the numbers of those acknowledged, of which there are 50 by now."""
    stop, sent = threading.Event(), list[int]()

    def send() -> None:
        number = 0
        while not stop.is_set():
            number += 1
            assert shop.deliver("orders/create", _order(number), id=f"w{number}").status == 200
            sent.append(number)

    def work() -> None:
        while not stop.is_set():
            shop.worker.step()

    threads = [threading.Thread(target=target, daemon=True) for target in (send, work)]
    for thread in threads:
        thread.start()
    while len(sent) < 50:
        stop.wait(0.01)
    yield sent
    stop.set()
    for thread in threads:
        thread.join(20)
        assert not thread.is_alive()


def goes_on(shop: Shop, certain: list[int], sent: list[int]) -> list[int]:
    """The orders that a restored shop has, each with its effect once; so has what its senders repeat, or send anew."""
    shop.work()
    stored = [int(id_) for (id_,) in shop.rows("SELECT id FROM shop_order")]
    assert set(certain) <= set(stored) <= set(sent)
    counted = "SELECT count(*), count(DISTINCT id) FROM event WHERE name = 'Order Completed'"
    assert shop.rows(counted) == [(len(stored), len(stored))]
    for number in (1, len(sent) + 1, len(sent) + 1):
        shop.deliver("orders/create", _order(number), id=f"w{number}")
    shop.work()
    assert shop.rows(counted) == [(len(stored) + 1, len(stored) + 1)]
    return stored
