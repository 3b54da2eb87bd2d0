"""Refills in pieces that hold the write lock for a short time only."""

from collections.abc import Sequence
from typing import Any

import pytest

from connector import jobs
from connector.pipeline import Pipeline
from tests.conftest import CONFIG, Shop, order


def test_a_piece_renews_a_bounded_number_of_people_however_many_the_one_before_went_through(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(60):
        total = "10.00" if number < 30 else "600.00"
        one = order(1000 + number, customer=500 + number, email=f"p{number}@example.com", total=total)
        shop.deliver("orders/create", one)
        shop.work()
    for name, value in (("_PEOPLE", 2), ("_MOST_FLIPPED", 4), ("_SHORT", 60.0), ("_LONG", 60.0)):
        monkeypatch.setattr(jobs, name, value)
    renewed: list[list[int]] = []
    real = Pipeline.resync

    def resync(self: Pipeline, tx: Any, people: Sequence[int], now: int, **more: str) -> None:
        renewed.append(list(people))
        real(self, tx, people, now, **more)

    monkeypatch.setattr(Pipeline, "resync", resync)
    shop.configure(CONFIG.replace('">=": 1000', '">=": 500'))
    shop.work()
    assert shop.rows("SELECT count(*) FROM membership WHERE segment = 'vip' AND matched = 1") == [(30,)]
    assert sorted(person for piece in renewed for person in piece) == list(range(31, 61))
    assert max(map(len, renewed)) <= 4
    assert len(renewed) < 30, "and goes through those who do not move in larger pieces"
