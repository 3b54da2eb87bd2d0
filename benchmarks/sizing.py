"""Sizing: what each step of docs/scale.md can take, what ends first, and what a million events cost there.

    python -m benchmarks.sizing

Arithmetic on what one order was measured to cost (RESULTS.md) and on assumptions, all of them below and all of them
round. An order is the dearest kind of event: a page view is a third of the bytes, and changes no contact.
"""

from typing import NamedTuple

BUSY = 0.7  # of a core at the peak: beyond it waits grow (benchmarks.queueing)

# Measured: CPU microseconds of an order of somebody in a store of a million, on a machine with other work (RESULTS.md).
WEB = {"SQLite": 220.0, "PostgreSQL": 220.0, "Kafka": 180.0}  # to receive and keep it: the web process
WORKER = {"SQLite": 1_700.0, "PostgreSQL": 1_100.0, "Kafka": 1_100.0}  # to work it off: the worker
KEEPING = {"SQLite": 0.0, "PostgreSQL": 100.0, "Kafka": 0.0}  # PostgreSQL's own, for the log
STATE = {"SQLite": 0.0, "PostgreSQL": 700.0, "Kafka": 700.0}  # PostgreSQL's own, for the effects
SENDER = 120.0  # for a contact told
PAGES = 25.0  # of the state that an order changes where nobody is near anybody
STORED = 4_800.0  # bytes of an order in the state, indexes included
LOGGED = 2_500.0  # bytes of a delivery in the log, zstd

# Assumed.
CHANGING = 0.3  # of the events change a contact
CORE_HOUR = 0.04  # EUR
GB_MONTH = 0.10  # EUR, replicated SSD
KEPT = 12.0  # months that events are kept; the log a quarter of one
UTILISATION = 0.25  # of the cores over a day whose peak they are sized for
COPIES = {"SQLite": 1.0, "PostgreSQL": 2.0, "Kafka": 3.0}  # of the log


class Step(NamedTuple):
    """An installation: the log it uses, cores of its web processes, workers and database, pages its disk writes a
    second, what it is for (events/s on the average of a day, people), and how many of it there are."""

    name: str
    log: str
    web: int
    workers: int
    database: int
    pages: float
    average: float
    people: float
    times: int = 1

    def limits(self) -> dict[str, float]:
        """Events/s at which each part is as busy as it should be at the peak."""
        core = BUSY * 1e6 * self.times
        found = {
            "web processes": self.web * core / WEB[self.log],
            "workers": self.workers * core / WORKER[self.log],
            "page writes": self.pages * BUSY * self.times / PAGES,
        }
        if self.database:
            found["database cores"] = self.database * core / (KEEPING[self.log] + STATE[self.log])
        return found

    @property
    def accepts(self) -> float:
        """Events/s that are taken in: by web processes, and by the database where the log is in it."""
        limits = self.limits()
        return min(limits["web processes"], limits.get("database cores", 1e12) if self.log == "PostgreSQL" else 1e12)

    @property
    def processes(self) -> float:
        """Events/s that are worked off."""
        return min(limit for part, limit in self.limits().items() if part != "web processes")

    @property
    def first(self) -> str:
        """The part that ends first as events grow."""
        limits = self.limits()
        return min(limits, key=lambda part: limits[part])


STEPS = (
    Step("1. one machine, SQLite", "SQLite", 1, 1, 0, 50_000, 50, 1e6),
    Step("2. one machine, PostgreSQL", "PostgreSQL", 2, 4, 2, 50_000, 150, 3e6),
    Step("3. PostgreSQL on its own", "PostgreSQL", 3, 10, 8, 200_000, 700, 7e6),
    Step("4. with Kafka", "Kafka", 4, 20, 16, 400_000, 1_500, 20e6),
    Step("5. five of step 4", "Kafka", 4, 20, 16, 400_000, 7_000, 100e6, times=5),
)


def main() -> None:
    """Prints the steps and the cost of a million events at each."""
    head = "| step | cores: web, workers, database | accepts/s | processes/s | ends first |"
    print(head + " log GB a day | state GB a year |\n|---|---|---|---|---|---|---|")
    for step in STEPS:
        day, year = (step.average * 86_400 * size / 1e9 for size in (LOGGED, STORED * 365))
        cores = ", ".join(str(count * step.times) for count in (step.web, step.workers, step.database))
        taken = f"{step.accepts:,.0f} | {step.processes:,.0f} | {step.first} | {day:,.0f} | {year:,.0f}"
        print(f"| {step.name} | {cores} | {taken} |")
    print("\n| EUR for 1,000,000 events | computing | keeping the log a week | keeping events a year | together |")
    print("|---|---|---|---|---|")
    for log in WEB:
        cpu = WEB[log] + WORKER[log] + KEEPING[log] + STATE[log] + CHANGING * SENDER
        costs = (
            cpu / 3_600 / UTILISATION * CORE_HOUR,
            LOGGED / 1e3 * COPIES[log] * GB_MONTH / 4,
            STORED / 1e3 * GB_MONTH * KEPT,
        )
        print(f"| {log} | " + " | ".join(f"{cost:.2f}" for cost in (*costs, sum(costs))) + " |")


if __name__ == "__main__":
    main()
