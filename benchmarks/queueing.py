"""Queueing: a sale day, a vendor's limits and an outage, simulated from what one event was measured to cost.

    python -m benchmarks.queueing [--each-us 520] [--commit-ms 3] [--seed 7]

Nothing is measured here and no time passes: the same arguments print the same tables. How long does an event wait for
a worker, by how busy the worker is (event by event)? What does a sale day do to each step of docs/scale.md (second by
second)? How long after an outage of a vendor are its contacts right again (likewise)? tests/unit/test_queueing.py holds
both simulations to cases with a known answer.
"""

import argparse
import math
import random
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import NamedTuple

from benchmarks.sizing import CHANGING, STEPS, Step

DAY, HOUR, MINUTE = 86_400, 3_600, 60  # seconds
RETRY = 60  # seconds after which a sender repeats what was refused


class Vendor(NamedTuple):
    """What an account takes: contacts a second, and a day where it counts calls by the day."""

    name: str
    contacts: float
    daily: float = math.inf


VENDORS = (
    Vendor("Klaviyo", 2_500.0),  # 150 import jobs a minute, 1,000 contacts in each of ours
    Vendor("HubSpot", 1_900.0, 65_000_000.0),  # 190 calls in 10 s, 650,000 a day, 100 contacts in each
    Vendor("Mailchimp", 460.0),  # measured: batches over ten connections
)


ACTIVE = 0.1  # of the profiles do something on the day of the sale


# --- event by event: how long one waits for a worker -----------------------------------------------------------------


def waits(
    arrivals: Iterable[float], each: Callable[[], float], *, batch_costs: float = 0.0, limit: int = 500
) -> list[float]:
    """Seconds from each arrival (ascending instants) to the end of the batch it was in.

    The worker takes all that wait, `limit` at most, whenever it is free; a batch costs `batch_costs` seconds and
    `each()` for every event in it. With limit 1 and no costs of a batch it is the single server of the textbooks.
    """
    coming = iter(arrivals)
    found: list[float] = []
    free, following = 0.0, next(coming, None)
    while following is not None:
        start, batch = max(free, following), []
        while following is not None and following <= start and len(batch) < limit:
            batch.append(following)
            following = next(coming, None)
        free = start + batch_costs + sum(each() for _ in batch)
        found += [free - at for at in batch]
    return found


def poisson(dice: random.Random, rate: float, count: int, clump: float = 1.0) -> Iterator[float]:
    """Instants of `count` events, `rate` a second on average, in clumps of `clump` on average (geometric sizes)."""
    at, left = 0.0, count
    while left > 0:
        at += dice.expovariate(rate / clump)
        size = min(left, 1 if clump == 1 else 1 + int(math.log(1 - dice.random()) / math.log(1 - 1 / clump)))
        yield from (at for _ in range(size))
        left -= size


# --- second by second: a day of the whole line -----------------------------------------------------------------------


class Course(NamedTuple):
    """How a time went: the longest of each wait in seconds, the most that waited, when all was well again."""

    refused: float  # events that wait at their senders to be sent again at most: these were answered 503
    backlog: float  # events in the log at most
    wait: float  # seconds that an event waited for a worker at most
    pending: float  # contacts that the vendor shows wrong at most
    stale: float  # seconds that such a contact waits at most
    settled: float  # second from which on neither waits longer than a second; inf: not within this time


def course(
    arrivals: Iterable[float],
    *,
    accepts: float,
    processes: float,
    vendor: Vendor,
    contacts: float,
    changing: float = CHANGING,
    outage: tuple[int, int] = (0, 0),
) -> Course:
    """What becomes of `arrivals`, the events of each second, among `contacts` people who are equally likely to act.

    A contact that waits already is not pushed twice: of many changes the last is told. The vendor answers nobody in
    the seconds [outage[0], outage[1]).
    """
    again: dict[int, float] = {}
    log = waiting = outside = 0.0
    left = vendor.daily
    worst = [0.0] * 5
    settled = 0
    for second, come in enumerate(arrivals):
        back = again.pop(second, 0.0)
        taken = min(come + back, accepts)
        again[second + RETRY] = come + back - taken
        outside += come - taken
        log += taken
        done = min(log, processes)
        log -= done
        waiting = contacts - (contacts - waiting) * math.exp(-changing * done / contacts)
        if second % DAY == 0:
            left = vendor.daily
        told = 0.0 if outage[0] <= second < outage[1] else min(waiting, vendor.contacts, left)
        waiting -= told
        left -= told
        now = (outside, log, log / processes, waiting, _until_told(waiting, vendor, left, second, outage))
        worst = [max(pair) for pair in zip(worst, now, strict=True)]
        if outside > 1 or now[2] > 1 or now[4] > 1:
            settled = second + 1
    return Course(*worst, settled if settled <= second else math.inf)


def _until_told(waiting: float, vendor: Vendor, left: float, second: int, outage: tuple[int, int]) -> float:
    """Seconds until the last of those who wait now is told: the outage, the nights until there are calls, the pace."""
    held = max(0, outage[1] - second) if outage[0] <= second else 0
    if waiting <= left:
        return held + waiting / vendor.contacts
    nights = math.ceil((waiting - left) / vendor.daily)
    rest = waiting - left - (nights - 1) * vendor.daily
    return max(held, nights * DAY - second % DAY) + rest / vendor.contacts


def sale_day(dice: random.Random, average: float) -> Iterator[float]:
    """Events in each second of a day: quiet at night, a sale that is announced at 10:00 and reminded of at 20:00."""
    raw = [_shape(second) for second in range(DAY)]
    scale = average / (sum(raw) / DAY)
    for minute in range(DAY // MINUTE):
        mood = dice.lognormvariate(-0.02, 0.2)
        for second in range(minute * MINUTE, (minute + 1) * MINUTE):
            mean = raw[second] * scale * mood
            yield max(0.0, dice.gauss(mean, math.sqrt(mean)))


def _shape(second: int) -> float:
    day = 0.9 - 0.6 * math.cos(2 * math.pi * (second / DAY - 0.125))
    return day + sum(
        size * math.exp(-(second - at) / (40 * MINUTE))
        for at, size in ((10 * HOUR, 4.5), (20 * HOUR, 2.5))
        if second >= at
    )


# --- the tables ------------------------------------------------------------------------------------------------------


def main() -> None:
    """Prints the three tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--each-us", type=float, default=520.0, help="CPU of an order, from benchmarks.processing")
    parser.add_argument("--commit-ms", type=float, default=3.0, help="what a batch costs whatever is in it")
    parser.add_argument("--seed", type=int, default=7)
    given = parser.parse_args()
    print_waits(given.each_us / 1e6, given.commit_ms / 1e3, given.seed)
    print_sale_day(given.seed)
    print_outages()


def print_waits(each: float, commit: float, seed: int) -> None:
    print(f"One worker, {each * 1e6:.0f} us an event and {commit * 1e3:g} ms a batch; events in clumps of 4.")
    print("| busy with events | events/s | p50 ms | p99 ms |\n|---|---|---|---|")
    for busy in (0.3, 0.5, 0.7, 0.8, 0.9, 0.95):
        rate = busy / each
        took = sorted(waits(poisson(random.Random(seed), rate, 200_000, 4), lambda: each, batch_costs=commit))
        print(f"| {busy:.0%} | {rate:,.0f} | {_at(took, 0.5) * 1e3:.1f} | {_at(took, 0.99) * 1e3:.0f} |")


def _at(ascending: Sequence[float], share: float) -> float:
    return ascending[int(len(ascending) * share)]


def print_sale_day(seed: int) -> None:
    print(f"\nA sale day: {ACTIVE:.0%} of the profiles act, {CHANGING:.0%} of the events change a contact.")
    head = "| step | events/s, mean and peak | longest wait in the log | with the step before |"
    print(head + "".join(f" stale at {vendor.name} |" for vendor in VENDORS))
    print("|---|---|---|---|" + "---|" * len(VENDORS))
    before = None
    for step in STEPS:
        day = list(sale_day(random.Random(seed), step.average))
        went = [_day(step, step, day, vendor) for vendor in VENDORS]
        smaller = "" if before is None else _tell(_day(step, before, day, VENDORS[0]))
        stale = "".join(f" {span(one.stale)} |" for one in went)
        print(f"| {step.name} | {step.average:,.0f}, {max(day):,.0f} | {_tell(went[0])} | {smaller} |{stale}")
        before = step


def _day(shop: Step, engine: Step, day: Sequence[float], vendor: Vendor) -> Course:
    contacts = shop.people * ACTIVE
    return course(day, accepts=engine.accepts, processes=engine.processes, vendor=vendor, contacts=contacts)


def _tell(went: Course) -> str:
    return span(went.wait) + (f", {went.refused:,.0f} at senders" if went.refused else "")


def print_outages() -> None:
    print("\nAn outage of a vendor, events at an even rate before, during and after it; contacts as in step 2.")
    print("| events/s | outage |" + "".join(f" {v.name}: contacts waiting, right again after |" for v in VENDORS))
    print("|---|---|" + "---|" * len(VENDORS))
    contacts = STEPS[1].people * ACTIVE
    for rate in (20.0, 200.0):
        for hours in (1, 24, 72):
            cells = []
            for vendor in VENDORS:
                went = course(
                    [rate] * ((hours + 26) * HOUR),
                    accepts=1e9,
                    processes=1e9,
                    vendor=vendor,
                    contacts=contacts,
                    outage=(HOUR, (1 + hours) * HOUR),
                )
                cells.append(f" {went.pending:,.0f}, {span(went.settled - (1 + hours) * HOUR)} |")
            print(f"| {rate:.0f} | {hours} h |" + "".join(cells))


def span(seconds: float) -> str:
    """A duration as people say it."""
    if math.isinf(seconds):
        return "never"
    if seconds < 1:
        return "under 1 s"
    for unit, name in ((HOUR, "h"), (MINUTE, "min")):
        if seconds >= 2 * unit:
            return f"{seconds / unit:.1f} {name}"
    return f"{seconds:.0f} s"


if __name__ == "__main__":
    main()
