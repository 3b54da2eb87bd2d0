"""Clocks that are wrong: the machine's clock leaps by hours while windows lapse, and a day has 23 or 25 hours."""

import json
import random
from itertools import groupby
from pathlib import Path

from connector.clock import DAY, HOUR, MINUTE, parse_instant
from tests.chaos.figures import Figure, profile
from tests.conftest import CONFIG, Shop, order

DAYS_OF_CHANGE = ("2026-10-24T12:00:00Z", "2027-03-27T12:00:00Z")  # Europe/Paris, the day before


def _turns(shop: Shop) -> list[tuple[int, str, bool, int]]:
    """Each time a person entered or left a segment: who, which, entered or left, when."""
    rows = shop.rows("SELECT profile_id, at, data FROM change WHERE kind = 'segment' ORDER BY profile_id, at, seq")
    found = []
    for person, at, text in rows:
        data = json.loads(text)
        found.append((person, str(data["segment"]), data["in"], at))
    return found


def test_r18_windows_lapse_once_and_not_early_though_the_clock_leaps(tmp_path: Path, figure: Figure) -> None:
    """The clock is two hours ahead for a while, two hours behind for a while, and across both changes of the hour."""
    people, turns, early, leaps = profile(12, 60), 0, 0, 0
    for number, start in enumerate(DAYS_OF_CHANGE):
        folder = tmp_path / str(number)
        folder.mkdir()
        shop, chance = Shop(folder, CONFIG), random.Random(number)
        try:
            true = parse_instant(start)
            bought: dict[int, int] = {}
            end = true + 10 * DAY
            sold = 0
            while true < end:
                true += chance.randrange(10, 240 if sold == people else 120) * MINUTE
                leap = chance.choice((0, 0, 0, 2 * HOUR, -2 * HOUR))
                leaps += leap != 0
                shop.time = true + leap
                if sold < people:
                    person = 501 + sold
                    sold += 1
                    email = f"c{person}@example.com"
                    shop.deliver("orders/create", order(person, customer=person, email=email, at=shop.time))
                    bought[person] = shop.time
                shop.work()
            shop.at(end + DAY)
            of = dict(shop.rows("SELECT CAST(id AS INTEGER), profile_id FROM shop_order"))
            window = {of[person]: at + 7 * DAY for person, at in bought.items()}
            for (person, segment), group in groupby(_turns(shop), key=lambda one: one[:2]):
                if segment != "recent-buyers":
                    continue
                told = list(group)
                turns += len(told)
                assert [entered for _, _, entered, _ in told] == [True, False], "entered once and left once"
                early += told[1][3] < window[person] - 1_000
            assert len(window) == people
            assert shop.rows("SELECT count(*) FROM membership WHERE matched = 1 AND segment = 'recent-buyers'") == [
                (0,)
            ]
        finally:
            shop.close()
    figure(
        "R18", f"{leaps} leaps of the clock by 2 h, both changes of the hour: {turns} turns, 0 repeated, {early} early"
    )
    assert early == 0
