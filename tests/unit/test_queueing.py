"""The simulation behind docs/scale.md, held to cases whose answer is known without simulating."""

import random
import statistics
from pathlib import Path

import pytest

from benchmarks import sizing
from benchmarks.queueing import DAY, Vendor, course, poisson, sale_day, waits

FAST = 1e9


def test_a_single_server_with_random_service_waits_as_the_formula_says() -> None:
    dice = random.Random(7)
    took = waits(poisson(dice, 0.8, 300_000), lambda: dice.expovariate(1.0), limit=1)
    assert statistics.fmean(took) == pytest.approx(1 / (1.0 - 0.8), rel=0.08)  # M/M/1: 1 / (mu - lambda)


def test_a_single_server_with_even_service_waits_as_the_formula_says() -> None:
    took = waits(poisson(random.Random(7), 0.8, 300_000), lambda: 1.0, limit=1)
    assert statistics.fmean(took) == pytest.approx(1 + 0.8 / (2 * 0.2), rel=0.04)  # M/D/1, Pollaczek and Khinchine


def test_a_batch_takes_all_that_wait_and_ends_for_them_together() -> None:
    took = waits([0.0, 0.1, 0.2, 5.0], lambda: 1.0, batch_costs=0.5)
    assert took == pytest.approx([1.5, 3.9, 3.8, 1.5])


def test_clumps_keep_the_rate() -> None:
    at = list(poisson(random.Random(7), 50.0, 100_000, clump=4))
    assert len(at) / at[-1] == pytest.approx(50.0, rel=0.03)
    assert len(at) / len(set(at)) == pytest.approx(4.0, rel=0.03)


def test_an_outage_drains_in_what_came_over_what_is_left_of_the_pace() -> None:
    came, hour = 20.0, 3_600
    went = course(
        [came] * (3 * hour),
        accepts=FAST,
        processes=FAST,
        vendor=Vendor("v", 100.0),
        contacts=1e12,  # nobody acts twice, so nothing is folded into one push
        changing=1.0,
        outage=(0, hour),
    )
    assert went.pending == pytest.approx(came * hour, rel=0.001)
    assert went.settled - hour == pytest.approx(came * hour / (100.0 - came), abs=2)


def test_a_vendor_that_is_too_slow_shows_everybody_within_a_bounded_time() -> None:
    came, takes, people = 2_000.0, 500.0, 100_000.0
    went = course([came] * DAY, accepts=FAST, processes=FAST, vendor=Vendor("v", takes), contacts=people, changing=1.0)
    assert went.pending == pytest.approx(people * (1 - takes / came), rel=0.01)  # where as many come in as go out
    assert went.stale < people / takes


def test_what_a_worker_cannot_do_waits_and_what_is_refused_comes_again() -> None:
    rates = [20.0] * 60 + [0.0] * 120
    went = course(rates, accepts=10.0, processes=5.0, vendor=Vendor("v", FAST), contacts=1e9)
    assert went.refused == pytest.approx(600.0)
    assert went.backlog == pytest.approx(10.0 * 120 - 5.0 * 120)  # the second minute takes what the first refused
    assert went.wait == pytest.approx(120.0)
    assert went.settled == float("inf")  # 1,200 events at 5 a second take longer than these 180 seconds


def test_the_calls_of_a_day_end_and_the_next_day_brings_new_ones() -> None:
    went = course(
        [1.0] * DAY + [0.0] * DAY,
        accepts=FAST,
        processes=FAST,
        vendor=Vendor("v", 10.0, daily=DAY / 2),
        contacts=1e12,
        changing=1.0,
    )
    assert went.stale == pytest.approx(DAY / 2, rel=0.01)  # the day's calls end at noon
    assert went.settled == pytest.approx(DAY + DAY / 2 / 10.0, rel=0.01)


def test_a_sale_day_has_the_average_that_was_asked_for_and_the_same_seed_the_same_day() -> None:
    day = list(sale_day(random.Random(7), 100.0))
    assert len(day) == DAY
    assert statistics.fmean(day) == pytest.approx(100.0, rel=0.03)
    assert max(day) > 400
    assert day == list(sale_day(random.Random(7), 100.0))


def test_the_plan_shows_what_is_calculated(capsys: pytest.CaptureFixture[str]) -> None:
    page = (Path(__file__).parents[2] / "docs/scale.md").read_text()
    sizing.main()
    assert [line for line in capsys.readouterr().out.splitlines() if line not in page] == []


def test_what_a_step_takes_is_its_scarcest_part() -> None:
    step = sizing.Step("s", "PostgreSQL", 1, 2, 1, 1e9, 1.0, 1.0)
    assert step.limits()["workers"] == pytest.approx(2 * 0.7e6 / sizing.WORKER["PostgreSQL"])
    assert step.processes == min(step.limits()["workers"], step.limits()["database cores"])
    assert step.accepts == min(step.limits()["web processes"], step.limits()["database cores"])
    assert step.first == "database cores"
