"""The worker among others: other workers, the clock."""

from typing import Any

import pytest

from connector.clock import DAY, HOUR
from connector.segments import store as segment_store
from connector.worker import Worker
from tests.conftest import CONFIG, NOON, Shop, order


def test_two_workers_finish_the_refill_of_a_removed_segment(shop: Shop) -> None:
    shop.deliver("orders/create", order())
    shop.work()
    other = Worker(shop.services, lambda: shop.time, push=False)
    other.refresh()
    removed = "  lapsed-vip:"
    rules = CONFIG[: CONFIG.index(removed)] + CONFIG[CONFIG.index("  abandoned-checkout:") :]
    shop.configure(rules)
    other.refresh(force=True)
    shop.work()
    assert other.pipeline.filling
    while other.step():
        pass
    assert not other.pipeline.filling
    other.close()


def test_a_window_is_judged_by_the_time_at_which_the_lock_was_got(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another worker moved on while this one waited: an earlier instant would bring back what has lapsed."""
    shop.deliver("orders/create", order())
    shop.deliver("orders/create", order(1002, customer=502, email="bob@example.com", at=NOON - HOUR))
    shop.work()
    other = Worker(shop.services, lambda: shop.time, push=False)
    other.refresh()
    real = segment_store.due

    def due(connection: Any, now: int, limit: int) -> list[int]:
        found = real(connection, now, limit)
        monkeypatch.setattr(segment_store, "due", real)
        shop.at(NOON + 7 * DAY)  # all of this happens while the worker below waits for the lock
        return [1, 2] if found else []

    shop.time = NOON + 7 * DAY - HOUR
    monkeypatch.setattr(segment_store, "due", due)
    other.step()
    left = shop.rows("SELECT count(*) FROM change WHERE kind = 'segment' AND data LIKE '%recent-buyers%'")
    assert left == [(4,)], "each entered once and left once"
    other.close()
